"""Long work: one step at each turn of the reactor, in order."""

from collections.abc import Generator

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from txcouchdl.couch.turns import Turns


def work(name: str, steps: int, done: list[str]) -> Generator[None, None, str]:
    for step in range(steps):
        done.append(f"{name}{step}")
        yield
    return name


def turn(clock: Clock) -> None:
    """One turn of the reactor: what is asked for in it comes in the next one."""
    calls = [call for call in clock.getDelayedCalls() if call.getTime() <= clock.seconds()]
    clock.calls = [call for call in clock.calls if call not in calls]
    for call in calls:
        call.called = 1  # type: ignore[attr-defined]
        call.func()  # type: ignore[attr-defined]


def test_one_step_at_each_turn() -> None:
    clock, done = Clock(), list[str]()
    turns = Turns(clock)
    working = [Deferred.fromCoroutine(turns.run(work(name, 2, done))) for name in "abc"]
    for _ in working:
        turn(clock)
        assert done == [], "what led here may have taken long"
    expected = ["a0", "b0", "c0", "a1", "b1", "c1"]
    for count in range(1, len(expected) + 1):
        turn(clock)
        assert done == expected[:count]
    assert not any(each.called for each in working)
    for name, each in zip("abc", working, strict=True):
        turn(clock)
        assert each.result == name
    assert not clock.getDelayedCalls()


def test_work_that_is_done_at_once() -> None:
    clock = Clock()
    working = Deferred.fromCoroutine(Turns(clock).run(work("a", 0, [])))
    turn(clock)
    turn(clock)
    assert working.result == "a"
    assert not clock.getDelayedCalls()


def test_an_error_ends_it() -> None:
    def failing() -> Generator[None, None, None]:
        yield
        raise ValueError("bad")

    clock = Clock()
    turns = Turns(clock)
    working = Deferred.fromCoroutine(turns.run(failing()))
    for _ in range(3):
        turn(clock)
    with pytest.raises(ValueError, match="bad"):
        raise working.result.value  # type: ignore[attr-defined]
    working.addErrback(lambda _: None)
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize("first", [0, 1, 2])
@pytest.mark.parametrize("second", [0, 1, 2])
def test_work_that_is_cancelled_holds_up_nobody(first: int, second: int) -> None:
    clock, done = Clock(), list[str]()
    turns = Turns(clock)
    working = [Deferred.fromCoroutine(turns.run(work(name, 1, done))) for name in "abc"]
    cancelled = {first, second}
    for number in cancelled:
        working[number].cancel()
        working[number].addErrback(lambda failure: failure.trap(CancelledError) and None)
    for _ in range(3 * (3 - len(cancelled))):
        turn(clock)
    assert done == [f"{name}0" for number, name in enumerate("abc") if number not in cancelled]
    assert all(each.called for each in working)
    assert not clock.getDelayedCalls()


def test_nothing_is_waited_for_when_all_is_cancelled() -> None:
    clock = Clock()
    turns = Turns(clock)
    waiting = [turns.wait(), turns.wait()]
    for each in waiting:
        each.cancel()
        each.addErrback(lambda _: None)
    assert not clock.getDelayedCalls()
    again = turns.wait()
    turn(clock)
    assert again.called
