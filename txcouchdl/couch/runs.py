"""
Which ranges of a response are read together. Pure.

Parts are sent in the order of their request. Ranges that follow each other and ascend can come out of one read, which
drops the bytes between them: a *run*.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

from txcouchdl.protocol.ranges import ByteRange

#: The most bytes between two ranges that are read and dropped instead of making another request. Measured with CouchDB
#: 3.5.0, in its CPU time: 4.1 ms for a request of one byte, 5.7 ms for one of 64 KiB.
MOST_GAP: Final = 64 * 2**10

#: Bytes that a pass over gzip may inflate for nobody without a slot: as many as are inflated in one turn of the
#: reactor.
SKIPPED_FREELY: Final = 2**20

Run = tuple[ByteRange, ...]


def near_runs(ranges: Sequence[ByteRange], worth_bypassing: int) -> list[Run]:
    """
    Cut ranges of an attachment that is stored as it is.

    A run goes on over each gap that costs CouchDB less than another request. So runs never cost more than a request for
    each range, whichever ranges a client picks.

    :param ranges: at least one; no two overlap or touch. They stay in their order.
    :param worth_bypassing: bytes of a range that may go past this process. In a run with others they could not.
    """

    def join(before: ByteRange, after: ByteRange) -> bool:
        gap = after.first - before.last - 1
        return 0 < gap <= MOST_GAP and max(before.length, after.length) < worth_bypassing

    return _cut(ranges, join)


def ascending_runs(ranges: Sequence[ByteRange]) -> list[Run]:
    """
    Cut ranges of an attachment that is stored as gzip. Each run costs one pass from the first byte on, whatever lies
    between its ranges.

    :param ranges: as of :func:`near_runs`.
    """
    return _cut(ranges, lambda before, after: before.last < after.first)


def needs_slot(ranges: Sequence[ByteRange]) -> bool:
    """Whether a pass over gzip for these takes a slot: see :mod:`~txcouchdl.couch.inflation_slots`."""
    inflated = max(each.last for each in ranges) + 1
    return inflated - sum(each.length for each in ranges) > SKIPPED_FREELY


def _cut(ranges: Sequence[ByteRange], join: Callable[[ByteRange, ByteRange], bool]) -> list[Run]:
    runs = [[ranges[0]]]
    for before, after in pairwise(ranges):
        if join(before, after):
            runs[-1].append(after)
        else:
            runs.append([after])
    return list(map(tuple, runs))
