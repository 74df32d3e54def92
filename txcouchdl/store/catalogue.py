"""What SQLite remembers: reading it. Nothing here blocks for longer than a local read takes."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from attrs import frozen

from txcouchdl.couch.documents import Digest
from txcouchdl.store.answers import missing, no_attachment, no_database, not_found
from txcouchdl.store.checksums import is_intact
from txcouchdl.store.errors import DamagedDatabase, DamagedRecord
from txcouchdl.store.values import Attachment, Encoding, Rev, Revision, StoredBody


@frozen
class DatabaseSummary:
    """
    :ivar update_seq: grows with every write to the database.
    """

    name: str
    documents: int
    deleted_documents: int
    update_seq: int


_REVISION = (
    "SELECT key, document, generation, hash, deleted, body, checksum FROM revisions WHERE database = ? AND document = ?"
)
_ATTACHMENT = (
    "SELECT name, content_type, revpos, blob, md5, encoding, stored_length, length FROM attachments WHERE revision = ?"
)
_PARENT = (
    "SELECT parent.generation, parent.hash FROM revisions JOIN revisions AS parent USING (database, document)"
    " WHERE revisions.key = ? AND parent.generation = revisions.generation - 1"
)


class Catalogue:
    """
    One view of the database.

    :param connection: used by one thread at a time, which is the caller's to see to.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def _execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        return self._connection.execute(statement, values)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Several reads of one state: what others commit meanwhile is not seen."""
        self._execute("BEGIN")
        try:
            yield
        finally:
            # An error may have ended the transaction already, and is what shall be told.
            if self._connection.in_transaction:
                self._execute("ROLLBACK")

    def databases(self) -> list[str]:
        """All names, sorted."""
        return [name for (name,) in self._execute("SELECT name FROM databases ORDER BY name")]

    def database_key(self, name: str) -> int:
        """
        :raises Refusal: 404 if there is no such database.
        """
        row = self._execute("SELECT key FROM databases WHERE name = ?", name).fetchone()
        if row is None:
            raise no_database()
        return int(row[0])

    def summary(self, database: str) -> DatabaseSummary:
        """
        :raises Refusal: 404 if there is no such database.
        """
        key = self.database_key(database)
        # SQLite takes "deleted" from the row that has max(generation).
        current = "SELECT deleted, max(generation) FROM revisions WHERE database = ?1 GROUP BY document"
        counts = f"SELECT count(*), coalesce(sum(deleted), 0) FROM ({current})"  # noqa: S608
        documents, deleted = self._execute(counts, key).fetchone()
        (seq,) = self._execute("SELECT coalesce(max(key), 0) FROM revisions WHERE database = ?", key).fetchone()
        return DatabaseSummary(database, documents - deleted, deleted, seq)

    def latest(self, database: int, document_id: str) -> Revision | None:
        """The newest revision, be it a tombstone; ``None`` if there never was one."""
        row = self._execute(f"{_REVISION} ORDER BY generation DESC LIMIT 1", database, document_id).fetchone()
        return None if row is None else _revision(row)

    def find(self, database: int, document_id: str, rev: Rev) -> Revision | None:
        """One revision, which may have been compacted away; ``None`` if there never was one of this name."""
        row = self._execute(f"{_REVISION} AND generation = ?", database, document_id, rev.generation).fetchone()
        found = None if row is None else _revision(row)
        return found if found is not None and found.rev == rev else None

    def read(self, database: str, document_id: str, rev: Rev | None = None, latest: bool = False) -> Revision:
        """
        The revision that a client reads.

        :param rev: which one; ``None`` for the current one.
        :param latest: take the newest there is in place of ``rev``.
        :raises Refusal: 404 if it is missing, has been compacted away, or is a tombstone and ``rev`` is
            ``None``.
        """
        key = self.database_key(database)
        if rev is not None and (found := self.find(key, document_id, rev)) is None:
            raise missing()
        if rev is None or latest:
            found = self.latest(key, document_id)
        if found is None or found.body is None:
            raise missing()
        if found.deleted and rev is None:
            raise not_found("deleted")
        return found

    def history(self, database: str, document_id: str, generation: int) -> list[Revision]:
        """All revisions of a document up to a generation, newest first, those compacted away included."""
        key = self.database_key(database)
        rows = self._execute(f"{_REVISION} AND generation <= ? ORDER BY generation DESC", key, document_id, generation)
        return [_revision(row) for row in rows]

    def attachments(self, revision: Revision) -> tuple[Attachment, ...]:
        """
        All attachments of a revision, in their order.

        :param revision: one with a body.
        :raises DamagedRecord: if they, or the revision, are not as they were written
            (:mod:`~txcouchdl.store.checksums`).
        """
        found = tuple(map(_attachment, self._execute(f"{_ATTACHMENT} ORDER BY position", revision.key)))
        row = self._execute(_PARENT, revision.key).fetchone()
        parent = None if row is None else _rev(*row)
        if not is_intact(revision, parent, found):
            raise DamagedRecord(f"revision {revision.rev} of {revision.document_id!r} is not what was written")
        return found

    def attachment(self, revision: Revision, name: str) -> Attachment:
        """
        :raises Refusal: 404 if the revision has no attachment of this name.
        """
        row = self._execute(f"{_ATTACHMENT} AND name = ?", revision.key, name).fetchone()
        if row is None:
            raise no_attachment()
        return _attachment(row)

    def has_blob(self, name: str) -> bool:
        """Whether some attachment has this blob."""
        return self._execute("SELECT 1 FROM attachments WHERE blob = ? LIMIT 1", name).fetchone() is not None

    def blobs(self) -> set[str]:
        """
        The names of all blobs that some attachment has.

        :raises DamagedDatabase: if some could be missing, and what is not named here is about to be removed. Of the
            whole database, for a page that nothing leads to any more may have named them.
        """
        (verdict,) = self._execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise DamagedDatabase(" ".join(verdict.split()))
        return {name for (name,) in self._execute("SELECT blob FROM attachments")}


def _revision(row: tuple[Any, ...]) -> Revision:
    key, document_id, generation, rev_hash, deleted, body, checksum = row
    return Revision(key, document_id, _rev(generation, rev_hash), bool(deleted), body, checksum)


def _rev(generation: int, rev_hash: str) -> Rev:
    try:
        return Rev(generation, rev_hash)
    except (TypeError, ValueError) as error:
        raise DamagedRecord(f"no revision: {error}") from None


def _attachment(row: tuple[Any, ...]) -> Attachment:
    name, content_type, revpos, blob, md5, encoding, stored_length, length = row
    try:
        body = StoredBody(blob, Digest(md5), Encoding(encoding), stored_length, length)
    except (TypeError, ValueError) as error:
        raise DamagedRecord(f"no attachment: {error}") from None
    return Attachment(name, content_type, revpos, body)
