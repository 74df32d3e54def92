"""
Long work in steps, one step at each turn of the reactor. Between two steps everything else has its turn.
"""

from collections import OrderedDict
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from txcouchdl.couch.steps import Steps

_T = TypeVar("_T")


class Turns:
    """
    Turns of the reactor, given out one by one in the order in which they were asked for.

    However much long work there is, one step of it at most runs in a turn.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: OrderedDict[Deferred[None], None] = OrderedDict()
        self._next: IDelayedCall | None = None

    def wait(self) -> "Deferred[None]":
        """
        :return: fires in a turn in which no other step runs.
        """
        waiting: Deferred[None] = Deferred(self._forget)
        self._waiting[waiting] = None
        if self._next is None:
            self._next = self._clock.callLater(0, self._take_turn)
        return waiting

    async def run(self, steps: Steps[_T]) -> _T:
        """
        Run all steps, none of them in this turn or the next one: what led here may have taken long itself.

        :return: what the generator returns.
        """
        await self.wait()
        while True:
            await self.wait()
            try:
                next(steps)
            except StopIteration as end:
                result: _T = end.value
                return result

    def _take_turn(self) -> None:
        waiting, _ = self._waiting.popitem(last=False)
        self._next = self._clock.callLater(0, self._take_turn) if self._waiting else None
        waiting.callback(None)

    def _forget(self, waiting: "Deferred[None]") -> None:
        del self._waiting[waiting]
        if not self._waiting and self._next is not None:
            self._next.cancel()
            self._next = None
