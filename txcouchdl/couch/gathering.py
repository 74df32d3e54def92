"""
One read for all who ask for the same thing together.

Nobody gets an answer to a question that was asked before his own: whoever comes while a read is under way waits for
the next one, with all others who come meanwhile. So a token that was changed a moment ago is the changed one for every
request that came after the change.
"""

from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

_T = TypeVar("_T")
_Read = Callable[[], Coroutine[Deferred[Any], Any, _T]]

#: Seconds that somebody waits for a read of somebody else's. A node that hangs is none that all have to wait for.
PATIENCE: Final = 0.25


class Gathering(Generic[_T]):
    """Reads of things by their keys."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        # Of what is being read: who waits for the next read, if somebody does.
        self._under_way: dict[Hashable, _Batch[_T] | None] = {}

    async def ask(self, key: Hashable, read: _Read[_T]) -> _T:
        """
        What a read of a thing gives that begins after this.

        :param read: one for all who wait may be that of any of them.
        :raises BaseException: what the read raises, for all who wait.
        """
        if key not in self._under_way:
            self._under_way[key] = None
            try:
                return await read()
            finally:
                self._ended(key)
        batch = self._under_way[key]
        if batch is None:
            batch = self._under_way[key] = _Batch(read)
            batch.delayed = self._clock.callLater(PATIENCE, self._begin, key)
        return await batch.join()

    def _ended(self, key: Hashable) -> None:
        """A read of it has. It may not be the only one."""
        if self._under_way.get(key) is not None:
            self._begin(key)
        else:
            self._under_way.pop(key, None)

    def _begin(self, key: Hashable) -> None:
        """Read for those who wait."""
        batch = self._under_way[key]
        self._under_way[key] = None
        if batch is not None:
            batch.begin().addBoth(lambda _: self._ended(key))


class _Batch(Generic[_T]):
    """
    Those who wait for one read.

    :ivar delayed: when it begins at the latest.
    """

    def __init__(self, read: _Read[_T]) -> None:
        self.delayed: IDelayedCall | None = None
        self._read = read
        self._waiting: list[Deferred[_T]] = []
        self._reading: Deferred[_T] | None = None

    def join(self) -> "Deferred[_T]":
        """Wait too. Cancelling it leaves the others waiting."""
        waiting: Deferred[_T] = Deferred(self._leave)
        self._waiting.append(waiting)
        return waiting

    def _leave(self, waiting: "Deferred[_T]") -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)
        if not self._waiting and self._reading is not None:
            self._reading.cancel()

    def begin(self) -> "Deferred[None]":
        """
        :return: fires when it is over, whatever came of it.
        """
        if self.delayed is not None and self.delayed.active():
            self.delayed.cancel()
        over: Deferred[None] = Deferred()
        if self._waiting:
            self._reading = Deferred.fromCoroutine(self._read())
            self._reading.addCallbacks(self._tell, self._fail).addBoth(lambda _: over.callback(None))
        else:
            over.callback(None)
        return over

    def _tell(self, answer: _T) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(answer)

    def _fail(self, failure: Failure) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(failure)
