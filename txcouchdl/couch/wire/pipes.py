"""
Bytes from socket to socket past this process, with splice(2) and tee(2): they move as references to pages, through a
pipe in the kernel.
"""

import ctypes
import fcntl
import os
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from txcouchdl.couch.wire.lowwater import LowWater

#: Bytes of a pipe. The more go at once, the less each costs: with 1 MiB a third of what it does with 64 KiB (measured).
PIPE_SIZE: Final = 2**20
#: Pipes that are kept for whoever needs one next.
_SPARE_PIPES: Final = 16
#: Bytes that are hashed at once: so many stay in the processor's cache between their copying and their hashing.
_HASHED_AT_ONCE: Final = 128 * 2**10

_FLAGS: Final = 0x01 | 0x02  # SPLICE_F_MOVE | SPLICE_F_NONBLOCK

#: Takes the bytes that went by. It may keep none of them: their memory is used again.
Tap = Callable[[memoryview], object]


class Outlet(Protocol):
    """Where bytes leave past this process."""

    def fileno(self) -> int: ...


class Conduit(Protocol):
    """
    The rest of a body, through a pipe.

    :ivar missing: bytes of the body that have not been read yet, and :ivar inside: that are in the pipe.
    """

    missing: int
    inside: int

    def put(self, data: bytes) -> None:
        """Fill in some bytes that are known already."""

    def fill(self) -> int:
        """
        Move what has come into the pipe.

        :return: how many bytes. None means the end of the connection.
        :raises BlockingIOError: if nothing has come.
        :raises OSError: if the connection is broken.
        """

    def drain(self, outlet: Any, most: int, tap: Tap | None) -> int:
        """
        Move the first bytes in the pipe to an outlet.

        :param tap: is shown those that went.
        :return: how many bytes; fewer than asked for if there is no room for more.
        :raises BlockingIOError: if there is room for none.
        :raises OSError: if the outlet is broken.
        """

    def take(self) -> bytes:
        """All that is in the pipe."""

    def watch(self) -> None:
        """Wake when there is something to fill it with."""

    def rest(self) -> None:
        """Do not."""

    def close(self) -> None:
        """Let go of everything. Twice is once."""


class Pipe:
    """
    A pipe of the kernel's.

    :ivar reading: the end to read from, a file descriptor; :ivar writing: the other.
    :ivar size: bytes that it has room for, at the most.
    """

    _spare: Final[list["Pipe"]] = []

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self.size = fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        except OSError:
            # A user may have so many pages in pipes, and has them.
            self.size = fcntl.fcntl(self.writing, fcntl.F_GETPIPE_SZ)

    @classmethod
    def get(cls) -> "Pipe":
        """One that is empty. To be given back."""
        return cls._spare.pop() if cls._spare else cls()

    def give_back(self, *, is_empty: bool) -> None:
        if is_empty and len(self._spare) < _SPARE_PIPES:
            self._spare.append(self)
        else:
            os.close(self.reading)
            os.close(self.writing)


@implementer(IReadDescriptor)
class SocketConduit:
    """
    See :class:`Conduit`. While it is open the socket is its own: the transport does not read it.

    :param plain: a socket without TLS.
    :param reactor: an IReactorFDSet.
    """

    def __init__(self, plain: Any, reactor: Any, low_water: LowWater, missing: int, wake: Callable[[], object]) -> None:
        self._socket = plain
        self._reactor = reactor
        self._low_water = low_water
        self._wake = wake
        self._pipe = Pipe.get()
        self._is_watching = False
        self._is_woken = False
        self._is_closed = False
        self.missing = missing
        self.inside = 0

    def put(self, data: bytes) -> None:
        self.inside += os.write(self._pipe.writing, data)

    def fill(self) -> int:
        try:
            return self._fill()
        except BlockingIOError:
            if not self.inside or not self._is_woken:
                raise
        # Something has come, but a few bytes may take all places of the pipe, if they came one by one.
        self.put(self.take())
        return self._fill()

    def _fill(self) -> int:
        most = min(self.missing, self._pipe.size - self.inside)
        filled = os.splice(self._socket.fileno(), self._pipe.writing, most, flags=_FLAGS)
        self.inside += filled
        self.missing -= filled
        return filled

    def drain(self, outlet: Outlet, most: int, tap: Tap | None) -> int:
        if tap is None:
            drained = os.splice(self._pipe.reading, outlet.fileno(), most, flags=_FLAGS)
        else:
            drained = _drain_tapped(self._pipe, outlet.fileno(), most, tap)
        self.inside -= drained
        return drained

    def take(self) -> bytes:
        taken = b""
        while self.inside:
            data = os.read(self._pipe.reading, self.inside)
            self.inside -= len(data)
            taken += data
        return taken

    def watch(self) -> None:
        if not self._is_watching:
            self._is_watching = True
            self._reactor.addReader(self)
        self._low_water.expect(self.missing)

    def rest(self) -> None:
        if self._is_watching:
            self._is_watching = False
            self._reactor.removeReader(self)
            self._low_water.rest()

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self.rest()
        self._pipe.give_back(is_empty=not self.inside)

    # IReadDescriptor

    def fileno(self) -> int:
        return cast(int, self._socket.fileno())

    def logPrefix(self) -> str:
        return type(self).__name__

    def doRead(self) -> None:
        self._is_woken = True
        try:
            self._wake()
        finally:
            self._is_woken = False

    def connectionLost(self, reason: Failure = Failure(ConnectionLost())) -> None:  # noqa: B008
        # The reactor has seen the end before us. What is there can still be read.
        self._is_watching = False
        self._wake()


# Tapping.

_Tee = Callable[[int, int, int, int], int]


def can_tap() -> bool:
    """Whether the system has tee(2), and there is a pipe for the doubles."""
    return _tee is not None and _double() is not None


def _find_tee() -> _Tee | None:
    """Python has no name for it."""
    try:
        tee = ctypes.CDLL(None, use_errno=True).tee
    except (OSError, AttributeError):
        return None
    tee.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint]
    tee.restype = ctypes.c_ssize_t
    return cast(_Tee, tee)


_tee: Final = _find_tee()

_buffer: Final = memoryview(bytearray(_HASHED_AT_ONCE))


class _Double(Pipe):
    """A pipe for doubles, and what empties it. It is empty whenever nobody taps: one is enough for all."""

    def __init__(self) -> None:
        self._sink = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            super().__init__()
        except OSError:
            os.close(self._sink)
            raise

    def clear(self, count: int) -> None:
        """Let go of so many bytes: all that are there."""
        while count:
            count -= os.splice(self.reading, self._sink, count, flags=_FLAGS)


def _double() -> _Double | None:
    """``None`` if there are no descriptors for it."""
    if not _doubles:
        try:
            _doubles.append(_Double())
        except OSError:
            return None
    return _doubles[0]


def _drain_tapped(pipe: Pipe, outlet: int, most: int, tap: Tap) -> int:
    """
    Double what is there, let go what can, and look at as much of the double: it is the very pages that went.
    """
    double = _double()
    if double is None or _tee is None:
        raise BrokenPipeError
    doubled = shown = 0
    try:
        doubled = _doubled(_tee, pipe, double, most)
        drained = os.splice(pipe.reading, outlet, doubled, flags=_FLAGS)
        while shown < drained:
            read = os.readv(double.reading, [_buffer[: drained - shown]])
            shown += read
            tap(_buffer[:read])
    finally:
        double.clear(doubled - shown)
    return drained


_doubles: Final[list[_Double]] = []


def _doubled(tee: _Tee, pipe: Pipe, double: Pipe, most: int) -> int:
    doubled = tee(pipe.reading, double.writing, most, _FLAGS)
    if doubled < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return doubled
