"""
Short bodies of answers, collected whole; and bodies that nobody wants, dropped.
"""

from collections.abc import Callable
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.iweb import IResponse

from txcouchdl.couch.documents import Digest
from txcouchdl.couch.errors import CorruptAttachment, UnreadableDocument, UpstreamFailure, UpstreamUnavailable
from txcouchdl.couch.wire.answers import Body

#: How much of an error's body is read to learn what it is about.
MAX_ERROR = 16 * 2**10


def abandon(response: IResponse) -> None:
    """Drop the body of an answer, and its connection."""
    response.deliverBody(_Dropper())


class _Dropper(Protocol):
    """Ends the connection of a body that nobody wants."""

    def connectionMade(self) -> None:
        cast("IPushProducer", self.transport).stopProducing()


def collect(response: IResponse, limit: int) -> "Deferred[bytes]":
    """
    :param limit: bytes that the body may have.
    :return: fires as :attr:`_Collector.finished`.
    """
    return gather(response.deliverBody, limit)


def gather(
    deliver: Callable[[IProtocol], object], limit: int, digest: Digest | None = None, wanted: int | None = None
) -> "Deferred[bytes]":
    """
    :param deliver: lets a body flow into a protocol.
    :param limit: bytes that the body may have.
    :param digest: of the body, where it has to be right.
    :param wanted: bytes of the body, from the first, that are returned; ``None`` for all.
    :return: fires as :attr:`_Collector.finished`.
    """
    collector = _Collector(limit, digest, wanted)
    deliver(collector)
    return collector.finished


def error_text(response: IResponse) -> "Deferred[bytes]":
    """The body of an error, or nothing of it. It is read so that the connection can be used again."""

    def nothing(failure: Failure) -> bytes:
        failure.trap(UpstreamFailure)
        return b""

    return collect(response, MAX_ERROR).addErrback(nothing)


class _Collector(Protocol):
    """
    Collects a short body.

    :ivar finished: fires once with what is wanted of the body. Fails with UnreadableDocument if the body is longer than
        the limit, with UpstreamUnavailable if it ends early, with CorruptAttachment if it has another digest. To cancel
        it drops the connection.
    """

    def __init__(self, limit: int, digest: Digest | None, wanted: int | None) -> None:
        self._limit = limit
        self._digest = digest
        self._wanted = wanted
        self._chunks: list[bytes] = []
        self._length = 0
        self._over = False
        self.finished: Deferred[bytes] = Deferred(lambda _: self._stop())

    def dataReceived(self, data: bytes) -> None:
        if self._over:
            return
        self._length += len(data)
        if self._length > self._limit:
            self._stop()
            self.finished.errback(UnreadableDocument(f"a body of more than {self._limit} bytes"))
            return
        self._chunks.append(data)

    def _stop(self) -> None:
        self._over = True
        self._chunks.clear()
        cast("IPushProducer", self.transport).stopProducing()

    def _drop_surplus(self, surplus: int) -> None:
        """Drop the last bytes before the chunks are joined: then they need not be copied once more."""
        while surplus > 0:
            last = self._chunks.pop()
            if len(last) > surplus:
                self._chunks.append(last[:-surplus])
            surplus -= len(last)

    def connectionLost(self, reason: Failure | None = None) -> None:
        if self._over:
            return
        self._over = True
        if reason is None or reason.type is not ResponseDone:
            self.finished.errback(UpstreamUnavailable("a body ended early"))
            return
        if self._wanted is not None:
            self._drop_surplus(self._length - self._wanted)
        body = b"".join(self._chunks)
        if self._digest is None or self._digest.is_of(body):
            self.finished.callback(body)
        else:
            cast("Body", self.transport).distrust()
            self.finished.errback(CorruptAttachment("has another digest than its stub"))
