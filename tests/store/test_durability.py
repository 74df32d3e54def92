"""What kill -9 cannot show: that the disk is told to keep what was written, and in which order."""

import os
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import DeferredList, ensureDeferred

from tests.store.serving import ServedStore, in_reactor
from txcouchdl.store import schema
from txcouchdl.store.edits import Editor


def test_commits_wait_for_the_disk(tmp_path: Path) -> None:
    schema.prepare(tmp_path / "db", tmp_path / "blobs")
    connection = schema.connect(tmp_path / "db", 0)
    pragmas = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    connection.close()
    assert pragmas == ["wal", 2]


@in_reactor
async def test_a_body_is_durable_before_it_is_committed(served: ServedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await served.ask("PUT", "/db")
    steps: list[str] = []
    fsync, replace, execute = os.fsync, Path.replace, Editor._execute

    def note_fsync(descriptor: int) -> None:
        synced = Path(os.readlink(f"/proc/self/fd/{descriptor}")).relative_to(served.directory)
        steps.append(f"fsync {synced.parts[0]}/{len(synced.parts)}")
        fsync(descriptor)

    def note_replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(self, target)

    def note_execute(self: Editor, statement: str, *values: object) -> Any:
        if statement in {"BEGIN IMMEDIATE", "COMMIT"}:
            steps.append(statement)
        return execute(self, statement, *values)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    monkeypatch.setattr(Editor, "_execute", note_execute)
    assert (await served.ask("PUT", "/db/doc/file", b"body")).status == 201
    # The file, the new folder's name, the file's new name; and only then the row that names it.
    assert steps == ["fsync incoming/2", "BEGIN IMMEDIATE", "fsync blobs/1", "rename", "fsync blobs/2", "COMMIT"]


def test_an_error_that_ended_the_transaction_is_told(tmp_path: Path) -> None:
    """As a full disk does; there is nothing left to roll back then."""
    schema.prepare(tmp_path / "db", tmp_path / "blobs")
    connection = schema.connect(tmp_path / "db", 0)
    editor = Editor(connection)

    def fill_the_disk() -> None:
        with editor.transaction():
            editor.create_database("db")
            connection.execute("ROLLBACK")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fill_the_disk()
    assert editor.databases() == []
    connection.close()


@in_reactor
async def test_of_many_writers_one_wins(served: ServedStore) -> None:
    await served.ask("PUT", "/db")
    rev = (await served.ask("PUT", "/db/doc/file", b"first")).json["rev"]
    bodies = [b"%d" % number * 200_000 for number in range(8)]
    writing = [ensureDeferred(served.ask("PUT", f"/db/doc/file?rev={rev}", body)) for body in bodies]
    answers = [answer for _, answer in await DeferredList(writing, fireOnOneErrback=True)]
    assert sorted(answer.status for answer in answers) == [201] + [409] * 7
    (winner,) = [body for body, answer in zip(bodies, answers, strict=True) if answer.status == 201]
    assert (await served.ask("GET", "/db/doc/file")).body == winner
    assert served.files("incoming") == []
    assert len(served.files("blobs")) == 2
