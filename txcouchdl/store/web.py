"""
HTTP in and out, below the app.

Bodies: twisted.web collects a request's body before anyone is asked what to do with it. Here it is spooled
into the store's own directory as it arrives, hashed on the way, so that memory stays bounded and an
attachment is written once. Only the admin's bodies are: anyone else's are dropped unread.

Addresses: twisted.web and Klein decode paths before they cut them, and werkzeug stumbles over some of what
clients put into Host. So the raw target is parsed here, and the router below sees one clean word: the kind of
address.
"""

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
from txcouchdl.store.addresses import Address, parse_target
from txcouchdl.store.answers import Answer, Headers, Refusal
from txcouchdl.store.blobs import Spool
from txcouchdl.store.credentials import Caller, Credentials, unauthorized
from txcouchdl.store.store import Store
from txcouchdl.store.trouble import refusal_of

_log = Logger()

#: Bytes of a request line that stand in the log.
_LONGEST_LOGGED = 2000

_SERVER = f"txcouchdl/{__version__}".encode("ascii")
_REASONS = {404: b"Object Not Found", 507: b"Insufficient Storage"}


class Upload:
    """
    The body of one request while it arrives.

    :param spool: where it goes.
    :param is_wanted: whether to keep it; otherwise it is dropped as it comes.
    """

    def __init__(self, spool: Spool, is_wanted: bool) -> None:
        self._spool = spool
        self._is_wanted = is_wanted
        self._is_taken = False
        self._trouble: OSError | None = None

    def receive(self, data: bytes) -> None:
        """Take some more. Trouble with the disk is kept for :meth:`take`: the client is still sending."""
        if not self._is_wanted or self._trouble is not None:
            return
        try:
            self._spool.write(data)
        except OSError as error:
            _log.failure("An upload could not be written to the store's disk")
            self._trouble = error
            self._spool.discard()

    def take(self) -> Spool:
        """
        Hand the whole body over to the caller, who discards it.

        :raises Refusal: 507 or 500 if the disk did not take it.
        """
        if self._trouble is not None:
            raise refusal_of(self._trouble)
        self._is_taken = True
        return self._spool

    def close(self) -> None:
        """Let go of what was not taken."""
        if not self._is_taken:
            self._spool.discard()


class StoreRequest(Request):
    """
    A request to the store.

    :ivar address: what it is about; set before the app sees it.
    :ivar query: its query parameters; likewise.
    :ivar upload: its body.
    """

    defaultContentType = None  # noqa: N815 (twisted.web's)
    address: Address
    query: Mapping[str, str]
    upload: Upload
    _started_with: Headers = ()

    def gotLength(self, length: int | None) -> None:
        """All headers are in, the body is not."""
        # twisted.web gives every channel its site, and tells the type checker nothing of it.
        site: StoreSite = cast(Any, self.channel).site
        is_admin = site.admin.judge(self.field("Authorization")) is Caller.ADMIN
        self.upload = Upload(site.store.spool(), is_admin)
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
    def origin(self) -> bytes:
        """Where the client found us, for links: ``http://host:port``, as the client has it."""
        scheme = b"https" if self.isSecure() else b"http"
        return scheme + b"://" + (self.field("Host") or b"localhost")

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
        self._started_with = (*headers, (b"Server", _SERVER))
        for name, value in self._started_with:
            self.responseHeaders.setRawHeaders(name, [value])

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
        return request.prepare(self._refusal.answer)


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

    def __init__(self, store: Store, admin: Credentials, resource: IResource, reactor: IReactorTime) -> None:
        super().__init__(
            resource,
            requestFactory=StoreRequest,
            parsePOSTFormSubmission=False,
            reactor=reactor,
            logFormatter=_log_line,
        )
        self.store = store
        self._app = resource
        self.admin = admin
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

    def _admit(self, request: StoreRequest) -> None:
        caller = self.admin.judge(request.field("Authorization"))
        if caller is Caller.IMPOSTOR or (caller is Caller.NOBODY and not request.address.is_public):
            raise unauthorized(caller, of_database=bool(request.address.database))


def _log_line(timestamp: str, request: Request) -> str:
    """
    Write a request without its query, where a client of the gateway's may have put something secret. The line has 8 KiB
    at most: each byte may become four.
    """
    line = b"%b %b %b" % (request.method, request.uri.partition(b"?")[0], request.clientproto)
    if len(line) > _LONGEST_LOGGED:
        line = line[:_LONGEST_LOGGED] + b"..."
    shown = repr(line)[2:-1].replace('"', "\\x22")
    return f'"{request.getClientAddress().host}" - - {timestamp} "{shown}" {request.code} {request.sentLength or "-"}'
