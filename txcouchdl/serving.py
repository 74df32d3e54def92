"""The gateway of one process: its answers, its clients' connections, and its own to CouchDB."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import evolve
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.logger import Logger

from txcouchdl.couch.cluster import Cluster
from txcouchdl.couch.nodes import Node
from txcouchdl.couch.readiness import Readiness
from txcouchdl.couch.wire.line import IDLE_CONNECTIONS, Lines
from txcouchdl.descriptors import make_room
from txcouchdl.gateway.access_file import AccessFile
from txcouchdl.gateway.app import Gateway
from txcouchdl.gateway.connections import Connections, most_leaving
from txcouchdl.gateway.guess_table import GuessTable
from txcouchdl.gateway.guesses import RateLimiter
from txcouchdl.gateway.links import LinkRule
from txcouchdl.gateway.rotation import Rotation
from txcouchdl.gateway.site import GatewaySite
from txcouchdl.gateway.up import Entrance, Up
from txcouchdl.link_secret import read_link_secret
from txcouchdl.listening import close
from txcouchdl.metrics.counts import Counts
from txcouchdl.settings import Settings, StartError

#: Descriptors of an exchange with a node: a socket, and the ends of a pipe.
_AN_EXCHANGE: Final = 3
_MEGABYTE: Final = 10**6

#: Of a process' connections, one in so many may wait for its token to be compared.
_WAITING_SHARE: Final = 4

_log = Logger()


def rate_limiter(
    settings: Settings, clock: IReactorTime, counts: Counts, table: GuessTable | None = None
) -> RateLimiter:
    """
    Return the rate limiter of one process.

    :param settings: of this process.
    :param table: where several processes count together.
    """
    max_waiting = -(-settings.clients.max_connections // _WAITING_SHARE)
    return RateLimiter(settings.guess_limit, clock, table, counts, max_waiting)


class Serving:
    """
    :param settings: of them, what a gateway answers with, and within which limits.
    :param nodes: the CouchDB in front of which it stands.
    :param counts: is told what may be counted.
    :param tell: is told how many connections clients have, whenever that changes.
    :ivar ports: where it listens; to be filled by whoever listens.
    """

    def __init__(
        self,
        settings: Settings,
        nodes: Sequence[Node],
        reactor: Any,
        limiter: RateLimiter,
        counts: Counts,
        tell: Callable[[int], object] = lambda _count: None,
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._lines = Lines(reactor)
        self._counts = counts
        self._tell = tell
        self._cluster = Cluster.of(tuple(nodes), self._lines, reactor, settings.upstream, counts, settings.rule.kept)
        self._readiness = Readiness(self._cluster.clients, reactor)
        self._connections = Connections(settings.clients, reactor, self._tell_connections, settings.proxies)
        self._is_hurried = False
        self._access = _access_file(settings, reactor)
        self._gateway = Gateway(
            self._cluster,
            settings.rule,
            reactor,
            limiter=limiter,
            proxies=settings.proxies,
            origins=settings.origins,
            presentation=settings.presentation,
            databases=settings.databases,
            asks_password=settings.asks_password,
            links=LinkRule(settings.link_secret, settings.link_grace),
            most_waiting=settings.clients.most_waiting,
        )
        self._resource = Entrance(self._gateway.app.resource(), Up(self._readiness).app.resource())
        self.ports: list[IListeningPort] = []

    def site(self) -> GatewaySite:
        """What answers on one port."""
        write_line = None if self._access is None else self._access.write_line
        return GatewaySite(
            self._resource,
            self._reactor,
            self._connections,
            write_line,
            self._counts,
            self._settings.access_log_format,
            self._settings.origins,
        )

    def _tell_connections(self, count: int) -> None:
        self._counts.connections(count)
        self._tell(count)

    def start(self) -> None:
        """
        Open the access log, if it is a file. What has not been started opens it with its first line, and loses lines
        until it can.

        :raises StartError: if it cannot be written.
        """
        if self._access is not None:
            _open(self._access)

    def refuse(self, names: frozenset[str]) -> None:
        """See :meth:`.Readiness.refuse`."""
        self._readiness.refuse(names)

    def reload(self, link_secret: bytes | None) -> None:
        """
        Reopen the access log, if it is a file.

        :param link_secret: that counts from now on.
        """
        if self._access is not None:
            self._access.reopen()
        self._gateway.use_links(LinkRule(link_secret, self._settings.link_grace))

    def hurry(self) -> None:
        """Break off what is under way: now, or when this is to stop."""
        self._is_hurried = True
        self._connections.abort()

    async def stop(self) -> None:
        """
        Listen no longer, and let what is under way go on for some seconds; then let go of the connections to CouchDB.
        """
        await close(self.ports)
        await self._connections.drain(0 if self._is_hurried else self._settings.drain)
        if self._access is not None:
            self._access.close()
        self._readiness.stop()
        self._cluster.stop()
        await self._lines.close()


def check_access_log(settings: Settings, clock: IReactorTime) -> None:
    """
    See whether those who write it will be able to.

    :raises StartError: if the access log is a file that cannot be written.
    """
    if settings.access_log is not None:
        file = AccessFile(settings.access_log, clock)
        _open(file)
        file.close()


def reread_link_secret(settings: Settings, former: bytes | None) -> bytes | None:
    """
    Read the link secret's file again, if there is one.

    :param former: the secret in use, which stays if the file is not in order.
    """
    if settings.link_secret_file is None:
        return former
    try:
        return read_link_secret(settings.link_secret_file)
    except ValueError as error:
        _log.error("the former link secret stays in use: {why}", why=error)
        return former


def _access_file(settings: Settings, clock: IReactorTime) -> AccessFile | None:
    if settings.access_log is None:
        return None
    size = settings.access_log_max_size * _MEGABYTE
    rotation = Rotation(size, settings.access_log_keep) if size else None
    return AccessFile(settings.access_log, clock, rotation=rotation)


def _open(file: AccessFile) -> None:
    try:
        file.open()
    except OSError as error:
        raise StartError(f"cannot write the access log {file.path!r}: {error.strerror}") from None


def fitted(settings: Settings, others: int = 0) -> Settings:
    """
    Room for as many connections as there may be; or as many as there is room for. CouchDB comes first: without it all
    are worth nothing.

    :param settings: of one process.
    :param others: descriptors that it needs besides.
    :return: the same, with no more connections than there is room for.
    :raises StartError: if there is room for none.
    """
    limits, nodes = settings.clients, max(len(settings.nodes), 1)
    others += _AN_EXCHANGE * settings.upstream.max_upstream * nodes + IDLE_CONNECTIONS * nodes
    wanted = limits.max_connections + most_leaving(limits.max_connections)
    room = make_room(wanted, others)
    if room == wanted:
        return settings
    places = room - most_leaving(room)
    if places < 1:
        raise StartError("too few file descriptors (ulimit -n) for --max-upstream and --max-connections")
    _log.warn("there are file descriptors for {places} connections only (see ulimit -n)", places=places)
    return evolve(settings, clients=evolve(limits, max_connections=places))
