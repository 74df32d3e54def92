"""What clients do by themselves that their users would not expect: docs/clients.rst says how to get around it."""

import shutil
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

from pytest_twisted import ensureDeferred

from tests.clients.files import DOCUMENT, LENGTH, NOISE
from tests.clients.libraries import file_system
from tests.clients.programs import CURL, in_thread, needs, run
from tests.clients.served import TOKEN, Served, door, sha, sha_of
from tests.faults import Cut
from tests.running import PATIENCE

BREAK = 1_500_000
WGET2 = ("wget2", "--no-config", "--quiet", "--waitretry=0", "--timeout", str(int(PATIENCE)), "--tries=1")


@needs("wget2")
@ensureDeferred
async def test_wget2_takes_a_break_for_the_end(served: Served, tmp_path: Path) -> None:
    """Its exit status is 0. A second run with ``-c`` brings the rest."""
    file = tmp_path / "file"
    async with door(served, Cut(BREAK)) as it:
        assert await run(tmp_path, *WGET2, "-O", file, it.url(DOCUMENT, "noise.bin")) == 0
        assert file.stat().st_size < LENGTH
        assert await run(tmp_path, *WGET2, "-c", "-O", file, it.url(DOCUMENT, "noise.bin")) == 0
    assert sha_of(file) == sha(NOISE)


def _copy(url: str, file: Path) -> int:
    opener = build_opener(ProxyHandler({}))
    with opener.open(url, timeout=PATIENCE) as response, file.open("wb") as out:
        shutil.copyfileobj(response, out)
        return int(response.headers["Content-Length"])


@ensureDeferred
async def test_urllib_takes_a_break_for_the_end(served: Served, tmp_path: Path) -> None:
    """Of pieces it says nothing: compare the length."""
    file = tmp_path / "file"
    async with door(served, Cut(BREAK)) as it:
        length = await in_thread(_copy, it.url(DOCUMENT, "noise.bin"), file)
    assert (length, sha_of(file)) == (LENGTH, sha(NOISE[:BREAK]))


def _get(url: str, file: Path, by_name: bool) -> None:
    with file_system() as files:
        if by_name:
            files.get_file(url, str(file))
        else:
            files.get(url, str(file))


@ensureDeferred
async def test_fsspec_takes_a_question_mark_for_a_pattern(served: Served, tmp_path: Path) -> None:
    """``get`` makes a directory with a file named for the query, token included; ``get_file`` makes the file."""
    async with door(served) as it:
        await in_thread(_get, it.url(DOCUMENT, "noise.bin"), tmp_path / "directory", False)
        await in_thread(_get, it.url(DOCUMENT, "noise.bin"), tmp_path / "file", True)
    assert sha_of(tmp_path / "directory" / f"noise.bin?token={TOKEN}") == sha(NOISE)
    assert sha_of(tmp_path / "file") == sha(NOISE)


@needs("curl")
@ensureDeferred
async def test_curl_that_fails_on_a_complete_file(served: Served, tmp_path: Path) -> None:
    """With ``-f`` the 416 is an error, and the file is right."""
    file = tmp_path / "file"
    file.write_bytes(NOISE)
    async with door(served) as it:
        assert await run(tmp_path, *CURL, "-f", "-C", "-", "-o", file, it.url(DOCUMENT, "noise.bin")) == 22
        assert sha_of(file) == sha(NOISE)
        assert await run(tmp_path, *CURL, "-C", "-", "-o", file, it.url(DOCUMENT, "noise.bin")) == 0
    assert sha_of(file) == sha(NOISE)
