"""Ranges, cut out of a stream that comes by in pieces. Pure."""

from collections.abc import Sequence

from txcouchdl.protocol.ranges import ByteRange


class Cutter:
    """
    Cuts ranges out of a stream, in time and memory that grow with the pieces and the ranges, and no faster.

    :param ranges: at least one, ascending and apart.
    :param position: where the stream begins, at the latest with the first range.
    :ivar position: the first byte that has not come by.
    """

    def __init__(self, ranges: Sequence[ByteRange], position: int = 0) -> None:
        self.position = position
        self._ranges = ranges
        # Which range is the first one that is not complete.
        self._next = 0

    def cut(self, piece: bytes) -> bytes:
        """The wanted bytes of the next piece, joined."""
        begin = self.position
        self.position = end = begin + len(piece)
        wanted: list[bytes] = []
        while self._next < len(self._ranges) and self._ranges[self._next].first < end:
            each = self._ranges[self._next]
            wanted.append(piece[max(each.first - begin, 0) : each.last + 1 - begin])
            if each.last >= end:
                break
            self._next += 1
        return b"".join(wanted)

    def skip_to(self, position: int) -> None:
        """Let the stream pass by up to there, and not beyond the next wanted byte."""
        self.position = position

    @property
    def next_wanted(self) -> int:
        """The first wanted byte that has not come by. Only as long as there is one."""
        return max(self.position, self._ranges[self._next].first)

    @property
    def is_satisfied(self) -> bool:
        """Whether all ranges have come by."""
        return self._next == len(self._ranges)

    @property
    def has_gap_ahead(self) -> bool:
        """Whether bytes are still to be skipped before a wanted one."""
        return self.position < self._ranges[-1].first
