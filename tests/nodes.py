"""
Embedded stores as nodes: processes of their own, on ports that they keep, to be killed and started again. And what
the operating system tells of a process: its memory, and what it has open.
"""

import json
import os
import random
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.running import ANY_PORT, Running, curl

#: What is to be downloaded, of any node that was filled.
DATABASE, DOCUMENT, NAME, TOKEN = "db", "doc", "file", "t"

# Below those that Linux gives to outgoing connections: one of these could take the port while a node is dead.
_FIRST_PORT, _LAST_PORT = 10_000, 32_767

needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="there is no /proc here")
#: Of a process whose speed and memory matter, coverage is not measured.
UNMEASURED = {"COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}


def free_port() -> int:
    """A port where nobody listens."""
    for port in random.sample(range(_FIRST_PORT, _LAST_PORT), 1000):
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("there is no free port")


class Node:
    """
    A store that can die. Use :func:`node`.

    :ivar base: its URL, as the gateway's log has it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = free_port()
        self._process: Running | None = None
        self.base = f"http://127.0.0.1:{self._port}"
        directory.mkdir()

    @property
    def url(self) -> str:
        """With its admin's name and password."""
        return self.base.replace("//", f"//{(self._directory / 'store' / 'admin').read_text().strip()}@")

    @property
    def is_serving(self) -> bool:
        """Whether it has a stored body open."""
        return self._process is not None and bool(open_files(self._process.pid, self._directory / "store" / "blobs"))

    def start(self) -> None:
        """Without waiting."""
        endpoint = f"tcp:{self._port}:interface=127.0.0.1"
        self._process = Running(
            self._directory, ("--store", "store", "--store-listen", endpoint, "-l", ANY_PORT), UNMEASURED
        )

    def wait(self) -> None:
        """Until it listens."""
        assert self._process is not None
        assert self._process.port("Store") == self._port

    def kill(self) -> None:
        """With -9, if it is alive."""
        if self._process is not None:
            process, self._process = self._process, None
            process.stop(signal.SIGKILL)
            process.text()


@contextmanager
def node(directory: Path) -> Iterator[Node]:
    """A store in a new directory, started and listening, for as long as it is needed."""
    it = Node(directory)
    try:
        it.start()
        it.wait()
        yield it
    finally:
        it.kill()


def fill(url: str, file: Path, content_type: str, database: str = DATABASE) -> None:
    """
    Upload the attachment, at a document that is like no other node's, so that its revision is another too.

    :param url: with an admin's name and password. If the database is there already, this is a cluster's second node.
    """
    created = curl("-X", "PUT", f"{url}/{database}")
    if created.status == 412:
        return
    assert created.status == 201, created.body
    document = f"{url}/{database}/{DOCUMENT}"
    fields = {"download_token": TOKEN, "node": random.randbytes(8).hex()}
    rev = _put(document, "application/json", "-d", json.dumps(fields))
    _put(f"{document}/{NAME}?rev={rev}", content_type, "-T", str(file))
    stub = json.loads(curl(f"{document}?att_encoding_info=true").body)["_attachments"][NAME]
    assert ("encoding" in stub) == content_type.startswith("text/"), "what is text is stored as gzip"


def _put(url: str, content_type: str, *arguments: str) -> str:
    """:return: the revision."""
    answer = curl("-X", "PUT", "-H", f"Content-Type: {content_type}", *arguments, url)
    assert answer.status == 201, answer.body
    rev: str = json.loads(answer.body)["rev"]
    return rev


# What the operating system tells.


def open_files(pid: int, directory: Path) -> int:
    """How many files below a directory a process has open."""
    table = f"/proc/{pid}/fd"
    return sum(_target(f"{table}/{each}").startswith(f"{directory}/") for each in os.listdir(table))


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:
        # It was closed meanwhile.
        return ""


#: File descriptors of pipes that a gateway has at rest, at the most: those for whoever needs one next, one more for
#: doubles, and where these are emptied to.
PIPES_AT_REST = 2 * (16 + 1) + 1


def descriptors(pid: int) -> int:
    """How many file descriptors a process has."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident(pid: int) -> int:
    """A process' resident memory, in KiB."""
    return _memory(pid, "VmRSS")


def most_resident(pid: int) -> int:
    """The most that its resident memory has been, in KiB."""
    return _memory(pid, "VmHWM")


def _memory(pid: int, what: str) -> int:
    found = re.search(rf"^{what}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])
