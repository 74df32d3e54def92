"""
Rotating a file by its size, while several processes append to it.

``FILE`` becomes ``FILE.1``, that ``FILE.2`` and so on. One process rotates, with a lock on the file that it moves; the
others see that the name is not their file's any more.
"""

import fcntl
import os
from contextlib import suppress

from attrs import frozen


@frozen
class Rotation:
    """
    :ivar size: bytes at which a file is rotated.
    :ivar keep: how many rotated files are kept, at least one.
    """

    size: int
    keep: int


def rotate(descriptor: int, path: str, keep: int) -> None:
    """
    Move a file away, unless another process has done that or is about to.

    :param descriptor: of the file, open.
    :param path: its name, under which there is no file afterwards, or another one.
    :param keep: how many rotated files are kept.
    :raises OSError: if that fails. No file is lost then.
    """
    path = os.path.realpath(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    try:
        if identity(os.stat(path)) == identity(os.fstat(descriptor)):
            _shift(path, keep)
    except FileNotFoundError:
        # It has been moved away.
        return
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _shift(path: str, keep: int) -> None:
    for number in range(keep, 1, -1):
        with suppress(FileNotFoundError):
            os.replace(f"{path}.{number - 1}", f"{path}.{number}")
    os.replace(path, f"{path}.1")


def identity(found: os.stat_result) -> tuple[int, int]:
    """What a file remains when it is renamed."""
    return found.st_dev, found.st_ino
