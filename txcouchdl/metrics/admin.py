"""
What is told to operators, at endpoints of their own: ``/_metrics``, ``/_up``, and ``/_up?ready`` with what each node
says. Nothing else, and nothing that changes anything.

It is the gateway's own HTTP server, with narrower limits, and apart from it: its requests are neither counted nor in
the access log, and its connections take nobody's place.
"""

from collections.abc import Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IReactorTime

from txcouchdl.couch.client import CouchClient
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.names import split_target
from txcouchdl.couch.nodes import Node
from txcouchdl.couch.readiness import Readiness
from txcouchdl.couch.wire.line import IDLE_CONNECTIONS, Lines
from txcouchdl.gateway.connections import Connections, most_leaving
from txcouchdl.gateway.delivery import answer
from txcouchdl.gateway.errors import ErrorAnswer
from txcouchdl.gateway.limits import ClientLimits
from txcouchdl.gateway.plan import DeliveryPlan, plan_error
from txcouchdl.gateway.request import GatewayRequest
from txcouchdl.gateway.routing import RootedKlein
from txcouchdl.gateway.site import GatewaySite
from txcouchdl.gateway.up import OK, UNAVAILABLE, plan_state, plan_text, wants_readiness
from txcouchdl.listening import Listening, close, listen
from txcouchdl.metrics.exposition import Exposition
from txcouchdl.metrics.table import Table

#: Scrapers are few, read at once, and come again. One that keeps its connection comes within five minutes.
_LIMITS: Final = ClientLimits(
    max_connections=32, max_connections_per_address=32, header_timeout=10.0, idle_timeout=300.0, client_timeout=10.0
)

_NOT_ALLOWED: Final = ErrorAnswer(
    405, "method_not_allowed", "Only GET and HEAD are allowed.", (("Allow", "GET, HEAD"),)
)
_NOTHING: Final = ErrorAnswer(404, "not_found", "Here are /_metrics, /_up and /_up?ready, and nothing else.")


class AdminApp:
    """
    The Klein app.

    :ivar is_stopping: whether the service is: then it is not ready, whatever CouchDB says.
    """

    app = RootedKlein()

    def __init__(self, table: Table, readiness: Readiness, clock: IReactorTime) -> None:
        self._table = table
        self._clock = clock
        self._exposition = Exposition(table, clock)
        self._readiness = readiness
        self.is_stopping = False

    @app.route("/", branch=True)
    def root(self, request: GatewayRequest) -> "Deferred[None]":
        return Deferred.fromCoroutine(self._answer(request))

    async def _answer(self, request: GatewayRequest) -> None:
        answer(await self._plan(request), request)

    async def _plan(self, request: GatewayRequest) -> DeliveryPlan:
        if request.method not in {b"GET", b"HEAD"}:
            return plan_error(_NOT_ALLOWED)
        path, query = split_target(request.uri)
        if path == b"/_metrics":
            return plan_text(200, self._exposition.content_type, self._exposition.text())
        if path != b"/_up":
            return plan_error(_NOTHING)
        return await self._ready() if wants_readiness(query) else self._live()

    def _live(self) -> DeliveryPlan:
        """Workers that have died are replaced; that all of them hang is for somebody else to end."""
        workers, moving = self._workers()
        is_ok = moving > 0 or not workers
        return plan_state(is_ok, OK if is_ok else UNAVAILABLE)

    def _workers(self) -> tuple[int, int]:
        """How many there are, and how many of them do not hang."""
        workers = self._table.sums()[self._table.layout.workers]
        return workers, workers - self._table.hung(self._clock.seconds())

    async def _ready(self) -> DeliveryPlan:
        states = await self._readiness.ask()
        # Others may be so already while these are asked.
        _, workers = self._workers()
        if self.is_stopping:
            is_ok, state = False, "stopping"
        else:
            is_ok = workers > 0 and any(states.values())
            state = OK if is_ok else UNAVAILABLE
        refusing = self._readiness.refusing
        nodes = {name: "up" if is_up else "refused" if name in refusing else "down" for name, is_up in states.items()}
        return plan_state(is_ok, state, workers=workers, nodes=nodes)


class AdminSite(GatewaySite):
    """Its name is in the log where it listens."""


class Admin:
    """
    The app, where it listens.

    :param endpoints: at least one.
    """

    def __init__(self, endpoints: Sequence[str], reactor: Any) -> None:
        self._endpoints = endpoints
        self._reactor = reactor
        self._lines = Lines(reactor)
        self._connections = Connections(_LIMITS, reactor)
        self._readiness: Readiness | None = None
        self._app: AdminApp | None = None
        self._ports: list[IListeningPort] = []
        self._listening: list[Listening] = []

    def listen(self, nodes: Sequence[Node], table: Table) -> list[Listening]:
        """
        :return: the endpoints.
        :raises StartError: if that cannot be.
        """
        timeout = UpstreamLimits().stall_timeout
        clients = [CouchClient(node, self._lines, self._reactor, timeout) for node in nodes]
        self._readiness = Readiness(clients, self._reactor)
        self._app = AdminApp(table, self._readiness, self._reactor)
        resource = self._app.app.resource()
        for endpoint in self._endpoints:
            site = AdminSite(resource, self._reactor, self._connections, _write_nothing)
            self._listening.append(listen(self._reactor, endpoint, site, self._ports))
        return self._listening

    def refuse(self, names: frozenset[str]) -> None:
        """See :meth:`.Readiness.refuse`."""
        if self._readiness is not None:
            self._readiness.refuse(names)

    def reload(self) -> None:
        """Read the files of its certificates again, if it has any."""
        for each in self._listening:
            each.reload()

    async def wind_down(self) -> None:
        """
        The service is to stop. The ports are free for the next one from now on, as the gateway's are; who is connected
        may watch it end, and is told that it is not ready.
        """
        if self._app is not None:
            self._app.is_stopping = True
        await close(self._ports)

    async def stop(self) -> None:
        """The service has stopped."""
        if self._readiness is not None:
            self._readiness.stop()
        await self._connections.drain(0)
        await self._lines.close()


def descriptors(nodes: int) -> int:
    """How many file descriptors it takes at most."""
    return _LIMITS.max_connections + most_leaving(_LIMITS.max_connections) + (1 + IDLE_CONNECTIONS) * nodes


def _write_nothing(line: str) -> None:
    """Probes and scrapes come by the thousands, and say nothing."""
