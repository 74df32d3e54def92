"""
Connections for the client: none reads a head without an end or keeps a long field name, and all can be ended at once.

To lose a connection politely takes two: over TLS it ends when the other side says so too, and what it sends meanwhile
is read. Whoever does not want any more aborts.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure
from twisted.web._newclient import HTTP11ClientProtocol
from twisted.web.client import HTTPConnectionPool
from twisted.web.iweb import IResponse

from txcouchdl.protocol.fields import LONGEST_NAME

_Result = TypeVar("_Result")

#: Bytes of an answer before its body, interim answers included. What comes in one piece with its end counts with it.
LONGEST_HEAD: Final = 2**17


class _Connection(HTTP11ClientProtocol):
    """One that does not read a head without an end: Twisted's would, for as long as there is memory."""

    transport: Any
    # Bytes since something was asked; None while nothing is waited for but a body.
    _head: int | None = None
    # What came last; None while it is waited for.
    _answer: object = None

    def __init__(self, quiescent: Callable[[HTTP11ClientProtocol], None], live: "set[_Connection]") -> None:
        super().__init__(quiescent)  # type: ignore[no-untyped-call]
        self._live = live

    def connectionMade(self) -> None:
        self._live.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._live.discard(self)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def request(self, request: Any) -> "Deferred[IResponse]":
        self._head, self._answer = 0, None
        asked: Deferred[IResponse] = super().request(request)
        if self._parser is not None:
            parser: Any = self._parser
            parser.headerReceived = self._bounded(parser.headerReceived)
        return asked.addBoth(self._has_ended)

    def _bounded(self, receive: Callable[[bytes, bytes], object]) -> Callable[[bytes, bytes], None]:
        """End the connection at a long field name. Twisted would keep the name until the process ends."""

        def receive_short(name: bytes, value: bytes) -> None:
            if len(name) > LONGEST_NAME:
                self.transport.abortConnection()
            else:
                receive(name, value)

        return receive_short

    def _has_ended(self, result: _Result) -> _Result:
        self._head, self._answer = None, result
        return result

    def brings(self, response: IResponse) -> bool:
        """Whether the body of an answer is still on its way here."""
        return self._answer is response and self.state != "QUIESCENT"

    def dataReceived(self, data: bytes) -> None:
        if self._head is not None:
            self._head += len(data)
            if self._head > LONGEST_HEAD:
                self.transport.abortConnection()
                return
        super().dataReceived(data)  # type: ignore[no-untyped-call]


class _Factory(Factory):
    noisy = False

    def __init__(self, quiescent: Callable[[HTTP11ClientProtocol], None], live: set[_Connection]) -> None:
        self._quiescent = quiescent
        self._live = live

    def buildProtocol(self, addr: IAddress | None) -> _Connection:
        return _Connection(self._quiescent, self._live)


class Pool(HTTPConnectionPool):
    """Those of one client, idle or not."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)  # type: ignore[no-untyped-call]
        self._live: set[_Connection] = set()
        self._factory: Any = lambda quiescent, _metadata: _Factory(quiescent, self._live)

    def abort(self, response: IResponse) -> None:
        """No more of a body comes: its connection ends, without waiting for the other side. One that is idle stays."""
        for each in [each for each in self._live if each.brings(response)]:
            each.transport.abortConnection()

    def close(self) -> None:
        """End all connections, without waiting for anybody."""
        self.closeCachedConnections()  # type: ignore[no-untyped-call]
        for each in list(self._live):
            each.transport.abortConnection()
