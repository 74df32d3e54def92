"""Downloads that are broken off on their way, and go on from where they were: each client in its own way."""

import gzip
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

import pytest
import smart_open
from pytest_twisted import ensureDeferred
from urllib3.exceptions import ProtocolError

from tests.clients.files import DOCUMENT, FILES, NOISE
from tests.clients.libraries import begin, get
from tests.clients.programs import CURL, LFTP, WGET, in_thread, needs, run
from tests.clients.served import Served, door, sha, sha_of
from tests.faults import Cut, NoFault
from tests.running import PATIENCE

#: Where answers are broken off: beyond what the buffers on the way hold, and behind it is as much again and more.
BREAK = 1_500_000

#: As they are at rest: one as it is, one compressed by CouchDB.
at_rest = pytest.mark.parametrize("name", ["noise.bin", "text.txt"])


@needs("curl")
@at_rest
@ensureDeferred
async def test_curl(served: Served, tmp_path: Path, name: str) -> None:
    """It says that the download broke off, goes on with ``-C -``, and finds that there is no more."""
    content, file, head = FILES[name], tmp_path / "file", tmp_path / "head"
    async with door(served, Cut(BREAK)) as it:
        url = it.url(DOCUMENT, name)
        assert await run(tmp_path, *CURL, "-o", file, url) == 18
        assert sha_of(file) == sha(content[:BREAK])
        for _ in range(2):
            assert await run(tmp_path, *CURL, "-C", "-", "-o", file, "-D", head, url) == 0
            assert sha_of(file) == sha(content)
    assert it.cuts == 1
    assert it.ranges == [None, f"bytes={BREAK}-", f"bytes={len(content)}-"]
    status_line, *fields = head.read_text().splitlines()
    assert " 416 " in status_line
    assert f"Content-Range: bytes */{len(content)}" in fields


@needs("curl")
@ensureDeferred
async def test_curl_that_retries(served: Served, tmp_path: Path) -> None:
    """``--retry`` asks by itself, from where its own part began (curl 7.88) or broke off; the bytes are right."""
    file = tmp_path / "file"
    file.write_bytes(NOISE[:1000])
    async with door(served, Cut(BREAK)) as it:
        options = ("--retry", "2", "--retry-all-errors", "-C", "-", "-o", file)
        assert await run(tmp_path, *CURL, *options, it.url(DOCUMENT, "noise.bin")) == 0
    assert sha_of(file) == sha(NOISE)
    assert it.cuts == 1
    assert it.ranges[0] == "bytes=1000-"
    assert it.ranges[1] in {"bytes=1000-", f"bytes={1000 + BREAK}-"}


@needs("wget")
@at_rest
@ensureDeferred
async def test_wget(served: Served, tmp_path: Path, name: str) -> None:
    """It goes on by itself, however often; and has the name from Content-Disposition."""
    content = FILES[name]
    async with door(served, Cut(BREAK), Cut(BREAK)) as it:
        assert await run(tmp_path, *WGET, "--content-disposition", it.url(DOCUMENT, name)) == 0
    assert sha_of(tmp_path / name) == sha(content)
    assert it.cuts == 2
    assert it.ranges == [None, f"bytes={BREAK}-", f"bytes={2 * BREAK}-"]


@needs("wget")
@ensureDeferred
async def test_wget_of_a_short_upload(served: Served, tmp_path: Path) -> None:
    """Uploaded as gzip, and never read before. wget would take a break within a chunk for the end, and exit with 0."""
    content = NOISE[:30_000].hex("\n", 32).encode()
    served.put("short", "short.txt", gzip.compress(content), "text/plain", Content_Encoding="gzip")
    async with door(served, Cut(20_000)) as it:
        assert await run(tmp_path, *WGET, "-O", "file", it.url("short", "short.txt")) == 0
    assert sha_of(tmp_path / "file") == sha(content)
    assert it.ranges == [None, "bytes=20000-"]


@needs("curl", "wget")
@pytest.mark.parametrize("program", [(*CURL, "-OJ"), (*WGET, "--content-disposition")], ids=lambda each: each[0])
@ensureDeferred
async def test_a_name_of_the_links_choice(served: Served, tmp_path: Path, program: tuple[str, ...]) -> None:
    """``?download=`` says under which name to save what comes."""
    async with door(served) as it:
        assert await run(tmp_path, *program, it.url(DOCUMENT, "noise.bin", download="other name.bin")) == 0
    assert [(each.name, sha_of(each)) for each in tmp_path.iterdir()] == [("other name.bin", sha(NOISE))]


@needs("wget")
@at_rest
@ensureDeferred
async def test_wget_that_continues(served: Served, tmp_path: Path, name: str) -> None:
    """``wget -c`` takes up a file that was left, and leaves one that is complete as it is."""
    content, file = FILES[name], tmp_path / "file"
    async with door(served, Cut(BREAK)) as it:
        url = it.url(DOCUMENT, name)
        assert await run(tmp_path, *WGET, "--tries=1", "-O", file, url) == 4
        assert sha_of(file) == sha(content[:BREAK])
        for _ in range(2):
            assert await run(tmp_path, *WGET, "-c", "-O", file, url) == 0
            assert sha_of(file) == sha(content)
    assert it.cuts == 1
    assert it.ranges == [None, f"bytes={BREAK}-", f"bytes={len(content)}-"]


@needs("lftp")
@at_rest
@ensureDeferred
async def test_lftp(served: Served, tmp_path: Path, name: str) -> None:
    """``get`` says that the download broke off; ``get -c`` goes on with it."""
    content, file = FILES[name], tmp_path / "file"
    async with door(served, Cut(BREAK)) as it:
        fetch = f"get -c '{it.url(DOCUMENT, name)}' -o file"
        assert await run(tmp_path, *LFTP, fetch) == 1
        assert sha_of(file) == sha(content[:BREAK])
        assert await run(tmp_path, *LFTP, fetch) == 0
    assert sha_of(file) == sha(content)
    assert it.ranges == [None, f"bytes={BREAK}-"]


@at_rest
@ensureDeferred
async def test_requests(served: Served, name: str) -> None:
    """A program that says what it has, and of what: Range with If-Range, and Accept-Encoding: gzip as ever."""
    content = FILES[name]
    async with door(served, Cut(BREAK)) as it:
        received, etag = await in_thread(begin, it.url(DOCUMENT, name))
        assert 0 < len(received) <= BREAK
        fields = {"Range": f"bytes={len(received)}-", "If-Range": etag}
        status, _, rest = await in_thread(get, it.url(DOCUMENT, name), fields)
    assert status == 206
    assert sha(received + rest) == sha(content)
    assert it.cuts == 1
    assert all("gzip" in each.headers["accept-encoding"] for each in it.asked)


@pytest.mark.parametrize("name", FILES)
@ensureDeferred
async def test_requests_of_the_whole(served: Served, name: str) -> None:
    """Accept-Encoding: gzip brings no gzip, however the file is stored."""
    async with door(served) as it:
        status, headers, received = await in_thread(get, it.url(DOCUMENT, name), {})
    assert (status, sha(received)) == (200, sha(FILES[name]))
    assert "Content-Encoding" not in headers
    assert "gzip" in it.asked[0].headers["accept-encoding"]


@at_rest
@ensureDeferred
async def test_smart_open(served: Served, name: str) -> None:
    """It reads on in a file that is opened again, at where the first one broke off."""
    content = FILES[name]
    async with door(served, Cut(BREAK)) as it:
        received = await in_thread(_read_on, it.url(DOCUMENT, name))
    assert sha(received) == sha(content)
    assert it.cuts == 1
    last = it.asked[-1].headers
    assert last["range"] == f"bytes={BREAK}-"
    assert last["if-match"]


def _read_on(url: str) -> bytes:
    received = b""
    with _opened(url) as file, suppress(ProtocolError):
        while piece := file.read(100_000):
            received += piece
    with _opened(url) as file:
        file.seek(len(received))
        rest: bytes = file.read()
    return received + rest


def _opened(url: str) -> IO[bytes]:
    return smart_open.open(url, "rb", compression="disable", transport_params={"timeout": PATIENCE})


@ensureDeferred
async def test_yt_dlp(served: Served, tmp_path: Path) -> None:
    """Its generic extractor takes a direct link, looks at its beginning, and downloads it."""
    pytest.importorskip("yt_dlp")
    served.put("film", "film.mp4", NOISE, "video/mp4")
    command = (
        sys.executable,
        "-m",
        "yt_dlp",
        "--ignore-config",
        "--no-cache-dir",
        "--no-progress",
        "--retry-sleep",
        "0",
    )
    async with door(served, NoFault(), Cut(BREAK)) as it:
        assert await run(tmp_path, *command, "-o", "file", it.url("film", "film.mp4")) == 0
    assert sha_of(tmp_path / "file") == sha(NOISE)
    assert it.cuts == 1
    # A block of which a part has come is lost.
    assert 0 < it.starts[-1] <= BREAK
