"""What operators are told at an endpoint of their own: by whom, to whom, and what it costs everybody else."""

import json
from types import ModuleType
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from tests.gateway.house import NODE_PORT, TOKEN, Answer, Client, House, read_answer
from tests.metrics.reading import counted, numbers
from tests.network import MemoryLines
from tests.running import ANY_PORT, PATIENCE
from tests.scripted import Mark, Stored, answer
from tests.servers import reactor
from txcouchdl import service
from txcouchdl.couch.client import CouchClient
from txcouchdl.couch.nodes import Node
from txcouchdl.couch.readiness import Readiness
from txcouchdl.gateway.connections import Connections
from txcouchdl.gateway.guesses import RateLimiter
from txcouchdl.gateway.tokens import TokenRule
from txcouchdl.metrics.admin import _LIMITS, Admin, AdminApp, AdminSite, _write_nothing, descriptors
from txcouchdl.metrics.counts import Counts
from txcouchdl.metrics.layout import Layout
from txcouchdl.metrics.table import Table
from txcouchdl.serving import Serving
from txcouchdl.settings import Settings, StartError
from txcouchdl.workers import crew

PORT = 9000
FILE = f"/db/doc/f?token={TOKEN}"


class Office:
    """A house, and beside it where operators ask."""

    def __init__(self, nodes: int = 1) -> None:
        self.house = House({"f": Stored(b"0123456789")}, nodes=nodes)
        self.network = self.house.network
        lines = MemoryLines(self.network)
        urls = [f"http://admin:hunter2@127.0.0.1:{NODE_PORT + number}" for number in range(nodes)]
        clients = [CouchClient(Node.parse(url), lines, self.network, 30) for url in urls]
        self.app = AdminApp(self.house.table, Readiness(clients, self.network), self.network)
        self.connections = Connections(_LIMITS, self.network)
        resource = self.app.app.resource()
        self.network.listen(PORT, AdminSite(resource, self.network, self.connections, _write_nothing))
        Counts(self.house.table).answers()

    def connect(self) -> Client:
        client = Client()
        self.network.connect(PORT, client, "192.0.2.1")
        return client

    def send(self, target: str, method: str = "GET") -> Client:
        client = self.connect()
        client.transport.write(f"{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        return client

    def ask(self, target: str, method: str = "GET") -> Answer:
        client = self.send(target, method)
        self.network.run()
        return read_answer(client.received, method, client.is_closed)

    def ready(self) -> tuple[int, dict[str, Any]]:
        told = self.ask("/_up?ready")
        return told.status, json.loads(told.body)


def test_metrics() -> None:
    office = Office()
    office.house.ask(FILE)
    told = office.ask("/_metrics")
    assert (told.status, told["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert told["Cache-Control"] == "no-store"
    found = numbers(told.body.decode())
    assert found["requests_total 200"] == 1
    assert found["workers"] == 1
    [build] = [name for name in found if name.startswith("build_info ")]
    assert "0.1.0" in build


def test_who_asks_here_is_neither_counted_nor_logged() -> None:
    office = Office()
    before = counted(office.house.table)
    for target in ("/_metrics", "/_up", "/_up?ready", "/x", "/_metrics"):
        office.ask(target)
    assert counted(office.house.table) == before
    assert office.house.log == []


@pytest.mark.parametrize(
    "target", ["/", "/_metrics/", "/_metricsx", "/%5fmetrics", FILE, "/_up/", "/db", "/_utils", "*", "/%ff"]
)
def test_there_is_nothing_else(target: str) -> None:
    told = Office().ask(target)
    assert (told.status, json.loads(told.body)["error"]) == (404, "not_found")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("target", ["/_metrics", "/_up", "/x"])
def test_nothing_can_be_changed(target: str, method: str) -> None:
    told = Office().ask(target, method)
    assert (told.status, told["Allow"]) == (405, "GET, HEAD")


def test_head() -> None:
    told = Office().ask("/_metrics", "HEAD")
    assert (told.status, told.body) == (200, b"")
    assert int(told["Content-Length"]) > 1000


def test_we_are_there() -> None:
    office = Office()
    office.house.node.up = [Mark.SILENCE]
    assert json.loads(office.ask("/_up").body) == {"status": "ok"}


def test_ready() -> None:
    """With what each node says; without what we say to it."""
    office = Office(2)
    office.house.nodes[1].up = [answer(404, b'{"status":"maintenance_mode"}')]
    assert office.ready() == (
        200,
        {"status": "ok", "workers": 1, "nodes": {"http://127.0.0.1:5984": "up", "http://127.0.0.1:5985": "down"}},
    )
    assert [len(node.probes) for node in office.house.nodes] == [1, 1]


def test_no_node_is() -> None:
    office = Office()
    office.house.node.up = [Mark.CLOSE]
    told = {"status": "unavailable", "workers": 1, "nodes": {"http://127.0.0.1:5984": "down"}}
    assert office.ready() == (503, told)


def test_nobody_is_there_to_answer_clients() -> None:
    office = Office()
    Counts(office.house.table).vacate()
    told = {"status": "unavailable", "workers": 0, "nodes": {"http://127.0.0.1:5984": "up"}}
    assert office.ready() == (503, told)


def test_workers_that_hang() -> None:
    """One of two does no harm; if both do, nobody is there, and somebody else has to end them."""
    office = Office()
    table = Table.own(Layout(["http://node"]))
    both = Table(table.layout, bytearray(2 * 8 * table.layout.length))
    office.app._table = both
    office.network.rightNow = 1000
    for number in (0, 1):
        counts = Counts(both, number)
        counts.answers()
        counts.moves(1000 - 5 * number)
    for seconds, workers, status in ((4, 2, 200), (5, 1, 200), (10, 0, 503)):
        office.network.rightNow = 1000 + seconds
        assert office.ask("/_up").status == status
        assert office.ready() == (
            status,
            {
                "status": "ok" if workers else "unavailable",
                "workers": workers,
                "nodes": {"http://127.0.0.1:5984": "up"},
            },
        )
    # Those that are dead are being replaced.
    for number in (0, 1):
        Counts(both, number).vacate()
    assert (office.ask("/_up").status, office.ready()[0]) == (200, 503)


def test_a_service_that_stops_is_not_ready() -> None:
    office = Office()
    office.app.is_stopping = True
    status, told = office.ready()
    assert (status, told["status"]) == (503, "stopping")
    assert office.ask("/_up").status == 200
    assert office.ask("/_metrics").status == 200


def test_a_service_that_begins_to_stop_while_it_is_asked() -> None:
    office = Office()
    office.house.node.up = [Mark.SILENCE]
    client = office.send("/_up?ready")
    office.network.run()
    office.app.is_stopping = True
    office.network.pass_time(6)
    assert json.loads(read_answer(client.received, "GET", False).body)["status"] == "stopping"


# Who asks too much, and who does not read.


def test_many_scrapers() -> None:
    """As many as there are places; those who rest make room, and clients of the gateway do not notice."""
    office = Office()
    first = [office.send("/_metrics") for _ in range(100)]
    office.network.run()
    answered = [each for each in first if each.received.startswith(b"HTTP/1.1 200 ")]
    assert len(answered) == _LIMITS.max_connections
    assert office.network.open_connections(PORT) <= descriptors(0)
    office.network.pass_time(8)
    assert office.ask("/_metrics").status == 200
    assert office.house.ask(FILE).status == 200
    office.network.pass_time(310)
    assert office.network.open_connections(PORT) == 0


def test_a_scraper_that_asks_and_asks_and_does_not_read() -> None:
    """It gets what fits into its way, is not answered more, and is cut off."""
    office = Office()
    client = office.connect()
    client.transport.is_paused = True
    for _ in range(500):
        client.transport.write(b"GET /_metrics HTTP/1.1\r\nHost: h\r\n\r\n" * 100)
        office.network.run()
    [far] = [far for near, far in office.network.connections if near is client.transport]
    assert len(far.sent) < 2**17
    office.network.pass_time(30)
    assert not far.is_connected


def test_a_scraper_that_sends_no_end() -> None:
    office = Office()
    client = office.connect()
    client.transport.write(b"GET /_metrics HTTP/1.1\r\n")
    office.network.pass_time(30)
    assert read_answer(client.received, "GET", True).status == 408


def test_a_scraper_that_keeps_its_connection_may_come_seldom() -> None:
    office = Office()
    client = office.send("/_metrics")
    office.network.pass_time(240)
    client.received = b""
    client.transport.write(b"GET /_metrics HTTP/1.1\r\nHost: h\r\n\r\n")
    office.network.run()
    assert read_answer(client.received, "GET", False).status == 200


@ensureDeferred
async def test_nobody_is_left_when_the_service_has_stopped() -> None:
    admin = Admin([ANY_PORT], reactor)
    admin.listen([Node.parse("http://127.0.0.1:1")], Table.own(Layout(["http://127.0.0.1:1"])))
    gone: Deferred[None] = Deferred()

    class Scraper(Protocol):
        def connectionLost(self, reason: object = None) -> None:
            gone.callback(None)

    address: Any = admin._ports[0].getHost()
    await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", address.port), Scraper())
    await admin.wind_down()
    assert not gone.called
    await admin.stop()
    await gone.addTimeout(PATIENCE, reactor)


def test_connections_are_told_to_the_other_workers_too() -> None:
    """They leave the next one to who has fewer."""
    table, told = Table.own(Layout(["http://a"])), list[int]()
    settings = Settings(("tcp:0",), TokenRule("t"), (Node.parse("http://a"),), None, False)
    serving = Serving(settings, settings.nodes, reactor, RateLimiter(1, reactor), Counts(table), told.append)
    serving._tell_connections(3)
    assert (told, counted(table)["connections"]) == ([3], 3)


@pytest.mark.parametrize("endpoints", [(), ("tcp:0",)])
@pytest.mark.parametrize(("kind", "asked"), [("alone", "fitted"), ("crew", "make_room")])
def test_there_is_room_for_them(
    kind: str, asked: str, endpoints: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If there are any."""
    module: ModuleType = {"alone": service, "crew": crew}[kind]
    rooms: list[int] = []

    def ask(_: object, others: int) -> None:
        rooms.append(others)
        raise StartError("that is enough")

    monkeypatch.setattr(module, asked, ask)
    nodes = [Node.parse("http://a"), Node.parse("http://b")]
    settings = Settings(("tcp:0",), TokenRule("t"), tuple(nodes), None, False, admin_listen=endpoints)
    front = service.Alone(settings, Clock()) if kind == "alone" else crew.Crew(settings, 2, Clock())
    with pytest.raises(StartError):
        front.listen(nodes)
    # Of a crew, the workers' pipes; of each node, a connection for /_session.
    assert rooms == [(kind == "crew") * 2 * 8 + 2 + bool(endpoints) * (32 + 16 + 2 * 33)]
