"""
What happens behind a response that has begun, and what its client sees of it: nothing, or a break.

Each node here breaks once, or for a while; ``tests/gateway/test_upstream_faults.py`` has those that never recover.
"""

import gzip
import random
from collections.abc import Callable, Iterator

import attrs
import pytest
from twisted.logger import LogEvent, formatEvent

from tests.gateway.house import NODE_PORT, TOKEN, Answer, Client, House, logged, read_answer
from tests.scripted import DYING_WORDS, Asked, Doc, Mark, Script, Stored, answer, attachment_answer, error_text
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.transfer import HELD_BACK

LIMITS = UpstreamLimits()
#: For nodes that stall more than once.
QUICK = UpstreamLimits(stall_timeout=5)

NOISE = random.Random(6).randbytes(1_000_000)
TEXT = b"".join(b"%d %s\n" % (number, random.Random(number).randbytes(9).hex().encode()) for number in range(40_000))
STORED = {
    "identity": Stored(NOISE),
    "compressed": Stored.compressed(TEXT),
    "encoded": Stored.encoded(gzip.compress(TEXT)),
}
SHORT_ETAG = f'"{Stored(b"short").etag}"'
IDENTITY = {"identity": NOISE, "compressed": TEXT, "encoded": TEXT}

#: How a body breaks: what comes instead of the rest of it.
BREAKS: dict[str, Script] = {
    "closed": [Mark.CLOSE],
    "reset": [Mark.RESET],
    "an error message": [DYING_WORDS, Mark.CLOSE],
    "an error message, and no end": [DYING_WORDS, Mark.SILENCE],
    "a stall": [Mark.SILENCE],
}


def first_times(scripts: Iterator[Callable[[Asked, bytes], Script]]) -> Callable[[Asked], Script | None]:
    """A node that answers the first requests for attachments by scripts, made of what it should have answered."""

    def faults(asked: Asked) -> Script | None:
        name = asked.path.rpartition("/")[2]
        if asked.path == "/db/doc" or name not in STORED:
            return None
        script = next(scripts, None)
        return None if script is None else script(asked, attachment_answer(STORED[name], asked))

    return faults


def broken_after(count: int, rest: Script) -> Callable[[Asked, bytes], Script]:
    """:param count: bytes of the body that are right."""

    def script(_: Asked, right: bytes) -> Script:
        head, end, body = right.partition(b"\r\n\r\n")
        return [head + end + body[:count], *rest]

    return script


def instead(said: bytes, *marks: Mark) -> Callable[[Asked, bytes], Script]:
    return lambda *_: [said, *marks]


def download(house: House, name: str, seconds: float = 200.0, **headers: str) -> Answer:
    """Ask, and wait for as long as it takes."""
    client = house.send(f"/db/doc/{name}?token={TOKEN}", headers)
    return finish(house, client, seconds)


def finish(house: House, client: Client, seconds: float = 200.0) -> Answer:
    house.network.run()
    house.network.pass_time(seconds)
    return read_answer(client.received, "GET", client.is_closed)


def healings(events: list[LogEvent]) -> list[str]:
    return [text for event in events if (text := formatEvent(event)).startswith("healed ")]


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("name", IDENTITY)
@pytest.mark.parametrize("how", BREAKS)
def test_a_lost_body_goes_on(how: str, name: str, nodes: int) -> None:
    house = House(dict(STORED), nodes=nodes, limits=QUICK)
    scripts = iter([broken_after(200_000, BREAKS[how]), broken_after(90_000, BREAKS[how])])
    for node in house.nodes:
        node.faults = first_times(scripts)
    with logged() as events:
        got = download(house, name)
    assert (got.status, got.is_whole) == (200, True)
    assert got.body == IDENTITY[name]
    assert len(healings(events)) == 2
    house.assert_at_rest()


@pytest.mark.parametrize("name", ["identity", "compressed"])
@pytest.mark.parametrize("range_", [(5, 700_000), (300_000, 899_999), (0, 2500)])
@pytest.mark.parametrize("how", BREAKS)
def test_a_lost_range_goes_on(how: str, name: str, range_: tuple[int, int]) -> None:
    house = House(dict(STORED), nodes=2, limits=QUICK)
    first, last = range_
    scripts = iter([broken_after(150_000, BREAKS[how]), broken_after(3000, BREAKS[how])])
    for node in house.nodes:
        node.faults = first_times(scripts)
    got = download(house, name, Range=f"bytes={first}-{last}")
    assert (got.status, got.is_whole) == (206, True)
    assert got.body == IDENTITY[name][first : last + 1]
    house.assert_at_rest()


def without_boundary(got: Answer) -> bytes:
    return got.body.replace(got["Content-Type"].partition("boundary=")[2].strip('"').encode(), b"")


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("name", ["identity", "compressed"])
def test_every_part_of_several_ranges_goes_on(name: str, how: str) -> None:
    whole = House(dict(STORED))
    ranges = "bytes=0-99999,200000-299999,900000-949999"
    house = House(dict(STORED), nodes=2, limits=QUICK)
    scripts = iter([broken_after(count, BREAKS[how]) for count in (60_000, 10_000, 5000, 50_000, 500, 1)])
    for node in house.nodes:
        node.faults = first_times(scripts)
    got = download(house, name, Range=ranges)
    assert (got.status, got.is_whole) == (206, True)
    assert without_boundary(got) == without_boundary(download(whole, name, Range=ranges))
    house.assert_at_rest()


_LAST = len(NOISE) - 1
#: Ranges that end in the attachment's last bytes, and others.
_RANGES = [None, (1000, _LAST), (1000, 500_000), (_LAST - 599, _LAST), (_LAST - 19, _LAST), (_LAST, _LAST)]
_RANGES += [(1000, _LAST - HELD_BACK), (1000, _LAST - HELD_BACK + 1), (1000, _LAST - 1)]


#: Lengths of error texts, and of the beginnings of one whose connection was cut.
_LENGTHS = [1, 6, 7, 376, 382, 450, 2047, 2048, 2049, HELD_BACK - 1, HELD_BACK]
#: Two nodes may die in a row. That both connections are cut behind the same byte is left out: see couch/tail_proof.py.
_TWICE = [
    (range_, length, 2)
    for range_ in _RANGES
    for length in _LENGTHS
    if len(DYING_WORDS) <= length <= (len(NOISE) if range_ is None else range_[1] - range_[0] + 1)
]


@pytest.mark.parametrize(
    ("range_", "length", "times"), [*((range_, length, 1) for range_ in _RANGES for length in _LENGTHS), *_TWICE]
)
def test_an_error_text_that_fills_the_body_to_its_length_is_read_again(
    range_: tuple[int, int] | None, length: int, times: int
) -> None:
    """The digest tells of whole bodies, the margin of inner ranges, a second read of others."""
    first, last = range_ or (0, _LAST)
    house = House(dict(STORED), nodes=2)

    def fill(_: Asked, right: bytes) -> Script:
        text = error_text(length)[: len(right.partition(b"\r\n\r\n")[2])]
        return [right[: len(right) - len(text)] + text, Mark.CLOSE]

    fills = iter([fill] * times)
    for node in house.nodes:
        node.faults = first_times(fills)
    fields = {} if range_ is None else {"Range": f"bytes={first}-{last}"}
    got = download(house, "identity", 200, **fields)
    # A digest that is wrong twice may be that of a damaged attachment.
    is_damaged = range_ is None and times == 2
    assert got.is_whole is not is_damaged
    assert got.body == (NOISE[:-HELD_BACK] if is_damaged else NOISE[first : last + 1])
    house.assert_at_rest()


@pytest.mark.parametrize("missing", [0, 1, 100, len(DYING_WORDS), HELD_BACK])
@pytest.mark.parametrize("range_", [None, (1000, _LAST), (1000, 500_000)])
def test_an_error_text_that_is_longer_than_what_is_missing(missing: int, range_: tuple[int, int] | None) -> None:
    house = House(dict(STORED))

    def fill(_: Asked, right: bytes) -> Script:
        return [right[: len(right) - missing] + error_text(missing + 300), Mark.CLOSE]

    house.node.faults = first_times(iter([fill]))
    first, last = range_ or (0, _LAST)
    fields = {} if range_ is None else {"Range": f"bytes={first}-{last}"}
    got = download(house, "identity", 200, **fields)
    assert (got.is_whole, got.body) == (True, NOISE[first : last + 1])
    house.assert_at_rest()


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("is_committed", [False, True])
def test_content_that_looks_like_an_error_text_is_read_twice(is_committed: bool, nodes: int) -> None:
    """Such as a recording of HTTP. The same bytes come again, so they are the attachment's."""
    recording = NOISE[: 300_000 if is_committed else 3000] + error_text(400) + b"\n" * 80
    house = House({"f": Stored(recording)}, nodes=nodes)
    with logged() as events:
        got = house.get("f", "bytes=1-")
    assert (got.is_whole, got.body) == (True, recording[1:])
    assert not healings(events)
    tails = [asked for node in house.nodes for asked in node.asked if "range" in asked.headers]
    assert len(tails) == 2
    assert {asked.headers["connection"] for asked in tails} == {"close"}
    house.assert_at_rest()


#: What may come instead of an answer, when a body is to go on.
NO_ANSWERS = {
    "500": instead(answer(500, b'{"error":"badmatch"}')),
    "503": instead(answer(503, b"")),
    "another attachment": instead(answer(206, NOISE[:7], {"ETag": '"x"', "Content-Range": "bytes 0-6/7"})),
    "the whole again": instead(answer(200, NOISE, {"ETag": f'"{STORED["identity"].etag}"'})),
    "nothing": instead(b"", Mark.CLOSE),
    "half a head": instead(b"HTTP/1.1 200 OK\r\nConte", Mark.ABORT),
    "silence": instead(b"", Mark.SILENCE),
    "garbage": instead(b"\x00\x01\r\n\r\n", Mark.SILENCE),
}


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("no_answer", NO_ANSWERS)
def test_a_node_that_does_not_answer_at_once_when_it_is_asked_again(no_answer: str, nodes: int) -> None:
    house = House(dict(STORED), nodes=nodes, limits=QUICK)
    scripts = iter([broken_after(300_000, [Mark.CLOSE]), *[NO_ANSWERS[no_answer]] * 4])
    for node in house.nodes:
        node.faults = first_times(scripts)
    got = download(house, "identity")
    assert (got.is_whole, got.body) == (True, NOISE)
    house.assert_at_rest()


def test_before_the_status_line_it_is_tried_a_few_times_only() -> None:
    """The client can be told, and ask again."""
    house = House({"identity": Stored(b"short")})
    house.node.faults = lambda asked: (
        None if asked.path == "/db/doc" else [answer(200, b"sho", {"ETag": SHORT_ETAG}, length=5), Mark.CLOSE]
    )
    got = download(house, "identity", 1)
    assert (got.status, got["Retry-After"]) == (503, "1")
    # For the document, for the bytes in one piece where they are few enough, and three times for a stream of them.
    assert len(house.node.asked) == (5 if house.cluster.limits.short else 4)
    house.assert_at_rest()


def test_wrong_bytes_behind_a_healing_break_the_download_at_once() -> None:
    """CouchDB sends bytes that have gone bad on its disk, and an error message behind them, again and again."""
    house = House(dict(STORED))

    def bad(_: Asked, right: bytes) -> Script:
        return [right[:-1] + bytes([right[-1] ^ 1]) + DYING_WORDS, Mark.CLOSE]

    house.node.faults = first_times(iter([broken_after(300_000, [Mark.CLOSE]), *[bad] * 100]))
    got = download(house, "identity", 1)
    assert (got.is_whole, got.is_closed) == (False, True)
    assert got.body == NOISE[:-HELD_BACK]
    house.assert_at_rest()


def test_a_node_that_loses_a_body_is_asked_how_it_does() -> None:
    house = House(dict(STORED), nodes=2)
    house.node.faults = first_times(iter([broken_after(300_000, [Mark.RESET])]))
    house.node.up = [answer(500, b"{}")]
    while not house.node.probes:
        assert house.get("identity").body == NOISE
    asked = len(house.node.asked)
    for _ in range(4):
        assert house.get("identity").body == NOISE
    assert len(house.node.asked) == asked


@pytest.mark.parametrize("seconds", [1, 20, 50])
def test_a_node_that_is_restarted(seconds: int) -> None:
    house = House(dict(STORED))
    house.node.faults = first_times(iter([broken_after(300_000, [Mark.RESET])]))
    client = house.send(f"/db/doc/identity?token={TOKEN}")
    house.network.run(until=lambda: house.node.asked[1:])
    house.network.listen(NODE_PORT, None)
    house.network.run()
    house.network.pass_time(seconds)
    assert not client.is_closed
    house.network.listen(NODE_PORT, house.node)
    got = finish(house, client, 4)
    assert (got.is_whole, got.body) == (True, NOISE)
    house.assert_at_rest()


def test_the_other_node_is_asked_at_once() -> None:
    """No second is lost where another node works."""
    house = House(dict(STORED), nodes=2)
    scripts = iter([broken_after(300_000, [Mark.RESET])])
    for node in house.nodes:
        node.faults = first_times(scripts)
    client = house.send(f"/db/doc/identity?token={TOKEN}")
    house.network.run()
    assert read_answer(client.received, "GET", client.is_closed).body == NOISE
    assert [sum("/identity" in each.path for each in node.asked) for node in house.nodes] == [1, 1]


# Giving up


def test_without_one_new_byte_it_is_given_up() -> None:
    house = House(dict(STORED), limits=UpstreamLimits(stall_timeout=5, give_up=40))
    house.node.faults = first_times(iter([broken_after(300_000, [Mark.RESET])]))
    client = house.send(f"/db/doc/identity?token={TOKEN}")
    house.network.run(until=lambda: house.node.asked[1:])
    house.network.listen(NODE_PORT, None)
    house.network.run()
    house.network.pass_time(36)
    assert not client.is_closed
    house.network.pass_time(5)
    assert client.is_closed
    got = read_answer(client.received, "GET", client.is_closed)
    # What was on its way past us when the node broke off is lost with it.
    assert not got.is_whole
    assert NOISE[: 300_000 - HELD_BACK].startswith(got.body)
    assert len(got.body) > 100_000
    house.assert_at_rest()


def test_as_long_as_new_bytes_come_it_is_not() -> None:
    """Five hundred transfers of a little more than what is held back, each of which breaks."""
    house = House(dict(STORED), limits=UpstreamLimits(give_up=30))
    house.node.faults = first_times(iter([broken_after(HELD_BACK + 2000, [Mark.RESET])] * 500))
    got = download(house, "identity", 1200)
    assert (got.is_whole, got.body) == (True, NOISE)
    house.assert_at_rest()


def test_a_transfer_that_went_well_is_followed_at_once() -> None:
    house = House(dict(STORED))
    house.node.faults = first_times(iter([broken_after(80_000, [Mark.RESET])] * 12))
    client = house.send(f"/db/doc/identity?token={TOKEN}")
    house.network.run()
    assert read_answer(client.received, "GET", client.is_closed).body == NOISE
    assert house.network.seconds() == 0


def test_a_node_that_is_silent_when_it_is_asked_again_is_not_waited_for_beyond_the_end() -> None:
    house = House(dict(STORED), limits=UpstreamLimits(stall_timeout=25, give_up=30))
    house.node.faults = first_times(iter([broken_after(100_000, [Mark.CLOSE]), *[NO_ANSWERS["silence"]] * 9]))
    client = house.send(f"/db/doc/identity?token={TOKEN}")
    house.network.run()
    house.network.pass_time(29)
    assert not client.is_closed
    house.network.pass_time(2)
    assert client.is_closed
    house.assert_at_rest()


@pytest.mark.parametrize("count", [1, 2000])
def test_a_node_that_gives_a_byte_at_a_time_is_not_asked_all_the_time(count: int) -> None:
    house = House(dict(STORED))
    house.node.faults = first_times(iter([broken_after(HELD_BACK + count, [Mark.RESET])] * 10_000))
    client = house.send(f"/db/doc/identity?token={TOKEN}")
    house.network.run()
    house.network.pass_time(100)
    assert 40 < len(house.node.asked) < 70
    client.transport.loseConnection()
    house.network.run()
    house.assert_at_rest()


@pytest.mark.parametrize("name", IDENTITY)
def test_a_client_that_leaves_while_it_is_healed(name: str) -> None:
    house = House(dict(STORED))
    house.node.faults = first_times(iter([broken_after(100_000, [Mark.CLOSE]), *[NO_ANSWERS["silence"]] * 9]))
    client = house.send(f"/db/doc/{name}?token={TOKEN}")
    house.network.run()
    for seconds in (0.05, 0.5, 40):
        house.network.pass_time(seconds)
    client.transport.loseConnection()
    house.network.run()
    house.assert_at_rest()
    assert house.network.open_connections(NODE_PORT) <= 1, "that on which it was asked whether it is up"


# Compaction


def compacted(house: House, **attachments: Stored) -> None:
    """The document is edited, and its old revision compacted away."""
    old = house.doc
    house.node.docs["/db/doc"] = attrs.evolve(
        old, rev="2-fedcba9876543210fedcba9876543210", attachments={**old.attachments, **attachments}
    )


@pytest.mark.parametrize("name", IDENTITY)
def test_a_revision_that_is_compacted_away(name: str) -> None:
    house = House(dict(STORED))

    def die(asked: Asked, right: bytes) -> Script:
        compacted(house)
        return broken_after(200_000, [DYING_WORDS, Mark.CLOSE])(asked, right)

    house.node.faults = first_times(iter([die]))
    got = download(house, name)
    assert (got.is_whole, got.body) == (True, IDENTITY[name])
    assert house.node.asked[-1].target.endswith("?rev=2-fedcba9876543210fedcba9876543210")
    house.assert_at_rest()


def busy_document(house: House, edits: int) -> Callable[[Asked], Script | None]:
    """A node whose document is edited and compacted between each read of it and the request for its bytes."""
    left = iter(range(2, 2 + edits))
    has_begun = False

    def faults(asked: Asked) -> Script | None:
        nonlocal has_begun
        if asked.path == "/db/doc":
            return None
        if has_begun and (number := next(left, None)) is not None:
            house.node.docs["/db/doc"] = attrs.evolve(house.doc, rev=f"{number}-fedcba9876543210fedcba9876543210")
            return None
        if has_begun:
            return None
        has_begun = True
        return broken_after(200_000, [Mark.CLOSE])(asked, attachment_answer(STORED[asked.path[8:]], asked))

    return faults


@pytest.mark.parametrize("name", IDENTITY)
@pytest.mark.parametrize("edits", [2, 3, 4, 5, 30])
def test_revisions_that_are_compacted_away_one_after_the_other(name: str, edits: int) -> None:
    """The attachment is the same in all of them, so the download goes on, however often that happens."""
    house = House(dict(STORED))
    house.node.faults = busy_document(house, edits)
    got = download(house, name)
    assert (got.is_whole, got.body) == (True, IDENTITY[name])
    house.assert_at_rest()


@pytest.mark.parametrize("name", IDENTITY)
def test_revisions_that_never_stay_are_given_up(name: str) -> None:
    house = House(dict(STORED), limits=QUICK)
    house.node.faults = busy_document(house, 10**6)
    got = download(house, name)
    assert not got.is_whole
    assert IDENTITY[name].startswith(got.body)
    # Four in a row, then a pause, for a minute.
    assert len(house.node.asked) < 40 * 9
    house.assert_at_rest()


@pytest.mark.parametrize("name", IDENTITY)
def test_bytes_that_are_missing_for_a_while_are_waited_for(name: str) -> None:
    """A node may list an attachment before it has its bytes: it lags behind the others."""
    house = House(dict(STORED))
    missing = instead(answer(404, b'{"error":"not_found","reason":"missing"}'))
    house.node.faults = first_times(iter([broken_after(200_000, [Mark.CLOSE]), *[missing] * 9]))
    got = download(house, name)
    assert (got.is_whole, got.body) == (True, IDENTITY[name])
    house.assert_at_rest()


@pytest.mark.parametrize("name", IDENTITY)
@pytest.mark.parametrize("gone", ["changed", "removed", "document deleted"])
def test_an_attachment_that_is_another_then(name: str, gone: str) -> None:
    """It breaks at once: there is nothing to hope for."""
    house = House(dict(STORED))

    def die(asked: Asked, right: bytes) -> Script:
        compacted(house, **{name: Stored(b"another")})
        if gone == "removed":
            del house.doc.attachments[name]
        if gone == "document deleted":
            del house.node.docs["/db/doc"]
        return broken_after(200_000, [DYING_WORDS, Mark.CLOSE])(asked, right)

    house.node.faults = first_times(iter([die]))
    client = house.send(f"/db/doc/{name}?token={TOKEN}")
    house.network.run()
    assert client.is_closed
    got = read_answer(client.received, "GET", client.is_closed)
    assert not got.is_whole
    assert IDENTITY[name].startswith(got.body)
    house.assert_at_rest()


def test_a_revision_that_was_asked_for_is_not_followed() -> None:
    house = House(dict(STORED))
    rev = house.doc.rev

    def die(asked: Asked, right: bytes) -> Script:
        compacted(house)
        return broken_after(200_000, [DYING_WORDS, Mark.CLOSE])(asked, right)

    house.node.faults = first_times(iter([die]))
    client = house.send(f"/db/doc/identity?token={TOKEN}&rev={rev}")
    house.network.run()
    assert client.is_closed
    assert not read_answer(client.received, "GET", client.is_closed).is_whole
    house.assert_at_rest()


# Parking


def test_who_takes_nothing_of_what_is_inflated_holds_none_either() -> None:
    """Its transfer was paused before: for as long as many bytes take to be inflated and skipped."""
    text = b"0" * (4 * 2**20) + random.Random(1).randbytes(2**20).hex().encode()
    house = House({"f": Stored.compressed(text)})
    client = house.send(f"/db/doc/f?token={TOKEN}", {"Range": f"bytes={4 * 2**20}-"})
    client.transport.pauseProducing()
    house.network.run()
    assert house.cluster._members[0].busy == 1
    house.network.elapse(30)
    assert house.cluster._members[0].busy == 0
    client.transport.resumeProducing()
    house.network.run()
    assert client.received.endswith(text[4 * 2**20 :])
    house.assert_at_rest()


@pytest.mark.parametrize("name", IDENTITY)
@pytest.mark.parametrize("pauses", [1, 3])
def test_a_paused_client_holds_no_connection_to_couchdb(name: str, pauses: int) -> None:
    big = random.Random(8).randbytes(3_000_000)
    text = gzip.compress(big.hex().encode())
    stored = {
        "identity": Stored(big),
        "compressed": Stored.compressed(big.hex().encode()),
        "encoded": Stored.encoded(text),
    }
    house = House(stored, limits=UpstreamLimits(max_upstream=1))
    client = house.send(f"/db/doc/{name}?token={TOKEN}")
    for number in range(pauses):
        client.transport.is_paused = False
        received = len(client.received)
        house.network.run(until=lambda received=received: len(client.received) > received + 200_000)  # type: ignore[misc]
        client.transport.is_paused = True
        house.network.run()
        assert house.cluster._members[0].busy == 1
        house.network.pass_time(LIMITS.park_after - 1)
        assert house.cluster._members[0].busy == 1
        house.network.pass_time(2)
        assert house.cluster._members[0].busy == 0
        # A kept one may be left, of the document.
        assert house.network.open_connections(NODE_PORT) <= 1
        house.network.pass_time(1500 * (number + 1) / pauses, step=10)
    client.transport.is_paused = False
    with logged() as events:
        got = finish(house, client, 1)
    assert got.is_whole
    assert got.body == (big if name == "identity" else big.hex().encode())
    assert not healings(events), "this is no loss"
    house.assert_at_rest()


def test_a_client_that_is_back_in_time_keeps_its_connection() -> None:
    house = House(dict(STORED))
    client = house.send(f"/db/doc/identity?token={TOKEN}")
    client.transport.is_paused = True
    house.network.run()
    house.network.pass_time(LIMITS.park_after - 1)
    client.transport.is_paused = False
    assert finish(house, client, 1).body == NOISE
    assert len(house.node.asked) == 2
    house.assert_at_rest()


def test_what_is_lost_while_nobody_reads_is_asked_for_when_somebody_does() -> None:
    house = House(dict(STORED))
    house.node.faults = first_times(iter([broken_after(500_000, [Mark.RESET])]))
    client = house.send(f"/db/doc/identity?token={TOKEN}")
    client.transport.is_paused = True
    house.network.run()
    for _, far in house.network.connections:
        if far.address.port == NODE_PORT:
            far.abortConnection()
    house.network.run()
    house.network.pass_time(3)
    assert len(house.node.asked) == 2
    house.network.pass_time(1000, step=10)
    assert not client.is_closed
    client.transport.is_paused = False
    got = finish(house, client, 1)
    assert (got.is_whole, got.body) == (True, NOISE)
    house.assert_at_rest()


def test_the_time_of_a_pause_is_no_time_without_a_byte() -> None:
    """A player that pauses for half an hour, and a node that is down for ten seconds when it goes on."""
    house = House(dict(STORED))
    client = house.send(f"/db/doc/identity?token={TOKEN}")
    client.transport.is_paused = True
    house.network.run()
    house.network.pass_time(1800, step=10)
    house.network.listen(NODE_PORT, None)
    client.transport.is_paused = False
    house.network.run()
    house.network.pass_time(10)
    house.network.listen(NODE_PORT, house.node)
    got = finish(house, client, 5)
    assert (got.is_whole, got.body) == (True, NOISE)


# Several nodes, and too few places


def test_requests_are_spread_over_the_nodes() -> None:
    house = House(dict(STORED), nodes=3)
    for _ in range(30):
        assert house.get("identity", "bytes=5-9").body == NOISE[5:10]
    assert [len(node.asked) for node in house.nodes] == [20, 20, 20]


def test_a_response_stays_at_its_node() -> None:
    house = House(dict(STORED), nodes=3)
    house.get("identity", "bytes=0-5,100000-100100,500000-501000")
    assert sorted(len(node.asked) for node in house.nodes) == [0, 0, 4]


@pytest.mark.parametrize("fault", ["refuses", "answers 500", "says nothing", "answers another document"])
def test_a_node_that_fails_is_not_seen_by_clients(fault: str) -> None:
    house = House(dict(STORED), nodes=2, limits=QUICK)
    bad = house.nodes[0]
    if fault == "refuses":
        house.network.listen(NODE_PORT, None)
    scripts: dict[str, Script] = {
        "answers 500": [answer(500, b"{}")],
        "says nothing": [Mark.SILENCE],
        "answers another document": [answer(200, Doc({"download_token": TOKEN}, dict(STORED)).json("other"))],
    }
    if fault in scripts:
        bad.faults = lambda _: scripts[fault]
        bad.up = scripts[fault]
    statuses = [download(house, "identity", 6, Range="bytes=0-99").status for _ in range(12)]
    assert statuses == [206] * 12
    if fault != "answers another document":
        assert len(bad.asked) <= 2, "set aside"
    # It may be being probed just now.
    bad.faults, bad.up = house.nodes[1].faults, house.nodes[1].up
    house.network.pass_time(10)
    house.assert_at_rest()


def test_a_node_that_comes_back_is_used_again() -> None:
    house = House(dict(STORED), nodes=2)
    house.network.listen(NODE_PORT, None)
    for _ in range(4):
        assert house.get("identity", "bytes=0-99").status == 206
    assert not house.node.asked
    house.network.listen(NODE_PORT, house.node)
    house.network.pass_time(40)
    for _ in range(4):
        assert house.get("identity", "bytes=0-99").status == 206
    assert house.node.asked


def test_all_nodes_are_down() -> None:
    house = House(dict(STORED), nodes=3)
    for number in range(3):
        house.network.listen(NODE_PORT + number, None)
    for _ in range(5):
        got = house.get("identity")
        assert (got.status, got.is_whole) == (503, True)
        assert 1 <= int(got["Retry-After"]) <= 5
        house.network.pass_time(50)
    house.network.listen(NODE_PORT + 2, house.nodes[2])
    house.get("identity")
    house.network.pass_time(1)
    assert house.get("identity").body == NOISE
    house.assert_at_rest()


def test_one_damaged_attachment_takes_no_node_from_the_others() -> None:
    house = House({**STORED, "damaged": Stored(b"damaged")})
    house.node.faults = lambda asked: [answer(500, b"{}")] if asked.path.endswith("/damaged") else None
    for _ in range(5):
        assert house.get("damaged").status == 503
        assert house.get("identity", "bytes=0-9").status == 206
    house.assert_at_rest()


def test_who_finds_no_place_waits_and_is_told_to_come_again() -> None:
    limits = UpstreamLimits(max_upstream=1, queue_timeout=8, park_after=100, give_way_after=100)
    house = House(dict(STORED), limits=limits)
    slow = house.send(f"/db/doc/identity?token={TOKEN}")
    slow.transport.is_paused = True
    house.network.run()
    waits = house.send(f"/db/doc/compressed?token={TOKEN}")
    house.network.run()
    house.network.pass_time(7)
    late = house.send(f"/db/doc/compressed?token={TOKEN}")
    house.network.run()
    assert waits.received == b""
    with logged() as events:
        house.network.pass_time(2)
    reason = "no node had a free slot in time (--max-upstream, --queue-timeout)"
    assert f"a request gets a 503: Overloaded: {reason}" in map(formatEvent, events)
    got = read_answer(waits.received, "GET", False)
    assert (got.status, got["Retry-After"]) == (503, "5")
    slow.transport.is_paused = False
    house.network.run()
    assert read_answer(slow.received, "GET", False).body == NOISE
    assert read_answer(late.received, "GET", False).body == TEXT
    house.assert_at_rest()


def test_a_hundred_clients_and_two_places() -> None:
    house = House(dict(STORED), limits=UpstreamLimits(max_upstream=2))
    clients = [house.send(f"/db/doc/identity?token={TOKEN}", {"Range": f"bytes={n}-{n + 99_999}"}) for n in range(100)]
    house.network.run()
    for number, client in enumerate(clients):
        assert read_answer(client.received, "GET", False).body == NOISE[number : number + 100_000]
    bodies = [asked for asked in house.node.asked if asked.path != "/db/doc"]
    assert len(bodies) == 100
    house.assert_at_rest()


def test_a_paused_client_gives_its_place_to_others() -> None:
    house = House(dict(STORED), limits=UpstreamLimits(max_upstream=1))
    paused = []
    for _ in range(5):
        paused.append(house.send(f"/db/doc/identity?token={TOKEN}"))
        paused[-1].transport.is_paused = True
        house.network.run()
        house.network.pass_time(LIMITS.park_after + 1)
    assert house.get("identity", "bytes=0-99").status == 206
    for client in paused:
        client.transport.is_paused = False
    house.network.run()
    house.network.pass_time(5)
    assert [read_answer(client.received, "GET", False).body == NOISE for client in paused] == [True] * 5
    house.assert_at_rest()
