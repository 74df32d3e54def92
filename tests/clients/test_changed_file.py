"""
A file is replaced while it is downloaded, between the answer that breaks off and the one that goes on.

Most download programs ask for the rest of it without saying what they have the beginning of. Only the link can say
that, with ``rev`` or ``digest``.
"""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest
import requests
import smart_open
from aiohttp import ClientResponseError
from pytest_twisted import ensureDeferred

from tests.clients.libraries import begin, file_system, get
from tests.clients.programs import ARIA2C, CURL, WGET, in_thread, needs, run
from tests.clients.served import Door, Meanwhile, Served, digest_of, door, sha, sha_of
from tests.running import PATIENCE

NAME = "file.bin"
#: As long as each other: of a file of another length even these programs may see that it is another.
OLD, NEW = (random.Random(seed).randbytes(2**22) for seed in (21, 22))
BREAK = 1_500_000

_NUMBERS = count()


@asynccontextmanager
async def replaced(served: Served, pin: str) -> AsyncIterator[tuple[Door, str]]:
    """
    A file that is replaced when its first answer breaks off.

    :param pin: what the link says of the old version.
    :return: with the link.
    """
    document = f"changed-{next(_NUMBERS)}"
    rev = served.put(document, NAME, OLD, "application/octet-stream")
    query = {"nothing": {}, "rev": {"rev": rev}, "digest": {"digest": digest_of(OLD)}}[pin]

    def replace() -> None:
        served.put(document, NAME, NEW, "application/octet-stream")

    async with door(served, Meanwhile(BREAK, replace)) as it:
        yield it, it.url(document, NAME, **query)
    assert it.cuts == 1


#: Command lines, the last of which goes on with the download; of the file "file", at the end of each stands the link.
PROGRAMS: dict[str, list[tuple[str, ...]]] = {
    "curl -C -": [(*CURL, "-o", "file"), (*CURL, "-C", "-", "-o", "file")],
    "wget": [(*WGET, "-O", "file")],
    "wget -c": [(*WGET, "--tries=1", "-O", "file"), (*WGET, "--tries=2", "-c", "-O", "file")],
    "aria2c": [(*ARIA2C, "-o", "file")],
    "aria2c -c": [(*ARIA2C, "--max-tries=1", "-o", "file"), (*ARIA2C, "-c", "-o", "file")],
}

each_program = pytest.mark.parametrize(
    "commands", [pytest.param(each, marks=needs(each[0][0]), id=name) for name, each in PROGRAMS.items()]
)


async def download(home: Path, commands: list[tuple[str, ...]], url: str) -> int:
    """:return: the exit status of the last."""
    statuses = [await run(home, *command, url) for command in commands]
    return statuses[-1]


def resumed_at(it: Door) -> int:
    """Where a program went on: where the answer broke off, or a block before, of which a part is lost with it."""
    first = it.starts[-1]
    assert BREAK - 2**14 < first <= BREAK
    return first


@each_program
@ensureDeferred
async def test_without_a_pin_two_versions_are_joined(
    served: Served, tmp_path: Path, commands: list[tuple[str, ...]]
) -> None:
    """The danger: a file that never was, and the program says that all is well."""
    async with replaced(served, "nothing") as (it, url):
        assert await download(tmp_path, commands, url) == 0
    first = resumed_at(it)
    assert sha_of(tmp_path / "file") == sha(OLD[:first] + NEW[first:])


@each_program
@ensureDeferred
async def test_a_revision_is_served_on(served: Served, tmp_path: Path, commands: list[tuple[str, ...]]) -> None:
    """As long as CouchDB has it, which is until it is compacted, the old file comes whole."""
    async with replaced(served, "rev") as (it, url):
        assert await download(tmp_path, commands, url) == 0
    assert sha_of(tmp_path / "file") == sha(OLD)
    assert resumed_at(it)


@each_program
@ensureDeferred
async def test_a_digest_fails_visibly(served: Served, tmp_path: Path, commands: list[tuple[str, ...]]) -> None:
    """What is no longer there is refused, and what has come of it is left as it is."""
    async with replaced(served, "digest") as (it, url):
        assert await download(tmp_path, commands, url) != 0
    assert sha_of(tmp_path / "file") == sha(OLD[:BREAK])
    assert len(it.asked) > 1


@ensureDeferred
async def test_requests_with_if_range_gets_the_new_file(served: Served) -> None:
    async with replaced(served, "nothing") as (_, url):
        received, etag = await in_thread(begin, url)
        status, _, rest = await in_thread(get, url, {"Range": f"bytes={len(received)}-", "If-Range": etag})
    assert (status, sha(rest)) == (200, sha(NEW))


@ensureDeferred
async def test_smart_open_refuses(served: Served) -> None:
    """It names the ETag of its first answer in the If-Match of the others."""
    async with replaced(served, "nothing") as (it, url):
        status = await in_thread(_seek_in_changed_file, url)
    assert status == 412
    assert it.asked[-1].headers["if-match"]


def _seek_in_changed_file(url: str) -> int:
    with smart_open.open(url, "rb", compression="disable", transport_params={"timeout": PATIENCE}) as file:
        received = file.read(BREAK)
        assert sha(received) == sha(OLD[:BREAK])
        with pytest.raises(requests.HTTPError) as refused:
            file.seek(BREAK + 2**20)
    assert refused.value.response is not None
    return refused.value.response.status_code


@ensureDeferred
async def test_fsspec_reads_two_versions(served: Served) -> None:
    """It says nothing of what it read before; with the digest in the link it fails."""
    served.put("opened", NAME, OLD, "application/octet-stream")
    async with door(served) as it:
        pinned = it.url("opened", NAME, digest=digest_of(OLD))
        await in_thread(_read_changed_file, served, it.url("opened", NAME), pinned)


def _read_changed_file(served: Served, url: str, pinned: str) -> None:
    with (
        file_system() as files,
        files.open(url, block_size=2**18) as file,
        files.open(pinned, block_size=2**18) as same,
    ):
        assert sha(file.read(1000)) == sha(same.read(1000)) == sha(OLD[:1000])
        served.put("opened", NAME, NEW, "application/octet-stream")
        for each in (file, same):
            each.seek(BREAK)
        assert sha(file.read(1000)) == sha(NEW[BREAK : BREAK + 1000])
        with pytest.raises(ClientResponseError) as refused:
            same.read(1000)
    assert refused.value.status == 412
