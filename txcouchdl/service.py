"""
From settings to the running Twisted service.

Everything listens in ``privilegedStartService``, before twistd gives up root's rights, and the access log's file is
opened behind that: it has to be opened anew, too. Whatever is in the way of either ends the process with one line.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol, TextIO, cast

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

from txcouchdl.couch.client import CouchClient
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.logins import Logins
from txcouchdl.couch.nodes import Node
from txcouchdl.couch.session import described_user
from txcouchdl.couch.wire.line import Lines
from txcouchdl.embedded import Demo, EmbeddedStore
from txcouchdl.exposed_files import exposed_files
from txcouchdl.listening import Listening, key_files, listen
from txcouchdl.log_files import reopen_log_files
from txcouchdl.metrics.admin import Admin, descriptors
from txcouchdl.metrics.counts import Counts
from txcouchdl.metrics.layout import Layout
from txcouchdl.metrics.table import Table
from txcouchdl.options import Options
from txcouchdl.options.idle_limits import idle_limits
from txcouchdl.serving import Serving, fitted, rate_limiter, reread_link_secret
from txcouchdl.settings import Settings, StartError
from txcouchdl.signals import heed_reload, heed_signals
from txcouchdl.workers.crew import Crew
from txcouchdl.workers.shares import worker_count

__all__ = ["Options", "makeService"]

#: Seconds for connections to CouchDB; what is asked has limits of its own.
_SESSION_TIMEOUT: Final = UpstreamLimits().stall_timeout

_log = Logger()


def makeService(options: Options) -> IService:
    """What twistd asks of a plugin."""
    from twisted.internet import reactor

    service = GatewayService(options.settings, reactor, _show)
    # At once: a signal that comes during the start would end the process.
    heed_reload(reactor, service.reload)
    # Behind the reactor's own handlers, and only where it is this service that the reactor is started for.
    cast(Any, reactor).addSystemEventTrigger("after", "startup", heed_signals, reactor, service.hurry)
    return cast(IService, service)


class Front(Protocol):
    """
    What stands between the clients and CouchDB: this process, or several others.

    :ivar table: of what happens there. Once it listens.
    """

    table: Table

    def listen(self, nodes: Sequence[Node]) -> list[Listening]:
        """
        :param nodes: the CouchDB to stand in front of.
        :return: its endpoints, at least one.
        :raises StartError: if it cannot listen, or has no room.
        """

    def start(self) -> None:
        """
        Begin to answer, if that is not so yet. Root's rights are gone.

        :raises StartError: if the access log cannot be written.
        """

    def refuse(self, names: frozenset[str]) -> None:
        """
        Count some nodes as not up.

        :param names: of the nodes that refuse the gateway's user.
        """

    def reload(self) -> None:
        """
        Reopen the access log, and read certificates and secret files again. What is not in order stays as it was, and
        the log has an error.
        """

    def hurry(self) -> None:
        """Break off what is under way: now, or when this is to stop."""

    async def stop(self) -> None:
        """Listen no longer, and let what is under way go on for some seconds."""


class GatewayService(Service):
    """
    The gateway, and the embedded store with it where there is one.

    :param show: takes the lines that the demo prints.
    """

    def __init__(self, settings: Settings, reactor: Any, show: Callable[[str], object]) -> None:
        self.setName("couchdl")
        self._settings = settings
        self._reactor = reactor
        self._store = None if settings.store is None else EmbeddedStore(settings.store, reactor)
        self._demo = Demo(settings.rule, reactor, show) if settings.is_demo else None
        count = worker_count(settings.workers)
        self._lines = Lines(reactor)
        self._logins: Logins | None = None
        self._admin = Admin(settings.admin_listen, reactor) if settings.admin_listen else None
        self._front: Front = Alone(settings, reactor) if count == 1 else Crew(settings, count, reactor)

    def privilegedStartService(self) -> None:
        """
        :raises StartError: if one of its endpoints cannot listen, or the store not be opened.
        """
        super().privilegedStartService()
        with _told():
            self._listen()

    def _listen(self) -> None:
        nodes = self._settings.nodes if self._store is None else (self._store.start(),)
        listening = self._front.listen(nodes)
        _log.info("the gateway answers at {places}", places=_joined(each.place for each in listening))
        if self._admin is not None:
            places = _joined(each.place for each in self._admin.listen(nodes, self._front.table))
            _log.info("metrics and probes for operators are at {places}", places=places)
        if self._store is None:
            _log.info("CouchDB nodes: {nodes}", nodes=_joined(map(str, nodes)))
            _log.info("CouchDB is asked as {users}", users=_joined(described_user(node.user) for node in nodes))
            clients = [CouchClient(node, self._lines, self._reactor, _SESSION_TIMEOUT) for node in nodes]
            self._logins = Logins(clients, self._reactor, self._refuse)
        exposed = exposed_files((*self._settings.secret_files, *key_files(self._settings.endpoints)))
        for sentence in (*idle_limits(self._settings), *exposed):
            _log.warn("{sentence}", sentence=sentence)
        if self._demo is not None:
            self._reactor.callWhenRunning(self._demo.begin, nodes[0], listening[0].url or "")

    def _refuse(self, names: frozenset[str]) -> None:
        self._front.refuse(names)
        if self._admin is not None:
            self._admin.refuse(names)

    def startService(self) -> None:
        """
        :raises StartError: if the access log cannot be written.
        """
        super().startService()
        with _told():
            self._front.start()
        if self._logins is not None:
            self._reactor.callWhenRunning(self._logins.ask)

    def stopService(self) -> "Deferred[None]":
        """
        Stop listening, and let what is under way go on for some seconds; then let go of the connections to CouchDB,
        and of the store, which has to serve until then.
        """
        return Deferred.fromCoroutine(self._stop())

    def reload(self) -> None:
        """
        Reopen all logs, and read certificates and secret files again. What is not in order stays as it was, and the
        log has an error.
        """
        reopen_log_files()
        self._front.reload()
        for each in (self._admin, self._store):
            if each is not None:
                each.reload()
        if self._logins is not None:
            self._logins.ask()
        _log.info("SIGHUP: logs are reopened, certificates and secret files have been read again")

    def hurry(self) -> None:
        """Break off what is under way: now, or when the service is told to stop."""
        self._front.hurry()

    async def _stop(self) -> None:
        await maybeDeferred(super().stopService)
        if self._demo is not None:
            self._demo.stop()
        if self._logins is not None:
            self._logins.stop()
        if self._admin is not None:
            await self._admin.wind_down()
        await self._front.stop()
        await self._lines.close()
        if self._admin is not None:
            await self._admin.stop()
        if self._store is not None:
            await self._store.stop()


class Alone:
    """The gateway in this process: see :class:`Front`."""

    table: Table

    def __init__(self, settings: Settings, reactor: Any) -> None:
        self._settings = settings
        self._reactor = reactor
        self._serving: Serving | None = None
        self._listening: list[Listening] = []
        self._link_secret = settings.link_secret

    def listen(self, nodes: Sequence[Node]) -> list[Listening]:
        # To a connection to the embedded store belong its other end, and a file.
        others = 0 if self._settings.store is None else 2 * self._settings.upstream.max_upstream
        others += descriptors(len(nodes)) if self._settings.admin_listen else 0
        others += len(nodes)
        settings = fitted(self._settings, others)
        self.table = Table.own(Layout([node.base for node in nodes]))
        counts = Counts(self.table)
        limiter = rate_limiter(settings, self._reactor, counts)
        self._serving = serving = Serving(settings, nodes, self._reactor, limiter, counts)
        sites = [serving.site() for _ in settings.listen]
        self._listening = [
            listen(self._reactor, description, site, serving.ports, settings.alternative)
            for description, site in zip(settings.listen, sites, strict=True)
        ]
        counts.answers()
        return self._listening

    def start(self) -> None:
        if self._serving is not None:
            self._serving.start()

    def refuse(self, names: frozenset[str]) -> None:
        if self._serving is not None:
            self._serving.refuse(names)

    def reload(self) -> None:
        for each in self._listening:
            each.reload()
        self._link_secret = reread_link_secret(self._settings, self._link_secret)
        if self._serving is not None:
            self._serving.reload(self._link_secret)

    def hurry(self) -> None:
        if self._serving is not None:
            self._serving.hurry()

    async def stop(self) -> None:
        if self._serving is not None:
            await self._serving.stop()


def _joined(names: Iterable[str]) -> str:
    """Each name once."""
    return ", ".join(dict.fromkeys(names))


@contextmanager
def _told() -> Iterator[None]:
    """A StartError is told where somebody reads it."""
    try:
        yield
    except StartError as error:
        terminal = sys.__stderr__
        if terminal is None or _leads_nowhere(terminal):
            _log.critical("{error}", error=error)
        else:
            error.tell(terminal)
        raise


def _leads_nowhere(terminal: TextIO) -> bool:
    """Whether nobody reads it: a daemon's standard error is the null device."""
    try:
        return os.path.samestat(os.fstat(terminal.fileno()), os.stat(os.devnull))
    except (OSError, ValueError):
        return False


def _show(text: str) -> None:
    """For the eyes of whoever started the demo, and past the log, since it shows a token."""
    if sys.__stdout__ is not None:
        sys.__stdout__.write(f"{text}\n")
        sys.__stdout__.flush()
