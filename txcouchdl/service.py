"""
From settings to the running Twisted service. The one place that knows the global reactor.

Everything listens in ``privilegedStartService``, before twistd gives up root's rights, and whatever is in the way of
that ends the process with one line.
"""

import os
import socket
import sys
from collections.abc import Callable
from typing import Any, TextIO, cast

from attrs import evolve
from twisted.application.service import IService, Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.tcp import Port
from twisted.logger import Logger
from twisted.python.failure import Failure

from txcouchdl import demo
from txcouchdl.couch.cluster import Cluster
from txcouchdl.couch.connections import IDLE_CONNECTIONS, NetworkAgents
from txcouchdl.couch.nodes import Node
from txcouchdl.descriptors import make_room
from txcouchdl.gateway.app import Gateway
from txcouchdl.gateway.connections import Connections, most_leaving
from txcouchdl.gateway.guesses import Guesses
from txcouchdl.gateway.site import GatewaySite
from txcouchdl.options import Options, Settings, StartError, StoreSettings
from txcouchdl.signals import heed_signals
from txcouchdl.store.admin import admin_of
from txcouchdl.store.app import store_site
from txcouchdl.store.errors import StoreError
from txcouchdl.store.store import Store
from txcouchdl.store.web import StoreSite

__all__ = ["Options", "makeService"]

_log = Logger()


def makeService(options: Options) -> IService:
    """What twistd asks of a plugin."""
    from twisted.internet import reactor

    service = GatewayService(options.settings, reactor, _show)
    # Behind the reactor's own handlers, and only where it is this service that the reactor is started for.
    cast(Any, reactor).addSystemEventTrigger("after", "startup", heed_signals, reactor, service.hurry)
    return cast(IService, service)


class GatewayService(Service):
    """
    The gateway, and the embedded store with it where there is one.

    :param show: takes the lines that the demo prints.
    """

    def __init__(self, settings: Settings, reactor: Any, show: Callable[[str], object]) -> None:
        self.setName("couchdl")
        self._settings = settings
        self._reactor = reactor
        self._show = show
        self._agents = NetworkAgents(reactor)
        self._cluster: Cluster | None = None
        self._store: Store | None = None
        self._store_site: StoreSite | None = None
        self._connections = Connections(settings.clients, reactor)
        self._ports: list[IListeningPort] = []
        self._store_ports: list[IListeningPort] = []
        self._filling: Deferred[None] = succeed(None)
        self._is_hurried = False

    def privilegedStartService(self) -> None:
        """
        :raises StartError: if the gateway or the store cannot listen, or the store not be opened.
        """
        super().privilegedStartService()
        try:
            self._make_room()
            self._start()
        except StartError as error:
            terminal = sys.__stderr__
            if terminal is None or _leads_nowhere(terminal):
                _log.critical("{error}", error=error)
            else:
                error.tell(terminal)
            raise

    def _make_room(self) -> None:
        """
        For as many connections as there may be; or let there be as many as there is room for. CouchDB comes first:
        without it all are worth nothing.
        """
        limits, upstream = self._settings.clients, self._settings.upstream
        # To a connection to the embedded store belong its other end, and a file.
        exchanges = upstream.max_upstream * (3 if self._settings.store else len(self._settings.nodes))
        idle = IDLE_CONNECTIONS * max(len(self._settings.nodes), 2)
        wanted = limits.max_connections + most_leaving(limits.max_connections)
        room = make_room(wanted, exchanges + idle)
        if room == wanted:
            return
        places = room - most_leaving(room)
        if places < 1:
            raise StartError("too few file descriptors (ulimit -n) for --max-upstream and --max-connections")
        _log.warn("there are file descriptors for {places} connections only (see ulimit -n)", places=places)
        self._connections = Connections(evolve(limits, max_connections=places), self._reactor)

    def _start(self) -> None:
        settings = self._settings
        nodes = settings.nodes if settings.store is None else (self._start_store(settings.store),)
        self._cluster = Cluster.of(nodes, self._agents, self._reactor, settings.upstream)
        guesses = Guesses(settings.guess_limit, self._reactor)
        gateway = Gateway(
            self._cluster,
            settings.rule,
            self._reactor,
            guesses=guesses,
            proxies=settings.proxies,
            origins=settings.origins,
            presentation=settings.presentation,
        )
        resource = gateway.app.resource()
        sites = [GatewaySite(resource, self._reactor, self._connections) for _ in settings.listen]
        urls = [self._listen(*each, self._ports) for each in zip(settings.listen, sites, strict=True)]
        if settings.is_demo:
            self._reactor.callWhenRunning(self._begin_demo, nodes[0], urls[0] or "")

    def _start_store(self, settings: StoreSettings) -> Node:
        try:
            self._store = Store.open(settings.directory, self._reactor)
            admin = admin_of(settings.directory)
        except StoreError as error:
            raise StartError(str(error)) from None
        self._store_site = store_site(self._store, admin, self._reactor)
        url = self._listen(settings.listen, self._store_site, self._store_ports)
        if url is None:
            raise StartError("the embedded store listens on TCP only: choose another --store-listen")
        _log.info(
            "the embedded store answers at {url}, its admin stands in {file}",
            url=url,
            file=settings.directory / "admin",
        )
        return Node.of(url, admin.name, admin.password)

    def _listen(self, description: str, factory: IProtocolFactory, ports: list[IListeningPort]) -> str | None:
        """
        Listen, or end: an endpoint that is not ready at once would be too late for an error.

        :param ports: gets the port.
        :return: where, as :func:`_url` has it.
        """
        try:
            listening = serverFromString(self._reactor, description).listen(factory)
        except Exception as error:
            # All that Twisted says is "list index out of range", or the name that was looked for.
            is_missing = description.startswith("systemd:") and isinstance(error, LookupError)
            why = "systemd has passed no such socket" if is_missing else error
            raise StartError(f"{description!r} is no endpoint: {why}") from None
        found: list[IListeningPort] = []
        failures: list[Failure] = []
        listening.addCallbacks(found.append, failures.append)
        if not found:
            why = failures[0].getErrorMessage() if failures else "it takes too long"
            raise StartError(f"cannot listen on {description!r}: {why}")
        ports += found
        if not _is_told_its_family(found[0]):
            raise StartError(f"{description!r} is no endpoint: the socket is of another domain")
        return _url(found[0], description)

    def _begin_demo(self, node: Node, gateway: str) -> None:
        self._filling = Deferred.fromCoroutine(self._fill_demo(node, gateway))
        self._filling.addErrback(self._tell_of_filling)

    def _tell_of_filling(self, failure: Failure) -> None:
        # Where it was cancelled, Twisted may say anything.
        if self.running:
            _log.failure("the demo could not be filled", failure)

    async def _fill_demo(self, node: Node, gateway: str) -> None:
        await demo.fill(node, self._settings.rule, self._agents.persistent)
        page, *others = demo.links(gateway)
        lines = "".join(f"\n    {link}" for link in others)
        self._show(f"\nThe demo is ready. Open this page in a browser:\n\n    {page}\n\nor, with curl:\n{lines}\n")

    def stopService(self) -> "Deferred[None]":
        """
        Stop listening, and let what is under way go on for some seconds; then let go of the connections to CouchDB,
        and of the store, which has to serve until then.
        """
        return Deferred.fromCoroutine(self._stop())

    def hurry(self) -> None:
        """Break off what is under way: now, or when the service is told to stop."""
        self._is_hurried = True
        self._connections.abort()

    async def _stop(self) -> None:
        await maybeDeferred(super().stopService)
        self._filling.cancel()
        await _close(self._ports)
        await self._connections.drain(0 if self._is_hurried else self._settings.drain)
        await _close(self._store_ports)
        if self._store_site is not None:
            await self._store_site.break_off()
        if self._cluster is not None:
            self._cluster.stop()
        await self._agents.close()
        if self._store is not None:
            self._store.close()


async def _close(ports: list[IListeningPort]) -> None:
    for port in ports:
        await maybeDeferred(port.stopListening)


def _leads_nowhere(terminal: TextIO) -> bool:
    """Whether nobody reads it: a daemon's standard error is the null device."""
    try:
        return os.path.samestat(os.fstat(terminal.fileno()), os.stat(os.devnull))
    except (OSError, ValueError):
        return False


def _is_told_its_family(port: IListeningPort) -> bool:
    """
    Whether a port takes its socket for what it is. One from systemd is taken for what the endpoint says: where that is
    wrong, addresses of clients are what happens to lie in memory, and nobody's guesses are counted.
    """
    if not isinstance(port, Port):
        return True
    with socket.socket(fileno=os.dup(port.fileno())) as same:
        return same.family == port.socket.family


def _url(port: IListeningPort, description: str) -> str | None:
    """Where a port answers, for somebody on this machine; ``None`` if it is no TCP port."""
    address = port.getHost()
    if not isinstance(address, IPv4Address | IPv6Address):
        return None
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104 (taken apart, not bound)
    scheme = "https" if description.startswith(("ssl:", "tls:")) else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{address.port}"


def _show(text: str) -> None:
    """For the eyes of whoever started the demo, and past the log, since it shows a token."""
    if sys.__stdout__ is not None:
        sys.__stdout__.write(f"{text}\n")
        sys.__stdout__.flush()
