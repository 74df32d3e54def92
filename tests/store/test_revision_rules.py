"""CouchDB's revision rules, against a model that knows nothing of SQLite, files or HTTP."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from txcouchdl.store import schema
from txcouchdl.store.answers import Refusal
from txcouchdl.store.blobs import Blobs
from txcouchdl.store.bodies import decoded
from txcouchdl.store.drafts import Draft, KeptAttachment
from txcouchdl.store.edits import Editor
from txcouchdl.store.packing import pack
from txcouchdl.store.values import Encoding, Rev, StoredBody

_T = TypeVar("_T")

_IDS = ["a", "b/c", "_design/d"]
_NAMES = ["x", "y\0z", "é"]
_CONTENTS = [b"", b"one", b"two" * 100]


@define
class _ModelRevision:
    rev: Rev
    deleted: bool
    field_value: int
    attachments: dict[str, bytes]
    compacted: bool = False


@define
class _Model:
    """Each document is the list of its revisions, oldest first."""

    documents: dict[str, list[_ModelRevision]] = field(factory=dict)

    def current(self, document_id: str) -> _ModelRevision | None:
        revisions = self.documents.get(document_id)
        return revisions[-1] if revisions else None

    def may_write(self, document_id: str, rev: Rev | None, deletes: bool = False) -> bool:
        current = self.current(document_id)
        if rev is None:
            return current is None or (current.deleted and not deletes)
        return current is not None and not current.deleted and current.rev == rev

    def readable(self, document_id: str, rev: Rev | None) -> bool:
        return any(r.rev == rev and not r.compacted for r in self.documents.get(document_id, []))

    def append(self, document_id: str, revision: _ModelRevision) -> None:
        self.documents.setdefault(document_id, []).append(revision)


_ids = st.sampled_from(_IDS)
_names = st.sampled_from(_NAMES)
_contents = st.sampled_from(_CONTENTS)
#: Which revision a writer claims: none, the nth last that there is, or one that never was.
_claims = st.none() | st.integers(1, 3) | st.just("unknown")


def _outcome(action: Callable[[], _T]) -> _T | Refusal:
    try:
        return action()
    except Refusal as refusal:
        return refusal


class RevisionRules(RuleBasedStateMachine):
    """Writes with right and wrong revisions; compactions and restarts in between."""

    @initialize()
    def open(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._directory = Path(self._folder.name)
        self._model = _Model()
        self._connect()
        with self._editor.transaction():
            self._editor.create_database("db")

    def _connect(self) -> None:
        path = self._directory / "store.sqlite3"
        schema.prepare(path, self._directory / "blobs")
        self._blobs = Blobs(self._directory)
        self._blobs.prepare()
        self._connection = schema.connect(path, 0)
        self._editor = Editor(self._connection)

    def teardown(self) -> None:
        self._connection.close()
        self._folder.cleanup()

    def _claimed(self, document_id: str, claim: int | str | None) -> Rev | None:
        revisions = self._model.documents.get(document_id, [])
        if claim is None:
            return None
        if isinstance(claim, str) or claim > len(revisions):
            return Rev(1, "f" * 32)
        return revisions[-claim].rev

    def _store(self, content: bytes) -> StoredBody:
        spool = self._blobs.spool()
        spool.write(content)
        packed = pack(spool, self._blobs, "text/plain", Encoding.IDENTITY)
        self._blobs.adopt(packed.spool)
        packed.spool.discard()
        return packed.body

    def _edit(self, edit: Callable[[], Rev]) -> Rev | Refusal:
        def transact() -> Rev:
            with self._editor.transaction():
                return edit()

        return _outcome(transact)

    @rule()
    def restart(self) -> None:
        self._connection.close()
        self._connect()

    @rule()
    def compact(self) -> None:
        with self._editor.transaction():
            self._editor.compact("db")
        self._blobs.sweep(self._editor.blobs())
        for revisions in self._model.documents.values():
            for revision in revisions[:-1]:
                revision.compacted = True

    @rule(document_id=_ids, claim=_claims, value=st.integers(0, 9), deleted=st.booleans(), kept=st.sets(_names))
    def put_document(
        self, document_id: str, claim: int | str | None, value: int, deleted: bool, kept: set[str]
    ) -> None:
        rev, current = self._claimed(document_id, claim), self._model.current(document_id)
        draft = Draft(None, rev, deleted, f'{{"value":{value}}}', tuple(KeptAttachment(n, None) for n in sorted(kept)))
        existing = {} if current is None or current.deleted else current.attachments
        expected = None
        if not self._model.may_write(document_id, rev, deleted):
            expected = 409
        elif not kept <= existing.keys():
            expected = 412
        new = self._edit(lambda: self._editor.put_document("db", document_id, draft, {}))
        if isinstance(new, Refusal):
            assert new.status == expected
        else:
            assert expected is None
            attachments = {name: existing[name] for name in kept}
            self._model.append(document_id, _ModelRevision(new, deleted, value, attachments))

    @rule(document_id=_ids, claim=_claims)
    def delete_document(self, document_id: str, claim: int | str | None) -> None:
        rev, current = self._claimed(document_id, claim), self._model.current(document_id)
        expected = None
        if current is None or current.deleted:
            expected = 404
        elif not self._model.may_write(document_id, rev):
            expected = 409
        new = self._edit(lambda: self._editor.delete_document("db", document_id, rev))
        if isinstance(new, Refusal):
            assert new.status == expected
        else:
            assert expected is None
            self._model.append(document_id, _ModelRevision(new, True, -1, {}))

    @rule(document_id=_ids, claim=_claims, name=_names, content=_contents)
    def put_attachment(self, document_id: str, claim: int | str | None, name: str, content: bytes) -> None:
        rev, current = self._claimed(document_id, claim), self._model.current(document_id)
        body = self._store(content)
        new = self._edit(lambda: self._editor.put_attachment("db", document_id, rev, name, "text/plain", body))
        if isinstance(new, Refusal):
            is_known = rev is None or self._model.readable(document_id, rev)
            assert (new.status, new.error) == (409, "conflict" if is_known else "not_found")
            assert not self._model.may_write(document_id, rev)
        else:
            assert self._model.may_write(document_id, rev)
            if current is None or current.deleted:
                self._model.append(document_id, _ModelRevision(new, False, -1, {name: content}))
            else:
                attachments = current.attachments | {name: content}
                self._model.append(document_id, _ModelRevision(new, False, current.field_value, attachments))

    @rule(document_id=_ids, claim=_claims, name=_names)
    def delete_attachment(self, document_id: str, claim: int | str | None, name: str) -> None:
        rev, current = self._claimed(document_id, claim), self._model.current(document_id)
        new = self._edit(lambda: self._editor.delete_attachment("db", document_id, rev, name))
        if isinstance(new, Refusal):
            is_live = current is not None and not current.deleted
            is_there = current is not None and is_live and rev == current.rev and name in current.attachments
            assert new.status in {404, 409}
            assert not is_there
        else:
            assert current is not None
            assert rev == current.rev
            attachments = {n: content for n, content in current.attachments.items() if n != name}
            self._model.append(document_id, _ModelRevision(new, current.deleted, current.field_value, attachments))

    @invariant()
    def reads_agree(self) -> None:
        for document_id, revisions in self._model.documents.items():
            for generation, revision in enumerate(revisions, start=1):
                assert revision.rev.generation == generation
                self._read_agrees(document_id, revision)
            self._current_agrees(document_id, revisions[-1])

    def _read_agrees(self, document_id: str, expected: _ModelRevision) -> None:
        found = _outcome(lambda: self._editor.read("db", document_id, expected.rev))
        if isinstance(found, Refusal):
            assert (found.status, found.reason) == (404, "missing")
            assert expected.compacted
            return
        assert not expected.compacted
        assert found.deleted is expected.deleted
        assert found.text == ("{}" if expected.field_value < 0 else f'{{"value":{expected.field_value}}}')
        attachments = self._editor.attachments(found)
        read = {a.name: self._read_body(a.body) for a in attachments}
        assert read == expected.attachments
        assert all(1 <= a.revpos <= found.rev.generation for a in attachments)

    def _read_body(self, body: StoredBody) -> bytes:
        with self._blobs.open(body.blob, body.stored_length) as file:
            return b"".join(decoded(file, body))

    def _current_agrees(self, document_id: str, expected: _ModelRevision) -> None:
        found = _outcome(lambda: self._editor.read("db", document_id))
        if isinstance(found, Refusal):
            assert (found.status, found.reason) == (404, "deleted")
            assert expected.deleted
        else:
            assert found.rev == expected.rev
            assert not expected.deleted

    @invariant()
    def summary_agrees(self) -> None:
        summary = self._editor.summary("db")
        deleted = sum(revisions[-1].deleted for revisions in self._model.documents.values())
        assert summary.deleted_documents == deleted
        assert summary.documents == len(self._model.documents) - deleted


RevisionRules.TestCase.settings = settings(stateful_step_count=20)
TestRevisionRules = RevisionRules.TestCase
