"""
CouchDB over treq: documents, and the heads of attachment bodies.

What goes upstream is ours alone: our method, our credentials, our ``Accept``, our ``Accept-Encoding``. Nothing of
a client's request does but the names it addressed. Answers are bounded in size and in time, redirects are not
followed, cookies not kept.

treq asks for gzip in every request and undoes it behind our back (FINDINGS, section 0, point 7), which would lose
us the length, the digest and the range. Under it therefore sits an agent that asks for exactly the coding we want
and keeps the answer's coding out of treq's sight.
"""

import re
from http.cookiejar import DefaultCookiePolicy
from typing import TypeVar, cast
from urllib.parse import quote

from attrs import frozen
from hyperlink import EncodedURL
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IProtocol, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web._newclient import RequestNotSent
from twisted.web.client import (
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from txcouchdl.couch.connections import Agents
from txcouchdl.couch.documents import Document, parse_document
from txcouchdl.couch.errors import (
    BadUpstream,
    RevisionGone,
    UpstreamRefusedUs,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from txcouchdl.couch.names import AttachmentAddress, attachment_path, document_path
from txcouchdl.couch.nodes import Node
from txcouchdl.couch.short_bodies import abandon, collect, error_text
from txcouchdl.protocol.ranges import ByteRange

_T = TypeVar("_T")
_LENGTH = re.compile("[0-9]{1,19}")

#: The largest document we read, stubs included; CouchDB's own limit is 8 MB without them.
MAX_DOCUMENT = 16 * 2**20
#: Seconds for a node to say whether it is up.
_PROBE_TIMEOUT = 5.0

# treq must not see the coding, or it would undo it; we must.
_STORED_CODING = b"X-Txcouchdl-Stored-Coding"
# What CouchDB says of a database to a user who is not a member of it, and to one who is nobody. All other refusals
# (a lockout) are about our credentials, and say nothing of the document (FINDINGS, section 7).
_NOT_A_MEMBER = b"You are not allowed to access this db."
_NOBODY = b"You are not authorized to access this db."

_log = Logger()


@implementer(IAgent)
class _CodingAgent:
    """Asks for one content coding, whatever treq adds, and hides from treq the coding that comes back."""

    def __init__(self, agent: IAgent, accept_encoding: bytes) -> None:
        self._agent = agent
        self._accept_encoding = accept_encoding

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,  # noqa: N803 (IAgent's)
    ) -> "Deferred[IResponse]":
        headers = Headers() if headers is None else headers.copy()
        headers.setRawHeaders(b"Accept-Encoding", [self._accept_encoding])
        answer = self._agent.request(method, uri, headers, bodyProducer)
        return answer.addCallback(_hide_coding)


def _hide_coding(response: IResponse) -> IResponse:
    codings = response.headers.getRawHeaders(b"Content-Encoding", [])
    response.headers.removeHeader(b"Content-Encoding")
    response.headers.setRawHeaders(_STORED_CODING, [b", ".join(codings)] if codings else [])
    return response


class ReadyURL(EncodedURL):
    """
    A URL that goes out as it stands. treq would take it apart, and pass its host through IDNA, which knows neither
    IPv6 addresses nor the underscores of container networks.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def to_uri(self) -> "ReadyURL":
        return self

    def to_text(self, with_password: bool = False) -> str:
        return self._text


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
    _response: IResponse

    def deliver(self, protocol: IProtocol) -> None:
        """Let the body flow into the protocol. To be called once, or :meth:`abandon`."""
        self._response.deliverBody(protocol)

    def abandon(self) -> None:
        """Drop the body and its connection."""
        abandon(self._response)


class CouchClient:
    """
    One node's documents and attachments.

    :param answer_timeout: seconds for a document to arrive whole, and for the head of an attachment.

    Every method raises an :class:`~txcouchdl.couch.errors.UpstreamFailure` where the node fails, and nothing
    else; cancelling what it returns drops the connection.
    """

    def __init__(self, node: Node, agents: Agents, clock: IReactorTime, answer_timeout: float) -> None:
        self._node = node
        self._answer_timeout = answer_timeout
        self._clock = clock
        # By whether gzip is wanted, and whether the connection is to close.
        self._clients = {
            (gzip, closing): _client(agents.closing if closing else agents.persistent, b"gzip" if gzip else b"identity")
            for gzip in (False, True)
            for closing in (False, True)
        }

    def __str__(self) -> str:
        return str(self._node)

    async def document(self, database: str, document_id: str, rev: str | None = None) -> Document | None:
        """
        Read a document, its stubs told with ``att_encoding_info``.

        :param rev: a revision, or ``None`` for the current one.
        :return: ``None`` if there is no such document that we may read: it is missing or deleted, its database is
            missing or closed to us, or its name is one that CouchDB cannot have.
        """
        query = "?att_encoding_info=true" + (f"&rev={quote(rev, safe='')}" if rev is not None else "")
        target = document_path(database, document_id) + query
        reading = Deferred.fromCoroutine(self._read_document(target, document_id))
        document = await self._within(reading, self._answer_timeout)
        if document is not None and rev is not None and document.rev != rev:
            raise BadUpstream(f"{self}: another revision than asked for")
        return document

    async def _read_document(self, target: str, document_id: str) -> Document | None:
        response = await self._get(self._clients[False, False], target, {"Accept": "application/json"})
        if response.code == 200:
            return parse_document(await collect(response, MAX_DOCUMENT), document_id)
        error = await error_text(response)
        if response.code in {400, 404}:
            return None
        if _NOT_A_MEMBER in error or (_NOBODY in error and self._node.authorization is None):
            _log.warn("{node}: a database is closed to us", node=self)
            return None
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
        :raises RevisionGone: if this revision, or the attachment in it, is not there.
        """
        headers = {"Accept": "*/*"}
        client = self._clients[gzip, closing]
        if byte_range is not None:
            # Always absolute: CouchDB's suffix ranges lose bytes (FINDINGS, section 0, point 4).
            headers["Range"] = f"bytes={byte_range.first}-{byte_range.last}"
        target = f"{attachment_path(address)}?rev={quote(rev, safe='')}"
        asking = Deferred.fromCoroutine(self._get(client, target, headers))
        response = await self._within(asking, self._answer_timeout)
        if response.code not in {200, 206}:
            abandon(response)
            raise self._failure(response)
        return _head(response)

    async def _get(self, client: HTTPClient, target: str, fields: dict[str, str]) -> IResponse:
        headers = Headers({name: [value] for name, value in fields.items()})
        if self._node.authorization is not None:
            headers.setRawHeaders("Authorization", [self._node.authorization])
        url = ReadyURL(f"{self._node.base}{target}")
        asking = client.get(url, headers=headers, allow_redirects=False, unbuffered=True)
        try:
            return await _cancelled_at_once(cast("Deferred[IResponse]", asking))
        except ConnectTimeout:
            raise UpstreamTimeout(f"{self}: no connection in time") from None
        except (ConnectError, DNSLookupError) as error:
            raise UpstreamUnavailable(f"{self}: {error}") from None
        except (RequestNotSent, RequestGenerationFailed, RequestTransmissionFailed, ResponseFailed) as error:
            raise UpstreamUnavailable(f"{self}: no answer: {_reasons(error)}") from None

    async def probe(self) -> None:
        """
        Ask a node whether it is up. A 404 with a status says that it is not to be used (maintenance, seeding); one
        without comes from something before CouchDB that keeps ``/_up`` to itself, and tells nothing.

        :raises UpstreamFailure: if it says that it is not, or nothing in time.
        """
        await self._within(Deferred.fromCoroutine(self._probe()), _PROBE_TIMEOUT)

    async def _probe(self) -> None:
        response = await self._get(self._clients[False, False], "/_up", {"Accept": "application/json"})
        said = await error_text(response)
        if response.code >= 500 or (response.code == 404 and b'"status"' in said):
            raise UpstreamUnavailable(f"{self}: /_up answers {response.code}")

    async def _within(self, waiting: "Deferred[_T]", seconds: float) -> _T:
        try:
            return await waiting.addTimeout(seconds, self._clock)
        except defer.TimeoutError:
            raise UpstreamTimeout(f"{self}: no answer in {seconds:g} s") from None

    def _failure(self, response: IResponse) -> Exception:
        """What a status that is no body means for an attachment or a document."""
        code = response.code
        if code in {401, 403}:
            return UpstreamRefusedUs(f"{self}: answers {code} to our credentials")
        if code == 404:
            return RevisionGone(f"{self}: answers 404")
        if code >= 500:
            return UpstreamUnavailable(f"{self}: answers {code}")
        return BadUpstream(f"{self}: answers {code}")


def _client(agent: IAgent, accept_encoding: bytes) -> HTTPClient:
    """A treq client that takes no cookies."""
    cookies = IndexableCookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
    return HTTPClient(_CodingAgent(agent, accept_encoding), cookies)


def _cancelled_at_once(asking: "Deferred[IResponse]") -> "Deferred[IResponse]":
    """
    The same, but when it is cancelled, it fails with a CancelledError. What Twisted makes of that depends on how far
    it is, and may look like a failure of the node's: a host that it was still looking up, it could not find.
    """

    def cancel(waiting: "Deferred[IResponse]") -> None:
        waiting.errback(CancelledError())
        asking.cancel()

    def answered(response: IResponse) -> None:
        if waiting.called:
            abandon(response)
        else:
            waiting.callback(response)

    def failed(failure: Failure) -> None:
        if not waiting.called:
            waiting.errback(failure)

    waiting: Deferred[IResponse] = Deferred(cancel)
    asking.addCallbacks(answered, failed)
    return waiting


def _reasons(error: Exception) -> str:
    """The types of what went wrong. Never their texts: these may quote what came over the wire."""
    return ", ".join(reason.type.__name__ for reason in getattr(error, "reasons", ())) or type(error).__name__


def _length(response: IResponse) -> int | None:
    """The promised length of a body. Where it goes on until the close, it is a field that nobody has looked at."""
    if response.length is not UNKNOWN_LENGTH:
        return cast(int, response.length)
    claimed = _field(response, b"Content-Length") or ""
    return int(claimed) if _LENGTH.fullmatch(claimed) else None


def _head(response: IResponse) -> BodyHead:
    return BodyHead(
        response.code,
        _length(response),
        _field(response, b"ETag"),
        _field(response, b"Content-Range"),
        _field(response, _STORED_CODING),
        response,
    )


def _field(response: IResponse, name: bytes) -> str | None:
    values = response.headers.getRawHeaders(name)
    return b", ".join(values).decode("latin-1") if values else None
