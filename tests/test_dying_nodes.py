"""
Nodes that die behind a download, for real: two processes that are killed with -9 and started again, a gateway before
them, and curl, which notices nothing of it.

Kills follow the progress of the download, and each hits the node that serves it. ``COUCHDB_URLS`` may name CouchDB
nodes, separated by commas. Those cannot be killed, but the connections to them can.
"""

import os
import re
import secrets
import socket
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from threading import Condition, Thread
from time import monotonic
from typing import IO, cast

import pytest
from attrs import frozen

from tests.nodes import (
    DATABASE,
    DOCUMENT,
    NAME,
    PIPES_AT_REST,
    TOKEN,
    UNMEASURED,
    Node,
    descriptors,
    fill,
    needs_proc,
    node,
)
from tests.running import ANY_PORT, PATIENCE, Running, beat, curl, curl_command, needs_curl, running

pytestmark = [needs_curl, needs_proc]

MIB = 2**20
#: A healing, in the gateway's log.
HEALED = r"\bhealed \S+: goes on from stored byte \d+ at (\S+)"


@frozen
class Kind:
    """
    An attachment to be downloaded while nodes die.

    :ivar length: of its identity representation.
    :ivar step: bytes that curl takes between the return of one node and the death of the other.
    :ivar last: where deaths end: before the node may have nothing more to send, with all that waits in buffers.
    :ivar deaths: how often each node dies until then, at the least.
    """

    content_type: str
    length: int
    step: int
    last: int
    deaths: int = 1

    def write(self, file: Path) -> str:
        """:return: its SHA-256."""
        content = os.urandom(self.length)
        if self.content_type.startswith("text/"):
            content = b64encode(os.urandom(self.length * 3 // 4))
        file.write_bytes(content)
        return sha256(content).hexdigest()


LARGE = Kind("application/octet-stream", 200 * MIB, step=8 * MIB, last=136 * MIB, deaths=3)
SMALL = Kind("application/octet-stream", 64 * MIB, step=2 * MIB, last=32 * MIB)
#: Stored as gzip, in three quarters of the bytes.
TEXT = Kind("text/plain", 64 * MIB, step=MIB, last=24 * MIB)


class Download:
    """
    curl, and its output, read as far as it may be. Use :func:`download`.

    :ivar received: bytes so far.
    """

    def __init__(self, url: str) -> None:
        command = curl_command("--max-time", "0", "--fail", url)
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._output = cast("IO[bytes]", self._process.stdout)
        self._news = Condition()
        self.received = 0
        self._allowed = 0
        self._is_ended = False
        self._sha256 = sha256()
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while not self._is_ended:
            with self._news:
                self._news.wait_for(lambda: self.received < self._allowed)
                most = self._allowed - self.received
            data = os.read(self._output.fileno(), min(most, 2**16))
            self._sha256.update(data)
            with self._news:
                self.received += len(data)
                self._is_ended = not data
                self._news.notify_all()

    def flow(self) -> None:
        """Read whatever comes."""
        with self._news:
            self._allowed = sys.maxsize
            self._news.notify_all()

    def hold(self) -> None:
        """Read no further."""
        with self._news:
            self._allowed = self.received

    def take(self, count: int) -> None:
        """Read so many bytes, and no further."""
        with self._news:
            self._allowed = self.received + count
            self._news.notify_all()
            self._news.wait_for(lambda: self.received >= self._allowed or self._is_ended, PATIENCE)
            assert self.received == self._allowed, f"no more comes after {self.received} bytes"

    def end(self) -> tuple[int, str]:
        """:return: curl's exit status, and the SHA-256 of its output."""
        self.flow()
        self._reader.join(2 * PATIENCE)
        return self._process.wait(PATIENCE), self._sha256.hexdigest()

    def close(self) -> None:
        self._process.kill()
        self.end()
        self._output.close()


@contextmanager
def download(gateway: Running, database: str = DATABASE) -> Iterator[Download]:
    it = Download(f"http://127.0.0.1:{gateway.port()}/{database}/{DOCUMENT}/{NAME}?token={TOKEN}")
    try:
        yield it
    finally:
        it.close()


@frozen
class Scene:
    """Two nodes that have the same attachment, and a gateway before them."""

    nodes: Sequence[Node]
    gateway: Running
    sha256: str
    descriptors: int

    @property
    def serving(self) -> Node:
        """The node that the download comes from; between two transfers there is none for a moment."""
        deadline = monotonic() + PATIENCE
        while not (serving := [each for each in self.nodes if each.is_serving]) and monotonic() < deadline:
            beat(self.gateway.port())
        [only] = serving
        return only

    def wait_for_healing(self, running: Download, count: int) -> str:
        """
        Take what comes, until the response has been healed so many times in all.

        :return: the node where it goes on.
        """
        running.flow()
        healed = self.gateway.out.wait_for(HEALED, count)
        running.hold()
        return healed[-1][1]

    def assert_at_rest(self) -> None:
        """Nothing stays open in the gateway when no node lives. Kept connections end with these."""
        for each in self.nodes:
            each.kill()
        deadline = monotonic() + PATIENCE
        most = self.descriptors + PIPES_AT_REST
        while descriptors(self.gateway.pid) > most and monotonic() < deadline:
            beat(self.gateway.port())
        assert descriptors(self.gateway.pid) <= most


@contextmanager
def gateway_before(directory: Path, urls: Sequence[str]) -> Iterator[Running]:
    nodes = (word for url in urls for word in ("-c", url))
    # While a node is started, which takes its time on a busy machine, nobody reads, and nothing is to be parked.
    with running(directory, "-l", ANY_PORT, *nodes, "--park-after", str(10 * PATIENCE), **UNMEASURED) as process:
        beat(process.port())
        yield process
        assert process.is_alive


@contextmanager
def scene(directory: Path, kind: Kind) -> Iterator[Scene]:
    file = directory / "content"
    digest = kind.write(file)
    with ExitStack() as stack:
        nodes = [stack.enter_context(node(directory / name)) for name in ("first", "second")]
        urls = [each.url for each in nodes]
        for url in urls:
            fill(url, file, kind.content_type)
        gateway = stack.enter_context(gateway_before(directory, urls))
        yield Scene(nodes, gateway, digest, descriptors(gateway.pid))


@pytest.mark.parametrize("kind", [pytest.param(LARGE, id="identity"), pytest.param(TEXT, id="gzip")])
def test_the_node_that_serves_dies_again_and_again(kind: Kind, tmp_path: Path) -> None:
    with scene(tmp_path, kind) as it:
        deaths = dict.fromkeys(it.nodes, 0)
        with download(it.gateway) as running:
            running.take(kind.step)
            while running.received < kind.last:
                dying = it.serving
                dying.kill()
                dying.start()
                deaths[dying] += 1
                assert it.wait_for_healing(running, sum(deaths.values())) in {each.base for each in it.nodes}
                dying.wait()
                running.take(kind.step)
            assert running.end() == (0, it.sha256)
        assert min(deaths.values()) >= kind.deaths
        it.assert_at_rest()


@pytest.mark.parametrize("kind", [pytest.param(SMALL, id="identity"), pytest.param(TEXT, id="gzip")])
def test_no_node_lives_for_a_while(kind: Kind, tmp_path: Path) -> None:
    with scene(tmp_path, kind) as it:
        with download(it.gateway) as running:
            running.take(kind.step)
            serving = it.serving
            [other] = set(it.nodes) - {serving}
            other.kill()
            serving.kill()
            running.flow()
            for each in it.nodes:
                it.gateway.out.wait_for(rf"{re.escape(each.base)} is DOWN")
            serving.start()
            assert it.wait_for_healing(running, 1) == serving.base
            assert running.end() == (0, it.sha256)
        it.assert_at_rest()


# Connections that die.


class Relay:
    """
    Stands before a node, and cuts the connections to it. Use :func:`relay`.

    :ivar url: the node's, to be reached through here.
    """

    def __init__(self, url: str) -> None:
        found = re.fullmatch(r"(http://(?:[^@/]*@)?)([^@/:]+)(?::(\d+))?(/.*)?", url)
        assert found is not None, "only plain HTTP can be relayed"
        self._node = found[2], int(found[3] or 80)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.url = f"{found[1]}{self.address}{found[4] or ''}"
        self._sockets: list[socket.socket] = []
        self._threads = [self._begin(self._accept)]

    def _begin(self, target: object, *arguments: socket.socket) -> Thread:
        thread = Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        thread.start()
        return thread

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            node = socket.create_connection(self._node)
            self._sockets += [client, node]
            self._threads += [self._begin(self._pump, client, node), self._begin(self._pump, node, client)]

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(2**16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def cut(self) -> None:
        """End all connections."""
        for each in self._sockets:
            _shut(each)

    def close(self) -> None:
        _shut(self._listening)
        self.cut()
        for thread in self._threads:
            thread.join(PATIENCE)
        for each in (self._listening, *self._sockets):
            each.close()


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay(url: str) -> Iterator[Relay]:
    it = Relay(url)
    try:
        yield it
    finally:
        it.close()


@contextmanager
def two_stores(directory: Path) -> Iterator[list[str]]:
    with node(directory / "first") as first, node(directory / "second") as second:
        yield [first.url, second.url]


@contextmanager
def outside_nodes(_: Path) -> Iterator[list[str]]:
    yield [url.strip() for url in os.environ["COUCHDB_URLS"].split(",")]


_NO_COUCHDB = pytest.mark.skipif("COUCHDB_URLS" not in os.environ, reason="COUCHDB_URLS names no CouchDB nodes")


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param(two_stores, id="stores"),
        pytest.param(outside_nodes, id="couchdb", marks=[pytest.mark.couchdb, _NO_COUCHDB]),
    ],
)
def test_connections_are_cut(nodes: Callable[[Path], AbstractContextManager[list[str]]], tmp_path: Path) -> None:
    file, database = tmp_path / "content", f"couchdl-test-{secrets.token_hex(8)}"
    digest = SMALL.write(file)
    with ExitStack() as stack:
        urls = stack.enter_context(nodes(tmp_path))
        for url in urls:
            stack.callback(curl, "-X", "DELETE", f"{url}/{database}")
            fill(url, file, SMALL.content_type, database)
        relays = {each.address: each for each in (stack.enter_context(relay(url)) for url in urls)}
        gateway = stack.enter_context(gateway_before(tmp_path, [each.url for each in relays.values()]))
        running = stack.enter_context(download(gateway, database))
        cuts = 0
        running.take(SMALL.step)
        while running.received < SMALL.last:
            for each in relays.values():
                each.cut()
            cuts += 1
            running.flow()
            healed = gateway.out.wait_for(HEALED, cuts)
            running.hold()
            assert healed[-1][1].startswith(tuple(f"http://{address}" for address in relays))
            running.take(SMALL.step)
        assert running.end() == (0, digest)
