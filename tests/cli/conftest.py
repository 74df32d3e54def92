"""One gateway for all commands."""

import random
from collections.abc import Iterator

import pytest

from tests.clients.served import Served
from tests.nodes import UNMEASURED
from tests.running import ANY_PORT, PATIENCE, running

#: Enough for four connections.
LENGTH = 24 * 2**20


@pytest.fixture(scope="package")
def content() -> bytes:
    return random.Random(41).randbytes(LENGTH)


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> Iterator[Served]:
    """A gateway, and in its store the document ``files`` with ``noise.bin`` and ``small.txt``."""
    directory = tmp_path_factory.mktemp("gateway")
    options = ("--store", "store", "--store-listen", ANY_PORT, "-l", ANY_PORT, "--park-after", str(10 * PATIENCE))
    with running(directory, *options, **UNMEASURED) as process:
        served = Served(process, directory / "store")
        served.put("files", "noise.bin", content, "application/octet-stream")
        served.put("files", "small.txt", b"small\n" * 100, "text/plain")
        yield served
