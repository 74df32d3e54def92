"""How steps are shared out over the turns of the reactor."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from txcouchdl.couch.step_budget import STEPS_A_TURN, StepBudget


class Worker:
    """Has so many steps to do. Notes each in a common log."""

    def __init__(self, name: int, steps: int, budget: StepBudget, log: list[int]) -> None:
        self.name = name
        self.left = steps
        self._budget = budget
        self._log = log

    def take_turn(self) -> None:
        while self.left and self._budget.allows(self):
            self.left -= 1
            self._log.append(self.name)
            self._budget.spend()


class Scene:
    def __init__(self, *amounts: int) -> None:
        self.clock = Clock()
        self.budget = StepBudget(self.clock)
        self.log: list[int] = []
        self.workers = [Worker(name, steps, self.budget, self.log) for name, steps in enumerate(amounts)]

    def turn(self) -> list[int]:
        """What is done in one turn of the reactor, in which nothing else happens."""
        done = len(self.log)
        due = list(self.clock.calls)
        assert len(due) <= 1
        for call in due:
            assert call.getTime() == 0
            self.clock.calls.remove(call)
            call.called = 1
            call.func()
        return self.log[done:]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12))
def test_all_work_is_done_and_no_turn_has_more_than_its_share(amounts: list[int]) -> None:
    scene = Scene(*amounts)
    for worker in scene.workers:
        worker.take_turn()
    turns = [list(scene.log)]
    while scene.clock.getDelayedCalls():
        turns.append(scene.turn())
    assert all(len(turn) <= STEPS_A_TURN for turn in turns)
    # No turn is wasted, but for the last one, which finds nothing to do.
    assert all(len(turn) == STEPS_A_TURN for turn in turns[:-2])
    assert sorted(scene.log) == sorted(name for name, steps in enumerate(amounts) for _ in range(steps))


@given(st.lists(st.integers(10, 30), min_size=2, max_size=12))
def test_those_that_wait_take_turns(amounts: list[int]) -> None:
    scene = Scene(*amounts)
    for worker in scene.workers:
        worker.take_turn()
    while scene.clock.getDelayedCalls():
        scene.turn()
    # The first one has had a turn of the reactor for itself.
    log = scene.log[STEPS_A_TURN:]
    busy = len(amounts)
    rounds = [log[at : at + busy] for at in range(0, 5 * busy, busy)]
    assert all(sorted(each) == list(range(busy)) for each in rounds)


def test_who_comes_while_others_wait_waits_behind_them() -> None:
    scene = Scene(STEPS_A_TURN + 1, 1, 1)
    first, second, third = scene.workers
    first.take_turn()
    second.take_turn()
    assert scene.log == [0] * STEPS_A_TURN
    scene.clock.advance(0)
    assert scene.log[STEPS_A_TURN:] == [0, 1]
    third.take_turn()
    assert scene.log[-1] == 2, "nobody waits any more, and there are steps left in this turn"


def test_steps_of_a_turn_are_not_saved_for_another_one() -> None:
    scene = Scene(1, 100)
    scene.workers[0].take_turn()
    for _ in range(10):
        scene.clock.advance(0)
    scene.workers[1].take_turn()
    assert len(scene.log) == 1 + STEPS_A_TURN


def test_who_has_left_is_not_called() -> None:
    scene = Scene(STEPS_A_TURN, 5, 5)
    for worker in scene.workers:
        worker.take_turn()
    scene.budget.leave(scene.workers[1])
    scene.budget.leave(scene.workers[1])
    while scene.clock.getDelayedCalls():
        scene.turn()
    assert set(scene.log) == {0, 2}


def test_a_worker_that_fails_stops_no_other() -> None:
    scene = Scene(STEPS_A_TURN, 0, 5)

    class Broken(Worker):
        def take_turn(self) -> None:
            raise ZeroDivisionError

    broken = Broken(1, 1, scene.budget, scene.log)
    scene.workers[0].take_turn()
    assert not scene.budget.allows(broken)
    scene.workers[2].take_turn()
    with pytest.raises(ZeroDivisionError):
        scene.turn()
    while scene.clock.getDelayedCalls():
        scene.turn()
    assert scene.log.count(2) == 5


def test_who_asks_twice_waits_once() -> None:
    scene = Scene(STEPS_A_TURN, 1)
    scene.workers[0].take_turn()
    assert not scene.budget.allows(scene.workers[1])
    assert not scene.budget.allows(scene.workers[1])
    assert scene.turn() == [1]
    assert scene.turn() == []
    assert not scene.clock.getDelayedCalls()
