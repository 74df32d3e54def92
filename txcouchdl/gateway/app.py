"""
The Klein app: from a request to its answer. See ``docs/architecture.rst`` for the way of one request.

One catch-all route takes every request. What a request addresses is read from its **raw** target, here: Klein and
twisted.web decode a path before they cut it at its slashes.
"""

from klein import Klein
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.server import Request

from txcouchdl.couch.cluster import Cluster
from txcouchdl.couch.documents import AttachmentStub, Document, is_revision
from txcouchdl.couch.errors import AttachmentChanged, DownloadError, RevisionGone, UnreadableDocument, UpstreamFailure
from txcouchdl.couch.names import (
    AttachmentAddress,
    BadAddress,
    NotAnAttachment,
    parse_attachment_path,
    split_target,
)
from txcouchdl.couch.route import Route
from txcouchdl.couch.source import AttachmentSource, IdentityLengths, PinnedAttachment
from txcouchdl.gateway.access_log import ClientAddress
from txcouchdl.gateway.delivery import answer, break_off, deliver
from txcouchdl.gateway.errors import (
    INTERNAL_ERROR,
    BadRevision,
    BadTarget,
    Forbidden,
    MethodNotAllowed,
    NoAddress,
    NoSuchAttachment,
    NoSuchRevision,
    TooManyGuesses,
    answer_for,
)
from txcouchdl.gateway.facts import facts_of
from txcouchdl.gateway.guesses import GUESS_LIMIT, Guesses
from txcouchdl.gateway.peers import TrustedProxies
from txcouchdl.gateway.plan import RequestFacts, plan_delivery, plan_error, plan_options
from txcouchdl.gateway.tokens import TokenRule
from txcouchdl.protocol.multipart import new_boundary

#: How often a request is begun anew because the attachment changed between its document and its first byte.
_ATTEMPTS = 3

_log = Logger()


class Gateway:
    """
    Answers requests with attachments.

    :param guesses: counts wrong tokens; by default :data:`~txcouchdl.gateway.guesses.GUESS_LIMIT` a minute are allowed.
    :param proxies: whose X-Forwarded-For is believed; by default nobody's.
    :ivar app: the Klein app; its resource expects the requests of :class:`~txcouchdl.gateway.site.GatewaySite`.
    """

    app = Klein()

    def __init__(
        self,
        cluster: Cluster,
        rule: TokenRule,
        clock: IReactorTime,
        *,
        guesses: Guesses | None = None,
        proxies: TrustedProxies | None = None,
    ) -> None:
        self._cluster = cluster
        self._rule = rule
        self._clock = clock
        self._guesses = guesses or Guesses(GUESS_LIMIT, clock)
        self._proxies = proxies or TrustedProxies()
        self._lengths = IdentityLengths()

    @app.route("/", branch=True)
    def root(self, request: Request) -> "Deferred[None]":
        """Klein cancels this when the client goes away, and with it whatever is under way for it."""
        return Deferred.fromCoroutine(self._answer(request))

    async def _answer(self, request: Request) -> None:
        try:
            await self._serve(request)
        except DownloadError as error:
            if isinstance(error, UpstreamFailure):
                _log.warn("no answer from CouchDB: {kind}: {error}", kind=type(error).__name__, error=error)
            answer(plan_error(answer_for(error)), request)
        except CancelledError:
            raise
        except Exception:
            _log.failure("a request failed")
            if request.startedWriting:
                await break_off(request)
            else:
                answer(plan_error(INTERNAL_ERROR), request)

    async def _serve(self, request: Request) -> None:
        request.client = ClientAddress(self._client_of(request))
        if request.method == b"OPTIONS":
            answer(plan_options(), request)
            return
        if request.method not in {b"GET", b"HEAD"}:
            raise MethodNotAllowed
        path, query = split_target(request.uri)
        address = _address(path)
        facts = facts_of(request.method, query, request.requestHeaders, request.clientproto)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await self._serve_attachment(request, address, facts)
                return
            except (AttachmentChanged, RevisionGone):
                if attempt == _ATTEMPTS:
                    raise

    async def _serve_attachment(self, request: Request, address: AttachmentAddress, facts: RequestFacts) -> None:
        """
        :raises AttachmentChanged: if it did, before anything was told to the client; so RevisionGone.
        """
        route = Route(self._cluster)
        current = await self._authorized(request, route, address, facts)
        document = current if facts.rev is None else await _revision(route, current, address, facts.rev)
        stub = self._lengths.completed(_stub(document, address))
        pinned = PinnedAttachment(address, document.rev, stub)
        limits = self._cluster.limits
        source = AttachmentSource(route, pinned, self._lengths, limits, self._clock, follows=facts.rev is None)
        try:
            if stub.length is None and facts.needs_length:
                stub = await source.measured()
            plan = plan_delivery(facts, stub, document.rev, new_boundary)
            await deliver(plan, request, source)
        except RevisionGone:
            if facts.rev is not None:
                raise NoSuchRevision from None
            raise

    async def _authorized(
        self, request: Request, route: Route, address: AttachmentAddress, facts: RequestFacts
    ) -> Document:
        """
        The current document, if the token opens it. Until it does, all answers are the same, whatever there is.

        :raises Forbidden: if the token does not.
        :raises TooManyGuesses: if it does not, and the client has shown too many that do not.
        """
        document = None
        if address.is_addressable and facts.token:
            document = await _current(route, address)
        fields = None if document is None else document.fields
        if not self._rule.allows(fields, facts.token) or document is None:
            if facts.token:
                self._count_guess(request.getClientAddress().host)
            raise Forbidden
        return document

    def _count_guess(self, client: str) -> None:
        held_off = self._guesses.wrong(client)
        if held_off is not None:
            raise TooManyGuesses(retry_after=held_off)

    def _client_of(self, request: Request) -> str:
        """Not yet asked, a request's client is the connection's peer."""
        lines = request.requestHeaders.getRawHeaders(b"X-Forwarded-For")
        forwarded_for = None if lines is None else b", ".join(lines).decode("latin-1")
        return self._proxies.client_of(getattr(request.getClientAddress(), "host", None), forwarded_for)


async def _current(route: Route, address: AttachmentAddress) -> Document | None:
    """A document that nobody can read, its token included, is for clients like one that is not there."""
    try:
        return await route.document(address.database, address.document_id)
    except UnreadableDocument as error:
        _log.warn("a document cannot be read: {error}", error=error)
        return None


async def _revision(route: Route, current: Document, address: AttachmentAddress, rev: str) -> Document:
    """The revision that is asked for. The token was the current document's: an old one opens nothing."""
    if not is_revision(rev):
        raise BadRevision
    if rev == current.rev:
        return current
    document = await route.document(address.database, address.document_id, rev)
    if document is None:
        raise NoSuchRevision
    return document


def _address(path: bytes) -> AttachmentAddress:
    try:
        return parse_attachment_path(path)
    except NotAnAttachment:
        raise NoAddress from None
    except BadAddress:
        raise BadTarget from None


def _stub(document: Document, address: AttachmentAddress) -> AttachmentStub:
    stub = document.attachment(address.attachment)
    if stub is None:
        raise NoSuchAttachment
    return stub
