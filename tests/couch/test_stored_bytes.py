"""Moments of healing and parking that whole requests meet too seldom."""

import hashlib
from collections.abc import Callable
from typing import cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone

from txcouchdl.couch.documents import AttachmentStub, Digest, Storage
from txcouchdl.couch.errors import (
    AttachmentChanged,
    BadUpstream,
    NoNodeAvailable,
    Overloaded,
    RevisionGone,
    UpstreamFailure,
    UpstreamRefusedUs,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from txcouchdl.couch.healing import StoredBytes
from txcouchdl.couch.hedging import Hedge
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.opened_body import Body
from txcouchdl.couch.patience import Patience
from txcouchdl.couch.reading import Request, plan_reading
from txcouchdl.couch.tally import UNCOUNTED, Tally
from txcouchdl.couch.transfer import HELD_BACK, Transfer
from txcouchdl.protocol.ranges import ByteRange

DATA = bytes(range(256)) * 100


class Upstream:
    """A body whose bytes come when the test says so; its transport too."""

    node = "n0"
    are_ranges_ignored = False

    def __init__(self, request: Request) -> None:
        self.tally: Tally = UNCOUNTED
        self.transfer: Transfer | None = None
        self.request = request
        self.missing = request.count
        self.is_flowing = True
        self.is_vacated = False

    def deliver(self, transfer: Transfer) -> None:
        self.transfer = transfer
        transfer.makeConnection(self)  # type: ignore[no-untyped-call]

    def hedge(self, _: Callable[[], bool]) -> Hedge | None:
        return None

    def send(self, data: bytes) -> None:
        assert self.transfer is not None
        self.transfer.dataReceived(data)
        self.missing -= len(data)
        if not self.missing and self.is_flowing:
            self.end()

    def distrust(self) -> None:
        self.is_flowing = False

    def lose(self, error: Exception) -> None:
        assert self.transfer is not None
        self.transfer.connectionLost(Failure(error))

    def end(self) -> None:
        assert self.transfer is not None
        self.transfer.connectionLost(Failure(ResponseDone()))

    def rest(self, give_up: Callable[[], object]) -> None:
        self.give_up = give_up

    def wake(self) -> None:
        vars(self).pop("give_up", None)

    def vacate(self) -> None:
        self.is_vacated = True

    def lost(self, _: UpstreamFailure) -> None:
        self.vacate()

    def pauseProducing(self) -> None:
        self.is_flowing = False

    def resumeProducing(self) -> None:
        self.is_flowing = True

    def stopProducing(self) -> None:
        self.is_flowing = False


class Reader:
    """Reads DATA, and keeps what it is told."""

    def __init__(self, *, is_committed: bool = True) -> None:
        self.clock = Clock()
        self.opening: list[Deferred[Body]] = []
        self.asked: list[Request] = []
        self.received = b""
        self.is_complete = False
        self.failure: Failure | None = None
        stub = AttachmentStub("f", None, Digest(hashlib.md5(DATA).digest()), Storage.IDENTITY, len(DATA), len(DATA))
        self.stored = StoredBytes("f", plan_reading(stub, None), self._open, UpstreamLimits(), self.clock, self)
        if is_committed:
            self.stored.commit()
        self.stored.start()

    async def _open(self, request: Request, _: Patience) -> Body:
        self.asked.append(request)
        opening: Deferred[Body] = Deferred()
        self.opening.append(opening)
        return await opening

    def opened(self) -> Upstream:
        """The node answers."""
        upstream = Upstream(self.asked[-1])
        self.opening.pop().callback(cast(Body, upstream))
        return upstream

    def released(self, stored: bytes) -> None:
        self.received += stored

    def passed(self, count: int) -> None:
        raise AssertionError("nothing can")

    def completed(self, tail: bytes) -> None:
        self.received += tail
        self.is_complete = True

    def failed(self, failure: Failure) -> None:
        self.failure = failure


def test_who_is_paused_while_a_transfer_is_opened_gets_it_paused() -> None:
    """Bytes that nobody wants would else come in without end."""
    reader = Reader()
    reader.stored.pause()
    upstream = reader.opened()
    assert not upstream.is_flowing
    reader.stored.resume()
    assert upstream.is_flowing
    upstream.send(DATA)
    assert (reader.received, reader.is_complete) == (DATA, True)
    assert upstream.is_vacated
    assert not reader.clock.getDelayedCalls()


def test_who_is_paused_gives_up_its_place_when_it_is_told_to() -> None:
    """And goes on where it stood, when somebody wants bytes."""
    reader = Reader()
    upstream = reader.opened()
    upstream.send(DATA[:10_000])
    reader.stored.pause()
    upstream.give_up()
    assert upstream.is_vacated
    assert not reader.clock.getDelayedCalls()
    reader.stored.resume()
    assert reader.asked[-1].byte_range == ByteRange(10_000 - HELD_BACK, len(DATA) - 1)
    reader.opened().send(DATA[10_000 - HELD_BACK :])
    assert (reader.received, reader.is_complete) == (DATA, True)


def test_who_is_parked_while_a_transfer_is_opened_opens_another() -> None:
    reader = Reader()
    reader.stored.pause()
    reader.clock.advance(11)
    assert not reader.clock.getDelayedCalls()
    reader.stored.resume()
    assert len(reader.asked) == 2
    reader.opened().send(DATA)
    assert reader.received == DATA


def test_a_pause_between_two_attempts() -> None:
    """The next one may come meanwhile; it is paused, and parked in its time."""
    reader = Reader()
    reader.opening.pop().errback(UpstreamUnavailable("no"))
    reader.clock.advance(0)
    reader.opening.pop().errback(UpstreamUnavailable("no"))
    reader.stored.pause()
    reader.clock.advance(0.2)
    upstream = reader.opened()
    assert not upstream.is_flowing
    reader.clock.advance(11)
    assert upstream.is_vacated
    reader.stored.resume()
    reader.opened().send(DATA)
    assert reader.received == DATA
    assert not reader.clock.getDelayedCalls()


def test_who_goes_on_while_a_transfer_is_opened_waits_for_that() -> None:
    reader = Reader()
    reader.stored.pause()
    reader.stored.resume()
    assert len(reader.asked) == 1


@pytest.mark.parametrize(
    "error", [UpstreamUnavailable(), UpstreamTimeout(), BadUpstream(), Overloaded(), NoNodeAvailable()]
)
def test_what_may_pass_is_tried_again(error: UpstreamFailure) -> None:
    reader = Reader()
    reader.opening.pop().errback(error)
    reader.clock.advance(0)
    reader.opened().send(DATA)
    assert reader.received == DATA


@pytest.mark.parametrize("error", [UpstreamRefusedUs(), AttachmentChanged(), RevisionGone()])
def test_what_will_not_pass_is_told_at_once(error: UpstreamFailure) -> None:
    reader = Reader()
    reader.opening.pop().errback(error)
    assert reader.failure is not None
    assert reader.failure.value is error


def test_a_fault_of_ours_is_told_and_not_tried_again() -> None:
    reader = Reader()
    reader.opening.pop().errback(ZeroDivisionError())
    assert reader.failure is not None
    assert reader.failure.check(ZeroDivisionError)
    assert not reader.clock.getDelayedCalls()


def test_dropped_it_says_nothing_more() -> None:
    reader = Reader()
    upstream = reader.opened()
    upstream.send(DATA[:10_000])
    received = reader.received
    reader.stored.drop()
    upstream.send(DATA[10_000:])
    upstream.end()
    reader.stored.pause()
    reader.stored.resume()
    assert (reader.received, reader.is_complete, reader.failure) == (received, False, None)
    assert upstream.is_vacated
    assert not reader.clock.getDelayedCalls()


def test_a_consumer_that_goes_in_the_last_bytes_gets_no_more() -> None:
    """Where the last byte of all ends a body at once: those held back may not follow."""
    told: list[str] = []

    class Gone:
        def released(self, stored: bytes) -> None:
            told.append("released")
            transfer.drop()

        def passed(self, count: int) -> None: ...

        def completed(self, tail: bytes) -> None:
            told.append("completed")

        def failed(self, error: UpstreamFailure) -> None:
            told.append("failed")

        def silent(self) -> None: ...

        def woke(self) -> None: ...

    transfer = Transfer(len(DATA), False, 30.0, 0.0, Clock(), Gone(), is_counted=True)
    stub = AttachmentStub("f", None, Digest(hashlib.md5(DATA).digest()), Storage.IDENTITY, len(DATA), len(DATA))
    upstream = Upstream(plan_reading(stub, None).request(0))
    upstream.deliver(transfer)
    upstream.send(DATA)
    assert told == ["released"]
