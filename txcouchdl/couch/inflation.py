"""What the requests of one process share to inflate gzip."""

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from txcouchdl.couch.inflation_slots import InflationSlots
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.shared_passes import SharedPasses
from txcouchdl.couch.step_budget import StepBudget
from txcouchdl.couch.tally import UNCOUNTED, Tally


@frozen
class Inflation:
    """
    :ivar budget: of the steps in which gzip is inflated.
    :ivar slots: for those that skip bytes.
    :ivar passes: for those that want few bytes.
    """

    budget: StepBudget
    slots: InflationSlots
    passes: SharedPasses

    @classmethod
    def of(cls, limits: UpstreamLimits, clock: IReactorTime, tally: Tally = UNCOUNTED) -> "Inflation":
        """Make them, with nothing under way."""
        slots = InflationSlots(limits, clock, tally)
        return cls(StepBudget(clock), slots, SharedPasses(slots))
