"""
A disk that is really full: a small tmpfs. What does not fit is refused with 507 and leaves nothing behind; what was
acknowledged is read meanwhile, and after; and when there is room again, all goes on without a restart.
"""

import json
import os
import subprocess
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import DeferredList, ensureDeferred

from tests.store.serving import Response, ServedStore, in_reactor
from txcouchdl.store import errors
from txcouchdl.store.store import Store

_PAGE = 4096
_SIZE = 16 << 20


class _Disk:
    """
    A small file system.

    :ivar path: where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    @property
    def free_pages(self) -> int:
        return os.statvfs(self.path).f_bavail

    def fill(self, but_pages: int = 0) -> None:
        """Use up all but some pages of 4 KiB."""
        self.make_room()
        taken = self.free_pages - but_pages
        with self._filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, taken * _PAGE)
        assert self.free_pages == but_pages

    def make_room(self) -> None:
        self._filler.unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[_Disk]:
    """An empty one of 16 MiB, and 400 files."""
    path = tmp_path / "disk"
    path.mkdir()
    options = f"size={_SIZE},nr_inodes=400"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a file system: {mounted.stderr.decode().strip()}")
    try:
        yield _Disk(path)
    finally:
        # Lazily: also when a test that failed has files open.
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture
def served(disk: _Disk) -> Iterator[ServedStore]:
    """A store on that disk, with one database, which is served until the test ends."""
    served = ServedStore.start(disk.path / "store", reactor)
    yield served
    pytest_twisted.blockon(served.stop())


class _Writes:
    """
    Writes of each kind, each to a document of its own, and what became of them. They return whether there was room.

    :ivar written: target -> the bytes, or the JSON, of what was acknowledged.
    """

    def __init__(self, served: ServedStore) -> None:
        self._served = served
        self.written: dict[str, bytes | dict[str, str]] = {}
        self._refused: list[str] = []
        self._random = Random(7)
        self._count = 0

    async def attach(self, length: int, kind: str = "image/png") -> bool:
        return await self._attach(self._random.randbytes(length // 2).hex().encode(), kind)

    async def attach_again(self, _length: int) -> bool:
        """A body that some attachment has already."""
        return await self._attach(next(body for body in self.written.values() if isinstance(body, bytes)), "image/png")

    async def attach_inline(self, length: int) -> bool:
        parts = {name: self._random.randbytes(length) for name in "ab"}
        entries = {name: {"content_type": "image/png", "data": b64encode(parts[name]).decode()} for name in parts}
        return await self._put("", json.dumps({"_attachments": entries}), {f"/{name}": parts[name] for name in parts})

    async def put_document(self, length: int) -> bool:
        members = {"text": self._random.randbytes(length // 2).hex()}
        return await self._put("", json.dumps(members), {"": members})

    async def _attach(self, body: bytes, kind: str) -> bool:
        return await self._put("/file", body, {"/file": body}, content_type=kind)

    async def _put(
        self, path: str, body: str | bytes, contents: Mapping[str, bytes | dict[str, str]], **fields: str
    ) -> bool:
        self._count += 1
        document = f"/db/{self._count}"
        is_written = _is_written(await self._served.ask("PUT", document + path, body, **fields))
        if is_written:
            self.written |= {document + below: content for below, content in contents.items()}
        else:
            self._refused.append(document)
        return is_written

    async def check(self) -> None:
        """All that was acknowledged is there, nothing that was refused is, and no body is that nobody has."""
        for target, content in self.written.items():
            answer = await self._served.ask("GET", target)
            assert (answer.status, answer.is_whole) == (200, True), target
            found = answer.body if isinstance(content, bytes) else {"text": answer.json["text"]}
            assert found == content, target
        for target in self._refused:
            assert (await self._served.ask("GET", target)).status == 404, target
        assert self._served.files("incoming") == []
        bodies = {content for content in self.written.values() if isinstance(content, bytes)}
        assert len(self._served.files("blobs")) == len(bodies)


def _is_written(answer: Response) -> bool:
    if answer.status != 201:
        assert (answer.status, answer.reason) == (507, "Insufficient Storage")
        assert answer.json == {"error": "insufficient_storage", "reason": "The disk of the store is full."}
    return answer.status == 201


@in_reactor
async def test_an_upload_that_does_not_fit(served: ServedStore, disk: _Disk) -> None:
    """It gives its room back, in which something can be deleted to make more."""
    writes = _Writes(served)
    await served.ask("PUT", "/db")
    disk.fill(but_pages=900)
    while await writes.attach(1_000_000):
        pass
    await writes.check()
    assert len(writes.written) == 3
    (target, _) = writes.written.popitem()
    document = target.removesuffix("/file")
    rev = (await served.ask("GET", document)).json["_rev"]
    assert (await served.ask("DELETE", f"{target}?rev={rev}")).status == 200
    assert (await served.ask("POST", "/db/_compact", content_type="application/json")).status == 202
    assert await writes.attach(1_000_000)
    await writes.check()


@in_reactor
async def test_filled_to_the_last_page(served: ServedStore, disk: _Disk) -> None:
    """By bodies first, then by what SQLite keeps; from several clients at once."""
    writes = _Writes(served)
    await served.ask("PUT", "/db")
    disk.fill(but_pages=256)

    async def one_of_each(length: int) -> list[bool]:
        writing = [
            writes.attach(length),
            writes.attach(length, "text/plain"),
            writes.attach_inline(length),
            writes.put_document(length),
        ]
        return [is_written for _, is_written in await DeferredList(map(ensureDeferred, writing), fireOnOneErrback=True)]

    for length in (200_000, 70_000, 8_000, 1_000, 10):
        while any(await one_of_each(length)):
            pass
    await writes.check()
    assert disk.free_pages < 8
    disk.make_room()
    assert all(await one_of_each(70_000))
    await writes.check()
    await served.stop()
    served.serve()
    await writes.check()


@in_reactor
async def test_filled_by_the_database(served: ServedStore, disk: _Disk) -> None:
    """
    With documents, beyond the point where SQLite copies its -wal back into the database, and has no room for it: then
    what there is of them is in the -wal alone, and stays there over a stop and a start.
    """
    writes = _Writes(served)
    await served.ask("PUT", "/db")
    disk.fill(but_pages=1500)
    for length in (60_000, 1_000):
        while await writes.put_document(length):
            pass
    written = len(str(writes.written))
    assert (served.directory / "store.sqlite3").stat().st_size < written
    await writes.check()
    await served.stop()
    served.serve()
    await writes.check()


@pytest.mark.parametrize("kind", ["attach", "attach_again", "attach_inline", "put_document"])
@in_reactor
async def test_full_at_any_point_of_a_write(served: ServedStore, disk: _Disk, kind: str) -> None:
    """With one page left, with two, and so on until the write fits: the disk is full a little later each time."""
    writes = _Writes(served)
    await served.ask("PUT", "/db")
    assert await writes.attach(10_000)
    statuses = []
    for pages in range(12):
        disk.fill(but_pages=pages)
        statuses.append(await getattr(writes, kind)(6_000))
        await writes.check()
    assert statuses[0] is False
    assert statuses[-1] is True


@in_reactor
async def test_other_writes_on_a_full_disk(served: ServedStore, disk: _Disk) -> None:
    """Nothing is deleted that is not said to be; and afterwards it is."""
    writes = _Writes(served)
    await served.ask("PUT", "/db")
    assert await writes.attach(10_000)
    assert await writes.put_document(10_000)
    (target, _), (document, _) = writes.written.items()
    rev, other_rev = [(await served.ask("GET", each)).json["_rev"] for each in ("/db/1", "/db/2")]
    requests = [
        ("DELETE", f"{document}?rev={other_rev}"),
        ("DELETE", f"{target}?rev={rev}"),
        ("PUT", "/other"),
        ("DELETE", "/db"),
    ]
    disk.fill()
    for method, where in requests:
        assert not _is_written(await served.ask(method, where)), where
    await writes.check()
    disk.make_room()
    for method, where in requests:
        assert (await served.ask(method, where)).status in {200, 201}, where
    assert (await served.ask("GET", "/_all_dbs")).json == ["other"]
    assert served.files("blobs") == []


@in_reactor
async def test_no_more_files(served: ServedStore, disk: _Disk) -> None:
    """The other way for a disk to be full."""
    writes = _Writes(served)
    await served.ask("PUT", "/db")
    assert await writes.attach(100_000)
    fillers = [disk.path / f"filler{number}" for number in range(os.statvfs(disk.path).f_favail)]
    for filler in fillers:
        filler.touch()
    assert not await writes.attach(10)
    assert not await writes.attach(100_000)
    assert not await writes.attach_inline(100_000)
    # Needs no file.
    assert await writes.put_document(10_000)
    await writes.check()
    for filler in fillers:
        filler.unlink()
    assert await writes.attach_inline(100_000)
    await writes.check()


@in_reactor
async def test_started_on_a_full_disk(served: ServedStore, disk: _Disk) -> None:
    """Either with a line for the operator, or so that all can be read."""
    writes = _Writes(served)
    await served.ask("PUT", "/db")
    assert await writes.attach(10_000)
    await served.stop()
    refusals = []
    for pages in range(12):
        disk.fill(but_pages=pages)
        try:
            served.serve()
        except errors.DiskFull as error:
            refusals.append(str(error))
        else:
            await writes.check()
            await writes.put_document(10_000)
            await writes.check()
            await served.stop()
    assert 0 < len(refusals) < 12
    assert set(refusals) == {f"{served.directory / 'store.sqlite3'} cannot be opened: the disk is full"}


def test_made_on_a_full_disk(disk: _Disk) -> None:
    """What was begun is no obstacle when there is room."""
    refusals: list[str] = []
    for pages in range(30):
        disk.fill(but_pages=pages)
        try:
            Store.open(disk.path / "new", reactor).close()  # type: ignore[arg-type]
        except errors.StoreError as error:
            refusals.append(str(error))
        else:
            break
    assert 0 < len(refusals) < 30
    assert all("full" in line or "No space" in line for line in refusals)
    assert "\n" not in "".join(refusals)
