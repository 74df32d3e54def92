"""
HTTP in and out, below the app.

Bodies: twisted.web collects a request's body before anyone is asked what to do with it. Here it is spooled
into the store's own directory as it arrives, hashed on the way, so that memory stays bounded and an
attachment is written once. Only the admin's bodies are; of any other body, 4 KiB are kept in memory for a login.

Addresses: twisted.web and Klein decode paths before they cut them, and werkzeug stumbles over some of what
clients put into Host. So the raw target is parsed here, and the router below sees one clean word: the kind of
address.
"""

import re
import secrets
from collections.abc import Mapping
from io import BytesIO
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site

from txcouchdl import __version__
from txcouchdl.protocol.fields import LONGEST_NAME
from txcouchdl.store.addresses import Address, Kind, parse_target
from txcouchdl.store.answers import Answer, Headers, Refusal
from txcouchdl.store.credentials import Caller, unauthorized
from txcouchdl.store.logins import LONGEST_LOGIN
from txcouchdl.store.sessions import COOKIE, Identity, Sessions, set_cookie
from txcouchdl.store.store import Store
from txcouchdl.store.uploads import Upload

_log = Logger()

#: Bytes of a request line that stand in the log.
_LONGEST_LOGGED = 2000

_SERVER = f"txcouchdl/{__version__}".encode("ascii")
_REASONS = {404: b"Object Not Found", 507: b"Insufficient Storage"}

_REQUEST_ID = re.compile(rb"[0-9A-Za-z_-]{1,36}")

#: Of a target in absolute form (RFC 9112, section 3.2.2).
_USER = re.compile(rb"\A(https?://)[^/]*@", re.IGNORECASE)


class StoreRequest(Request):
    """
    A request to the store.

    :ivar address: what it is about; set before the app sees it.
    :ivar query: its query parameters; likewise.
    :ivar identity: its sender.
    :ivar misidentified: the refusal, if its sender cannot be identified.
    :ivar upload: its body.
    """

    defaultContentType = None  # noqa: N815 (twisted.web's)
    address: Address
    query: Mapping[str, str]
    identity = Identity(Caller.NOBODY)
    misidentified: Refusal | None = None
    upload: Upload
    _started_with: Headers = ()
    _id: bytes | None = None

    def __repr__(self) -> str:
        """Write no query: it may be secret, and twisted.web logs this. Request's own fails on bytes beyond ASCII."""
        return f"<{type(self).__name__} {_shown(self)}>"

    def gotLength(self, length: int | None) -> None:
        """All headers are in, the body is not."""
        # twisted.web gives every channel its site, and tells the type checker nothing of it.
        site: StoreSite = cast(Any, self.channel).site
        try:
            self.identity = site.identify(self)
        except Refusal as refusal:
            self.misidentified = refusal
        self.upload = Upload(site.store.spool(), None if self.identity.is_admin else LONGEST_LOGIN)
        # Fires also when the connection is lost, in the middle of the body or later.
        self.notifyFinish().addBoth(lambda _: self.upload.close())
        # What twisted.web itself wants of a body.
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        self.upload.receive(data)

    def getRequestHostname(self) -> bytes:
        """
        The same for all: the router has no use for it, and fails on much of what a client can put into Host.
        """
        return b"store"

    def field(self, name: str) -> bytes | None:
        """A header field, joined over its lines; ``None`` if absent."""
        lines = self.requestHeaders.getRawHeaders(name.encode("ascii"))
        return None if lines is None else b", ".join(lines)

    def text_field(self, name: str) -> str | None:
        """As :meth:`field`, decoded as UTF-8 with the help of U+FFFD."""
        value = self.field(name)
        return None if value is None else value.decode("utf-8", "replace")

    @property
    def is_secure(self) -> bool:
        """Whether the client came by TLS."""
        return bool(self.isSecure())

    @property
    def origin(self) -> bytes:
        """
        The store's URL as the client has it, for links: ``http://host:port``, from Host or from a proxy's fields. Any
        client may send these: only its own answer has the URL.
        """
        is_https = self.is_secure or self._forwarded("Ssl") == b"on" or self._forwarded("Proto") == b"https"
        host = self._forwarded("Host") or self.field("Host") or b"localhost"
        return (b"https" if is_https else b"http") + b"://" + host

    def _forwarded(self, name: str) -> bytes:
        """The X-Forwarded- field of the first of several proxies; empty if absent."""
        return (self.field(f"X-Forwarded-{name}") or b"").partition(b",")[0].strip()

    @property
    def has_body(self) -> bool:
        """Whether there is a body, be it an empty one."""
        return self.field("Content-Length") is not None or self.field("Transfer-Encoding") is not None

    @property
    def _request_id(self) -> bytes:
        """The name of this exchange in the logs of both sides: the client's, or else a new one in CouchDB's form."""
        if self._id is None:
            sent = self.field("X-Couch-Request-ID") or b""
            self._id = sent if _REQUEST_ID.fullmatch(sent) else secrets.token_hex(5).encode("ascii")
        return self._id

    def prepare(self, answer: Answer) -> bytes:
        """Set status and headers, Content-Length included. :returns: the body, for the caller to write."""
        self.start(answer.status, answer.headers, None if answer.status == 304 else len(answer.body))
        return answer.body

    def start(self, status: int, headers: Headers, length: int | None) -> None:
        """
        Set status and headers. Nothing is sent yet, and this can be called again to answer something else.

        :param length: for Content-Length; ``None`` for none.
        """
        self.setResponseCode(status, _REASONS.get(status))
        for name, _ in self._started_with:
            self.responseHeaders.removeHeader(name)
        if length is not None:
            headers = (*headers, (b"Content-Length", b"%d" % length))
        own = ((b"Server", _SERVER), (b"X-Couch-Request-ID", self._request_id))
        self._started_with = (*self._renewal(), *headers, *own)
        for name, value in self._started_with:
            self.responseHeaders.setRawHeaders(name, [value])

    def _renewal(self) -> Headers:
        """Return the cookie that renews a session. A cookie that the answer sets takes its place."""
        renewal = self.identity.renewal
        return () if renewal is None else (set_cookie(renewal, self.is_secure),)

    def processingFailed(self, reason: Failure) -> Failure:
        """
        The last line of defence: a 500 in CouchDB's shape, or a broken connection if an answer has begun.
        """
        _log.failure("A request could not be processed", reason)
        if self.startedWriting:
            cast(ITCPTransport, self.transport).abortConnection()
        else:
            refusal = Refusal(500, "internal_server_error", "The store made a mistake; its log says more.")
            self.write(self.prepare(refusal.answer))
            self.finish()
        return reason


class _Refused(Resource):
    """Refuses whatever is asked."""

    isLeaf = True  # noqa: N815 (twisted.web's)

    def __init__(self, refusal: Refusal) -> None:
        super().__init__()
        self._refusal = refusal

    def render(self, request: StoreRequest) -> bytes:
        body = request.prepare(self._refusal.answer)
        # twisted.web would log that there is one.
        return b"" if request.method == b"HEAD" else body


class _StoreChannel(HTTPChannel):
    """
    One connection, which its site knows of. A head that is too long gets CouchDB's bare 400 (FINDINGS, section 5).
    """

    site: "StoreSite"

    def connectionMade(self) -> None:
        super().connectionMade()
        self.site.channels.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.site.notice_end(self)

    def headerReceived(self, line: bytes) -> bool:
        if line.find(b":") > LONGEST_NAME:
            # Twisted would keep the name for ever.
            self._respondToBadRequestAndDisconnect()
            return False
        is_good: bool = super().headerReceived(line)
        return is_good

    def lineLengthExceeded(self, line: bytes) -> None:
        self._respondToBadRequestAndDisconnect()


class StoreSite(Site):
    """
    :param resource: is rendered for every request that may be answered; finds the kind of the address as the
        path.
    :ivar channels: the connections that are up.
    """

    def __init__(self, store: Store, sessions: Sessions, resource: IResource, reactor: IReactorTime) -> None:
        super().__init__(
            resource,
            requestFactory=StoreRequest,
            parsePOSTFormSubmission=False,
            reactor=reactor,
            logFormatter=_log_line,
        )
        self.store = store
        self._sessions = sessions
        self._app = resource
        self._reactor = reactor
        self.channels: set[_StoreChannel] = set()
        self._ended: Deferred[None] | None = None
        self.protocol = _StoreChannel  # type: ignore[assignment,method-assign]

    async def break_off(self) -> None:
        """Cut all connections off: the store is about to be closed. They have let go of it when this ends."""
        for channel in list(self.channels):
            cast(ITCPTransport, channel.transport).abortConnection()
        if self.channels:
            self._ended = Deferred()
            await self._ended

    def notice_end(self, channel: _StoreChannel) -> None:
        """A connection has ended: perhaps the last one that somebody waits for."""
        self.channels.discard(channel)
        if self._ended is not None and not self.channels:
            ended, self._ended = self._ended, None
            ended.callback(None)

    def getResourceFor(self, request: StoreRequest) -> IResource:
        """Not by ``prepath`` and ``postpath``, which are decoded and cut wrongly."""
        try:
            request.address, request.query = parse_target(request.uri)
            self._admit(request)
        except Refusal as refusal:
            return _Refused(refusal)
        request.prepath, request.postpath = [], [request.address.kind.encode("ascii")]
        return self._app

    def identify(self, request: StoreRequest) -> Identity:
        """
        Identify the sender of a request whose headers are in.

        :raises Refusal: 400.
        """
        now = self._reactor.seconds()
        return self._sessions.identify(request.field("Authorization"), request.getCookie(COOKIE), now)

    def _admit(self, request: StoreRequest) -> None:
        if request.misidentified is not None:
            raise request.misidentified
        caller = request.identity.caller
        if caller is Caller.IMPOSTOR or (caller is Caller.NOBODY and not request.address.is_public):
            address = request.address
            is_servers = address.kind is Kind.DATABASE and request.method in {b"PUT", b"DELETE"}
            raise unauthorized(caller, of_database=bool(address.database) and not is_servers)


def _log_line(timestamp: str, request: Request) -> str:
    client, size = request.getClientAddress().host, request.sentLength or "-"
    return f'"{client}" - - {timestamp} "{_shown(request)}" {request.code} {size}'


def _shown(request: Request) -> str:
    """
    Write a request line without its query, where a client of the gateway's may have put something secret, and without a
    password before the host. It has 8 KiB at most: each byte may become four.
    """
    target = _USER.sub(rb"\1", request.uri.partition(b"?")[0])
    line = b"%b %b %b" % (request.method, target, request.clientproto)
    if len(line) > _LONGEST_LOGGED:
        line = line[:_LONGEST_LOGGED] + b"..."
    return repr(line)[2:-1].replace('"', "\\x22")
