"""The embedded store beside the gateway, and the demo in it."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, _HTTP11ClientFactory

from txcouchdl import demo
from txcouchdl.couch.nodes import Node
from txcouchdl.gateway.tokens import TokenRule
from txcouchdl.listening import Listening, close, listen
from txcouchdl.settings import StartError, StoreSettings
from txcouchdl.store.admin import admin_of
from txcouchdl.store.app import store_site
from txcouchdl.store.errors import StoreError
from txcouchdl.store.store import Store
from txcouchdl.store.web import StoreSite

_log = Logger()


class EmbeddedStore:
    """The store and its port. Of what could not be started, whatever was is ended by :meth:`stop`."""

    def __init__(self, settings: StoreSettings, reactor: Any) -> None:
        self._settings = settings
        self._reactor = reactor
        self._store: Store | None = None
        self._site: StoreSite | None = None
        self._ports: list[IListeningPort] = []
        self._listening: Listening | None = None

    def start(self) -> Node:
        """
        :return: itself, as a gateway sees it.
        :raises StartError: if it cannot listen, or not be opened.
        """
        directory = self._settings.directory
        try:
            self._store = Store.open(directory, self._reactor)
            admin = admin_of(directory)
        except StoreError as error:
            raise StartError(str(error)) from None
        self._site = store_site(self._store, admin, self._reactor)
        settings = self._settings
        self._listening = listen(self._reactor, settings.listen, self._site, self._ports, settings.alternative)
        url = self._listening.url
        if url is None:
            raise StartError("the embedded store listens on TCP only: choose another --store-listen")
        _log.info("the embedded store answers at {url}, its admin stands in {file}", url=url, file=directory / "admin")
        return Node.of(url, admin.name, admin.password)

    def reload(self) -> None:
        """Read the files of its certificates again, if it has any."""
        if self._listening is not None:
            self._listening.reload()

    async def stop(self) -> None:
        await close(self._ports)
        if self._site is not None:
            await self._site.break_off()
        if self._store is not None:
            self._store.close()


class _QuietFactory(_HTTP11ClientFactory):
    noisy = False


class _QuietPool(HTTPConnectionPool):
    """Connections of which the log has nothing: Twisted logs two lines for each, between the links of the demo."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor, persistent=False)  # type: ignore[no-untyped-call]
        self._factory = _QuietFactory


class Demo:
    """
    Fills a store with the demo.

    :param show: takes the lines that the demo prints.
    """

    def __init__(self, rule: TokenRule, reactor: Any, show: Callable[[str], object]) -> None:
        self._rule = rule
        self._agent = Agent(reactor, pool=_QuietPool(reactor))
        self._show = show
        self._filling: Deferred[None] | None = None
        self._is_stopped = False

    def begin(self, node: Node, gateway: str) -> None:
        """
        :param node: the store.
        :param gateway: its URL.
        """
        if not self._is_stopped:
            self._filling = Deferred.fromCoroutine(self._fill(node, gateway))
            self._filling.addErrback(self._tell)

    def _tell(self, failure: Failure) -> None:
        # Where it was cancelled, Twisted may say anything.
        if not self._is_stopped:
            _log.failure("the demo could not be filled", failure)

    async def _fill(self, node: Node, gateway: str) -> None:
        await demo.fill(node, self._rule, self._agent)
        page, *others = demo.links(gateway)
        lines = "".join(f"\n    {link}" for link in others)
        self._show(f"\nThe demo is ready. Open this page in a browser:\n\n    {page}\n\nor, with curl:\n{lines}\n")

    def stop(self) -> None:
        """Fill it no further."""
        self._is_stopped = True
        if self._filling is not None:
            self._filling.cancel()
