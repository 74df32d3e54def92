"""
kill -9 at any step of any write: documents with and without inline attachments, attachments, what is deleted, databases
made and deleted, compaction; over and over on one directory. test_kill.py is about uploads that are cut short.

What was acknowledged is there; the one write that was not is there as a whole or not at all; nothing else is.
"""

import json
import socket
import sqlite3
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping
from hashlib import md5, sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest
from attrs import evolve, field, frozen
from twisted.internet import reactor

from tests.store.serving import Response, parse_response, request
from txcouchdl.store import bodies
from txcouchdl.store.answers import Refusal
from txcouchdl.store.store import Store
from txcouchdl.store.values import Attachment, Encoding

_ROOT = Path(__file__).parents[2]
_TIMEOUT = 60

#: Beyond every write's steps, so that also the answer, and what comes between two writes, is met.
_MOST_STEPS = 2500


@frozen
class _Document:
    """
    :ivar rev: ``None`` as long as no answer has told it.
    """

    rev: str | None
    members: Mapping[str, str] = field(factory=dict)
    attachments: Mapping[str, bytes] = field(factory=dict)


#: Database -> document id -> the document; what is deleted is not there.
_State = Mapping[str, Mapping[str, _Document]]


@frozen
class _Write:
    """
    :ivar after: the state that it makes.
    :ivar written: the database and the document whose revision the answer tells.
    """

    method: str
    target: str
    body: bytes | None
    after: _State
    written: tuple[str, str] | None = None
    kind: str = "application/json"


class _Writer:
    """Makes up writes, each of which succeeds."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def next(self, state: _State) -> _Write:
        random = self._random
        if "db" not in state:
            return _Write("PUT", "/db", None, {**state, "db": {}})
        if random.random() < 0.1:
            return self._database_write(state)
        name = random.choice("abc")
        document = state["db"].get(name, _Document(None))
        kinds = [self._put_document, self._put_document, self._put_attachment, self._put_attachment]
        if document.rev is not None:
            kinds.append(self._delete_document)
        if document.attachments:
            kinds.append(self._delete_attachment)
        return random.choice(kinds)(state, name, document)

    def _database_write(self, state: _State) -> _Write:
        if self._random.random() < 0.5:
            return _Write("POST", "/db/_compact", None, state)
        if self._random.random() < 0.3:
            return _Write("DELETE", "/db", None, {name: state[name] for name in state if name != "db"})
        if "other" in state:
            return _Write("DELETE", "/other", None, {"db": state["db"]})
        return _Write("PUT", "/other", None, {**state, "other": {}})

    def _put_document(self, state: _State, name: str, document: _Document) -> _Write:
        members = {"text": self._random.randbytes(self._random.choice([5, 5000])).hex()}
        kept = {each: body for each, body in document.attachments.items() if self._random.random() < 0.7}
        inline = {each: self._body() for each in "xy"[: self._random.randrange(3)]}
        stubs = {each: {"stub": True} for each in kept} | {
            each: {"content_type": "text/plain", "data": b64encode(body).decode()} for each, body in inline.items()
        }
        content = {**members, "_attachments": stubs} | ({"_rev": document.rev} if document.rev else {})
        after = _with(state, name, _Document(None, members, kept | inline))
        return _Write("PUT", f"/db/{name}", json.dumps(content).encode(), after, ("db", name))

    def _put_attachment(self, state: _State, name: str, document: _Document) -> _Write:
        body, which = self._body(), self._random.choice("xyz")
        after = _with(state, name, evolve(document, rev=None, attachments={**document.attachments, which: body}))
        kind = self._random.choice(["text/plain", "image/png"])
        return _Write("PUT", f"/db/{name}/{which}{_rev(document)}", body, after, ("db", name), kind)

    def _delete_document(self, state: _State, name: str, document: _Document) -> _Write:
        return _Write("DELETE", f"/db/{name}{_rev(document)}", None, _with(state, name, None))

    def _delete_attachment(self, state: _State, name: str, document: _Document) -> _Write:
        which = self._random.choice(sorted(document.attachments))
        rest = {each: body for each, body in document.attachments.items() if each != which}
        after = _with(state, name, evolve(document, rev=None, attachments=rest))
        return _Write("DELETE", f"/db/{name}/{which}{_rev(document)}", None, after, ("db", name))

    def _body(self) -> bytes:
        """One of few, so that some are stored twice; below and above what is kept in memory."""
        return Random(self._random.randrange(6)).randbytes(self._random.choice([10, 40_000])) * 2


def _rev(document: _Document) -> str:
    return "" if document.rev is None else f"?rev={document.rev}"


def _with(state: _State, name: str, document: _Document | None) -> _State:
    documents = {each: other for each, other in state["db"].items() if each != name}
    return {**state, "db": documents if document is None else {**documents, name: document}}


def _told(state: _State, written: tuple[str, str] | None, rev: str | None) -> _State:
    """The state with the revision that an answer has told."""
    if written is None:
        return state
    database, name = written
    return {**state, database: {**state[database], name: evolve(state[database][name], rev=rev)}}


class _Stores:
    """The process in which stores live and die."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.store.dying_store"]
        self._process = subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def write_until_death(self, directory: Path, steps: int, writer: _Writer, state: _State) -> tuple[_State, _State]:
        """:returns: the state that was acknowledged last, and that of the write under way."""
        self._say(f"{directory} {steps}")
        port = int(self._hear())
        while True:
            write = writer.next(state)
            answer = _ask(port, write)
            if answer is None:
                assert self._hear() == "dead"
                return state, write.after
            assert answer.status in {200, 201, 202}, (write, answer)
            state = _told(write.after, write.written, answer.json.get("rev"))

    def end(self) -> None:
        self._process.communicate()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def _ask(port: int, write: _Write) -> Response | None:
    received = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT) as connection:
            connection.sendall(request(write.method, write.target, write.body, Content_Type=write.kind))
            while piece := connection.recv(1 << 16):
                received += piece
    except ConnectionError:
        pass
    return parse_response(received, is_head=False)


def _read(directory: Path) -> _State:
    """What a start finds."""
    store = Store.open(directory, reactor)  # type: ignore[arg-type]
    try:
        return {database: dict(_documents(store, database)) for database in store.databases()}
    finally:
        store.close()


def _documents(store: Store, database: str) -> Iterator[tuple[str, _Document]]:
    for name in "abc":
        try:
            revision, attachments = store.document(database, name, None, latest=False)
        except Refusal:
            continue
        found = {each.name: _content(store, each) for each in attachments}
        yield name, _Document(str(revision.rev), json.loads(revision.text), found)


def _content(store: Store, attachment: Attachment) -> bytes:
    body = attachment.body
    with store.open_body(attachment) as file:
        assert md5(file.read()).digest() == body.digest.md5
        file.seek(0)
        pieces = bodies.decoded(file, body) if body.encoding is Encoding.GZIP else bodies.whole(file, body)
        return b"".join(pieces)


def _is(found: _State, expected: _State) -> bool:
    """Whether a state is the expected one, where revisions that were never told may be any."""
    return found == {
        database: {
            name: evolve(document, rev=found[database][name].rev)
            if document.rev is None and name in found.get(database, {})
            else document
            for name, document in documents.items()
        }
        for database, documents in expected.items()
    }


def _check_files(directory: Path) -> None:
    """The database is sound, and every body that it names is there, and no other."""
    connection = sqlite3.connect(directory / "store.sqlite3")
    problems: list[Any] = connection.execute("PRAGMA foreign_key_check").fetchall()
    assert (connection.execute("PRAGMA integrity_check").fetchall(), problems) == ([("ok",)], [])
    named = {name for (name,) in connection.execute("SELECT blob FROM attachments")}
    connection.close()
    blobs = {path.name: path.read_bytes() for path in (directory / "blobs").rglob("*") if path.is_file()}
    assert blobs.keys() == named
    assert all(sha256(content).hexdigest() == name for name, content in blobs.items())
    assert list((directory / "incoming").iterdir()) == []


@pytest.fixture(scope="module")
def stores() -> Iterator[_Stores]:
    stores = _Stores()
    yield stores
    stores.end()


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_step(stores: _Stores, tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    writer = _Writer(random)
    state: _State = {}
    for _ in range(10):
        steps = random.randrange(_MOST_STEPS)
        acknowledged, begun = stores.write_until_death(tmp_path, steps, writer, state)
        state = _read(tmp_path)
        assert _is(state, acknowledged) or _is(state, begun), steps
        _check_files(tmp_path)
