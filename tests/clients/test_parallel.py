"""Downloads over several connections at once, some of which break."""

import os
import signal
import struct
from itertools import count
from pathlib import Path
from threading import Barrier
from time import monotonic

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults

from tests.clients.files import DOCUMENT, FILES, LENGTH, NOISE
from tests.clients.programs import ARIA2C, CURL, LFTP, in_thread, needs, run, start
from tests.clients.served import Door, Meanwhile, Served, door, sha, sha_of
from tests.faults import Fault, NoFault, Slow, Stall
from tests.running import PATIENCE, Lines

CONNECTIONS = 4
#: Seconds between two looks of aria2's at what it has to save.
SAVE_INTERVAL = 1
PART = LENGTH // CONNECTIONS
#: aria2's, in bytes.
PIECE = 2**20
#: Where answers are broken off: in the middle of a part.
BREAK = 500_000

AXEL = ("axel", "--num-connections", str(CONNECTIONS), "--timeout", str(int(PATIENCE)), "--quiet", "--no-proxy")
SPLIT = (*ARIA2C, "-x", str(CONNECTIONS), "-s", str(CONNECTIONS), "-k", "1M")


def break_together(number: int) -> list[Fault]:
    """So many answers that break off when all of them are there: none is so fast that another is not needed."""
    here = Barrier(number)
    return [Meanwhile(BREAK, lambda: here.wait(PATIENCE))] * number


def assert_resumed(it: Door, first_part: int = 0, slow: int = 0) -> None:
    """
    Each part, but those before the first, was asked for, and again from where it broke off.

    :param slow: how many others were not broken off, but came slowly.
    """
    parts = {PART * number for number in range(first_part, CONNECTIONS)}
    assert it.cuts == len(parts) + slow
    assert parts | {first + BREAK for first in parts} <= set(it.starts)


@needs("aria2c")
@ensureDeferred
async def test_aria2(served: Served, tmp_path: Path) -> None:
    """Parts that broke are gone on with from where they did."""
    async with door(served, *break_together(CONNECTIONS)) as it:
        assert await run(tmp_path, *SPLIT, "-o", "file", it.url(DOCUMENT, "noise.bin")) == 0
    assert sha_of(tmp_path / "file") == sha(NOISE)
    assert_resumed(it)


@needs("axel")
@ensureDeferred
async def test_axel(served: Served, tmp_path: Path) -> None:
    """It speaks HTTP/1.0; its first request is to find out whether there are ranges."""
    async with door(served, NoFault(), *break_together(CONNECTIONS)) as it:
        assert await run(tmp_path, *AXEL, "-o", "file", it.url(DOCUMENT, "noise.bin")) == 0
    assert sha_of(tmp_path / "file") == sha(NOISE)
    assert it.ranges[0] == "bytes=0-"
    assert_resumed(it)
    served.log.wait_for(r'"GET \S+noise\.bin\S+ HTTP/1\.0" 206 .* "Axel/', CONNECTIONS)


@needs("lftp")
@ensureDeferred
async def test_lftp(served: Served, tmp_path: Path) -> None:
    """It goes on by itself with the parts that it asked for as such: all but the first."""
    # The first is for all, and would be read beyond its end while the others have not begun.
    async with door(served, Slow(PART), *break_together(CONNECTIONS - 1)) as it:
        fetch = f"pget -n {CONNECTIONS} -c '{it.url(DOCUMENT, 'noise.bin')}' -o file"
        assert await run(tmp_path, *LFTP, f"set net:reconnect-interval-base 1; {fetch}") == 0
    assert sha_of(tmp_path / "file") == sha(NOISE)
    assert_resumed(it, first_part=1, slow=1)


@needs("curl")
@pytest.mark.parametrize("name", ["noise.bin", "text.txt"])
@ensureDeferred
async def test_curl(served: Served, tmp_path: Path, name: str) -> None:
    """Several ``-r`` at the same time, whose files are joined."""
    content = FILES[name]
    firsts = range(0, len(content), PART)
    async with door(served) as it:
        url = it.url(DOCUMENT, name)
        commands = [(*CURL, "-r", f"{first}-{first + PART - 1}", "-o", f"{first}", url) for first in firsts]
        statuses = await gatherResults([Deferred.fromCoroutine(run(tmp_path, *each)) for each in commands])
    assert set(statuses) == {0}
    assert sha(b"".join((tmp_path / f"{first}").read_bytes() for first in firsts)) == sha(content)
    assert {asked.headers["range"] for asked in it.asked} == {f"bytes={first}-{first + PART - 1}" for first in firsts}


@needs("aria2c")
@ensureDeferred
async def test_aria2_that_was_killed(served: Served, tmp_path: Path) -> None:
    """With ``kill -9``: from its control file it knows which pieces it has, and asks for the others only."""
    file, control = tmp_path / "file", tmp_path / "file.aria2"
    command = (*SPLIT, f"--auto-save-interval={SAVE_INTERVAL}", "--continue", "-o", "file")
    async with door(served, *[Stall(3 * PART // 4)] * CONNECTIONS) as it:
        process = start(tmp_path, *command, "--log=-", "--log-level=info", it.url(DOCUMENT, "noise.bin"))
        log = Lines(process.stdout)  # type: ignore[arg-type]
        try:
            await in_thread(_wait_for_save, log, control)
        finally:
            process.send_signal(signal.SIGKILL)
            await in_thread(process.wait, PATIENCE)
            await in_thread(log.all)
    assert process.returncode == -signal.SIGKILL
    assert sha_of(file) != sha(NOISE)
    async with door(served) as it:
        assert await run(tmp_path, *command, it.url(DOCUMENT, "noise.bin")) == 0
    assert sha_of(file) == sha(NOISE)
    # The first, of all, is to see whether it is still as long; it is dropped.
    assert it.ranges[0] is None
    assert len(it.starts) > CONNECTIONS
    assert all(first % PART for first in it.starts[1:])
    assert not control.exists()


def _wait_for_save(log: Lines, control: Path) -> None:
    """Until the first piece of each part is written down: behind it all answers stall, and nothing more is saved."""
    for saves in count(1):
        log.wait_for("segment file was saved", saves)
        # It is said just before the new file takes the place of the old one.
        deadline = monotonic() + PATIENCE
        while control.with_name(f"{control.name}__temp").exists() and monotonic() < deadline:
            os.sched_yield()
        if _saved(control) >= {PART * number // PIECE for number in range(CONNECTIONS)}:
            return


def _saved(control: Path) -> set[int]:
    """The numbers of the pieces that are whole, of a control file of version 1, as aria2's manual describes it."""
    written = control.read_bytes()
    # Version, extension, length of the infohash (there is none), of a piece, of all, of what was uploaded; and then:
    (length,) = struct.unpack_from(">I", written, 2 + 4 + 4 + 4 + 8 + 8)
    bits = int.from_bytes(written[34 : 34 + length])
    return {number for number in range(8 * length) if bits >> (8 * length - 1 - number) & 1}
