"""Downloads over several connections at once, some of which break."""

import signal
from pathlib import Path
from threading import Barrier
from time import monotonic, sleep

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults

from tests.clients.files import DOCUMENT, FILES, LENGTH, NOISE
from tests.clients.programs import ARIA2C, CURL, LFTP, end, in_thread, needs, run, start
from tests.clients.served import Door, Meanwhile, Served, door, sha, sha_of
from tests.faults import Fault, NoFault, Stall
from tests.running import PATIENCE

CONNECTIONS = 4
#: Seconds between two looks of aria2's at what it has to save.
SAVE_INTERVAL = 1
PART = LENGTH // CONNECTIONS
#: Where answers are broken off: in the middle of a part.
BREAK = 500_000

AXEL = ("axel", "--num-connections", str(CONNECTIONS), "--timeout", str(int(PATIENCE)), "--quiet", "--no-proxy")
SPLIT = (*ARIA2C, "-x", str(CONNECTIONS), "-s", str(CONNECTIONS), "-k", "1M")


def break_together(count: int) -> list[Fault]:
    """So many answers that break off when all of them are there: none is so fast that another is not needed."""
    here = Barrier(count)
    return [Meanwhile(BREAK, lambda: here.wait(PATIENCE))] * count


def assert_resumed(it: Door, first_part: int = 0) -> None:
    """Each part, but those before the first, was asked for, and again from where it broke off."""
    parts = {PART * number for number in range(first_part, CONNECTIONS)}
    assert it.cuts == len(parts)
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
    async with door(served, NoFault(), *break_together(CONNECTIONS - 1)) as it:
        fetch = f"pget -n {CONNECTIONS} -c '{it.url(DOCUMENT, 'noise.bin')}' -o file"
        assert await run(tmp_path, *LFTP, f"set net:reconnect-interval-base 1; {fetch}") == 0
    assert sha_of(tmp_path / "file") == sha(NOISE)
    assert_resumed(it, first_part=1)


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
        process = start(tmp_path, *command, it.url(DOCUMENT, "noise.bin"))
        try:
            await in_thread(_wait_for_save, it, control)
        finally:
            process.send_signal(signal.SIGKILL)
            await in_thread(end, process)
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


def _wait_for_save(it: Door, control: Path) -> None:
    """Until all answers have stalled and the control file is as it was for several seconds: all of it was saved."""
    deadline = monotonic() + PATIENCE
    saved, since = None, monotonic()
    while monotonic() < deadline:
        last = control.stat().st_mtime_ns if it.cuts == CONNECTIONS and control.exists() else None
        if last is None or last != saved:
            saved, since = last, monotonic()
        elif monotonic() - since > 3 * SAVE_INTERVAL:
            return
        sleep(0.01)
    raise AssertionError("nothing was saved")
