"""
The way of one response to CouchDB: to one node, as long as that works, and to another when it does not.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from attrs import frozen
from twisted.internet.interfaces import IProtocol

from txcouchdl.couch.client import BodyHead, CouchClient
from txcouchdl.couch.cluster import Cluster, Member, Place, Wish
from txcouchdl.couch.documents import Document
from txcouchdl.couch.errors import (
    BadUpstream,
    UnreadableDocument,
    UpstreamFailure,
    UpstreamRefusedUs,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from txcouchdl.couch.names import AttachmentAddress
from txcouchdl.couch.reading import Request

_T = TypeVar("_T")

#: How often a request is made at the least, if it fails: it may have been for a connection that was about to end.
_ATTEMPTS: Final = 2
# Failures that may mean that the node is not well.
_DOUBTFUL: Final = (UpstreamUnavailable, UpstreamTimeout)
# Failures that another node may not have.
_ANOTHER_MAY_DO: Final = (*_DOUBTFUL, UpstreamRefusedUs, BadUpstream)
# Of these, those that the same node will surely have again.
_THE_SAME_WILL_NOT: Final = (UpstreamTimeout, UpstreamRefusedUs)


@frozen
class Body:
    """
    A body that was opened, and holds a place at its node until it is vacated.

    :ivar node: where it comes from, for the log.
    """

    node: str
    _head: BodyHead
    _place: Place
    _route: "Route"

    def deliver(self, protocol: IProtocol) -> None:
        """Let it flow into the protocol."""
        self._head.deliver(protocol)

    def vacate(self) -> None:
        """Give back the place: the body is over."""
        self._place.vacate()

    def lost(self, error: UpstreamFailure) -> None:
        """Give back the place: the body was lost. The route goes on at another node, if there is one."""
        self._route.leave(self._place.member, error)
        self.vacate()


class Route:
    """
    :meth:`document` and :meth:`attachment` are those of the
    :class:`~txcouchdl.couch.client.CouchClient`, at whatever node does it. A node that fails is left for another; each
    is tried once, and if there is but one, that twice.

    Both raise NoNodeAvailable if no node works, and Overloaded if none had a place in time.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        # Where it goes now, and where not.
        self._member: Member | None = None
        self._left: Member | None = None

    def leave(self, member: Member, error: UpstreamFailure) -> None:
        """Go on at another node, if there is one: this one has not done what it promised."""
        self._member, self._left = None, member
        if isinstance(error, _DOUBTFUL):
            member.health.failed(error)

    async def document(self, database: str, document_id: str, rev: str | None = None) -> Document | None:
        """See :meth:`CouchClient.document <txcouchdl.couch.client.CouchClient.document>`."""
        document, place = await self._ask(lambda client: client.document(database, document_id, rev))
        place.vacate()
        return document

    async def attachment(self, address: AttachmentAddress, rev: str, request: Request) -> Body:
        """
        Open the body that a request is for.

        :raises BadUpstream: if nobody answers as the request expects it.
        """

        async def ask(client: CouchClient) -> BodyHead:
            head = await client.attachment(
                address, rev, request.byte_range, gzip=request.is_gzip, closing=request.is_closing
            )
            problem = request.problem(head)
            if problem is not None:
                head.abandon()
                raise BadUpstream(f"{client}: {problem}")
            return head

        head, place = await self._ask(ask)
        return Body(str(place.member.client), head, place, self)

    async def _ask(self, ask: Callable[[CouchClient], Awaitable[_T]]) -> tuple[_T, Place]:
        """Ask one node after the other, until one answers."""
        tried: list[Member] = []
        while True:
            avoided = tried if self._left is None else [*tried, self._left]
            place = await self._cluster.place(Wish(self._member, avoided))
            try:
                answer = await self._ask_member(place.member, ask)
            except _ANOTHER_MAY_DO as error:
                place.vacate()
                tried.append(place.member)
                if isinstance(error, UnreadableDocument) or not self._is_worth_another_try(tried, error):
                    raise
            except BaseException:
                place.vacate()
                raise
            else:
                self._member, self._left = place.member, None
                return answer, place

    async def _ask_member(self, member: Member, ask: Callable[[CouchClient], Awaitable[_T]]) -> _T:
        """Ask a node, and learn from it how it does."""
        try:
            answer = await ask(member.client)
        except _DOUBTFUL as error:
            member.health.failed(error)
            raise
        member.health.succeeded()
        return answer

    def _is_worth_another_try(self, tried: list[Member], error: UpstreamFailure) -> bool:
        if self._cluster.size > 1:
            # Perhaps one of them twice, and none for another that is down.
            return len(tried) < self._cluster.size
        return len(tried) < _ATTEMPTS and not isinstance(error, _THE_SAME_WILL_NOT)
