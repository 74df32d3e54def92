"""
Lets a request that resumes a download wait while CouchDB cannot be read.

An error costs a client what a wait would keep: Firefox deletes its partial file on a 503 (CLIENTS, point 14). So such
a request fails only once ``--give-up`` has passed. Until then it is tried again from the beginning, at the pace of
:mod:`~txcouchdl.couch.attempts`: the document is read anew and the token is checked anew. All other requests fail at
once.

*Before a document is read, nothing is known of the token.* The wait depends on the fields of the request alone then, so
that it reveals nothing, and a stranger may wait too. Between two attempts a request holds its connection, and neither a
place at a node nor memory for a body. At most so many requests wait at the same time.
"""

from types import TracebackType

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from txcouchdl.couch.attempts import Attempts
from txcouchdl.couch.errors import UpstreamFailure
from txcouchdl.gateway.plan import DeliveryPlan, RequestFacts
from txcouchdl.gateway.resuming import may_resume

_log = Logger()


class ResumeWaits:
    """
    All waits of one process.

    :param limit: requests that may wait at the same time. One more fails at once.
    :param give_up: seconds from the beginning of a request until it is tried no more.
    """

    def __init__(self, limit: int, give_up: float, clock: IReactorTime) -> None:
        self._limit = limit
        self._give_up = give_up
        self._clock = clock
        self._waiting: set[ResumeWait] = set()

    def of(self, facts: RequestFacts) -> "ResumeWait | None":
        """Return the wait of a request, or ``None`` for one that resumes nothing. The request begins now."""
        return ResumeWait(self, Attempts(self._give_up, self._clock), self._clock) if may_resume(facts) else None

    def enter(self, wait: "ResumeWait") -> bool:
        """Let a request wait, and say whether it may. Twice is once."""
        if wait not in self._waiting and len(self._waiting) >= self._limit:
            return False
        self._waiting.add(wait)
        return True

    def leave(self, wait: "ResumeWait") -> None:
        """Wait no more. Twice is once."""
        self._waiting.discard(wait)


class ResumeWait:
    """The wait of one request. As a context manager it ends with the request."""

    def __init__(self, waits: ResumeWaits, attempts: Attempts, clock: IReactorTime) -> None:
        self._waits = waits
        self._attempts = attempts
        self._clock = clock
        self._is_resume = True
        self._is_noted = False

    def __enter__(self) -> "ResumeWait":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()

    def planned(self, plan: DeliveryPlan) -> None:
        """Take note of the answer, which depends on the document: with another entity-tag it resumes nothing."""
        self._is_resume = plan.status == 206

    def end(self) -> None:
        """Wait no more: the response begins, or the request is over."""
        self._waits.leave(self)

    async def pause(self, error: UpstreamFailure) -> None:
        """
        Wait until the next attempt. Cancelling it leaves nothing behind.

        :raises UpstreamFailure: the error, if there is to be no other attempt.
        """
        if not (self._is_resume and self._attempts.may_help(error)):
            raise error
        delay = self._attempts.next_delay()
        if delay is None or not self._waits.enter(self):
            raise error
        if not self._is_noted:
            self._is_noted = True
            _log.info("a resumed download waits: {kind}: {error}", kind=type(error).__name__, error=error)
        await deferLater(self._clock, delay)
