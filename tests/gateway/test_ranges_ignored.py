"""
Nodes that answer a range with the whole attachment: express-pouchdb does, and so do old proxies.

Ranges of them are read from the first byte on, within bounds. ``tests/couch/test_error_texts.py`` lets such nodes die
at each byte, ``tests/gateway/test_fault_schedules.py`` by any schedule.
"""

import random
from collections.abc import Iterator

import pytest
from attrs import evolve
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, composite

from tests.gateway.house import NODE_PORT, TOKEN, Answer, Client, House, logged, read_answer
from tests.gateway.test_healing import BREAKS, broken_after, healings, without_boundary
from tests.gateway.test_links import END, FILM, etag, house_at, signed
from tests.network import SEND_BUFFER
from tests.scripted import Asked, Mark, Script, Stored, answer, attachment_answer, error_text, without_range
from tests.strategies import byte_ranges
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.relay import Relay
from txcouchdl.couch.transfer import HELD_BACK

NOISE = random.Random(145).randbytes(400_000)
STORED = {"f": Stored(NOISE), "short": Stored(NOISE[:20_000]), "text": Stored.compressed(NOISE.hex().encode())}
ETAG = f'"{STORED["f"].etag}"'
TARGET = f"/db/doc/f?token={TOKEN}"
LAST = len(NOISE) - 1
LIMITS = UpstreamLimits()
#: Of which all but the short attachment has no ranges.
SMALL = UpstreamLimits(most_skipped=100_000)


def ignoring(
    nodes: int = 1, limits: UpstreamLimits = LIMITS, *, count: int | None = None, is_direct: bool = False
) -> House:
    """:param count: how many of the nodes ignore ranges; all by default."""
    house = House(dict(STORED), nodes=nodes, limits=limits, is_direct=is_direct)
    for node in house.nodes[:count]:
        node.ignores_ranges = True
    return house


def bodies(house: House) -> list[Asked]:
    """The requests for attachments."""
    return [asked for node in house.nodes for asked in node.asked if asked.path != "/db/doc"]


def pushed(house: House) -> int:
    """Bytes that nodes have sent, and the gateway has taken."""
    ports = range(NODE_PORT, NODE_PORT + len(house.nodes))
    return sum(far.delivered for _, far in house.network.connections if far.address.port in ports)


RANGES = {
    "the first byte": (0, 0),
    "from the first byte on": (0, 299_999),
    "an inner one": (100_000, 299_999),
    "a short inner one": (100_000, 100_009),
    "to the end": (100_000, LAST),
    "a short one to the end": (LAST - 9, LAST),
    "the last byte": (LAST, LAST),
    "all but the first byte": (1, LAST),
    "all but the last byte": (0, LAST - 1),
    "just without a margin": (100_000, LAST - HELD_BACK + 1),
    "just with a margin": (100_000, LAST - HELD_BACK),
    "a margin to the end": (0, LAST - HELD_BACK),
}


@pytest.mark.parametrize("is_direct", [False, True])
@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize(("first", "last"), RANGES.values(), ids=RANGES)
def test_a_range_is_cut_from_all_bytes(first: int, last: int, nodes: int, is_direct: bool) -> None:
    limits = evolve(LIMITS, short=0, worth_bypassing=2**12) if is_direct else LIMITS
    house = ignoring(nodes, limits, is_direct=is_direct)
    for _ in range(2):
        got = house.get("f", f"bytes={first}-{last}")
        assert (got.status, got.is_whole, got["Accept-Ranges"]) == (206, True, "bytes")
        assert got["Content-Range"] == f"bytes {first}-{last}/{len(NOISE)}"
        assert got.body == NOISE[first : last + 1]
        house.assert_at_rest()
    assert house.network.open_connections(NODE_PORT) <= 1


@pytest.mark.parametrize("range_", ["bytes=0-9", "bytes=10-19", "bytes=19990-", "bytes=-1", "bytes=0-18000"])
def test_a_short_attachment_is_read_whole_and_verified(range_: str) -> None:
    house = ignoring()
    expected = House(dict(STORED)).get("short", range_)
    for _ in range(3):
        got = house.get("short", range_)
        assert (got.status, got.body) == (206, expected.body)
    assert ["range" in asked.headers for asked in bodies(house)] == [True, False, False, False]
    assert house.idle_connections == 1
    house.assert_at_rest()


@pytest.mark.parametrize("range_", ["bytes=0-9,100000-100009", "bytes=300000-399999,0-99999", "bytes=5-9,-5"])
def test_several_ranges(range_: str) -> None:
    house = ignoring()
    expected = House(dict(STORED)).get("f", range_)
    for _ in range(2):
        got = house.get("f", range_)
        assert (got.status, got.is_whole) == (206, True)
        assert without_boundary(got) == without_boundary(expected)
    house.assert_at_rest()


def test_no_more_is_read_than_it_takes() -> None:
    """The connection ends as soon as the bytes behind the range prove its end."""
    house = ignoring()
    assert house.get("f", "bytes=5-9").status == 206
    before = pushed(house)
    assert house.get("f", "bytes=5-9").status == 206
    assert pushed(house) - before < HELD_BACK + SEND_BUFFER + 2**16
    house.assert_at_rest()


def test_the_end_needs_no_close_where_there_is_a_digest() -> None:
    """Of all bytes. Such a range is asked for on a connection that is to be closed, and the node may not do that."""
    house = ignoring()
    house.node.faults = lambda asked: (
        None if asked.path == "/db/doc" else [attachment_answer(STORED["f"], without_range(asked)), Mark.SILENCE]
    )
    client = house.send(TARGET, {"Range": "bytes=100000-"})
    house.network.run()
    assert read_answer(client.received, "GET", client.is_closed).body == NOISE[100_000:]
    house.assert_at_rest()


def test_what_is_stored_as_gzip_is_read_as_ever() -> None:
    house = ignoring(limits=SMALL)
    assert house.get("f", "bytes=5-9").status == 200
    got = house.get("text", "bytes=700000-700009")
    assert (got.status, got["Accept-Ranges"], got.body) == (206, "bytes", NOISE.hex().encode()[700_000:700_010])


def test_a_range_of_all_bytes_proves_nothing() -> None:
    """Some answer 200 to it, and rightly so. Here the margin behind the wanted bytes makes it one."""
    house = House(dict(STORED), limits=SMALL)
    house.node.faults = lambda asked: (
        [attachment_answer(STORED["f"], without_range(asked))]
        if asked.headers.get("range") == f"bytes=0-{LAST}"
        else None
    )
    got = house.get("f", f"bytes=0-{LAST - HELD_BACK}")
    assert (got.status, got.body) == (206, NOISE[:-HELD_BACK])
    assert not house.cluster.ranges.ignoring
    house.assert_at_rest()


# Where it is too much.


@pytest.mark.parametrize(
    "range_", ["bytes=5-9", "bytes=0-", "bytes=-9", "bytes=300000-", "bytes=0-1,5-9", "bytes=1000000-"]
)
@pytest.mark.parametrize("is_known", [False, True])
def test_a_long_attachment_has_no_ranges(range_: str, is_known: bool) -> None:
    """A 200 that says so is right (RFC 9110, section 14.2); a 206 here and a 200 there are not (CLIENTS, point 4)."""
    house = ignoring(limits=SMALL)
    if is_known:
        house.get("short", "bytes=5-9")
    for method in ("GET", "HEAD"):
        if not is_known and method == "GET" and range_ in ("bytes=0-", "bytes=1000000-"):
            # Of these a node is not asked for a range, and nothing is learned.
            assert house.get("f", range_).status == (206 if range_ == "bytes=0-" else 416)
            house.get("short", "bytes=5-9")
        got = house.ask(TARGET, {"Range": range_}, method)
        assert (got.status, got.is_whole, got["Accept-Ranges"]) == (200, True, "none")
        assert got["Content-Length"] == str(len(NOISE))
        assert "content-range" not in got.headers
        assert got.body == (NOISE if method == "GET" else b"")
    house.assert_at_rest()


def test_what_is_promised() -> None:
    """Until a range was ignored, nobody knows; then ranges of what is short, and none of what is long."""
    house = ignoring(limits=SMALL)
    assert house.ask(TARGET, method="HEAD")["Accept-Ranges"] == "bytes"
    house.get("short", "bytes=5-9")
    assert house.ask(TARGET, method="HEAD")["Accept-Ranges"] == "none"
    assert house.get("f")["Accept-Ranges"] == "none"
    assert house.get("short")["Accept-Ranges"] == "bytes"
    assert house.get("text")["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(("length", "status"), [(100_000, 206), (100_001, 200)])
def test_how_long_is_long(length: int, status: int) -> None:
    house = ignoring(limits=SMALL)
    house.doc.attachments["it"] = Stored(NOISE[:length])
    for _ in range(2):
        assert house.get("it", "bytes=5-9").status == status


def test_the_bound_is_what_the_documentation_says() -> None:
    assert LIMITS.most_skipped == 128 * 2**20, "as docs/reliability.rst, security.rst and protocol.rst say"


def test_many_ranges_take_one_pass_or_are_too_much() -> None:
    """Those that ascend come out of one read from the first byte on; others take one each."""
    house = House({"f": Stored(bytes(2**20))})
    house.node.ignores_ranges = True
    places = range(2**20 - 60, 2**20, 2)
    for _ in range(2):
        asked = len(bodies(house))
        assert house.get("f", "bytes=" + ",".join(f"{at}-{at}" for at in places)).status == 206
        assert len(bodies(house)) - asked <= 2
        got = house.get("f", "bytes=" + ",".join(f"{at}-{at}" for at in reversed(places)))
        assert (got.status, len(got.body)) == (200, 2**20)
    assert house.get("f", "bytes=9-9,5-5").status == 206
    house.assert_at_rest()


@pytest.mark.parametrize("is_known", [False, True])
def test_a_link_in_its_grace_gives_no_whole_attachment_for_later_bytes(is_known: bool) -> None:
    """Later bytes alone cannot be had. A client that names the ETag has begun, and gets all."""
    house = house_at(END + 1, limits=UpstreamLimits(most_skipped=100))
    house.node.ignores_ranges = True
    if is_known:
        assert house.get("film.mp4", "bytes=5-")["Accept-Ranges"] == "none"
    target = signed(FILM)
    assert house.ask(target, {"Range": "bytes=5-"}).status == 403
    got = house.ask(target, {"Range": "bytes=5-", "If-Range": etag(house)})
    assert (got.status, got["Accept-Ranges"]) == (200, "none")
    house.assert_at_rest()


# Which node is asked.


def test_a_node_that_serves_ranges_is_preferred() -> None:
    house = ignoring(2, count=1)
    for _ in range(12):
        got = house.get("f", "bytes=100000-100009")
        assert (got.status, got.body) == (206, NOISE[100_000:100_010])
    assert len(bodies(house)) <= 13
    assert len([asked for asked in house.node.asked if asked.path != "/db/doc"]) <= 1
    assert not house.cluster.ranges.is_lost
    assert house.ask(TARGET, method="HEAD")["Accept-Ranges"] == "bytes"
    house.assert_at_rest()


@pytest.mark.parametrize("limits", [LIMITS, SMALL])
@pytest.mark.parametrize("how", ["refused", "500"])
def test_where_no_other_can_be_it_is_asked_all_the_same(how: str, limits: UpstreamLimits) -> None:
    house = ignoring(2, limits, count=1)
    if how == "refused":
        house.network.listen(NODE_PORT + 1, None)
    else:
        house.nodes[1].faults = lambda _: [answer(500, b"{}")]
    for _ in range(6):
        got = house.get("f", "bytes=100000-")
        assert got.is_whole
        assert (got.status, got.body) == ((206, NOISE[100_000:]) if limits is LIMITS else (200, NOISE))
        house.network.pass_time(1)
    house.assert_at_rest()


def test_a_node_that_serves_ranges_again_is_noticed() -> None:
    house = ignoring(limits=SMALL)
    assert house.get("f", "bytes=5-9").status == 200
    house.node.ignores_ranges = False
    assert house.get("f", "bytes=5-9").status == 200
    with logged() as events:
        assert house.get("short", "bytes=5-9").status == 206
        house.network.pass_time(1)
    assert house.get("f", "bytes=5-9").status == 200, "what is short is read whole"
    house.network.pass_time(60)
    with logged() as events:
        assert house.get("f", "bytes=5-9").status == 206
    assert house.get("f")["Accept-Ranges"] == "bytes"
    assert [each for each in events if "serves ranges again" in str(each.get("log_format"))]
    house.assert_at_rest()


def test_a_node_that_goes_on_ignoring_them_is_asked_once_a_minute() -> None:
    house = ignoring(limits=SMALL)
    with logged() as events:
        for _ in range(12):
            assert house.get("f", "bytes=5-9").status == 200
            house.network.pass_time(15)
    assert len([asked for asked in bodies(house) if "range" in asked.headers]) == 3
    assert len([each for each in events if "ignores ranges" in str(each.get("log_format"))]) == 1


# What breaks.


def play(house: House, fields: dict[str, str], seconds: float = 200.0) -> Answer:
    client = house.send(TARGET, fields)
    house.network.run()
    house.network.pass_time(seconds)
    return read_answer(client.received, "GET", client.is_closed)


def first_bodies(scripts: Iterator[Script | None], house: House) -> None:
    """Let the nodes answer the first requests for bodies by scripts made for a whole body."""
    for node in house.nodes:
        node.faults = lambda asked: None if asked.path == "/db/doc" else next(scripts, None)


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("after", [0, 5000, 99_000, 100_100, 150_000, 299_000, 301_000, 303_000])
@pytest.mark.parametrize(("first", "last"), [(100_000, 299_999), (100_000, LAST), (0, 299_999)])
@pytest.mark.parametrize("how", BREAKS)
def test_it_goes_on_wherever_it_breaks(how: str, first: int, last: int, after: int, nodes: int) -> None:
    """In what is skipped, in what is wanted, or behind it."""
    house = ignoring(nodes, evolve(LIMITS, stall_timeout=5))
    house.get("short", "bytes=5-9")
    right = attachment_answer(STORED["f"], Asked("GET", "/", {}))
    breaks = broken_after(after, BREAKS[how])(Asked("GET", "/", {}), right)
    first_bodies(iter([breaks, breaks]), house)
    got = play(house, {"Range": f"bytes={first}-{last}"})
    assert (got.status, got.is_whole, got.body) == (206, True, NOISE[first : last + 1])
    house.assert_at_rest()


def test_a_whole_download_that_is_lost_goes_on_from_the_first_byte() -> None:
    """However long it is: its client has begun."""
    house = ignoring(limits=SMALL)
    right = attachment_answer(STORED["f"], Asked("GET", "/", {}))
    first_bodies(iter([broken_after(350_000, [Mark.CLOSE])(Asked("GET", "/", {}), right)]), house)
    with logged() as events:
        got = play(house, {})
    assert (got.status, got.is_whole, got.body) == (200, True, NOISE)
    assert len(healings(events)) == 1
    house.assert_at_rest()


def test_bytes_that_come_again_go_past_the_gateway_only_when_the_rest_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[Relay] = []
    begin = Relay.begin

    def noted(self: Relay) -> None:
        begun.append(self)
        begin(self)

    monkeypatch.setattr(Relay, "begin", noted)
    house = ignoring(limits=evolve(LIMITS, short=0, worth_bypassing=2**12), is_direct=True)
    right = attachment_answer(STORED["f"], Asked("GET", "/", {}))
    first_bodies(iter([broken_after(150_000, [Mark.CLOSE])(Asked("GET", "/", {}), right)]), house)
    got = play(house, {})
    assert (got.is_whole, got.body) == (True, NOISE)
    assert len(begun) == 2
    del begun[:]
    for first, last in RANGES.values():
        assert house.get("f", f"bytes={first}-{last}").body == NOISE[first : last + 1]
    assert not begun
    house.assert_at_rest()


@pytest.mark.parametrize("where", [5, 99_999, 100_000, 200_000, LAST - 9, LAST])
@pytest.mark.parametrize("is_known", [False, True])
def test_one_wrong_bit_before_a_range_to_the_end_breaks_it(where: int, is_known: bool) -> None:
    """All bytes of the attachment pass. So there is a digest, which a range from a node that serves it has not."""
    house = ignoring()
    if is_known:
        house.get("short", "bytes=5-9")
    wrong = bytearray(NOISE)
    wrong[where] ^= 1
    damaged = answer(200, bytes(wrong), {"ETag": ETAG})
    house.node.faults = lambda asked: None if asked.path == "/db/doc" else [damaged]
    got = play(house, {"Range": "bytes=100000-"})
    assert (got.status, got.is_whole) == (206, False)
    assert len(got.body) < LAST + 1 - 100_000
    house.assert_at_rest()


def test_a_damaged_end_is_read_again() -> None:
    """Such as one in which an error text stands; also of a tail that could be one by itself."""
    recording = NOISE[:300_000] + error_text(400) + b"\n" * 80
    house = House({"f": Stored(recording)})
    house.node.ignores_ranges = True
    house.get("f", "bytes=5-9")
    filled = answer(200, recording[:-450] + error_text(450), {"ETag": f'"{Stored(recording).etag}"'})
    first_bodies(iter([[filled]]), house)
    asked = len(bodies(house))
    got = play(house, {"Range": "bytes=100000-"})
    assert (got.is_whole, got.body) == (True, recording[100_000:])
    assert len(bodies(house)) - asked == 2
    house.assert_at_rest()


@pytest.mark.parametrize("first_ignores", [False, True])
def test_one_node_goes_on_where_another_was(first_ignores: bool) -> None:
    """One of them serves ranges, and one does not."""
    house = ignoring(2)
    house.nodes[first_ignores].ignores_ranges = False
    house.network.listen(NODE_PORT + 1, None)
    client = house.send(TARGET, {"Range": "bytes=100000-"})
    house.network.run(until=lambda: len(client.received) > 100_000)
    house.network.listen(NODE_PORT, None)
    house.network.listen(NODE_PORT + 1, house.nodes[1])
    for _, far in house.network.connections:
        if far.address.port == NODE_PORT and far.is_connected:
            far.abortConnection()
    house.network.run()
    house.network.pass_time(100)
    got = read_answer(client.received, "GET", client.is_closed)
    assert (got.status, got.is_whole, got.body) == (206, True, NOISE[100_000:])
    house.assert_at_rest()


@pytest.mark.parametrize("is_direct", [False, True])
@pytest.mark.parametrize("where", [5, 120_000])
def test_what_one_node_damaged_another_does_not_complete(where: int, is_direct: bool) -> None:
    """All bytes have passed, from two nodes: the digest shows it."""
    house = ignoring(2, evolve(LIMITS, short=0, worth_bypassing=2**12), count=1, is_direct=is_direct)
    house.network.listen(NODE_PORT + 1, None)
    wrong = bytearray(NOISE)
    wrong[where] ^= 1
    damaged = answer(200, bytes(wrong), {"ETag": ETAG})
    cut: Script = [damaged[:260_000], Mark.CLOSE]
    house.node.faults = lambda asked: None if asked.path == "/db/doc" else cut
    client = house.send(TARGET, {"Range": "bytes=100000-"})
    house.network.run(until=lambda: len(client.received) > 50_000)
    house.network.listen(NODE_PORT, None)
    house.network.listen(NODE_PORT + 1, house.nodes[1])
    house.network.run()
    house.network.pass_time(200)
    got = read_answer(client.received, "GET", client.is_closed)
    assert (got.status, got.is_whole) == (206, False)
    assert [asked for asked in house.nodes[1].asked if "range" in asked.headers]
    house.assert_at_rest()


def test_a_client_that_pauses_while_known_bytes_come_again() -> None:
    """None of them goes past the gateway."""
    house = ignoring(limits=evolve(LIMITS, short=0, worth_bypassing=2**12), is_direct=True)
    right = attachment_answer(STORED["f"], Asked("GET", "/", {}))
    scripts: list[Script] = [[right[:300_000], Mark.CLOSE], [right[:50_000], Mark.SILENCE]]
    again = iter(scripts)
    house.node.faults = lambda asked: None if asked.path == "/db/doc" else next(again, None)
    client = house.send(TARGET)
    house.network.run()
    for _ in range(3):
        client.transport.is_paused = True
        house.network.run()
        client.transport.is_paused = False
        house.network.run()
        [request] = client.transport.peer.protocol.requests
        request.producer.pauseProducing()
        request.producer.resumeProducing()
        house.network.run()
    house.network.pass_time(LIMITS.stall_timeout + 5)
    got = read_answer(client.received, "GET", client.is_closed)
    assert (got.is_whole, got.body) == (True, NOISE)
    house.assert_at_rest()


# What a client's pauses cost.


def paused(house: House, fields: dict[str, str], received: int) -> Client:
    client = house.send(TARGET, fields)
    house.network.run(until=lambda: len(client.received) > received)
    client.transport.is_paused = True
    house.network.run()
    return client


@pytest.mark.parametrize("is_direct", [False, True])
@pytest.mark.parametrize("fields", [{}, {"Range": "bytes=1000-"}])
@pytest.mark.parametrize("most_skipped", [399_999, 90_000])
def test_a_transfer_that_is_dear_to_begin_anew_is_not_parked(
    most_skipped: int, fields: dict[str, str], is_direct: bool
) -> None:
    limits = evolve(LIMITS, most_skipped=most_skipped, short=0, worth_bypassing=2**12)
    house = ignoring(limits=limits, is_direct=is_direct)
    house.get("f", "bytes=5-9")
    client = paused(house, fields, 100_000)
    house.network.pass_time(LIMITS.park_after + 1)
    asked = len(bodies(house))
    held = sum(member.busy for member in house.cluster._members)
    assert held == (most_skipped == 90_000)
    client.transport.is_paused = False
    house.network.run()
    got = read_answer(client.received, "GET", client.is_closed)
    assert (got.is_whole, len(bodies(house)) - asked) == (True, 0 if held else 1)
    assert NOISE.endswith(got.body)
    house.assert_at_rest()


def test_it_gives_way_to_a_request_that_waits_for_its_place() -> None:
    house = ignoring(limits=evolve(LIMITS, most_skipped=50_000, max_upstream=1))
    house.get("f", "bytes=5-9")
    client = paused(house, {}, 100_000)
    house.network.pass_time(LIMITS.park_after + 1)
    other = house.send(f"/db/doc/short?token={TOKEN}")
    house.network.pass_time(1)
    assert read_answer(other.received, "GET", other.is_closed).body == NOISE[:20_000]
    client.transport.is_paused = False
    house.network.run()
    assert read_answer(client.received, "GET", client.is_closed).body == NOISE
    house.assert_at_rest()


# Whatever is asked.

_LENGTHS = [1, 2, HELD_BACK, HELD_BACK + 1, 2 * HELD_BACK, 20_000, 70_000, 140_000]


@composite
def _questions(draw: DrawFn) -> tuple[int, list[tuple[int, int]]]:
    """The length of an attachment, and ranges of it, some of which end where a margin does."""
    length = draw(st.sampled_from(_LENGTHS) | st.integers(1, 150_000))
    ranges = [(each.first, each.last) for each in draw(st.lists(byte_ranges(length), min_size=1, max_size=3))]
    last = draw(st.sampled_from([length - 1, length - HELD_BACK, length - HELD_BACK - 1, length - HELD_BACK + 1]))
    if draw(st.booleans()) and 0 <= last < length:
        ranges[-1] = (draw(st.integers(0, last)), last)
    return length, ranges


@given(
    question=_questions(),
    nodes=st.integers(1, 2),
    count=st.integers(1, 2),
    short=st.sampled_from([0, 30_000, 2**17]),
    most_skipped=st.sampled_from([0, 30_000, 2**20]),
    is_direct=st.booleans(),
)
@example((10_000, [(0, 10_000 - HELD_BACK - 1)]), 1, 1, 0, 2**20, False)
@example((HELD_BACK, [(0, 0), (HELD_BACK - 1, HELD_BACK - 1)]), 1, 1, 0, 2**20, False)
def test_any_ranges(
    question: tuple[int, list[tuple[int, int]]], nodes: int, count: int, short: int, most_skipped: int, is_direct: bool
) -> None:
    """As Python slices them, or all bytes."""
    length, ranges = question
    limits = evolve(LIMITS, short=short, most_skipped=most_skipped, worth_bypassing=2**12)
    house, content = ignoring(nodes, limits, count=count, is_direct=is_direct), NOISE[:length]
    house.doc.attachments["it"] = Stored(content)
    serving = House({"it": Stored(content)})
    field = "bytes=" + ",".join(f"{first}-{last}" for first, last in ranges)
    for _ in range(2):
        got, expected = house.get("it", field), serving.get("it", field)
        assert got.is_whole
        if got.status == 200:
            assert got.body == content
            assert got["Accept-Ranges"] == (
                "none" if length > most_skipped and house.cluster.ranges.is_lost else "bytes"
            )
        else:
            assert (got.status, got["Accept-Ranges"]) == (206, "bytes")
            assert without_boundary(got) == without_boundary(expected)
            if len(ranges) == 1:
                [(first, last)] = ranges
                assert got.body == content[first : last + 1]
    house.assert_at_rest()


# A silent node, and a second one beside it.


def silent_after(house: House, count: int) -> Iterator[None]:
    """Let the first body of whichever node be silent after so many bytes."""
    left = iter([None])
    for node in house.nodes:

        def faults(asked: Asked, ignores: bool = node.ignores_ranges) -> Script | None:
            if asked.path == "/db/doc" or next(left, count) is not None:
                return None
            right = attachment_answer(STORED["f"], without_range(asked) if ignores else asked)
            return [right[:count], Mark.SILENCE]

        node.faults = faults
    return left


@pytest.mark.parametrize("is_direct", [False, True])
@pytest.mark.parametrize("after", [50_000, 150_000, 250_000, 390_000])
@pytest.mark.parametrize(("first", "last"), [(100_000, 299_999), (100_000, LAST), (0, LAST)])
def test_a_silent_node_and_a_second_one_that_both_ignore_ranges(
    first: int, last: int, after: int, is_direct: bool
) -> None:
    """All bytes are asked for there as well, and those that are known are dropped."""
    house = ignoring(2, evolve(LIMITS, short=0, worth_bypassing=2**12), is_direct=is_direct)
    for _ in range(2):
        house.get("short", "bytes=5-9")
    silent_after(house, after)
    client = house.send(TARGET, {"Range": f"bytes={first}-{last}"})
    house.network.run()
    house.network.pass_time(LIMITS.hedge_after + 1)
    got = read_answer(client.received, "GET", client.is_closed)
    assert (got.status, got.is_whole, got.body) == (206, True, NOISE[first : last + 1])
    house.network.pass_time(LIMITS.stall_timeout)
    house.assert_at_rest()


@pytest.mark.parametrize("after", [5000, 50_000, 150_000])
@pytest.mark.parametrize("range_", ["bytes=100000-299999", "bytes=100000-", "bytes=100000-100009"])
def test_a_silent_node_and_a_second_one_that_ignores_ranges(range_: str, after: int) -> None:
    """Its bytes are others than those that are missing. They are not taken for them."""
    house = ignoring(2, evolve(LIMITS, stall_timeout=6), count=0)
    expected = house.get("f", range_).body
    for silent, other in ((0, 1), (1, 0)):
        house.nodes[silent].ignores_ranges, house.nodes[other].ignores_ranges = False, True
        house.nodes[other].faults = lambda _: None
        scripts = iter([after])

        def faults(asked: Asked, scripts: Iterator[int] = scripts) -> Script | None:
            count = None if asked.path == "/db/doc" else next(scripts, None)
            return None if count is None else [attachment_answer(STORED["f"], asked)[:count], Mark.SILENCE]

        house.nodes[silent].faults = faults
        client = house.send(TARGET, {"Range": range_})
        house.network.run()
        house.network.pass_time(60)
        got = read_answer(client.received, "GET", client.is_closed)
        assert (got.status, got.is_whole, got.body) == (206, True, expected)
        house.assert_at_rest()
