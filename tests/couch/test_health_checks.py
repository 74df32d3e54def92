"""Rounds of health checks: when nodes are asked, which are set aside, and that nothing is asked without need."""

import pytest

from tests.couch.test_cluster import LOST, Node, Town
from tests.gateway.house import logged
from txcouchdl.couch.errors import NodeInMaintenance, UpstreamTimeout
from txcouchdl.couch.health_checks import INTERVAL
from txcouchdl.couch.places import Place


class Patient(Node):
    """
    A node that answers health checks as a test likes.

    :ivar is_in_maintenance: what it says of itself.
    :ivar visible: how many nodes it sees; ``None`` if it does not say.
    :ivar memberships: how often it was asked for that.
    :ivar has_no_membership: whether it does not answer that in time.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.is_in_maintenance = False
        self.memberships = 0
        self.has_no_membership = False

    async def probe(self) -> None:
        await super().probe()
        if self.is_in_maintenance:
            raise NodeInMaintenance("in maintenance mode")

    async def visible_nodes(self) -> int | None:
        self.memberships += 1
        if self.has_no_membership:
            raise UpstreamTimeout("no answer in time")
        return self.visible


class Ward(Town):
    """A town of such nodes."""

    nodes: list[Patient]  # type: ignore[assignment]

    def __init__(self, size: int) -> None:
        super().__init__(size, node=Patient)

    def use(self) -> None:
        """Begin and end an exchange."""
        self.place().vacate()

    @property
    def states(self) -> list[str]:
        members = sorted(self.cluster._members, key=lambda member: str(member.client))
        return [member.health.state.name for member in members]

    def see(self, *visible: int | None) -> None:
        for node, count in zip(self.nodes, visible, strict=True):
            node.visible = count


def test_nodes_in_use_are_checked_again_and_again() -> None:
    ward = Ward(2)
    ward.use()
    ward.clock.advance(0)
    for rounds in range(1, 5):
        for _ in range(8):
            assert [node.probes for node in ward.nodes] == [rounds] * 2
            ward.use()
            ward.clock.advance(INTERVAL / 8)


def test_nodes_that_nobody_uses_are_not_checked() -> None:
    ward = Ward(3)
    assert not ward.clock.getDelayedCalls()
    ward.use()
    ward.clock.advance(0)
    for _ in range(100):
        ward.clock.advance(INTERVAL)
    assert [node.probes for node in ward.nodes] == [1] * 3
    assert not ward.clock.getDelayedCalls()
    ward.use()
    ward.clock.advance(0)
    assert [node.probes for node in ward.nodes] == [2] * 3, "at once when they are used again"


def test_a_single_node_is_not_checked() -> None:
    ward = Ward(1)
    ward.use()
    assert not ward.clock.getDelayedCalls()


def test_a_node_in_maintenance_is_drained_before_any_request_fails() -> None:
    ward = Ward(3)
    ward.nodes[1].is_in_maintenance = True
    running = [ward.place() for _ in range(3)]
    ward.clock.advance(0)
    assert ward.states == ["UP", "ASIDE", "UP"]
    assert set(ward.names(6)) == {"n0", "n2"}
    assert [place.member.busy for place in running] == [1, 1, 1], "what is under way goes on"
    ward.nodes[1].is_in_maintenance = False
    ward.clock.advance(INTERVAL)
    assert ward.states == ["UP"] * 3


def test_it_is_drained_while_another_node_is_silent() -> None:
    ward = Ward(2)
    ward.nodes[0].is_silent = True
    ward.nodes[1].is_in_maintenance = True
    ward.use()
    ward.clock.advance(0)
    assert ward.states == ["UP", "ASIDE"]


def test_a_node_that_sees_fewer_nodes_than_the_others_is_set_aside() -> None:
    ward = Ward(3)
    ward.see(2, 2, 1)
    with logged() as events:
        ward.use()
        ward.clock.advance(0)
    assert ward.states == ["UP", "UP", "ASIDE"]
    assert [str(event["because"]) for event in events] == [": it sees 1 nodes of its cluster, another 2"]
    assert set(ward.names(6)) == {"n0", "n1"}
    ward.see(3, 3, 3)
    ward.clock.advance(INTERVAL)
    assert ward.states == ["UP"] * 3


@pytest.mark.parametrize(
    ("visible", "states"),
    [
        # A node is dead, and the others see each other.
        ((2, 2, 2), ["UP", "UP", "UP"]),
        # All are apart from each other: none is better than another.
        ((1, 1, 1), ["UP", "UP", "UP"]),
        # One link is down.
        ((2, 3, 2), ["ASIDE", "UP", "ASIDE"]),
        # One does not say.
        ((2, None, 2), ["UP", "UP", "UP"]),
        ((2, None, 1), ["UP", "UP", "ASIDE"]),
        # None does: the gateway is no server admin.
        ((None, None, None), ["UP", "UP", "UP"]),
    ],
)
def test_who_sees_how_many(visible: tuple[int | None, ...], states: list[str]) -> None:
    ward = Ward(3)
    ward.see(*visible)
    ward.use()
    ward.clock.advance(0)
    assert ward.states == states


def test_what_a_node_saw_before_it_died_makes_no_other_look_cut_off() -> None:
    ward = Ward(3)
    ward.see(3, 3, 3)
    ward.use()
    ward.clock.advance(0)
    ward.see(2, 2, 3)
    ward.nodes[2].is_up = False
    ward.use()
    ward.clock.advance(INTERVAL)
    assert ward.states == ["UP", "UP", "DOWN"]


def test_a_node_that_is_set_aside_is_used_where_no_other_can_be() -> None:
    ward = Ward(2)
    ward.see(2, 1)
    ward.use()
    ward.clock.advance(0)
    first = ward.member("n0")
    ward.nodes[0].is_up = False
    first.health.failed(LOST)
    assert ward.names(2) == ["n0", "n0"], "one that is doubted is better"
    ward.clock.advance(0)
    assert ward.states == ["DOWN", "ASIDE"]
    assert ward.names(2) == ["n1", "n1"]


def test_a_success_brings_no_node_back_that_is_set_aside() -> None:
    ward = Ward(2)
    ward.see(2, 1)
    ward.use()
    ward.clock.advance(0)
    second = next(member for member in ward.cluster._members if str(member.client) == "n1")
    second.health.succeeded()
    assert ward.states == ["UP", "ASIDE"]
    second.health.failed(LOST)
    assert ward.states == ["UP", "ASIDE"], "a failure makes it no better"
    second.health.succeeded()
    assert ward.states == ["UP", "ASIDE"]
    second.health.failed(LOST)
    ward.nodes[1].is_up = False
    ward.clock.advance(1)
    assert ward.states == ["UP", "DOWN"], "it is probed like any other"
    ward.nodes[1].is_up = True
    ward.clock.advance(3)
    assert ward.states == ["UP", "ASIDE"], "until the next check"


def test_a_check_that_fails_is_a_failure_like_any_other() -> None:
    ward = Ward(2)
    ward.nodes[0].is_up = False
    ward.use()
    ward.clock.advance(0)
    assert ward.states == ["DOWN", "UP"]
    ward.nodes[0].is_up = True
    ward.clock.advance(40)
    assert ward.states == ["UP", "UP"]


def test_a_node_whose_check_fails_stays_where_it_was() -> None:
    """One that is cut off may not even say whom it sees: CouchDB reads a document to find out who asks."""
    ward = Ward(2)
    ward.see(2, 1)
    ward.use()
    ward.clock.advance(0)
    ward.nodes[1].has_no_membership = True
    ward.use()
    ward.clock.advance(INTERVAL)
    assert ward.states == ["UP", "ASIDE"]


def test_a_node_that_is_failing_is_left_to_its_own_probes() -> None:
    ward = Ward(2)
    ward.see(2, 2)
    ward.nodes[0].is_up = False
    ward.use()
    ward.clock.advance(0)
    for _ in range(7):
        ward.use()
        ward.clock.advance(INTERVAL)
    assert ward.nodes[0].memberships == 0
    assert ward.nodes[0].probes < 8 + 7
    assert ward.nodes[1].memberships == 8


def test_a_node_that_does_not_say_whom_it_sees_is_not_asked_all_the_time() -> None:
    ward = Ward(2)
    ward.see(None, 2)
    with logged() as events:
        for _ in range(60):
            ward.use()
            ward.clock.advance(INTERVAL)
    assert ward.nodes[0].memberships == 1
    assert ward.nodes[1].memberships == 60
    assert len(events) == 1, "one line says so"
    ward.nodes[0].is_in_maintenance = True
    for state in ("ASIDE", "UP"):
        ward.use()
        ward.clock.advance(INTERVAL)
        assert ward.states == [state, "UP"]
        ward.nodes[0].is_in_maintenance = False
    ward.see(1, 2)
    for _ in range(70):
        ward.use()
        ward.clock.advance(INTERVAL)
    assert ward.states == ["ASIDE", "UP"]


def test_one_round_at_a_time() -> None:
    ward = Ward(2)
    ward.nodes[0].is_silent = True
    for _ in range(5):
        ward.use()
        ward.clock.advance(INTERVAL)
    assert [node.probes for node in ward.nodes] == [1, 1]
    ward.nodes[0].asking.pop().callback(None)
    ward.use()
    ward.clock.advance(INTERVAL)
    assert [node.probes for node in ward.nodes] == [2, 2]


@pytest.mark.parametrize("when", ["waiting", "checking", "about to check"])
def test_nothing_is_asked_once_it_is_stopped(when: str) -> None:
    ward = Ward(2)
    if when == "checking":
        ward.nodes[0].is_silent = True
    ward.use()
    if when != "about to check":
        ward.clock.advance(0)
    with logged() as events:
        ward.cluster.stop()
        assert not ward.clock.getDelayedCalls()
        ward.use()
        assert not ward.clock.getDelayedCalls()
    assert not events
    assert all(asking.called for asking in ward.nodes[0].asking), "the checks under way are cancelled"
    ward.cluster.stop()


def test_a_fault_of_ours_ends_no_rounds() -> None:
    ward = Ward(2)

    async def probe() -> None:
        raise RuntimeError

    ward.see(2, 2)
    right = ward.nodes[0].probe
    ward.nodes[0].probe = probe  # type: ignore[method-assign]
    with logged() as events:
        ward.use()
        ward.clock.advance(0)
    assert ["log_failure" in event for event in events] == [True]
    ward.nodes[0].probe = right  # type: ignore[method-assign]
    ward.use()
    ward.clock.advance(INTERVAL)
    assert [node.probes for node in ward.nodes] == [1, 2]


def test_who_waits_for_a_place_gets_one_where_a_node_is_used_again() -> None:
    ward = Ward(2)
    ward.see(2, 1)
    ward.use()
    ward.clock.advance(0)
    limit = ward.cluster.limits.max_upstream
    full = [ward.place() for _ in range(limit)]
    assert {str(place.member.client) for place in full} == {"n0"}
    waiting: list[Place] = []
    ward.wait().addCallback(waiting.append)
    assert not waiting, "the place of the node that is set aside is none, as long as another works"
    ward.see(2, 2)
    ward.clock.advance(INTERVAL)
    assert [str(place.member.client) for place in waiting] == ["n1"]
