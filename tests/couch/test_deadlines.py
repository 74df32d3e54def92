"""Deadlines, against a model that has a delayed call for each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from txcouchdl.couch.deadlines import Deadline, Deadlines
from txcouchdl.couch.errors import UpstreamTimeout

SECONDS = 10.0


class Waiting:
    """Somebody who waits for two things, one after the other, as long as there is time for both."""

    def __init__(self, clock: Clock, deadlines: Deadlines) -> None:
        self.things: tuple[Deferred[str], Deferred[str]] = (Deferred(), Deferred())
        self.past_at = clock.seconds() + SECONDS
        self.deadline: Deadline = deadlines.begin()
        self.done = Deferred.fromCoroutine(self._wait())
        self.outcome: object = None
        self.done.addBoth(self._note)

    async def _wait(self) -> list[str]:
        try:
            return [await self.deadline.wait(each) for each in self.things]
        finally:
            self.deadline.end()

    def _note(self, outcome: object) -> None:
        self.outcome = getattr(outcome, "value", outcome)


_STEPS = st.lists(st.tuples(st.sampled_from(["begin", "fire", "cancel", "time"]), st.integers(0, 12)), max_size=30)


@given(_STEPS)
def test_each_has_its_own_time(steps: list[tuple[str, int]]) -> None:
    clock = Clock()
    clock.advance(100)
    deadlines = Deadlines("a node", SECONDS, clock)
    all_waiting: list[Waiting] = []
    fired: dict[int, int] = {}
    cancelled: set[int] = set()
    for what, number in steps:
        if what == "begin":
            all_waiting.append(Waiting(clock, deadlines))
        elif what == "time":
            clock.advance(number)
        elif all_waiting:
            number %= len(all_waiting)
            waiting = all_waiting[number]
            if waiting.outcome is None and what == "fire":
                waiting.things[fired.get(number, 0)].callback("got")
                fired[number] = fired.get(number, 0) + 1
            elif waiting.outcome is None:
                waiting.done.cancel()
                cancelled.add(number)
        for index, each in enumerate(all_waiting):
            if fired.get(index) == 2:
                assert each.outcome == ["got", "got"]
            elif index in cancelled:
                assert isinstance(each.outcome, CancelledError)
            elif clock.seconds() >= each.past_at:
                assert isinstance(each.outcome, UpstreamTimeout)
                assert str(each.outcome) == "a node: no answer in time"
            else:
                assert each.outcome is None
        is_waiting = any(each.outcome is None for each in all_waiting)
        assert len(clock.getDelayedCalls()) == is_waiting


def test_who_comes_behind_time_does_not_wait() -> None:
    clock = Clock()
    deadlines = Deadlines("a node", SECONDS, clock)
    deadline = deadlines.begin()
    clock.advance(SECONDS)
    waiting: Deferred[str] = Deferred.fromCoroutine(deadline.wait(Deferred()))
    with pytest.raises(UpstreamTimeout):
        raise waiting.result.value  # type: ignore[attr-defined]
    waiting.addErrback(lambda _: None)


def test_what_is_there_is_taken_behind_time_too() -> None:
    clock = Clock()
    deadline = Deadlines("a node", SECONDS, clock).begin()
    clock.advance(SECONDS)
    there: Deferred[str] = Deferred()
    there.callback("got")
    assert Deferred.fromCoroutine(deadline.wait(there)).result == "got"
