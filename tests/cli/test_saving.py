"""The state is saved now and then, and at the end; never two at a time."""

from collections.abc import Callable
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from txcouchdl.cli.record import Record
from txcouchdl.cli.saving import INTERVAL, Saver
from txcouchdl.cli.spans import Spans
from txcouchdl.protocol.ranges import ByteRange


@define
class Disk:
    """A slow one: what is saved is so when it is told."""

    count: int = 0
    saves: list[Record] = field(factory=list)
    waiting: list[Deferred[None]] = field(factory=list)

    def save(self, record: Record) -> None:
        self.saves.append(record)

    def record(self) -> Record:
        done = Spans([ByteRange(0, self.count - 1)] if self.count else ())
        return Record(address="0" * 64, etag='"x"', length=100, inode=1, done=done)

    def in_thread(self, work: Callable[[], Any], /) -> Deferred[Any]:
        self.waiting.append(Deferred())
        return self.waiting[-1].addCallback(lambda _: work())

    @property
    def counts(self) -> list[int]:
        return [each.done.count for each in self.saves]


def saver(disk: Disk) -> tuple[Saver, Clock]:
    clock = Clock()
    return Saver(disk, disk.record, clock, disk.in_thread), clock  # type: ignore[arg-type]


def wrote(disk: Disk, it: Saver, count: int) -> None:
    disk.count += count
    it.wrote()


def test_now_and_then() -> None:
    disk = Disk()
    it, clock = saver(disk)
    wrote(disk, it, 1)
    wrote(disk, it, 1)
    clock.advance(INTERVAL)
    assert len(disk.waiting) == 1
    wrote(disk, it, 5)
    clock.advance(10 * INTERVAL)
    assert len(disk.waiting) == 1, "one at a time"
    disk.waiting[0].callback(None)
    assert disk.counts == [2]
    clock.advance(10 * INTERVAL)
    assert len(disk.waiting) == 1, "nothing is new"
    wrote(disk, it, 1)
    clock.advance(INTERVAL)
    disk.waiting[1].callback(None)
    assert disk.counts == [2, 8]


def test_at_the_end() -> None:
    disk = Disk()
    it, clock = saver(disk)
    wrote(disk, it, 3)
    settled = Deferred.fromCoroutine(it.settle())
    assert not clock.calls
    disk.waiting[0].callback(None)
    assert settled.called
    assert disk.counts == [3]


def test_at_the_end_while_one_is_saved() -> None:
    disk = Disk()
    it, clock = saver(disk)
    wrote(disk, it, 3)
    clock.advance(INTERVAL)
    wrote(disk, it, 3)
    settled = Deferred.fromCoroutine(it.settle())
    assert len(disk.waiting) == 1
    disk.waiting[0].callback(None)
    assert not settled.called
    disk.waiting[1].callback(None)
    assert settled.called
    assert disk.counts == [3, 6]


def test_what_is_saved_already_is_not_again() -> None:
    disk = Disk()
    it, clock = saver(disk)
    wrote(disk, it, 3)
    clock.advance(INTERVAL)
    disk.waiting[0].callback(None)
    assert Deferred.fromCoroutine(it.settle()).called
    assert disk.counts == [3]


def test_a_full_disk_is_told() -> None:
    disk = Disk()
    it, clock = saver(disk)
    wrote(disk, it, 3)
    clock.advance(INTERVAL)
    disk.waiting[0].errback(OSError(28, "No space left on device"))
    with pytest.raises(OSError, match="No space"):
        it.wrote()


@pytest.mark.parametrize("times", [1, 2])
def test_who_is_interrupted_saves_nevertheless(times: int) -> None:
    """A thread goes on anyhow; nothing ends before it does, and what is there then is saved."""
    disk = Disk()
    it, clock = saver(disk)
    wrote(disk, it, 3)
    clock.advance(INTERVAL)
    wrote(disk, it, 3)
    results: list[Any] = []
    settled = Deferred.fromCoroutine(it.settle())
    settled.addBoth(results.append)
    for _ in range(times):
        settled.cancel()
    assert not results
    disk.waiting[0].callback(None)
    assert not results
    disk.waiting[1].callback(None)
    assert disk.counts == [3, 6]
    assert results[0].check(CancelledError)
