"""What is counted of requests: each once, by how it ended, and every byte of a body as soon as it is sent."""

import random
from collections.abc import Callable

import pytest
from twisted.python.failure import Failure

from tests.gateway.house import TOKEN, Client, House, read_answer
from tests.gateway.test_healing import BREAKS, NOISE, STORED, broken_after, download, first_times
from tests.metrics.reading import Numbers, change, counted
from tests.scripted import DYING_WORDS, Mark, Script, Stored, answer
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.gateway.guess_queue import LONGEST_QUEUE
from txcouchdl.gateway.guesses import GUESS_LIMIT
from txcouchdl.gateway.limits import ClientLimits
from txcouchdl.metrics.exposition import Exposition

LONG = random.Random(3).randbytes(3_000_000)
SHORT = {"f": Stored(b"0123456789")}
REFUSED = answer(401, b'{"error":"unauthorized"}')


def of_requests(house: House) -> Numbers:
    """What is counted of them."""
    return {name: number for name, number in counted(house.table).items() if name.startswith("requests_total ")}


def ask(target: str, **headers: str) -> Callable[[House], int]:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda house: house.ask(target, fields).status


FILE = f"/db/doc/f?token={TOKEN}"
ETAG = f'"{SHORT["f"].etag}"'


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (ask(FILE), 200),
        (ask(FILE, Range="bytes=2-5"), 206),
        (ask(FILE, Range="bytes=0-1,4-5"), 206),
        (ask(FILE, If_None_Match=ETAG), 304),
        (ask(FILE, If_Match='"another"'), 412),
        (ask(FILE, Range="bytes=10-"), 416),
        (ask("/db/doc/f?token=wrong"), 403),
        (ask(f"/db/doc/g?token={TOKEN}"), 404),
        (ask("/"), 404),
        (ask(f"/db/doc/?token={TOKEN}"), 200),
        (ask("/_up"), 200),
        (ask("/%ff/doc/f"), 400),
        (lambda house: house.ask(FILE, method="HEAD").status, 200),
        (lambda house: house.ask(FILE, method="POST").status, 405),
        (lambda house: house.ask(FILE, method="OPTIONS").status, 204),
        (lambda house: house.ask(FILE, {"Content-Length": "99999999"}).status, 413),
        (lambda house: house.ask(f"/{'x' * 40_000}").status, 414),
        (lambda house: house.ask(FILE, {"n" * 257: "x"}).status, 431),
        (lambda house: house.ask("/a b/c d", method="nonsense that is none").status, 400),
    ],
)
def test_every_answer_is_counted_by_its_status(asked: Callable[[House], int], status: int) -> None:
    house = House(dict(SHORT))
    assert asked(house) == status
    assert of_requests(house) == {f"requests_total {status}": 1}


@pytest.mark.parametrize(
    ("script", "status"),
    [([answer(500, b"{}")], 503), ([REFUSED], 502), ([Mark.SILENCE], 504), ([Mark.CLOSE], 503)],
)
def test_what_couchdb_fails_in(script: Script, status: int) -> None:
    house = House(dict(SHORT))
    house.node.faults = lambda _: script
    client = house.send(FILE)
    house.network.pass_time(100)
    assert read_answer(client.received, "GET", client.is_closed).status == status
    assert of_requests(house) == {f"requests_total {status}": 1}


def test_a_fault_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(dict(SHORT))
    monkeypatch.setattr(house.gateway, "_serve", None)
    assert house.get("f").status == 500
    assert of_requests(house) == {"requests_total 500": 1}


def test_guesses() -> None:
    house = House(dict(SHORT))
    for _ in range(GUESS_LIMIT):
        house.ask("/db/doc/f?token=wrong")
    house.ask("/db/doc/f")
    for _ in range(LONGEST_QUEUE + 2):
        house.send("/db/doc/f?token=wrong")
    house.network.run()
    told = counted(house.table)
    assert (told["requests_total 403"], told["requests_total 429"]) == (GUESS_LIMIT + 1, 2)
    assert (told["wrong_tokens_total"], told["guesses_delayed_total"]) == (GUESS_LIMIT, LONGEST_QUEUE)
    assert told["guesses_refused_total"] == 2
    house.network.elapse(17)
    told = counted(house.table)
    assert (told["requests_total 403"], told["wrong_tokens_total"]) == (
        GUESS_LIMIT + 1 + LONGEST_QUEUE,
        GUESS_LIMIT + LONGEST_QUEUE,
    )


def test_a_request_that_does_not_come_in_time() -> None:
    house = House(dict(SHORT), client_limits=ClientLimits(header_timeout=5))
    client = house.connect()
    client.transport.write(b"GET / HTTP/1.1\r\n")
    house.network.run()
    assert counted(house.table) == {"connections": 1, "node_up http://127.0.0.1:5984": 1}
    house.network.pass_time(20)
    body = read_answer(client.received, "GET", True).body
    assert of_requests(house) == {"requests_total 408": 1}
    assert counted(house.table)["sent_bytes_total"] == len(body)
    assert "connections" not in counted(house.table)


def test_connections_that_are_too_many() -> None:
    house = House(dict(SHORT), client_limits=ClientLimits(max_connections=1))
    first, second = house.connect(), house.connect()
    house.network.run()
    assert counted(house.table)["connections"] == 1
    assert of_requests(house) == {"requests_total 503": 1}
    for each in (first, second):
        each.transport.loseConnection()
    house.network.run()
    assert "connections" not in counted(house.table)


# Bytes, and ends that are none.


@pytest.mark.parametrize("is_direct", [False, True])
@pytest.mark.parametrize("range_", [None, "bytes=5-400004", "bytes=0-299999,500000-899999", "bytes=1-2,5-6"])
def test_bytes_are_those_that_were_received(range_: str | None, is_direct: bool) -> None:
    house = House(dict(STORED), is_direct=is_direct)
    sent = sum(len(house.get(name, range_).body) for name in ("identity", "compressed", "encoded"))
    assert sent > 20
    assert counted(house.table)["sent_bytes_total"] == sent
    house.ask(f"/db/doc/identity?token={TOKEN}", method="HEAD")
    assert counted(house.table)["sent_bytes_total"] == sent


def test_bytes_of_errors_and_of_pages() -> None:
    house = House(dict(SHORT))
    sent = len(house.ask("/db/doc/f?token=wrong").body) + len(house.ask(f"/db/doc/?token={TOKEN}").body)
    assert counted(house.table)["sent_bytes_total"] == sent


def begun(house: House, count: int) -> Client:
    """A download that has brought so many bytes at least, and whose client takes nothing for now."""
    client = house.send(f"/db/doc/f?token={TOKEN}")
    house.network.run(until=lambda: len(client.received) > count)
    client.transport.is_paused = True
    house.network.run()
    return client


def body(client: Client) -> bytes:
    return client.received.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("is_direct", [False, True])
def test_bytes_are_counted_while_they_go(is_direct: bool) -> None:
    house = House({"f": Stored(LONG)}, is_direct=is_direct)
    client = begun(house, 1_500_000)
    first = counted(house.table)
    assert of_requests(house) == {}
    assert len(body(client)) <= first["sent_bytes_total"] <= len(body(client)) + 400_000
    client.transport.is_paused = False
    house.network.run()
    assert body(client) == LONG
    assert counted(house.table)["sent_bytes_total"] == len(LONG)
    assert of_requests(house) == {"requests_total 200": 1}


@pytest.mark.parametrize("is_direct", [False, True])
def test_a_client_that_leaves_in_the_midst(is_direct: bool) -> None:
    house = House({"f": Stored(LONG)}, is_direct=is_direct)
    client = begun(house, 500_000)
    client.transport.abortConnection()
    house.network.run()
    assert of_requests(house) == {"requests_total left": 1}
    assert len(body(client)) <= counted(house.table)["sent_bytes_total"] < len(LONG)


def test_a_client_that_leaves_before_there_is_an_answer() -> None:
    house = House({"f": Stored(LONG)})
    house.node.faults = lambda _: [Mark.SILENCE]
    client = house.send(FILE)
    house.network.run()
    client.transport.abortConnection()
    house.network.run()
    assert of_requests(house) == {"requests_total 499": 1}


@pytest.mark.parametrize("name", ["identity", "compressed", "encoded"])
@pytest.mark.parametrize("is_direct", [False, True])
def test_a_download_that_is_broken_off(name: str, is_direct: bool) -> None:
    """By us, since its attachment is damaged for good; and not by a client that leaves."""
    house = House(dict(STORED), limits=UpstreamLimits(stall_timeout=5, give_up=20), is_direct=is_direct)
    house.node.faults = first_times(iter([broken_after(200_000, [Mark.CLOSE])] + [broken_after(0, [Mark.CLOSE])] * 99))
    got = download(house, name)
    assert (got.status, got.is_whole) == (200, False)
    assert of_requests(house) == {"requests_total broken_off": 1}
    assert counted(house.table)["sent_bytes_total"] >= len(got.body)


def test_a_fault_of_our_own_in_the_midst() -> None:
    house = House({"f": Stored(LONG)})
    client = begun(house, 500_000)
    [far] = [far for near, far in house.network.connections if near is client.transport]
    [request] = far.protocol.requests
    request.processingFailed(Failure(RuntimeError("ours")))
    house.network.run()
    assert of_requests(house) == {"requests_total broken_off": 1}


# CouchDB.


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("closed", "lost"),
        ("reset", "lost"),
        ("an error message", "lost"),
        ("a stall", "stalled"),
    ],
)
def test_healings(how: str, kind: str) -> None:
    house = House(dict(STORED), nodes=2, limits=UpstreamLimits(stall_timeout=5))
    scripts = iter([broken_after(200_000, BREAKS[how]), broken_after(90_000, BREAKS[how])])
    for node in house.nodes:
        node.faults = first_times(scripts)
    assert download(house, "identity").body == NOISE
    told = counted(house.table)
    assert {name: told[name] for name in told if name.startswith("healings")} == {f"healings_total {kind}": 2}
    assert of_requests(house) == {"requests_total 200": 1}
    assert told["sent_bytes_total"] == len(NOISE)


def test_a_healing_of_an_end_that_was_none() -> None:
    house = House(dict(STORED))
    house.node.faults = first_times(iter([broken_after(len(NOISE) - len(DYING_WORDS), [DYING_WORDS])]))
    assert download(house, "identity").body == NOISE
    assert counted(house.table)["healings_total corrupt"] == 1


def test_before_there_is_an_answer_nothing_is_healed() -> None:
    house = House(dict(STORED))
    house.node.faults = first_times(iter([broken_after(0, [Mark.CLOSE])]))
    assert download(house, "identity").body == NOISE
    assert not [name for name in counted(house.table) if name.startswith("healings")]


def test_parked_streams() -> None:
    house = House({"f": Stored(LONG)}, limits=UpstreamLimits(park_after=10))
    clients = [begun(house, 200_000) for _ in range(3)]
    house.network.pass_time(9)
    assert "parked_streams" not in counted(house.table)
    house.network.pass_time(2)
    assert counted(house.table)["parked_streams"] == 3
    clients[0].transport.is_paused = False
    house.network.run()
    assert body(clients[0]) == LONG
    assert counted(house.table)["parked_streams"] == 2
    clients[1].transport.abortConnection()
    house.network.run()
    assert counted(house.table)["parked_streams"] == 1
    clients[2].transport.is_paused = False
    house.network.run()
    assert "parked_streams" not in counted(house.table)


def test_a_stream_that_goes_on_is_not_parked() -> None:
    house = House({"f": Stored(LONG)}, limits=UpstreamLimits(park_after=10))
    client = begun(house, 200_000)
    house.network.pass_time(11)
    assert counted(house.table)["parked_streams"] == 1
    client.transport.is_paused = False
    house.network.run(until=lambda: len(client.received) > 1_000_000)
    assert "parked_streams" not in counted(house.table)


def test_what_is_lost_while_nobody_reads_is_parked() -> None:
    house = House({"f": Stored(LONG)})
    client = begun(house, 200_000)
    for _, far in house.network.connections:
        if far.address.port == 5984:
            far.abortConnection()
    house.network.run()
    assert counted(house.table)["parked_streams"] == 1
    client.transport.is_paused = False
    house.network.pass_time(1)
    assert body(client) == LONG
    assert "parked_streams" not in counted(house.table)


def test_the_queue() -> None:
    house = House({"f": Stored(LONG)}, limits=UpstreamLimits(max_upstream=1, queue_timeout=8, give_way_after=100))
    holder = begun(house, 200_000)
    waiting = [house.send(f"/db/doc/f?token={TOKEN}", {"Range": "bytes=0-9"}) for _ in range(2)]
    house.network.run()
    # Who asks for the same document waits for the same place, until it has taken too long.
    house.network.pass_time(1)
    assert counted(house.table)["queue_length"] == 2
    house.network.pass_time(1, step=0.5)
    waiting[0].transport.abortConnection()
    house.network.run()
    assert counted(house.table)["queue_length"] == 1
    house.network.pass_time(20)
    assert read_answer(waiting[1].received, "GET", False).status == 503
    told = counted(house.table)
    assert "queue_length" not in told
    assert told["queue_refusals_total"] == 1
    assert told["queue_seconds_count"] == 2
    assert 2 + 8 <= told["queue_seconds_sum"] + 0.5 <= 2 + 8 + 1
    holder.transport.is_paused = False
    house.network.run()
    assert house.get("f", "bytes=0-9").status == 206
    assert change(told, counted(house.table)).keys().isdisjoint({"queue_seconds_count", "queue_refusals_total"})


def test_a_place_that_comes_in_time() -> None:
    house = House({"f": Stored(LONG)}, limits=UpstreamLimits(max_upstream=1, give_way_after=100))
    holder = begun(house, 200_000)
    waiting = house.send(f"/db/doc/f?token={TOKEN}", {"Range": "bytes=0-9"})
    house.network.run()
    house.network.pass_time(3)
    holder.transport.is_paused = False
    house.network.run()
    assert read_answer(waiting.received, "GET", False).body == LONG[:10]
    told = counted(house.table)
    assert (told["queue_seconds_count"], told["queue_seconds_sum"]) == (1, 3)
    assert not told.keys() & {"queue_length", "queue_refusals_total"}


def test_a_download_that_was_parked_waits_too() -> None:
    house = House({"f": Stored(LONG)}, limits=UpstreamLimits(max_upstream=1, park_after=5, give_way_after=100))
    parked = begun(house, 200_000)
    house.network.pass_time(6)
    holder = begun(house, 200_000)
    parked.transport.is_paused = False
    house.network.run()
    assert counted(house.table)["queue_length"] == 1
    holder.transport.is_paused = False
    house.network.run()
    assert body(parked) == body(holder) == LONG
    assert "queue_length" not in counted(house.table)


def test_how_long_nodes_take() -> None:
    """To the head of a document and of a body, each; a probe is no answer to anybody."""
    house = House(dict(SHORT), nodes=2)
    urls = [f"http://127.0.0.1:{port}" for port in (5984, 5985)]
    late: list[Client] = []

    def lag(node: int) -> None:
        house.nodes[node].faults = lambda asked: [Mark.SILENCE] if "rev=" in asked.target else None

    lag(0)
    lag(1)
    late.append(house.send(FILE))
    house.network.pass_time(2)
    told = counted(house.table)
    assert sum(told.get(f"upstream_seconds_count {url}", 0) for url in urls) == 1
    house.network.pass_time(100)
    told = counted(house.table)
    assert sum(told.get(f"upstream_seconds_count {url}", 0) for url in urls) == 1
    assert all(told[f"node_failures_total {url}"] >= 1 for url in urls)
    assert of_requests(house) == {"requests_total 504": 1}


def test_an_answer_that_takes_time() -> None:
    house = House(dict(SHORT))
    house.node.faults = lambda _: []
    client = house.send(FILE)
    house.network.run()
    house.network.pass_time(3)
    [far] = [far for _, far in house.network.connections if far.address.port == 5984]
    house.node.faults = lambda _: None
    far.write(answer(200, house.doc.json("doc")))
    house.network.run()
    assert read_answer(client.received, "GET", False).status == 200
    told = counted(house.table)
    node = "http://127.0.0.1:5984"
    assert (told[f"upstream_seconds_count {node}"], told[f"upstream_seconds_sum {node}"]) == (2, 3)
    assert told[f"upstream_seconds_bucket 2.5 {node}"] == 1
    assert told[f"upstream_seconds_bucket 5.0 {node}"] == 2


def test_a_node_that_is_down_and_comes_back() -> None:
    house = House(dict(SHORT), nodes=2)
    up = [f"node_up http://127.0.0.1:{port}" for port in (5984, 5985)]
    assert [counted(house.table).get(name) for name in up] == [1, 1]
    house.nodes[1].faults = lambda _: [answer(500, b"{}")]
    house.nodes[1].up = [Mark.SILENCE]
    for _ in range(3):
        assert house.get("f").status == 200
    # It is doubted, and being asked.
    assert [counted(house.table).get(name) for name in up] == [1, 1]
    house.network.pass_time(6)
    assert [counted(house.table).get(name) for name in up] == [1, None]
    house.network.listen(5985, None)
    house.network.pass_time(2)
    assert [counted(house.table).get(name) for name in up] == [1, None]
    house.nodes[1].up = house.nodes[0].up
    house.network.listen(5985, house.nodes[1])
    house.network.pass_time(70)
    assert [counted(house.table).get(name) for name in up] == [1, 1]


# What is told to everybody who reads it.


def test_nothing_that_somebody_sends_becomes_a_label() -> None:
    """As many numbers as before, and nothing that is secret."""
    house = House(dict(SHORT), node_url="http://admin:hunter2@127.0.0.1:5984")
    house.get("f")
    before = _text(house)
    for number in range(50):
        house.ask(f"/db{number}/d{number}/n{number}?token=t{number}", {"User-Agent": f"u{number}"}, f"M{number}")
    after = _text(house)
    assert [line.rpartition(" ")[0] for line in before.splitlines()] == [
        line.rpartition(" ")[0] for line in after.splitlines()
    ]
    for secret in ("hunter2", "admin", TOKEN, "/db", "u7"):
        assert secret not in after


def _text(house: House) -> str:
    return Exposition(house.table, house.network).text().decode()
