"""
The access log's lines in a file of their own.

Each line is one ``write`` to a file that is open for appending: several processes may write to the same one, and their
lines stay whole. Nothing waits in here for a disk or for a reader.

Whoever rotates the file need not tell us. Where it is moved away, we see, with the next line and at most once a second,
that its name is another file's or nobody's, and open that name anew; where it is copied and cut, we go on at its new
end. We rotate it ourselves if a size is given for that.

What cannot be written is lost, and counted: the log never costs a client its answer. A line of which only a part fits
is ended before the next one begins.
"""

import errno
import os
import select
import stat
import sys
from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from txcouchdl.gateway.rotation import Rotation, identity, rotate

#: Instead of a path: standard output.
STANDARD_OUTPUT: Final = "-"

#: Seconds between two looks at whether the file is still the one of that name.
_BETWEEN_LOOKS: Final = 1.0
# A FIFO is to be full rather than to have us wait, and a terminal is not to be ours.
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY
_MODE: Final = 0o640

#: As :func:`os.write`: returns how many of the bytes it has taken.
Write = Callable[[int, bytes], int]

_log = Logger()


class AccessFile:
    """
    Opened by :meth:`open`, or else by its first line.

    :ivar path: of the file, or :data:`STANDARD_OUTPUT`, which nobody can rotate.
    :param write: what lines go to a file by.
    :param rotation: when the file is rotated; ``None`` to leave that to other programs.
    """

    def __init__(
        self, path: str, clock: IReactorTime, write: Write = os.write, rotation: Rotation | None = None
    ) -> None:
        self.path = path
        self._clock = clock
        self._rotation = rotation
        self._write = write
        self._descriptor: int | None = None
        self._file: tuple[int, int] | None = None
        self._looked_at = float("-inf")
        self._is_torn = self._is_left_behind = self._is_failing = self._is_stuck = self._is_closed = False
        self._lost = 0

    def open(self) -> None:
        """:raises OSError: if that cannot be. Lines go to where they went before, if anywhere."""
        if self.path == STANDARD_OUTPUT:
            descriptor = _standard_output()
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                self._write = _without_waiting(descriptor)
        else:
            descriptor = os.open(self.path, _FLAGS, _MODE)
        self._let_go()
        self._descriptor, self._file = descriptor, identity(os.fstat(descriptor))
        self._is_torn = False

    def reopen(self) -> None:
        """Open the file by its name at once. If that fails, lines go to where they went before."""
        if not self._is_closed and self.path != STANDARD_OUTPUT:
            self._attempt(self.open)

    def write_line(self, line: str) -> None:
        """
        Write a line, or lose it.

        :param line: without its end.
        """
        if self._is_closed:
            return
        now = self._clock.seconds()
        # Clocks are set back, too.
        if not 0 <= now - self._looked_at < _BETWEEN_LOOKS:
            self._looked_at = now
            self._look()
        if self._descriptor is None:
            self._lost += 1
            return
        try:
            self._put(self._descriptor, f"{line}\n".encode())
        except OSError as error:
            self._lost += 1
            self._fail(error)
        else:
            if self._is_failing and not self._is_left_behind:
                self._recover()

    def close(self) -> None:
        """Let go of the file. Lines that still come are dropped."""
        self._is_closed = True
        self._let_go()
        if self._is_failing:
            self._recover("is closed")

    def _look(self) -> None:
        """See to it that the file is the one of that name."""
        self._attempt(self._keep_current)

    def _keep_current(self) -> None:
        if self._descriptor is None:
            self.open()
        elif self.path != STANDARD_OUTPUT:
            size = self._size()
            if size is not None and self._rotation is not None and size >= self._rotation.size:
                self._rotate(self._descriptor, self._rotation.keep)
                size = self._size()
            if size is None:
                self.open()

    def _attempt(self, action: Callable[[], object]) -> None:
        try:
            action()
            self._is_left_behind = False
        except OSError as error:
            # What there is of a file goes on: it has been moved, not lost.
            self._is_left_behind = True
            self._fail(error)

    def _size(self) -> int | None:
        """How long the file is; ``None`` if its name is another file's, or no file's."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return None
        return found.st_size if identity(found) == self._file else None

    def _rotate(self, descriptor: int, keep: int) -> None:
        try:
            rotate(descriptor, self.path, keep)
            self._is_stuck = False
        except OSError as error:
            # It goes on to grow: lines are worth more than the limit.
            if not self._is_stuck:
                self._is_stuck = True
                _log.error("the access log {path!r} cannot be rotated: {why}", path=self.path, why=error.strerror)

    def _put(self, descriptor: int, line: bytes) -> None:
        if self._is_torn:
            self._put_all(descriptor, b"\n")
        self._put_all(descriptor, line)

    def _put_all(self, descriptor: int, data: bytes) -> None:
        while data:
            # It takes all, unless there is little room left.
            written = self._write(descriptor, data)
            if not written:
                raise BlockingIOError(errno.EAGAIN, "it takes nothing")
            data = data[written:]
            self._is_torn = bool(data)

    def _fail(self, error: OSError) -> None:
        if not self._is_failing:
            self._is_failing = True
            _log.critical("the access log {path!r} cannot be written: {why}", path=self.path, why=error.strerror)

    def _recover(self, how: str = "is written again") -> None:
        lost, self._lost, self._is_failing = self._lost, 0, False
        _log.warn("the access log {path!r} {how}, {lost} lines are lost", path=self.path, how=how, lost=lost)

    def _let_go(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _standard_output() -> int:
    # Where there was none at the start, its number is somebody else's by now.
    if sys.__stdout__ is None:
        raise OSError(errno.EBADF, "there is none")
    return os.dup(1)


def _without_waiting(descriptor: int) -> Write:
    """
    Writes to a pipe or a socket that others have too: whether writing waits is one setting for all of them, and not
    ours to change. Where there is room at all, there is room for so few bytes.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)

    def write(descriptor: int, data: bytes) -> int:
        if not poll.poll(0):
            raise BlockingIOError(errno.EAGAIN, "nobody reads it")
        return os.write(descriptor, data[: select.PIPE_BUF])

    return write
