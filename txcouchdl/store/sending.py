"""A body to one client: as fast as the client reads, and never with a clean end unless it is whole."""

from collections.abc import Iterator
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer, ITCPTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request
from zope.interface import implementer

from txcouchdl.store.errors import DamagedBody

_log = Logger()


@implementer(IPushProducer)
class PieceProducer:
    """
    Writes pieces to a consumer while it takes them.

    A consumer may pause, resume or stop us from within our own ``write``, and may stop us twice.
    """

    def __init__(self, pieces: Iterator[bytes], consumer: IConsumer) -> None:
        self._pieces = pieces
        self._consumer = consumer
        self._is_paused = False
        self._is_writing = False
        self._done: Deferred[None] | None = None

    def run(self) -> Deferred[None]:
        """
        Start. Call once, when the consumer has been told of us.

        :returns: fires when the last piece has been written, or fails with what reading them raised. It does
            not fire if the consumer stops us: who waits is told of the lost connection in another way.
            Cancelling it stops us.
        """
        done = self._done = Deferred(lambda _: self.stopProducing())
        self.resumeProducing()
        return done

    def resumeProducing(self) -> None:
        self._is_paused = False
        if not self._is_writing:
            self._is_writing = True
            self._write()
            self._is_writing = False

    def pauseProducing(self) -> None:
        self._is_paused = True

    def stopProducing(self) -> None:
        self._done = None

    def _write(self) -> None:
        while self._done is not None and not self._is_paused:
            try:
                piece = next(self._pieces, None)
            except Exception:
                self._end(self._done, Failure())
            else:
                self._end(self._done, None) if piece is None else self._consumer.write(piece)

    def _end(self, done: Deferred[None], result: Failure | None) -> None:
        self._done = None
        done.callback(None) if result is None else done.errback(result)


async def deliver(request: Request, pieces: Iterator[bytes]) -> None:
    """
    Send a body; status and headers have been set. The caller finishes the request.

    A body that turns out to be damaged when some of it has been sent breaks the connection: this then never
    returns, but is cancelled, as for every client that has gone.

    :raises DamagedBody: if nothing has been sent yet, so that there can be an answer that says so.
    """
    producer = PieceProducer(pieces, request)
    request.registerProducer(producer, True)
    try:
        await producer.run()
    except (DamagedBody, OSError):
        if not request.startedWriting:
            raise
        _log.failure("A body broke off in the middle of a transfer")
        cast(ITCPTransport, request.transport).abortConnection()
        await request.notifyFinish()
    finally:
        # There is no channel any more if the client has gone.
        if request.channel is not None:
            request.unregisterProducer()
