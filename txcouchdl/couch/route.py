"""
The way of one response to CouchDB: to one node, as long as that works, and to another when it does not.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar
from typing import Protocol as Interface

from attrs import frozen
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol

from txcouchdl.couch.client import BodyHead, CouchClient
from txcouchdl.couch.cluster import Cluster, Member, Place, Wish
from txcouchdl.couch.documents import Digest, Document
from txcouchdl.couch.errors import (
    BadUpstream,
    RevisionGone,
    UnreadableDocument,
    UpstreamFailure,
    UpstreamRefusedUs,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from txcouchdl.couch.names import AttachmentAddress
from txcouchdl.couch.reading import Request
from txcouchdl.couch.tally import Tally

_T = TypeVar("_T")
_Answering = Coroutine[Deferred[Any], Any, _T]

#: How often a request is made at the least, if it fails: it may have been for a connection that was about to end.
_ATTEMPTS: Final = 2
# Failures that may mean that the node is not well.
_DOUBTFUL: Final = (UpstreamUnavailable, UpstreamTimeout)
# Failures that another node may not have.
_ANOTHER_MAY_DO: Final = (*_DOUBTFUL, UpstreamRefusedUs, BadUpstream, RevisionGone)
# Of these, those that the same node will surely have again.
_THE_SAME_WILL_NOT: Final = (UpstreamTimeout, UpstreamRefusedUs, RevisionGone)


class Patience(Interface):
    """
    How long somebody waits.

    :ivar is_committed: whether a client has been told something already, and can be told nothing else.
    :ivar time_left: seconds for a node to answer; ``None`` for as many as there are for any answer.
    """

    @property
    def is_committed(self) -> bool: ...

    @property
    def time_left(self) -> float | None: ...

    def waited(self, seconds: float) -> None:
        """So long it took until there was a place: no node is to blame for it."""


class _Unhurried:
    """The patience of a request whose client has been told nothing."""

    is_committed = False
    time_left = None

    def waited(self, seconds: float) -> None: ...


#: Of who has told nobody anything.
UNHURRIED: Final = _Unhurried()


@frozen
class Body:
    """A body that was opened, and holds a place at its node until it is vacated."""

    _head: BodyHead
    _place: Place
    _route: "Route"

    @property
    def node(self) -> str:
        """Where it comes from, for the log."""
        return str(self._place.member.client)

    @property
    def tally(self) -> Tally:
        """Who counts what becomes of it."""
        return self._route.tally

    async def collect(self, count: int, digest: Digest | None) -> bytes:
        """See :meth:`BodyHead.collect <txcouchdl.couch.client.BodyHead.collect>`."""
        return await self._head.collect(count, digest)

    def deliver(self, protocol: IProtocol) -> None:
        """Let it flow into the protocol."""
        self._head.deliver(protocol)

    def rest(self, give_up: Callable[[], object]) -> None:
        """Nobody wants it just now: see :meth:`.Place.rest`."""
        self._place.rest(give_up)

    def wake(self) -> None:
        """Somebody does."""
        self._place.wake()

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
    :class:`~txcouchdl.couch.client.CouchClient`, at whatever node does it. A node that fails is left for another, if
    there is one; as many are tried as there are nodes, and if there is but one, that twice.

    Both raise NoNodeAvailable if no node works, and Overloaded if none had a place in time.

    :ivar tally: the cluster's.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.tally = cluster.tally
        self._cluster = cluster
        self._clock = cluster.clock
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

        async def read() -> tuple[Document | None, Member]:
            document, place = await self._ask(lambda client: client.document(database, document_id, rev), UNHURRIED)
            place.vacate()
            return document, place.member

        key = (database, document_id, rev)
        document, self._member = await self._cluster.documents.ask(key, read)
        return document

    async def document_with(
        self, database: str, document_id: str, is_wanted: Callable[[Document], bool], patience: Patience
    ) -> Document:
        """
        The current document, of whichever node has it as it is wanted: one may lag behind the others.

        :raises RevisionGone: if none has.
        """

        async def ask(client: CouchClient) -> Document:
            document = await client.document(database, document_id)
            if document is None or not is_wanted(document):
                raise RevisionGone(f"{client}: another document than is wanted, or none")
            return document

        document, place = await self._ask(ask, patience)
        place.vacate()
        return document

    async def attachment(self, address: AttachmentAddress, rev: str, request: Request, patience: Patience) -> Body:
        """
        Open the body that a request is for.

        :raises BadUpstream: if nobody answers as the request expects it.
        :raises RevisionGone: if no node has this revision with this attachment.
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

        head, place = await self._ask(ask, patience)
        return Body(head, place, self)

    async def _ask(self, ask: Callable[[CouchClient], _Answering[_T]], patience: Patience) -> tuple[_T, Place]:
        """Ask one node after the other, until one answers."""
        tried: list[Member] = []
        while True:
            place = await self._place(tried, patience)
            asking, time_left = self._ask_member(place.member, ask), patience.time_left
            try:
                answer = await (asking if time_left is None else self._in_time(asking, time_left))
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

    async def _place(self, tried: list[Member], patience: Patience) -> Place:
        avoided = tried if self._left is None else [*tried, self._left]
        place = self._cluster.likely_place(self._member, avoided)
        if place is not None:
            return place
        began = self._clock.seconds()
        place = await self._cluster.place(Wish(self._member, avoided, patience.is_committed))
        patience.waited(self._clock.seconds() - began)
        return place

    async def _in_time(self, asking: _Answering[_T], seconds: float) -> _T:
        try:
            return await Deferred.fromCoroutine(asking).addTimeout(max(seconds, 0.0), self._clock)
        except defer.TimeoutError:
            # This is no fault of the node's.
            raise UpstreamTimeout("no answer in time") from None

    async def _ask_member(self, member: Member, ask: Callable[[CouchClient], _Answering[_T]]) -> _T:
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
