"""
The HTTP server under the app: what twisted.web and Klein would do before we are asked, done as we want it.

* A request's target is left for the app to read; Klein gets a path that it cannot trip over.
* The gateway takes no request bodies: a short one is skipped, a long one refused. (twisted.web would spool it.)
* The access log has a line for each request, broken and refused ones included, and no secret in it.
"""

from collections.abc import Callable
from typing import Final, cast

from twisted.internet.interfaces import IAddress, IReactorTime, ITCPTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request as HTTPRequest
from twisted.web.http import datetimeToLogString
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

import txcouchdl
from txcouchdl.gateway.access_log import access_log_line, refusal_log_line
from txcouchdl.gateway.channel import GatewayChannel
from txcouchdl.gateway.connections import Connections
from txcouchdl.gateway.errors import INTERNAL_ERROR, ErrorAnswer

#: Bytes of a request's body that are skipped.
_LONGEST_BODY: Final = 64 * 2**10

_TOO_LARGE: Final = ErrorAnswer(413, "too_large", "This server takes no request bodies.")
#: nginx's status for a client that went away before its answer began; it stands in the log only.
_CLIENT_GONE: Final = 499

_access = Logger(namespace="txcouchdl.access")


class GatewayRequest(Request):
    """One request. See the module."""

    defaultContentType = None  # noqa: N815 (twisted.web's)
    _body_length = 0

    def gotLength(self, length: int | None) -> None:
        super().gotLength(0)
        if length is not None and length > _LONGEST_BODY:
            self._refuse_body()

    def handleContentChunk(self, data: bytes) -> None:
        self._body_length += len(data)
        if self._body_length > _LONGEST_BODY:
            self._refuse_body()

    def _refuse_body(self) -> None:
        # Nobody is to be asked for the body any more.
        self.requestHeaders.removeHeader(b"Expect")
        cast(GatewayChannel, self.channel).refuse(_TOO_LARGE)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        # The end of a refused request may come with its beginning.
        if not cast(GatewayChannel, self.channel).is_refused:
            # twisted.web would answer the asterisk-form itself. It is about the server, as the root is.
            super().requestReceived(command, b"/" if path == b"*" else path, version)

    def getRequestHostname(self) -> bytes:
        # Klein binds its routes to the Host field, and fails on one that is no host name. We have no use for it.
        return b"localhost"

    def processingFailed(self, reason: Failure) -> Failure:
        """What no code of ours has caught: a clean error while there is time for one, a broken connection after."""
        self._log.failure("a request failed", failure=reason)
        if self.startedWriting:
            self.unregisterProducer()
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
        if self.site is not None and not self.finished:
            if not self.startedWriting:
                self.code = _CLIENT_GONE
            self.site.log(self)
        # Klein keeps a request until the garbage collector comes, and with it what was never sent.
        self.producer = self.transport = None


class GatewaySite(Site):
    """
    The factory of connections that a Klein app answers.

    :param connections: those of all endpoints.
    :param write_line: takes the lines of the access log.
    :ivar server: the value of the Server field.
    """

    displayTracebacks = False  # noqa: N815 (twisted.web's)
    server = f"txcouchdl/{txcouchdl.__version__}"

    def __init__(
        self,
        resource: IResource,
        reactor: IReactorTime,
        connections: Connections,
        write_line: Callable[[str], object] | None = None,
    ) -> None:
        super().__init__(
            resource,
            requestFactory=GatewayRequest,
            timeout=connections.limits.idle_timeout,
            reactor=reactor,
            parsePOSTFormSubmission=False,
        )
        self.connections = connections
        self._clock = reactor
        self._write_line = write_line or _log_line
        # Ours instead of the one that can also speak HTTP/2, which takes extras to install and has no such channel.
        self.protocol = GatewayChannel  # type: ignore[assignment,method-assign]

    def getResourceFor(self, request: GatewayRequest) -> IResource:
        request.setHeader(b"Server", self.server.encode("ascii"))
        request.postpath = [b""]
        return cast(IResource, self.resource)

    def log(self, request: HTTPRequest) -> None:
        self._write_line(access_log_line(self._now(), cast(Request, request)))

    def log_refusal(self, peer: IAddress, answer: ErrorAnswer) -> None:
        """A line for a request that could not be read."""
        self._write_line(refusal_log_line(self._now(), peer, answer.status, len(answer.body)))

    def _now(self) -> str:
        return str(datetimeToLogString(self._clock.seconds()))

    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]


def _log_line(line: str) -> None:
    _access.info("{line}", line=line)
