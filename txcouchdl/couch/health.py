"""
How a node does: in use, doubted, or down.

A failure alone does not tell whose it is: a node that is dying answers 5xx, and so does a healthy one to a request for
something that is damaged. So a node that failed is only *doubted* at first, which means that it is used where no other
can be, and is asked ``/_up``. If it does not answer that it is, it is *down*, and not used until it does.

It is asked again in longer and longer intervals, and at once (but once a second at most) when somebody has need of it,
who then waits for what it says.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txcouchdl.couch.client import CouchClient
from txcouchdl.couch.errors import UpstreamFailure
from txcouchdl.couch.tally import NodeTally

#: Seconds until a node that failed twice in succession is asked again; doubled each time.
_FIRST_INTERVAL: Final = 0.25
#: How often: it becomes 32 s, and not longer.
_MOST_DOUBLINGS: Final = 7
#: Seconds between two times that a node is asked because somebody has need of it.
_KNOCKING_INTERVAL: Final = 1.0

_log = Logger()


class State(Enum):
    """What a node is good for."""

    UP = "used"
    DOUBTED = "used where no other can be"
    DOWN = "not used"


class NodeHealth:
    """
    :ivar state: what the node is good for now.
    :param changed: called when the state has, or may have been expected to.
    :param tally: is told of failures, and whether the node is down.
    """

    def __init__(
        self, client: CouchClient, clock: IReactorTime, changed: Callable[[], object], tally: NodeTally
    ) -> None:
        self.state = State.UP
        self._tally = tally
        self._client = client
        self._clock = clock
        self._changed = changed
        # In succession: requests, and probes of a node that is down.
        self._failures = 0
        self._last_probe = clock.seconds() - _KNOCKING_INTERVAL
        self._next_probe: IDelayedCall | None = None
        self._probing: Deferred[None] | None = None

    @property
    def is_asked(self) -> bool:
        """Whether the node is being asked how it does."""
        return self._probing is not None

    @property
    def retry_after(self) -> float:
        """Seconds until the node is asked how it does, if nobody has need of it before."""
        return self._next_probe.getTime() - self._clock.seconds() if self._next_probe is not None else 0.0

    def succeeded(self) -> None:
        """The node has answered a request."""
        if self.state is not State.DOWN:
            self._failures = 0
            self.stop()
            self._become(State.UP)

    def failed(self, error: Exception) -> None:
        """
        :param error: that the node has refused or lost a connection, has answered with a 5xx, or not in time.
        """
        self._tally.failed()
        if self.state is State.UP:
            self._failures += 1
            self._probe_later()
            self._become(State.DOUBTED, error)

    def knock(self) -> None:
        """Somebody has need of the node: if it is down, ask it now."""
        is_due = self._clock.seconds() - self._last_probe >= _KNOCKING_INTERVAL
        if self.state is State.DOWN and self._next_probe is not None and is_due:
            self._next_probe.cancel()
            self._probe()

    def stop(self) -> None:
        """Ask no more."""
        if self._next_probe is not None:
            self._next_probe.cancel()
            self._next_probe = None
        if self._probing is not None:
            self._probing.cancel()

    def _become(self, state: State, why: BaseException | None = None) -> None:
        if state is self.state:
            return
        self.state = state
        self._tally.is_down(state is State.DOWN)
        reason = f": {why}" if why is not None else ""
        _log.info("{node} is {state}{reason}", node=self._client, state=state.name, reason=reason)
        self._changed()

    def _probe_later(self) -> None:
        """At once the first time."""
        doublings = min(self._failures - 2, _MOST_DOUBLINGS)
        interval = _FIRST_INTERVAL * 2.0**doublings if self._failures > 1 else 0.0
        self._next_probe = self._clock.callLater(interval, self._probe)

    def _probe(self) -> None:
        self._next_probe = None
        self._last_probe = self._clock.seconds()
        self._probing = Deferred.fromCoroutine(self._client.probe())
        self._probing.addCallbacks(self._proved, self._disproved)

    def _proved(self, _: None) -> None:
        self._probing = None
        self._become(State.UP)

    def _disproved(self, failure: Failure) -> None:
        self._probing = None
        if failure.check(CancelledError):
            return
        if not failure.check(UpstreamFailure):
            _log.failure("a node could not be asked how it does", failure=failure)
        self._failures += 1
        self._probe_later()
        if self.state is State.DOWN:
            # It is not being asked any more.
            self._changed()
        self._become(State.DOWN, failure.value)
