"""
Clients that have closed their half of a connection: they send nothing more, and still read (RFC 9112, section 9.6).

A FIN says so, or in TLS a close_notify. Neither says that the client has left: ``nc -N``, tools that speak HTTP/1.0 and
scripts with ``shutdown(SHUT_WR)`` wait for the response. A client that has left altogether sends the same FIN. Its
system answers the next bytes of the response with a reset, or takes none. So a half-closed connection is looked at from
time to time, until it ends:

* Bytes wait for the client, and its system has taken none for as long as the limit says: the connection is cut off.
* The connection has been reset: the reactor may not see it while it neither reads nor writes.
* Nothing waits for the client: it is not the client that is slow, so no time counts.
"""

import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, Final, Protocol

from attrs import frozen
from OpenSSL.SSL import WantReadError, ZeroReturnError
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import alsoProvides

from txcouchdl.gateway.transports import lowest_transport

#: How often a half-closed connection is looked at within the limit.
_LOOKS: Final = 4

# Linux' struct tcp_info, as far as it is needed: tcpi_state, tcpi_unacked, tcpi_bytes_acked, tcpi_notsent_bytes.
_TCP_INFO: Final = struct.Struct("=B23xI92xQ16xI")
_TCP_CLOSE: Final = 7


class HalfClosable(Protocol):
    """A protocol that a half-closed connection is announced to: IHalfCloseableProtocol, as a type."""

    def readConnectionLost(self) -> None: ...

    def writeConnectionLost(self) -> None: ...


def announce(transport: object, protocol: HalfClosable) -> Callable[[], None]:
    """
    Announce a half-closed connection to its protocol, also through TLS and the PROXY protocol.

    Twisted announces a FIN to the protocol next to the socket only, and closes a connection at a close_notify.

    :param transport: of the protocol, which provides IHalfCloseableProtocol; its connection has just been made.
    :return: undoes it, so that no circle of references keeps what has ended.
    """
    if not isinstance(transport, ProtocolWrapper):
        return _nothing
    lowest: Any = lowest_transport(transport)
    outermost = lowest.protocol
    patched: list[tuple[Any, str]] = [(outermost, "readConnectionLost"), (outermost, "writeConnectionLost")]
    outermost.readConnectionLost = protocol.readConnectionLost
    outermost.writeConnectionLost = protocol.writeConnectionLost
    alsoProvides(outermost, IHalfCloseableProtocol)
    for wrapper in _wrappers(transport):
        if isinstance(wrapper, TLSMemoryBIOProtocol):
            connection = wrapper.getHandle()
            connection.recv = _heedful(connection.recv, protocol)
            patched.append((connection, "recv"))

    def undo() -> None:
        for patched_object, name in patched:
            patched_object.__dict__.pop(name, None)

    return undo


def _nothing() -> None:
    """Undo nothing."""


def _wrappers(transport: object) -> list[ProtocolWrapper]:
    wrappers = []
    while isinstance(transport, ProtocolWrapper):
        wrappers.append(transport)
        transport = transport.transport
    return wrappers


def _heedful(receive: Callable[[int], bytes], protocol: HalfClosable) -> Callable[[int], bytes]:
    """Wrap the ``recv`` of an OpenSSL connection: at a close_notify, Twisted would close the connection."""

    def recv(most: int) -> bytes:
        try:
            return receive(most)
        except ZeroReturnError:
            protocol.readConnectionLost()
            raise WantReadError from None

    return recv


@frozen
class Backlog:
    """
    What a connection has sent, and its client has not taken yet.

    :ivar is_reset: whether the connection is gone, and the reactor does not know yet.
    :ivar is_waiting: whether bytes wait for the client.
    :ivar taken: changes whenever the client takes some.
    """

    is_reset: bool
    is_waiting: bool
    taken: int


def backlog_of(transport: object) -> Backlog:
    """
    Measure a connection's backlog. Where the kernel tells nothing of its own buffers, as for Unix sockets, bytes count
    as taken once the kernel has them.
    """
    lowest: Any = lowest_transport(transport)
    unsent = len(lowest.dataBuffer) - getattr(lowest, "offset", 0) + getattr(lowest, "_tempDataLen", 0)
    info = _tcp_info(lowest)
    if info is None:
        return Backlog(False, unsent > 0, -unsent)
    state, unacknowledged, acknowledged, unsent_by_kernel = info
    return Backlog(state == _TCP_CLOSE, bool(unsent or unacknowledged or unsent_by_kernel), acknowledged)


def _tcp_info(transport: Any) -> tuple[int, ...] | None:
    handle = transport.getHandle() if hasattr(transport, "getHandle") else None
    # Other systems have another structure by this name.
    if sys.platform != "linux" or handle is None or handle.family not in {socket.AF_INET, socket.AF_INET6}:
        return None
    info = handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    # An older kernel has a shorter one.
    return _TCP_INFO.unpack(info) if len(info) == _TCP_INFO.size else None


class HalfClosedWatch:
    """
    Looks at a half-closed connection until it ends.

    :param timeout: seconds that the client may take no byte while some wait for it.
    :param cut_off: called once, when it has taken none for so long, or the connection has been reset.
    """

    def __init__(
        self,
        transport: object,
        call_later: Callable[..., IDelayedCall],
        timeout: float,
        cut_off: Callable[[], object],
    ) -> None:
        self._transport = transport
        self._call_later = call_later
        self._interval = timeout / _LOOKS
        self._cut_off = cut_off
        self._taken = backlog_of(transport).taken
        self._idle_looks = 0
        self._next_look: IDelayedCall | None = call_later(self._interval, self._look)

    def _look(self) -> None:
        self._next_look = None
        backlog = backlog_of(self._transport)
        is_stuck = backlog.is_waiting and backlog.taken == self._taken
        self._idle_looks = self._idle_looks + 1 if is_stuck else 0
        self._taken = backlog.taken
        if backlog.is_reset or self._idle_looks >= _LOOKS:
            self._cut_off()
        else:
            self._next_look = self._call_later(self._interval, self._look)

    def end(self) -> None:
        """Look no more. It may be called several times."""
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
