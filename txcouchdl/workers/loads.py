"""
How many connections each worker has: one number each, in memory that all share.

Nobody else writes a worker's number while it lives, so nothing is locked; a number that is a moment old does no harm.
"""

import mmap
import os
from typing import Final

_MOST_WORKERS: Final = 256
_SIZE: Final = 4 * _MOST_WORKERS
#: Of one that accepts nobody.
_ABSENT: Final = 2**32 - 1


def new_table() -> int:
    """
    A table of workers of which none accepts anybody yet.

    :return: a descriptor, to be handed to each worker.
    """
    descriptor = os.memfd_create("couchdl-loads")
    os.write(descriptor, b"\xff" * _SIZE)
    return descriptor


class Load:
    """
    One worker's number, beside those of the others.

    :param table: from :func:`new_table`.
    :param worker: which one, from 1 on.
    """

    def __init__(self, table: int, worker: int) -> None:
        self._numbers = memoryview(mmap.mmap(table, _SIZE)).cast("I")
        self._place = worker - 1

    def tell(self, connections: int) -> None:
        """:param connections: that it has."""
        self._numbers[self._place] = connections

    def leave(self) -> None:
        """It accepts nobody any more: the others need not wait for it."""
        self._numbers[self._place] = _ABSENT

    def is_ahead(self) -> bool:
        """Whether another one should have the next connection: this one has more, or among many an eighth more."""
        least = min(self._numbers)
        return self._numbers[self._place] > least + least // 8
