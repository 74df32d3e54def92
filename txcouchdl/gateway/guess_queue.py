"""The queue of one address whose guesses have to wait: first come, first served."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from txcouchdl.gateway.errors import TooManyGuesses
from txcouchdl.gateway.guess_windows import LONGEST_DELAY, POLL, Ticket, Wait

#: Requests of one address with a full window that wait in one process.
LONGEST_QUEUE: Final = 5
#: Seconds that a request waits. A queue that has the turns to itself needs no more than 25.
LONGEST_WAIT: Final = 30.0


class GuessQueue:
    """
    Only the first request tries to get a ticket: when there may be one, and when one was taken back.

    :param admit: gets a ticket for the first request, or says when to try again.
    """

    def __init__(self, clock: IReactorTime, admit: Callable[[], Ticket | Wait]) -> None:
        self._clock = clock
        self._admit = admit
        self._waiting: OrderedDict[Deferred[Ticket | None], bytes] = OrderedDict()
        self._next_try: IDelayedCall | None = None
        self._is_bounded = False
        self._is_advancing = False

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether no further request may join."""
        return self._is_bounded and len(self._waiting) >= LONGEST_QUEUE

    @property
    def retry_after(self) -> float:
        """Seconds until a place may be free."""
        return POLL if self._next_try is None else max(self._next_try.getTime() - self._clock.seconds(), 0.0)

    async def join(self, mark: bytes) -> Ticket | None:
        """
        Wait for a ticket. Cancelling leaves the queue.

        :param mark: of the secret: see :meth:`release`.
        :return: ``None`` if it was released: it needs no ticket.
        :raises TooManyGuesses: if there was none in time, or if the window has become full and the queue is too long.
        """
        turn: Deferred[Ticket | None] = Deferred()
        self._waiting[turn] = mark
        if self._next_try is None:
            self.advance()
        try:
            return await turn.addTimeout(LONGEST_WAIT, self._clock)
        except defer.TimeoutError:
            raise TooManyGuesses(retry_after=LONGEST_DELAY) from None
        finally:
            self._waiting.pop(turn, None)
            if not self._waiting:
                self._stop_trying()

    def advance(self) -> None:
        """Let the first requests go, as far as there are tickets for them."""
        # A request that goes may be over at once, and take its ticket back.
        if self._is_advancing:
            return
        self._is_advancing = True
        self._stop_trying()
        try:
            while self._waiting and self._next_try is None:
                self._advance_first()
        finally:
            self._is_advancing = False

    def _advance_first(self) -> None:
        verdict = self._admit()
        if isinstance(verdict, Ticket):
            turn, _ = self._waiting.popitem(last=False)
            turn.callback(verdict)
            return
        self._next_try = self._clock.callLater(verdict.seconds, self._try_again)
        self._is_bounded = verdict.is_full
        while self._is_bounded and len(self._waiting) > LONGEST_QUEUE:
            turn, _ = self._waiting.popitem()
            turn.errback(TooManyGuesses(retry_after=self.retry_after))

    def _try_again(self) -> None:
        self._next_try = None
        self.advance()

    def release(self, mark: bytes) -> None:
        """Let all requests go that show a secret which has just opened its document."""
        for turn in [turn for turn, other in self._waiting.items() if other == mark]:
            if self._waiting.pop(turn, None) is not None:
                turn.callback(None)

    def _stop_trying(self) -> None:
        if self._next_try is not None:
            self._next_try.cancel()
            self._next_try = None
