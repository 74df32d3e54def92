"""Bodies of answers, as they come: written on, counted, watched for stalls."""

from collections.abc import Callable
from enum import Enum

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss

from txcouchdl.cli.outcomes import Passing


class End(Enum):
    """How a body ended that did not break off."""

    WHOLE = "as its framing says"
    ENOUGH = "nobody wanted more"
    UNFRAMED = "with the connection, which may have been its end or not"


#: Takes bytes; says whether more are wanted.
Take = Callable[[bytes], bool]


class Body(Protocol):
    """
    One body, to be delivered to.

    :param abort: ends what brings it, at once. It may have ended by itself.
    :ivar ended: fires once, with an :class:`End`; or fails with :class:`Passing`, or with what taking it raised.
        Cancelled, it lets go of the connection.
    """

    def __init__(self, take: Take, abort: Callable[[], object], timeout: float, clock: IReactorTime) -> None:
        self._take = take
        self._abort = abort
        self._timeout = timeout
        self._clock = clock
        self._stalled: IDelayedCall | None = None
        self._is_over = False
        self.ended: Deferred[End] = Deferred(lambda _: self._finish(CancelledError()))

    def connectionMade(self) -> None:
        self._stalled = self._clock.callLater(self._timeout, self._stall)

    def _stall(self) -> None:
        self._stalled = None
        self._finish(Passing(f"no byte came for {self._timeout:g} seconds"))

    def dataReceived(self, data: bytes) -> None:
        if self._is_over:
            return
        if self._stalled is not None:
            self._stalled.reset(self._timeout)
        try:
            is_wanting = self._take(data)
        # Whatever it is, it is for who waits for the end.
        except Exception as error:
            self._finish(error)
        else:
            if not is_wanting:
                self._finish(End.ENOUGH)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reason.check(ResponseDone):
            self._finish(End.WHOLE)
        elif reason.check(PotentialDataLoss):
            self._finish(End.UNFRAMED)
        else:
            self._finish(Passing("the connection broke off"))

    def _finish(self, result: End | BaseException) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        if self._is_over:
            return
        self._is_over = True
        if result not in (End.WHOLE, End.UNFRAMED):
            # It is let go of first: who waits may ask for something else at once. That may tell its end here again.
            self._abort()
        if self.ended.called:
            return
        if isinstance(result, End):
            self.ended.callback(result)
        else:
            self.ended.errback(Failure(result))
