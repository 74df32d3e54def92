"""When a transfer says that it is silent, and when it counts as lost."""

from typing import cast

import pytest
from twisted.internet.interfaces import ITransport
from twisted.internet.task import Clock

from txcouchdl.couch.errors import UpstreamFailure, UpstreamTimeout
from txcouchdl.couch.transfer import CLOSE_TIMEOUT, Transfer

STALL, HEDGE = 30.0, 3.0
COUNT = 100


class Wire:
    """A body that goes nowhere."""

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def stopProducing(self) -> None: ...


class Listener:
    """Keeps what a transfer tells, with the times."""

    def __init__(self, stall: float = STALL, hedge: float = HEDGE, *, is_closing: bool = False) -> None:
        self.clock = Clock()
        self.told: list[tuple[float, str]] = []
        self.transfer = Transfer(COUNT, is_closing, stall, hedge, self.clock, self)
        self.transfer.makeConnection(cast(ITransport, Wire()))  # type: ignore[no-untyped-call]

    def released(self, stored: bytes) -> None:
        raise AssertionError("all is held back")

    def passed(self, count: int) -> None:
        raise AssertionError("nothing can")

    def completed(self, tail: bytes) -> None:
        self._note(f"{len(tail)} bytes")

    def failed(self, error: UpstreamFailure) -> None:
        assert isinstance(error, UpstreamTimeout)
        self._note("lost")

    def silent(self) -> None:
        self._note("silent")

    def woke(self) -> None:
        self._note("woke")

    def _note(self, what: str) -> None:
        self.told.append((self.clock.seconds(), what))

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds * 4)):
            self.clock.advance(0.25)


def test_silence_is_told_once_and_then_it_is_lost() -> None:
    listener = Listener()
    listener.wait(100)
    assert listener.told == [(HEDGE, "silent"), (STALL, "lost")]
    assert not listener.clock.getDelayedCalls()


def test_a_byte_ends_the_silence_and_another_may_follow() -> None:
    listener = Listener()
    listener.wait(2)
    listener.transfer.dataReceived(b"x")
    listener.wait(10)
    listener.transfer.dataReceived(b"x")
    listener.transfer.dataReceived(b"x")
    listener.wait(100)
    assert listener.told == [(5, "silent"), (12, "woke"), (15, "silent"), (42, "lost")]


def test_the_time_of_a_pause_is_no_silence() -> None:
    listener = Listener()
    listener.wait(2)
    listener.transfer.pause()
    listener.wait(100)
    listener.transfer.resume()
    listener.wait(2)
    assert not listener.told
    listener.wait(2)
    assert listener.told == [(105, "silent")]
    listener.transfer.pause()
    listener.wait(100)
    listener.transfer.resume()
    now = listener.clock.seconds()
    listener.wait(4)
    assert listener.told[1:] == [(now + HEDGE, "silent")], "told anew"
    listener.wait(100)
    assert listener.told[2:] == [(now + STALL, "lost")]


@pytest.mark.parametrize("hedge", [0.0, STALL, 100.0])
def test_it_is_never_told_where_it_is_turned_off(hedge: float) -> None:
    listener = Listener(hedge=hedge)
    listener.wait(100)
    assert listener.told == [(STALL, "lost")]


@pytest.mark.parametrize("hedge", [0.0, HEDGE])
def test_all_bytes_and_no_close_are_no_silence(hedge: float) -> None:
    listener = Listener(hedge=hedge, is_closing=True)
    listener.transfer.dataReceived(bytes(COUNT))
    listener.wait(100)
    assert listener.told == [(CLOSE_TIMEOUT, f"{COUNT} bytes")]


def test_a_dropped_transfer_tells_nothing() -> None:
    listener = Listener()
    listener.wait(4)
    listener.transfer.drop()
    listener.transfer.dataReceived(b"x")
    listener.wait(100)
    assert listener.told == [(HEDGE, "silent")]
    assert not listener.clock.getDelayedCalls()
