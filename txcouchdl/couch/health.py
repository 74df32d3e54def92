"""
Health of a node, as a state machine.

=========  ===========================================================================================================
State      Use
=========  ===========================================================================================================
UP         The node is used.
DOUBTED    The node is used where no node is UP. A request failed, and it is not known yet whose fault that was: a dying
           node answers 5xx, and so does a healthy one to a request for something that is damaged.
ASIDE      The node is used where no node is UP or DOUBTED. It works, but a health check found that it is in maintenance
           mode, or sees fewer nodes of its cluster than the others do (:mod:`~txcouchdl.couch.health_checks`).
DOWN       The node is not used. It failed, and then did not answer ``/_up`` with success.
=========  ===========================================================================================================

=======================  =============================================================================================
Transition               Cause
=======================  =============================================================================================
UP -> DOUBTED            A request or a health check failed. A probe (``/_up``) follows, the first one at once.
DOUBTED -> UP            A probe or a request succeeded.
DOUBTED, ASIDE -> DOWN   A probe failed.
DOWN -> UP               A probe succeeded. Probes follow each other in longer and longer intervals. A request that
                         finds no node to use has all nodes probed at once, once a second at most, and waits.
UP, DOUBTED -> ASIDE     A health check sets the node aside.
ASIDE -> UP, DOUBTED     A health check no longer does.
DOWN -> ASIDE            A probe succeeded, and the last health check had set the node aside.
=======================  =============================================================================================
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
    """What a node is good for; the better ones first."""

    UP = "used"
    DOUBTED = "used where no node is UP"
    ASIDE = "used where no node is UP or DOUBTED"
    DOWN = "not used"


#: The states of nodes that may be used, in the order of preference.
USABLE: Final = (State.UP, State.DOUBTED, State.ASIDE)


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
        # What requests and probes say: UP, DOUBTED or DOWN. And why health checks have set the node aside, if so.
        self._condition = State.UP
        self._set_aside: str | None = None
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
    def is_failing(self) -> bool:
        """Whether a request or a probe failed, and none has succeeded since: probes are under way, or will be."""
        return self._condition is not State.UP

    @property
    def retry_after(self) -> float:
        """Seconds until the node is asked how it does, if nobody has need of it before."""
        return self._next_probe.getTime() - self._clock.seconds() if self._next_probe is not None else 0.0

    def succeeded(self) -> None:
        """The node has answered a request."""
        if self._condition is not State.DOWN:
            self._failures = 0
            self.stop()
            self._become(State.UP)

    def failed(self, error: Exception) -> None:
        """
        :param error: that the node has refused or lost a connection, has answered with a 5xx, or not in time.
        """
        self._tally.failed()
        if self._condition is State.UP:
            self._failures += 1
            self._probe_later()
            self._become(State.DOUBTED, error)

    def set_aside(self, reason: str | None) -> None:
        """
        Use the node only where no other can be.

        :param reason: for the log; ``None`` to use it as all others.
        """
        self._set_aside = reason
        self._become(self._condition)

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

    def _become(self, condition: State, why: object = None) -> None:
        self._condition = condition
        state, reason = condition, why
        if self._set_aside is not None and condition is not State.DOWN:
            state, reason = State.ASIDE, self._set_aside
        if state is self.state:
            return
        self.state = state
        self._tally.is_down(state is State.DOWN)
        self._tally.is_aside(state is State.ASIDE)
        because = f": {reason}" if reason is not None else ""
        _log.info("{node} is {state}{because}", node=self._client, state=state.name, because=because)
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
