"""
Nodes that answer without end, or with what nobody asked for: refused within bounds, wherever it is that they do.

Bounds are of the bytes that a node can push into the gateway, of what is kept of them, of what is logged, and of time.
"""

import random
import tracemalloc
from collections.abc import Callable
from typing import Final

import pytest
from attrs import frozen

from tests.faults import (
    AnotherDocument,
    Cut,
    EndlessBody,
    EndlessChunkSize,
    EndlessHead,
    EndlessInterim,
    EndlessPage,
    Fault,
    FaultyProxy,
    Hangup,
    NoFault,
    Schedule,
    Surplus,
    WrongRange,
)
from tests.faults.bench import put_before
from tests.faults.exchange import Exchange
from tests.gateway.house import NODE_PORT, TOKEN, Answer, House, logged, read_answer
from tests.scripted import DYING_WORDS, Asked, Doc, Stored, answer
from txcouchdl.couch.limits import UpstreamLimits

NOISE: Final = random.Random(18).randbytes(300_000)
TEN: Final = b"ten bytes."
STORED: Final = {"f": Stored(NOISE), "ten": Stored(TEN), "text": Stored.compressed(NOISE.hex().encode())}
IDENTITY: Final = {"f": NOISE, "ten": TEN, "text": NOISE.hex().encode()}
LIMITS: Final = UpstreamLimits(stall_timeout=5, give_up=10)

#: Bytes that a node may push into one connection beyond those that are right: what a head may have, and a read or two.
SURPLUS: Final = 4 * 2**16
#: Requests for one download: fewer in 10 s than are made at once and then each two seconds, probes included.
REQUESTS: Final = 50
#: Bytes that the gateway, the client and the node in this process hold at most for one download of ``f``.
MEMORY: Final = 5 * 2**20
#: Events in the log for one download, however often it is tried.
EVENTS: Final = 100


@frozen
class Say(Fault):
    """Something else, and then nothing more. The node is not asked."""

    data: bytes

    async def play(self, exchange: Exchange) -> Hangup | None:
        exchange.strike()
        await exchange.send(self.data)
        await exchange.forever()
        return None


#: What a node may do that is not one right answer.
HOSTILE: Final[dict[str, Fault]] = {
    "a head without end": EndlessHead(),
    "interim answers without end": EndlessInterim(),
    "a chunk size without end": EndlessChunkSize(),
    "10 GB too many": EndlessBody(),
    "a page without end": EndlessPage(200),
    "an error page without end": EndlessPage(500),
    "another error page without end": EndlessPage(404),
    "a redirect without end": EndlessPage(302),
    "an error of 10^18 bytes": Say(answer(500, b"{", length=10**18)),
    "a missing page of 10^18 bytes": Say(answer(404, b"{", length=10**18)),
    "a body of 10^18 bytes": Say(answer(200, b"{", length=10**18)),
    "a length of a million digits": Say(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 10**6 + b"\r\n\r\n"),
    "another range": WrongRange(7),
    "another document": AnotherDocument("/db/other"),
    "another document's attachment": AnotherDocument("/db/other/f"),
}

#: What says that something is not there: the client is told so.
NOT_THERE: Final = {
    "another error page without end": (403, 404),
    "a missing page of 10^18 bytes": (403, 404),
    # A document that cannot be read: it is too long, or says so.
    "a page without end": (403,),
    "a body of 10^18 bytes": (403,),
}

#: Where: which exchanges are hostile, by the request and how many were there for attachments before.
PLACES: Final[dict[str, Callable[[Asked, int], bool]]] = {
    "document": lambda asked, _: asked.path == "/db/doc",
    "attachment": lambda asked, _: _is_attachment(asked),
    "going on": lambda asked, bodies: _is_attachment(asked) and bodies > 1,
    "everywhere": lambda asked, bodies: bodies > 0,
}


def _is_attachment(asked: Asked) -> bool:
    return asked.path.startswith("/db/doc/")


def hostile_house(
    fault: Fault, is_hostile: Callable[[Asked, int], bool], down: int = 0
) -> tuple[House, list[FaultyProxy]]:
    """
    A house with a hostile node. The first body is cut, so that it has to go on.

    :param down: how many more nodes there are, that refuse connections.
    """
    bodies = count = 0

    def decide(asked: Asked) -> Fault:
        nonlocal bodies, count
        bodies += _is_attachment(asked)
        count += 1
        if count > 4 * REQUESTS:
            # It is asked without end.
            return Say(b"")
        if is_hostile(asked, bodies):
            return fault
        return Cut(100_000) if _is_attachment(asked) and bodies == 1 else NoFault()

    house = House(dict(STORED), nodes=1 + down, limits=LIMITS)
    house.node.docs["/db/other"] = Doc({"download_token": TOKEN}, {"f": Stored(NOISE[::-1])})
    proxies = put_before(house, [Schedule(decide) for _ in range(1 + down)])
    for number in range(1, 1 + down):
        house.network.listen(NODE_PORT + number, None)
    return house, proxies


def outlast(house: House, proxies: list[FaultyProxy], target: str, **headers: str) -> Answer:
    """Ask, and wait until nobody has hope any more."""
    client = house.send(target, {**headers, "Connection": "close"})
    house.network.elapse(8 * LIMITS.stall_timeout + LIMITS.give_up)
    return read_answer(client.received, "GET", client.is_closed)


def requests(proxies: list[FaultyProxy]) -> int:
    """How many the nodes were sent so far."""
    return sum(len(proxy.schedule.applied) for proxy in proxies)


def pushed(house: House, proxies: list[FaultyProxy]) -> int:
    """The most bytes that were pushed into the gateway on one connection."""
    ports = range(NODE_PORT, NODE_PORT + len(proxies))
    return max(far.delivered for _, far in house.network.connections if far.address.port in ports)


def assert_nothing_left(house: House, proxies: list[FaultyProxy]) -> None:
    assert not house.cluster._waiting
    for number, proxy in enumerate(proxies):
        proxy.schedule = Schedule.of()
        house.network.listen(NODE_PORT + number, proxy)
    house.network.elapse(1000)
    house.assert_at_rest()
    assert not house.network.calls
    for proxy in proxies:
        proxy.assert_at_rest()


#: What is downloaded where.
DOWNLOADS: Final[dict[str, list[tuple[str, str | None]]]] = {
    "document": [("f", None)],
    "attachment": [("f", "bytes=1000-200000"), ("ten", None), ("text", None)],
    "going on": [("f", None), ("f", "bytes=1000-200000"), ("text", None)],
    "everywhere": [("f", None)],
}


@pytest.mark.parametrize("down", [0, 1])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("what", HOSTILE)
def test_what_has_no_end_or_was_not_asked_for(what: str, place: str, down: int) -> None:
    for name, range_ in DOWNLOADS[place][: None if not down else 1]:
        house, proxies = hostile_house(HOSTILE[what], PLACES[place], down)
        with logged() as events:
            got = outlast(
                house, proxies, f"/db/doc/{name}?token={TOKEN}", **({} if range_ is None else {"Range": range_})
            )
        if got.status in (200, 206):
            first, _, last = (range_ or "bytes=0-").removeprefix("bytes=").partition("-")
            wanted = IDENTITY[name][int(first) : int(last) + 1 if last else None]
            assert wanted.startswith(got.body)
            assert got.body == wanted if got.is_whole else got.is_closed
        else:
            assert got.status in {502, 503, 504, *NOT_THERE.get(what, ())}
            assert got.is_whole
        assert pushed(house, proxies) < _right_at_most(what, place) + SURPLUS
        assert requests(proxies) < REQUESTS
        assert len(events) < EVENTS
        assert_nothing_left(house, proxies)


def _right_at_most(what: str, place: str) -> int:
    """Bytes that would be right: those of a body, or of a document."""
    is_long_document = what == "a page without end" and place in ("document", "everywhere")
    return LIMITS.max_document if is_long_document else 2 * len(NOISE)


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_answer_to_the_question_whether_it_is_up(what: str) -> None:
    house, proxies = hostile_house(HOSTILE[what], lambda asked, _: asked.path == "/_up")
    house.node.faults = lambda _: [answer(500, b"{}")]
    with logged() as events:
        for _ in range(3):
            assert outlast(house, proxies, f"/db/doc/f?token={TOKEN}").status == 503
    assert pushed(house, proxies) < SURPLUS
    assert len(events) < EVENTS
    house.node.faults = lambda _: None
    for proxy in proxies:
        proxy.schedule = Schedule.of()
    house.network.elapse(40)
    assert house.get("f").body == NOISE, "it is asked again, and believed"
    assert_nothing_left(house, proxies)


#: What a node may say on a connection that is kept, seconds behind an answer that was whole.
LATE: Final = {
    "an error": DYING_WORDS,
    "another document": answer(200, Doc({"download_token": "another"}).json("other")),
    "no document": answer(200, b"[]"),
    "no answer": b"surplus",
    "a line": b"\r\n",
}


@pytest.mark.parametrize("what", LATE)
@pytest.mark.parametrize("seconds", [1, 6])
def test_what_a_kept_connection_says_late_is_nobodys_answer(what: str, seconds: int) -> None:
    """The next request goes out before it comes, and it would be taken for its answer; or it comes before that."""
    house = House(dict(STORED), limits=LIMITS)
    [proxy] = put_before(house, [Schedule.of(Surplus(LATE[what], later=4))])
    for _ in range(4):
        client = house.send(f"/db/doc/f?token={TOKEN}", {"Range": "bytes=1000-4000"})
        house.network.elapse(seconds)
        house.network.elapse(0 if seconds > 4 else 4)
        got = read_answer(client.received, "GET", client.is_closed)
        assert (got.status, got.body, got.is_whole) == (206, NOISE[1000:4001], True)
    assert_nothing_left(house, [proxy])


def test_memory_for_answers_without_end() -> None:
    """Of all kinds together, on the way to a body and in its middle."""
    for what, fault in HOSTILE.items():
        house, _ = hostile_house(fault, PLACES["going on"])
        client = house.send(f"/db/doc/f?token={TOKEN}")
        tracemalloc.start()
        house.network.run()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < MEMORY, what
        client.transport.loseConnection()
        house.network.run()
