"""Who may skip bytes of gzip: so many at a time, so many of an address, and addresses in turn."""

from collections import Counter
from typing import Final

import pytest
from attrs import define
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from txcouchdl.couch.errors import Overloaded
from txcouchdl.couch.inflation_slots import InflationSlot, InflationSlots
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.tally import Tally

TOTAL: Final = 5
OF_ONE: Final = 2
LIMITS: Final = UpstreamLimits(max_inflations=TOTAL, max_inflations_per_address=OF_ONE, queue_timeout=10)


class Counted(Tally):
    def __init__(self) -> None:
        self.refused = 0

    def overloaded(self) -> None:
        self.refused += 1


@define(eq=False)
class Owner:
    """
    Who wants a slot.

    :ivar came: its number, in the order in which all came.
    """

    slot: InflationSlot
    came: int
    waiting: Deferred[None] | None = None
    outcome: object = None

    def acquire(self, *, is_committed: bool = False) -> None:
        self.waiting = self.slot.acquire(is_committed=is_committed)
        self.waiting.addBoth(self._over)

    def _over(self, result: object) -> None:
        self.outcome = result.type if isinstance(result, Failure) else "held"

    @property
    def is_waiting(self) -> bool:
        return self.waiting is not None and self.outcome is None


class Scene:
    def __init__(self, limits: UpstreamLimits = LIMITS) -> None:
        self.clock = Clock()
        self.tally = Counted()
        self.slots = InflationSlots(limits, self.clock, self.tally)
        self.owners: list[Owner] = []

    def come(self, address: str | None, *, is_committed: bool = False) -> Owner:
        owner = Owner(self.slots.slot(address), len(self.owners))
        self.owners.append(owner)
        owner.acquire(is_committed=is_committed)
        return owner


def test_so_many_at_the_same_time() -> None:
    scene = Scene()
    owners = [scene.come(f"192.0.2.{number}") for number in range(TOTAL + 2)]
    assert [owner.slot.is_held for owner in owners] == [True] * TOTAL + [False] * 2
    owners[3].slot.release()
    assert owners[TOTAL].outcome == "held"
    assert not owners[TOTAL + 1].slot.is_held


def test_so_many_of_one_address() -> None:
    scene = Scene()
    greedy = [scene.come("192.0.2.1") for _ in range(10)]
    assert sum(owner.slot.is_held for owner in greedy) == OF_ONE
    other = scene.come("192.0.2.2")
    assert other.slot.is_held, "it does not wait behind the others"
    greedy[0].slot.release()
    assert sum(owner.slot.is_held for owner in greedy) == OF_ONE


def test_without_an_address_there_is_only_the_limit_for_all() -> None:
    scene = Scene()
    owners = [scene.come(None) for _ in range(TOTAL + 1)]
    assert [owner.slot.is_held for owner in owners] == [True] * TOTAL + [False]


def test_addresses_take_turns_however_many_wait_for_one() -> None:
    scene = Scene(UpstreamLimits(max_inflations=1, max_inflations_per_address=1))
    first = scene.come("a")
    many = [scene.come("a") for _ in range(3)]
    few = [scene.come("b"), scene.come("c")]
    order = []
    held = first
    for _ in range(5):
        held.slot.release()
        [held] = [owner for owner in (*many, *few) if owner.slot.is_held]
        order.append(held)
    assert order == [many[0], few[0], few[1], many[1], many[2]]


def test_a_request_waits_for_a_time() -> None:
    scene = Scene()
    holders = [scene.come("a") for _ in range(OF_ONE)]
    late, patient = scene.come("a"), scene.come("a", is_committed=True)
    scene.clock.advance(LIMITS.queue_timeout - 0.1)
    assert late.is_waiting
    scene.clock.advance(0.1)
    assert (late.outcome, scene.tally.refused) == (Overloaded, 1)
    scene.clock.advance(1000)
    assert patient.is_waiting
    holders[0].slot.release()
    assert patient.outcome == "held"
    assert not late.slot.is_held
    assert not scene.clock.getDelayedCalls()


def test_what_a_refused_client_is_to_wait() -> None:
    scene = Scene()
    for _ in range(OF_ONE):
        scene.come("a")
    failures: list[Failure] = []
    scene.slots.slot("a").acquire(is_committed=False).addErrback(failures.append)
    scene.clock.advance(LIMITS.queue_timeout)
    assert isinstance(failures[0].value, Overloaded)
    assert failures[0].value.retry_after == 5


@pytest.mark.parametrize("how", ["cancelled", "released"])
def test_who_leaves_the_queue_gets_no_slot(how: str) -> None:
    scene = Scene()
    holders = [scene.come("a") for _ in range(OF_ONE)]
    leaves, stays = scene.come("a"), scene.come("a")
    assert leaves.waiting is not None
    if how == "cancelled":
        leaves.waiting.cancel()
    else:
        leaves.slot.release()
    assert leaves.outcome is CancelledError
    holders[0].slot.release()
    assert (leaves.slot.is_held, stays.slot.is_held) == (False, True)
    assert scene.tally.refused == 0


def test_a_slot_that_is_released_twice_is_released_once() -> None:
    scene = Scene()
    holders = [scene.come("a") for _ in range(OF_ONE)]
    holders[0].slot.release()
    holders[0].slot.release()
    assert [scene.come("a").slot.is_held for _ in range(2)] == [True, False]


def test_who_gets_a_slot_may_release_it_at_once() -> None:
    def release(_: object, owner: Owner) -> None:
        owner.slot.release()

    failures: list[Failure] = []
    scene = Scene(UpstreamLimits(max_inflations=1))
    first = scene.come("a")
    owners = [scene.come("a") for _ in range(2000)]
    for owner in owners:
        assert owner.waiting is not None
        owner.waiting.addCallback(release, owner).addErrback(failures.append)
    first.slot.release()
    assert not failures
    assert all(owner.outcome == "held" and not owner.slot.is_held for owner in owners)


def test_nothing_is_kept_of_addresses_that_are_gone() -> None:
    scene = Scene()
    for number in range(100):
        owner = scene.come(f"192.0.2.{number}")
        owner.slot.release()
    assert not scene.slots._held_by
    assert not scene.slots._waiting


class Machine(RuleBasedStateMachine):
    """Any order of coming, leaving and waiting. Of each address, who came first is first."""

    def __init__(self) -> None:
        super().__init__()
        self.scene = Scene()

    @rule(address=st.sampled_from(["a", "b", "c", "d", None]), is_committed=st.booleans())
    def come(self, address: str | None, is_committed: bool) -> None:
        self.scene.come(address, is_committed=is_committed)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if self.scene.owners:
            data.draw(st.sampled_from(self.scene.owners)).slot.release()

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        waiting = [owner for owner in self.scene.owners if owner.is_waiting]
        if waiting:
            owner = data.draw(st.sampled_from(waiting))
            assert owner.waiting is not None
            owner.waiting.cancel()

    @rule(seconds=st.sampled_from([1, 5, 11]))
    def wait(self, seconds: float) -> None:
        self.scene.clock.advance(seconds)

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        held = Counter(owner.slot.address for owner in self.scene.owners if owner.slot.is_held)
        assert held.total() <= TOTAL
        assert all(count <= OF_ONE for address, count in held.items() if address is not None)
        waiting = [owner for owner in self.scene.owners if owner.is_waiting]
        if held.total() < TOTAL:
            assert all(owner.slot.address and held[owner.slot.address] == OF_ONE for owner in waiting)

    @invariant()
    def who_came_first_is_first(self) -> None:
        for address in ("a", "b", "c", "d", None):
            of_one = [owner for owner in self.scene.owners if owner.slot.address == address]
            waiting = [owner.came for owner in of_one if owner.is_waiting]
            held = [owner.came for owner in of_one if owner.outcome == "held"]
            assert not waiting or all(came < min(waiting) for came in held)


TestMachine = Machine.TestCase
TestMachine.settings = settings(stateful_step_count=40)
