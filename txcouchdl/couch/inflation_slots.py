"""
Slots for passes over gzip that inflate bytes for nobody.

To find a range in gzip, all bytes before it are inflated and dropped. A client gets so few bytes for that work that its
own pace does not limit it, so the number of such passes is limited: for all clients together, and for each address.
Requests beyond wait in a queue for their address. Addresses get free slots in turn.

A slot is *free*, *waiting* or *held*. It is held only while bytes are skipped: not while a client is sent what it
wants, nor while it takes nothing. So slow clients hold none.
"""

from collections import Counter, OrderedDict
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from txcouchdl.couch.errors import Overloaded
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.tally import UNCOUNTED, Tally

#: Seconds after which a client that was refused for want of a slot may well find one.
_RETRY: Final = 5.0
_TOO_LATE: Final = (
    "no slot for a range of a compressed attachment was free in time "
    "(--max-inflations, --max-inflations-per-address, --queue-timeout)"
)


class InflationSlots:
    """
    The slots of one process.

    :param limits: how many there are, and how long requests wait for one.
    :param tally: counts those that wait in vain.
    """

    def __init__(self, limits: UpstreamLimits, clock: IReactorTime, tally: Tally = UNCOUNTED) -> None:
        self._limits = limits
        self._clock = clock
        self._tally = tally
        self._held = 0
        self._held_by: Counter[str | None] = Counter()
        # By address, the one that has waited longest for a slot first. ``None`` stands for all without an address.
        self._waiting: OrderedDict[str | None, OrderedDict[InflationSlot, Deferred[None]]] = OrderedDict()
        self._is_granting = False

    def slot(self, address: str | None) -> "InflationSlot":
        """
        Make a slot, free at first.

        :param address: of the client; ``None`` if only the limit for all holds for it.
        """
        return InflationSlot(self, address)

    def acquire(self, slot: "InflationSlot", *, is_committed: bool) -> "Deferred[None]":
        """See :meth:`InflationSlot.acquire`."""
        waiting: Deferred[None] = Deferred(lambda _: self._forget(slot))
        self._waiting.setdefault(slot.address, OrderedDict())[slot] = waiting
        self._grant()
        if is_committed:
            return waiting
        return waiting.addTimeout(self._limits.queue_timeout, self._clock, self._refuse)

    def release(self, slot: "InflationSlot") -> None:
        """See :meth:`InflationSlot.release`."""
        if slot.is_held:
            slot.is_held = False
            self._held -= 1
            self._held_by[slot.address] -= 1
            if not self._held_by[slot.address]:
                del self._held_by[slot.address]
            self._grant()
            return
        queue = self._waiting.get(slot.address)
        if queue is not None and slot in queue:
            queue[slot].cancel()

    def _refuse(self, _result: object, _seconds: float) -> None:
        self._tally.overloaded()
        raise Overloaded(_TOO_LATE, _RETRY)

    def _grant(self) -> None:
        """Grant slots for as long as there is one for an address that waits."""
        # An owner may release its slot at once, or another one.
        if self._is_granting:
            return
        self._is_granting = True
        try:
            while (slot := self._next()) is not None:
                self._hand_over(slot)
        finally:
            self._is_granting = False

    def _next(self) -> "InflationSlot | None":
        """Whose turn it is; ``None`` if nobody can have a slot."""
        if self._held >= self._limits.max_inflations:
            return None
        most = self._limits.max_inflations_per_address
        for address, queue in self._waiting.items():
            if address is None or self._held_by[address] < most:
                return next(iter(queue))
        return None

    def _hand_over(self, slot: "InflationSlot") -> None:
        waiting = self._waiting[slot.address][slot]
        self._forget(slot)
        if slot.address in self._waiting:
            self._waiting.move_to_end(slot.address)
        slot.is_held = True
        self._held += 1
        self._held_by[slot.address] += 1
        waiting.callback(None)

    def _forget(self, slot: "InflationSlot") -> None:
        queue = self._waiting[slot.address]
        del queue[slot]
        if not queue:
            del self._waiting[slot.address]


class InflationSlot:
    """
    See the module.

    :ivar address: of the client; ``None`` if only the limit for all holds for it.
    :ivar is_held: whether bytes may be skipped.
    """

    def __init__(self, slots: InflationSlots, address: str | None) -> None:
        self._slots = slots
        self.address = address
        self.is_held = False

    def acquire(self, *, is_committed: bool) -> "Deferred[None]":
        """
        Wait until the slot is held. Only for a free one.

        :param is_committed: whether the client has been sent something already. If so, it waits as long as it takes;
            if not, for ``queue_timeout``.
        :return: fails with Overloaded if that is over. Cancelling it leaves the slot free.
        """
        return self._slots.acquire(self, is_committed=is_committed)

    def release(self) -> None:
        """Make the slot free, whatever it is. If it was waiting, that fails with a CancelledError."""
        self._slots.release(self)
