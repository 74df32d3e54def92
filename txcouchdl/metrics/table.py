"""
Numbers of several processes: a row for each, of 64 bits each.

Nobody else writes a row while its process lives, so nothing is locked, and whoever reads sees each number as it is or
as it was a moment ago. Who comes in the place of a process that has died goes on in its row: no counter goes back.
"""

import fcntl
import mmap
import os
from typing import Final, Self

from txcouchdl.metrics.layout import Layout

#: Seconds without a word from a process, after which it counts as one that hangs.
HUNG_AFTER: Final = 10.0

_SIZE: Final = 8
#: Of memory whose size nobody can change: who reads where it has become shorter would die of it.
_SEALS: Final = ("F_SEAL_SHRINK", "F_SEAL_GROW", "F_SEAL_SEAL")


def new_table(layout: Layout, processes: int) -> int:
    """
    Memory for a table of zeros, which lives as long as somebody has it open.

    :return: a descriptor, to be handed to each process.
    """
    descriptor = os.memfd_create("couchdl-metrics", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, _SIZE * layout.length * processes)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, sum(getattr(fcntl, each) for each in _SEALS))
    return descriptor


class Table:
    """
    :param memory: of all rows.
    """

    def __init__(self, layout: Layout, memory: bytearray | mmap.mmap) -> None:
        self.layout = layout
        self._numbers = memoryview(memory).cast("q")

    @classmethod
    def own(cls, layout: Layout) -> Self:
        """One of a process that has no others beside it."""
        return cls(layout, bytearray(_SIZE * layout.length))

    @classmethod
    def shared(cls, layout: Layout, descriptor: int) -> Self:
        """:param descriptor: from :func:`new_table`; it may be closed behind this."""
        return cls(layout, mmap.mmap(descriptor, os.fstat(descriptor).st_size))

    def row(self, number: int) -> memoryview:
        """The numbers of one process, from 0 on."""
        length = self.layout.length
        return self._numbers[number * length : (number + 1) * length]

    def hung(self, now: float) -> int:
        """How many processes have not said for some time that they do not hang. A clock may be set back."""
        last = self._numbers.tolist()[self.layout.moved :: self.layout.length]
        return sum(bool(each) and abs(now - each) >= HUNG_AFTER for each in last)

    def sums(self) -> list[int]:
        """A row with the sums of all rows' numbers."""
        length, numbers = self.layout.length, self._numbers.tolist()
        return [sum(numbers[place::length]) for place in range(length)]
