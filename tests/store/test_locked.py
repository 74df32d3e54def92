"""
Another program has the database locked: reads go on, and writes wait for it, but not for ever; the reactor does not.
"""

import json
import sqlite3
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred

from tests.store.serving import ServedStore, in_reactor
from txcouchdl.store import errors, schema
from txcouchdl.store.catalogue import Catalogue
from txcouchdl.store.store import Store

_PROGRAM = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)
connection.execute("PRAGMA locking_mode = " + sys.argv[2])
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


class _Lock:
    """Another program's."""

    def __init__(self, directory: Path, mode: str) -> None:
        command = [sys.executable, "-c", _PROGRAM, str(directory / "store.sqlite3"), mode]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"locked\n"

    def release(self) -> None:
        """May be called twice."""
        self._process.communicate()


@contextmanager
def _locked(directory: Path, mode: str = "NORMAL") -> Iterator[_Lock]:
    lock = _Lock(directory, mode)
    try:
        yield lock
    finally:
        lock.release()


@pytest.fixture
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands before ``served``, for it counts when the store is opened."""
    monkeypatch.setattr(schema, "PATIENCE", 0.05)


@in_reactor
async def test_writes_wait_and_nobody_else(served: ServedStore) -> None:
    await served.ask("PUT", "/db")
    await served.ask("PUT", "/db/doc/file", b"body")
    with _locked(served.directory) as lock:
        writing = [ensureDeferred(served.ask("PUT", f"/db/{number}", "{}")) for number in range(6)]
        # More writes than there are threads for them; and all of these are answered while they wait.
        for _ in range(20):
            assert (await served.ask("GET", "/db/doc")).status == 200
            assert (await served.ask("GET", "/db/doc/file")).body == b"body"
            assert (await served.ask("GET", "/db/1")).status == 404
        assert not any(write.called for write in writing)
        lock.release()
        assert [(await write).status for write in writing] == [201] * 6


def test_the_reactor_waits_for_no_lock(tmp_path: Path) -> None:
    """Programs that speak SQLite lock no reader of a WAL out, so that nothing else shows it."""
    store = Store.open(tmp_path, reactor)  # type: ignore[arg-type]
    (patience,) = store._reading.execute("PRAGMA busy_timeout").fetchone()
    store.close()
    assert patience == 0


@pytest.mark.usefixtures("_no_patience")
@in_reactor
async def test_locked_for_too_long(served: ServedStore) -> None:
    await served.ask("PUT", "/db")
    first = (await served.ask("PUT", "/db/doc/file", b"body")).json["rev"]
    inline = json.dumps({"_attachments": {"a": {"data": b64encode(b"inline" * 20_000).decode()}}})
    writes = [
        ("PUT", "/other", None),
        ("PUT", "/db/new", "{}"),
        ("PUT", "/db/inline", inline),
        ("PUT", "/db/attached/file", b"x" * 100_000),
        ("DELETE", f"/db/doc/file?rev={first}", None),
        ("DELETE", "/db", None),
    ]
    with _locked(served.directory):
        for method, target, body in writes:
            answer = await served.ask(method, target, body)
            assert (answer.status, answer.json["error"]) == (503, "service_unavailable"), target
        assert (await served.ask("GET", "/_all_dbs")).json == ["db"]
        assert (await served.ask("GET", "/db/doc/file")).body == b"body"
        assert served.files("incoming") == []
        assert len(served.files("blobs")) == 1
    for method, target, body in writes:
        assert (await served.ask(method, target, body)).status in {200, 201}, target


@in_reactor
async def test_a_read_that_is_locked_out(served: ServedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY_RECOVERY
        raise error

    monkeypatch.setattr(Catalogue, "database_key", refuse)
    for target in ("/db", "/db/doc", "/db/doc/file"):
        answer = await served.ask("GET", target)
        assert (answer.status, answer.json["error"]) == (503, "service_unavailable")


@pytest.mark.usefixtures("_no_patience")
@pytest.mark.parametrize("is_new", [True, False])
def test_locked_at_the_start(tmp_path: Path, is_new: bool) -> None:
    if not is_new:
        Store.open(tmp_path, reactor).close()  # type: ignore[arg-type]
    with _locked(tmp_path, "EXCLUSIVE"), pytest.raises(errors.StoreLocked, match=r"is locked by another program$"):
        Store.open(tmp_path, reactor)  # type: ignore[arg-type]
    Store.open(tmp_path, reactor).close()  # type: ignore[arg-type]
