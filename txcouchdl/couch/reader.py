"""
Exactly the asked bytes of one pinned attachment, or a failure. The strategy:

*The head is checked before anything is believed*: status, length, Content-Range, coding and entity-tag must be what
the stub promises. A node that answers otherwise is not read.

*The last 2 KiB received are held back* until it is clear that they are not an error message: see
:mod:`~txcouchdl.couch.transfer`.

*What passes whole is verified*: the digest is computed over the stored bytes, and the last of them are not released
before it is right.

*A range of an attachment that is stored as it is has no digest*; CouchDB does not check it either. Its end is proven
otherwise: where the attachment goes on behind it, so does the read, by as many bytes as are held back, so that an
error message cannot fill it up to its length. Where it does not, the body is read until the node closes the
connection: an error message would be too long for it.

*Everything is counted.* A body that is too short is a lost one, and one that is too long is none.

*Back-pressure*: a reader is a push producer. While its consumer is paused it does not read upstream, and it hands
out inflated bytes in bounded steps, some at each turn of the reactor.
"""

import hashlib
from collections.abc import Callable

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from txcouchdl.couch.client import BodyHead, CouchClient
from txcouchdl.couch.decoding import Decoder, GzipDecoder, GzipRangeDecoder, IdentityDecoder
from txcouchdl.couch.documents import AttachmentStub, Storage
from txcouchdl.couch.errors import (
    BadUpstream,
    CorruptAttachment,
    UpstreamFailure,
)
from txcouchdl.couch.names import AttachmentAddress
from txcouchdl.couch.transfer import HELD_BACK, End, Transfer
from txcouchdl.protocol.ranges import ByteRange

#: Steps of decoding at one turn of the reactor; more wait for the next, so that others get theirs.
_STEPS_A_TURN = 16


@frozen
class PinnedAttachment:
    """An attachment as a document's revision had it: what a read is held against."""

    address: AttachmentAddress
    rev: str
    stub: AttachmentStub


@frozen
class _Reading:
    """
    What to ask CouchDB for, and how to make the wanted bytes of it.

    :ivar stored_range: the stored bytes to ask for; ``None`` for all of them.
    :ivar stored_count: how many those are.
    """

    stored_range: ByteRange | None
    stored_count: int
    decoder: Decoder
    end: End


def _plan_reading(stub: AttachmentStub, byte_range: ByteRange | None) -> _Reading:
    """
    :param byte_range: identity bytes; ``None`` for all. Only where the stub knows its length.
    """
    if byte_range is not None and byte_range.length == stub.length:
        byte_range = None
    if stub.storage is Storage.IDENTITY and byte_range is not None:
        return _plan_range(stub, byte_range)
    decoder: Decoder
    if stub.storage is Storage.IDENTITY:
        decoder = IdentityDecoder(stub.stored_length)
    elif byte_range is None:
        decoder = GzipDecoder(stub.length)
    else:
        decoder = GzipRangeDecoder(byte_range.offset, byte_range.length)
    return _Reading(None, stub.stored_length, decoder, End.DIGEST)


def _plan_range(stub: AttachmentStub, wanted: ByteRange) -> _Reading:
    """A range of stored bytes: with a margin behind it, or to the end of the attachment."""
    decoder = IdentityDecoder(wanted.length)
    if wanted.last + HELD_BACK >= stub.stored_length:
        return _Reading(wanted, wanted.length, decoder, End.CLOSE)
    asked = ByteRange(wanted.first, wanted.last + HELD_BACK)
    return _Reading(asked, asked.length, decoder, End.FRAMING)


async def open_reader(
    client: CouchClient,
    pinned: PinnedAttachment,
    byte_range: ByteRange | None,
    clock: IReactorTime,
    learn: Callable[[int], object] = lambda _: None,
) -> "AttachmentReader":
    """
    Open a reader and wait until its first bytes are there, or its failure: so far, nothing is told to the client,
    and whatever goes wrong can be told in a clean answer. A short attachment is here, whole and verified.

    :param byte_range: identity bytes, inclusive; ``None`` for the whole representation.
    :param learn: called with the length of the identity representation, once a whole body of gzip has been
        read, inflated and verified.
    :raises UpstreamFailure: if CouchDB does not give what the stub promises.
    """
    reading = _plan_reading(pinned.stub, byte_range)
    is_gzip = pinned.stub.storage is not Storage.IDENTITY
    closing = reading.end is not End.FRAMING
    head = await client.attachment(pinned.address, pinned.rev, reading.stored_range, gzip=is_gzip, closing=closing)
    problem = _problem(head, pinned.stub, reading)
    if problem is not None:
        head.abandon()
        raise BadUpstream(f"{client}: {problem}")
    reader = AttachmentReader(pinned.stub, reading, clock, learn)
    head.deliver(reader.transfer)
    await reader.primed()
    return reader


def _problem(head: BodyHead, stub: AttachmentStub, reading: _Reading) -> str | None:
    """What is wrong with a head, in words of ours; ``None`` if it promises what was asked for."""
    asked = reading.stored_range
    coding = None if stub.storage is Storage.IDENTITY else "gzip"
    expected = {
        "status": (head.status, 200 if asked is None else 206),
        "Content-Range": (head.content_range, asked and asked.content_range(stub.stored_length)),
        "Content-Length": (head.length, reading.stored_count),
        "Content-Encoding": (head.coding, coding),
        "ETag": (head.etag, f'"{stub.digest.base64}"'),
    }
    wrong = [name for name, (claimed, promised) in expected.items() if claimed != promised]
    return f"another {', '.join(wrong)} than asked for" if wrong else None


@implementer(IPushProducer)
class AttachmentReader:
    """
    Reads one body and writes the wanted bytes of it to a consumer. Made by :func:`open_reader`.

    It may be paused, resumed and stopped at any time, in its consumer's ``write`` too, and more than once.
    """

    def __init__(
        self, stub: AttachmentStub, reading: _Reading, clock: IReactorTime, learn: Callable[[int], object]
    ) -> None:
        self.transfer = Transfer(reading.stored_count, reading.end, clock, self)
        self._learn = learn
        self._digest = stub.digest if reading.end is End.DIGEST else None
        self._hash = hashlib.md5(usedforsecurity=False)
        self._decoder = reading.decoder
        self._clock = clock
        # Stored bytes not yet given to the decoder, once the body is complete and verified.
        self._tail: bytes | None = None
        self._is_complete = False
        self._is_over = False
        self._failure: Failure | None = None
        self._write: Callable[[bytes], object] | None = None
        self._primed_bytes: list[bytes] = []
        self._primed: Deferred[None] | None = None
        self._finished: Deferred[None] | None = None
        self._is_paused = False
        self._is_pumping = False
        self._is_wanted_again = False
        self._next_turn: IDelayedCall | None = None

    def primed(self) -> "Deferred[None]":
        """Fires when there are bytes to deliver, or none to come; fails as the transfer does."""
        self._primed = Deferred(lambda _: self.stopProducing())
        primed = self._primed
        self._report()
        return primed

    def deliver(self, write: Callable[[bytes], object]) -> "Deferred[None]":
        """
        Write all wanted bytes, in order.

        :return: fires once all of them are written and all checks have passed. Fails with an UpstreamFailure if
            they cannot be, and then the last of them has not been written. Cancelling it stops the reader.
        """
        self._write = write
        self._finished = Deferred(lambda _: self.stopProducing())
        finished = self._finished
        self._go_on()
        return finished

    def pauseProducing(self) -> None:
        self._is_paused = True
        self.transfer.pause()

    def resumeProducing(self) -> None:
        self._is_paused = False
        self._go_on()

    def stopProducing(self) -> None:
        """Drop the upstream connection at once. Nothing is written any more, and nothing reported."""
        self._primed = self._finished = None
        self._primed_bytes.clear()
        self._end(None)

    # What the transfer tells.

    def released(self, stored: bytes) -> None:
        """Stored bytes that are surely CouchDB's."""
        if self._digest is not None:
            self._hash.update(stored)
        self._decoder.feed(stored)
        self._pump()

    def completed(self, tail: bytes) -> None:
        """The last stored bytes: the body has as many as promised."""
        if self._digest is not None:
            self._hash.update(tail)
            if self._hash.digest() != self._digest.md5:
                self._end(Failure(CorruptAttachment("has another digest than its stub")))
                return
        self._tail = tail
        self._pump()

    def failed(self, error: UpstreamFailure) -> None:
        """The body was lost."""
        self._end(Failure(error))

    # The pump.

    def _go_on(self) -> None:
        """With what came before there was a consumer, with what is in the decoder, then with upstream."""
        while self._primed_bytes and self._write is not None and not self._is_paused:
            self._write(self._primed_bytes.pop(0))
        self._report()
        self._pump()

    def _pump(self) -> None:
        """Move bytes through the decoder until it is empty, somebody says stop, or others should have their turn."""
        # A transport may hand over more at once when it is resumed, from within.
        self._is_wanted_again = True
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            while self._is_wanted_again:
                self._is_wanted_again = False
                self._pump_steps()
        except CorruptAttachment as error:
            self._end(Failure(error))
        finally:
            self._is_pumping = False

    def _pump_steps(self) -> None:
        for _ in range(_STEPS_A_TURN):
            if self._must_wait():
                self.transfer.pause()
                return
            wanted = self._decoder.read()
            if wanted is None and not self._feed_tail():
                return
            if wanted:
                self._emit(wanted)
            if self._decoder.is_satisfied:
                self._end(None)
        self.transfer.pause()
        if not self._must_wait():
            self._next_turn = self._clock.callLater(0, self._take_turn)

    def _must_wait(self) -> bool:
        """Whether bytes have nowhere to go now: until there is a consumer, only the first ones are wanted."""
        is_idle = self._is_over or self._next_turn is not None
        return is_idle or self._is_paused or bool(self._primed_bytes)

    def _take_turn(self) -> None:
        self._next_turn = None
        self._pump()

    def _feed_tail(self) -> bool:
        """The decoder is empty: whether there was something left to feed it, else see to it that more comes."""
        if self._tail is not None:
            self._decoder.feed(self._tail)
            self._tail = None
            self._is_complete = True
            return True
        if self._is_complete:
            self._emit(self._decoder.finish())
            if isinstance(self._decoder, GzipDecoder):
                self._learn(self._decoder.produced)
            self._end(None)
        else:
            self.transfer.resume()
        return False

    def _emit(self, wanted: bytes) -> None:
        if self._write is not None:
            self._write(wanted)
        elif wanted:
            self._primed_bytes.append(wanted)
            self._report()

    def _end(self, failure: Failure | None) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._failure = failure
        self.transfer.drop()
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None
        self._report()

    def _report(self) -> None:
        """Fire whichever Deferred is due. Whoever gets the first gets the second, if it asks."""
        primed, finished = self._primed, self._finished
        if primed is not None and self._primed_bytes:
            self._primed = None
            primed.callback(None)
        elif primed is not None and self._is_over:
            self._primed = None
            _fire(primed, self._failure)
        elif finished is not None and self._is_over and not self._primed_bytes:
            self._finished = None
            _fire(finished, self._failure)


def _fire(waiting: "Deferred[None]", failure: Failure | None) -> None:
    if failure is None:
        waiting.callback(None)
    else:
        waiting.errback(failure)
