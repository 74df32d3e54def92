"""Over TLS a connection ends politely only if both sides say so. Nobody waits for a server that does not."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from threading import Event, Thread

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.task import deferLater

from tests.certificates import certify
from tests.cli.command import run
from tests.cli.desk import Desk, FileServer, location
from tests.clients.programs import in_thread
from tests.running import PATIENCE
from tests.scripted import answer
from tests.servers import reactor
from txcouchdl.cli.client import Client
from txcouchdl.cli.locations import parse_location
from txcouchdl.protocol.digests import digest_field

#: More than anybody takes who does not want it.
PIECE, PIECES = bytes(2**18), 1000


class Impolite:
    """
    A server for one connection, that never says goodbye.

    :ivar broken: set when the other side has ended the connection before all was sent.
    """

    def __init__(self, directory: Path, head: bytes, is_endless: bool) -> None:
        certify(directory)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
        self._head = head
        self._is_endless = is_endless
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(PATIENCE)
        self.url = f"https://127.0.0.1:{self._listening.getsockname()[1]}/f.bin?token=s3cret"
        self.broken = Event()
        self._thread = Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with self._listening:
            plain, _ = self._listening.accept()
        plain.settimeout(PATIENCE)
        connection = self._context.wrap_socket(plain, server_side=True)
        try:
            connection.recv(2**16)
            connection.sendall(self._head)
            for _ in range(PIECES if self._is_endless else 0):
                connection.sendall(PIECE)
        except OSError:
            self.broken.set()
            connection.close()
            return
        # It does not hear the other's goodbye, either: what is looked at is the connection below.
        with socket.socket(fileno=connection.detach()) as below:
            below.settimeout(PATIENCE)
            with suppress(OSError):
                while below.recv(2**16):
                    pass

    def join(self) -> None:
        self._thread.join(2 * PATIENCE)


@contextmanager
def impolite(directory: Path, head: bytes, is_endless: bool = False) -> Iterator[Impolite]:
    server = Impolite(directory, head, is_endless)
    try:
        yield server
    finally:
        server.join()


DIGEST = digest_field({"sha-256": sha256(b"hello").digest()})
WHOLE = answer(206, b"hello", {"ETag": '"a"', "Content-Range": "bytes 0-4/5", "Repr-Digest": DIGEST})


def test_a_command_ends_without_being_answered(tmp_path: Path) -> None:
    with impolite(tmp_path, WHOLE) as server:
        ended = run(tmp_path, "get", server.url, SSL_CERT_FILE=str(tmp_path / "cert.pem"))
    assert ended.status == 0, ended.err
    assert (tmp_path / "f.bin").read_bytes() == b"hello"


@pytest.mark.parametrize("way", ["drop", "enough", "close"])
@ensureDeferred
async def test_what_nobody_wants_does_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Not for as long as the server likes: its connection ends at once."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    head = answer(200, b"", length=len(PIECE) * PIECES * 10)
    with impolite(tmp_path, head, is_endless=True) as server:
        client = Client(reactor, PATIENCE)
        answered = await client.ask("GET", parse_location(server.url), {})
        if way == "drop":
            answered.drop()
        elif way == "enough":
            await answered.deliver(lambda _: False)
        else:
            client.close()
        assert await in_thread(server.broken.wait, PATIENCE)
        client.close()


def test_what_has_come_leaves_its_connection_for_the_next(tmp_path: Path) -> None:
    """It is idle by the time that nobody wants the answer any more, and may be at work for somebody else."""
    desk = Desk(tmp_path, FileServer(b"hello").factory())

    async def ask_again_and_again() -> bytes:
        client = desk.means().client
        (await client.ask("HEAD", location(), {})).drop()
        answered = await client.ask("GET", location(), {})
        await deferLater(desk.network, 1.0)
        await answered.deliver(lambda _: False)
        return await (await client.ask("GET", location(), {})).read(9)

    assert desk.do(ask_again_and_again()) == b"hello"
    assert len(desk.network.connections) == 1
