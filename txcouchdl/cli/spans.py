"""Which bytes of a representation are there. Pure."""

from collections.abc import Iterable, Iterator

from attrs import field, frozen

from txcouchdl.protocol.ranges import ByteRange


def _joined(ranges: Iterable[ByteRange]) -> tuple[ByteRange, ...]:
    joined: list[ByteRange] = []
    for each in sorted(ranges, key=lambda one: one.first):
        if joined and each.first <= joined[-1].last + 1:
            joined[-1] = ByteRange(joined[-1].first, max(joined[-1].last, each.last))
        else:
            joined.append(each)
    return tuple(joined)


@frozen
class Spans:
    """
    A set of bytes. Ranges in any order, overlapping or not, make one; two of the same bytes are equal.

    :ivar ranges: in order, with at least one byte between any two.
    """

    ranges: tuple[ByteRange, ...] = field(default=(), converter=_joined)

    def __iter__(self) -> Iterator[ByteRange]:
        return iter(self.ranges)

    @property
    def count(self) -> int:
        """How many bytes are in it."""
        return sum(each.length for each in self.ranges)

    def and_also(self, more: Iterable[ByteRange]) -> "Spans":
        return Spans((*self.ranges, *more))

    def gaps(self, complete_length: int) -> "Spans":
        """What is missing of the first so many bytes."""
        missing, first = [], 0
        for each in (*self.ranges, ByteRange(complete_length, complete_length)):
            if first < min(each.first, complete_length):
                missing.append(ByteRange(first, min(each.first, complete_length) - 1))
            first = each.last + 1
        return Spans(missing)
