"""
Health checks of nodes in use, for what no failed request would show in time.

A node in maintenance mode goes on answering. So does a node that is cut off from its cluster, with documents as they
were. Neither fails a request. So all nodes are checked in rounds: ``/_up``, and ``/_membership`` behind it. A node that
is in maintenance mode, or sees fewer nodes of its cluster than another one, is set aside: no new exchange goes there as
long as another node works. Exchanges under way go on.

A state machine with three states:

==========  ====================================================================================================
IDLE        No exchange has begun for a while. Nothing is asked, and no call is pending.
CHECKING    A round is under way.
WAITING     The next round is due :data:`INTERVAL` seconds after the last one was over.
==========  ====================================================================================================

IDLE -> CHECKING: an exchange begins. CHECKING -> WAITING: each node has answered or failed. WAITING -> CHECKING: the
time is over, and an exchange has begun since the last round did. WAITING -> IDLE: the time is over, and none has.

Counts of visible nodes are compared within one round only: with an older count of a node that has died since, all
others would look cut off. A node that is failing is left to its own probes (:mod:`~txcouchdl.couch.health`).
"""

from collections.abc import Sequence
from typing import Any, Final
from typing import Protocol as Interface

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txcouchdl.couch.client import CouchClient
from txcouchdl.couch.errors import NodeInMaintenance, UpstreamFailure
from txcouchdl.couch.health import NodeHealth
from txcouchdl.couch.membership import cut_off_nodes

#: Seconds between two rounds.
INTERVAL: Final = 5.0
#: Seconds until a node that did not say which nodes it sees is asked for them again.
_MEMBERSHIP_INTERVAL: Final = 600.0

_log = Logger()


class CheckedNode(Interface):
    """A node as health checks need it."""

    @property
    def client(self) -> CouchClient: ...

    @property
    def health(self) -> NodeHealth: ...


# How many nodes each checked node sees; None where it does not say.
_Visible = dict[CheckedNode, int | None]


class HealthChecks:
    """
    See the module.

    :param nodes: all nodes of the cluster. With a single one there is nothing to choose, and nothing is checked.
    """

    def __init__(self, nodes: Sequence[CheckedNode], clock: IReactorTime) -> None:
        self._nodes: Sequence[CheckedNode] = nodes if len(nodes) > 1 else ()
        self._clock = clock
        # Whether an exchange has begun since the last round did.
        self._is_used = False
        self._checks: Deferred[Any] | None = None
        self._next_round: IDelayedCall | None = None
        # When nodes that do not say which nodes they see are asked for them again.
        self._membership_due: dict[CheckedNode, float] = {}
        self._has_warned = False

    def note_use(self) -> None:
        """Note that an exchange with a node begins. Called for every one: it has to cost nothing."""
        self._is_used = True
        if self._next_round is None and self._checks is None and self._nodes:
            self._next_round = self._clock.callLater(0, self._begin)

    def stop(self) -> None:
        """Check nothing any more."""
        self._nodes = ()
        if self._next_round is not None:
            self._next_round.cancel()
            self._next_round = None
        checks, self._checks = self._checks, None
        if checks is not None:
            checks.cancel()

    def _begin(self) -> None:
        self._next_round = None
        if not self._is_used:
            return
        self._is_used = False
        visible: dict[CheckedNode, int | None] = {}
        checks = [
            Deferred.fromCoroutine(self._check(node, visible)).addErrback(_log_bug)
            for node in self._nodes
            if not node.health.is_failing
        ]
        self._checks = DeferredList(checks)
        self._checks.addCallback(lambda _: self._end(visible))

    def _end(self, visible: _Visible) -> None:
        if self._checks is None:
            # Stopped.
            return
        self._checks = None
        self._next_round = self._clock.callLater(INTERVAL, self._begin)
        counts = {node: count for node, count in visible.items() if count is not None}
        cut_off, most = cut_off_nodes(counts), max(counts.values(), default=0)
        for node, count in visible.items():
            is_cut_off = node in cut_off
            node.health.set_aside(f"it sees {count} nodes of its cluster, another {most}" if is_cut_off else None)

    async def _check(self, node: CheckedNode, visible: _Visible) -> None:
        """
        Check one node, and set it aside at once if it is in maintenance mode.

        :param visible: gets the number of nodes that the node sees, or ``None`` if it does not say; and no entry if the
            node is in maintenance mode, or fails.
        """
        try:
            await node.client.probe()
        except NodeInMaintenance:
            node.health.set_aside("it is in maintenance mode")
        except UpstreamFailure as failure:
            node.health.failed(failure)
        else:
            await self._check_membership(node, visible)

    async def _check_membership(self, node: CheckedNode, visible: _Visible) -> None:
        now = self._clock.seconds()
        if self._membership_due.get(node, now) > now:
            visible[node] = None
            return
        try:
            count = visible[node] = await node.client.visible_nodes()
        except UpstreamFailure:
            # Nothing new is known. If the node does not answer requests either, these tell.
            return
        if count is None:
            self._membership_due[node] = now + _MEMBERSHIP_INTERVAL
            self._warn(node)

    def _warn(self, node: CheckedNode) -> None:
        if not self._has_warned:
            self._has_warned = True
            _log.info(
                "{node} does not answer /_membership, which CouchDB does for server admins only: "
                "a node that is cut off from its cluster is not noticed",
                node=node.client,
            )


def _log_bug(failure: Failure) -> None:
    if not failure.check(CancelledError):
        _log.failure("a node could not be checked", failure=failure)
