"""
CouchDB over treq: documents, and the heads of attachment bodies.

What goes upstream is ours alone: our method, our credentials, our ``Accept``, our ``Accept-Encoding``. Nothing of
a client's request does but the names it addressed. Answers are bounded in size and in time, redirects are not
followed, cookies not kept.

Both take lines to the node (:mod:`txcouchdl.couch.wire`); treq's own way asks for gzip in every request and undoes it
behind our back (FINDINGS, section 0, point 7), which would lose us the length, the digest and the range.
"""

import re
from typing import Final
from urllib.parse import urlsplit

from attrs import frozen
from twisted.internet.interfaces import IProtocol, IReactorTime
from twisted.logger import Logger

from txcouchdl.couch.deadlines import Deadlines
from txcouchdl.couch.document_decoder import DocumentDecoder
from txcouchdl.couch.document_reader import DocumentReader, is_small
from txcouchdl.couch.documents import SMALL_DOCUMENT, Absence, Digest, Document
from txcouchdl.couch.errors import (
    BadUpstream,
    NodeInMaintenance,
    RevisionGone,
    UpstreamRefusedUs,
    UpstreamUnavailable,
)
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.membership import MAX_MEMBERSHIP, count_visible_nodes
from txcouchdl.couch.names import AttachmentAddress, attachment_path, document_path, quote_segment
from txcouchdl.couch.nodes import Node
from txcouchdl.couch.session import Session, read_session
from txcouchdl.couch.short_bodies import abandon, collect, error_text, gather
from txcouchdl.couch.tally import NodeTally
from txcouchdl.couch.wire.agent import LeanClient, LineAgent
from txcouchdl.couch.wire.answers import Answer
from txcouchdl.couch.wire.line import Lines
from txcouchdl.couch.wire.requests import RequestHead
from txcouchdl.protocol.ranges import ByteRange

_CLOSE: Final = b"Connection: close\r\n"

#: Bytes of a request target that CouchDB reads. At a longer line than about 8,180 it answers a bare 400 and resets the
#: connection (FINDINGS, section 5), which would count as a failure of the node.
LONGEST_TARGET: Final = 8_100
#: Seconds for a node to say whether it is up.
_PROBE_TIMEOUT = 5.0
# A node with this status serves whoever asks it, but its operator wants it to be drained.
_MAINTENANCE: Final = re.compile(rb'"status"\s*:\s*"(?:maintenance_mode|nolb)"')

# What CouchDB says of a database to a user who is not a member of it, and to one who is nobody. All other refusals
# (a lockout) are about our credentials, and say nothing of the document (FINDINGS, section 7).
_NOT_A_MEMBER = b"You are not allowed to access this db."
_NOBODY = b"You are not authorized to access this db."

# A document that was deleted has another reason, and so has a database that does not exist.
_NEVER_SEEN: Final = re.compile(rb'"reason"\s*:\s*"missing"')

_log = Logger()


@frozen
class BodyHead:
    """
    The head of an attachment's body as a node answered it: claims, to be checked by the reader.

    :ivar status: 200 or 206; every other status has become an exception.
    :ivar length: bytes of the body that follows, or ``None`` if the node did not say.
    :ivar etag: verbatim, or ``None``. So are content_range and coding.
    """

    status: int
    length: int | None
    etag: str | None
    content_range: str | None
    coding: str | None
    _answer: Answer
    _deadlines: Deadlines

    async def collect(self, count: int, digest: Digest | None, wanted: int | None = None) -> bytes:
        """
        Collect a short body, instead of :meth:`deliver`.

        :param count: how many bytes it has.
        :param digest: what it has to have.
        :param wanted: how many of its bytes, from the first, are returned; ``None`` for all.
        :raises UpstreamFailure: if it has not, or does not come in time.
        """
        deadline = self._deadlines.begin()
        try:
            return await deadline.wait(gather(self.deliver, count, digest, wanted))
        finally:
            deadline.end()

    def deliver(self, protocol: IProtocol) -> None:
        """Let the body flow into the protocol. To be called once, or :meth:`abandon`."""
        self._answer.deliverBody(protocol)

    def abandon(self) -> None:
        """Drop the body and its connection."""
        abandon(self._answer)


class CouchClient:
    """
    One node's documents and attachments.

    :param answer_timeout: seconds for a document to arrive whole, and for the head of an attachment.
    :param tally: is told how long answers take; not those about whether it is up.
    :param documents: reads them; by default it keeps no field of them.

    Every method raises an :class:`~txcouchdl.couch.errors.UpstreamFailure` where the node fails, and nothing
    else; cancelling what it returns drops the connection.
    """

    def __init__(
        self,
        node: Node,
        lines: Lines,
        clock: IReactorTime,
        answer_timeout: float,
        tally: NodeTally | None = None,
        documents: DocumentReader | None = None,
    ) -> None:
        self._node = node
        self._clock = clock
        self._tally = tally or NodeTally()
        self._reader = documents or DocumentReader(DocumentDecoder(), UpstreamLimits(), clock)
        self._name = str(node)
        self._answers = Deadlines(self._name, answer_timeout, clock)
        self._probes = Deadlines(self._name, _PROBE_TIMEOUT, clock)
        self._line = lines.to(node.base)
        url = urlsplit(node.base)
        self._longest_target = LONGEST_TARGET - len(url.path)
        common = {"Host": url.netloc}
        if node.authorization is not None:
            common["Authorization"] = node.authorization
        json_head = RequestHead("", {**common, "Accept": "application/json", "Accept-Encoding": "identity"})
        self._documents = LeanClient(LineAgent(self._line, f"{url.scheme}://{url.netloc}", json_head))
        # By whether gzip is wanted.
        self._bodies = {
            gzip: RequestHead(url.path, {**common, "Accept": "*/*", "Accept-Encoding": "gzip" if gzip else "identity"})
            for gzip in (False, True)
        }

    def __str__(self) -> str:
        return self._name

    @property
    def user(self) -> str | None:
        """The user whose credentials are sent; ``None`` if none are."""
        return self._node.user

    async def session(self) -> Session:
        """
        Ask a node whether it accepts our user.

        :raises UpstreamFailure: if there is no answer in time.
        """
        deadline = self._probes.begin()
        try:
            response = await deadline.wait(self._documents.get(f"{self._node.base}/_session"))
            body = await deadline.wait(error_text(response))
        finally:
            deadline.end()
        return read_session(response.code, body, self.user)

    async def document(
        self, database: str, document_id: str, rev: str | None = None, *, is_committed: bool = False
    ) -> Document | None:
        """
        Read a document, its stubs told with ``att_encoding_info``.

        :param rev: a revision, or ``None`` for the current one.
        :param is_committed: whether a client has been told something already, and can be told nothing else.
        :return: ``None`` if there is no such document that we may read: it is missing or deleted, its database is
            missing or closed to us, or its name is one that CouchDB cannot have, or too long for a request.
        :raises Overloaded: if it is large, and there is no memory for it in time.
        """
        query = "?att_encoding_info=true" + (f"&rev={quote_segment(rev)}" if rev is not None else "")
        target = document_path(database, document_id) + query
        document = await self._read_document(target, document_id, is_committed=is_committed)
        if isinstance(document, Absence):
            return None
        if rev is not None and document.rev != rev:
            raise BadUpstream(f"{self}: another revision than asked for")
        return document

    async def current_document(self, database: str, document_id: str) -> Document | Absence:
        """Read the current revision of a document as :meth:`document` does, or learn why there is none."""
        target = f"{document_path(database, document_id)}?att_encoding_info=true"
        return await self._read_document(target, document_id)

    async def _read_document(self, target: str, document_id: str, *, is_committed: bool = False) -> Document | Absence:
        if len(target) > self._longest_target:
            return Absence.GONE
        deadline, began = self._answers.begin(), self._clock.seconds()
        try:
            response = await deadline.wait(self._documents.get(f"{self._node.base}{target}"))
            self._tally.answered(self._clock.seconds() - began)
            if response.code == 200 and is_small(response):
                return self._reader.decode(await deadline.wait(collect(response, SMALL_DOCUMENT)), document_id)
            error = b"" if response.code == 200 else await deadline.wait(error_text(response))
        finally:
            deadline.end()
        if response.code == 200:
            return await self._reader.read(response, document_id, self._answers, is_committed=is_committed)
        if response.code in {400, 404, 414}:
            is_unknown = response.code == 404 and _NEVER_SEEN.search(error) is not None
            return Absence.UNKNOWN if is_unknown else Absence.GONE
        if _NOT_A_MEMBER in error or (_NOBODY in error and self._node.authorization is None):
            _log.warn("{node}: a database is closed to us", node=self)
            return Absence.GONE
        raise self._failure(response)

    async def attachment(
        self, address: AttachmentAddress, rev: str, byte_range: ByteRange | None, *, gzip: bool, closing: bool
    ) -> BodyHead:
        """
        Ask for the stored bytes of an attachment.

        :param rev: the revision to read it of.
        :param byte_range: which of them, or ``None`` for all.
        :param gzip: whether they are stored as gzip, and wanted so.
        :param closing: whether the body is to go on until the connection closes, so that nothing behind its length
            is overlooked.
        :raises RevisionGone: if this revision, or the attachment in it, is not there; and if the address is too long
            for a request.
        """
        # Always absolute: CouchDB's suffix ranges lose bytes (FINDINGS, section 0, point 4).
        wanted = b"" if byte_range is None else b"Range: bytes=%d-%d\r\n" % (byte_range.first, byte_range.last)
        target = f"{attachment_path(address)}?rev={quote_segment(rev)}"
        if len(target) > self._longest_target:
            raise RevisionGone(f"{self}: CouchDB does not read so long an address")
        request = self._bodies[gzip].request(target.encode("ascii"), wanted + (_CLOSE if closing else b""))
        deadline, began = self._answers.begin(), self._clock.seconds()
        try:
            answer = await deadline.wait(self._line.ask(request, is_to_close=closing))
            self._tally.answered(self._clock.seconds() - began)
        finally:
            deadline.end()
        if answer.code not in {200, 206}:
            abandon(answer)
            raise self._failure(answer)
        return _head(answer, self._answers)

    async def probe(self) -> None:
        """
        Ask a node whether it is up. A 404 with a status says that it is not to be used (maintenance, seeding); one
        without comes from something before CouchDB that keeps ``/_up`` to itself, and tells nothing.

        :raises NodeInMaintenance: if the node is in maintenance mode.
        :raises UpstreamFailure: if the node says otherwise that it is not up, or nothing in time.
        """
        deadline = self._probes.begin()
        try:
            response = await deadline.wait(self._documents.get(f"{self._node.base}/_up"))
            said = await deadline.wait(error_text(response))
        finally:
            deadline.end()
        if response.code == 404 and _MAINTENANCE.search(said):
            raise NodeInMaintenance(f"{self}: in maintenance mode")
        if response.code >= 500 or (response.code == 404 and b'"status"' in said):
            raise UpstreamUnavailable(f"{self}: /_up answers {response.code}")

    async def visible_nodes(self) -> int | None:
        """
        Ask a node how many nodes of its cluster it is connected to, itself included.

        :return: ``None`` if the node does not say: CouchDB tells server admins only.
        :raises UpstreamFailure: if there is no answer in time.
        """
        deadline = self._probes.begin()
        try:
            response = await deadline.wait(self._documents.get(f"{self._node.base}/_membership"))
            if response.code != 200:
                await deadline.wait(error_text(response))
                return None
            return count_visible_nodes(await deadline.wait(collect(response, MAX_MEMBERSHIP)))
        finally:
            deadline.end()

    def _failure(self, response: Answer) -> Exception:
        """What a status that is no body means for an attachment or a document."""
        code = response.code
        if code in {401, 403}:
            return UpstreamRefusedUs(f"{self}: answers {code} to our credentials")
        if code == 404:
            return RevisionGone(f"{self}: answers 404")
        if code >= 500:
            return UpstreamUnavailable(f"{self}: answers {code}")
        return BadUpstream(f"{self}: answers {code}")


def _head(answer: Answer, deadlines: Deadlines) -> BodyHead:
    fields = answer.head.fields
    return BodyHead(
        answer.code,
        answer.head.length,
        _text(fields.get(b"etag")),
        _text(fields.get(b"content-range")),
        _text(fields.get(b"content-encoding")),
        answer,
        deadlines,
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
