"""
kill -9 for real: a store in a process of its own is killed at every stage of an upload, and started again.

What was acknowledged is there, byte for byte; what was not is there as a whole or not at all; nothing else is.
"""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from tests.store.serving import Response, parse_response, request

_ROOT = Path(__file__).parents[2]
_BODY = Random(9).randbytes(3_000_000)
_TIMEOUT = 60


class _Process:
    """A store that can be killed."""

    def __init__(self, directory: Path) -> None:
        command = [sys.executable, "-m", "tests.store.killed_store", str(directory)]
        self._process = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self._process.stdout is not None
        self._port = int(self._process.stdout.readline())

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(_TIMEOUT)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), timeout=_TIMEOUT)

    def ask(self, method: str, target: str, body: bytes | None = None) -> Response:
        with self.connect() as connection:
            connection.sendall(request(method, target, body))
            response = parse_response(_read(connection), is_head=False)
        assert response is not None
        assert response.is_whole
        return response


def _read(connection: socket.socket) -> bytes:
    received = b""
    while piece := connection.recv(1 << 16):
        received += piece
    return received


@contextmanager
def _running(directory: Path) -> Iterator[_Process]:
    process = _Process(directory)
    try:
        yield process
    finally:
        process.kill()


def _files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*") if path.is_file())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A store with one database, one document and one large attachment, killed after the last acknowledgement."""
    with _running(tmp_path / "store") as process:
        assert process.ask("PUT", "/db").status == 201
        assert process.ask("PUT", "/db/kept/file.bin", _BODY).status == 201
    return tmp_path / "store"


def test_what_was_acknowledged_survives(directory: Path) -> None:
    with _running(directory) as process:
        assert process.ask("GET", "/db/kept/file.bin").body == _BODY
        assert _files(directory / "blobs") == [sha256(_BODY).hexdigest()]


@pytest.mark.parametrize("sent", [0, 100, 70_000, 2_000_000, 2_999_999])
def test_an_upload_cut_short_leaves_nothing(directory: Path, sent: int) -> None:
    with _running(directory) as process, process.connect() as connection:
        raw = request("PUT", "/db/new/file.bin", _BODY[::-1])
        connection.sendall(raw[: len(raw) - len(_BODY) + sent])
        # A request on another connection is answered: the store has had its turns of the loop.
        assert process.ask("GET", "/db/new").status == 404
        if sent > 1_000_000:
            assert _files(directory / "incoming") != []
        process.kill()
    with _running(directory) as process:
        assert process.ask("GET", "/db/new/file.bin").status == 404
        assert process.ask("GET", "/db/kept/file.bin").body == _BODY
        assert _files(directory / "incoming") == []
        assert _files(directory / "blobs") == [sha256(_BODY).hexdigest()]


@pytest.mark.parametrize("attempt", range(8))
def test_killed_while_it_commits(directory: Path, attempt: int) -> None:
    """The whole upload is sent and the store is killed at some moment after: all of the write is there, or none."""
    body = _BODY[attempt:]
    target = "/db/kept/file.bin"
    with _running(directory) as process, process.connect() as connection:
        rev = process.ask("GET", "/db/kept").json["_rev"]
        connection.sendall(request("PUT", f"{target}?rev={rev}", body))
        # Moments spread over what a commit takes: other requests, answered while it is under way, tell the time.
        for _ in range(attempt):
            process.ask("GET", "/_up")
        process.kill()
        answered = _read_what_came(connection)
    with _running(directory) as process:
        found = process.ask("GET", target).body
        assert found in (_BODY, body)
        assert _files(directory / "incoming") == []
        # The revision before is still there to be read; a body that no revision has is not.
        stored = {_BODY, found}
        assert _files(directory / "blobs") == sorted(sha256(each).hexdigest() for each in stored)
        if b" 201 " in answered:
            assert found == body


def _read_what_came(connection: socket.socket) -> bytes:
    try:
        return _read(connection)
    except ConnectionResetError:
        return b""
