"""
The table in which several processes count guesses together: in memory that they share.

Each bucket of addresses has a lock of its own, which the kernel takes from a process that dies. A process that is
killed in the middle of a slot leaves at worst one address with a wrong count, for a minute. So does one that is killed
while it compares tokens: they stay admitted, and are never found right.
"""

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from txcouchdl.gateway.guess_table import SIZE, GuessTable, new_key


def new_table() -> int:
    """
    An empty table, which lives as long as somebody has it open.

    :return: a descriptor, to be handed to each process that counts.
    """
    descriptor = os.memfd_create("couchdl-guesses")
    os.ftruncate(descriptor, SIZE)
    os.write(descriptor, new_key())
    return descriptor


def shared_table(descriptor: int) -> GuessTable:
    """
    Open a table. The processes' clocks are one: the machine's.

    :param descriptor: from :func:`new_table`; stays open as long as the table is used.
    """
    return GuessTable(mmap.mmap(descriptor, SIZE), partial(_locked, descriptor))


@contextmanager
def _locked(descriptor: int, first: int, count: int) -> Iterator[None]:
    # Of the kinds of locks this is the one that belongs to a process.
    fcntl.lockf(descriptor, fcntl.LOCK_EX, count, first)
    try:
        yield
    finally:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, count, first)
