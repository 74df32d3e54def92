"""Nodes that come and go: which of them is asked, and who waits."""

from collections.abc import Coroutine
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from txcouchdl.couch.client import CouchClient
from txcouchdl.couch.cluster import Cluster
from txcouchdl.couch.errors import NoNodeAvailable, Overloaded, UpstreamTimeout, UpstreamUnavailable
from txcouchdl.couch.hedging import Hedge
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.places import Member, Place, Wish
from txcouchdl.couch.tally import HedgeKind

ANY = Wish()
LOST = UpstreamUnavailable("lost")


class Node(CouchClient):
    """A node of which nothing is asked but whether it is up."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_up = True
        self.is_silent = False
        self.probes = 0
        self.visible: int | None = None
        self.asking: list[Deferred[None]] = []

    def __str__(self) -> str:
        return self.name

    async def visible_nodes(self) -> int | None:
        return self.visible

    async def probe(self) -> None:
        self.probes += 1
        if self.is_silent:
            waiting: Deferred[None] = Deferred()
            self.asking.append(waiting)
            await waiting
        if not self.is_up:
            raise UpstreamUnavailable("down")


class Town:
    """A cluster with its nodes, and a clock."""

    def __init__(self, size: int, node: type[Node] = Node, **limits: Any) -> None:
        self.clock = Clock()
        self.nodes = [node(f"n{number}") for number in range(size)]
        self.cluster = Cluster(self.nodes, self.clock, UpstreamLimits(**limits))

    def wait(self, wish: Wish = ANY) -> "Deferred[Place]":
        return Deferred.fromCoroutine(self.cluster.place(wish))

    def place(self, wish: Wish = ANY) -> Place:
        return result_of(self.cluster.place(wish))

    def member(self, name: str) -> Member:
        """A node's place in the cluster, by taking places until it is its turn."""
        return next(place.member for place in self._one_of_each() if str(place.member.client) == name)

    def _one_of_each(self) -> list[Place]:
        places: list[Place] = []
        for _ in self.nodes:
            places.append(self.place(Wish(tried=[place.member for place in places])))
        for place in places:
            place.vacate()
        return places

    def names(self, count: int, *, keep: bool = False) -> list[str]:
        """The nodes that the next places are at."""
        names = []
        for _ in range(count):
            place = self.place()
            names.append(str(place.member.client))
            if not keep:
                place.vacate()
        return names


def result_of(coroutine: "Coroutine[Deferred[Any], Any, Place]") -> Place:
    results: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    [result] = results
    if not isinstance(result, Place):
        result.raiseException()
    assert isinstance(result, Place)
    return result


def test_each_in_turn() -> None:
    assert Town(3).names(7) == ["n0", "n1", "n2", "n0", "n1", "n2", "n0"]


def test_the_one_with_the_fewest_exchanges() -> None:
    town = Town(3)
    places = [town.place() for _ in range(6)]
    for place in places:
        if str(place.member.client) == "n1":
            place.vacate()
    assert town.names(2, keep=True) == ["n1", "n1"]


def test_nobody_goes_before_those_who_wait() -> None:
    town = Town(1, max_upstream=1)
    first = town.place()
    likely: list[Place | None] = []

    def leave(place: Place) -> None:
        place.vacate()
        # Of the two who wait one has just had the only place, which is free until the other gets it.
        likely.append(town.cluster.likely_place(None, ()))

    for is_committed in False, True:
        town.wait(Wish(is_committed=is_committed)).addCallback(leave)
    first.vacate()
    assert likely[0] is None
    last = likely[1]
    assert last is not None
    assert town.cluster.likely_place(None, ()) is None
    last.vacate()
    assert town.cluster.likely_place(None, [last.member]) is None
    assert town.cluster.likely_place(last.member, ()) is not None


def test_of_several_nodes_none_is_likely_but_the_preferred_one() -> None:
    town = Town(2)
    assert town.cluster.likely_place(None, ()) is None
    second = town.member("n1")
    place = town.cluster.likely_place(second, ())
    assert place is not None
    assert place.member is second
    second.health.failed(LOST)
    assert town.cluster.likely_place(second, ()) is None


def test_the_preferred_one_as_long_as_it_works() -> None:
    town = Town(3)
    second = town.member("n1")
    assert {str(town.place(Wish(second)).member.client) for _ in range(5)} == {"n1"}
    town.nodes[1].is_up = False
    second.health.failed(LOST)
    assert town.place(Wish(second)).member is not second


def test_not_where_it_has_not_worked_if_there_is_a_choice() -> None:
    town = Town(2)
    first, second = town.member("n0"), town.member("n1")
    assert town.place(Wish(first, [first])).member is second
    assert town.place(Wish(None, [first, second])).member in {first, second}


def test_a_place_vacated_twice_is_one() -> None:
    town = Town(1, max_upstream=2)
    place, _ = town.place(), town.place()
    place.vacate()
    place.vacate()
    town.place()
    assert town.wait().called is False


def test_who_waits_is_served_in_order() -> None:
    town = Town(1, max_upstream=1)
    place = town.place()
    served: dict[str, Place] = {}
    for name in ("first", "second", "third"):
        town.wait().addCallback(lambda place, name: served.update({name: place}), name)
    assert not served
    place.vacate()
    assert list(served) == ["first"]
    served["first"].vacate()
    assert list(served) == ["first", "second"]


def test_a_download_that_has_begun_is_served_before_requests_and_waits_for_longer() -> None:
    town = Town(1, max_upstream=1, queue_timeout=3)
    place = town.place()
    served: list[str] = []

    def serve(place: Place, name: str) -> None:
        served.append(name)
        place.vacate()

    town.wait().addCallback(serve, "request")
    town.wait(Wish(is_committed=True)).addCallback(serve, "download")
    place.vacate()
    assert served == ["download", "request"]
    place = town.place()
    town.wait(Wish(is_committed=True)).addCallback(serve, "at last")
    town.clock.advance(1000)
    place.vacate()
    assert served == ["download", "request", "at last"]


def test_a_place_that_is_vacated_at_once_goes_to_the_next() -> None:
    town = Town(1, max_upstream=1)
    place = town.place()
    for _ in range(3000):
        town.wait().addCallback(Place.vacate)
    place.vacate()
    assert town.names(1) == ["n0"]
    assert not town.clock.getDelayedCalls()


def test_nobody_waits_for_ever() -> None:
    town = Town(2, max_upstream=1, queue_timeout=3)
    places = [town.place(), town.place()]
    waiting = town.wait()
    failures: list[Any] = []
    waiting.addErrback(failures.append)
    town.clock.advance(2.9)
    assert not failures
    town.clock.advance(0.2)
    [failure] = failures
    assert failure.check(Overloaded)
    assert failure.value.retry_after > 0
    for place in places:
        place.vacate()
    assert town.names(2, keep=True)
    town.cluster.stop()
    assert not town.clock.getDelayedCalls()


def test_no_time_to_wait() -> None:
    town = Town(1, max_upstream=1, queue_timeout=0)
    town.place()
    failures: list[Any] = []
    town.wait().addErrback(failures.append)
    town.clock.advance(0)
    assert failures[0].check(Overloaded)


def test_who_leaves_the_queue_takes_nobodys_place() -> None:
    town = Town(1, max_upstream=1)
    place = town.place()
    left, stays = town.wait(), town.wait()
    failures: list[Any] = []
    left.addErrback(failures.append)
    left.cancel()
    assert failures[0].check(CancelledError)
    place.vacate()
    assert stays.called


def test_a_failure_is_doubt_and_the_probe_decides() -> None:
    town = Town(2)
    first = town.member("n0")
    first.health.failed(LOST)
    assert town.names(3) == ["n1"] * 3
    town.clock.advance(0)
    assert town.nodes[0].probes == 1
    assert set(town.names(2)) == {"n0", "n1"}


def test_a_doubted_node_is_used_where_there_is_no_other() -> None:
    """One damaged attachment, to which CouchDB answers 500, must not take its only node from all others."""
    town = Town(1)
    town.member("n0").health.failed(LOST)
    assert town.names(1) == ["n0"]


def test_a_node_that_is_down_is_not_used() -> None:
    town = Town(1)
    town.nodes[0].is_up = False
    town.member("n0").health.failed(LOST)
    town.clock.advance(0)
    with pytest.raises(NoNodeAvailable) as caught:
        town.place()
    assert caught.value.retry_after >= 1
    town.nodes[0].is_up = True
    town.clock.advance(0.3)
    assert town.names(1) == ["n0"]


def test_it_is_asked_again_in_longer_and_longer_intervals() -> None:
    town = Town(1)
    town.nodes[0].is_up = False
    town.member("n0").health.failed(LOST)
    asked = []
    for _ in range(4000):
        before = town.nodes[0].probes
        town.clock.advance(0.05)
        if town.nodes[0].probes > before:
            asked.append(town.clock.seconds())
    intervals = [round(later - earlier, 1) for earlier, later in pairwise(asked)]
    assert intervals[:5] == [pytest.approx(each, abs=0.15) for each in (0.25, 0.5, 1, 2, 4)]
    assert max(intervals) <= 32.1
    assert intervals[-1] > 30


def test_a_node_down_for_a_year_does_not_overflow() -> None:
    town = Town(1)
    town.nodes[0].is_up = False
    town.member("n0").health.failed(LOST)
    for _ in range(3000):
        town.clock.advance(40)
    assert town.nodes[0].probes > 2900


def test_who_has_need_of_a_node_has_it_asked_at_once_but_not_all_the_time() -> None:
    town = Town(1)
    node = town.nodes[0]
    node.is_up = False
    town.member("n0").health.failed(LOST)
    for _ in range(8):
        town.clock.advance(40)
    before = node.probes
    town.clock.advance(1)
    for _ in range(50):
        with pytest.raises(NoNodeAvailable):
            town.place()
    assert node.probes == before + 1
    town.clock.advance(1.1)
    node.is_up = True
    assert town.names(1) == ["n0"]


@pytest.mark.parametrize("is_up", [True, False])
def test_who_has_need_of_a_node_waits_for_what_it_says(is_up: bool) -> None:
    town = Town(2)
    for node in town.nodes:
        node.is_up = False
        town.member(node.name).health.failed(LOST)
    for _ in range(8):
        town.clock.advance(40)
    town.clock.advance(1)
    for node in town.nodes:
        node.is_silent = True
        node.is_up = is_up
    results: list[Any] = []
    town.wait().addBoth(results.append)
    town.wait().addBoth(results.append)
    assert not results
    town.nodes[1].asking.pop().callback(None)
    assert len(results) == (2 if is_up else 0)
    town.nodes[0].asking.pop().callback(None)
    assert len(results) == 2
    assert all(isinstance(each, Place) if is_up else each.check(NoNodeAvailable) for each in results)


def test_a_success_ends_all_doubt() -> None:
    town = Town(1)
    health = town.member("n0").health
    for _ in range(3):
        health.failed(LOST)
        health.succeeded()
    assert not town.clock.getDelayedCalls()
    town.clock.advance(60)
    assert town.nodes[0].probes == 0


def test_a_success_while_it_is_asked() -> None:
    """What the probe says then is of no interest: neither its answer nor its silence is waited for."""
    town = Town(1)
    node, health = town.nodes[0], town.member("n0").health
    node.is_silent = True
    health.failed(LOST)
    town.clock.advance(0)
    health.succeeded()
    health.failed(UpstreamTimeout("slow"))
    town.clock.advance(0)
    assert node.probes == 2
    town.cluster.stop()
    assert not town.clock.getDelayedCalls()


def test_a_node_that_passes_its_probe_and_fails_again_and_again_is_doubted_for_longer() -> None:
    town = Town(2)
    health = town.member("n0").health
    lasted = []
    for _ in range(5):
        health.failed(LOST)
        began = town.clock.seconds()
        while set(town.names(2)) == {"n1"}:
            town.clock.advance(0.05)
        lasted.append(town.clock.seconds() - began)
    assert lasted == [pytest.approx(each, abs=0.1) for each in (0, 0.25, 0.5, 1, 2)]


def test_nothing_is_hedged_once_it_is_stopped() -> None:
    town = Town(2)
    assert town.cluster.hedges is not None
    Hedge(town.cluster.hedges, HedgeKind.HEAD, lambda: True).wait()
    town.cluster.stop()
    assert not town.clock.getDelayedCalls()


def test_who_waits_learns_that_no_node_works() -> None:
    town = Town(1, max_upstream=1)
    town.place()
    failures: list[Any] = []
    town.wait().addErrback(failures.append)
    town.nodes[0].is_up = False
    town.cluster._members[0].health.failed(LOST)
    town.clock.advance(0)
    assert failures[0].check(NoNodeAvailable)


@given(st.lists(st.sampled_from(["take", "vacate", "fail", "succeed", "wait", "up", "down", "leave"]), max_size=60))
def test_no_place_is_lost_or_given_twice(steps: list[str]) -> None:
    town = Town(2, max_upstream=2, queue_timeout=5)
    held: list[Place] = []
    waiting: list[Deferred[Any]] = []
    for turn, step in enumerate(steps):
        member = town.cluster._members[turn % 2]
        if step == "take":
            entry = town.wait()
            entry.addCallbacks(held.append, lambda _: None)
            waiting.append(entry)
        elif step == "vacate" and held:
            held.pop(turn % len(held)).vacate()
        elif step == "fail":
            member.health.failed(LOST)
        elif step == "succeed":
            member.health.succeeded()
        elif step == "wait":
            town.clock.advance(1.3)
        elif step in {"up", "down"}:
            town.nodes[turn % 2].is_up = step == "up"
        elif step == "leave" and waiting:
            waiting.pop().cancel()
        assert [each.busy for each in town.cluster._members] == [
            sum(place.member is each for place in held) for each in town.cluster._members
        ]
        assert all(each.busy <= 2 for each in town.cluster._members)
    for place in held:
        place.vacate()
    for node in town.nodes:
        node.is_up = True
    for _ in range(40):
        town.clock.advance(1)
    assert not town.cluster._waiting
    assert len(town.names(4, keep=True)) == 4
    town.cluster.stop()
    assert not town.clock.getDelayedCalls()
