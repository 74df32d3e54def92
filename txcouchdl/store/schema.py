"""The SQLite file: opened, recognised, created."""

import sqlite3
from pathlib import Path

from txcouchdl.store.errors import DamagedStore, ForeignStore, NewerStore

#: In the file's header: marks the database as ours. The bytes read "tcdl".
_APPLICATION = 0x7463646C

#: In the file's header: counts up when the tables change.
_VERSION = 1

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


def connect(path: Path) -> sqlite3.Connection:
    """
    A connection that commits when told to, and durably. It may be used in any thread, but in one at a time.

    :raises sqlite3.Error: if the file is no database, or cannot be opened.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit is on the disk when it returns, and so is what was acknowledged.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def prepare(path: Path) -> None:
    """
    Create the database, or make sure that it is ours and that we can read it. No one else may have it open.

    :raises StoreError: if we cannot.
    """
    try:
        connection = connect(path)
        try:
            _check_or_create(connection, path)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise DamagedStore(f"{path} cannot be read as a database: {error}") from None


def _check_or_create(connection: sqlite3.Connection, path: Path) -> None:
    application, version, tables = (
        connection.execute(statement).fetchone()[0]
        for statement in (
            "PRAGMA application_id",
            "PRAGMA user_version",
            "SELECT count(*) FROM sqlite_schema",
        )
    )
    if not tables and not application:
        _create(connection)
    elif application != _APPLICATION:
        raise ForeignStore(f"{path} is not a database of this program")
    elif version > _VERSION:
        raise NewerStore(f"{path} was written by a later version of this program (schema {version}, not {_VERSION})")


def _create(connection: sqlite3.Connection) -> None:
    """All or nothing: a crash in between leaves an empty database, which is created anew."""
    header = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_VERSION};"
    connection.executescript(f"BEGIN; {_TABLES} {header} COMMIT;")
