"""
Hedged requests: an exchange with a node that brings nothing for a while is begun at a second node as well. Of the two,
the first one to deliver is used, and the other is dropped.

A node that has just restarted may take 18 s for a document, and a transfer may stay silent for minutes after a
compaction (FINDINGS, section 10); another node answers at once.

:class:`Hedge` decides when the second exchange begins. A state machine with four states:

========  ==============================================================================================
WAITING   The exchange has brought nothing for less than ``--hedge-after``.
QUEUED    It is time for a second exchange, but all of the budget is in use.
RUNNING   The second exchange is under way. It uses one unit of the budget.
OVER      Nothing begins any more.
========  ==============================================================================================

WAITING -> QUEUED: the time is over. QUEUED -> RUNNING: a unit of the budget is free, in the order of the queue.
QUEUED -> WAITING: no other node has a place free now; another ``--hedge-after`` follows. Any -> OVER:
:meth:`Hedge.end`.

The budget is a tenth of the exchanges under way, and at least :data:`LEAST_BUDGET`: where a whole cluster is slow, a
hedge helps nobody, and must not double the load.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from txcouchdl.couch.places import Place
from txcouchdl.couch.tally import HedgeKind, Tally

_T = TypeVar("_T")

#: Second exchanges that may be under way however few exchanges there are.
LEAST_BUDGET: Final = 4
#: Exchanges under way for each second one.
_EXCHANGES_A_HEDGE: Final = 10


class Hedges:
    """
    All hedges of a cluster.

    :param after: seconds without a byte until an exchange is hedged.
    :param exchanges: the number of exchanges under way.
    """

    def __init__(self, after: float, exchanges: Callable[[], int], clock: IReactorTime, tally: Tally) -> None:
        self.tally = tally
        self._after = after
        self._exchanges = exchanges
        self._clock = clock
        # In the order in which they are due, with the times.
        self._waiting: dict[Hedge, float] = {}
        self._queued: dict[Hedge, None] = {}
        self._running: set[Hedge] = set()
        self._next_due: IDelayedCall | None = None
        self._is_starting = False
        self._is_stopped = False

    def wait(self, hedge: "Hedge") -> None:
        """See :meth:`Hedge.wait`."""
        if self._is_stopped:
            return
        self._waiting[hedge] = self._clock.seconds() + self._after
        if self._next_due is None:
            self._next_due = self._clock.callLater(self._after, self._queue_due)

    def request(self, hedge: "Hedge") -> None:
        """See :meth:`Hedge.request`."""
        self._queued[hedge] = None
        self._start_queued()

    def end(self, hedge: "Hedge") -> None:
        """See :meth:`Hedge.end`."""
        self._waiting.pop(hedge, None)
        self._queued.pop(hedge, None)
        if hedge in self._running:
            self._running.remove(hedge)
            self._start_queued()

    def stop(self) -> None:
        """Begin nothing any more. What is under way goes on."""
        self._is_stopped = True
        self._waiting.clear()
        self._queued.clear()
        if self._next_due is not None:
            self._next_due.cancel()
            self._next_due = None

    def _queue_due(self) -> None:
        """
        Queue what is due. Most exchanges end before they are: one call, which is never moved, watches all of them.
        """
        self._next_due = None
        now = self._clock.seconds()
        due = [hedge for hedge, when in self._waiting.items() if when <= now]
        for hedge in due:
            del self._waiting[hedge]
            self._queued[hedge] = None
        if self._waiting:
            first = next(iter(self._waiting.values()))
            self._next_due = self._clock.callLater(first - now, self._queue_due)
        self._start_queued()

    def _start_queued(self) -> None:
        # A second exchange may be over before its start returns.
        if self._is_starting:
            return
        self._is_starting = True
        try:
            while self._queued and len(self._running) < self._budget:
                self._start(next(iter(self._queued)))
        finally:
            self._is_starting = False

    def _start(self, hedge: "Hedge") -> None:
        del self._queued[hedge]
        self._running.add(hedge)
        if hedge.start():
            self.tally.hedged(hedge.kind)
        elif hedge in self._running:
            self._running.remove(hedge)
            self.wait(hedge)

    @property
    def _budget(self) -> int:
        return max(LEAST_BUDGET, self._exchanges() // _EXCHANGES_A_HEDGE)


class Hedge:
    """
    That of one exchange: see the module.

    :param start: begins the second exchange, and returns whether there was a place for it.
    """

    def __init__(self, hedges: Hedges, kind: HedgeKind, start: Callable[[], bool]) -> None:
        self.kind = kind
        self.start = start
        self._hedges = hedges

    def wait(self) -> None:
        """Begin to wait: nothing has come so far."""
        self._hedges.wait(self)

    def request(self) -> None:
        """Have the second exchange begin as soon as the budget allows: nothing has come for long enough."""
        self._hedges.request(self)

    def end(self) -> None:
        """Begin nothing any more, and give back the unit of the budget: one exchange is over, or both."""
        self._hedges.end(self)


class Race(Generic[_T]):
    """
    An exchange at one node and, once it is hedged, at a second one.

    :param begin: the exchange at the place of a node.
    :param find_place: a place for it at another node, if there is one now.
    :param overtaken: called with the place of the first exchange if the second one was faster.
    :param failed: called with the place and the error of an exchange that failed. Returns whether the other exchange
        may still go well.
    """

    def __init__(
        self,
        begin: Callable[[Place], Coroutine[Deferred[Any], Any, _T]],
        find_place: Callable[[], Place | None],
        overtaken: Callable[[Place], object],
        failed: Callable[[Place, BaseException | None], bool],
    ) -> None:
        self._begin = begin
        self._find_place = find_place
        self._overtaken = overtaken
        self._failed = failed
        self._result: Deferred[tuple[_T, Place]] = Deferred(lambda _: self._end())
        self._under_way: dict[Place, Deferred[_T]] = {}

    def run(self, first: Place, hedges: Hedges, kind: HedgeKind) -> "Deferred[tuple[_T, Place]]":
        """
        Begin at a place. To be called once.

        :return: fires with the answer and its place, which is not vacated; the other one is. Fails with the error of
            the last exchange. Cancelling it drops both.
        """
        self._first = first
        self._tally = hedges.tally
        self._hedge = Hedge(hedges, kind, self._start_second)
        self._hedge.wait()
        self._start(first)
        return self._result

    def _start_second(self) -> bool:
        place = self._find_place()
        if place is None:
            return False
        self._start(place)
        return True

    def _start(self, place: Place) -> None:
        exchange = Deferred.fromCoroutine(self._begin(place))
        self._under_way[place] = exchange
        exchange.addCallbacks(self._answered, self._lost, callbackArgs=(place,), errbackArgs=(place,))

    def _answered(self, answer: _T, place: Place) -> None:
        del self._under_way[place]
        if self._first in self._under_way:
            self._tally.hedge_won(self._hedge.kind)
            self._overtaken(self._first)
        self._end()
        self._result.callback((answer, place))

    def _lost(self, failure: Failure, place: Place) -> None:
        if self._under_way.pop(place, None) is None:
            # Dropped.
            return
        place.vacate()
        may_go_well = self._failed(place, failure.value)
        if self._under_way and may_go_well:
            # The other exchange is no additional one any more.
            self._hedge.end()
        else:
            self._end()
            self._result.errback(failure)

    def _end(self) -> None:
        self._hedge.end()
        under_way, self._under_way = self._under_way, {}
        for place, exchange in under_way.items():
            exchange.cancel()
            place.vacate()
