"""Clients that read here and there: libraries that open a file, and players that look for its index, and for a time."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
import smart_open
from pytest_twisted import ensureDeferred
from remotezip import RemoteZip

from tests.clients.files import DOCUMENT, FILES, LENGTH, README
from tests.clients.libraries import file_system
from tests.clients.programs import FFMPEG, MPV, in_thread, needs, run
from tests.clients.served import Door, Served, door, sha
from tests.faults import Cut, NoFault
from tests.nodes import descriptors, needs_proc
from tests.running import PATIENCE

#: As they are at rest: one as it is, one compressed by CouchDB.
at_rest = pytest.mark.parametrize("name", ["noise.bin", "text.txt"])

BLOCK = 2**18


def bytes_asked(it: Door) -> int:
    """How many, by ranges; all of them must have been ranges."""
    count = 0
    for each in it.ranges:
        assert each is not None
        first, _, last = each.removeprefix("bytes=").partition("-")
        count += int(last) + (1 - int(first) if first else 0)
    return count


@at_rest
@ensureDeferred
async def test_fsspec(served: Served, name: str) -> None:
    """HEAD for the size, then blocks as closed ranges, with Accept-Encoding: gzip."""
    content = FILES[name]
    async with door(served) as it:
        await in_thread(_read_blocks, it.url(DOCUMENT, name), content)
    assert [each.method for each in it.asked].count("HEAD") > 0
    assert bytes_asked(it) <= 8 * BLOCK < len(content)
    assert all("gzip" in each.headers["accept-encoding"] for each in it.asked if each.method == "GET")


def _read_blocks(url: str, content: bytes) -> None:
    places = random.Random(3)
    with file_system() as files:
        assert files.info(url)["size"] == len(content)
        assert files.cat_file(url, start=1000, end=2000) == content[1000:2000]
        with files.open(url, block_size=BLOCK, cache_type="blockcache") as file:
            for first in (0, *(places.randrange(len(content) - 1000) for _ in range(3)), len(content) - 1000):
                file.seek(first)
                assert sha(file.read(1000)) == sha(content[first : first + 1000])


@ensureDeferred
async def test_remotezip(served: Served) -> None:
    """A member of an archive: its directory from the end, a suffix range, and the member alone."""
    async with door(served) as it:
        assert await in_thread(_read_member, it.url(DOCUMENT, "archive.zip")) == README
    assert it.ranges[0] == "bytes=-65536"
    assert len(it.ranges) == 2
    assert bytes_asked(it) < 70_000 < LENGTH


def _read_member(url: str) -> bytes:
    with RemoteZip(url, timeout=PATIENCE) as archive:
        assert len(archive.namelist()) == 3
        content: bytes = archive.read("read me.txt")
        return content


@at_rest
@ensureDeferred
async def test_smart_open(served: Served, name: str) -> None:
    """Each seek is an open-ended range with If-Match."""
    content = FILES[name]
    async with door(served) as it:
        await in_thread(_seek, it.url(DOCUMENT, name), content)
    assert it.ranges == [None, "bytes=2000000-", f"bytes={len(content) - 100}-", "bytes=10-"]
    assert all("if-match" in each.headers for each in it.asked[1:])


def _seek(url: str, content: bytes) -> None:
    with smart_open.open(url, "rb", compression="disable", transport_params={"timeout": PATIENCE}) as file:
        assert file.read(1000) == content[:1000]
        file.seek(2_000_000)
        assert file.read(1000) == content[2_000_000:2_001_000]
        file.seek(-100, 2)
        assert file.read() == content[-100:]
        file.seek(10)
        assert sha(file.read()) == sha(content[10:])


# Players


@pytest.fixture(scope="module")
def media(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film whose index is at its end, and a sound, in a directory and in the document ``media``."""
    directory = tmp_path_factory.mktemp("media")
    noise = ("-f", "lavfi", "-i", "anoisesrc=d=60:c=pink:r=44100:s=1")
    picture = ("-f", "lavfi", "-i", "testsrc=s=320x180:r=25:d=20,noise=alls=30:allf=t:all_seed=1")
    encoded = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "50", "-pix_fmt", "yuv420p", "-c:a", "aac", "-t", "20")
    for name, options in {
        "film.mp4": (*picture, *noise, *encoded),
        "sound.ogg": (*noise, "-c:a", "libvorbis", "-q:a", "6"),
    }.items():
        subprocess.run([*FFMPEG, *options, directory / name], check=True, timeout=PATIENCE)
    served.put("media", "film.mp4", (directory / "film.mp4").read_bytes(), "video/mp4")
    served.put("media", "sound.ogg", (directory / "sound.ogg").read_bytes(), "audio/ogg")
    return directory


@needs("ffmpeg")
@needs_proc
@pytest.mark.parametrize(
    ("name", "options", "fewest"),
    [("film.mp4", ("-ss", "18", "-frames:v", "1"), 3), ("sound.ogg", ("-ss", "50", "-t", "0.1"), 10)],
)
@ensureDeferred
async def test_ffmpeg(
    served: Served, media: Path, tmp_path: Path, name: str, options: tuple[str, ...], fewest: int
) -> None:
    """It finds a time near the end by open-ended ranges, each dropped soon; and nothing of them stays behind."""

    async def decode(source: str | Path, output: str) -> str:
        assert await run(tmp_path, *FFMPEG, *options[:2], "-i", source, *options[2:], "-f", "md5", output) == 0
        return (tmp_path / output).read_text()

    expected = await decode(media / name, "expected")
    async with door(served) as it:
        assert await decode(it.url("media", name), "first") == expected
    # Some connections to the store are kept from now on.
    await served.rest(sys.maxsize)
    before = descriptors(served.pid)
    async with door(served) as it:
        for number in range(2):
            assert await decode(it.url("media", name), f"again-{number}") == expected
    assert all((each or "").endswith("-") for each in it.ranges)
    assert len(set(it.ranges)) >= fewest
    await served.rest(before)


@needs("ffmpeg")
@ensureDeferred
async def test_ffmpeg_that_reconnects(served: Served, media: Path, tmp_path: Path) -> None:
    """``-reconnect 1``: what breaks off is gone on with."""
    copy = ("-map", "0", "-c", "copy", "-f", "md5")
    assert await run(tmp_path, *FFMPEG, "-i", media / "film.mp4", *copy, "expected") == 0
    # The third is for the film itself: it comes behind those for the beginning and the index.
    async with door(served, NoFault(), NoFault(), Cut(1_000_000)) as it:
        command = (*FFMPEG, "-reconnect", "1", "-i", it.url("media", "film.mp4"), *copy, "received")
        assert await run(tmp_path, *command) == 0
    assert (tmp_path / "received").read_text() == (tmp_path / "expected").read_text()
    assert it.cuts == 1
    assert it.starts[3] == it.starts[2] + 1_000_000


@needs("ffprobe", "ffmpeg")
@ensureDeferred
async def test_ffprobe(served: Served, media: Path, tmp_path: Path) -> None:
    """It reads the index at a film's end, not what is before it."""
    entries = ("-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", "-o", "duration")
    async with door(served) as it:
        assert await run(tmp_path, "ffprobe", *entries, it.url("media", "film.mp4")) == 0
    assert (tmp_path / "duration").read_text() == "20.000000\n"
    assert len(it.ranges) > 1


@needs("mpv", "ffmpeg")
@pytest.mark.parametrize("name", ["film.mp4", "sound.ogg"])
@ensureDeferred
async def test_mpv(served: Served, media: Path, tmp_path: Path, name: str) -> None:
    """It plays from near the end: the sound that it gives is as long as what was to be played."""
    async with door(served) as it:
        assert await run(tmp_path, *MPV, "--start=80%", "--length=1", it.url("media", name)) == 0
    assert any((media / name).stat().st_size // 2 < first for first in it.starts)
    assert _seconds(tmp_path) == pytest.approx(1, abs=0.1)


@needs("mpv", "ffmpeg")
@ensureDeferred
async def test_mpv_that_reconnects(served: Served, media: Path, tmp_path: Path) -> None:
    """By itself, wherever it is."""
    async with door(served, NoFault(), NoFault(), Cut(1_000_000)) as it:
        assert await run(tmp_path, *MPV, it.url("media", "film.mp4")) == 0
    assert it.cuts == 1
    assert it.starts[2] + 1_000_000 in it.starts
    assert _seconds(tmp_path) == pytest.approx(20, abs=0.1)


def _seconds(directory: Path) -> float:
    """How much mpv played."""
    return (directory / "sound.raw").stat().st_size / 2 / 8000
