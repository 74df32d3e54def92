"""
How long answers may take. All may take equally long, so that one delayed call watches over all of them.
"""

from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from txcouchdl.couch.errors import UpstreamTimeout

_T = TypeVar("_T")


class Deadlines:
    """
    :param name: whose answers they are, for the log.
    :param seconds: how long each may take.
    """

    def __init__(self, name: str, seconds: float, clock: IReactorTime) -> None:
        self.name = name
        self._seconds = seconds
        self._clock = clock
        # In the order in which they began, which is the one in which they will be past.
        self._open: dict[Deadline, None] = {}
        self._watching: IDelayedCall | None = None

    def begin(self) -> "Deadline":
        """From now on. To be ended."""
        deadline = Deadline(self, self._clock.seconds() + self._seconds)
        self._open[deadline] = None
        if self._watching is None:
            self._watching = self._clock.callLater(self._seconds, self._watch)
        return deadline

    def end(self, deadline: "Deadline") -> None:
        """Nobody waits any more."""
        self._open.pop(deadline, None)
        if not self._open and self._watching is not None:
            self._watching.cancel()
            self._watching = None

    def _watch(self) -> None:
        self._watching = None
        now = self._clock.seconds()
        past = [deadline for deadline in self._open if deadline.at <= now]
        for deadline in past:
            del self._open[deadline]
        first = next(iter(self._open), None)
        if first is not None:
            self._watching = self._clock.callLater(first.at - now, self._watch)
        for deadline in past:
            deadline.pass_by()


class Deadline:
    """
    One of them, until which any number of things are waited for in turn.

    :ivar at: when.
    """

    __slots__ = ("_deadlines", "_is_past", "_waiting", "at")

    def __init__(self, deadlines: Deadlines, at: float) -> None:
        self._deadlines = deadlines
        self.at = at
        self._waiting: Deferred[Any] | None = None
        self._is_past = False

    async def wait(self, waiting: "Deferred[_T]") -> _T:
        """
        :param waiting: cancelled if it has not fired by then.
        :raises UpstreamTimeout: if it has not.
        """
        if self._is_past:
            waiting.cancel()
        self._waiting = waiting
        try:
            return await waiting
        except CancelledError:
            if self._is_past:
                raise UpstreamTimeout(f"{self._deadlines.name}: no answer in time") from None
            raise
        finally:
            self._waiting = None

    def pass_by(self) -> None:
        """It is past."""
        self._is_past = True
        if self._waiting is not None:
            self._waiting.cancel()

    def end(self) -> None:
        """There is nothing more to wait for."""
        self._deadlines.end(self)
