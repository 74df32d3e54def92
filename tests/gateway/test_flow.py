"""Back-pressure both ways, and what happens when somebody leaves."""

import gzip
import hashlib
import tracemalloc
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone

from tests.gateway.house import TOKEN, Client, House, logged, read_answer
from tests.network import READ_SIZE, SEND_BUFFER, End
from tests.scripted import Mark, Stored
from txcouchdl.couch.documents import AttachmentStub, Digest, Storage
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.opened_body import Body
from txcouchdl.couch.patience import Patience
from txcouchdl.couch.reader import AttachmentReader
from txcouchdl.couch.reading import Request, plan_reading
from txcouchdl.couch.tally import UNCOUNTED
from txcouchdl.couch.transfer import HELD_BACK

BIG = bytes(range(256)) * 2**14
ZEROS = b"\0" * 64 * 2**20


def upstream(house: House) -> End:
    """The node's end of the newest connection to it."""
    return [far for _, far in house.network.connections if far.address.port == 5984][-1]


def door(client: Client) -> End:
    """The gateway's end of a client's connection."""
    return client.transport.peer


WAYS = {
    "identity": Stored(BIG),
    "compressed": Stored.compressed(BIG),
    "encoded": Stored.encoded(gzip.compress(BIG)),
}


@pytest.mark.parametrize("range_", [None, "bytes=5-", "bytes=0-9,1000-"])
@pytest.mark.parametrize("name", WAYS)
def test_a_client_that_does_not_read_stops_the_node(name: str, range_: str | None) -> None:
    """What waits in between is bounded, whatever the attachment's length."""
    house = House(dict(WAYS))
    client = house.send(f"/db/doc/{name}?token={TOKEN}", {} if range_ is None else {"Range": range_})
    client.transport.is_paused = True
    house.network.run()
    assert client.received == b""
    assert len(door(client).sent) <= SEND_BUFFER + READ_SIZE + 4096
    if name == "identity":
        assert len(upstream(house).sent) > len(BIG) - SEND_BUFFER - 5 * READ_SIZE
        assert upstream(house).peer.is_paused
    client.transport.is_paused = False
    house.network.run()
    got = read_answer(client.received, "GET", client.is_closed)
    assert got.is_whole
    if range_ is None:
        assert got.body == BIG
    house.assert_at_rest()


def test_nothing_waits_for_a_paused_client_but_the_client() -> None:
    """A stall is a node that says nothing while it is read from. A client's pause is none."""
    house = House(dict(WAYS))
    client = house.send(f"/db/doc/identity?token={TOKEN}")
    client.transport.is_paused = True
    house.network.run()
    house.network.pass_time(3500, step=50)
    client.transport.is_paused = False
    house.network.run()
    assert read_answer(client.received, "GET", client.is_closed).body == BIG
    house.assert_at_rest()


def test_a_few_gzip_bytes_that_inflate_to_many_take_no_memory() -> None:
    house = House({"bomb": Stored.compressed(ZEROS)})
    client = house.send(f"/db/doc/bomb?token={TOKEN}")
    client.transport.is_paused = True
    tracemalloc.start()
    try:
        house.network.run()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * 2**20
    assert len(door(client).sent) <= SEND_BUFFER + READ_SIZE + 4096


def test_inflating_yields_to_others() -> None:
    """Skipping 64 MiB of zeros is done in steps: another client is answered before it is over."""
    house = House({"bomb": Stored.compressed(ZEROS), "f": Stored(b"quick")})
    slow = house.send(f"/db/doc/bomb?token={TOKEN}", {"Range": f"bytes={len(ZEROS) - 5}-"})
    quick = house.send(f"/db/doc/f?token={TOKEN}")
    house.network.run(until=lambda: b"quick" in quick.received)
    assert slow.received == b""
    house.network.run()
    assert slow.received.endswith(b"\r\n\r\n" + b"\0" * 5)


@given(st.lists(st.booleans(), max_size=40), st.sampled_from(sorted(WAYS)), st.sampled_from([None, "bytes=77-2000000"]))
def test_any_rhythm_of_reading_gives_the_same_bytes(rhythm: list[bool], name: str, range_: str | None) -> None:
    house = House(dict(WAYS))
    client = house.send(f"/db/doc/{name}?token={TOKEN}", {} if range_ is None else {"Range": range_})
    for is_paused in rhythm:
        client.transport.is_paused = is_paused
        for pair in list(house.network.connections):
            for end in pair:
                end.step()
        house.network.advance(0)
    client.transport.is_paused = False
    house.network.run()
    got = read_answer(client.received, "GET", client.is_closed)
    assert got.body == (BIG if range_ is None else BIG[77:2000001])
    assert got.is_whole
    house.assert_at_rest()


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 6, 8, 12, 20])
@pytest.mark.parametrize("how", ["closes", "resets"])
def test_a_client_that_leaves_ends_the_upstream_transfer_at_once(name: str, steps: int, how: str) -> None:
    """Players do this on every seek (CLIENTS, point 5)."""
    house = House(dict(WAYS))
    client = house.send(f"/db/doc/{name}?token={TOKEN}")
    for _ in range(steps):
        for pair in list(house.network.connections):
            for end in pair:
                end.step()
    is_over = client.received and read_answer(client.received, "GET", client.is_closed).is_whole
    (client.transport.abortConnection if how == "resets" else client.transport.loseConnection)()
    house.network.run()
    house.assert_at_rest()
    assert client.is_closed
    open_bodies = [
        far for _, far in house.network.connections if far.address.port == 5984 and far.is_connected and far.sent
    ]
    assert not open_bodies
    assert house.network.open_connections(5984) <= 1, "only an idle one may be left"
    if not is_over:
        [line] = house.log
        assert '" 499 ' in line or '" 200 ' in line


def test_a_client_that_leaves_while_the_document_is_read() -> None:
    house = House(dict(WAYS))
    house.node.faults = lambda _: [Mark.SILENCE]
    client = house.send(f"/db/doc/identity?token={TOKEN}")
    house.network.run()
    assert house.network.open_connections(5984) == 1
    client.transport.loseConnection()
    house.network.run()
    assert house.network.open_connections(5984) == 0
    house.assert_at_rest()
    assert '" 499 ' in house.log[0]


def test_a_broken_download_of_a_client_that_reads_nothing_is_cut_off() -> None:
    """The connection is closed behind what was sent; who does not take it is not waited for without end."""
    house = House(dict(WAYS))
    body = WAYS["identity"]
    head = b'HTTP/1.1 200 OK\r\nETag: "%s"\r\nContent-Length: %d\r\n\r\n' % (body.etag.encode(), len(BIG))
    # So few that they wait in the gateway's buffer without stopping the node, whose end is noticed at once.
    house.node.faults = lambda asked: None if asked.path == "/db/doc" else [head, BIG[:50_000], Mark.CLOSE]
    client = house.send(f"/db/doc/identity?token={TOKEN}")
    client.transport.is_paused = True
    house.network.run()
    house.network.pass_time(UpstreamLimits().give_up)
    assert door(client).disconnecting
    assert len(door(client).sent) > 40_000
    house.network.pass_time(12)
    assert door(client).is_connected
    house.network.pass_time(4)
    assert not door(client).is_connected
    house.assert_at_rest()


def test_what_was_sent_before_the_break_arrives() -> None:
    """So that the client has the more to resume from."""
    house = House(dict(WAYS))
    body = WAYS["identity"]
    head = b'HTTP/1.1 200 OK\r\nETag: "%s"\r\nContent-Length: %d\r\n\r\n' % (body.etag.encode(), len(BIG))
    house.node.faults = lambda asked: None if asked.path == "/db/doc" else [head, BIG[:300_000], Mark.CLOSE]
    client = house.send(f"/db/doc/identity?token={TOKEN}")
    house.network.run()
    house.network.pass_time(UpstreamLimits().give_up)
    got = read_answer(client.received, "GET", client.is_closed)
    assert got.body == BIG[: 300_000 - HELD_BACK]
    assert (got.is_whole, got.is_closed) == (False, True)


def test_a_client_that_asks_and_asks_and_reads_nothing_gets_no_more_answers_made() -> None:
    """Each of them would wait in memory, whole."""
    house = House({"f": Stored.compressed(b"x" * 60_000)})
    client = house.connect()
    client.transport.is_paused = True
    request = f"GET /db/doc/f?token={TOKEN} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    client.transport.write(request * 100)
    house.network.run()
    assert len(door(client).sent) < 3 * SEND_BUFFER
    client.transport.is_paused = False
    house.network.run()
    assert client.received.count(b"HTTP/1.1 200 ") == 100
    house.assert_at_rest()


def test_such_a_client_may_leave() -> None:
    house = House({"f": Stored.compressed(b"x" * 60_000)})
    client = house.connect()
    client.transport.is_paused = True
    client.transport.write(f"GET /db/doc/f?token={TOKEN} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 100)
    house.network.run()
    client.transport.abortConnection()
    with logged() as events:
        house.network.run()
    assert not [event for event in events if event.get("log_failure")]
    house.assert_at_rest()


def test_a_finished_response_that_nobody_takes_is_dropped_in_the_end() -> None:
    house = House({"f": Stored(b"x" * 60_000)})
    client = house.send(f"/db/doc/f?token={TOKEN}", {"Connection": "close"})
    client.transport.is_paused = True
    house.network.run()
    assert door(client).disconnecting
    house.network.pass_time(3601, step=60)
    assert not door(client).is_connected
    house.assert_at_rest()


def test_a_refused_client_that_stays_is_let_go() -> None:
    """Also where all of the body came at once, and twisted.web is done with it."""
    house = House({"f": Stored(b"x")})
    client = house.connect()
    head = f"GET /db/doc/f?token={TOKEN} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    client.transport.write(head + b"10100\r\n" + b"x" * 0x10100 + b"\r\n0\r\n\r\n")
    client.transport.is_paused = True
    house.network.run()
    house.network.pass_time(6)
    assert not door(client).is_connected
    house.assert_at_rest()


def test_a_node_without_an_end_to_its_head() -> None:
    house = House({"f": Stored(b"x")})
    house.node.faults = lambda _: [b"HTTP/1.1 200 OK\r\n", *[b"X-Y: " + b"z" * 1000 + b"\r\n"] * 5000, Mark.SILENCE]
    answer = house.get("f")
    assert answer.status == 502
    assert house.network.open_connections(5984) == 0
    house.assert_at_rest()


def test_a_transport_that_hands_over_more_when_it_is_resumed() -> None:
    """From within: the reader must not lose the call."""
    reader, transfer = _reader_of(BIG[:100_000])
    left = [BIG[at : at + 5000] for at in range(0, 100_000, 5000)]

    class Eager:
        is_paused = False

        def resumeProducing(self) -> None:
            self.is_paused = False
            while left and not self.is_paused:
                transfer.dataReceived(left.pop(0))
            if not left:
                transfer.connectionLost(Failure(ResponseDone()))

        def pauseProducing(self) -> None:
            self.is_paused = True

        def stopProducing(self) -> None:
            left.clear()

    written: list[bytes] = []
    transfer.makeConnection(Eager())
    transfer.dataReceived(left.pop(0))
    done: list[object] = []
    reader.deliver(written.append).addBoth(done.append)
    assert done == [None]
    assert b"".join(written) == BIG[:100_000]


def _reader_of(data: bytes) -> tuple[AttachmentReader, Protocol]:
    """A reader of an attachment, and what its upstream body is delivered to."""
    digest = Digest(hashlib.md5(data).digest())
    stub = AttachmentStub("f", None, digest, Storage.IDENTITY, len(data), len(data))
    transfers: list[Protocol] = []

    class Opened:
        deliver = staticmethod(transfers.append)
        tally = UNCOUNTED
        are_ranges_ignored = False

        def __init__(self, request: Request) -> None:
            self.request = request

        def rest(self, _: object) -> None: ...

        def wake(self) -> None: ...

        def vacate(self) -> None: ...

    async def open_body(request: Request, _patience: Patience) -> Body:
        return cast(Body, Opened(request))

    reader = AttachmentReader("f", plan_reading(stub, None), open_body, UpstreamLimits(), Clock())
    reader.open(is_committed=False)
    return reader, transfers[0]


@pytest.mark.parametrize("pauses_once", [False, True])
@pytest.mark.parametrize("name", ["identity", "compressed"])
def test_a_client_that_does_not_read_stops_between_parts_too(name: str, pauses_once: bool) -> None:
    house = House(dict(WAYS))
    ranges = ",".join(f"{at}-{at + 29_999}" for at in range(0, 1_000_000, 50_000))
    client = house.send(f"/db/doc/{name}?token={TOKEN}", {"Range": f"bytes={ranges}"})
    client.transport.is_paused = True
    door(client).pauses_once = pauses_once
    house.network.run()
    assert len(door(client).sent) <= SEND_BUFFER + READ_SIZE + 4096
    client.transport.is_paused = False
    house.network.run()
    assert read_answer(client.received, "GET", client.is_closed).is_whole
    house.assert_at_rest()


def test_whatever_goes_wrong_with_a_response_its_transfer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("txcouchdl.gateway.delivery._write_head", broken)
    house = House(dict(WAYS))
    with logged():
        client = house.send(f"/db/doc/identity?token={TOKEN}")
        house.network.run()
    assert not upstream(house).is_connected
    client.transport.loseConnection()
    house.network.run()
    house.assert_at_rest()


@pytest.mark.parametrize("what", ["pipelined requests without a token", "noise behind a request"])
def test_a_client_that_only_sends_is_stopped(what: str) -> None:
    """What it sends has nowhere to go, and would wait in memory."""
    house = House(dict(WAYS))
    client = house.connect()
    client.transport.is_paused = True
    refused = b"GET /db/doc/none HTTP/1.1\r\nHost: x\r\n\r\n"
    download = f"GET /db/doc/identity?token={TOKEN} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    client.transport.write(download if what == "noise behind a request" else refused * 400)
    house.network.run()
    for _ in range(20):
        client.transport.write((b"x" if what == "noise behind a request" else refused) * 50_000)
        house.network.run()
    assert len(client.transport.sent) > 500_000, "it is not taken"
    assert sum(map(len, door(client).protocol._dataBuffer)) < 4 * READ_SIZE


def test_a_client_that_was_stopped_goes_on() -> None:
    house = House({"f": Stored(BIG[:1000])})
    client = house.connect()
    client.transport.is_paused = True
    request = f"GET /db/doc/f?token={TOKEN} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    client.transport.write(request * 1500)
    house.network.run()
    assert client.transport.sent
    client.transport.is_paused = False
    house.network.run()
    assert client.received.count(BIG[:1000]) == 1500
    house.assert_at_rest()


@pytest.mark.parametrize("first", [40_000, 64_600, 64_800, 65_000])
@pytest.mark.parametrize("pauses_once", [False, True])
def test_a_response_that_begins_while_the_client_takes_nothing(first: int, pauses_once: bool) -> None:
    """TLS says that once, and perhaps before there is anybody to be told."""
    house = House(dict(WAYS))
    client = house.connect()
    door(client).pauses_once = pauses_once
    client.transport.is_paused = True
    head = f"GET /db/doc/identity?token={TOKEN} HTTP/1.1\r\nHost: x\r\n"
    client.transport.write(f"{head}Range: bytes=0-{first - 1}\r\n\r\n{head}\r\n".encode())
    house.network.run()
    assert len(door(client).sent) <= 2 * SEND_BUFFER + READ_SIZE
    client.transport.is_paused = False
    house.network.run()
    assert client.received.endswith(BIG[-1000:])
    house.assert_at_rest()
