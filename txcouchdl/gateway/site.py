"""
The HTTP server under the app: what twisted.web and Klein would do before we are asked, done as we want it.

* A request's target is left for the app to read; Klein gets a path that it cannot trip over.
* The gateway takes no request bodies: a short one is skipped, a long one refused. (twisted.web would spool it.)
* Requests that twisted.web cannot read get a CouchDB-shaped error too.
* The access log has a line for each request, broken ones included, and no secret in it.
"""

from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IReactorTime, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

import txcouchdl
from txcouchdl.gateway.access_log import access_log_line
from txcouchdl.gateway.errors import INTERNAL_ERROR, ErrorAnswer

#: Bytes of a request's body that are skipped.
_LONGEST_BODY = 64 * 2**10
#: Seconds between requests, and for the head of one.
IDLE_TIMEOUT = 60
#: Seconds for a refused client to take its answer.
_LINGER = 5
_SERVER = f"txcouchdl/{txcouchdl.__version__}".encode("ascii")

_BAD_REQUEST = ErrorAnswer(400, "bad_request", "The request cannot be read, or its head is too long.")
_TOO_LARGE = ErrorAnswer(413, "too_large", "This server takes no request bodies.")

#: nginx's status for a client that went away before its answer began; it stands in the log only.
_CLIENT_GONE = 499


class GatewayRequest(Request):
    """One request. See the module."""

    defaultContentType = None  # noqa: N815 (twisted.web's)
    _body_length = 0
    _is_refused = False

    def gotLength(self, length: int | None) -> None:
        super().gotLength(0)
        if length is not None and length > _LONGEST_BODY:
            self._refuse_body()

    def handleContentChunk(self, data: bytes) -> None:
        self._body_length += len(data)
        if self._body_length > _LONGEST_BODY:
            self._refuse_body()

    def _refuse_body(self) -> None:
        if not self._is_refused:
            self._is_refused = True
            # Nobody is to be asked for the body any more.
            self.requestHeaders.removeHeader(b"Expect")
            cast(GatewayChannel, self.channel).refuse(_TOO_LARGE)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        # The end of a refused body may come with its beginning.
        if not self._is_refused:
            super().requestReceived(command, path, version)

    def getRequestHostname(self) -> bytes:
        # Klein binds its routes to the Host field, and fails on one that is no host name. We have no use for it.
        return b"localhost"

    def processingFailed(self, reason: Failure) -> Failure:
        """What no code of ours has caught: a clean error while there is time for one, a broken connection after."""
        self._log.failure("a request failed", failure=reason)
        if self.startedWriting:
            cast(ITCPTransport, cast(GatewayChannel, self.channel).transport).abortConnection()
            return reason
        self.setResponseCode(INTERNAL_ERROR.status)
        self.setHeader(b"Content-Type", b"application/json")
        self.setHeader(b"Content-Length", b"%d" % len(INTERNAL_ERROR.body))
        self.write(INTERNAL_ERROR.body)
        self.finish()
        return reason

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        # twisted.web logs a request when it is finished; this one never will be. One without a site never began.
        if self.site is not None:
            if not self.startedWriting:
                self.code = _CLIENT_GONE
            self.site.log(self)


class GatewayChannel(HTTPChannel):
    """One connection."""

    #: Given to each by its factory.
    site: "GatewaySite"
    _is_refused = False

    def connectionMade(self) -> None:
        super().connectionMade()
        self.site.channels.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.site.channels.discard(self)
        self.site.notice_end()

    def lineLengthExceeded(self, line: bytes) -> None:
        self.refuse(_BAD_REQUEST)

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(_BAD_REQUEST)

    def refuse(self, answer: ErrorAnswer) -> None:
        """
        Answer a request that cannot be read to its end, and close.

        The client may still be sending. A connection that is closed on unread bytes is reset, and the answer lost
        with it: so only our side is closed, and for a while what comes is dropped.
        """
        if self._is_refused:
            return
        self._is_refused = True
        head = (
            f"HTTP/1.1 {answer.status} {answer.error}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(answer.body)}\r\nConnection: close\r\n\r\n"
        )
        transport = cast(ITCPTransport, self.transport)
        self._log.info("refused a request: {status} {error}", status=answer.status, error=answer.error)
        transport.write(head.encode("ascii") + answer.body)
        # Lines are read one after the other out of what has come already.
        self.dataReceived = self.lineReceived = self.rawDataReceived = _drop  # type: ignore[method-assign]
        self.setTimeout(_LINGER)
        cast(IConsumer, transport).unregisterProducer()
        transport.loseWriteConnection()


def _drop(data: bytes) -> None:
    """What a refused client still sends."""


class GatewaySite(Site):
    """The factory of connections that a Klein app answers."""

    displayTracebacks = False  # noqa: N815 (twisted.web's)

    def __init__(self, resource: IResource, reactor: IReactorTime) -> None:
        super().__init__(
            resource,
            requestFactory=GatewayRequest,
            timeout=IDLE_TIMEOUT,
            logFormatter=access_log_line,
            reactor=reactor,
            parsePOSTFormSubmission=False,
        )
        self.channels: set[GatewayChannel] = set()
        self._ended: Deferred[None] | None = None
        # Ours instead of the one that can also speak HTTP/2, which takes extras to install and has no such channel.
        self.protocol = GatewayChannel  # type: ignore[assignment,method-assign]

    def getResourceFor(self, request: GatewayRequest) -> IResource:
        request.setHeader(b"Server", _SERVER)
        request.postpath = [b""]
        return cast(IResource, self.resource)

    def abort(self) -> "Deferred[None]":
        """Break off all connections. Fires when they have ended, and their lines are in the log."""
        self._ended = Deferred()
        ended = self._ended
        for channel in list(self.channels):
            cast(ITCPTransport, channel.transport).abortConnection()
        self.notice_end()
        return ended

    def notice_end(self) -> None:
        """A connection has ended: perhaps the last one that somebody waits for."""
        if self._ended is not None and not self.channels:
            ended, self._ended = self._ended, None
            ended.callback(None)

    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]
