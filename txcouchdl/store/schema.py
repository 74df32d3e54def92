"""The SQLite file: opened, recognised, created."""

import sqlite3
from os.path import samestat
from pathlib import Path

from txcouchdl.store.errors import DamagedStore, ForeignStore, LostDatabase, NewerStore
from txcouchdl.store.private_files import open_binary, restrict
from txcouchdl.store.trouble import store_error_of

#: In the file's header: marks the database as ours. The bytes read "tcdl".
_APPLICATION = 0x7463646C

#: In the file's header: counts up when the tables change, or the meaning of their rows.
_VERSION = 2

# There are no conflicts here, so a document's revisions are a line: one for each generation, the last is
# current. A revision that was compacted away keeps its row, without body and attachments, because it was:
# CouchDB tells a revision that is old from one that never was, and so do we.
_TABLES = """
CREATE TABLE databases (
    key INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE revisions (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    database INTEGER NOT NULL REFERENCES databases ON DELETE CASCADE,
    document TEXT NOT NULL,
    generation INTEGER NOT NULL,
    hash TEXT NOT NULL,
    deleted INTEGER NOT NULL,
    body TEXT,
    checksum TEXT,
    UNIQUE (database, document, generation)
) STRICT;
CREATE TABLE attachments (
    revision INTEGER NOT NULL REFERENCES revisions ON DELETE CASCADE,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    content_type TEXT NOT NULL,
    revpos INTEGER NOT NULL,
    blob TEXT NOT NULL,
    md5 BLOB NOT NULL,
    encoding TEXT NOT NULL,
    stored_length INTEGER NOT NULL,
    length INTEGER NOT NULL,
    PRIMARY KEY (revision, name)
) STRICT, WITHOUT ROWID;
"""


#: From each earlier version to the next one. Rows stay as they are.
_MIGRATIONS = {1: "ALTER TABLE revisions ADD COLUMN checksum TEXT;"}

#: How many seconds a statement waits for another program that has the database locked.
PATIENCE = 5.0


def connect(path: Path, patience: float) -> sqlite3.Connection:
    """
    A connection that commits when told to, and durably. It may be used in any thread, but in one at a time.

    :param patience: seconds that a statement may wait for a lock.
    :raises sqlite3.Error: if the file is no database, or cannot be opened.
    """
    connection = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit is on the disk when it returns, and so is what was acknowledged.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


class Footing:
    """
    The files that connections to a database write to, and whether they still have their names: SQLite goes on
    writing to a file that was removed, and what it commits there is gone with the process.

    :param path: the database; a connection has it open.
    """

    def __init__(self, path: Path) -> None:
        self._files = [(file, file.stat()) for file in (path, _beside(path, "-wal"))]

    def check(self) -> None:
        """
        :raises LostDatabase: if a file was removed or replaced.
        """
        for file, opened in self._files:
            try:
                is_there = samestat(file.stat(), opened)
            except FileNotFoundError:
                is_there = False
            if not is_there:
                raise LostDatabase(f"{file} was removed or replaced while it was open")


def prepare(path: Path, dependent: Path) -> None:
    """
    Create the database, or make sure that it is ours and that we can read it. No one else may have it open.

    :param dependent: a directory that is made only when the database is there, and is worth nothing without it.
    :raises StoreError: if we cannot.
    :raises OSError: if there can be no such file.
    """
    _check_complete(path, dependent)
    _make_private(path)
    try:
        connection = connect(path, PATIENCE)
        try:
            _check_or_create(connection, path, dependent)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise store_error_of(error, path) from None


def _check_complete(path: Path, dependent: Path) -> None:
    """
    SQLite would make anew what is missing, as if nothing had ever been written; and all blobs would be swept away.
    """
    wal, shm = _beside(path, "-wal"), _beside(path, "-shm")
    if dependent.is_dir() and not (path.exists() and path.stat().st_size):
        raise DamagedStore(f"{path} is missing or empty: without it, {dependent} is worth nothing")
    # SQLite makes -wal first and removes it last.
    if shm.exists() and not wal.exists():
        raise DamagedStore(f"{wal} is missing, and what was written last with it; to go on without, remove {shm}")


def _make_private(path: Path) -> None:
    """SQLite gives the files that it makes beside a database the database's mode."""
    if path.exists():
        restrict(path)
    else:
        open_binary(path, "xb").close()


def _beside(path: Path, suffix: str) -> Path:
    """One of the files that SQLite keeps beside a database."""
    return path.with_name(path.name + suffix)


def _check_or_create(connection: sqlite3.Connection, path: Path, dependent: Path) -> None:
    application, version, tables = (
        connection.execute(statement).fetchone()[0]
        for statement in (
            "PRAGMA application_id",
            "PRAGMA user_version",
            "SELECT count(*) FROM sqlite_schema",
        )
    )
    if not tables and not application and not dependent.is_dir():
        _create(connection)
    elif application != _APPLICATION:
        raise ForeignStore(f"{path} is not a database of this program")
    elif version > _VERSION:
        raise NewerStore(f"{path} was written by a later version of this program (schema {version}, not {_VERSION})")
    elif version < _VERSION:
        _migrate(connection, path, version)


def _create(connection: sqlite3.Connection) -> None:
    """All or nothing: a crash in between leaves an empty database, which is created anew."""
    header = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_VERSION};"
    connection.executescript(f"BEGIN; {_TABLES} {header} COMMIT;")


def _migrate(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """All or nothing, as :func:`_create`."""
    if version not in _MIGRATIONS:
        raise DamagedStore(f"{path} claims to have schema {version}, which no version of this program wrote")
    steps = " ".join(_MIGRATIONS[step] for step in range(version, _VERSION))
    connection.executescript(f"BEGIN; {steps} PRAGMA user_version = {_VERSION}; COMMIT;")
