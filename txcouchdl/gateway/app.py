"""
The Klein app: from a request to its answer. See ``docs/architecture.rst`` for the way of one request.

One catch-all route takes every request. What a request addresses is read from its **raw** target, here: Klein and
twisted.web decode a path before they cut it at its slashes.
"""

from functools import partial

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from txcouchdl.couch.cluster import Cluster
from txcouchdl.couch.documents import AttachmentStub, Document, is_revision
from txcouchdl.couch.errors import AttachmentChanged, DownloadError, RevisionGone, UpstreamFailure
from txcouchdl.couch.inflation import Inflation
from txcouchdl.couch.learned import LearnedIdentities
from txcouchdl.couch.names import (
    AttachmentAddress,
    BadAddress,
    DocumentAddress,
    TooShort,
    authority,
    document_path,
    parse_address,
    split_target,
)
from txcouchdl.couch.route import Route
from txcouchdl.couch.source import PinnedAttachment
from txcouchdl.couch.steps import at_once
from txcouchdl.gateway.access_log import ClientAddress
from txcouchdl.gateway.cors import AllowedOrigins
from txcouchdl.gateway.credentials import IN_FIELDS, WITHOUT_TOKEN, Place, realm_of
from txcouchdl.gateway.databases import AllowedDatabases
from txcouchdl.gateway.delivery import answer, break_off, tell
from txcouchdl.gateway.description import Presentation
from txcouchdl.gateway.errors import (
    INTERNAL_ERROR,
    BadRevision,
    BadTarget,
    Forbidden,
    MethodNotAllowed,
    NoAddress,
    NoSuchAttachment,
    NoSuchRevision,
    PasswordNeeded,
    answer_for,
)
from txcouchdl.gateway.facts import facts_of, field_of, page_facts_of
from txcouchdl.gateway.guesses import GUESS_LIMIT, RateLimiter
from txcouchdl.gateway.limits import ClientLimits
from txcouchdl.gateway.links import LinkRule, Phase
from txcouchdl.gateway.opening import DocumentOpener
from txcouchdl.gateway.pages import PageFacts, plan_page
from txcouchdl.gateway.peers import Site, TrustedProxies
from txcouchdl.gateway.plan import RequestFacts, plan_error, plan_options
from txcouchdl.gateway.request import GatewayRequest
from txcouchdl.gateway.responder import Permission, Responder
from txcouchdl.gateway.resume_wait import ResumeWait, ResumeWaits
from txcouchdl.gateway.routing import RootedKlein
from txcouchdl.gateway.tokens import TokenRule

#: How often a request is begun anew because the attachment changed between its document and its first byte.
_ATTEMPTS = 3

_log = Logger()


class Gateway:
    """
    Answers requests with attachments.

    :param limiter: admits tokens that are not known to be right; by default up to
        :data:`~txcouchdl.gateway.guesses.GUESS_LIMIT` wrong ones a minute without a delay.
    :param proxies: whose X-Forwarded fields are believed; by default nobody's.
    :param origins: whose pages may read what is sent; by default nobody's.
    :param presentation: how browsers are to show it.
    :param databases: which of them may be read; by default all.
    :param links: which links open what.
    :param asks_password: whether clients that show no secret are asked for a password.
    :param most_waiting: requests that resume a download, and may wait for CouchDB at the same time.
    :ivar app: the Klein app; its resource expects the requests of :class:`~txcouchdl.gateway.site.GatewaySite`.
    """

    app = RootedKlein()

    def __init__(
        self,
        cluster: Cluster,
        rule: TokenRule,
        clock: IReactorTime,
        *,
        limiter: RateLimiter | None = None,
        proxies: TrustedProxies | None = None,
        origins: AllowedOrigins | None = None,
        presentation: Presentation | None = None,
        databases: AllowedDatabases | None = None,
        links: LinkRule | None = None,
        asks_password: bool = False,
        most_waiting: int = ClientLimits().most_waiting,
    ) -> None:
        self._cluster = cluster
        self._rule = rule
        self._clock = clock
        self._limiter = limiter or RateLimiter(GUESS_LIMIT, clock)
        self._proxies = proxies or TrustedProxies()
        self._origins = origins or AllowedOrigins()
        # Found out once: most gateways allow no site, and each request pays for the question.
        self._allows_sites = not self._origins.has_none
        self._opener = DocumentOpener(databases or AllowedDatabases())
        self._links = links or LinkRule()
        self._asks_password = asks_password
        self._learned = LearnedIdentities()
        self._inflation = Inflation.of(cluster.limits, clock, cluster.tally)
        self._responder = Responder(
            cluster, self._learned, self._inflation, presentation or Presentation(), self._proxies, clock
        )
        self._waits = ResumeWaits(most_waiting, cluster.limits.give_up, clock)

    def use_links(self, links: LinkRule) -> None:
        """Decide about links by another rule, from the next request on."""
        self._links = links

    @app.route("/", branch=True)
    def root(self, request: GatewayRequest) -> "Deferred[None]":
        """Klein cancels this when the client goes away, and with it whatever is under way for it."""
        return Deferred.fromCoroutine(self._answer(request))

    async def _answer(self, request: GatewayRequest) -> None:
        try:
            await self._serve(request)
        except DownloadError as error:
            response = answer_for(error)
            if isinstance(error, UpstreamFailure):
                kind = type(error).__name__
                _log.warn("a request gets a {status}: {kind}: {error}", status=response.status, kind=kind, error=error)
            answer(plan_error(response), request)
        except CancelledError:
            raise
        except Exception:
            _log.failure("a request failed")
            if request.startedWriting:
                await break_off(request)
            else:
                answer(plan_error(INTERNAL_ERROR), request)

    async def _serve(self, request: GatewayRequest) -> None:
        peer = getattr(request.getClientAddress(), "host", None)
        forwarded_for = _field(request, b"x-forwarded-for")
        client = self._proxies.client_of(peer, forwarded_for)
        request.client = ClientAddress(client)
        if self._allows_sites:
            tell(self._origins.fields(_field(request, b"origin")), request)
        if forwarded_for is not None:
            request.count_for(client)
        if request.method == b"OPTIONS":
            answer(plan_options(self._origins.preflight_fields(_field(request, b"origin"))), request)
            return
        if request.method not in {b"GET", b"HEAD"}:
            raise MethodNotAllowed
        path, query = split_target(request.uri)
        address = _address(path)
        if isinstance(address, DocumentAddress):
            facts = page_facts_of(query, request.fields)
            _tell_dependence(facts.place, request)
            await self._serve_page(request, address, facts, self._site_of(request, peer))
        else:
            asked = facts_of(request.method, query, request.fields, request.clientproto)
            if b"authorization" in request.fields:
                _tell_dependence(asked.place, request)
            wait = self._waits.of(asked)
            if wait is None:
                await self._serve_as_it_is(request, address, asked)
            else:
                await self._serve_in_time(request, address, asked, wait)

    def _site_of(self, request: GatewayRequest, peer: str | None) -> Site:
        """The site as which the client knows us."""
        host = authority(request.uri) or _field(request, b"host")
        is_secure = request.isSecure()  # type: ignore[no-untyped-call]
        own = Site("https" if is_secure else "http", host)
        forwarded = (_field(request, b"x-forwarded-proto"), _field(request, b"x-forwarded-host"))
        return self._proxies.site_of(peer, own, *forwarded)

    async def _serve_page(
        self, request: GatewayRequest, address: DocumentAddress, facts: PageFacts, site: Site
    ) -> None:
        route = Route(self._cluster)
        document, phase = await self._authorized(request, route, address, facts)
        if phase is not Phase.OPEN:
            raise Forbidden
        if facts.rev is not None and _is_another(facts.rev, document):
            # Not two at once: they may be large.
            del document
            document = await _revision(route, address, facts.rev)
        base = site.url(f"{document_path(address.database, address.document_id)}/")
        completed = partial(self._learned.completed, address)
        steps = plan_page(facts, address, document, base, completed)
        answer(await route.turns.run(steps) if document.is_large else at_once(steps), request)

    async def _serve_in_time(
        self, request: GatewayRequest, address: AttachmentAddress, facts: RequestFacts, wait: ResumeWait
    ) -> None:
        """Serve an attachment to a client that resumes its download. While CouchDB cannot be read, wait for it."""
        with wait:
            while True:
                try:
                    await self._serve_as_it_is(request, address, facts, wait)
                    return
                except UpstreamFailure as error:
                    await wait.pause(error)

    async def _serve_as_it_is(
        self, request: GatewayRequest, address: AttachmentAddress, facts: RequestFacts, wait: ResumeWait | None = None
    ) -> None:
        """Serve an attachment as it is now, even if it changes while it is looked for."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await self._serve_attachment(request, address, facts, wait)
                return
            except (AttachmentChanged, RevisionGone):
                if attempt == _ATTEMPTS:
                    raise

    async def _serve_attachment(
        self, request: GatewayRequest, address: AttachmentAddress, facts: RequestFacts, wait: ResumeWait | None
    ) -> None:
        """
        :param wait: of a request that may resume a download.
        :raises AttachmentChanged: if it did, before anything was told to the client; so RevisionGone.
        """
        permission = await self._permission(request, address, facts)
        await self._responder.respond(request, facts, permission, wait)

    async def _permission(self, request: GatewayRequest, address: AttachmentAddress, facts: RequestFacts) -> Permission:
        """
        Find the attachment that a request asks for and may have. Its document, which may be large, is not kept while it
        is sent.
        """
        route, where = Route(self._cluster), address.document
        document, phase = await self._authorized(request, route, address, facts)
        if facts.rev is not None and _is_another(facts.rev, document):
            # Not two at once: they may be large.
            del document
            document = await _revision(route, where, facts.rev)
        if document.is_large:
            # To look through it takes milliseconds.
            await route.turns.wait()
        stub = self._learned.completed(where, _stub(document, address))
        return Permission(route, PinnedAttachment(address, document.rev, stub), phase)

    async def _authorized(
        self,
        request: GatewayRequest,
        route: Route,
        address: AttachmentAddress | DocumentAddress,
        shown: RequestFacts | PageFacts,
    ) -> tuple[Document, Phase]:
        """
        The current document, if the token or the link that was shown opens it, and what for. Until one does, all
        answers are the same, whatever there is.

        :raises Forbidden: if neither does.
        :raises TooManyGuesses: if the client has sent too many that do not, and this one is not known to be right.
        """
        where = address.document if isinstance(address, AttachmentAddress) else address
        link = None if shown.token else shown.link
        secret = shown.token if link is None else link.signature
        phase = Phase.OPEN if link is None else self._links.phase(link, self._clock.seconds())
        if not secret or phase is Phase.OVER:
            raise self._refusal(shown, where)

        def opens(document: Document | None) -> bool:
            fields = None if document is None else document.fields
            if link is None:
                return self._rule.allows(fields, secret)
            return self._links.is_signed(link, address, self._rule.secrets(fields))

        with await self._limiter.admit(request.client.host, where, secret):
            document = await self._opener.open(route, address, opens)
            if document is None:
                raise self._refusal(shown, where)
        return document, phase

    def _refusal(self, shown: RequestFacts | PageFacts, address: DocumentAddress) -> Forbidden:
        """Return the refusal. It depends on what the request shows and on its address, never on what there is."""
        if not (self._asks_password and shown.place in WITHOUT_TOKEN):
            return Forbidden()
        return PasswordNeeded(realm=realm_of(address))


def _is_another(rev: str, current: Document) -> bool:
    """Whether it is not the current document's revision."""
    if not is_revision(rev):
        raise BadRevision
    return rev != current.rev


async def _revision(route: Route, address: DocumentAddress, rev: str) -> Document:
    """The revision that is asked for. The token was the current document's: an old one opens nothing."""
    document = await route.document(address.database, address.document_id, rev)
    if document is None:
        raise NoSuchRevision
    return document


def _address(path: bytes) -> AttachmentAddress | DocumentAddress:
    try:
        return parse_address(path)
    except TooShort:
        raise NoAddress from None
    except BadAddress:
        raise BadTarget from None


def _tell_dependence(place: Place, request: GatewayRequest) -> None:
    """Tell caches that the answer depends on the Authorization field, if the secret is in it."""
    if place in IN_FIELDS:
        others = request.responseHeaders.getRawHeaders("Vary", [])
        tell((("Vary", ", ".join([*others, "Authorization"])),), request)


def _field(request: GatewayRequest, name: bytes) -> str | None:
    return field_of(request.fields, name)


def _stub(document: Document, address: AttachmentAddress) -> AttachmentStub:
    stub = document.attachment(address.attachment)
    if stub is None:
        raise NoSuchAttachment
    return stub
