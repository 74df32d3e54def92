"""
The way of one response to CouchDB: to one node, as long as that works, and to another when it does not.
"""

import math
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from attrs import frozen
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.logger import Logger

from txcouchdl.couch.client import BodyHead, CouchClient
from txcouchdl.couch.cluster import Cluster
from txcouchdl.couch.documents import Absence, Digest, Document
from txcouchdl.couch.errors import (
    BadUpstream,
    RevisionGone,
    UnreadableDocument,
    UpstreamFailure,
    UpstreamRefusedUs,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from txcouchdl.couch.names import AttachmentAddress, document_path
from txcouchdl.couch.patience import UNHURRIED, Patience
from txcouchdl.couch.places import Member, Place, Wish
from txcouchdl.couch.reading import Request
from txcouchdl.couch.tally import Tally

_log = Logger()

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
#: Seconds for another node to answer with a newer document.
SECOND_READ_TIMEOUT: Final = 2.0


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

    async def document(self, database: str, document_id: str, rev: str) -> Document | None:
        """
        Read a revision of a document: see :meth:`CouchClient.document <txcouchdl.couch.client.CouchClient.document>`.

        If one node does not have it, another one may.
        """

        async def read() -> tuple[Document | Absence, Member]:
            document, place = await self._ask(lambda client: client.document(database, document_id, rev), UNHURRIED)
            place.vacate()
            return document or Absence.UNKNOWN, place.member

        document, self._member = await self._cluster.documents.ask((database, document_id, rev), read)
        if isinstance(document, Document):
            return document
        found, self._member = await self._read_elsewhere(database, document_id, rev)
        return found

    async def current_document(self, database: str, document_id: str) -> Document | Absence:
        """See :meth:`CouchClient.current_document <txcouchdl.couch.client.CouchClient.current_document>`."""

        async def read() -> tuple[Document | Absence, Member]:
            document, place = await self._ask(lambda client: client.current_document(database, document_id), UNHURRIED)
            place.vacate()
            return document, place.member

        document, self._member = await self._cluster.documents.ask((database, document_id, None), read)
        return document

    async def newer_document(self, database: str, document_id: str, generation: float) -> Document | None:
        """
        Read the current document at another node than the one that answered :meth:`current_document`.

        A node that is cut off from its cluster has documents as they were, and refuses a token that is right by now.

        :param generation: that of the answer, see :func:`generation_of`.
        :return: ``None`` unless the other node's is higher. A document that is older, as old, or deleted never counts,
            nor does a node that fails or takes longer than :data:`SECOND_READ_TIMEOUT`.
        """
        first = self._member
        document, second = await self._read_elsewhere(database, document_id)
        if document is None or document.generation <= generation:
            return None
        _log.info(
            "{first} has an older revision of {document} than {second}",
            first=first and first.client,
            second=second and second.client,
            document=document_path(database, document_id),
        )
        self._member = second
        return document

    async def _read_elsewhere(
        self, database: str, document_id: str, rev: str | None = None
    ) -> tuple[Document | None, Member | None]:
        """Read a document at another node than the last one, if that can be done at once, and does not take long."""
        last = self._member
        if self._cluster.size == 1:
            return None, last

        async def read() -> tuple[Document | None, Member | None]:
            place = self._cluster.spare_place((last,))
            if place is None:
                return None, last
            try:
                asking = self._ask_member(place.member, lambda client: client.document(database, document_id, rev))
                return await self._in_time(asking, SECOND_READ_TIMEOUT), place.member
            finally:
                place.vacate()

        try:
            return await self._cluster.second_reads.ask((database, document_id, rev, last), read)
        except UpstreamFailure:
            return None, last

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


def generation_of(document: Document | Absence) -> float:
    """
    The generation that another node's document has to exceed to be newer than an answer.

    A node that knows of a deletion does not say its generation. Nothing is newer then: a node that missed the deletion
    would have the document still.
    """
    if isinstance(document, Document):
        return document.generation
    return 0 if document is Absence.UNKNOWN else math.inf
