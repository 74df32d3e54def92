"""
A connection to a node: one exchange after the other.
"""

import socket
from collections.abc import Callable
from typing import Any, Final, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, ISSLTransport, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from txcouchdl.couch.errors import BadUpstream, UpstreamUnavailable
from txcouchdl.couch.wire.answers import ONE_READ, Answer, Body
from txcouchdl.couch.wire.heads import BadHead, final_head, parse_head
from txcouchdl.couch.wire.lowwater import LowWater, Ticker
from txcouchdl.couch.wire.pipes import Conduit, SocketConduit
from txcouchdl.couch.wire.sockets import plain_socket, send_now

#: How often the socket is read at one turn of the reactor, besides what the transport reads.
_READS_A_TURN: Final = 3


class Means:
    """
    What can be done with sockets.

    :param reactor: that tells the time and watches them.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.ticker = Ticker(reactor)

    def plain(self, transport: object) -> Any:
        """See :func:`.plain_socket`."""
        return plain_socket(transport)

    def conduit(self, plain: Any, low_water: LowWater, missing: int, wake: Callable[[], object]) -> Conduit:
        """What empties a plain socket past this process."""
        return SocketConduit(plain, self._reactor, low_water, missing, wake)


class NeverAnswered(UpstreamUnavailable):
    """A connection that was used before ended without a byte of an answer: the node may have closed it already."""


class Connection(Protocol):
    """
    :param node: where it leads, for the log.
    :param rested: called with the connection when it can be used again.
    :param ended: called with the connection when it cannot be any more.
    :param means: what can be done with its socket.
    :ivar plain: its socket, if it is a plain one.
    """

    def __init__(
        self,
        node: str,
        rested: Callable[["Connection"], object],
        ended: Callable[["Connection"], object],
        means: Means,
    ) -> None:
        self._node = node
        self._rested = rested
        self._ended = ended
        self._means = means
        self.plain: Any = None
        self._waiting: Deferred[Answer] | None = None
        self._body: Body | None = None
        self._received = b""
        self._head_at = 0
        self._is_to_close = False
        self._is_last = False
        self._is_used = False

    def connectionMade(self) -> None:
        self.plain = self._means.plain(self.transport)
        cast(ITCPTransport, self.transport).setTcpNoDelay(True)

    @property
    def is_silent(self) -> bool:
        """Whether nothing has come at rest, as far as can be seen at once: no bytes, and no end."""
        if self.plain is None:
            return True
        try:
            self.plain.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def ask(self, request: bytes, *, is_to_close: bool) -> "Deferred[Answer]":
        """
        :param request: all of it.
        :param is_to_close: whether the answer's body is everything up to the close, whatever length it claims.
        :return: fires with the answer. Fails with an UpstreamFailure. Cancelling it drops the connection.
        """
        self._is_to_close = self._is_last = is_to_close
        waiting: Deferred[Answer] = Deferred(self._cancelled)
        self._waiting = waiting
        send_now(cast(ITCPTransport, self.transport), self.plain, request)
        return waiting

    def _cancelled(self, _: "Deferred[Answer]") -> None:
        self._waiting = None
        self.abort()

    def dataReceived(self, data: bytes) -> None:
        if self._body is not None:
            self._body.received(data)
        elif self._waiting is None:
            # Nobody has asked.
            self.abort()
        else:
            self._received = self._received + data if self._received else data
            self._read_head()
        if len(data) == ONE_READ:
            self._read_on()

    def _read_on(self) -> None:
        """As much as can be read at once has been: what is behind it need not wait for another turn of the reactor."""
        for _ in range(_READS_A_TURN):
            if self._body is None or not self._body.is_flowing or self.plain is None:
                return
            try:
                data = self.plain.recv(ONE_READ)
            except OSError:
                return
            if not data:
                return
            self._body.received(data)

    def _read_head(self) -> None:
        try:
            parsed = parse_head(self._received, self._head_at)
            if parsed is None:
                # A node may send many interim heads, in many pieces: each is read once.
                self._head_at = final_head(self._received, self._head_at)
                return
        except BadHead as error:
            self._fail(BadUpstream(f"{self._node}: {error}"))
            self.abort()
            return
        head, begin = parsed
        rest, self._received, self._head_at = self._received[begin:], b"", 0
        self._is_last = self._is_last or head.is_last
        waiting, self._waiting = self._waiting, None
        body = Body(self, head, self._is_to_close)
        self._body = body
        body.received(rest)
        if waiting is not None:
            waiting.callback(Answer(head, body))
        body.hold()

    def answered(self, *, is_clean: bool, is_paused: bool) -> None:
        """
        The answer's body is over.

        :param is_clean: whether nothing is known to follow it.
        :param is_paused: whether the transport is.
        """
        self._body = None
        self._is_used = True
        if is_paused:
            # TLS has a goodbye to read before it closes.
            cast(IPushProducer, self.transport).resumeProducing()
        if self._is_last or not is_clean:
            self.close()
        else:
            self._rested(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.plain = None
        self._ended(self)
        self._fail(
            (NeverAnswered if self._is_used and not self._received else UpstreamUnavailable)(
                f"{self._node}: no answer: {reason.type.__name__ if reason.type else reason}"
            )
        )
        body, self._body = self._body, None
        if body is not None:
            body.lost(reason)

    def _fail(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.errback(error)

    def close(self) -> None:
        """End it: nothing is under way."""
        self.plain = None
        transport = cast(ITCPTransport, self.transport)
        if ISSLTransport.providedBy(transport):
            # It would wait for the node's goodbye, however long that takes.
            transport.abortConnection()
        else:
            transport.loseConnection()

    def abort(self) -> None:
        """End it at once."""
        self.plain = None
        self._ended(self)
        cast(ITCPTransport, self.transport).abortConnection()

    def low_water(self, most: int) -> LowWater:
        """A mark for its socket, which has to be a plain one."""
        return LowWater(self.plain, self._means.ticker, most)

    def conduit(self, low_water: LowWater, missing: int, wake: Callable[[], object]) -> Conduit:
        """See :meth:`.Body.conduit`. Its socket has to be a plain one."""
        return self._means.conduit(self.plain, low_water, missing, wake)
