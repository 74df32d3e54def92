"""
One client's connection: what twisted.web's HTTP channel does, and what it lacks for a server that faces strangers.

* A request that cannot be read gets a CouchDB-shaped error and a line in the access log, and the client the time to
  take it.
* A client that sends request after request and reads nothing gets no answer made that would only wait in memory.
* A connection that has ended for us does not stay for ever because the client does not notice.
"""

import re
from typing import TYPE_CHECKING, Final, cast

from twisted.internet.interfaces import IConsumer, IDelayedCall, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request, datetimeToString

from txcouchdl.gateway.errors import ErrorAnswer
from txcouchdl.gateway.plan import plan_error

if TYPE_CHECKING:
    from txcouchdl.gateway.site import GatewaySite

_TOO_SLOW: Final = ErrorAnswer(408, "request_timeout", "The request did not come in time.")
BAD_REQUEST: Final = ErrorAnswer(400, "bad_request", "The request cannot be read, or its head is too long.")

#: Seconds from the first byte of a request to its last; the idle timeout begins anew at each byte.
REQUEST_TIMEOUT: Final = 60
#: Seconds for a refused client to take its answer.
_LINGER: Final = 5
#: Seconds for a client to take the rest of a response whose connection closes behind it.
_UNTAKEN: Final = 3600
#: Digits of a Content-Length; Python takes quadratic time for many, and refuses too many.
_LONGEST_LENGTH: Final = 19
# RFC 9112, section 3.2: a host and perhaps a port, or nothing. What a host may be is not our business.
_HOST: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:%\[\]-]*")


class GatewayChannel(HTTPChannel):
    """
    :ivar site: given to each connection by its factory.
    :ivar is_refused: whether a request could not be read, and nothing more will be.
    """

    site: "GatewaySite"
    is_refused = False
    _postponed: Request | None = None
    _deadline: IDelayedCall | None = None

    def connectionMade(self) -> None:
        super().connectionMade()
        self.site.channels.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._lift_deadline()
        self.site.channels.discard(self)
        self.site.notice_end()

    # Requests that come too slowly.

    def dataReceived(self, data: bytes) -> None:
        if self._deadline is None and not self._handlingRequest:
            self._deadline = self.callLater(REQUEST_TIMEOUT, self._missed)
        super().dataReceived(data)

    def allContentReceived(self) -> None:
        self._lift_deadline()
        super().allContentReceived()

    def _missed(self) -> None:
        self._deadline = None
        self.refuse(_TOO_SLOW)

    def _lift_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    # Requests that cannot be read.

    def lineLengthExceeded(self, line: bytes) -> None:
        self.refuse(BAD_REQUEST)

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(BAD_REQUEST)

    def _maybeChooseTransferDecoder(self, header: bytes, data: bytes) -> bool:
        if header == b"Content-Length" and len(data) > _LONGEST_LENGTH:
            self.refuse(BAD_REQUEST)
            return False
        chosen: bool = super()._maybeChooseTransferDecoder(header, data)
        return chosen

    def allHeadersReceived(self) -> None:
        hosts = self.requests[-1].requestHeaders.getRawHeaders(b"Host", [])
        is_needed = self._version == b"HTTP/1.1"
        if len(hosts) > 1 or (is_needed and not hosts) or not all(_HOST.fullmatch(host) for host in hosts):
            self.refuse(BAD_REQUEST)
        else:
            super().allHeadersReceived()

    def refuse(self, answer: ErrorAnswer) -> None:
        """
        Answer a request that cannot be read to its end, and close.

        The client may still be sending. A connection that is closed on unread bytes is reset, and the answer lost
        with it: so only our side is closed, and for a while what comes is dropped.
        """
        if self.is_refused:
            return
        self.is_refused = True
        self._lift_deadline()
        transport = cast(ITCPTransport, self.transport)
        transport.write(self._refusal(answer))
        self.site.log_refusal(transport.getPeer(), answer)
        # Lines are read one after the other out of what has come already.
        self.dataReceived = self.lineReceived = self.rawDataReceived = _drop  # type: ignore[method-assign]
        self.give_up_after(_LINGER)
        cast(IConsumer, transport).unregisterProducer()
        transport.loseWriteConnection()

    def _refusal(self, answer: ErrorAnswer) -> bytes:
        fields = {
            "Server": self.site.server,
            "Date": datetimeToString().decode("ascii"),
            **dict(plan_error(answer).headers),
            "Content-Length": str(len(answer.body)),
            "Connection": "close",
        }
        lines = [f"HTTP/1.1 {answer.status} {answer.error}", *(f"{name}: {value}" for name, value in fields.items())]
        return "\r\n".join([*lines, "", ""]).encode("ascii") + answer.body

    # The ends of requests and of connections.

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        """Connection is a list of options, in any number of lines (RFC 9110, section 7.6.1)."""
        lines = request.requestHeaders.getRawHeaders(b"Connection", [])
        options = {option.strip().lower() for line in lines for option in line.split(b",")}
        if version != b"HTTP/1.1":
            return False
        if b"close" in options:
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        return b"close" not in options

    def requestDone(self, request: Request) -> None:
        # The next request is not begun before the client has taken what is there for it.
        if self._waitingForTransport and self.persistent:
            self._postponed = request
        else:
            super().requestDone(request)

    def resumeProducing(self) -> None:
        super().resumeProducing()
        postponed, self._postponed = self._postponed, None
        if postponed is not None:
            super().requestDone(postponed)

    def loseConnection(self) -> None:
        self.give_up_after(_UNTAKEN)
        super().loseConnection()

    def give_up_after(self, seconds: float) -> None:
        """
        Cut the connection off if it has not ended by then. HTTPChannel cancels this when it has; of several, the
        first counts.
        """
        self.setTimeout(None)
        if self._abortingCall is None:
            self._abortingCall = self.callLater(seconds, self.forceAbortClient)


def _drop(data: bytes) -> None:
    """What a refused client still sends."""
