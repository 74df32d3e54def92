"""When a second exchange is begun, how many there are, and which of two is used."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.couch.test_cluster import Town
from txcouchdl.couch.errors import UpstreamTimeout, UpstreamUnavailable
from txcouchdl.couch.hedging import LEAST_BUDGET, Hedge, Hedges, Race
from txcouchdl.couch.places import Place
from txcouchdl.couch.tally import HedgeKind, Tally

AFTER = 3.0
KIND = HedgeKind.HEAD


class Ledger(Tally):
    """Counts hedges."""

    def __init__(self) -> None:
        self.begun: list[HedgeKind] = []
        self.won: list[HedgeKind] = []

    def hedged(self, kind: HedgeKind) -> None:
        self.begun.append(kind)

    def hedge_won(self, kind: HedgeKind) -> None:
        self.won.append(kind)


class Office:
    """Hedges, of which the test says how many exchanges there are and whether there is a place for another."""

    def __init__(self, exchanges: int = 0) -> None:
        self.clock = Clock()
        self.exchanges = exchanges
        self.has_place = True
        self.ledger = Ledger()
        self.hedges = Hedges(AFTER, lambda: self.exchanges, self.clock, self.ledger)
        self.started: list[str] = []

    def hedge(self, name: str = "one") -> Hedge:
        def start() -> bool:
            if self.has_place:
                self.started.append(name)
            return self.has_place

        return Hedge(self.hedges, KIND, start)

    def waiting(self, name: str = "one") -> Hedge:
        hedge = self.hedge(name)
        hedge.wait()
        return hedge


def test_an_exchange_that_takes_long_is_hedged_once() -> None:
    office = Office()
    hedge = office.waiting()
    office.clock.advance(AFTER - 0.01)
    assert not office.started
    office.clock.advance(0.01)
    office.clock.advance(1000)
    assert office.started == ["one"]
    assert office.ledger.begun == [KIND]
    hedge.end()
    assert not office.clock.getDelayedCalls()


def test_an_exchange_that_ends_in_time_is_not() -> None:
    office = Office()
    office.waiting().end()
    office.clock.advance(1000)
    assert not office.started
    assert not office.ledger.begun


def test_each_is_due_at_its_own_time_by_a_single_call() -> None:
    office = Office(1000)
    begun = [0.0, 0.0, 0.25, 0.75, 1.5, 2.5, 3.75]
    due: list[float] = []
    for step in range(80):
        now = step / 8
        due += [now] * (len(office.started) - len(due))
        for _ in range(begun.count(now)):
            office.waiting(str(now))
        assert len(office.clock.getDelayedCalls()) == (len(due) < 7)
        office.clock.advance(1 / 8)
    assert due == [AFTER + at for at in begun]


def test_exchanges_that_end_in_time_move_no_call() -> None:
    """Of thousands a second, each would else cost a call that is made and cancelled."""
    office = Office()
    office.waiting()
    [call] = office.clock.getDelayedCalls()
    for _ in range(1000):
        office.waiting().end()
    assert office.clock.getDelayedCalls() == [call]


@pytest.mark.parametrize(("exchanges", "budget"), [(0, LEAST_BUDGET), (49, 4), (50, 5), (59, 5), (1000, 100)])
def test_only_so_many_at_once(exchanges: int, budget: int) -> None:
    office = Office(exchanges)
    hedges = [office.waiting(str(number)) for number in range(300)]
    office.clock.advance(AFTER)
    assert office.started == [str(number) for number in range(budget)]
    hedges[1].end()
    hedges[0].end()
    assert len(office.started) == budget + 2, "the next in turn"
    hedges[budget + 3].end()
    for hedge in hedges:
        hedge.end()
    assert str(budget + 3) not in office.started, "whose exchange is over"
    assert len(office.started) == 299
    assert office.ledger.begun == [KIND] * 299
    assert not office.hedges._running


def test_without_a_place_it_is_tried_again_later_and_uses_no_budget() -> None:
    office = Office()
    office.has_place = False
    for number in range(100):
        office.waiting(str(number))
    office.clock.advance(AFTER)
    assert not office.hedges._running
    office.clock.advance(AFTER - 0.01)
    office.has_place = True
    assert not office.started
    office.clock.advance(0.02)
    assert len(office.started) == LEAST_BUDGET
    assert office.ledger.begun == [KIND] * LEAST_BUDGET


def test_a_hedge_that_is_asked_for_begins_at_once() -> None:
    office = Office()
    office.hedge().request()
    assert office.started == ["one"]


def test_a_second_exchange_that_is_over_at_once() -> None:
    """Thousands, one from within the other's start."""
    office = Office()
    hedges: list[Hedge] = []
    over: list[int] = []

    def start(number: int) -> Callable[[], bool]:
        def starting() -> bool:
            over.append(number)
            hedges[number].end()
            return True

        return starting

    for number in range(5000):
        hedges.append(Hedge(office.hedges, KIND, start(number)))
        hedges[number].wait()
    office.clock.advance(AFTER)
    assert over == list(range(5000))
    assert not office.hedges._running


def test_a_fault_of_ours_in_a_start_stops_no_others() -> None:
    office = Office()

    def fail() -> bool:
        raise RuntimeError

    Hedge(office.hedges, KIND, fail).wait()
    with pytest.raises(RuntimeError):
        office.clock.advance(AFTER)
    office.hedge().request()
    assert office.started == ["one"]


def test_nothing_begins_once_it_is_stopped() -> None:
    office = Office()
    running = office.hedge("running")
    running.request()
    office.waiting()
    office.hedges.stop()
    assert not office.clock.getDelayedCalls()
    office.waiting()
    assert not office.clock.getDelayedCalls()
    running.end()
    office.hedges.stop()
    assert office.started == ["running"]


@given(st.lists(st.tuples(st.sampled_from(["wait", "request", "end", "pass", "full", "free"]), st.integers(0, 9))))
def test_no_unit_of_the_budget_is_lost(steps: list[tuple[str, int]]) -> None:
    office = Office()
    hedges: list[Hedge] = []
    for step, number in steps:
        if step in {"wait", "request"}:
            hedges.append(office.hedge(str(len(hedges))))
            getattr(hedges[-1], step)()
        elif step == "end" and hedges:
            hedges[number % len(hedges)].end()
        elif step == "pass":
            office.clock.advance(number / 2)
        office.has_place = step != "full"
        assert len(office.hedges._running) <= LEAST_BUDGET
        assert len(office.started) == len(set(office.started)), "twice"
    office.has_place = True
    for hedge in hedges:
        hedge.end()
    office.clock.advance(AFTER)
    assert not [*office.hedges._waiting, *office.hedges._queued, *office.hedges._running]
    assert not office.clock.getDelayedCalls()


# Races.


class Track:
    """Races between the nodes of a town."""

    def __init__(self, size: int = 3) -> None:
        self.town = Town(size)
        self.ledger = Ledger()
        self.hedges = Hedges(AFTER, lambda: 0, self.town.clock, self.ledger)
        # By the names of the nodes.
        self.exchanges: dict[str, Deferred[str]] = {}
        self.cancelled: list[str] = []
        self.overtaken: list[str] = []
        self.failed: list[tuple[str, object]] = []
        self.is_fatal = False
        self.has_place = True
        self.results: list[Any] = []

    def run(self) -> "Deferred[tuple[str, Place]]":
        race = Race(self._begin, self._find_place, lambda place: self.overtaken.append(name(place)), self._note)
        first = self.town.place()
        result = race.run(first, self.hedges, KIND)
        result.addBoth(self.results.append)
        return result

    async def _begin(self, place: Place) -> str:
        waiting: Deferred[str] = Deferred(lambda _: self.cancelled.append(name(place)))
        self.exchanges[name(place)] = waiting
        return await waiting

    def _find_place(self) -> Place | None:
        return self.town.cluster.spare_place([self.town.cluster._members[-1]]) if self.has_place else None

    def _note(self, place: Place, error: BaseException | None) -> bool:
        self.failed.append((name(place), error))
        return not self.is_fatal

    @property
    def busy(self) -> dict[str, int]:
        return {str(member.client): member.busy for member in self.town.cluster._members if member.busy}

    @property
    def answer(self) -> str:
        [(answer, place)] = self.results
        assert self.busy == {name(place): 1}, "its place is kept, and no other"
        place.vacate()
        self.town.cluster.stop()
        assert not self.hedges._running
        return str(answer)


def name(place: Place) -> str:
    return str(place.member.client)


LOST = UpstreamUnavailable("lost")


def test_an_answer_in_time_is_no_race() -> None:
    track = Track()
    track.run()
    track.exchanges["n0"].callback("first")
    assert track.answer == "first"
    track.town.clock.advance(AFTER)
    assert [*track.exchanges] == ["n0"]
    assert not track.ledger.begun


def test_the_second_node_is_faster() -> None:
    track = Track()
    track.run()
    track.town.clock.advance(AFTER)
    assert track.busy == {"n0": 1, "n1": 1}
    track.exchanges["n1"].callback("second")
    assert track.answer == "second"
    assert track.cancelled == track.overtaken == ["n0"]
    assert track.ledger.begun == track.ledger.won == [KIND]


def test_the_first_node_is_faster_after_all() -> None:
    track = Track()
    track.run()
    track.town.clock.advance(AFTER)
    track.exchanges["n0"].callback("first")
    assert track.answer == "first"
    assert track.cancelled == ["n1"]
    assert not track.overtaken
    assert (track.ledger.begun, track.ledger.won) == ([KIND], [])


@pytest.mark.parametrize(("fails", "answers"), [("n0", "n1"), ("n1", "n0")])
def test_one_fails_and_the_other_goes_on(fails: str, answers: str) -> None:
    track = Track()
    track.run()
    track.town.clock.advance(AFTER)
    track.exchanges[fails].errback(LOST)
    assert track.busy == {answers: 1}
    assert not track.hedges._running, "what is left is no additional exchange"
    track.town.clock.advance(10 * AFTER)
    assert [*track.exchanges] == ["n0", "n1"]
    track.exchanges[answers].callback("other")
    assert track.answer == "other"
    assert track.failed == [(fails, LOST)]
    assert not track.overtaken
    assert not track.ledger.won


def test_a_failure_in_time_is_no_race() -> None:
    track = Track()
    track.run()
    track.exchanges["n0"].errback(LOST)
    assert track.results[0].value is LOST
    track.town.clock.advance(AFTER)
    assert [*track.exchanges] == ["n0"]
    assert not track.busy


@pytest.mark.parametrize("order", [("n0", "n1"), ("n1", "n0")])
def test_both_fail(order: tuple[str, str]) -> None:
    track = Track()
    track.run()
    track.town.clock.advance(AFTER)
    last = UpstreamTimeout("last")
    track.exchanges[order[0]].errback(LOST)
    assert not track.results
    track.exchanges[order[1]].errback(last)
    assert track.results[0].value is last
    assert track.failed == [(order[0], LOST), (order[1], last)]
    assert not track.busy
    assert not track.hedges._running


@pytest.mark.parametrize("fails", ["n0", "n1"])
def test_a_failure_that_the_other_would_have_too_ends_both(fails: str) -> None:
    track = Track()
    track.is_fatal = True
    track.run()
    track.town.clock.advance(AFTER)
    track.exchanges[fails].errback(LOST)
    assert track.results[0].value is LOST
    assert len(track.cancelled) == 1
    assert not track.busy
    assert not track.hedges._running


@pytest.mark.parametrize("seconds", [1, 4])
def test_who_leaves_drops_both(seconds: float) -> None:
    track = Track()
    result = track.run()
    track.town.clock.advance(seconds)
    result.cancel()
    assert isinstance(track.results[0], Failure)
    assert track.results[0].check(CancelledError)
    assert sorted(track.cancelled) == [*track.exchanges]
    assert not track.busy
    assert not track.failed
    track.town.clock.advance(10)
    assert not track.hedges._running


def test_without_a_place_at_another_node_the_first_one_is_waited_for() -> None:
    track = Track()
    track.has_place = False
    track.run()
    track.town.clock.advance(AFTER)
    track.exchanges["n0"].callback("first")
    assert track.answer == "first"
    assert not track.ledger.begun
