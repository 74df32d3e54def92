"""
From settings to the running Twisted service. The one place that knows the global reactor.

Everything listens in ``privilegedStartService``, before twistd gives up root's rights, and whatever is in the way of
that ends the process with one line.
"""

import os
import sys
from collections.abc import Callable
from typing import Any, TextIO, cast

from twisted.application.service import IService, Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from txcouchdl import demo
from txcouchdl.couch.client import CouchClient
from txcouchdl.couch.connections import NetworkAgents
from txcouchdl.couch.nodes import Node
from txcouchdl.gateway.app import Gateway
from txcouchdl.gateway.site import GatewaySite
from txcouchdl.options import Options, Settings, StartError, StoreSettings
from txcouchdl.store.admin import admin_of
from txcouchdl.store.app import store_site
from txcouchdl.store.errors import StoreError
from txcouchdl.store.store import Store

__all__ = ["Options", "makeService"]

_log = Logger()


def makeService(options: Options) -> IService:
    """What twistd asks of a plugin."""
    from twisted.internet import reactor

    return cast(IService, GatewayService(options.settings, reactor, _show))


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
        self._store: Store | None = None
        self._sites: list[GatewaySite] = []
        self._ports: list[IListeningPort] = []

    def privilegedStartService(self) -> None:
        """
        :raises StartError: if the gateway or the store cannot listen, or the store not be opened.
        """
        super().privilegedStartService()
        try:
            self._start()
        except StartError as error:
            terminal = sys.__stderr__
            if terminal is None or _leads_nowhere(terminal):
                _log.critical("{error}", error=error)
            else:
                error.tell(terminal)
            raise

    def _start(self) -> None:
        settings = self._settings
        node = settings.node if settings.store is None else self._start_store(settings.store)
        client = CouchClient(cast(Node, node), self._agents, self._reactor)
        resource = Gateway(client, settings.rule, self._reactor).app.resource()
        self._sites = [GatewaySite(resource, self._reactor) for _ in settings.listen]
        urls = [self._listen(*each) for each in zip(settings.listen, self._sites, strict=True)]
        if settings.is_demo:
            self._reactor.callWhenRunning(self._begin_demo, node, urls[0] or "")

    def _start_store(self, settings: StoreSettings) -> Node:
        try:
            self._store = Store.open(settings.directory, self._reactor)
            admin = admin_of(settings.directory)
        except StoreError as error:
            raise StartError(str(error)) from None
        site = store_site(self._store, admin, self._reactor)
        url = self._listen(settings.listen, site)
        if url is None:
            raise StartError("the embedded store listens on TCP only: choose another --store-listen")
        _log.info(
            "the embedded store answers at {url}, its admin stands in {file}",
            url=url,
            file=settings.directory / "admin",
        )
        return Node.of(url, admin.name, admin.password)

    def _listen(self, description: str, factory: IProtocolFactory) -> str | None:
        """
        Listen, or end: an endpoint that is not ready at once would be too late for an error.

        :return: where, as :func:`_url` has it.
        """
        try:
            listening = serverFromString(self._reactor, description).listen(factory)
        except Exception as error:
            raise StartError(f"{description!r} is no endpoint: {error}") from None
        ports: list[IListeningPort] = []
        failures: list[Failure] = []
        listening.addCallbacks(ports.append, failures.append)
        if not ports:
            why = failures[0].getErrorMessage() if failures else "it takes too long"
            raise StartError(f"cannot listen on {description!r}: {why}")
        self._ports += ports
        return _url(ports[0], description)

    def _begin_demo(self, node: Node, gateway: str) -> None:
        filling = Deferred.fromCoroutine(self._fill_demo(node, gateway))
        filling.addErrback(lambda failure: _log.failure("the demo could not be filled", failure))

    async def _fill_demo(self, node: Node, gateway: str) -> None:
        await demo.fill(node, self._settings.rule, self._agents.persistent)
        lines = "".join(f"\n    {link}" for _, link in demo.links(gateway))
        self._show(f"\nThe demo is ready. Open these in a browser, or with curl:\n{lines}\n")

    def stopService(self) -> "Deferred[None]":
        """Stop listening, break off what is under way, then let go of the connections to CouchDB and of the store."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await maybeDeferred(super().stopService)
        for port in self._ports:
            await maybeDeferred(port.stopListening)
        for site in self._sites:
            await site.abort()
        await self._agents.close()
        if self._store is not None:
            self._store.close()


def _leads_nowhere(terminal: TextIO) -> bool:
    """Whether nobody reads it: a daemon's standard error is the null device."""
    try:
        return os.path.samestat(os.fstat(terminal.fileno()), os.stat(os.devnull))
    except (OSError, ValueError):
        return False


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
