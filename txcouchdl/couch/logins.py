"""
Whether the nodes accept the gateway's user: asked at the start, and again from time to time.

=============  ============================================================  ==========================================
Answer         Meaning                                                       Next request
=============  ============================================================  ==========================================
accepted       The node reads documents for this user.                       After a minute: a password may be changed.
untold         The node does not say. It counts as accepted.                 After a minute.
refused        Every download would be a 502.                                After five minutes, or on demand.
none           The node cannot be reached. What it said before still holds.  After ten seconds.
=============  ============================================================  ==========================================

CouchDB locks a user out after five wrong passwords from one address within five minutes. A node is therefore not asked
again within five minutes of the third refusal, whoever demands it.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txcouchdl.couch.client import CouchClient
from txcouchdl.couch.errors import UpstreamFailure
from txcouchdl.couch.session import Session, Verdict, described_user

#: Seconds until a node is asked again.
_AFTER: Final = {Verdict.ACCEPTED: 60.0, Verdict.UNTOLD: 60.0, Verdict.REFUSED: 300.0}
_AFTER_NO_ANSWER: Final = 10.0
#: Refusals within so many seconds behind which a node is not asked again, even on demand.
_MOST_REFUSALS: Final = 3
_LOCKOUT: Final = 300.0

_log = Logger()


class Logins:
    """
    :param clients: of the nodes.
    :param changed: called with the names of the nodes that refuse, whenever these are others than before.
    """

    def __init__(
        self, clients: Sequence[CouchClient], clock: IReactorTime, changed: Callable[[frozenset[str]], object]
    ) -> None:
        self._logins = [_Login(client, clock, self._note) for client in clients]
        self._changed = changed
        self._refusing: frozenset[str] = frozenset()

    def ask(self) -> None:
        """Ask all nodes now: at the start, or on demand."""
        for each in self._logins:
            each.ask()

    def stop(self) -> None:
        """Ask no more."""
        for each in self._logins:
            each.stop()

    def _note(self) -> None:
        refusing = frozenset(str(each.client) for each in self._logins if each.is_refused)
        if refusing != self._refusing:
            self._refusing = refusing
            self._changed(refusing)


class _Login:
    """
    One node's answers.

    :ivar is_refused: whether the node refuses the user, by its last answer.
    """

    def __init__(self, client: CouchClient, clock: IReactorTime, noted: Callable[[], object]) -> None:
        self.client = client
        self.is_refused = False
        self._clock = clock
        self._noted = noted
        self._told: object = None
        self._refusals: deque[float] = deque(maxlen=_MOST_REFUSALS)
        self._asking: Deferred[Session] | None = None
        self._next: IDelayedCall | None = None
        self._is_stopped = False

    def ask(self) -> None:
        if self._asking is not None or self._is_stopped or self._may_lock_out():
            return
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._asking = Deferred.fromCoroutine(self.client.session())
        self._asking.addCallbacks(self._hear, self._hear_nothing)

    def _may_lock_out(self) -> bool:
        """Whether too many refusals were heard lately. The next request is under way to its time then."""
        return len(self._refusals) == _MOST_REFUSALS and self._clock.seconds() - self._refusals[0] < _LOCKOUT

    def stop(self) -> None:
        self._is_stopped = True
        if self._next is not None and self._next.active():
            self._next.cancel()
        if self._asking is not None:
            self._asking.cancel()

    def _hear(self, session: Session) -> None:
        self._ask_later(_AFTER[session.verdict])
        if self._is_news(session):
            tell = _log.warn if session.verdict is Verdict.REFUSED else _log.info
            tell(
                "CouchDB at {node} {verdict} {user} (/_session: {status}){consequence}",
                node=self.client,
                verdict=session.verdict.value,
                user=described_user(self.client.user),
                status=session.status,
                consequence=": no download can work" if session.verdict is Verdict.REFUSED else "",
            )
        self.is_refused = session.verdict is Verdict.REFUSED
        if self.is_refused:
            self._refusals.append(self._clock.seconds())
        self._noted()

    def _hear_nothing(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        self._ask_later(_AFTER_NO_ANSWER)
        if not failure.check(UpstreamFailure):
            _log.failure("a node could not be asked about the user", failure=failure)
        elif self._is_news(None):
            why = str(failure.value).removeprefix(f"{self.client}: ")
            _log.warn("CouchDB at {node} cannot be reached: {why}", node=self.client, why=why)

    def _is_news(self, told: object) -> bool:
        before, self._told = self._told, (told,)
        return before != (told,)

    def _ask_later(self, seconds: float) -> None:
        self._asking = None
        if not self._is_stopped:
            self._next = self._clock.callLater(seconds, self.ask)
