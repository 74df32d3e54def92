"""Memory for documents: nobody is refused who can wait, and it comes back on every way out."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from txcouchdl.couch.document_memory import DocumentMemory
from txcouchdl.couch.errors import Overloaded
from txcouchdl.couch.tally import Tally

SIZE = 100
TIMEOUT = 15.0


class Refusals(Tally):
    def __init__(self) -> None:
        self.count = 0

    def overloaded(self) -> None:
        self.count += 1


class Desk:
    """The memory, a clock, and those who took some, or wait for it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.refusals = Refusals()
        self.memory = DocumentMemory(SIZE, TIMEOUT, self.clock, self.refusals)

    def take(self, count: int, *, is_committed: bool = False) -> "Deferred[None]":
        return Deferred.fromCoroutine(self.memory.take(count, is_committed=is_committed))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def error_of(waiting: "Deferred[Any]") -> BaseException:
    found: list[Any] = []

    def keep(failure: Failure) -> None:
        found.append(failure.value)

    waiting.addErrback(keep)
    error: BaseException = found[0]
    return error


def test_what_there_is_may_be_taken(desk: Desk) -> None:
    assert desk.take(60).called
    assert desk.take(40).called
    assert desk.memory.free == 0
    assert not desk.clock.getDelayedCalls()


def test_one_document_may_take_all(desk: Desk) -> None:
    assert desk.take(SIZE).called


def test_who_came_first_is_served_first(desk: Desk) -> None:
    """A small one does not go before a large one, or that would wait for ever."""
    desk.take(60)
    large, small = desk.take(90), desk.take(10)
    assert not large.called
    assert not small.called
    desk.memory.give_back(60)
    assert large.called
    assert small.called
    assert desk.memory.free == 0
    assert not desk.clock.getDelayedCalls()


def test_downloads_that_have_begun_go_first(desk: Desk) -> None:
    desk.take(SIZE)
    request, download, another = desk.take(60), desk.take(60, is_committed=True), desk.take(60, is_committed=True)
    desk.memory.give_back(SIZE)
    assert [each.called for each in (request, download, another)] == [False, True, False]
    desk.memory.give_back(60)
    assert [each.called for each in (request, download, another)] == [False, True, True]
    desk.memory.give_back(60)
    assert request.called


def test_a_download_that_has_begun_does_not_wait_behind_requests(desk: Desk) -> None:
    desk.take(60)
    request = desk.take(90)
    assert desk.take(40, is_committed=True).called
    assert not request.called


def test_a_request_does_not_go_before_a_download_that_waits(desk: Desk) -> None:
    desk.take(60)
    desk.take(90, is_committed=True)
    assert not desk.take(10).called


def test_a_request_waits_for_some_time(desk: Desk) -> None:
    desk.take(SIZE)
    request, download = desk.take(1), desk.take(1, is_committed=True)
    desk.clock.advance(TIMEOUT - 0.1)
    assert not request.called
    desk.clock.advance(0.2)
    error = error_of(request)
    assert isinstance(error, Overloaded)
    assert error.retry_after > 0
    assert desk.refusals.count == 1
    desk.clock.advance(1000 * TIMEOUT)
    assert not download.called
    desk.memory.give_back(SIZE)
    assert download.called
    assert desk.memory.free == SIZE - 1
    assert not desk.clock.getDelayedCalls()


@pytest.mark.parametrize("is_committed", [False, True])
def test_who_leaves_lets_the_next_one_through(desk: Desk, is_committed: bool) -> None:
    desk.take(60)
    large, small = desk.take(90, is_committed=is_committed), desk.take(40)
    assert not small.called
    large.cancel()
    assert isinstance(error_of(large), CancelledError)
    assert small.called
    assert not desk.clock.getDelayedCalls()


def test_who_gives_back_at_once_keeps_the_order(desk: Desk) -> None:
    """From within the grant."""
    desk.take(SIZE)
    order: list[int] = []

    def done(_: None, number: int, count: int) -> None:
        order.append(number)
        desk.memory.give_back(count)

    for number, count in enumerate([90, 20, 90, 20]):
        desk.take(count).addCallback(done, number, count)
    desk.memory.give_back(SIZE)
    assert order == [0, 1, 2, 3]
    assert desk.memory.free == SIZE


class Reads(RuleBasedStateMachine):
    """Any reads, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk()
        # Those who wait, in the order in which they are to be served, and what the others took.
        self.waiting: list[tuple[Deferred[None], int, bool]] = []
        self.taken: list[int] = []

    @rule(count=st.integers(1, SIZE), is_committed=st.booleans())
    def take(self, count: int, is_committed: bool) -> None:
        self.waiting.append((self.desk.take(count, is_committed=is_committed), count, is_committed))
        self.waiting.sort(key=lambda each: not each[2])

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        if self.taken:
            self.desk.memory.give_back(self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1))))

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        if self.waiting:
            waiting, _, _ = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
            waiting.cancel()
            error_of(waiting)

    @rule(seconds=st.sampled_from([1.0, TIMEOUT + 1]))
    def wait(self, seconds: float) -> None:
        self.desk.clock.advance(seconds)
        gone = [each for each in self.waiting if each[0].called]
        assert not [each for each in gone if each[2]]
        for each in gone:
            # Those behind it may be served then.
            if each[0].result is not None:
                assert isinstance(error_of(each[0]), Overloaded)
                self.waiting.remove(each)
        self._serve()

    @invariant()
    def first_come_first_served(self) -> None:
        self._serve()

    def _serve(self) -> None:
        while self.waiting and self.waiting[0][0].called:
            self.taken.append(self.waiting.pop(0)[1])
        assert not [each for each in self.waiting if each[0].called]
        assert self.desk.memory.free == SIZE - sum(self.taken) >= 0
        assert not self.waiting or self.waiting[0][1] > self.desk.memory.free
        assert len(self.desk.clock.getDelayedCalls()) == sum(not each[2] for each in self.waiting)


TestReads = Reads.TestCase


# More would have waited too long, each for a second.
@given(st.lists(st.integers(1, SIZE), max_size=14))
def test_all_get_it_in_the_end(counts: list[int]) -> None:
    desk = Desk()

    def read(_: None, count: int) -> None:
        desk.clock.callLater(1, desk.memory.give_back, count)

    for count in counts:
        desk.take(count).addCallback(read, count)
    for _ in counts:
        desk.clock.advance(1)
    assert desk.memory.free == SIZE
    assert not desk.clock.getDelayedCalls()
