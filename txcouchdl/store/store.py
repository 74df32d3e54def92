"""
The store: one directory, opened by one process.

Reads happen in the reactor's thread: they are short, and see what was committed last. Writes happen in a few
threads of the store's own, because they wait for the disk and for zlib; a lock lets one transaction in at a
time.

The order within a write is what makes it safe: the bodies are fsynced under a temporary name, then, inside
the transaction that decides whether the write is allowed, they get their final names, and last the
transaction is committed (synchronously, see schema). A crash at any point leaves either the whole write or
none of it.
"""

import fcntl
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import BinaryIO, Concatenate, NoReturn, ParamSpec, TypeVar
from uuid import uuid4

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from txcouchdl.store import schema
from txcouchdl.store.answers import too_large
from txcouchdl.store.blobs import Blobs, Spool
from txcouchdl.store.catalogue import Catalogue, DatabaseSummary
from txcouchdl.store.claims import Claim
from txcouchdl.store.drafts import Draft, InlineAttachment, parse_draft
from txcouchdl.store.edits import Editor
from txcouchdl.store.errors import DamagedDatabase, NotAStore, StoreLocked
from txcouchdl.store.json_bodies import read_text
from txcouchdl.store.packing import PackedBody, pack
from txcouchdl.store.private_files import open_binary, restrict, warn_of_exposure
from txcouchdl.store.trouble import TROUBLE, Cause, cause_of, refusal_of, store_error_of
from txcouchdl.store.values import Attachment, Encoding, Rev, Revision, Written

#: The longest JSON body in bytes; CouchDB's default for documents. It is parsed in memory, inline attachments
#: and all.
LONGEST_DOCUMENT = 8_000_000

#: Threads that write. One commits; the others may compress or wait for the disk meanwhile.
_WRITERS = 4

_P = ParamSpec("_P")
_T = TypeVar("_T")

_log = Logger()


class Store:
    """
    Databases, documents and attachments. To be used in the reactor's thread. Make one with :meth:`open`.

    What returns a Deferred is durable when the Deferred fires. Cancelling it does not undo or stop the write.
    Refusals (:class:`~txcouchdl.store.answers.Refusal`) are those of
    :class:`~txcouchdl.store.catalogue.Catalogue` and :class:`~txcouchdl.store.edits.Editor`.
    """

    def __init__(self, directory: Path, reactor: IReactorFromThreads, lock: BinaryIO) -> None:
        database = directory / "store.sqlite3"
        self._reactor = reactor
        self._lock = lock
        self._blobs = Blobs(directory)
        # The reactor waits with it. No program that speaks SQLite has a reason to keep readers out of a WAL.
        self._reading = schema.connect(database, patience=0)
        self._writing = schema.connect(database, schema.PATIENCE)
        self._footing = schema.Footing(database)
        self._catalogue = Catalogue(self._reading)
        self._editor = Editor(self._writing)
        self._one_transaction = Lock()
        self._writers = ThreadPool(0, _WRITERS, "couchdl-store")
        self._writers.start()

    @classmethod
    def open(cls, directory: Path, reactor: IReactorFromThreads) -> "Store":
        """
        Open the store in a directory; makes both if need be. What a crash left half done is removed.

        Blocks until the store is ready: meant for the start of a process.

        :raises StoreError: with a line for the operator, if the directory cannot be used, is in use by
            another process, or holds a database that is damaged, not ours, or from a later version.
        """
        lock = _lock(directory)
        database = directory / "store.sqlite3"
        try:
            schema.prepare(database, directory / "blobs")
            Blobs(directory).prepare()
            warn_of_exposure(directory, database, directory / "blobs", directory / "incoming")
            store = cls(directory, reactor, lock)
            try:
                store._sweep()
            except BaseException:
                store.close()
                raise
        except OSError as error:
            lock.close()
            raise NotAStore(f"{directory} cannot be used as a store: {error.strerror}") from None
        except (sqlite3.Error, DamagedDatabase) as error:
            lock.close()
            raise store_error_of(error, database) from None
        except BaseException:
            lock.close()
            raise
        return store

    def close(self) -> None:
        """Wait for the writes under way, and let go of the directory. May be called twice."""
        if not self._lock.closed:
            self._writers.stop()
            self._reading.close()
            self._writing.close()
            self._lock.close()

    def spool(self) -> Spool:
        """
        Where the body of a request goes while it arrives. The caller discards it, or hands it to a write.
        """
        return self._blobs.spool()

    def databases(self) -> list[str]:
        """All names, sorted."""
        return self._catalogue.databases()

    def check_database(self, database: str) -> None:
        """
        :raises Refusal: 404 if there is no such database.
        """
        self._catalogue.database_key(database)

    def summary(self, database: str) -> DatabaseSummary:
        """What there is to say about a database."""
        with self._catalogue.snapshot():
            return self._catalogue.summary(database)

    def document(
        self, database: str, document_id: str, rev: Rev | None, latest: bool
    ) -> tuple[Revision, tuple[Attachment, ...]]:
        """A revision with its attachments."""
        with self._catalogue.snapshot():
            revision = self._catalogue.read(database, document_id, rev, latest)
            return revision, self._catalogue.attachments(revision)

    def history(self, database: str, revision: Revision) -> list[Revision]:
        """A revision and those before it, newest first."""
        return self._catalogue.history(database, revision.document_id, revision.rev.generation)

    def attachment(self, database: str, document_id: str, name: str, rev: Rev | None, latest: bool) -> Attachment:
        """One attachment of a revision."""
        with self._catalogue.snapshot():
            return self._catalogue.attachment(self._catalogue.read(database, document_id, rev, latest), name)

    def open_body(self, attachment: Attachment) -> BinaryIO:
        """
        The stored bytes of an attachment. They stay readable whatever is deleted or compacted meanwhile.

        :raises DamagedBody: if they are not there as they were stored.
        """
        return self._blobs.open(attachment.body.blob, attachment.body.stored_length)

    def create_database(self, name: str) -> Deferred[None]:
        return self._write(self._commit, (), Editor.create_database, name)

    def delete_database(self, name: str) -> Deferred[None]:
        return self._write(self._commit_and_sweep, Editor.delete_database, name)

    def compact(self, name: str) -> Deferred[None]:
        """Forget all revisions but the current ones, and every body that nothing refers to any more."""
        return self._write(self._commit_and_sweep, Editor.compact, name)

    def put_document(
        self, database: str, document_id: str | None, claim: Claim, coding: Encoding, upload: Spool
    ) -> Deferred[Written]:
        """
        :param document_id: ``None`` to take the document's own, or else make one up.
        :param coding: the content coding of the upload.
        :param upload: the document's JSON; consumed.
        """
        return self._write(self._put_document, database, document_id, claim, coding, upload)

    def delete_document(self, database: str, document_id: str, rev: Rev | None) -> Deferred[Rev]:
        """:returns: the tombstone's revision."""
        return self._write(self._commit, (), Editor.delete_document, database, document_id, rev)

    def put_attachment(
        self,
        database: str,
        document_id: str,
        rev: Rev | None,
        name: str,
        content_type: str,
        encoding: Encoding,
        upload: Spool,
    ) -> Deferred[Rev]:
        """
        :param encoding: the content coding of the upload.
        :param upload: its bytes; consumed.
        :returns: the document's new revision.
        """

        def put() -> Rev:
            packed = pack(upload, self._blobs, content_type, encoding)
            edit = Editor.put_attachment
            return self._commit((packed,), edit, database, document_id, rev, name, content_type, packed.body)

        return self._write(put)

    def delete_attachment(self, database: str, document_id: str, rev: Rev | None, name: str) -> Deferred[Rev]:
        """:returns: the document's new revision."""
        return self._write(self._commit, (), Editor.delete_attachment, database, document_id, rev, name)

    def _write(self, job: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> Deferred[_T]:
        """Run a job in a writer's thread. Trouble with the disk is logged here and becomes a refusal."""
        written: Deferred[_T] = deferToThreadPool(self._reactor, self._writers, job, *arguments, **named)
        return written.addErrback(_refuse_trouble)

    # From here on: in a writer's thread.

    def _put_document(
        self, database: str, document_id: str | None, claim: Claim, coding: Encoding, upload: Spool
    ) -> Written:
        too_long = too_large(document_id or "")
        try:
            if upload.length > LONGEST_DOCUMENT:
                raise too_long
            draft = parse_draft(read_text(upload.pieces(), coding, LONGEST_DOCUMENT, too_long))
        finally:
            upload.discard()
        document_id = document_id or draft.id or uuid4().hex
        draft = evolve(draft, rev=claim.resolve(draft.rev))
        packed = self._pack_inline(draft)
        bodies = {name: one.body for name, one in packed.items()}
        rev = self._commit(tuple(packed.values()), Editor.put_document, database, document_id, draft, bodies)
        return Written(document_id, rev, draft.deleted)

    def _pack_inline(self, draft: Draft) -> dict[str, PackedBody]:
        packed: dict[str, PackedBody] = {}
        try:
            for entry in draft.attachments:
                if isinstance(entry, InlineAttachment):
                    spool = self._blobs.spool_of(entry.data)
                    packed[entry.name] = pack(spool, self._blobs, entry.content_type, Encoding.IDENTITY)
        except BaseException:
            _discard(packed.values())
            raise
        return packed

    def _commit(
        self,
        packed: Sequence[PackedBody],
        edit: Callable[Concatenate[Editor, _P], _T],
        *arguments: _P.args,
        **named: _P.kwargs,
    ) -> _T:
        """
        One transaction: all of it or nothing.

        :param packed: the bodies that the edit refers to; consumed.
        """
        try:
            with self._one_transaction, self._room_given_back(packed), self._editor.transaction():
                self._footing.check()
                result = edit(self._editor, *arguments, **named)
                # After the edit, which may refuse; before the commit, which makes it all true.
                for one in packed:
                    self._blobs.adopt(one.spool)
            return result
        finally:
            _discard(packed)

    @contextmanager
    def _room_given_back(self, packed: Sequence[PackedBody]) -> Iterator[None]:
        """
        Where a transaction fails because the disk is full, the bodies that it adopted do not stay there.

        After any other failure they do, until the next start: the commit may yet be found by it.
        """
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            if cause_of(error) is Cause.FULL_DISK:
                for one in packed:
                    if not self._editor.has_blob(one.spool.name):
                        self._blobs.remove(one.spool.name)
            raise

    def _commit_and_sweep(self, edit: Callable[[Editor, str], None], name: str) -> None:
        self._commit((), edit, name)
        self._sweep()

    def _sweep(self) -> None:
        # Under the lock, for a blob is adopted before the row that refers to it is committed.
        with self._one_transaction:
            self._blobs.sweep(self._editor.blobs())


def _discard(packed: Iterable[PackedBody]) -> None:
    for one in packed:
        one.spool.discard()


def _lock(directory: Path) -> BinaryIO:
    """The directory's lock file, locked; the lock lasts until the file is closed, or the process ends."""
    try:
        if not directory.exists():
            directory.mkdir(mode=0o700, parents=True)
            restrict(directory)
        file = open_binary(directory / "lock", "wb")
    except OSError as error:
        raise NotAStore(f"{directory} cannot be used as a store: {error.strerror}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise StoreLocked(f"{directory} is in use by another process") from None
    return file


def _refuse_trouble(failure: Failure) -> NoReturn:
    failure.trap(*TROUBLE)
    _log.failure("What was sent could not be written", failure)
    raise refusal_of(failure.value) from None
