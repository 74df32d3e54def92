"""
The way of one response to CouchDB: to one node, as long as that works, and to another when it does not.
"""

import math
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Final, TypeVar

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from txcouchdl.couch.body_opening import Follows, open_body, open_same_body
from txcouchdl.couch.client import BodyHead, CouchClient
from txcouchdl.couch.cluster import Cluster
from txcouchdl.couch.documents import Absence, Document
from txcouchdl.couch.errors import (
    BadUpstream,
    RangesIgnored,
    RevisionGone,
    UnreadableDocument,
    UpstreamFailure,
    UpstreamRefusedUs,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from txcouchdl.couch.hedging import Hedges, Race
from txcouchdl.couch.names import AttachmentAddress, document_path
from txcouchdl.couch.opened_body import Body, Origin
from txcouchdl.couch.patience import UNHURRIED, Patience
from txcouchdl.couch.places import Member, Place, Wish
from txcouchdl.couch.reading import Request
from txcouchdl.couch.tally import HedgeKind

_log = Logger()

_T = TypeVar("_T")
_Answering = Coroutine[Deferred[Any], Any, _T]

#: How often a request is made at the least, if it fails: it may have been for a connection that was about to end.
_ATTEMPTS: Final = 2
# Failures that another node may not have.
_ANOTHER_MAY_DO: Final = (UpstreamUnavailable, UpstreamTimeout, UpstreamRefusedUs, BadUpstream, RevisionGone)
# Of these, those that the same node will surely have again.
_THE_SAME_WILL_NOT: Final = (UpstreamTimeout, UpstreamRefusedUs, RevisionGone)
#: Seconds for another node to answer with a newer document.
SECOND_READ_TIMEOUT: Final = 2.0


class Route:
    """
    :meth:`document` and :meth:`attachment` are those of the
    :class:`~txcouchdl.couch.client.CouchClient`, at whatever node does it. A node that fails is left for another, if
    there is one; as many are tried as there are nodes, and if there is but one, that twice.

    Both raise NoNodeAvailable if no node works, and Overloaded if none had a place in time, or there was no memory for
    a document.

    :ivar tally: the cluster's.
    :ivar turns: the cluster's.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.tally = cluster.tally
        self.turns = cluster.turns
        self._cluster = cluster
        self._clock = cluster.clock
        # Where it goes now, and where not.
        self._member: Member | None = None
        self._left: Member | None = None

    def leave(self, member: Member, error: UpstreamFailure) -> None:
        """Go on at another node, if there is one: this one has not done what it promised."""
        self._member, self._left = None, member
        member.note_failure(error)

    async def document(self, database: str, document_id: str, rev: str) -> Document | None:
        """
        Read a revision of a document: see :meth:`CouchClient.document <txcouchdl.couch.client.CouchClient.document>`.

        If one node does not have it, another one may.
        """

        async def read() -> tuple[Document | Absence, Member]:
            document, place = await self._ask(
                lambda client: client.document(database, document_id, rev), UNHURRIED, HedgeKind.DOCUMENT
            )
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
            document, place = await self._ask(
                lambda client: client.current_document(database, document_id), UNHURRIED, HedgeKind.DOCUMENT
            )
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
            document = await client.document(database, document_id, is_committed=patience.is_committed)
            if document is None or not is_wanted(document):
                raise RevisionGone(f"{client}: another document than is wanted, or none")
            return document

        document, place = await self._ask(ask, patience, HedgeKind.DOCUMENT)
        place.vacate()
        return document

    async def attachment(
        self,
        address: AttachmentAddress,
        rev: str,
        request: Request,
        patience: Patience,
        *,
        takes_whole: bool = False,
        follows: Follows = None,
    ) -> Body:
        """
        Open the body that a request is for. Nodes that ignore ranges are asked for one where no other can be.

        :param takes_whole: whether a body of all bytes may come instead of a range: see :attr:`Request.whole`.
        :param follows: what may be read from a later revision while the opened body is silent.
        :raises RangesIgnored: if that comes, and may not.
        :raises BadUpstream: if nobody answers as the request expects it.
        :raises RevisionGone: if no node has this revision with this attachment.
        """

        async def open_at(member: Member, request: Request) -> BodyHead:
            return await self._ask_member(member, lambda client: open_same_body(client, address, rev, request, follows))

        ranges, kind = self._cluster.ranges, HedgeKind.HEAD
        ignoring = [*ranges.ignoring] if ranges.ignoring and request.is_partial else []
        while True:
            (head, answered), place = await self._ask(
                lambda client: open_body(client, address, rev, request, may_be_whole=True), patience, kind, ignoring
            )
            body = Body(head, place, answered, Origin(self._cluster, self.leave, open_at))
            if answered is request:
                if ranges.ignoring and request.is_partial and ranges.served(place.member):
                    _log.info("{node} serves ranges again", node=body.node)
                return body
            if not request.is_partial:
                return body
            if ranges.ignored(place.member):
                _log.warn("{node} ignores ranges: it sends whole attachments instead", node=body.node)
            is_settled = place.member in ignoring or ranges.is_lost
            if is_settled and takes_whole:
                return body
            body.abandon()
            if is_settled:
                raise RangesIgnored(f"{body.node}: all bytes instead of a range")
            ignoring.append(place.member)

    async def _ask(
        self,
        ask: Callable[[CouchClient], _Answering[_T]],
        patience: Patience,
        kind: HedgeKind,
        avoided: Collection[Member] = (),
    ) -> tuple[_T, Place]:
        """
        Ask one node after the other, until one answers.

        :param avoided: nodes that are asked where no other can be.
        """
        tried: list[Member] = []
        while True:
            place = await self._place([*avoided, *tried] if avoided else tried, patience)
            hedges, time_left = self._cluster.hedges, patience.time_left
            try:
                if hedges is None:
                    asking = self._ask_member(place.member, ask)
                    answer = await (asking if time_left is None else self._in_time(asking, time_left))
                else:
                    racing = self._race(place, ask, hedges, kind, tried)
                    answer, place = await (racing if time_left is None else self._in_time(racing, time_left))
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

    async def _race(
        self,
        first: Place,
        ask: Callable[[CouchClient], _Answering[_T]],
        hedges: Hedges,
        kind: HedgeKind,
        tried: list[Member],
    ) -> tuple[_T, Place]:
        """
        Ask one node and, if it says nothing for a while, a second one.

        :param tried: gets the second one, if that fails.
        """

        def failed(place: Place, error: BaseException | None) -> bool:
            if place is not first:
                tried.append(place.member)
            return isinstance(error, _ANOTHER_MAY_DO) and not isinstance(error, UnreadableDocument)

        race = Race(
            lambda place: self._ask_member(place.member, ask),
            lambda: self._cluster.spare_place((first.member, *tried)),
            _overtaken,
            failed,
        )
        return await race.run(first, hedges, kind)

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
        except UpstreamFailure as error:
            member.note_failure(error)
            raise
        member.health.succeeded()
        return answer

    def _is_worth_another_try(self, tried: list[Member], error: UpstreamFailure) -> bool:
        if self._cluster.size > 1:
            # Perhaps one of them twice, and none for another that is down.
            return len(tried) < self._cluster.size
        return len(tried) < _ATTEMPTS and not isinstance(error, _THE_SAME_WILL_NOT)


def _overtaken(place: Place) -> None:
    """Have a node probed that was silent until another one had answered: its exchange is dropped, and never fails."""
    place.member.note_failure(UpstreamTimeout("no answer before another node's, which was asked later"))


def generation_of(document: Document | Absence) -> float:
    """
    The generation that another node's document has to exceed to be newer than an answer.

    A node that knows of a deletion does not say its generation. Nothing is newer then: a node that missed the deletion
    would have the document still.
    """
    if isinstance(document, Document):
        return document.generation
    return 0 if document is Absence.UNKNOWN else math.inf
