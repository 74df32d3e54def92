"""Keeps the state of a download on disk up to date, while it goes on."""

from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from txcouchdl.cli.part import Part
from txcouchdl.cli.record import Record

#: Seconds from the end of one save to the beginning of the next: who is killed loses about as much.
INTERVAL: Final = 1.0


class InThread(Protocol):
    """Runs what waits for a disk where nobody waits for it."""

    def __call__(self, work: Callable[[], Any], /) -> "Deferred[Any]": ...


class Saver:
    """
    That of one part.

    :param record: tells what is there now.
    """

    def __init__(self, part: Part, record: Callable[[], Record], clock: IReactorTime, in_thread: InThread) -> None:
        self._part = part
        self._record = record
        self._clock = clock
        self._in_thread = in_thread
        self._next: IDelayedCall | None = None
        self._saving: Deferred[None] | None = None
        self._saved: Record | None = None
        self._error: BaseException | None = None

    def wrote(self) -> None:
        """
        There is more than before.

        :raises OSError: if what there was could not be saved.
        """
        if self._error is not None:
            raise self._error
        if self._next is None and self._saving is None:
            self._next = self._clock.callLater(INTERVAL, self._begin)

    def _begin(self) -> None:
        self._next = None
        self._saving = Deferred.fromCoroutine(self._save())

    async def _save(self) -> None:
        record = self._record()
        try:
            await self._in_thread(lambda: self._part.save(record))
            self._saved = record
        except OSError as error:
            self._error = error
        finally:
            self._saving = None

    async def settle(self) -> None:
        """
        All that is there now is saved, and nothing will be any more. Cancelled, it does that nevertheless, and says so
        then.

        :raises OSError: as :meth:`wrote`.
        """
        if self._next is not None:
            self._next.cancel()
            self._next = None
        is_cancelled = await self._end_of_saving()
        if self._record() != self._saved:
            self._begin()
            is_cancelled = await self._end_of_saving() or is_cancelled
        if self._error is not None:
            raise self._error
        if is_cancelled:
            raise CancelledError

    async def _end_of_saving(self) -> bool:
        """:return: whether it was cancelled meanwhile: a thread goes on anyhow, and nothing may be closed before."""
        is_cancelled = False
        saving = self._saving
        while saving is not None and not saving.called:
            # Of its own, so that what is cancelled is the waiting, and not the saving.
            ended: Deferred[None] = Deferred()
            saving.addBoth(ended.callback)
            try:
                await ended
            except CancelledError:
                is_cancelled = True
        return is_cancelled
