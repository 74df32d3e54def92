"""
The lines to the nodes: connections to each, kept for the next exchange.
"""

from collections import deque
from typing import Any, Final, cast
from urllib.parse import urlsplit

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from twisted.web.client import BrowserLikePolicyForHTTPS

from txcouchdl.couch.errors import UpstreamTimeout, UpstreamUnavailable
from txcouchdl.couch.wire.answers import Answer
from txcouchdl.couch.wire.connection import Connection, Means, NeverAnswered

#: Seconds for a connection to a node to come up.
CONNECT_TIMEOUT: Final = 10.0
#: Seconds for idle connections to close when we are done.
_CLOSE_TIMEOUT: Final = 5.0
#: Idle connections kept to a node, and for how many seconds.
IDLE_CONNECTIONS: Final = 32
_IDLE_TIMEOUT: Final = 240.0


class Lines:
    """
    :param reactor: that connects, tells the time and, where bodies pass this process by, watches sockets.
    """

    def __init__(self, reactor: Any, means: Means | None = None) -> None:
        self.reactor = reactor
        self._means = means or Means(reactor)
        self._lines: list[Line] = []

    def to(self, base: str) -> "Line":
        """
        A line to a node.

        :param base: its URL, as :class:`~txcouchdl.couch.nodes.Node` has it.
        """
        line = Line(base, self._endpoint(base), self.reactor, self._means)
        self._lines.append(line)
        return line

    def _endpoint(self, base: str) -> IStreamClientEndpoint:
        url = urlsplit(base)
        host, is_secure = url.hostname or "", url.scheme == "https"
        port = url.port or (443 if is_secure else 80)
        endpoint = self.endpoint(host, port)
        if not is_secure:
            return endpoint
        policy = BrowserLikePolicyForHTTPS()
        return wrapClientTLS(policy.creatorForNetloc(host.encode("ascii"), port), endpoint)

    def endpoint(self, host: str, port: int) -> IStreamClientEndpoint:
        """To a port of a host."""
        return HostnameEndpoint(self.reactor, host, port, timeout=CONNECT_TIMEOUT)

    def close(self) -> "Deferred[None]":
        """Close the idle connections. Fires soon, also when a node does not let go of one."""
        closing = DeferredList([line.close() for line in self._lines], consumeErrors=True)
        closed: Deferred[None] = closing.addCallback(lambda _: None)
        return closed.addTimeout(_CLOSE_TIMEOUT, self.reactor, onTimeoutCancel=lambda *_: None)


class Line:
    """
    Exchanges with one node, each on a connection of its own while it lasts.

    :param name: the node's, for the log.
    """

    def __init__(self, name: str, endpoint: IStreamClientEndpoint, reactor: Any, means: Means) -> None:
        self._name = name
        self._endpoint = endpoint
        self._reactor = reactor
        self._means = means
        # With the time since when they rest; who came last is taken first.
        self._idle: deque[tuple[Connection, float]] = deque()
        self._closing: set[Connection] = set()
        self._closed: list[Deferred[None]] = []
        self._is_closed = False
        self._pruning: Any = None

    def ask(self, request: bytes, *, is_to_close: bool = False) -> "Deferred[Answer]":
        """
        See :meth:`.Connection.ask`. The request is one that may be sent twice: if a connection that was used before
        ends without an answer, it is sent again on a new one.

        :return: cancelled, it fails with a CancelledError, wherever it is.
        """
        connection = self._rested()
        if connection is None:
            return self._ask_anew(request, is_to_close)

        def ask_again(failure: Failure) -> "Deferred[Answer]":
            failure.trap(NeverAnswered)
            return self._ask_anew(request, is_to_close)

        return connection.ask(request, is_to_close=is_to_close).addErrback(ask_again)

    def _rested(self) -> Connection | None:
        """The one that came to rest last, of those that can still be used."""
        while self._idle:
            connection, _ = self._idle.pop()
            if connection.is_silent:
                return connection
            connection.abort()
        return None

    def _ask_anew(self, request: bytes, is_to_close: bool) -> "Deferred[Answer]":
        return self._connect().addCallback(lambda connection: connection.ask(request, is_to_close=is_to_close))

    def _connect(self) -> "Deferred[Connection]":
        """A new connection. What Twisted makes of a cancellation depends on how far it is; we cancel at once."""

        def cancel(waiting: "Deferred[Connection]") -> None:
            waiting.errback(CancelledError())
            connecting.cancel()

        def connected(connection: Connection) -> None:
            if waiting.called:
                connection.abort()
            else:
                waiting.callback(connection)

        def failed(failure: Failure) -> None:
            if not waiting.called:
                waiting.errback(self._not_connected(failure))

        waiting: Deferred[Connection] = Deferred(cancel)
        connecting = cast("Deferred[Connection]", self._endpoint.connect(_ConnectionFactory(self)))
        connecting.addCallbacks(connected, failed)
        return waiting

    def _not_connected(self, failure: Failure) -> Failure:
        """The same, in our words."""
        if failure.check(ConnectTimeout):
            return Failure(UpstreamTimeout(f"{self._name}: no connection in time"))
        if failure.check(ConnectError, DNSLookupError):
            return Failure(UpstreamUnavailable(f"{self._name}: {failure.value}"))
        return failure

    def connection(self) -> Connection:
        """A new connection, not connected yet."""
        return Connection(self._name, self._rest, self._forget, self._means)

    def _rest(self, connection: Connection) -> None:
        """It can be used again."""
        if self._is_closed:
            connection.close()
            return
        if len(self._idle) == IDLE_CONNECTIONS:
            oldest, _ = self._idle.popleft()
            oldest.close()
        self._idle.append((connection, self._reactor.seconds()))
        if self._pruning is None:
            self._pruning = self._reactor.callLater(_IDLE_TIMEOUT, self._prune)

    def _prune(self) -> None:
        """Close what has rested too long."""
        self._pruning = None
        now = self._reactor.seconds()
        while self._idle and self._idle[0][1] + _IDLE_TIMEOUT <= now:
            connection, _ = self._idle.popleft()
            connection.close()
        if self._idle:
            left = self._idle[0][1] + _IDLE_TIMEOUT - now
            self._pruning = self._reactor.callLater(left, self._prune)

    def _forget(self, connection: Connection) -> None:
        """It has ended."""
        for each in self._idle:
            if each[0] is connection:
                self._idle.remove(each)
                break
        self._closing.discard(connection)
        if not self._closing:
            self._tell_closed()

    def close(self) -> "Deferred[None]":
        """Close the idle connections, and the others when they come to rest. Fires when the former are."""
        self._is_closed = True
        if self._pruning is not None:
            self._pruning.cancel()
            self._pruning = None
        self._closing |= {connection for connection, _ in self._idle}
        closed: Deferred[None] = Deferred()
        self._closed.append(closed)
        idle, self._idle = self._idle, deque()
        for connection, _ in idle:
            connection.close()
        if not self._closing:
            self._tell_closed()
        return closed

    def _tell_closed(self) -> None:
        closed, self._closed = self._closed, []
        for each in closed:
            each.callback(None)


class _ConnectionFactory(Factory):
    """Makes the connection, without two lines in the log for it."""

    noisy = False

    def __init__(self, line: Line) -> None:
        self._line = line

    def buildProtocol(self, addr: IAddress | None) -> Connection:
        return self._line.connection()
