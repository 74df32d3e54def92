"""Reads for all who ask together: how many there are, and that nobody gets one that began before he asked."""

from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from txcouchdl.couch.errors import UpstreamUnavailable
from txcouchdl.couch.gathering import PATIENCE, Gathering


class Library:
    """Reads that end when the test says so; each gives its own number."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.gathering: Gathering[int] = Gathering(self.clock)
        self.reads: list[Deferred[int]] = []
        self.cancelled: list[int] = []

    def ask(self, key: str = "doc") -> "Deferred[int]":
        return Deferred.fromCoroutine(self.gathering.ask(key, self._read))

    async def _read(self) -> int:
        number = len(self.reads)
        self.reads.append(Deferred(lambda _: self.cancelled.append(number)))
        return await self.reads[-1]

    def end(self, number: int) -> None:
        self.reads[number].callback(number)

    def assert_at_rest(self) -> None:
        assert not self.clock.getDelayedCalls()
        assert not self.gathering._under_way


def result_of(asked: "Deferred[int]") -> Any:
    results: list[Any] = []
    asked.addBoth(results.append)
    return results[0].value if results and isinstance(results[0], Failure) else (results or [None])[0]


def test_who_comes_while_a_read_is_under_way_shares_the_next() -> None:
    library = Library()
    asked = [library.ask() for _ in range(5)]
    other = library.ask("other")
    assert len(library.reads) == 2
    library.end(0)
    assert len(library.reads) == 3
    late = library.ask()
    library.end(2)
    library.end(3)
    library.end(1)
    assert [result_of(each) for each in [*asked, other, late]] == [0, 2, 2, 2, 2, 1, 3]
    library.assert_at_rest()


def test_a_read_that_hangs_holds_nobody_up_for_long() -> None:
    library = Library()
    hung, patient = library.ask(), library.ask()
    library.clock.advance(PATIENCE)
    assert len(library.reads) == 2
    library.end(1)
    assert result_of(patient) == 1
    library.end(0)
    assert result_of(hung) == 0
    library.assert_at_rest()


def test_a_failure_is_everybodys() -> None:
    library = Library()
    asked = [library.ask() for _ in range(3)]
    library.reads[0].errback(UpstreamUnavailable("first"))
    library.reads[1].errback(UpstreamUnavailable("second"))
    assert [str(result_of(each)) for each in asked] == ["first", "second", "second"]
    library.assert_at_rest()


def test_a_read_that_nobody_waits_for_any_more_is_dropped() -> None:
    library = Library()
    first, second, third = (library.ask() for _ in range(3))
    first.cancel()
    assert library.cancelled == [0]
    second.cancel()
    assert library.cancelled == [0]
    third.cancel()
    assert library.cancelled == [0, 1]
    assert [type(result_of(each)) for each in (first, second, third)] == [CancelledError] * 3
    library.assert_at_rest()


def test_who_leaves_before_the_read_began_is_not_read_for() -> None:
    library = Library()
    first, second = library.ask(), library.ask()
    second.cancel()
    library.end(0)
    assert (result_of(first), len(library.reads)) == (0, 1)
    assert isinstance(result_of(second), CancelledError)
    library.assert_at_rest()


@given(st.lists(st.sampled_from(["ask", "end", "cancel", "wait"]), max_size=60), st.randoms(use_true_random=False))
def test_nobody_gets_a_read_that_began_before_he_asked(steps: list[str], chance: Any) -> None:
    library = Library()
    asked: list[tuple[int, Deferred[int]]] = []
    results: dict[int, Any] = {}
    running: list[int] = []
    for step in steps:
        if step == "ask":
            before = len(library.reads)
            deferred = library.ask()
            asked.append((before, deferred))
            deferred.addBoth(partial(results.setdefault, len(asked) - 1))
        elif step == "wait":
            library.clock.advance(PATIENCE / 2)
        elif step == "cancel" and asked:
            chance.choice(asked)[1].cancel()
        running = [number for number, read in enumerate(library.reads) if not read.called]
        if step == "end" and running:
            library.end(chance.choice(running))
    for _ in range(200):
        running = [number for number, read in enumerate(library.reads) if not read.called]
        if not running:
            break
        library.end(running[0])
    assert len(results) == len(asked)
    for who, (before, _) in enumerate(asked):
        assert isinstance(results[who], Failure) or results[who] >= before
    library.clock.advance(PATIENCE)
    library.assert_at_rest()


@pytest.mark.parametrize("count", [2, 16])
def test_many_requests_for_one_document_are_few_reads(count: int) -> None:
    """Over the whole gateway."""
    from tests.gateway.house import TOKEN, House, read_answer
    from tests.scripted import Stored

    house = House({"f": Stored(b"bytes")})
    clients = [house.send(f"/db/doc/f?token={TOKEN}", method="HEAD") for _ in range(count)]
    house.network.run()
    assert all(read_answer(client.received, "HEAD", False).status == 200 for client in clients)
    assert len(house.node.asked) == 2
    house.assert_at_rest()
