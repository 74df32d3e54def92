"""
A thousand ranges in one request: the bytes, the exchanges with CouchDB, and what it costs.

The oracle of bytes is a slice; that of a multipart body of text is the standard library's parser of mail, which changes
line ends. Work is measured by counted calls, not by time.
"""

import random
import re
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import pairwise
from types import FrameType
from typing import Any, Final

import pytest
from attrs import evolve
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, composite

from tests.gateway.house import DEFAULTS, TOKEN, Answer, Client, House, read_answer
from tests.gateway.test_requests import parts_of
from tests.network import READ_SIZE, SEND_BUFFER
from tests.scripted import Asked, Mark, Script, Stored, attachment_answer, error_text
from txcouchdl.couch.runs import MOST_GAP
from txcouchdl.couch.transfer import HELD_BACK

NOISE: Final = random.Random(14).randbytes(8 * 2**20)
#: Long enough to be read alone.
LONG: Final = DEFAULTS.worth_bypassing
STORED: Final = {"identity": Stored(NOISE), "compressed": Stored.compressed(NOISE[: 2**20].hex().encode())}
IDENTITY: Final = {"identity": NOISE, "compressed": NOISE[: 2**20].hex().encode()}

_PART_HEAD: Final = re.compile(rb"\r\nContent-Type: [\w/-]+\r\nContent-Range: (bytes (\d+)-(\d+)/\d+)")

Ranges = Sequence[tuple[int, int]]


def field_of(ranges: Ranges) -> str:
    return "bytes=" + ",".join(f"{first}-{last}" for first, last in ranges)


def assert_parts(got: Answer, whole: bytes, ranges: Ranges) -> None:
    """Each range, in the order of the request, with the right Content-Range."""
    assert (got.status, got.is_whole) == (206, True)
    assert len(got.body) == int(got["Content-Length"])
    expected = [(f"bytes {first}-{last}/{len(whole)}", whole[first : last + 1]) for first, last in ranges]
    assert _cut(got) == expected
    if whole.isascii():
        assert parts_of(got) == expected


def _cut(got: Answer) -> list[tuple[str, bytes]]:
    """The Content-Range and the bytes of each part, whose length is that of its Content-Range."""
    delimiter = b"\r\n--" + got["Content-Type"].partition("boundary=")[2].encode()
    rest, parts = got.body, list[tuple[str, bytes]]()
    while rest != delimiter + b"--\r\n":
        head, _, rest = rest.partition(b"\r\n\r\n")
        described = _PART_HEAD.fullmatch(head.removeprefix(delimiter))
        assert described, head
        content_range, first, last = described.groups()
        length = int(last) - int(first) + 1
        parts.append((content_range.decode(), rest[:length]))
        rest = rest[length:]
    return parts


def reads(house: House) -> list[Asked]:
    return [asked for node in house.nodes for asked in node.asked if asked.path != "/db/doc"]


def spans(house: House) -> list[tuple[int, int]]:
    """First and last bytes that a node was asked for."""
    fields = [asked.headers["range"].removeprefix("bytes=").split("-") for asked in reads(house)]
    return [(int(first), int(last)) for first, last in fields]


# --- how often CouchDB is asked -----------------------------------------------------------------------------


def _baskets() -> Ranges:
    """304 ranges as a reader of columns asks for: in 4 places far apart, and near each other there."""
    return [(at + 5000 * each, at + 5000 * each + 999) for at in range(0, 8 * 2**20, 2**21) for each in range(76)]


@pytest.mark.parametrize("is_direct", [False, True])
def test_304_ranges_in_4_places_are_4_reads(is_direct: bool) -> None:
    """As many as nginx needs requests. A limit of 100 ranges made it 304."""
    house = House(dict(STORED), is_direct=is_direct)
    assert_parts(house.get("identity", field_of(_baskets())), NOISE, _baskets())
    assert len(reads(house)) == 4
    house.assert_at_rest()


@pytest.mark.parametrize(
    ("distance", "count"), [(2, 1), (MOST_GAP // 8, 1), (8000, 1)], ids=["every other byte", "8 KiB", "8000"]
)
def test_a_thousand_near_ranges_are_one_read(distance: int, count: int) -> None:
    ranges = [(distance * each, distance * each) for each in range(1000)]
    house = House(dict(STORED))
    assert_parts(house.get("identity", field_of(ranges)), NOISE, ranges)
    assert len(reads(house)) == count
    house.assert_at_rest()


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("count", [1000, 1001])
def test_a_set_may_be_so_large_and_no_larger(count: int, name: str) -> None:
    whole = IDENTITY[name]
    ranges = [(2000 * each, 2000 * each + 9) for each in range(count)]
    got = House(dict(STORED)).get(name, field_of(ranges))
    if count == 1000:
        assert_parts(got, whole, ranges)
    else:
        assert (got.status, got.body == whole) == (200, True)


@pytest.mark.parametrize("gap", [MOST_GAP, MOST_GAP + 1])
def test_how_wide_a_gap_is_read(gap: int) -> None:
    ranges = [(100, 199), (200 + gap, 299 + gap)]
    house = House(dict(STORED))
    assert_parts(house.get("identity", field_of(ranges)), NOISE, ranges)
    assert spans(house) == (
        [(100, 299 + gap + HELD_BACK)]
        if gap == MOST_GAP
        else [(100, 199 + HELD_BACK), (200 + gap, 299 + gap + HELD_BACK)]
    )


def test_a_descending_order_is_read_in_its_order() -> None:
    ranges = [(1000 * each, 1000 * each + 9) for each in reversed(range(50))]
    house = House(dict(STORED))
    assert_parts(house.get("identity", field_of(ranges)), NOISE, ranges)
    assert [first for first, _ in spans(house)] == [first for first, _ in ranges]
    house.assert_at_rest()


@pytest.mark.parametrize("length", [LONG - 1, LONG])
def test_long_ranges_are_read_alone_and_go_past_the_gateway(length: int) -> None:
    ranges = [(0, 9), (20, 19 + length), (30 + length, 39 + length)]
    house = House(dict(STORED), is_direct=True)
    assert_parts(house.get("identity", field_of(ranges)), NOISE, ranges)
    assert len(reads(house)) == (1 if length < LONG else 3)
    house.assert_at_rest()


def test_ranges_from_the_first_byte_to_the_last_one_are_verified() -> None:
    """With what is between them, all bytes pass: the digest tells of a wrong one."""
    stored = Stored(NOISE[:50_000])

    def spoil(asked: Asked) -> Script | None:
        if asked.path == "/db/doc":
            return None
        right = attachment_answer(stored, asked)
        return [right[:-30_000] + bytes(30_000)]

    house = House({"f": stored}, limits=evolve(DEFAULTS, short=0))
    assert_parts(house.get("f", "bytes=0-9,49990-"), NOISE[:50_000], [(0, 9), (49_990, 49_999)])
    assert "range" not in reads(house)[0].headers
    house.node.faults = spoil
    client = house.send(f"/db/doc/f?token={TOKEN}", {"Range": "bytes=0-9,49990-"})
    house.network.elapse(200)
    assert not read_answer(client.received, "GET", client.is_closed).is_whole
    house.assert_at_rest()


def test_few_bytes_are_had_in_one_piece() -> None:
    """As those of one short range: a failure is a clean answer then."""
    house = House(dict(STORED))
    failures = iter([(b"HTTP/1.1 206 ", Mark.CLOSE)] * 9)
    house.node.faults = lambda asked: None if asked.path == "/db/doc" else next(failures)
    got = house.get("identity", "bytes=0-9,20-29")
    assert (got.status, got.is_whole) == (503, True)


# --- any set ------------------------------------------------------------------------------------------------


@composite
def _sets(draw: DrawFn, whole: bytes) -> list[tuple[int, int]]:
    """Ranges that neither overlap nor touch, in any order, with gaps around the widest one that is read."""
    gaps = st.sampled_from([1, 2, HELD_BACK, MOST_GAP - 1, MOST_GAP, MOST_GAP + 1]) | st.integers(1, 2 * MOST_GAP)
    lengths = st.integers(1, 30_000) | st.sampled_from([1, LONG - 1, LONG, LONG + 1])
    position, ranges = draw(st.integers(0, 10_000)), list[tuple[int, int]]()
    for gap, length in draw(st.lists(st.tuples(gaps, lengths), min_size=2, max_size=20)):
        if position + length > len(whole):
            break
        ranges.append((position, position + length - 1))
        position += length + gap
    is_to_the_end: bool = draw(st.booleans())
    if ranges and is_to_the_end:
        ranges[-1] = (ranges[-1][0], len(whole) - 1)
    return draw(st.just(ranges) | st.permutations(ranges))


def _runs(ranges: Ranges) -> int:
    """How many reads of stored bytes there are to be."""
    breaks = 0
    for (first, last), (next_first, next_last) in pairwise(ranges):
        is_near = last < next_first <= last + 1 + MOST_GAP
        breaks += not is_near or max(last - first, next_last - next_first) + 1 >= LONG
    return 1 + breaks


@given(st.data(), st.sampled_from(sorted(STORED)), st.booleans(), st.sampled_from([0, 2**17]))
def test_any_set_of_ranges(data: st.DataObject, name: str, is_direct: bool, short: int) -> None:
    whole = IDENTITY[name]
    ranges = data.draw(_sets(whole))
    assume(len(ranges) > 1 and sum(last + 1 - first for first, last in ranges) <= len(whole))
    house = House(dict(STORED), is_direct=is_direct, limits=evolve(DEFAULTS, short=short))
    got = house.get(name, field_of(ranges))
    if name == "compressed" and got.status == 200:
        # It would have taken too many passes.
        assert got.body == whole
        return
    assert_parts(got, whole, ranges)
    if name == "identity":
        assert len(reads(house)) == _runs(ranges)
        read = sum(min(last, len(whole) - 1) + 1 - first for first, last in spans(house))
        wanted = sum(last + 1 - first for first, last in ranges)
        assert read <= wanted + (len(ranges) - 1) * MOST_GAP + len(reads(house)) * HELD_BACK
    house.assert_at_rest()


# --- what goes wrong in a read of several -------------------------------------------------------------------

#: Near ones, over 200 KB of them in one read, with something after them.
_NEAR: Final = [(1000 + 20_000 * each, 1000 + 20_000 * each + 8000) for each in range(12)]


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize(
    "at", [0, 1, 999, 8000, 8001, 8002, 19_999, 20_000, 100_000, 200_000, 228_001, 228_001 + HELD_BACK - 1]
)
def test_a_lost_read_goes_on_within_a_range_and_between_two(at: int, name: str) -> None:
    house = House(dict(STORED), nodes=2, limits=evolve(DEFAULTS, short=0))
    # Of gzip so few bytes are collected before anything is sent: then the third attempt is the last one.
    losses = iter([at, 50_000, 3000] if name == "identity" else [at, 50_000])

    def lose(asked: Asked) -> Script | None:
        count = None if asked.path == "/db/doc" else next(losses, None)
        if count is None:
            return None
        head, _, body = attachment_answer(STORED[name], asked).partition(b"\r\n\r\n")
        return [head + b"\r\n\r\n" + body[:count] + error_text(400), Mark.CLOSE]

    for node in house.nodes:
        node.faults = lose
    client = house.send(f"/db/doc/{name}?token={TOKEN}", {"Range": field_of(_NEAR)})
    house.network.elapse(10)
    assert_parts(read_answer(client.received, "GET", client.is_closed), IDENTITY[name], _NEAR)
    house.assert_at_rest()


def test_a_lost_read_is_asked_for_from_where_it_was() -> None:
    house = House(dict(STORED), limits=evolve(DEFAULTS, short=0))
    scripts: list[Callable[[Asked], Script]] = [
        lambda asked: [attachment_answer(STORED["identity"], asked)[:150_000], Mark.RESET]
    ]
    house.node.faults = lambda asked: scripts.pop()(asked) if asked.path != "/db/doc" and scripts else None
    client = house.send(f"/db/doc/identity?token={TOKEN}", {"Range": field_of(_NEAR)})
    house.network.elapse(10)
    assert_parts(read_answer(client.received, "GET", client.is_closed), NOISE, _NEAR)
    (first, last), (again, still_last) = spans(house)
    assert last == still_last
    assert first + 150_000 - 2 * HELD_BACK < again < first + 150_000
    house.assert_at_rest()


# --- what it costs ------------------------------------------------------------------------------------------


def _slow(house: House, ranges: Ranges, name: str = "identity") -> Client:
    client = house.send(f"/db/doc/{name}?token={TOKEN}", {"Range": field_of(ranges)})
    client.transport.is_paused = True
    return client


@pytest.mark.parametrize("name", STORED)
def test_a_client_that_does_not_read_takes_little_memory(name: str) -> None:
    ranges = [(2000 * each, 2000 * each + 1900) for each in range(1000)]
    house = House(dict(STORED))
    client = _slow(house, ranges, name)
    tracemalloc.start()
    try:
        house.network.run()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The node's answer lies in the memory of this process too, and is copied as it is sent.
    assert peak < 2 * len(STORED[name].stored[: ranges[-1][1]]) + 2**20
    door = next(far for near, far in house.network.connections if near is client.transport)
    assert len(door.sent) <= SEND_BUFFER + 2 * READ_SIZE
    client.transport.is_paused = False
    house.network.run()
    assert_parts(read_answer(client.received, "GET", client.is_closed), IDENTITY[name], ranges)
    house.assert_at_rest()


def _calls(function: Callable[[], object]) -> int:
    """How many functions, Python's and C's, are called by ``function``."""
    count = 0

    def profile(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("distance", [20, MOST_GAP // 10], ids=["in one piece", "in many"])
@pytest.mark.parametrize("name", STORED)
def test_the_work_grows_with_the_ranges_and_no_faster(name: str, distance: int) -> None:
    def ask(count: int) -> Callable[[], object]:
        ranges = [(distance * each, distance * each + 9) for each in range(count)]
        house = House({name: Stored(NOISE) if name == "identity" else STORED[name]})
        house.get(name, "bytes=0-0")
        return lambda: house.get(name, field_of([each for each in ranges if each[1] < len(IDENTITY[name])]))

    few, more, most = (_calls(ask(count)) for count in (300, 600, 900))
    assert most - more <= 1.2 * (more - few) + 1000


# --- the head -----------------------------------------------------------------------------------------------


def _head(length: int) -> bytes:
    """A request whose request line and header lines have so many bytes, its Range field nearly all of them."""
    begin = f"GET /db/doc/identity?token={TOKEN} HTTP/1.1\r\nHost: h\r\nRange: bytes=0-0"
    return (begin + "," * (length - len(begin.replace("\r\n", ""))) + "\r\n\r\n").encode()


@pytest.mark.parametrize(("length", "status"), [(2**13, 206), (2**14 + 1, 206), (2**15, 206), (2**15 + 1, 431)])
@pytest.mark.parametrize("piece", [2**20, 1000])
def test_a_head_may_have_32_kib_and_no_more(length: int, status: int, piece: int) -> None:
    house = House(dict(STORED))
    client = house.connect()
    head = _head(length)
    for at in range(0, len(head), piece):
        client.transport.write(head[at : at + piece])
        house.network.run()
    assert read_answer(client.received, "GET", client.is_closed).status == status
    house.assert_at_rest()


def test_long_positions_of_a_thousand_ranges_fit() -> None:
    """In an attachment of a terabyte."""
    field = field_of([(10**12 + each * 10**6, 10**12 + each * 10**6 + 10**5) for each in range(1000)])
    assert len(field) < 2**15 - 2000
    # Past the end of this one: all of them were read, and none can be satisfied.
    assert House(dict(STORED)).get("identity", field).status == 416
