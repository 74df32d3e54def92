"""
Steps of work that may take long in sum, shared out over the turns of the reactor.

All workers together do a number of steps in one turn. So everything else, such as another client's request, waits for
these steps at most, however many workers there are. If there is more to do than that, workers queue, and each does one
step when it is its turn.
"""

from collections import OrderedDict
from typing import Final
from typing import Protocol as Interface

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Steps in one turn of the reactor. A step inflates 64 KiB, which takes a quarter of a millisecond (measured). With 16
#: of them other requests wait four times as long, and inflating takes 5 % less CPU time.
STEPS_A_TURN: Final = 4


class Worker(Interface):
    """Does steps."""

    def take_turn(self) -> None:
        """Go on: do steps for as long as :meth:`StepBudget.allows` allows it."""


class StepBudget:
    """
    The steps of all workers.

    A worker asks before each step, and reports it afterwards. It does not ask if it has nothing to do.
    """

    def __init__(self, clock: IReactorTime, steps: int = STEPS_A_TURN) -> None:
        self._clock = clock
        self._steps = steps
        # Those left in this turn of the reactor.
        self._left = steps
        self._queue: OrderedDict[Worker, None] = OrderedDict()
        # The worker whose turn it is, until it has done its step.
        self._served: Worker | None = None
        self._next_turn: IDelayedCall | None = None

    def allows(self, worker: Worker) -> bool:
        """Whether the worker may do a step now. If not, it is called when it may."""
        if self._left > 0 and (worker is self._served or not self._queue):
            return True
        self._queue[worker] = None
        self._expect_turn()
        return False

    def spend(self) -> None:
        """Count a step that was done."""
        self._left -= 1
        self._served = None
        self._expect_turn()

    def leave(self, worker: Worker) -> None:
        """Do not call the worker."""
        self._queue.pop(worker, None)

    def _expect_turn(self) -> None:
        if self._next_turn is None:
            self._next_turn = self._clock.callLater(0, self._take_turn)

    def _take_turn(self) -> None:
        self._next_turn = None
        self._left = self._steps
        try:
            while self._queue and self._left > 0:
                self._serve()
        finally:
            # Also if a worker fails: the others go on.
            if self._queue:
                self._expect_turn()

    def _serve(self) -> None:
        self._served, _ = self._queue.popitem(last=False)
        try:
            self._served.take_turn()
        finally:
            self._served = None
