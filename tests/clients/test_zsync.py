"""zsync, which has most of a file in an older version and downloads the rest: many ranges in one request."""

import random
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred

from tests.clients.files import DOCUMENT, FILES
from tests.clients.programs import needs, run
from tests.clients.served import Served, door, sha, sha_of

#: Bytes of one of zsync's blocks.
BLOCK = 4096


def older_version(content: bytes) -> bytes:
    """Change one block in 16, so that no two changed blocks are adjacent."""
    older = bytearray(content)
    for first in range(0, len(content) - BLOCK, 16 * BLOCK):
        older[first : first + BLOCK] = random.Random(first).randbytes(BLOCK)
    return bytes(older)


@needs("zsync", "zsyncmake")
@pytest.mark.parametrize("name", ["noise.bin", "text.txt"])
@ensureDeferred
async def test_zsync(served: Served, tmp_path: Path, name: str) -> None:
    """zsync discards the first line of a multipart body unread. If that was the first delimiter, it loops for ever."""
    content = FILES[name]
    (tmp_path / "new").write_bytes(content)
    (tmp_path / "old").write_bytes(older_version(content))
    async with door(served) as it:
        make = ("zsyncmake", "-b", str(BLOCK), "-u", it.url(DOCUMENT, name), "-o", "file.zsync", "new")
        assert await run(tmp_path, *make) == 0
        assert await run(tmp_path, "zsync", "-q", "-i", "old", "-o", "file", "file.zsync") == 0
    assert sha_of(tmp_path / "file") == sha(content)
    assert any("," in (each or "") for each in it.ranges), "several ranges in one request"
