"""Whether there is a CouchDB to read from: how often nodes are asked, and how long somebody waits for it."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from tests.gateway.house import logged
from txcouchdl.couch.client import CouchClient
from txcouchdl.couch.errors import UpstreamUnavailable
from txcouchdl.couch.readiness import Readiness, States


class Node(CouchClient):
    """A node that says whether it is up when the test has it say so."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.asked: list[Deferred[None]] = []
        self.cancelled = 0

    async def probe(self) -> None:
        asking: Deferred[None] = Deferred()
        self.asked.append(asking)
        try:
            await asking
        except CancelledError:
            self.cancelled += 1
            raise

    def say(self, is_up: bool) -> None:
        asking = self.asked[-1]
        asking.callback(None) if is_up else asking.errback(UpstreamUnavailable("down"))


class Town:
    """Some nodes, and who asks."""

    def __init__(self, size: int = 3) -> None:
        self.clock = Clock()
        self.nodes = [Node(f"n{number}") for number in range(size)]
        self.readiness = Readiness(self.nodes, self.clock)
        self.told: list[States] = []

    def ask(self) -> "Deferred[States]":
        asking = self.readiness.ask()
        asking.addCallbacks(self.told.append, lambda failure: failure.trap(CancelledError))
        return asking

    @property
    def asked(self) -> list[int]:
        return [len(node.asked) for node in self.nodes]


def test_all_nodes_are_asked_at_once() -> None:
    town = Town()
    town.ask()
    assert town.asked == [1, 1, 1]
    for node, is_up in zip(town.nodes, (True, False, True), strict=True):
        assert town.told == []
        node.say(is_up)
    assert town.told == [{"n0": True, "n1": False, "n2": True}]
    assert not town.clock.getDelayedCalls()


def test_once_for_all_who_ask_within_a_second() -> None:
    town = Town(1)
    for _ in range(500):
        town.ask()
    assert town.asked == [1]
    town.clock.advance(0.2)
    town.nodes[0].say(True)
    assert town.told == [{"n0": True}] * 500
    for _ in range(9):
        town.clock.advance(0.1)
        town.ask()
    assert town.asked == [1]
    assert len(town.told) == 509
    town.clock.advance(0.2)
    town.ask()
    assert town.asked == [2]
    town.nodes[0].say(False)
    assert town.told[-1] == {"n0": False}


def test_a_clock_that_is_set_back() -> None:
    town = Town(1)
    town.clock.advance(1000)
    town.ask()
    town.nodes[0].say(True)
    town.clock.rightNow -= 500
    town.ask()
    assert town.asked == [2]


def test_a_node_that_hangs_is_not_waited_for_where_another_is_up() -> None:
    town = Town()
    town.ask()
    town.nodes[0].say(False)
    town.nodes[1].say(True)
    town.clock.advance(0.4)
    assert town.told == []
    town.clock.advance(0.2)
    assert town.told == [{"n0": False, "n1": True, "n2": False}]
    assert [node.cancelled for node in town.nodes] == [0, 0, 1]
    assert not town.clock.getDelayedCalls()


def test_if_none_is_up_by_then_the_first_that_is_ends_it() -> None:
    town = Town()
    town.ask()
    town.clock.advance(3)
    town.nodes[0].say(False)
    assert town.told == []
    town.nodes[1].say(True)
    assert town.told == [{"n0": False, "n1": True, "n2": False}]


def test_none_is_up() -> None:
    town = Town(2)
    town.ask()
    town.clock.advance(3)
    for node in town.nodes:
        node.say(False)
    assert town.told == [{"n0": False, "n1": False}]


def test_who_leaves_keeps_nobody_from_the_answer() -> None:
    town = Town(1)
    first = town.ask()
    town.ask()
    first.cancel()
    town.nodes[0].say(True)
    assert town.told == [{"n0": True}]
    assert town.nodes[0].cancelled == 0


def test_all_leave_and_somebody_comes() -> None:
    town = Town(1)
    town.ask().cancel()
    town.ask()
    assert town.asked == [1]
    town.nodes[0].say(True)
    assert town.told == [{"n0": True}]


def test_the_end() -> None:
    town = Town(2)
    town.readiness.stop()
    town.ask()
    town.nodes[1].say(True)
    town.readiness.stop()
    assert town.told == [{"n0": False, "n1": True}]
    assert town.nodes[0].cancelled == 1
    assert not town.clock.getDelayedCalls()


def test_a_fault_of_our_own_is_in_the_log() -> None:
    town = Town(1)
    town.ask()
    with logged() as events:
        town.nodes[0].asked[0].errback(RuntimeError("ours"))
    assert town.told == [{"n0": False}]
    assert any("could not be asked" in str(event["log_format"]) for event in events)


def test_who_asks_again_when_told() -> None:
    town = Town(1)
    town.readiness.ask().addCallback(lambda _: town.ask())
    town.nodes[0].say(True)
    assert (town.told, town.asked) == ([{"n0": True}], [1])


_SAYS = st.tuples(st.integers(0, 2), st.booleans())
_WAITS = st.sampled_from([0.1, 0.3, 0.7, 1.5])


@given(st.lists(st.sampled_from(["ask", "leave"]) | _SAYS | _WAITS, max_size=40))
def test_whatever_happens(steps: list[str | float | tuple[int, bool]]) -> None:
    """No node is asked twice at the same time, nor more than once a second; who waits is told, once."""
    town = Town()
    pending: list[Deferred[States]] = []
    asked_at: list[float] = []

    def take(step: str | float | tuple[int, bool]) -> None:
        if step == "ask":
            pending.append(town.ask())
        elif step == "leave":
            for each in pending[:1]:
                each.cancel()
            del pending[:1]
        elif isinstance(step, tuple):
            node, is_up = town.nodes[step[0]], step[1]
            if node.asked and not node.asked[-1].called:
                node.say(is_up)
        else:
            town.clock.advance(float(step))

    for step in steps:
        before = town.asked
        take(step)
        if town.asked != before:
            assert town.asked == [each + 1 for each in before]
            asked_at.append(town.clock.seconds())
        assert all(sum(not each.called for each in node.asked) <= 1 for node in town.nodes)
    town.readiness.stop()
    assert all(each.called for each in pending)
    assert all(later - earlier >= 1 for earlier, later in pairwise(asked_at))
    assert not town.clock.getDelayedCalls()


@pytest.mark.parametrize("is_up", [True, False])
def test_a_node_that_says_so_at_once(is_up: bool) -> None:
    class Prompt(Node):
        async def probe(self) -> None:
            self.asked.append(Deferred())
            if not is_up:
                raise UpstreamUnavailable("down")

    clock = Clock()
    nodes = [Prompt("a"), Prompt("b")]
    told: list[States] = []
    Readiness(nodes, clock).ask().addCallback(told.append)
    assert told == [{"a": is_up, "b": is_up}]
    assert not clock.getDelayedCalls()


def test_nodes_that_refuse_the_gateways_user_are_not_up() -> None:
    """At once: no answer from before is told any more. They are not asked: a request would show a wrong password."""
    town = Town(2)
    town.ask()
    for node in town.nodes:
        node.say(True)
    assert town.told == [{"n0": True, "n1": True}]
    town.readiness.refuse(frozenset({"n0"}))
    town.ask()
    town.nodes[1].say(True)
    assert town.told[1:] == [{"n0": False, "n1": True}]
    town.readiness.refuse(frozenset({"n0", "n1"}))
    for _ in range(20):
        town.ask()
        town.clock.advance(2)
    assert town.told[2:] == [{"n0": False, "n1": False}] * 20
    assert town.asked == [1, 2]
    town.readiness.refuse(frozenset())
    town.ask()
    for node in town.nodes:
        node.say(True)
    assert town.told[-1] == {"n0": True, "n1": True}
    assert not town.clock.getDelayedCalls()


def test_a_refusal_that_is_heard_while_nodes_are_asked() -> None:
    town = Town(1)
    town.ask()
    town.readiness.refuse(frozenset({"n0"}))
    town.nodes[0].say(True)
    assert town.told == [{"n0": False}]
