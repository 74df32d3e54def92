"""
One client's connection: what twisted.web's HTTP channel does, and what it lacks for a server that faces strangers.

* A request that cannot be read gets a CouchDB-shaped error and a line in the access log, and the client the time to
  take it.
* A client that sends request after request and reads nothing gets no answer made that would only wait in memory.
* A client that has closed its half of the connection gets the whole response (:mod:`.half_close`).
* Each wait for the client has its limit, and none of them takes from the client what it may still take: see
  :class:`~txcouchdl.gateway.limits.ClientLimits`.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, cast

from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import Request, datetimeToString
from zope.interface import implementer

from txcouchdl.gateway.bounded_heads import BoundedHeads
from txcouchdl.gateway.errors import ErrorAnswer
from txcouchdl.gateway.facts import field_of
from txcouchdl.gateway.half_close import HalfClosedWatch, announce
from txcouchdl.gateway.heads import PlainHead, parse_plain
from txcouchdl.gateway.refusals import TOO_SLOW, refusal
from txcouchdl.gateway.sending import Sending
from txcouchdl.gateway.transports import knows_peer, lowest_transport

if TYPE_CHECKING:
    from txcouchdl.gateway.request import GatewayRequest
    from txcouchdl.gateway.site import GatewaySite

#: Seconds for a refused client to take its answer.
_LINGER: Final = 5


@implementer(IHalfCloseableProtocol)
class GatewayChannel(BoundedHeads):
    """
    :ivar site: given to each connection by its factory.
    :ivar sending: what has to be asked where whole responses are sent.
    :ivar is_refused: whether a request could not be read, and nothing more will be.
    """

    site: "GatewaySite"
    sending: Sending
    is_refused = False
    _postponed: Request | None = None
    _deadline: IDelayedCall | None = None
    _end_of_pause: IDelayedCall | None = None
    # It runs on where a rest ends before its time, and is for the next one then.
    _end_of_rest: IDelayedCall | None = None
    _is_resting = False
    _is_introduced = True
    # Set once the client has closed its half.
    _half_closed: HalfClosedWatch | None = None
    _unannounce: Callable[[], object]
    _peer: IAddress | None = None
    _host: IAddress | None = None

    def connectionMade(self) -> None:
        super().connectionMade()
        self.sending = Sending(self.transport, self.site.plain(self.transport))
        self._await_request()
        self._is_introduced = knows_peer(self.transport)
        self._unannounce = announce(self.transport, self)
        self.site.connections.enter(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._lift_deadline()
        self._end_pause()
        if self._end_of_rest is not None:
            self._end_of_rest.cancel()
        self._unannounce()
        if self._half_closed is not None:
            self._half_closed.end()
        self.site.connections.leave(self)

    def getPeer(self) -> IAddress:
        # The system is asked for these, and neither changes.
        if self._peer is None:
            self._peer = super().getPeer()
        return self._peer

    def getHost(self) -> IAddress:
        if self._host is None:
            self._host = super().getHost()
        return self._host

    # What is sent.

    def write(self, data: bytes) -> None:
        self.sending.others_write()
        super().write(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.sending.others_write()
        super().writeSequence(iovec)

    # Requests that come too slowly, or not at all.

    def dataReceived(self, data: bytes) -> None:
        if not self._is_introduced:
            self._is_introduced = True
            if not self.site.connections.introduce(self):
                return
        if self._deadline is None and not self._handlingRequest:
            head = parse_plain(data) if self._is_at_a_beginning() else None
            if head is not None:
                self._receive(head)
                return
            self._is_resting = False
            self.site.connections.begin(self)
            self._deadline = self.callLater(self.site.connections.limits.header_timeout, self._missed)
        # HTTPChannel may write what we do not see.
        self.sending.others_write()
        super().dataReceived(data)

    def _is_at_a_beginning(self) -> bool:
        """Whether HTTPChannel would take the next byte for the first of a request."""
        is_idle = not (self._busyReceiving or self._buffer)
        return is_idle and bool(self.persistent) and not cast(Any, self.transport).disconnecting

    def _receive(self, head: PlainHead) -> None:
        """What HTTPChannel does with such a head, line by line."""
        request = cast("GatewayRequest", self.requestFactory(self, len(self.requests)))
        request.fields = head.fields
        self.requests.append(request)
        self._command, self._path, self._version = head.method, head.target, b"HTTP/1.1"
        if self._has_host(request):
            self.persistent = self.checkPersistence(request, self._version)
            self.allContentReceived()

    def allContentReceived(self) -> None:
        self._wake()
        self._lift_deadline()
        super().allContentReceived()

    def _missed(self) -> None:
        self._deadline = None
        self.refuse(TOO_SLOW)

    def _rest(self) -> None:
        self._await_request()
        self.site.connections.rest(self)

    def _await_request(self) -> None:
        """For as long as a connection may be idle."""
        self._is_resting = True
        idle_timeout = self.site.connections.limits.idle_timeout
        if self._end_of_rest is None:
            self._end_of_rest = self.callLater(idle_timeout, self._end_rest)
        else:
            self._end_of_rest.reset(idle_timeout)

    def _wake(self) -> None:
        self._is_resting = False
        self.site.connections.wake(self)

    def _end_rest(self) -> None:
        """If no request came, close. Twisted would soon cut off what the client has still to take of a response."""
        self._end_of_rest = None
        if self._is_resting:
            self.loseConnection()

    def _lift_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    # Requests that cannot be read.

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
        date = datetimeToString().decode("ascii")
        self.write(refusal(answer, self.site.server, date, self.site.origins.fields(self._origin)))
        self.site.log_refusal(transport.getPeer(), answer)
        # Lines are read one after the other out of what has come already.
        self.dataReceived = self.lineReceived = self.rawDataReceived = _drop  # type: ignore[method-assign,assignment]
        self.give_up_after(_LINGER)
        cast(IConsumer, transport).unregisterProducer()
        if self.isSecure():
            # TLS has no half of a connection to close. It says its goodbye, behind a handshake that is still under
            # way too, and goes on reading until the client says its own.
            transport.loseConnection()
        else:
            transport.loseWriteConnection()

    @property
    def _origin(self) -> str | None:
        """The Origin field of the request that is being read, if it and the line behind it have come."""
        return field_of(cast("GatewayRequest", self.requests[-1]).fields, b"origin") if self.requests else None

    # The ends of requests and of connections.

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        """Connection is a list of options, in any number of lines (RFC 9110, section 7.6.1)."""
        if version != b"HTTP/1.1":
            return False
        lines = cast("GatewayRequest", request).fields.get(b"connection", ())
        is_last = any(option.strip().lower() == b"close" for line in lines for option in line.split(b","))
        if is_last:
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        return not is_last

    def requestDone(self, request: Request) -> None:
        if request.is_counted:  # type: ignore[attr-defined]
            self.site.connections.release(self)
        # The next request is not begun before the client has taken what is there for it.
        if self._waitingForTransport and self.persistent:
            self._postponed = request
        else:
            self._conclude(request)

    def _conclude(self, request: Request) -> None:
        super().requestDone(request)
        is_ending = self._abortingCall is not None
        if is_ending or self._handlingRequest:
            return
        if self._half_closed is not None:
            # No further request comes; those that have come may still be read, in a loop around this call.
            if not self._busyReceiving:
                self.loseConnection()
        elif self._deadline is None:
            self._rest()

    def readConnectionLost(self) -> None:
        """The client has closed its half. Twisted may say so several times."""
        if self._half_closed is None:
            timeout = self.site.connections.limits.half_close_timeout
            self._half_closed = HalfClosedWatch(self.transport, self.callLater, timeout, self.drop)
            if self.is_refused or not self._handlingRequest:
                self.loseConnection()

    def writeConnectionLost(self) -> None:
        """The gateway has closed its half, behind a refusal."""

    def pauseProducing(self) -> None:
        super().pauseProducing()
        if self._end_of_pause is None:
            self._end_of_pause = self.callLater(self.site.connections.limits.client_timeout, self._abandon)

    def resumeProducing(self) -> None:
        self._end_pause()
        # Within, another response may be finished, and postponed.
        postponed, self._postponed = self._postponed, None
        super().resumeProducing()
        if postponed is not None:
            self._conclude(postponed)

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        super().registerProducer(producer, streaming)
        # TLS has said so already, and does not say it again.
        if self._waitingForTransport:
            producer.pauseProducing()

    def rawDataReceived(self, data: bytes) -> None:
        super().rawDataReceived(data)
        # HTTPChannel reads on if the client does not: one that only sends would fill the memory.
        if self._handlingRequest and sum(map(len, self._dataBuffer)) > self._optimisticEagerReadSize:
            self._networkProducer.pauseProducing()

    def _abandon(self) -> None:
        self._end_of_pause = None
        self.forceAbortClient()

    def _end_pause(self) -> None:
        if self._end_of_pause is not None:
            self._end_of_pause.cancel()
            self._end_of_pause = None

    def loseConnection(self) -> None:
        """
        Close behind what was written.

        TLS would wait for the client's goodbye before it closes anything, and a client that reads late, or has
        vanished, would have to be cut off for it, with all that the system still has for it.
        """
        self._lift_deadline()
        self.give_up_after(self.site.connections.limits.client_timeout)
        super().loseConnection()
        lowest_transport(self.transport).loseConnection()

    def give_up_after(self, seconds: float) -> None:
        """
        Cut the connection off if it has not ended by then. HTTPChannel cancels this when it has; of several, the
        first counts.
        """
        self._wake()
        self._end_pause()
        if self._abortingCall is None:
            self._abortingCall = self.callLater(seconds, self.forceAbortClient)

    # What all connections together ask for.

    @property
    def is_answering(self) -> bool:
        """Whether a response is under way, its last bytes included if the connection closes behind them."""
        return bool(self._handlingRequest)

    def give_way(self, answer: ErrorAnswer) -> None:
        """
        Close a connection that has no request under way.

        :param answer: to a request of which a part has come.
        """
        if self._deadline is not None:
            self.refuse(answer)
        else:
            self.give_up_after(_LINGER)
            self.loseConnection()

    def wind_up(self) -> None:
        """Close behind the response that is under way, or at once if there is none. No further request is read."""
        if self.is_refused:
            return
        self.persistent = False
        if not self.is_answering:
            self.loseConnection()
        for request in self.requests:
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])

    def drop(self) -> None:
        """Cut the connection off at once."""
        cast(ITCPTransport, self.transport).abortConnection()


def _drop(data: bytes) -> None:
    """What a refused client still sends."""
