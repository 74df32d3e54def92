"""Links that are over: what was begun in time is gone on with, by clients that know nothing of links."""

from pathlib import Path
from time import time

import pytest
from pytest_twisted import ensureDeferred

from tests.clients.files import DOCUMENT, FILES
from tests.clients.programs import CURL, WGET, needs, run
from tests.clients.served import DATABASE, TOKEN, Served, sha, sha_of
from txcouchdl.links import Link


def over(served: Served, name: str) -> str:
    """A link that is over, and in its grace."""
    link = Link(database=DATABASE, document_id=DOCUMENT, attachment=name, expires=int(time()) - 10)
    return f"http://127.0.0.1:{served.port}/{DATABASE}/{DOCUMENT}/{name}?{link.query(TOKEN.encode())}"


@needs("curl", "wget")
@pytest.mark.parametrize("command", [(*CURL, "-C", "-", "-o"), (*WGET, "-c", "-O")], ids=["curl", "wget"])
@pytest.mark.parametrize("name", ["noise.bin", "text.txt"])
@ensureDeferred
async def test_going_on(served: Served, tmp_path: Path, command: tuple[str, ...], name: str) -> None:
    content, file = FILES[name], tmp_path / "file"
    url = over(served, name)
    # Without it curl saves the refusal.
    fails = ("-f",) if command[0] == "curl" else ()
    assert await run(tmp_path, *command, file, *fails, url) != 0
    assert not file.exists() or not file.stat().st_size
    file.write_bytes(content[:100_000])
    # The second time there is nothing left to be had.
    for _ in range(2):
        assert await run(tmp_path, *command, file, url) == 0
        assert sha_of(file) == sha(content)


@needs("wget")
@ensureDeferred
async def test_with_a_head_first(served: Served, tmp_path: Path) -> None:
    (tmp_path / "noise.bin").write_bytes(FILES["noise.bin"][:100_000])
    url = over(served, "noise.bin")
    assert await run(tmp_path, *WGET, "-c", "--content-disposition", url) == 0
    assert sha_of(tmp_path / "noise.bin") == sha(FILES["noise.bin"])
