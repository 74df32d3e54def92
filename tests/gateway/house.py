"""The whole gateway in memory: real Site, real Klein app, real treq and Agent, a scripted node, raw clients."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPResponse, IncompleteRead
from typing import Any

from attrs import frozen
from twisted.internet.protocol import Protocol
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from tests.network import End, MemoryLines, Network
from tests.scripted import Doc, ScriptedNode, Stored
from txcouchdl.couch.cluster import Cluster
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.nodes import Node
from txcouchdl.couch.readiness import Readiness
from txcouchdl.gateway.app import Gateway
from txcouchdl.gateway.connections import Connections
from txcouchdl.gateway.cors import AllowedOrigins
from txcouchdl.gateway.databases import AllowedDatabases
from txcouchdl.gateway.description import Presentation
from txcouchdl.gateway.guesses import GUESS_LIMIT, MAX_WAITING, RateLimiter
from txcouchdl.gateway.limits import ClientLimits
from txcouchdl.gateway.links import LinkRule
from txcouchdl.gateway.peers import TrustedProxies
from txcouchdl.gateway.site import GatewaySite
from txcouchdl.gateway.tokens import TokenRule
from txcouchdl.gateway.up import Entrance, Up
from txcouchdl.metrics.counts import Counts
from txcouchdl.metrics.layout import Layout
from txcouchdl.metrics.table import Table

GATEWAY_PORT = 8000
NODE_PORT = 5984
TOKEN = "s3cret"
DEFAULTS = UpstreamLimits()
CLIENT_LIMITS = ClientLimits()


class Client(Protocol):
    """A client that keeps all that it is sent."""

    transport: End

    def __init__(self) -> None:
        self.received = b""
        self.is_closed = False

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: object = None) -> None:
        self.is_closed = True


@frozen
class Answer:
    """
    A response, as an independent parser reads it.

    :ivar is_whole: whether it ended as its framing says it should.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    is_whole: bool
    is_closed: bool

    def __getitem__(self, name: str) -> str:
        return self.headers[name.lower()]


def read_answer(received: bytes, method: str, is_closed: bool) -> Answer:
    """Let http.client read a response out of what a client has received."""

    class _Socket:
        def makefile(self, *_args: Any, **_kwargs: Any) -> io.BytesIO:
            return io.BytesIO(received)

    response = HTTPResponse(_Socket(), method=method)  # type: ignore[arg-type]
    response.begin()
    is_whole = True
    try:
        body = response.read()
    except IncompleteRead as error:
        body, is_whole = error.partial, False
    fields: dict[str, str] = {}
    for name, value in response.getheaders():
        assert name.lower() not in fields, f"{name} was sent twice"
        fields[name.lower()] = value
    if response.version == 10 and response.length is None and "content-length" not in fields:
        is_whole = is_whole and is_closed
    return Answer(response.status, fields, body, is_whole, is_closed)


class House:
    """
    A gateway in front of a scripted node, with clients at its door.

    The node has one document, ``/db/doc``, opened by :data:`TOKEN`.

    :param is_direct: whether bytes may go past the gateway, as they do between plain sockets.
    :ivar nodes: of the cluster, on ports from :data:`NODE_PORT` on; they share their documents.
    :ivar node: the first of them.
    :ivar log: the access log's lines.
    :ivar table: what is counted.
    """

    def __init__(
        self,
        attachments: dict[str, Stored] | None = None,
        token_key: str = "download_token",
        node_url: str = f"http://admin:hunter2@127.0.0.1:{NODE_PORT}",
        limits: UpstreamLimits = DEFAULTS,
        nodes: int = 1,
        trusted_proxies: Sequence[str] = (),
        client_limits: ClientLimits = CLIENT_LIMITS,
        origins: Sequence[str] = (),
        inline: Sequence[str] = (),
        is_direct: bool = False,
        databases: Sequence[str] = (),
        links: LinkRule | None = None,
        guess_limit: int = GUESS_LIMIT,
        max_waiting: int = MAX_WAITING,
        asks_password: bool = False,
    ) -> None:
        self.network = Network()
        docs = {"/db/doc": Doc({token_key: TOKEN}, attachments or {})}
        self.nodes = [ScriptedNode(docs=docs) for _ in range(nodes)]
        self.node = self.nodes[0]
        for number, node in enumerate(self.nodes):
            self.network.listen(NODE_PORT + number, node)
        urls = [node_url.replace(str(NODE_PORT), str(NODE_PORT + number)) for number in range(nodes)]
        parsed = [Node.parse(url) for url in urls]
        self.table = Table.own(Layout([node.base for node in parsed]))
        counts = Counts(self.table)
        self.lines = MemoryLines(self.network, is_direct)
        self.cluster = Cluster.of(parsed, self.lines, self.network, limits, counts, TokenRule(token_key).kept)
        proxies = TrustedProxies.parse(trusted_proxies)
        self.gateway = Gateway(
            self.cluster,
            TokenRule(token_key),
            self.network,
            limiter=RateLimiter(guess_limit, self.network, None, counts, max_waiting),
            proxies=proxies,
            origins=AllowedOrigins.parse(origins),
            presentation=Presentation.parse(inline),
            databases=AllowedDatabases.parse(databases),
            links=links,
            asks_password=asks_password,
            most_waiting=client_limits.most_waiting,
        )
        self.log: list[str] = []
        self.connections = Connections(client_limits, self.network, counts.connections, proxies)
        up = Up(Readiness(self.cluster.clients, self.network))
        resource = Entrance(self.gateway.app.resource(), up.app.resource())
        self.site = GatewaySite(
            resource,
            self.network,
            self.connections,
            self.log.append,
            counts,
            origins=AllowedOrigins.parse(origins),
        )
        if is_direct:
            self.site.plain = lambda transport: transport  # type: ignore[method-assign]
        self.network.listen(GATEWAY_PORT, self.site)

    @property
    def doc(self) -> Doc:
        return self.node.docs["/db/doc"]

    def connect(self, host: str = "127.0.0.1") -> Client:
        client = Client()
        self.network.connect(GATEWAY_PORT, client, host)
        return client

    def send(
        self,
        target: str,
        headers: dict[str, str] | None = None,
        method: str = "GET",
        version: str = "HTTP/1.1",
        host: str = "127.0.0.1",
    ) -> Client:
        """A client that has sent its request; nothing has moved yet."""
        client = self.connect(host)
        fields = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        client.transport.write(f"{method} {target} {version}\r\nHost: test\r\n{fields}\r\n".encode("latin-1"))
        return client

    def ask(
        self, target: str, headers: dict[str, str] | None = None, method: str = "GET", version: str = "HTTP/1.1"
    ) -> Answer:
        """Ask, let everything move, and read the answer."""
        client = self.send(target, headers, method, version)
        self.network.run()
        return read_answer(client.received, method, client.is_closed)

    def get(self, name: str, range_: str | None = None, **headers: str) -> Answer:
        """GET an attachment of the document, with its token."""
        fields = {key.replace("_", "-"): value for key, value in headers.items()}
        return self.ask(f"/db/doc/{name}?token={TOKEN}", fields if range_ is None else {"Range": range_, **fields})

    @property
    def idle_connections(self) -> int:
        """Connections to the nodes that wait for the next exchange."""
        return sum(len(line._idle) for line in self.lines._lines)

    def assert_at_rest(self) -> None:
        """No transfer is open upstream, and nothing is waited for but idle connections."""
        idle = {call.func.__qualname__ for call in self.network.calls}
        assert idle <= _IDLE, idle
        self.assert_no_place_taken()

    def assert_no_place_taken(self) -> None:
        """No exchange with a node is under way, and nobody waits for one."""
        assert [member.busy for member in self.cluster._members] == [0] * len(self.nodes)
        assert not self.cluster._waiting
        hedges = self.cluster.hedges
        assert hedges is None or not [*hedges._waiting, *hedges._queued, *hedges._running]


def are_decoys(house: House) -> bool:
    """Whether its node was asked for nothing but documents that stand in for others; and it was."""
    paths = [asked.path for asked in house.node.asked]
    return bool(paths) and all(path.startswith("/couchdl-decoy-") for path in paths)


#: What may be pending when nothing is under way: the time limits of idle connections, client's and node's, the next
#: question to a node that does not work, the next or the last health check, the last look for what takes long, and a
#: last tick.
_IDLE = {
    "GatewayChannel._end_rest",
    "Line._prune",
    "Ticker._tick",
    "NodeHealth._probe",
    "HealthChecks._begin",
    "Hedges._queue_due",
}


@contextmanager
def logged() -> Iterator[list[LogEvent]]:
    """What is logged meanwhile."""
    events: list[LogEvent] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        events.append(event)

    globalLogPublisher.addObserver(observe)
    try:
        yield events
    finally:
        globalLogPublisher.removeObserver(observe)
