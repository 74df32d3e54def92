"""
The addresses and the right secrets that the gateway remembers, in memory of fixed size.

One process has it for itself; several workers share it, and then count together. It lies in memory as a key, which
nobody outside knows, the windows of addresses, and the recent successes. Addresses and secrets stand in it as keyed
hashes only, so that nobody can choose where in the table they come to lie.

An address belongs to one bucket: the names of 32 addresses, and then their windows. If all places are taken, the
address whose window ends first is forgotten.
"""

import mmap
import secrets
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from hashlib import blake2b
from typing import Final, TypeVar

from txcouchdl.couch.names import DocumentAddress
from txcouchdl.gateway.guess_windows import Ticket, Wait, Window

_T = TypeVar("_T")

KEY_LENGTH: Final = 32

#: Addresses that are known at the same time: below that, an address is forgotten once in 100 000 tables.
MAX_ADDRESSES: Final = 10_000
#: Bytes of the hash of an address.
_NAME_LENGTH: Final = 8
_WINDOW: Final = struct.Struct("=dddQQ")
_PLACES: Final = 32
_NAMES: Final = _NAME_LENGTH * _PLACES
_BUCKET: Final = _NAMES + _WINDOW.size * _PLACES
_BUCKETS: Final = 1024
_MOST: Final = 2**64 - 1

#: Half a day, in seconds: a success is remembered for one to two periods after the last one.
PERIOD: Final = 12 * 3600.0
#: The hash of a secret, and the number of the period of its last success.
_SUCCESS: Final = struct.Struct("=12sI")
_HASH_LENGTH: Final = 12
_SUCCESSES: Final = 8
_ROW: Final = _SUCCESS.size * _SUCCESSES
_ROWS: Final = 8192
_FIRST_ROW: Final = KEY_LENGTH + _BUCKET * _BUCKETS

#: Bytes: 1.5 MiB for windows, 1 MiB for successes, and the key.
SIZE: Final = _FIRST_ROW + _ROW * _ROWS

#: Locks some bytes of the table, by the first one and their number, against other processes.
Lock = Callable[[int, int], AbstractContextManager[None]]

_NO_LOCK: Final = nullcontext()


class GuessTable:
    """
    :param memory: :data:`SIZE` bytes: the key, then zeros or the entries of other processes.
    :param lock: held for some microseconds where a window is changed.
    :ivar windows: of addresses.
    :ivar successes: of secrets.
    """

    def __init__(self, memory: mmap.mmap, lock: Lock) -> None:
        key = memory[:KEY_LENGTH]
        self.windows = Windows(memory, key, lock)
        self.successes = RecentSuccesses(memory, key)

    @classmethod
    def own(cls) -> "GuessTable":
        """Return the empty table of a process that shares it with no other one."""
        memory = mmap.mmap(-1, SIZE)
        memory[:KEY_LENGTH] = new_key()
        return cls(memory, lambda _first, _count: _NO_LOCK)


def new_key() -> bytes:
    """Return the first bytes of a new table."""
    return secrets.token_bytes(KEY_LENGTH)


class Windows:
    """The windows of all addresses that are known. See :mod:`~txcouchdl.gateway.guess_windows`."""

    def __init__(self, memory: mmap.mmap, key: bytes, lock: Lock) -> None:
        self._memory = memory
        self._hash = blake2b(key=key, digest_size=_NAME_LENGTH)
        self._lock = lock

    def name(self, customer: str) -> bytes:
        """Return the keyed hash by which an address is known here."""
        hashing = self._hash.copy()
        hashing.update(customer.encode())
        return hashing.digest()

    def admit(self, name: bytes, limit: int, now: float) -> Ticket | Wait:
        """Admit one token of an address, or say when to ask again."""
        return self._update(name, now, lambda window: window.admit(limit, now))

    def count_wrong(self, name: bytes, ticket: Ticket | None, limit: int, now: float) -> None:
        """Count a wrong token; ``None`` for one that was compared without a ticket."""
        self._update(name, now, lambda window: (window.with_wrong(ticket, limit, now), None))

    def take_back(self, name: bytes, ticket: Ticket, now: float) -> None:
        """Take a token out of the count that was right, or that could not be compared."""
        self._update(name, now, lambda window: (window.without(ticket, now), None))

    def _update(self, name: bytes, now: float, change: Callable[[Window], tuple[Window, _T]]) -> _T:
        bucket = KEY_LENGTH + (name[0] | name[1] << 8) % _BUCKETS * _BUCKET
        with self._lock(bucket, _BUCKET):
            place = self._find(bucket, name)
            known = None if place is None else self._read(bucket, place)
            changed, result = change(Window.begin(now) if known is None else known.at(now))
            if place is None and changed.admitted:
                place = self._free_place(bucket, now)
                self._memory[bucket + place * _NAME_LENGTH : bucket + (place + 1) * _NAME_LENGTH] = name
            if place is not None and changed is not known:
                self._write(bucket, place, changed)
        return result

    def _find(self, bucket: int, name: bytes) -> int | None:
        """Return the place of an address, from 0 on, if it has one."""
        place, rest = divmod(self._memory.find(name, bucket, bucket + _NAMES) - bucket, _NAME_LENGTH)
        return place if place >= 0 and not rest else None

    def _free_place(self, bucket: int, now: float) -> int:
        """Return the first place that is free or whose window is over, or else the one whose window ends first."""
        first, least = 0, float("inf")
        for place in range(_PLACES):
            window = self._read(bucket, place)
            if not window.holds(now):
                return place
            if window.ends < least:
                first, least = place, window.ends
        return first

    def _read(self, bucket: int, place: int) -> Window:
        return Window(*_WINDOW.unpack_from(self._memory, bucket + _NAMES + place * _WINDOW.size))

    def _write(self, bucket: int, place: int, window: Window) -> None:
        counts = min(window.admitted, _MOST), min(window.wrong, _MOST)
        start = bucket + _NAMES + place * _WINDOW.size
        _WINDOW.pack_into(self._memory, start, window.began, window.ends, window.next_turn, *counts)


class RecentSuccesses:
    """
    Secrets that opened a document recently.

    An entry never opens anything: it decides about the order of requests alone. So no lock is needed; if two processes
    write into one place at the same time, at worst a success is forgotten. Where all places of a row are taken, one of
    its successes is replaced.
    """

    def __init__(self, memory: mmap.mmap, key: bytes) -> None:
        self._memory = memory
        self._hash = blake2b(key=key, digest_size=_HASH_LENGTH)

    def mark(self, address: DocumentAddress, secret: bytes) -> bytes:
        """
        Return the keyed hash of a document and a secret.

        :param secret: a token, or the signature of a link.
        """
        hashing = self._hash.copy()
        # No byte of UTF-8 is 0xff.
        hashing.update(b"\xff".join((address.database.encode(), address.document_id.encode(), secret)))
        return hashing.digest()

    def includes(self, mark: bytes, now: float) -> bool:
        """Return whether the secret opened the document in this period or in the one before."""
        place = self._find(mark)
        if place is None:
            return False
        _, last = _SUCCESS.unpack_from(self._memory, place)
        period = _period(now)
        if last == period:
            return True
        if _is_near(last, period):
            _SUCCESS.pack_into(self._memory, place, mark, period)
            return True
        return False

    def remember(self, mark: bytes, now: float) -> None:
        """Remember a success."""
        period = _period(now)
        place = self._find(mark)
        if place is None:
            place = self._free_place(mark, period)
        _SUCCESS.pack_into(self._memory, place, mark, period)

    def forget(self, mark: bytes) -> None:
        """Forget a secret that opens its document no more."""
        place = self._find(mark)
        if place is not None:
            _SUCCESS.pack_into(self._memory, place, b"", 0)

    def _find(self, mark: bytes) -> int | None:
        row = _FIRST_ROW + (mark[0] | mark[1] << 8) % _ROWS * _ROW
        place = self._memory.find(mark, row, row + _ROW)
        return place if place >= 0 and not (place - row) % _SUCCESS.size else None

    def _free_place(self, mark: bytes, period: int) -> int:
        """Return the first place of a row that holds no recent success, or else any."""
        row = _FIRST_ROW + (mark[0] | mark[1] << 8) % _ROWS * _ROW
        for place in range(row, row + _ROW, _SUCCESS.size):
            _, last = _SUCCESS.unpack_from(self._memory, place)
            if not _is_near(last, period):
                return place
        return row + mark[-1] % _SUCCESSES * _SUCCESS.size


def _period(now: float) -> int:
    """Return the number of a period. Near 0, which stands in an empty place, there is none."""
    return (int(now // PERIOD) + 2) % 2**32


def _is_near(last: int, period: int) -> bool:
    """Return whether a success is recent. The clock may have been set back over the end of a period."""
    return abs(last - period) <= 1
