"""
Wrong tokens that several processes count together: a table of fixed size, in memory that they share.

An address belongs to one bucket, by a hash with a key that nobody outside knows, and takes one of its slots. Each
bucket has a lock of its own, which the kernel takes from a process that dies. What a process leaves behind that is
killed in the middle of a slot is at worst one address with a wrong count, for a minute.

Where all slots of a bucket are taken, the address whose minute is over first is forgotten. Below the
:data:`~txcouchdl.gateway.guesses.MAX_ADDRESSES` that one process knows, that happens once in 100 000 tables.
"""

import fcntl
import mmap
import os
import secrets
import struct
from hashlib import blake2b
from typing import Final

from txcouchdl.gateway.guesses import Minute

_KEY_LENGTH: Final = 32
#: The hash of an address, and its minute; nobody's are zeros, a minute that is long over.
_SLOT: Final = struct.Struct("=16sdI4x")
_SLOTS: Final = 32
_BUCKET: Final = _SLOT.size * _SLOTS
_BUCKETS: Final = 1024
#: Bytes: 1 MiB, and the key.
_SIZE: Final = _KEY_LENGTH + _BUCKET * _BUCKETS


def new_table() -> int:
    """
    An empty table, which lives as long as somebody has it open.

    :return: a descriptor, to be handed to each process that counts.
    """
    descriptor = os.memfd_create("couchdl-guesses")
    os.ftruncate(descriptor, _SIZE)
    os.write(descriptor, secrets.token_bytes(_KEY_LENGTH))
    return descriptor


class SharedMinutes:
    """
    See :class:`~txcouchdl.gateway.guesses.Minutes`. The processes' clocks are one: the machine's.

    :param table: from :func:`new_table`; stays open as long as this lives.
    """

    def __init__(self, table: int) -> None:
        self._table = table
        self._memory = mmap.mmap(table, _SIZE)
        self._key = self._memory[:_KEY_LENGTH]

    def count(self, customer: str, most: int, now: float) -> Minute:
        """See :class:`~txcouchdl.gateway.guesses.Minutes`."""
        name = blake2b(customer.encode(), key=self._key, digest_size=16).digest()
        bucket = _KEY_LENGTH + int.from_bytes(name[:4], "big") % _BUCKETS * _BUCKET
        # Of the kinds of locks this is the one that belongs to a process. It is held for some microseconds.
        fcntl.lockf(self._table, fcntl.LOCK_EX, _BUCKET, bucket)
        try:
            place, minute = self._find(bucket, name, now)
            counted = minute.with_one_more(most)
            _SLOT.pack_into(self._memory, place, name, counted.began, counted.wrong)
        finally:
            fcntl.lockf(self._table, fcntl.LOCK_UN, _BUCKET, bucket)
        return minute

    def _find(self, bucket: int, name: bytes, now: float) -> tuple[int, Minute]:
        """:return: the place of a minute that is not over; of a new one, the place of the one that is over first."""
        first, least = bucket, float("inf")
        for place in range(bucket, bucket + _BUCKET, _SLOT.size):
            owner, began, wrong = _SLOT.unpack_from(self._memory, place)
            minute = Minute(began, wrong)
            left = minute.left(now)
            if owner == name:
                return place, minute if left else Minute(now)
            if left < least:
                first, least = place, left
        return first, Minute(now)
