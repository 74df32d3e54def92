"""How the bytes that are missing are divided among connections. Pure."""

from attrs import define

from txcouchdl.cli.spans import Spans
from txcouchdl.protocol.ranges import ByteRange


@define(eq=False)
class Segment:
    """
    What one connection brings.

    :ivar first: the first byte of it.
    :ivar next: the first that is still missing.
    :ivar last: its last one. It may come to be less than it was, when another connection takes the end over.
    """

    first: int
    next: int
    last: int

    @property
    def missing(self) -> int:
        """How many bytes of it are."""
        return self.last + 1 - self.next

    @property
    def rest(self) -> ByteRange:
        """These; there are some."""
        return ByteRange(self.next, self.last)

    @property
    def brought(self) -> tuple[ByteRange, ...]:
        """What is there, as one range or none."""
        return (ByteRange(self.first, self.next - 1),) if self.next > self.first else ()


class Work:
    """
    All that is to be brought.

    :param least: no connection begins to bring fewer bytes, if there are more.
    """

    def __init__(self, complete_length: int, done: Spans, least: int) -> None:
        self._complete_length = complete_length
        self._done = done
        self._least = least
        self._taken: list[Segment] = []

    @property
    def done(self) -> Spans:
        """All that is there."""
        return self._done.and_also(each for segment in self._taken for each in segment.brought)

    @property
    def missing(self) -> int:
        return self._complete_length - self.done.count

    def claim(self, wanted: ByteRange) -> Segment:
        """Take some bytes that are missing and not taken."""
        segment = Segment(wanted.first, wanted.first, wanted.last)
        self._taken.append(segment)
        return segment

    def take(self, idle: int) -> Segment | None:
        """
        Something to do for one of so many idle connections; ``None`` if there is nothing left that is worth it.

        A part of the largest gap; and when there are no more gaps, the second half of what another connection has
        before it, which may be a slow one.
        """
        gaps = self._done.and_also(ByteRange(each.first, each.last) for each in self._taken)
        largest = max(gaps.gaps(self._complete_length), key=lambda gap: gap.length, default=None)
        if largest is not None:
            share = max(-(-largest.length // idle), self._least)
            return self.claim(ByteRange(largest.first, min(largest.first + share - 1, largest.last)))
        return self._take_over()

    def _take_over(self) -> Segment | None:
        richest = max(self._taken, key=lambda segment: segment.missing, default=None)
        if richest is None or richest.missing < 2 * self._least:
            return None
        first, last = richest.next + richest.missing // 2, richest.last
        richest.last = first - 1
        return self.claim(ByteRange(first, last))

    def give_back(self, segment: Segment) -> None:
        """Let go of it: what was brought is there, and the rest may be taken by anyone."""
        self._taken.remove(segment)
        self._done = self._done.and_also(segment.brought)
