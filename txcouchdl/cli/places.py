"""
Where files are put: a directory that is held open, and a name in it.

Whoever holds a directory open cannot be led elsewhere by a symbolic link that takes its place, or that of one of
those above it.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from attrs import field, frozen

from txcouchdl.cli.names import name_key
from txcouchdl.cli.names import shown as safely
from txcouchdl.cli.outcomes import LocalTrouble, local_trouble

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@frozen
class Place:
    """
    Where one file is to be.

    :ivar directory: a descriptor, which somebody else closes.
    :ivar shown: all of its path, as it may be shown.
    """

    directory: int = field(repr=False)
    name: str
    shown: str

    def open(self) -> tuple[int, int]:
        """
        The file that is there.

        :return: a descriptor, to be closed by who has it, and its length.
        :raises OSError: if it cannot be read.
        :raises LocalTrouble: if it is no file.
        """
        file = os.open(self.name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.directory)
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            os.close(file)
            raise LocalTrouble(f"{self.shown}: is there already, and is no file")
        return file, found.st_size

    @property
    def key(self) -> tuple[int, int, str]:
        """
        What is the same for two places that may be one.

        :raises OSError: if the directory cannot be looked at.
        """
        found = os.fstat(self.directory)
        return found.st_dev, found.st_ino, name_key(self.name)

    def settle(self) -> None:
        """
        Make names durable that were given or taken in the directory.

        :raises OSError: if that cannot be said.
        """
        os.fsync(self.directory)


@contextmanager
def place(file: Path) -> Iterator[Place]:
    """
    A place that the user chose.

    :raises LocalTrouble: if its directory cannot be opened.
    """
    with directory(file.parent) as descriptor:
        yield Place(descriptor, file.name, safely(str(file)))


@contextmanager
def directory(path: Path) -> Iterator[int]:
    """
    A directory of the user's choice, held open; links to it are followed.

    :raises LocalTrouble: if it cannot be opened.
    """
    try:
        descriptor = os.open(path, _DIRECTORY)
    except OSError as error:
        raise local_trouble(safely(str(path)), error) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def place_inside(root: int, segments: Sequence[str], shown: str) -> Iterator[Place]:
    """
    A place that others chose: below a directory, whatever is there already. Directories that are missing are made;
    links are not followed.

    :param root: a descriptor of the directory.
    :param segments: safe names, the file's last.
    :param shown: the directory, as it may be shown.
    :raises LocalTrouble: if there is anything in the way.
    """
    descriptor = os.dup(root)
    try:
        for segment in segments[:-1]:
            shown = f"{shown}/{segment}"
            descriptor = _step(descriptor, segment, shown)
        yield Place(descriptor, segments[-1], f"{shown}/{segments[-1]}")
    finally:
        os.close(descriptor)


def _step(descriptor: int, segment: str, shown: str) -> int:
    """:return: a descriptor of the directory below, in place of the one above it."""
    try:
        if not _is_there(descriptor, segment):
            os.mkdir(segment, dir_fd=descriptor)
        below = os.open(segment, _DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
    except NotADirectoryError:
        raise LocalTrouble(f"{shown}: is in the way") from None
    except OSError as error:
        raise local_trouble(shown, error) from None
    os.close(descriptor)
    return below


def _is_there(descriptor: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
