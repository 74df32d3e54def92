"""
Places at the nodes of a cluster: every exchange takes one, and a node has so many.
"""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from txcouchdl.couch.client import CouchClient
from txcouchdl.couch.errors import UpstreamFailure, UpstreamTimeout, UpstreamUnavailable
from txcouchdl.couch.health import NodeHealth
from txcouchdl.couch.tally import NodeTally

if TYPE_CHECKING:
    from txcouchdl.couch.cluster import Cluster


class Member:
    """
    A node of the cluster.

    :ivar busy: exchanges under way.
    """

    def __init__(
        self, client: CouchClient, clock: IReactorTime, changed: Callable[[], object], tally: NodeTally
    ) -> None:
        self.client = client
        self.health = NodeHealth(client, clock, changed, tally)
        self.busy = 0

    def note_failure(self, error: UpstreamFailure) -> None:
        """Tell the node's health of a failure, if that may mean that the node is not well."""
        if isinstance(error, UpstreamUnavailable | UpstreamTimeout):
            self.health.failed(error)


class Place:
    """A place for one exchange with a node."""

    def __init__(self, member: Member, cluster: "Cluster") -> None:
        self.member = member
        self._cluster: Cluster | None = cluster
        member.busy += 1
        cluster.checks.note_use()

    def rest(self, give_up: Callable[[], object]) -> None:
        """
        It is not used just now.

        :param give_up: called if it is to be vacated for somebody else.
        """
        if self._cluster is not None:
            self._cluster.rest(self, give_up)

    def wake(self) -> None:
        """It is used again."""
        if self._cluster is not None:
            self._cluster.wake(self)

    def vacate(self) -> None:
        """Give it back. Twice is once."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            self.member.busy -= 1
            cluster.vacated(self)


@frozen(eq=False)
class Wish:
    """
    What somebody wants who waits for a place.

    :ivar preferred: where, if there is a choice.
    :ivar tried: where it has not worked: only if there is no choice.
    :ivar is_committed: whether a client has been told something already, and can be told nothing else.
    """

    preferred: Member | None = None
    tried: Collection[Member] = ()
    is_committed: bool = False
