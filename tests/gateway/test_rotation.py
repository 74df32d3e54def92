"""The access log's file, rotated by its size by those who write to it."""

import fcntl
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogLevel, formatEvent

from tests.gateway.house import logged
from tests.nodes import needs_proc
from tests.test_workers import open_files
from txcouchdl.gateway.access_file import AccessFile
from txcouchdl.gateway.rotation import Rotation, rotate

#: Bytes of one line, its end included.
LINE = 10


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@contextmanager
def opened(path: Path, clock: Clock, size: int = 3 * LINE, keep: int = 3) -> Iterator[AccessFile]:
    file = AccessFile(str(path), clock, rotation=Rotation(size, keep))
    file.open()
    try:
        yield file
    finally:
        file.close()


def write(file: AccessFile, clock: Clock, *numbers: int) -> None:
    """A line each second."""
    for number in numbers:
        clock.advance(1)
        file.write_line(f"{number:0{LINE - 1}}")


def numbers(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().splitlines()]


def rotated(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def test_files_are_rotated_and_so_many_kept(path: Path) -> None:
    clock = Clock()
    with opened(path, clock) as file:
        write(file, clock, *range(3))
        assert not rotated(path, 1).exists(), "it has its size, and is rotated when more is to come"
        write(file, clock, *range(3, 14))
        assert numbers(path) == [12, 13]
        assert [numbers(rotated(path, each)) for each in (1, 2, 3)] == [[9, 10, 11], [6, 7, 8], [3, 4, 5]]
        assert not rotated(path, 4).exists()


def test_a_file_that_is_too_large_at_the_start(path: Path) -> None:
    path.write_bytes(b"1" * 3 * LINE + b"\n")
    clock = Clock()
    with opened(path, clock) as file:
        write(file, clock, 5)
    assert (numbers(path), rotated(path, 1).stat().st_size) == ([5], 3 * LINE + 1)


def test_files_that_are_not_there_leave_no_gap_behind(path: Path) -> None:
    path.write_text("1\n")
    rotated(path, 2).write_text("2\n")
    with path.open() as file:
        rotate(file.fileno(), str(path), 3)
    assert {each.name: each.read_text() for each in path.parent.iterdir()} == {
        "access.log.1": "1\n",
        "access.log.3": "2\n",
    }


def test_a_name_that_is_another_file_by_now(path: Path) -> None:
    """Somebody has rotated it: what they have put there is not ours to move."""
    path.write_text("ours\n")
    with path.open() as file:
        path.rename(rotated(path, 1))
        rotate(file.fileno(), str(path), 3)
        path.write_text("theirs\n")
        rotate(file.fileno(), str(path), 3)
    assert (path.read_text(), rotated(path, 1).read_text()) == ("theirs\n", "ours\n")
    assert not rotated(path, 2).exists()


def test_who_comes_while_it_is_rotated_goes_on(path: Path) -> None:
    path.write_text("1\n")
    with path.open() as busy, path.open() as file:
        fcntl.flock(busy, fcntl.LOCK_EX)
        rotate(file.fileno(), str(path), 3)
        assert path.exists()
        fcntl.flock(busy, fcntl.LOCK_UN)
        rotate(file.fileno(), str(path), 3)
        assert not path.exists()
        # The lock does not outlive the rotation.
        fcntl.flock(busy, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_link_to_the_file_stays_one(path: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    path.symlink_to(tmp_path / "there" / "file.log")
    clock = Clock()
    with opened(path, clock) as file:
        write(file, clock, *range(5))
    assert path.is_symlink()
    assert numbers(path) == [3, 4]
    assert numbers(tmp_path / "there" / "file.log.1") == [0, 1, 2]


def test_a_file_that_cannot_be_rotated_grows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is lost, and the log tells it once."""
    clock = Clock()
    replace = os.replace

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with opened(path, clock) as file, logged() as events:
        monkeypatch.setattr(os, "replace", refuse)
        write(file, clock, *range(7))
        monkeypatch.setattr(os, "replace", replace)
        write(file, clock, 7)
        assert (numbers(path), numbers(rotated(path, 1))) == ([7], list(range(7)))
        sentence = f"the access log {str(path)!r} cannot be rotated: Permission denied"
        assert [(each["log_level"], formatEvent(each)) for each in events] == [(LogLevel.error, sentence)]


@needs_proc
def test_rotation_leaves_nothing_open(path: Path) -> None:
    clock = Clock()
    with opened(path, clock) as file:
        write(file, clock, *range(20))
        assert [each for each in open_files(os.getpid()) if path.name in each] == [str(path)]


def _write_many(path: str, first: int, count: int) -> None:
    clock = Clock()
    with opened(Path(path), clock, size=50 * LINE, keep=1000) as file:
        write(file, clock, *range(first, first + count))


def test_many_processes_lose_no_line(path: Path) -> None:
    """All rotate whenever they can. No line is lost or torn, and no file is rotated before it has its size."""
    context = multiprocessing.get_context("fork")
    count = 3000
    processes = [context.Process(target=_write_many, args=(str(path), each * count, count)) for each in range(4)]
    for each in processes:
        each.start()
    for each in processes:
        each.join(60)
        assert each.exitcode == 0
    older = [each for each in path.parent.iterdir() if each != path]
    assert len(older) > 20
    assert all(each.stat().st_size >= 50 * LINE for each in older)
    assert sorted(number for each in path.parent.iterdir() for number in numbers(each)) == list(range(4 * count))
