"""
Connections to a node, of two kinds, and what Twisted's HTTP client lacks for us.

Twisted cuts a body off at its Content-Length, and what comes behind it is lost. But that may be all that tells a
dying transfer: when CouchDB fails shortly before the end of an attachment, its error message fills the body up to the
promised length, and the rest of the message follows (FINDINGS, section 0, points 1 to 3). So there are connections
that close after their answer, on which a body is everything up to the close, to be counted by who reads it.

On all of them the head of an answer is bounded.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast
from typing import Protocol as Interface

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, ITCPTransport
from twisted.internet.protocol import Factory
from twisted.logger import Logger, LogPublisher
from twisted.web._newclient import BODY, HTTP11ClientProtocol, HTTPClientParser, Request
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.iweb import IAgent, IResponse

#: Seconds for a connection to a node to come up.
CONNECT_TIMEOUT: Final = 10.0
#: Seconds for idle connections to close when we are done.
_CLOSE_TIMEOUT: Final = 5.0
#: Idle connections kept to a node.
IDLE_CONNECTIONS: Final = 32
#: Bytes of the head of an answer, interim answers before it included.
_LONGEST_HEAD: Final = 64 * 2**10

_SILENCE: Final = Logger(observer=LogPublisher())


class Agents(Interface):
    """
    :ivar persistent: keeps connections for reuse. A body ends at its Content-Length.
    :ivar closing: closes each connection after its answer. A body goes on until the close, whatever Content-Length
        says; that is a header field like others here, and the length of the response is unknown.
    """

    persistent: IAgent
    closing: IAgent


class NetworkAgents:
    """Agents over the network: see :class:`Agents`."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._pool = connection_pool(reactor, persistent=True)
        self.persistent: IAgent = Agent(reactor, connectTimeout=CONNECT_TIMEOUT, pool=self._pool)
        one_shot = connection_pool(reactor, persistent=False)
        self.closing: IAgent = Agent(reactor, connectTimeout=CONNECT_TIMEOUT, pool=one_shot)

    def close(self) -> "Deferred[None]":
        """Close the idle connections. Fires soon, also when a node does not let go of one."""
        closing: Deferred[None] = self._pool.closeCachedConnections()
        return closing.addTimeout(_CLOSE_TIMEOUT, self._reactor, onTimeoutCancel=lambda *_: None)


def connection_pool(reactor: Any, *, persistent: bool) -> HTTPConnectionPool:
    """A pool of connections that are kept, or of connections that are closed: see :class:`Agents`."""
    protocol = _BoundedHead if persistent else _UntilClose
    pool = HTTPConnectionPool(reactor, persistent=persistent)
    pool.maxPersistentPerHost = IDLE_CONNECTIONS
    # Twisted has no public way to choose the protocol.
    pool._factory = partial(_ProtocolFactory, protocol)  # type: ignore[assignment]
    return pool


class _ProtocolFactory(Factory):
    """Makes the protocols of one pool, without two lines in the log for each."""

    noisy = False

    def __init__(self, protocol: type[HTTP11ClientProtocol], quiescent: Callable[[Any], object], _name: str) -> None:
        self._make = partial(protocol, quiescent)

    def buildProtocol(self, addr: IAddress | None) -> HTTP11ClientProtocol:
        return self._make()


class _BoundedHead(HTTP11ClientProtocol):
    """Gives up on a node whose answer has no end to its head."""

    _head_received = 0

    def request(self, request: Request) -> "Deferred[IResponse]":
        self._head_received = 0
        answer = super().request(request)
        if self._parser is not None:
            # It has a line for each interim answer, and a head may have thousands.
            self._parser._log = _SILENCE
        return answer

    def dataReceived(self, bytes: bytes) -> None:  # noqa: A002 (Twisted's)
        if self._parser is not None and self._parser.state != BODY:
            self._head_received += len(bytes)
        super().dataReceived(bytes)
        if self._head_received > _LONGEST_HEAD and self._parser is not None and self._parser.state != BODY:
            cast(ITCPTransport, self.transport).abortConnection()


class _UntilClose(_BoundedHead):
    """Reads a body to the close of the connection."""

    def request(self, request: Request) -> "Deferred[IResponse]":
        answer = super().request(request)
        if self._parser is not None:
            self._parser.isConnectionControlHeader = _is_control_header  # type: ignore[method-assign]
        return answer


def _is_control_header(name: bytes) -> bool:
    """Those that frame a message, but Content-Length."""
    return name != b"content-length" and name in HTTPClientParser.CONNECTION_CONTROL_HEADERS
