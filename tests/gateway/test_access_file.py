"""The access log in a file of its own: rotated, full, without a reader, and never in anybody's way."""

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, formatEvent

from tests.gateway.house import GATEWAY_PORT, TOKEN, House, logged
from tests.nodes import needs_proc
from tests.scripted import Stored
from txcouchdl.gateway.access_file import AccessFile
from txcouchdl.gateway.site import GatewaySite


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.advance(1_000_000)
    return clock


@contextmanager
def opened(path: Path | str, clock: Clock, write: Callable[[int, bytes], int] = os.write) -> Iterator[AccessFile]:
    file = AccessFile(str(path), clock, write)
    file.open()
    try:
        yield file
    finally:
        file.close()


@pytest.fixture
def file(path: Path, clock: Clock) -> Iterator[AccessFile]:
    with opened(path, clock) as file:
        yield file


@pytest.fixture
def told() -> Iterator[list[LogEvent]]:
    with logged() as events:
        yield events


def sayings(told: list[LogEvent]) -> list[tuple[LogLevel, str]]:
    return [(event["log_level"], formatEvent(event)) for event in told]


class Disk:
    """
    Has room for so many bytes, and takes at most so many at once.

    :ivar room: ``None`` where there is room for all.
    """

    def __init__(self, room: int | None = None, gulp: int = 2**20) -> None:
        self.room, self.gulp = room, gulp
        self.writes: list[bytes] = []

    def write(self, descriptor: int, data: bytes) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = data[: self.gulp][: self.room]
        if self.room is not None:
            self.room -= len(taken)
        self.writes.append(taken)
        return os.write(descriptor, taken)


# Lines.


def test_lines_in_their_order_behind_what_there_was(path: Path, clock: Clock) -> None:
    path.write_text("before\n")
    with opened(path, clock) as file:
        for line in ("one", "two"):
            file.write_line(line)
        # At once: nothing is kept back for later.
        assert path.read_text() == "before\none\ntwo\n"


def test_a_line_is_one_write(path: Path, clock: Clock) -> None:
    """Else those of several processes would mix."""
    disk = Disk()
    with opened(path, clock, disk.write) as file:
        file.write_line("one")
    assert disk.writes == [b"one\n"]


def test_two_processes_one_file(file: AccessFile, path: Path, clock: Clock) -> None:
    """Neither writes where the other has written."""
    with opened(path, clock) as other:
        for number in range(4):
            (file, other)[number % 2].write_line(f"line {number}")
    assert path.read_text() == "".join(f"line {number}\n" for number in range(4))


def test_who_may_read_it(path: Path, clock: Clock) -> None:
    before = os.umask(0)
    try:
        with opened(path, clock):
            assert stat.S_IMODE(path.stat().st_mode) == 0o640
    finally:
        os.umask(before)


def test_no_secret_is_in_the_file(file: AccessFile, path: Path) -> None:
    house = House({"f": Stored(b"bytes")})
    house.site = GatewaySite(house.gateway.app.resource(), house.network, house.connections, file.write_line)
    house.network.listen(GATEWAY_PORT, house.site)
    with logged() as events:
        house.get("f", Referer=f"http://h/?token={TOKEN}", Authorization=f"Bearer {TOKEN}")
        house.ask(f"http://me:{TOKEN}@h/db/doc/f?t%6Fken={TOKEN}&rev=1-a")
        house.ask(f"/{'x' * 40_000}?token={TOKEN}")
    lines = path.read_text().splitlines()
    assert [line.split('"')[1] for line in lines] == [
        "GET /db/doc/f?token=*** HTTP/1.1",
        "GET http://h/db/doc/f?t%6Fken=***&rev=1-a HTTP/1.1",
        "-",
    ]
    assert TOKEN not in "".join(lines)
    assert not [event for event in events if event["log_namespace"] == "txcouchdl.access"], "in one place"


# Rotation.


def test_a_file_that_is_moved(file: AccessFile, path: Path, clock: Clock) -> None:
    """Whether or not there is a new one; and it is looked for once a second at most."""
    file.write_line("one")
    for number, create in enumerate((False, True)):
        moved = path.rename(path.with_suffix(f".{number}"))
        if create:
            path.touch()
        file.write_line("late")
        assert moved.read_text() == ("one\nlate\n", "new\nlate\n")[number]
        clock.advance(1)
        file.write_line("new")
        assert path.read_text() == "new\n"
        assert moved.read_text().endswith("\nlate\n")


def test_a_look_a_second(file: AccessFile, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[object] = []
    look = os.stat

    def count(path: Any, *more: Any, **options: Any) -> os.stat_result:
        looks.append(path)
        return look(path, *more, **options)

    with monkeypatch.context() as context:
        context.setattr(os, "stat", count)
        for seconds in (0, 0, 0.5, 0.4999):
            clock.advance(seconds)
            file.write_line("line")
        assert looks == [str(path)]
        clock.advance(0.001)
        file.write_line("line")
        assert looks == [str(path)] * 2


def test_a_clock_that_is_set_back(file: AccessFile, path: Path, clock: Clock) -> None:
    file.write_line("one")
    clock.rightNow -= 1000
    path.unlink()
    file.write_line("two")
    assert path.read_text() == "two\n"


def test_a_file_that_is_copied_and_cut(file: AccessFile, path: Path, clock: Clock) -> None:
    file.write_line("one")
    os.truncate(path, 0)
    file.write_line("two")
    assert path.read_bytes() == b"two\n"
    clock.advance(1)
    file.write_line("three")
    assert path.read_bytes() == b"two\nthree\n"


@needs_proc
def test_rotation_leaves_nothing_open(file: AccessFile, path: Path, clock: Clock) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        path.unlink()
        clock.advance(1)
        file.write_line("line")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_new_file_that_cannot_be_opened(file: AccessFile, path: Path, clock: Clock, told: list[LogEvent]) -> None:
    """Lines go to the old one until it can."""
    moved = path.rename(path.with_suffix(".1"))
    path.mkdir()
    for _ in range(3):
        clock.advance(1)
        file.write_line("late")
    assert moved.read_text() == "late\n" * 3
    path.rmdir()
    clock.advance(1)
    file.write_line("new")
    assert path.read_text() == "new\n"
    assert sayings(told) == [
        (LogLevel.critical, f"the access log '{path}' cannot be written: Is a directory"),
        (LogLevel.warn, f"the access log '{path}' is written again, 0 lines are lost"),
    ]


def test_who_does_not_open_it_has_it_opened_by_the_first_line(path: Path, clock: Clock, told: list[LogEvent]) -> None:
    """As workers do: one that cannot loses lines, and no client."""
    file = AccessFile(str(path), clock)
    path.mkdir()
    for _ in range(3):
        file.write_line("lost")
    path.rmdir()
    file.write_line("lost")
    clock.advance(1)
    file.write_line("one")
    file.close()
    assert path.read_text() == "one\n"
    assert [saying for _, saying in sayings(told)] == [
        f"the access log '{path}' cannot be written: Is a directory",
        f"the access log '{path}' is written again, 4 lines are lost",
    ]


# What cannot be written.


def test_a_full_disk(path: Path, clock: Clock, told: list[LogEvent]) -> None:
    """It is told once when that begins, once when it is over, and in between lines are counted."""
    disk = Disk()
    with opened(path, clock, disk.write) as file:
        for room in (0, None) * 2:
            disk.room = room
            for _ in range(3):
                clock.advance(0.5)
                file.write_line("line")
    assert path.read_text() == "line\n" * 6
    full = (LogLevel.critical, f"the access log '{path}' cannot be written: No space left on device")
    over = (LogLevel.warn, f"the access log '{path}' is written again, 3 lines are lost")
    assert sayings(told) == [full, over, full, over]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_what_is_lost_when_it_ends(clock: Clock, told: list[LogEvent]) -> None:
    with opened("/dev/full", clock) as file:
        file.write_line("one")
        file.write_line("two")
    assert [saying for _, saying in sayings(told)] == [
        "the access log '/dev/full' cannot be written: No space left on device",
        "the access log '/dev/full' is closed, 2 lines are lost",
    ]


@pytest.mark.parametrize("gulp", range(1, 6))
def test_a_line_that_is_taken_in_pieces(gulp: int, path: Path, clock: Clock, told: list[LogEvent]) -> None:
    with opened(path, clock, Disk(gulp=gulp).write) as file:
        file.write_line("one")
        file.write_line("two")
    assert path.read_text() == "one\ntwo\n"
    assert told == []


@pytest.mark.parametrize("room", range(5))
@pytest.mark.parametrize("again", range(7))
def test_half_a_line_is_no_part_of_another(room: int, again: int, path: Path, clock: Clock) -> None:
    """Wherever it was cut, and where the line behind it is."""
    disk = Disk(room)
    with opened(path, clock, disk.write) as file:
        file.write_line("one")
        disk.room = again
        file.write_line("two")
        disk.room = None
        file.write_line("three")
        file.write_line("four")
    *lines, last = path.read_text().split("\n")
    assert last == ""
    assert lines[-2:] == ["three", "four"]
    halves = iter(lines[:-2])
    assert all(any(whole.startswith(half) for whole in ("one", "two")) and half for half in halves), lines


def test_half_a_line_stays_with_the_file_that_it_is_in(path: Path, clock: Clock) -> None:
    disk = Disk(2)
    with opened(path, clock, disk.write) as file:
        file.write_line("one")
        moved = path.rename(path.with_suffix(".1"))
        disk.room = None
        clock.advance(1)
        file.write_line("two")
    assert (moved.read_text(), path.read_text()) == ("on", "two\n")


def test_what_takes_nothing_and_says_nothing(path: Path, clock: Clock, told: list[LogEvent]) -> None:
    with opened(path, clock, lambda _descriptor, _data: 0) as file:
        file.write_line("one")
    assert len(told) == 2


def test_a_pipe_that_is_full_or_broken(path: Path, clock: Clock, told: list[LogEvent]) -> None:
    """Nobody waits for its reader."""
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with opened(path, clock) as file:
        line = "x" * 999
        for _ in range(2 * 2**20 // 1000):
            file.write_line(line)
        read = _all_of(reader)
        file.write_line("behind")
        assert _all_of(reader) == b"behind\n"
        os.close(reader)
        file.write_line("to nobody")
    assert set(read.removesuffix(b"\n").split(b"\n")) == {line.encode()}
    full, over, broken, closed = [saying for _, saying in sayings(told)]
    assert full.endswith("Resource temporarily unavailable")
    assert f"is written again, {2 * 2**20 // 1000 - len(read) // 1000} lines are lost" in over
    assert broken.endswith("Broken pipe")
    assert closed.endswith("is closed, 1 lines are lost")


def _all_of(reader: int) -> bytes:
    """What is in a pipe, of which somebody has the other end."""
    found = bytearray()
    try:
        while data := os.read(reader, 2**16):
            found += data
    except BlockingIOError:
        pass
    return bytes(found)


# The beginning and the end.


def test_what_cannot_be_opened(path: Path, clock: Clock) -> None:
    with pytest.raises(NotADirectoryError):
        AccessFile(f"{__file__}/access.log", clock).open()
    os.mkfifo(path)
    with pytest.raises(OSError, match="No such device"):
        # Nobody reads it; whoever waited for somebody would never start.
        AccessFile(str(path), clock).open()


@needs_proc
def test_a_file_that_is_closed(path: Path, clock: Clock) -> None:
    before = os.listdir("/proc/self/fd")
    file = AccessFile(str(path), clock)
    file.open()
    file.write_line("one")
    file.close()
    clock.advance(1)
    file.write_line("two")
    file.close()
    assert os.listdir("/proc/self/fd") == before
    assert path.read_text() == "one\n"


def test_no_other_program_gets_it(path: Path, clock: Clock) -> None:
    with opened(path, clock) as file:
        assert file._descriptor is not None
        assert not os.get_inheritable(file._descriptor)


# Standard output.


@contextmanager
def output(end: int | None = None) -> Iterator[int]:
    """
    Standard output meanwhile, whatever pytest has made of it.

    :param end: what it is to be; else a pipe that waits for its reader, as others have it.
    :return: the pipe's reading end.
    """
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    kept = os.dup(1)
    os.dup2(writer if end is None else end, 1)
    os.close(writer)
    try:
        yield reader
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(reader)


def test_standard_output(clock: Clock, told: list[LogEvent]) -> None:
    with output() as reader, opened("-", clock) as file:
        for line in ("one", "x" * 10_000, "two"):
            file.write_line(line)
            clock.advance(1)
        file.close()
        read, is_as_it_was = _all_of(reader), os.get_blocking(1)
    assert read == b"one\n" + b"x" * 10_000 + b"\ntwo\n"
    assert is_as_it_was
    assert told == []


def test_standard_output_that_nobody_reads(clock: Clock, told: list[LogEvent]) -> None:
    """Nobody waits for whoever should, nor with a line for which there is too little room."""
    count = 2 * 2**20 // 10_000
    with output() as reader, opened("-", clock) as file:
        for _ in range(count):
            file.write_line("x" * 9_999)
        read = _all_of(reader)
        clock.advance(1)
        file.write_line("one")
        behind = _all_of(reader)
    assert (read + behind).endswith(b"x\none\n")
    lost = count - read.count(b"\n")
    assert lost > 0
    assert sayings(told)[1] == (LogLevel.warn, f"the access log '-' is written again, {lost} lines are lost")


def test_standard_output_that_is_a_file(path: Path, clock: Clock) -> None:
    """Others write there too, each behind the other; and nobody takes it for a file that is rotated."""
    with path.open("wb", buffering=0) as redirected, output(redirected.fileno()), opened("-", clock) as file:
        file.write_line("one")
        redirected.write(b"two\n")
        clock.advance(1)
        file.write_line("three")
    assert path.read_text() == "one\ntwo\nthree\n"


def test_no_standard_output(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "__stdout__", None)
    with pytest.raises(OSError, match="there is none"):
        AccessFile("-", clock).open()
