"""
The two connections of one client of the proxy. Bytes wait in neither: the node is read only while somebody asks for
its bytes, and who sends waits until the bytes have gone.
"""

from collections.abc import Callable
from enum import Enum

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IConsumer, IPullProducer, IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.faults.messages import LONGEST_HEAD, Request, end_of_head


class Hangup(Enum):
    """How a connection ends."""

    FIN = "in order, behind all that was sent"
    RST = "broken"

    @classmethod
    def of(cls, reason: Failure) -> "Hangup":
        return cls.FIN if reason.check(ConnectionDone) else cls.RST


class UpstreamLost(Exception):
    """The node hung up, and all that it sent before has been read."""

    def __init__(self, how: Hangup) -> None:
        super().__init__(how)
        self.how = how


class HeadTooLong(Exception):
    """A client's request has no end."""


class _Wire(ITCPTransport, IPushProducer, IConsumer):
    """What the transports of both reactors are."""


class Connection(Protocol):
    """What both have: bytes that came and were not taken yet, and somebody who may wait for more."""

    transport: _Wire

    def __init__(self) -> None:
        self._received = bytearray()
        self._more: Deferred[None] | None = None

    def hang_up(self, how: Hangup) -> None:
        if how is Hangup.FIN:
            self.transport.loseConnection()
        else:
            self.transport.abortConnection()

    def _wait(self) -> "Deferred[None]":
        self._more = Deferred()
        self.transport.resumeProducing()
        return self._more

    def _wake(self) -> None:
        more, self._more = self._more, None
        if more is not None:
            more.callback(None)


class Upstream(Connection):
    """
    To the node.

    :param lost: called when it is lost.
    """

    def __init__(self, lost: Callable[["Upstream"], object]) -> None:
        super().__init__()
        self._lost = lost
        self._loss: Hangup | None = None

    async def read(self, most: int) -> bytes:
        """
        Some bytes, at least one.

        :raises UpstreamLost: when there will be none.
        """
        while not self._received:
            if self._loss is not None:
                raise UpstreamLost(self._loss)
            await self._wait()
        data = bytes(self._received[:most])
        del self._received[:most]
        return data

    def unread(self, data: bytes) -> None:
        """Put back what was read too much."""
        self._received[:0] = data

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        self.transport.pauseProducing()
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._loss = Hangup.of(reason)
        self._lost(self)
        self._wake()


@implementer(IPullProducer)
class Downstream(Connection):
    """
    From a client.

    It is read all the time, or its end would not be seen, but for those who send one request too many.
    """

    def __init__(self) -> None:
        super().__init__()
        self._sent: Deferred[None] | None = None

    def connectionMade(self) -> None:
        # Pulled from, it hears of each time that all it has written is gone.
        self.transport.registerProducer(self, False)

    async def request(self) -> Request:
        """
        The next request.

        :raises HeadTooLong: if it has no end.
        """
        while (end := end_of_head(self._received)) is None:
            if len(self._received) > LONGEST_HEAD:
                raise HeadTooLong
            await self._wait()
        request = Request(bytes(self._received[:end]))
        del self._received[:end]
        return request

    async def send(self, data: bytes) -> None:
        """Send, and wait until it has gone: to the client, or as far as the operating system takes it."""
        if data:
            self._sent = Deferred()
            self.transport.write(data)
            await self._sent

    def hang_up(self, how: Hangup) -> None:
        self.transport.unregisterProducer()
        super().hang_up(how)

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > LONGEST_HEAD:
            self.transport.pauseProducing()
        self._wake()

    def resumeProducing(self) -> None:
        sent, self._sent = self._sent, None
        if sent is not None:
            sent.callback(None)

    def stopProducing(self) -> None:
        """The connection is lost: connectionLost says so too."""
