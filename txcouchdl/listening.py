"""
Listening, at once or not at all: whatever is in the way of that is one line, before twistd gives up root's rights.
"""

import errno
import os
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from attrs import frozen
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.tcp import Port
from twisted.logger import Logger
from twisted.python.failure import Failure

from txcouchdl.settings import StartError
from txcouchdl.tls import FileCertificates, private_key_files, secured_endpoint

#: Connections that may wait to be accepted, where the endpoint does not say. Twisted's default of 50 is filled by one
#: crowd of clients, whose connections then take seconds to come about. The system may allow fewer.
BACKLOG: Final = 1024
_STATES_BACKLOG: Final = re.compile("(?:^|:)backlog=")

_log = Logger()


@frozen
class Listening:
    """
    An endpoint that listens.

    :ivar description: as ``--listen`` has it.
    :ivar certificates: what its clients are shown; ``None`` if it does not speak TLS.
    """

    description: str
    certificates: FileCertificates | None
    port: IListeningPort

    @property
    def is_secure(self) -> bool:
        """Whether it speaks TLS."""
        return self.certificates is not None

    @property
    def url(self) -> str | None:
        """Where it answers, for somebody on this machine; ``None`` if it is no TCP port."""
        address = self.port.getHost()
        if not isinstance(address, IPv4Address | IPv6Address):
            return None
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (taken apart, not bound)
        host = everywhere.get(address.host, address.host)
        return f"http{'s' * self.is_secure}://{f'[{host}]' if ':' in host else host}:{address.port}"

    @property
    def place(self) -> str:
        """Where it answers, for people: its URL, or what describes it."""
        return self.url or self.description

    def reload(self) -> None:
        """Read the files of the certificates again. If they are not in order, the former ones stay in use."""
        if self.certificates is None:
            return
        try:
            self.certificates.reload()
        except Exception as error:
            sentence = "{endpoint!r} goes on with its former certificates, the files are not in order: {why}"
            _log.error(sentence, endpoint=self.description, why=_in_words(error))


def listen(
    reactor: Any,
    description: str,
    factory: IProtocolFactory,
    ports: list[IListeningPort],
    alternative: str | None = None,
) -> Listening:
    """
    Listen, or end: an endpoint that is not ready at once would be too late for an error.

    :param ports: gets the port, also where it is of no use.
    :param alternative: an endpoint to listen on instead, if another process has the port of the first.
    :raises StartError: if that cannot be.
    """
    try:
        return _listen(reactor, description, factory, ports)
    except _PortTaken as error:
        if alternative is None:
            raise StartError(str(error)) from None
        _log.warn("{error}; listening on a free port instead", error=error)
    return listen(reactor, alternative, factory, ports)


class _PortTaken(Exception):
    """Another process listens on this port."""


def _listen(reactor: Any, description: str, factory: IProtocolFactory, ports: list[IListeningPort]) -> Listening:
    with _told_as_endpoint(description):
        endpoint, certificates = _endpoint(reactor, description)
        listening = endpoint.listen(factory)
    found: list[IListeningPort] = []
    failures: list[Failure] = []
    listening.addCallbacks(found.append, failures.append)
    if not found:
        why = failures[0].getErrorMessage() if failures else "it takes too long"
        sentence = f"cannot listen on {description!r}: {why}"
        raise _PortTaken(sentence) if failures and _is_taken(failures[0].value) else StartError(sentence)
    ports += found
    if not _is_told_its_family(found[0]):
        raise StartError(f"{description!r} is no endpoint: the socket is of another domain")
    _lengthen_queue(found[0], description)
    return Listening(description, certificates, found[0])


def _endpoint(reactor: Any, description: str) -> tuple[Any, FileCertificates | None]:
    return secured_endpoint(reactor, description) or (serverFromString(reactor, description), None)


def _is_taken(error: BaseException | None) -> bool:
    return isinstance(error, CannotListenError) and getattr(error.socketError, "errno", None) == errno.EADDRINUSE


def key_files(descriptions: Iterable[str]) -> Iterator[str]:
    """The files with the private keys of some endpoints, as far as these are in order."""
    for each in descriptions:
        with suppress(Exception):
            yield from private_key_files(each)


def check_endpoint(description: str) -> None:
    """
    See whether it is an endpoint, as far as that can be seen without listening. What systemd passes it passes to the
    service alone.

    :raises StartError: if it is none.
    """
    if not description.startswith("systemd:"):
        with _told_as_endpoint(description):
            _endpoint(None, description)


@contextmanager
def _told_as_endpoint(description: str) -> Iterator[None]:
    """Whatever Twisted makes of a description that it does not like is one line."""
    try:
        yield
    except Exception as error:
        # All that Twisted says is "list index out of range", or the name that was looked for.
        is_missing = description.startswith("systemd:") and isinstance(error, LookupError)
        why = "systemd has passed no such socket" if is_missing else _in_words(error)
        raise StartError(f"{description!r} is no endpoint: {why}") from None


def _in_words(error: Exception) -> str:
    """What an error says; OpenSSL's are a list of what it found on its way, and may say nothing."""
    return str(error) or type(error).__name__


async def close(ports: list[IListeningPort]) -> None:
    """Listen no longer. What goes wrong with that, such as a Unix socket that somebody has removed, is in the log."""
    for port in ports:
        try:
            await maybeDeferred(port.stopListening)
        except Exception:
            _log.failure("{port} could not be closed", port=port)


def _lengthen_queue(port: IListeningPort, description: str) -> None:
    """
    Let :data:`BACKLOG` connections wait at a port, unless the endpoint states a number. For a socket of systemd's, its
    unit does.
    """
    if isinstance(port, Port) and not description.startswith("systemd:") and not _STATES_BACKLOG.search(description):
        # For a socket that listens already, this changes the number alone.
        port.socket.listen(BACKLOG)


def _is_told_its_family(port: IListeningPort) -> bool:
    """
    Whether a port takes its socket for what it is. One from systemd is taken for what the endpoint says: where that is
    wrong, addresses of clients are what happens to lie in memory, and nobody's guesses are counted.
    """
    if not isinstance(port, Port):
        return True
    with socket.socket(fileno=os.dup(port.fileno())) as same:
        return same.family == port.socket.family
