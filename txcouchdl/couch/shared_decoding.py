"""
One pass over gzip for several listeners. Pure.

Each listener takes its bytes out of what is inflated for all. It may join a pass that is under way, as long as the pass
has not come to the listener's first byte.
"""

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final
from typing import Protocol as Interface

from txcouchdl.couch.cutting import Cutter
from txcouchdl.couch.decoding import Identity, Inflater
from txcouchdl.couch.errors import CorruptAttachment
from txcouchdl.protocol.ranges import MAX_LENGTH, ByteRange

#: The most bytes that are collected for one request: as many as of a short body that is stored as it is.
MOST_COLLECTED: Final = 128 * 2**10


class Listener(Interface):
    """
    Takes identity bytes of a pass.

    :ivar position: the first byte that it wants and does not have; behind all others once it is satisfied.
    :ivar is_satisfied: whether it wants no more bytes.
    """

    @property
    def position(self) -> int: ...

    @property
    def is_satisfied(self) -> bool: ...

    def take(self, begin: int, inflated: bytes) -> None:
        """
        Take what is wanted of the next bytes. Those before its position may be left out.

        :param begin: their position.
        """

    def end(self) -> None:
        """
        Take note that there are no more bytes.

        :raises CorruptAttachment: if there should be.
        """


class RangesListener:
    """
    Collects ranges.

    :param ranges: at least one, apart, in any order.
    """

    def __init__(self, ranges: Sequence[ByteRange]) -> None:
        self._order = ranges
        self._ascending = sorted(ranges, key=lambda each: each.first)
        self._cutter = Cutter(self._ascending)
        self._collected: list[bytes] = []

    @property
    def position(self) -> int:
        return self._cutter.next_wanted

    @property
    def is_satisfied(self) -> bool:
        return self._cutter.is_satisfied

    def take(self, begin: int, inflated: bytes) -> None:
        self._cutter.skip_to(begin)
        self._collected.append(self._cutter.cut(inflated))

    def end(self) -> None:
        raise CorruptAttachment("inflates to less than its length")

    def result(self) -> bytes:
        """The bytes of all ranges, in the order of the ranges. Once it is satisfied."""
        joined, begin = b"".join(self._collected), 0
        pieces: dict[ByteRange, bytes] = {}
        for each in self._ascending:
            pieces[each] = joined[begin : begin + each.length]
            begin += each.length
        return b"".join(pieces[each] for each in self._order)


class EndListener:
    """
    Waits for the end.

    :param most: bytes after which it does so no longer; ``None`` for no limit.
    :ivar is_satisfied: whether there were more.
    """

    def __init__(self, most: int | None) -> None:
        self.position: Final = MAX_LENGTH if most is None else most
        self.is_satisfied = False

    def take(self, begin: int, inflated: bytes) -> None:
        self.is_satisfied = True

    def end(self) -> None: ...


class SharedDecoder:
    """
    A :class:`~txcouchdl.couch.decoding.Decoder` that gives its bytes to listeners instead.

    The work grows with the bytes and with the ranges of all listeners, and no faster: who wants nothing of a step is
    not looked at.

    :param length: bytes of the identity representation, or ``None`` if not known.
    :param is_learning: whether the :class:`~txcouchdl.couch.decoding.Identity` is to be found out.
    :param satisfied: called with each listener as soon as it is.
    """

    has_gap_ahead = False

    def __init__(self, length: int | None, satisfied: Callable[[Listener], object], *, is_learning: bool) -> None:
        self._length = length
        self._satisfied = satisfied
        self._inflater = Inflater(is_learning)
        # A heap by position, and by number where that is the same.
        self._listeners: list[tuple[int, int, Listener]] = []
        self._numbers = count()

    @property
    def position(self) -> int:
        """The first byte that has not been inflated."""
        return self._inflater.produced

    def add(self, listener: Listener) -> None:
        """:param listener: whose position is not behind this one's."""
        heappush(self._listeners, (listener.position, next(self._numbers), listener))

    def remove(self, listener: Listener) -> None:
        """Give the listener nothing more."""
        self._listeners = [each for each in self._listeners if each[2] is not listener]
        heapify(self._listeners)

    @property
    def is_satisfied(self) -> bool:
        return not self._listeners

    @property
    def has_work(self) -> bool:
        return self._inflater.has_work

    def feed(self, stored: bytes) -> None:
        self._inflater.feed(stored)

    def read(self) -> bytes | None:
        begin = self.position
        inflated = self._inflater.read()
        if inflated is None:
            return None
        satisfied = []
        while self._listeners and self._listeners[0][0] < self.position:
            _, _, listener = heappop(self._listeners)
            listener.take(begin, inflated)
            if listener.is_satisfied:
                satisfied.append(listener)
            else:
                self.add(listener)
        for listener in satisfied:
            self._satisfied(listener)
        return b""

    def finish(self) -> bytes:
        self._inflater.finish()
        for _, _, listener in self._listeners:
            listener.end()
        return b""

    def identity(self) -> Identity | None:
        is_end = self._inflater.is_exhausted() and self._length in (None, self.position)
        return self._inflater.identity() if is_end else None
