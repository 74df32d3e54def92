"""What goes wrong with the disk, or with what is on it -> what a client, or the operator, is told (pure)."""

import errno
import sqlite3
from enum import Enum, auto
from pathlib import Path

from txcouchdl.store.answers import Refusal
from txcouchdl.store.errors import Damage, DamagedStore, DiskFull, StoreError, StoreLocked

#: All that becomes an answer of its own here. None of it is the client's doing.
TROUBLE = (OSError, sqlite3.Error, Damage)


class Cause(Enum):
    """What an error comes down to."""

    FULL_DISK = auto()
    LOCKED = auto()
    DAMAGED = auto()
    OTHER = auto()


#: SQLite's result codes, the low byte of what it says (https://sqlite.org/rescode.html).
_CAUSES = {
    sqlite3.SQLITE_FULL: Cause.FULL_DISK,
    sqlite3.SQLITE_BUSY: Cause.LOCKED,
    sqlite3.SQLITE_LOCKED: Cause.LOCKED,
    sqlite3.SQLITE_PROTOCOL: Cause.LOCKED,
    sqlite3.SQLITE_CORRUPT: Cause.DAMAGED,
    sqlite3.SQLITE_NOTADB: Cause.DAMAGED,
}

_ANSWERS = {
    Cause.FULL_DISK: (507, "insufficient_storage", "The disk of the store is full."),
    Cause.LOCKED: (503, "service_unavailable", "The database of the store is locked by another program."),
    Cause.DAMAGED: (500, "internal_server_error", "The database of the store is damaged."),
    Cause.OTHER: (500, "internal_server_error", "The disk of the store does not do its part."),
}


def cause_of(error: BaseException | None) -> Cause:
    """
    :param error: an OSError or sqlite3.Error; of any other nothing is known.
    """
    if isinstance(error, OSError):
        return Cause.FULL_DISK if error.errno in {errno.ENOSPC, errno.EDQUOT} else Cause.OTHER
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    # How SQLite says that the -shm file cannot grow.
    if code == sqlite3.SQLITE_IOERR_SHMSIZE:
        return Cause.FULL_DISK
    return _CAUSES.get(code & 0xFF, Cause.OTHER)


def refusal_of(error: BaseException | None) -> Refusal:
    """
    What a client is told.

    :param error: one of ``TROUBLE``.
    """
    if isinstance(error, Damage):
        return Refusal(500, "internal_server_error", error.reason)
    return Refusal(*_ANSWERS[cause_of(error)])


def store_error_of(error: sqlite3.Error | Damage, path: Path) -> StoreError:
    """
    What the operator is told when the database cannot be opened.

    :param path: the database.
    """
    match cause_of(error):
        case Cause.FULL_DISK:
            return DiskFull(f"{path} cannot be opened: the disk is full")
        case Cause.LOCKED:
            return StoreLocked(f"{path} is locked by another program")
        case _:
            return DamagedStore(f"{path} cannot be read as a database: {error}")
