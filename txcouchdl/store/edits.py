"""
What SQLite remembers: changing it, by CouchDB's revision rules (FINDINGS, section 6).

Every method runs inside one transaction, in which it also reads what it decides by: nobody's update is lost.
There are no conflicts: a revision has one successor at most.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from txcouchdl.couch.names import is_legal_database_name
from txcouchdl.store.answers import (
    Refusal,
    conflict,
    missing_rev,
    missing_stub,
    not_covered,
)
from txcouchdl.store.catalogue import Catalogue
from txcouchdl.store.checksums import checksum
from txcouchdl.store.drafts import (
    Draft,
    InlineAttachment,
    KeptAttachment,
    check_attachment_name,
    check_document_id,
)
from txcouchdl.store.revision_ids import next_rev
from txcouchdl.store.values import Attachment, Rev, Revision, StoredBody

_ILLEGAL_NAME = (
    "Name: '{}'. Only lowercase characters (a-z), digits (0-9), and any of the characters _, $, (, ), +, -,"
    " and / are allowed. Must begin with a letter."
)


class Editor(Catalogue):
    """The one writer of a database."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """
        All that is done inside is durable at the end of the block; if the block raises, nothing of it is
        done.
        """
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
            self._execute("COMMIT")
        except BaseException:
            # An error may have ended the transaction already (a full disk does).
            if self._connection.in_transaction:
                self._execute("ROLLBACK")
            raise

    def create_database(self, name: str) -> None:
        """
        :raises Refusal: 400 for an illegal name, 412 if it exists.
        """
        if not is_legal_database_name(name):
            raise Refusal(400, "illegal_database_name", _ILLEGAL_NAME.format(name))
        try:
            self._execute("INSERT INTO databases (name) VALUES (?)", name)
        except sqlite3.IntegrityError:
            reason = "The database could not be created, the file already exists."
            raise Refusal(412, "file_exists", reason) from None

    def delete_database(self, name: str) -> None:
        """
        :raises Refusal: 404 if there is none.
        """
        self._execute("DELETE FROM databases WHERE key = ?", self.database_key(name))

    def compact(self, name: str) -> None:
        """
        Forget the bodies and attachments of all revisions but the current ones. Their names stay known.

        :raises Refusal: 404 if there is no such database.
        """
        outdated = (
            "SELECT key FROM revisions AS old WHERE database = ? AND body IS NOT NULL AND generation < ("
            "SELECT max(generation) FROM revisions AS new"
            " WHERE new.database = old.database AND new.document = old.document)"
        )
        keys = self._execute(outdated, self.database_key(name)).fetchall()
        self._connection.executemany("DELETE FROM attachments WHERE revision = ?", keys)
        self._connection.executemany("UPDATE revisions SET body = NULL WHERE key = ?", keys)

    def put_document(self, database: str, document_id: str, draft: Draft, bodies: Mapping[str, StoredBody]) -> Rev:
        """
        :param bodies: the stored bodies of the draft's inline attachments, by name.
        :returns: the new revision.
        :raises Refusal: 400 for an illegal id, 404 without the database, 409 if ``draft.rev`` is not the
            current revision, 412 if a stub stands for no attachment, 501 for a design document that validates.
        """
        key = self.database_key(database)
        check_document_id(document_id)
        if document_id.startswith("_design/") and draft.has_validation and not draft.deleted:
            # The store cannot run it, and would let every document through.
            raise not_covered("validate_doc_update")
        current = self._check_current(key, document_id, draft.rev, draft.deleted)
        revpos = _revpos(current)
        existing = {} if current is None or current.deleted else {a.name: a for a in self.attachments(current)}
        attachments = tuple(
            Attachment(entry.name, entry.content_type, revpos, bodies[entry.name])
            if isinstance(entry, InlineAttachment)
            else _kept(document_id, entry, existing)
            for entry in draft.attachments
        )
        return self._append(key, document_id, current, draft.deleted, draft.body, attachments)

    def delete_document(self, database: str, document_id: str, rev: Rev | None) -> Rev:
        """
        :returns: the tombstone's revision.
        :raises Refusal: 404 if there is no such document, 409 if ``rev`` is not the current revision.
        """
        self.read(database, document_id)
        key = self.database_key(database)
        current = self._check_current(key, document_id, rev)
        return self._append(key, document_id, current, True, "{}", ())

    def put_attachment(
        self, database: str, document_id: str, rev: Rev | None, name: str, content_type: str, body: StoredBody
    ) -> Rev:
        """
        Add or replace one attachment; makes the document if there is none.

        :returns: the new revision.
        :raises Refusal: 400 for an illegal id or name, 404 without the database, 409 if ``rev`` is not the
            current revision.
        """
        key = self.database_key(database)
        check_document_id(document_id)
        check_attachment_name(name)
        if rev is not None:
            self._check_exists(key, document_id, rev)
        current = self._check_current(key, document_id, rev)
        revpos = _revpos(current)
        new = Attachment(name, content_type, revpos, body)
        # What is written to a tombstone makes a new document of it.
        if current is None or current.deleted:
            return self._append(key, document_id, current, False, "{}", (new,))
        others = tuple(a for a in self.attachments(current) if a.name != name)
        return self._append(key, document_id, current, False, current.text, (new, *others))

    def delete_attachment(self, database: str, document_id: str, rev: Rev | None, name: str) -> Rev:
        """
        :returns: the new revision.
        :raises Refusal: 404 if there is no such attachment, 409 if ``rev`` is not the current revision.
        """
        key = self.database_key(database)
        named = self.read(database, document_id) if rev is None else self._check_exists(key, document_id, rev)
        self.attachment(named, name)
        current = self._check_current(key, document_id, rev)
        others = tuple(a for a in self.attachments(named) if a.name != name)
        return self._append(key, document_id, current, named.deleted, named.text, others)

    def _check_exists(self, key: int, document_id: str, rev: Rev) -> Revision:
        """
        :raises Refusal: 409 ``missing_rev``: CouchDB's for attachments, where documents have a plain
            conflict.
        """
        found = self.find(key, document_id, rev)
        if found is None or found.body is None:
            raise missing_rev()
        return found

    def _check_current(self, key: int, document_id: str, rev: Rev | None, deletes: bool = False) -> Revision | None:
        """
        Find the revision that a write follows. It must name the current one, or none if there is no document.
        CouchDB does not count a tombstone as a document: a write that names it is a conflict, and so is a second
        tombstone.

        :param deletes: whether the write makes a tombstone.
        :returns: the revision that a write with this ``rev`` follows, ``None`` if it is the first.
        :raises Refusal: 409 if it may not be written.
        """
        current = self.latest(key, document_id)
        if rev is not None:
            may_write = current is not None and not current.deleted and current.rev == rev
        else:
            may_write = current is None or (current.deleted and not deletes)
        if not may_write:
            raise conflict()
        return current

    def _append(
        self,
        key: int,
        document_id: str,
        current: Revision | None,
        deleted: bool,
        body: str,
        attachments: tuple[Attachment, ...],
    ) -> Rev:
        rev = next_rev(current, deleted, body, attachments)
        parent = None if current is None else current.rev
        seal = checksum(Revision(0, document_id, rev, deleted, body), parent, attachments)
        revision = self._execute(
            "INSERT INTO revisions (database, document, generation, hash, deleted, body, checksum)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            *(key, document_id, rev.generation, rev.hash, deleted, body, seal),
        ).lastrowid
        self._connection.executemany(
            "INSERT INTO attachments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(revision, position, *_row(a)) for position, a in enumerate(attachments)],
        )
        return rev


def _revpos(current: Revision | None) -> int:
    """Return the revpos of new attachments. CouchDB counts from 1 again when a document follows a tombstone."""
    return 1 if current is None or current.deleted else current.rev.generation + 1


def _kept(document_id: str, stub: KeptAttachment, existing: Mapping[str, Attachment]) -> Attachment:
    attachment = existing.get(stub.name)
    if attachment is None or stub.revpos not in {None, attachment.revpos}:
        raise missing_stub(document_id, stub.name)
    return attachment


def _row(attachment: Attachment) -> tuple[object, ...]:
    body = attachment.body
    described = (attachment.name, attachment.content_type, attachment.revpos)
    return (*described, body.blob, body.digest.md5, body.encoding, body.stored_length, body.length)
