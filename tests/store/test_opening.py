"""A directory becomes a store, or is refused with a line for the operator."""

import sqlite3
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.store.serving import ServedStore, in_reactor
from txcouchdl.store import errors
from txcouchdl.store.store import Store


def _open(directory: Path) -> Store:
    return Store.open(directory, reactor)  # type: ignore[arg-type]


def _refusal(directory: Path) -> errors.StoreError:
    """The refusal; a refused store lets go of the directory."""
    with pytest.raises(errors.StoreError) as raised:
        _open(directory)
    message = str(raised.value)
    assert str(directory) in message
    assert "\n" not in message
    return raised.value


def test_makes_what_is_not_there(tmp_path: Path) -> None:
    _open(tmp_path / "a" / "b").close()
    directory = tmp_path / "a" / "b"
    assert sorted(path.name for path in directory.iterdir()) == ["blobs", "incoming", "lock", "store.sqlite3"]
    assert directory.stat().st_mode & 0o077 == 0


def test_may_be_closed_twice(tmp_path: Path) -> None:
    store = _open(tmp_path)
    store.close()
    store.close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    store = _open(tmp_path)
    assert isinstance(_refusal(tmp_path), errors.StoreLocked)
    store.close()
    _open(tmp_path).close()


def test_not_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert isinstance(_refusal(tmp_path / "file"), errors.NotAStore)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "blobs").write_text("")
    assert isinstance(_refusal(tmp_path / "store"), errors.NotAStore)


def test_damaged(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite3").write_bytes(b"not a database at all" * 100)
    assert isinstance(_refusal(tmp_path), errors.DamagedStore)
    (tmp_path / "store.sqlite3").unlink()
    _open(tmp_path).close()


def test_foreign(tmp_path: Path) -> None:
    _database(tmp_path, "CREATE TABLE other (x)")
    assert isinstance(_refusal(tmp_path), errors.ForeignStore)


def test_newer(tmp_path: Path) -> None:
    _open(tmp_path).close()
    _database(tmp_path, "PRAGMA user_version = 3")
    assert isinstance(_refusal(tmp_path), errors.NewerStore)
    _database(tmp_path, "PRAGMA user_version = 2")
    _open(tmp_path).close()


def _database(directory: Path, statement: str) -> None:
    connection = sqlite3.connect(directory / "store.sqlite3")
    connection.execute(statement)
    connection.close()


@in_reactor
async def test_a_restart_keeps_all_and_sweeps(tmp_path: Path) -> None:
    served = ServedStore.start(tmp_path, reactor)
    await served.ask("PUT", "/db")
    await served.ask("PUT", "/db/doc/file", b"kept")
    await served.stop()
    (blob,) = served.files("blobs")
    (blob.parent / ("f" * 64)).write_bytes(b"nobody's")
    (tmp_path / "incoming" / "left").write_bytes(b"half")
    served = ServedStore.start(tmp_path, reactor)
    assert (served.files("blobs"), served.files("incoming")) == ([blob], [])
    assert (await served.ask("GET", "/db/doc/file")).body == b"kept"
    await served.stop()


@in_reactor
async def test_close_waits_for_writes(tmp_path: Path) -> None:
    store = _open(tmp_path)
    writing: Deferred[None] = store.create_database("db")
    store.close()
    await writing
    store = _open(tmp_path)
    assert store.databases() == ["db"]
    store.close()
