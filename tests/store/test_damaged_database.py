"""
A database that is not what was written any more, at the start or while it is open: what is read is right or an error,
and nothing is thrown away.
"""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred

from tests.store.serving import Response, ServedStore, in_reactor
from txcouchdl.store import errors
from txcouchdl.store.store import Store

_PAGE = 4096
_RANDOM = Random(11)

#: Long ones too: their texts lie in pages of their own, where any bytes look well to SQLite.
_DOCUMENTS = {f"doc{length}": {"text": _RANDOM.randbytes(length // 2).hex()} for length in (10, 900, 30_000, 80_000)}
_BODIES = {f"/db/att{number}/file": _RANDOM.randbytes(1000) for number in range(30)}


async def _fill(served: ServedStore) -> None:
    assert (await served.ask("PUT", "/db")).status == 201
    for document, members in _DOCUMENTS.items():
        assert (await served.ask("PUT", f"/db/{document}", json.dumps(members))).status == 201
    for target, body in _BODIES.items():
        assert (await served.ask("PUT", target, body)).status == 201


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A filled store, closed."""
    served = ServedStore.start(tmp_path_factory.mktemp("template") / "store", reactor)
    pytest_twisted.blockon(ensureDeferred(_fill(served)))
    pytest_twisted.blockon(served.stop())
    return served.directory


@pytest.fixture
def filled(template: Path, tmp_path: Path) -> Iterator[ServedStore]:
    """A filled store that is served until the test ends; its log is empty."""
    served = ServedStore.start(shutil.copytree(template, tmp_path / "filled"), reactor)
    yield served
    pytest_twisted.blockon(served.stop())


async def _check(served: ServedStore) -> int:
    """
    What is read is right, or an error as CouchDB's.

    :returns: how many errors there were.
    """
    refused = 0
    for document, members in _DOCUMENTS.items():
        answer = await served.ask("GET", f"/db/{document}")
        if _is_refused(answer):
            refused += 1
        else:
            assert {name: value for name, value in answer.json.items() if not name.startswith("_")} == members
    for target, body in list(_BODIES.items())[::10]:
        answer = await served.ask("GET", target)
        if _is_refused(answer):
            refused += 1
        else:
            assert answer.body == body
    return refused


def _is_refused(answer: Response) -> bool:
    assert answer.is_whole
    if answer.status == 200:
        return False
    # 404, where the page that says that it is there is gone without a trace.
    assert answer.status in {404, 500}
    assert answer.json.keys() == {"error", "reason"}
    # An answer that was thought of, not the last line of defence.
    assert "mistake" not in answer.json["reason"]
    return True


def _database(served: ServedStore, suffix: str = "") -> Path:
    return served.directory / f"store.sqlite3{suffix}"


def _overwrite(file: Path, position: int, data: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(position)
        opened.write(data)


def _refusal(directory: Path) -> str:
    with pytest.raises(errors.DamagedStore) as raised:
        Store.open(directory, reactor)  # type: ignore[arg-type]
    return str(raised.value)


@pytest.mark.parametrize("length", [100, 512, _PAGE, 20 * _PAGE + 7])
@in_reactor
async def test_cut_short(filled: ServedStore, length: int) -> None:
    await filled.stop()
    os.truncate(_database(filled), length)
    line = _refusal(filled.directory)
    assert line.startswith(f"{_database(filled)} cannot be read as a database: ")
    assert "\n" not in line
    assert len(filled.files("blobs")) == len(_BODIES)


@pytest.mark.parametrize("remove", [Path.unlink, lambda path: os.truncate(path, 0)])
@in_reactor
async def test_missing(filled: ServedStore, remove: Callable[[Path], None]) -> None:
    """A new one in its place would have no use for all the bodies."""
    await filled.stop()
    remove(_database(filled))
    worthless = f"{_database(filled)} is missing or empty: without it, {filled.directory / 'blobs'} is worth nothing"
    assert [_refusal(filled.directory) for _ in range(2)] == [worthless] * 2
    assert len(filled.files("blobs")) == len(_BODIES)


@in_reactor
async def test_a_header_of_garbage(filled: ServedStore) -> None:
    await filled.stop()
    _overwrite(_database(filled), 0, bytes(100))
    assert _refusal(filled.directory).startswith(f"{_database(filled)} cannot be read as a database: ")
    assert len(filled.files("blobs")) == len(_BODIES)


@in_reactor
async def test_a_log_that_is_missing(served: ServedStore, tmp_path: Path) -> None:
    """As a crash leaves the files, but for the log: what was written last is in the log alone."""
    await _fill(served)
    copy = shutil.copytree(served.directory, tmp_path / "copy")
    await served.stop()
    log = (copy / "store.sqlite3-wal").rename(tmp_path / "log")
    line = _refusal(copy)
    assert line.startswith(f"{copy / 'store.sqlite3-wal'} is missing, ")
    assert line.endswith(f"; to go on without, remove {copy / 'store.sqlite3-shm'}")
    log.rename(copy / "store.sqlite3-wal")
    served.directory = copy
    served.serve()
    assert await _check(served) == 0


@in_reactor
async def test_a_page_that_hides_bodies(filled: ServedStore) -> None:
    """The attachments' last page instead of the one before: well-formed, and half of all bodies seem to be nobody's."""
    await filled.stop()
    content = _database(filled).read_bytes()
    # The last ones that the database took, for the attachments came last.
    *_, page, other = range(len(content) // _PAGE)
    _overwrite(_database(filled), page * _PAGE, content[other * _PAGE :])
    assert "PRIMARY KEY order" in _refusal(filled.directory)
    assert len(filled.files("blobs")) == len(_BODIES)


@pytest.mark.parametrize("seed", range(6))
@in_reactor
async def test_pages_of_something_else(filled: ServedStore, seed: int) -> None:
    """One page is of zeros, of garbage, or a copy of another one, as a disk does it that writes to the wrong place."""
    await filled.stop()
    random = Random(seed)
    database = _database(filled)
    content = database.read_bytes()
    page, other = random.sample(range(1, len(content) // _PAGE), 2)
    for data in (bytes(_PAGE), random.randbytes(_PAGE), content[other * _PAGE :][:_PAGE]):
        _overwrite(database, page * _PAGE, data)
        try:
            filled.serve()
        except errors.DamagedStore as error:
            line = str(error)
        else:
            await _check(filled)
            # None that is only not to be found now is taken for one that nobody needs.
            assert len(filled.files("blobs")) == len(_BODIES)
            await filled.stop()
            line = ""
        assert "\n" not in line
        database.write_bytes(content)


@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.parametrize("damage", ["cut", "zeros", "garbage"])
@in_reactor
async def test_damaged_while_it_is_open(filled: ServedStore, tmp_path: Path, suffix: str, damage: str) -> None:
    if suffix:
        await filled.stop()
        filled.directory = tmp_path / "logged"
        filled.serve()
        await _fill(filled)
    file = _database(filled, suffix)
    length = file.stat().st_size
    if damage == "cut":
        os.truncate(file, length // 2)
    else:
        _overwrite(file, _PAGE, bytes(length - _PAGE) if damage == "zeros" else Random(1).randbytes(length - _PAGE))
    assert await _check(filled) > 0
    written = await filled.ask("PUT", "/db/new", "{}")
    assert written.status in {201, 404, 500}
    assert (await filled.ask("GET", "/_up")).status == 200


@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.parametrize("is_replaced", [False, True])
@in_reactor
async def test_removed_while_it_is_open(filled: ServedStore, suffix: str, is_replaced: bool) -> None:
    """SQLite would go on as if nothing had happened, until the next start."""
    file = _database(filled, suffix)
    content = file.read_bytes()
    file.unlink()
    if is_replaced:
        file.write_bytes(content)
    for target, body in (("/db/new", "{}"), ("/db/new/file", b"body"), ("/other", None)):
        answer = await filled.ask("PUT", target, body)
        assert (answer.status, answer.json["error"]) == (500, "internal_server_error")
        assert "removed" in answer.json["reason"]
    assert len(filled.files("blobs")) == len(_BODIES)
    assert await _check(filled) == 0


def _change(served: ServedStore, statement: str) -> None:
    """A change that leaves the database well-formed."""
    connection = sqlite3.connect(_database(served))
    with connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        assert connection.execute(statement).rowcount == 1
    connection.close()


@pytest.mark.parametrize(
    "changed",
    [
        "revisions SET body = replace(body, 'right', 'wrong')",
        "revisions SET body = ''",
        "revisions SET hash = substr(hash, 2)",
        "revisions SET hash = 'no revision'",
        "revisions SET generation = 3",
        "attachments SET content_type = 'text/html'",
        "attachments SET name = 'other'",
        "attachments SET blob = replace(blob, substr(blob, 1, 1), '0')",
        "attachments SET blob = 'no blob'",
        "attachments SET encoding = 'none'",
        "attachments SET length = -1",
        "attachments SET md5 = x'00'",
        "attachments SET md5 = zeroblob(16)",
        "attachments SET encoding = 'gzip'",
        "attachments SET length = length + 1",
        "attachments SET stored_length = stored_length + 1",
        "attachments SET revpos = 1",
        "revisions SET checksum = NULL",
        "revisions SET checksum = replace(checksum, substr(checksum, 1, 1), 'z')",
    ],
)
@in_reactor
async def test_a_changed_record(served: ServedStore, changed: str) -> None:
    """A revision that its checksum does not match is neither read nor built upon."""
    await served.ask("PUT", "/db")
    rev = (await served.ask("PUT", "/db/doc", '{"what":"right"}')).json["rev"]
    rev = (await served.ask("PUT", f"/db/doc/file?rev={rev}", b"body", content_type="image/png")).json["rev"]
    assert (await served.ask("PUT", "/db/other", "{}")).status == 201
    table = changed.partition(" ")[0]
    newest = "key = 2" if table == "revisions" else "revision = 2"
    _change(served, f"UPDATE {changed} WHERE {newest}")
    answer = await served.ask("GET", "/db/doc")
    assert (answer.status, answer.json["reason"]) == (500, "This document is damaged in the database of the store.")
    # By a name that it does not have any more it is not found.
    assert (await served.ask("GET", f"/db/doc?rev={rev}")).status in {404, 500}
    assert (await served.ask("PUT", f"/db/doc/more?rev={rev}", b"more")).status in {409, 500}
    answer = await served.ask("GET", "/db/doc/file")
    assert answer.status in {404, 500} or answer.body == b"body"
    assert (await served.ask("GET", "/db/other")).status == 200


@in_reactor
async def test_a_revision_of_another_document(served: ServedStore) -> None:
    await served.ask("PUT", "/db")
    await served.ask("PUT", "/db/doc", '{"what":"right"}')
    _change(served, "UPDATE revisions SET document = 'other'")
    assert (await served.ask("GET", "/db/other")).status == 500
    assert (await served.ask("GET", "/db/doc")).status == 404


@in_reactor
async def test_a_changed_parent(served: ServedStore) -> None:
    await served.ask("PUT", "/db")
    rev = (await served.ask("PUT", "/db/doc", '{"what":"right"}')).json["rev"]
    assert (await served.ask("PUT", f"/db/doc?rev={rev}", '{"what":"right"}')).status == 201
    _change(served, "UPDATE revisions SET hash = replace(hash, substr(hash, 1, 1), 'z') WHERE generation = 1")
    assert (await served.ask("GET", "/db/doc")).status == 500


@in_reactor
async def test_a_tombstone_that_seems_to_be_a_document(served: ServedStore) -> None:
    await served.ask("PUT", "/db")
    rev = (await served.ask("PUT", "/db/doc", '{"what":"right"}')).json["rev"]
    assert (await served.ask("DELETE", f"/db/doc?rev={rev}")).status == 200
    _change(served, "UPDATE revisions SET deleted = 0 WHERE generation = 2")
    assert (await served.ask("GET", "/db/doc")).status == 500


@in_reactor
async def test_a_damaged_document_can_be_deleted(served: ServedStore) -> None:
    await served.ask("PUT", "/db")
    rev = (await served.ask("PUT", "/db/doc", '{"what":"right"}')).json["rev"]
    _change(served, "UPDATE revisions SET body = '{}'")
    answer = await served.ask("GET", "/db/doc")
    assert (answer.status, answer.json["error"]) == (500, "internal_server_error")
    assert answer.json["reason"] == "This document is damaged in the database of the store."
    assert (await served.ask("DELETE", f"/db/doc?rev={rev}")).status == 200
    assert (await served.ask("PUT", "/db/doc", '{"what":"new"}')).status == 201
    assert (await served.ask("GET", "/db/doc")).json["what"] == "new"
