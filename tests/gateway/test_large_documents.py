"""
Documents of megabytes: they cost what was set aside for them, and nobody else waits long for it. Anybody can have them
read, without a token.
"""

import gc
import json
import random
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import pytest
from twisted.logger import formatEvent

from tests.gateway.house import TOKEN, Answer, Client, House, logged, read_answer
from tests.metrics.reading import counted
from tests.scripted import Asked, Doc, Mark, Script, Stored, answer
from txcouchdl.couch.document_memory import DocumentMemory
from txcouchdl.couch.documents import SMALL_DOCUMENT, Document
from txcouchdl.couch.health import State
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.gateway.errors import Forbidden, answer_for

MIB: Final = 2**20
FILE: Final = Stored(b"the content", "video/mp4")
OLD_REV: Final = "1-old"
FORBIDDEN: Final = answer_for(Forbidden()).status


def large(length: int, unit: str = "x", **fields: Any) -> Doc:
    """A document of about this length."""
    return Doc({"download_token": TOKEN, "padding": unit * (length // len(unit)), **fields}, {"f": FILE}, "2-new")


def house_of(count: int = 1, length: int = MIB, **limits: Any) -> House:
    """A house with so many large documents, each with an older revision as large: ``/db/0`` and so on."""
    house = House(limits=UpstreamLimits(**limits))
    for number in range(count):
        house.node.docs[f"/db/{number}"] = large(length)
        house.node.old_docs[f"/db/{number}", OLD_REV] = Doc({"padding": "x" * length}, {"f": FILE}, OLD_REV)
    return house


def memory_of(house: House) -> DocumentMemory:
    memory: DocumentMemory = house.cluster.clients[0]._reader._memory
    return memory


def assert_at_rest(house: House) -> None:
    house.assert_at_rest()
    assert memory_of(house).free == house.cluster.limits.document_memory


def answered(client: Client, method: str = "GET") -> Answer:
    return read_answer(client.received, method, client.is_closed)


@pytest.mark.parametrize("query", ["", f"&rev={OLD_REV}", "&rev=2-new"])
@pytest.mark.parametrize("length", [1000, MIB])
def test_they_are_served(length: int, query: str) -> None:
    house = house_of(1, length)
    got = house.ask(f"/db/0/f?token={TOKEN}{query}")
    assert (got.status, got.body) == (200, FILE.stored)
    assert house.ask(f"/db/0/f?token=wrong{query}").status == FORBIDDEN
    assert house.ask(f"/db/0/g?token={TOKEN}{query}").status == 404
    listed = json.loads(house.ask(f"/db/0/?token={TOKEN}{query}").body)
    assert [each["name"] for each in listed["attachments"]] == ["f"]
    assert_at_rest(house)


def chunked(body: bytes) -> Script:
    """An answer that does not tell its length."""
    return [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)]


@pytest.mark.parametrize("length", [10, SMALL_DOCUMENT, MIB])
def test_a_length_that_is_not_told(length: int) -> None:
    house = House()
    script = chunked(large(length).json("doc"))
    house.node.faults = lambda asked: script if asked.path == "/db/doc" else None
    house.doc.attachments["f"] = FILE
    house.doc.rev = "2-new"
    assert house.get("f").body == FILE.stored
    assert house.ask("/db/doc/f?token=wrong").status == FORBIDDEN
    assert_at_rest(house)


@pytest.mark.parametrize(("length", "status"), [(MIB - 1000, 200), (MIB + 1, FORBIDDEN)])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_the_largest_document_is_an_option(length: int, status: int, is_chunked: bool) -> None:
    house = house_of(1, length, max_document=MIB)
    if is_chunked:
        script = chunked(house.node.docs["/db/0"].json("0"))
        house.node.faults = lambda asked: script if asked.path == "/db/0" else None
    with logged() as events:
        assert house.ask(f"/db/0/f?token={TOKEN}").status == status
    lines = [formatEvent(event) for event in events]
    reason = f"the document /db/0 cannot be read: it has more than {MIB} bytes (--max-document)"
    assert lines.count(reason) == (status == FORBIDDEN)
    assert_at_rest(house)
    # Of one that says that it is too long, nothing is read.
    _, far = next(pair for pair in house.network.connections if pair[1].address.port == 5984)
    assert status == 200 or far.delivered < (2 * MIB if is_chunked else 200_000)


def test_a_right_token_for_a_document_that_is_too_large_is_a_wrong_guess() -> None:
    """The gateway does not read such a document, and cannot know that the token is right."""
    house = house_of(1, MIB + 1, max_document=MIB)
    assert [house.ask(f"/db/0/f?token={TOKEN}").status for _ in range(3)] == [FORBIDDEN] * 3
    assert counted(house.table)["wrong_tokens_total"] == 3


# --- memory -------------------------------------------------------------------------------------------------


@contextmanager
def peak() -> Iterator[Callable[[], int]]:
    gc.collect()
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("unit", [b"[],", b'{"":0},', b"0.5,", b'"",'])
def test_a_wrong_token_costs_little_more_than_the_document(unit: bytes) -> None:
    """8 MB of empty lists were 310 MB."""
    house = House()
    head, tail = b'{"_id":"doc","_rev":"1-a","download_token":"t","x":[', b"0]}"
    script = [answer(200, head + unit * (8_000_000 // len(unit)) + tail)]
    house.node.faults = lambda asked: script if asked.path == "/db/doc" else None
    with peak() as most:
        assert house.ask("/db/doc/f?token=wrong").status == FORBIDDEN
        # On their way through the network in memory; in pieces, and joined.
        assert most() < 4 * 8_000_000
    assert house.ask("/db/doc/f?token=t").status == 404
    assert_at_rest(house)


def documents() -> list[Document]:
    return [each for each in gc.get_objects() if isinstance(each, Document)]


@pytest.mark.parametrize("length", [1000, MIB])
@pytest.mark.parametrize("target", ["/db/0/f", "/db/0/"])
@pytest.mark.parametrize("others", [0, 3])
def test_the_first_document_is_gone_when_the_second_is_read(length: int, target: str, others: int) -> None:
    """Without the help of the garbage collector."""
    house = house_of(1, length)
    house.node.faults = lambda asked: [Mark.SILENCE] if f"rev={OLD_REV}" in asked.target else None
    gc.collect()
    before = len(documents())
    gc.disable()
    try:
        clients = [house.send(f"{target}?token={TOKEN}&rev={OLD_REV}") for _ in range(1 + others)]
        house.network.run()
        assert sum(f"rev={OLD_REV}" in asked.target for asked in house.node.asked) >= 1
        assert len(documents()) == before
        assert not any(client.received for client in clients)
    finally:
        gc.enable()


@pytest.mark.parametrize("query", ["", f"&rev={OLD_REV}"])
def test_a_document_is_gone_when_its_stub_was_taken(query: str) -> None:
    house = house_of(1)
    house.node.faults = lambda asked: [Mark.SILENCE] if asked.path == "/db/0/f" else None
    gc.collect()
    before = len(documents())
    gc.disable()
    try:
        client = house.send(f"/db/0/f?token={TOKEN}{query}")
        house.network.run()
        assert house.node.asked[-1].path == "/db/0/f"
        assert len(documents()) == before
        assert not client.received
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("length", "token", "status"), [(1000, "wrong", FORBIDDEN), (MIB, "wrong", FORBIDDEN), (MIB, TOKEN, 404)]
)
def test_the_first_document_is_gone_when_a_second_node_is_asked(length: int, token: str, status: int) -> None:
    """The token does not open it, or it lacks the attachment: then no more is kept of it than that."""
    house = House(nodes=2)
    stubs = {f"{number:05}": FILE.stub for number in range(length // 100)}
    house.node.docs["/db/0"] = large(10, _attachments=stubs)
    for node in house.nodes:
        node.faults = partial(_silent_if_second, house)
    gc.collect()
    before = large_documents()
    gc.disable()
    try:
        client = house.send(f"/db/0/f?token={token}")
        house.network.run()
        assert [len(node.asked) for node in house.nodes] == [1, 1]
        assert large_documents() == before
        assert not client.received
    finally:
        gc.enable()
    house.network.pass_time(5)
    assert answered(client).status == status


def _silent_if_second(house: House, _asked: Asked) -> Script | None:
    return [Mark.SILENCE] if sum(len(node.asked) for node in house.nodes) > 1 else None


def large_documents() -> int:
    """Documents that have stubs, or have not been looked through."""
    return sum(bool(each.stubs) for each in documents())


# --- the queue for it ---------------------------------------------------------------------------------------


def reading(house: House) -> int:
    """Documents of a MiB of which more has come than of one that waits, and not all."""
    ends = [far for _, far in house.network.connections if far.address.port == 5984]
    return sum(0 < len(far.sent) < MIB - 2 * SMALL_DOCUMENT for far in ends)


@pytest.mark.parametrize("query", ["", f"&rev={OLD_REV}"])
def test_more_than_there_is_memory_for_wait_and_none_is_refused(query: str) -> None:
    house = house_of(24, MIB, max_document=2 * MIB, document_memory=2 * MIB)
    clients = [house.send(f"/db/{number}/f?token={TOKEN}{query}") for number in range(24)]
    most = 0

    def watch() -> bool:
        nonlocal most
        most = max(most, reading(house))
        assert memory_of(house).free >= 0
        return False

    house.network.run(until=watch)
    assert most == 1, "each has a little more than a MiB"
    assert [answered(client).body for client in clients] == [FILE.stored] * 24
    assert_at_rest(house)


def test_small_documents_do_not_wait() -> None:
    house = house_of(2, MIB, max_document=2 * MIB, document_memory=2 * MIB)
    house.node.faults = lambda asked: _stalled(house, asked) if asked.path == "/db/0" else None
    stalled = house.send(f"/db/0/f?token={TOKEN}")
    waiting = house.send(f"/db/1/f?token={TOKEN}")
    house.network.run()
    house.doc.attachments["f"] = FILE
    assert house.get("f").body == FILE.stored
    assert not stalled.received
    assert not waiting.received


def _stalled(house: House, asked: Asked) -> Script:
    """All of a document but its end."""
    return [answer(200, house.node.docs[asked.path].json(asked.path[4:]))[:-1], Mark.SILENCE]


def test_reads_that_can_be_left_out_are_left_out_while_others_wait() -> None:
    """A second node is not asked, neither before a refusal nor since the first one takes long."""
    limits = UpstreamLimits(max_document=2 * MIB, document_memory=2 * MIB, hedge_after=3)
    house = House(limits=limits, nodes=2)
    for number in range(2):
        house.node.docs[f"/db/{number}"] = large(MIB)
    for node in house.nodes:
        node.faults = lambda asked: _stalled(house, asked) if asked.path == "/db/0" else None
    stalled = house.send(f"/db/0/f?token={TOKEN}")
    house.network.run()
    waiting = house.send(f"/db/1/f?token={TOKEN}")
    house.network.run()
    count = sum(len(node.asked) for node in house.nodes)
    assert count == 2
    assert house.ask("/db/doc/f?token=wrong").status == FORBIDDEN
    house.network.pass_time(7)
    assert sum(len(node.asked) for node in house.nodes) == count + 1
    assert {member.health.state for member in house.cluster._members} == {State.UP}
    stalled.transport.abortConnection()
    house.network.run()
    assert answered(waiting).body == FILE.stored
    assert house.ask("/db/doc/f?token=wrong").status == FORBIDDEN
    # For an attachment, and for a document at both nodes.
    assert sum(len(node.asked) for node in house.nodes) == count + 1 + 1 + 2


def test_a_wait_that_is_too_long_is_a_503() -> None:
    house = house_of(2, MIB, max_document=2 * MIB, document_memory=2 * MIB, stall_timeout=30, queue_timeout=15)
    house.node.faults = lambda asked: _stalled(house, asked) if asked.path == "/db/0" else None
    stalled = house.send(f"/db/0/f?token={TOKEN}")
    waiting = house.send(f"/db/1/f?token={TOKEN}")
    house.network.run()
    house.network.pass_time(14)
    assert not waiting.received
    with logged() as events:
        house.network.pass_time(2)
    reason = "no memory for a large document was free in time (--document-memory, --queue-timeout)"
    assert f"a request gets a 503: Overloaded: {reason}" in map(formatEvent, events)
    got = answered(waiting)
    assert (got.status, got["retry-after"]) == (503, "5")
    assert not stalled.received
    house.network.pass_time(60)
    assert answered(stalled).status == 504
    assert_at_rest(house)


def test_the_wait_is_none_of_the_nodes() -> None:
    """Its time to answer begins anew behind it."""
    house = house_of(2, MIB, max_document=2 * MIB, document_memory=2 * MIB, stall_timeout=10, queue_timeout=60)
    house.node.faults = lambda asked: _stalled(house, asked) if asked.path == "/db/0" else None
    house.send(f"/db/0/f?token={TOKEN}")
    house.network.run()
    house.network.pass_time(5)
    waiting = house.send(f"/db/1/f?token={TOKEN}")
    # The first is tried a second time.
    house.network.pass_time(30)
    assert answered(waiting).body == FILE.stored


def test_a_download_that_has_begun_goes_before_requests() -> None:
    """Its revision was compacted away, and its document has to be read again."""
    noise = random.Random(3).randbytes(4 * MIB)
    house = house_of(2, MIB, max_document=2 * MIB, document_memory=2 * MIB)
    house.node.docs["/db/doc"] = large(MIB)
    house.doc.attachments["f"] = Stored(noise)
    download = house.send(f"/db/doc/f?token={TOKEN}")
    house.network.run(until=lambda: len(download.received) > 100_000)
    download.transport.is_paused = True
    house.network.run()
    house.node.faults = lambda asked: _stalled(house, asked) if asked.path == "/db/0" else None
    stalled, waiting = house.send(f"/db/0/f?token={TOKEN}"), house.send(f"/db/1/f?token={TOKEN}")
    house.network.run()
    house.doc.rev = "3-newer"
    for _, far in house.network.connections:
        if far.address.port == 5984 and len(far.sent) > 2 * MIB:
            far.abortConnection()
    download.transport.is_paused = False
    house.network.run()
    assert (house.node.asked[-1].path, answered(download).is_whole) == ("/db/doc", False)
    received = len(download.received)
    stalled.transport.abortConnection()
    house.network.run(until=lambda: len(download.received) > received or waiting.received)
    assert not waiting.received
    house.network.run()
    assert answered(download).body == noise
    assert answered(waiting).body == FILE.stored
    assert_at_rest(house)


@pytest.mark.parametrize("who", ["reads", "waits", "decodes"])
def test_who_leaves_gives_it_back(who: str) -> None:
    house = house_of(3, MIB, max_document=2 * MIB, document_memory=2 * MIB)
    if who != "decodes":
        house.node.faults = lambda asked: _stalled(house, asked) if asked.path == "/db/0" else None
    first, second, third = (house.send(f"/db/{number}/f?token={TOKEN}") for number in range(3))
    house.network.run(until=lambda: who == "decodes" and house.cluster.turns._waiting)
    assert not first.received
    if who == "waits":
        second.transport.loseConnection()
        second.transport.abortConnection()
        house.network.run()
        assert not third.received
    first.transport.abortConnection()
    house.network.run()
    assert answered(third).body == FILE.stored
    assert who == "waits" or answered(second).body == FILE.stored
    assert_at_rest(house)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" * MIB, 502),
        (b'{"_id":"0","_rev":"1-a","x":"%b"}' % (b"\xff" * MIB), 502),
        (b'{"_id":"0","_rev":"1-a","x":%b}' % (b"[" * MIB + b"]" * MIB), FORBIDDEN),
        (b'{"_id":"another","_rev":"1-a","x":"%b"}' % (b"x" * MIB), 502),
        (b'{"_id":"0","_rev":"1-a","_attachments":"%b"}' % (b"x" * MIB), FORBIDDEN),
        (b'{"_id":"0","_rev":"1-a","download_token":"s3cret","_attachments":"%b"}' % (b"x" * MIB), 502),
    ],
    ids=["no object", "no text", "too deep", "another", "no token", "no attachments"],
)
@pytest.mark.parametrize("cut", [None, Mark.CLOSE, Mark.ABORT])
def test_an_error_gives_it_back(body: bytes, status: int, cut: Mark | None) -> None:
    house = house_of(1)
    script: Script = [answer(200, body)] if cut is None else [answer(200, body)[:-1000], cut]
    house.node.faults = lambda asked: script if asked.path == "/db/0" else None
    assert house.ask(f"/db/0/f?token={TOKEN}").status == (status if cut is None else 503)
    assert memory_of(house).free == house.cluster.limits.document_memory


# --- turns --------------------------------------------------------------------------------------------------


def test_others_are_answered_between_the_steps() -> None:
    """Text that is not ASCII is checked in many, and an escape for half a character has each escape looked at."""
    house = house_of(0)
    text = large(4 * MIB, "\u20ac").fields["padding"]
    body = json.dumps({"_id": "0", "_rev": "1-a", "x": text}, ensure_ascii=False).encode()
    halves = b'{"_id":"1","_rev":"1-a","x":"%b"}' % (b"\\ud800" * (MIB // 2))
    scripts: dict[str, Script] = {"/db/0": [answer(200, body)], "/db/1": [answer(200, halves)]}
    house.node.faults = lambda asked: scripts.get(asked.path)
    for number in range(2):
        client = house.send(f"/db/{number}/f?token={TOKEN}")
        house.network.run(until=lambda: house.cluster.turns._waiting)
        others = 0
        while not client.received:
            up = house.send("/_up")
            house.network.run(until=partial(_either, up, client))
            others += not client.received
            assert client.received or answered(up).status == 200
        assert others > 10
        assert answered(client).status == FORBIDDEN


def test_others_are_answered_while_a_page_is_made() -> None:
    names = [f"{number:05}" for number in range(30_000)]
    house = house_of(0)
    house.node.docs["/db/0"] = large(10, _attachments=dict.fromkeys(names, FILE.stub))
    client = house.send(f"/db/0/?token={TOKEN}&skip=29990")
    house.network.run(until=lambda: house.cluster.turns._waiting)
    others = 0
    while not client.received:
        up = house.send("/_up")
        house.network.run(until=partial(_either, up, client))
        others += not client.received
    # For each 5,000 names one.
    assert others >= 6
    assert [each["name"] for each in json.loads(answered(client).body)["attachments"]] == names[29_990:]
    assert_at_rest(house)


def _either(one: Client, other: Client) -> bool:
    return bool(one.received or other.received)


def test_one_large_document_at_a_turn() -> None:
    """However many come together, and however many wait for the same one."""
    stubs = {f"{number:05}": FILE.stub for number in range(5000)}
    house = house_of(0)
    for number in range(3):
        house.node.docs[f"/db/{number}"] = large(10, _attachments=stubs)
    clients = [house.send(f"/db/{number}/00042?token={TOKEN}", method="HEAD") for number in range(3) for _ in range(4)]
    turns, most = 0, 0

    def watch() -> bool:
        nonlocal turns, most
        done = sum(bool(client.received) for client in clients)
        most = max(most, done - turns)
        turns = done
        return False

    house.network.run(until=watch)
    assert most == 1
    assert [answered(client, "HEAD").status for client in clients] == [200] * len(clients)
    assert_at_rest(house)
