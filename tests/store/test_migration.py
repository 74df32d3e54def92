"""
A store that an earlier version wrote: ``recorded/schema-1.tar.gz``, from before revision ids were CouchDB's.

It has documents with and without attachments, a tombstone, a document that was deleted and written again, and a
compaction in between.
"""

import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from tests.store.serving import ServedStore, in_reactor, serving
from txcouchdl.store import errors
from txcouchdl.store.store import Store

_ARCHIVE = Path(__file__).parent / "recorded" / "schema-1.tar.gz"

#: The ids that the earlier version gave.
_REVS = {
    "plain": "1-2a19f9a5b4f2f303fdfc023f2d5c4228",
    "files": "3-7cd334d867c0fcde630a5e521bf91b44",
    "again": "3-bcd7082bf2d3571363157e62802462bc",
    "kept": "2-2d81739c1b7d5e1b4d7461ccef93623c",
    "_design/d": "1-39b9abdb4dfb4293ba4cb92b26f1ab87",
}
_TOMBSTONE = "2-29a9933792831f4d5d2e59ef275131f1"
_BODIES = {"files/hello.txt": b"hello\n" * 50, "files/picture.png": bytes(range(256)), "kept/i": b"x"}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    directory = tmp_path / "old"
    with tarfile.open(_ARCHIVE) as archive:
        # Debian 12's Python has no filters for archives, and later ones warn of archives without.
        for member in archive:
            content = archive.extractfile(member)
            if content is None:
                (directory / member.name).mkdir(parents=True, exist_ok=True)
            else:
                (directory / member.name).parent.mkdir(parents=True, exist_ok=True)
                (directory / member.name).write_bytes(content.read())
    return directory


@pytest.fixture
def migrated(old: Path) -> Iterator[ServedStore]:
    served = ServedStore.start(old, reactor)
    yield served
    pytest_twisted.blockon(served.stop())


def _version(directory: Path) -> int:
    connection = sqlite3.connect(directory / "store.sqlite3")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return int(version)


async def _check(served: ServedStore) -> None:
    assert (await served.ask("GET", "/_all_dbs")).json == ["empty", "notes"]
    for document_id, rev in _REVS.items():
        answer = await served.ask("GET", f"/notes/{document_id}")
        assert (answer.status, answer.json["_rev"]) == (200, rev)
    for target, body in _BODIES.items():
        answer = await served.ask("GET", f"/notes/{target}")
        assert (answer.status, answer.body) == (200, body)
    assert (await served.ask("GET", "/notes/gone")).json["reason"] == "deleted"
    assert (await served.ask("GET", f"/notes/gone?rev={_TOMBSTONE}")).json["_deleted"] is True


@in_reactor
async def test_all_of_it_is_still_there(migrated: ServedStore) -> None:
    await _check(migrated)
    assert (await migrated.ask("GET", "/notes/plain")).json == {
        "_id": "plain",
        "_rev": _REVS["plain"],
        "b": 1,
        "a": [1, 2, {"x": 1.0}],
        "big": 123456789012345678901234567890,
        "s": "é\n",
    }
    info = (await migrated.ask("GET", "/notes/files?revs_info=true")).json["_revs_info"]
    assert [revision["status"] for revision in info] == ["available", "missing", "missing"]


@in_reactor
async def test_it_is_written_to(migrated: ServedStore) -> None:
    """New revisions have CouchDB's ids, whose parents are the old ones."""
    rev = _REVS["files"]
    new = (await migrated.ask("PUT", f"/notes/files/new?rev={rev}", b"new", content_type="a/b")).json["rev"]
    stubs = (await migrated.ask("GET", "/notes/files")).json["_attachments"]
    assert list(stubs) == ["new", "picture.png", "hello.txt"]
    for target, body in _BODIES.items():
        assert (await migrated.ask("GET", f"/notes/{target}")).body == body
    assert (await migrated.ask("GET", f"/notes/files?rev={rev}")).json["_rev"] == rev
    assert (await migrated.ask("DELETE", f"/notes/files?rev={new}")).status == 200
    assert (await migrated.ask("PUT", "/notes/gone", "{}")).json["rev"].startswith("3-")
    compaction = await migrated.ask("POST", "/notes/_compact", "", content_type="application/json")
    assert compaction.status == 202


@in_reactor
async def test_it_is_migrated_once(old: Path) -> None:
    assert _version(old) == 1
    for _ in range(2):
        async with serving(old, reactor) as served:
            await _check(served)
        assert _version(old) == 2


@pytest.mark.parametrize(
    "changed",
    [
        "revisions SET body = replace(body, '1.0', '1') WHERE document = 'plain'",
        "revisions SET hash = replace(hash, '2', '3') WHERE document = 'plain'",
        "revisions SET checksum = '' WHERE document = 'plain'",
    ],
)
@in_reactor
async def test_damage_to_an_old_revision_is_seen(migrated: ServedStore, changed: str) -> None:
    connection = sqlite3.connect(migrated.directory / "store.sqlite3")
    with connection:
        assert connection.execute(f"UPDATE {changed}").rowcount == 1
    connection.close()
    answer = await migrated.ask("GET", "/notes/plain")
    assert (answer.status, answer.json["reason"]) == (500, "This document is damaged in the database of the store.")
    assert (await migrated.ask("GET", "/notes/kept")).status == 200


@pytest.mark.parametrize("version", [0, -1])
def test_a_version_that_never_was(old: Path, version: int) -> None:
    connection = sqlite3.connect(old / "store.sqlite3")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    with pytest.raises(errors.DamagedStore, match=f"schema {version},"):
        Store.open(old, reactor)  # type: ignore[arg-type]
    assert _version(old) == version


@in_reactor
async def test_a_migration_that_is_interrupted(old: Path, tmp_path: Path) -> None:
    """A copy of the files in the middle of the transaction is the store as it was before."""
    connection = sqlite3.connect(old / "store.sqlite3", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN")
    connection.execute("ALTER TABLE revisions ADD COLUMN checksum TEXT")
    connection.execute("PRAGMA user_version = 2")
    copy = shutil.copytree(old, tmp_path / "copy")
    connection.close()
    assert _version(copy) == 1
    async with serving(copy, reactor) as served:
        await _check(served)
