"""
A thousand clients that read slowly, or nothing at all: what one of them costs the gateway, for real.

The clients are sockets of this process. They announce the segments of an Ethernet: on loopback Linux would take
megabytes over for each, and all together as much as it has for TCP.
"""

import random
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from time import monotonic

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
    resident,
)
from tests.running import PATIENCE, Running, beat, needs_curl, read_to_end, running

pytestmark = [needs_curl, needs_proc]

CLIENTS = 1000
#: Bytes of the attachment: more than sockets buffer on both sides of the gateway.
LENGTH = 20_000_000
#: Those that read on to the end, in the end.
FINISHERS = 20
#: What a slow client reads at a time, and how often all of them do, each in turn.
SIP, SIPS = 8192, 20

REQUEST = f"GET /{DATABASE}/{DOCUMENT}/{NAME}?token={TOKEN} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode()


@frozen
class Kind:
    """
    An attachment, and what a client may cost that asked for it, and takes nothing or little.

    :ivar most: KiB of the gateway's memory, with what the allocator keeps. Half as much again as was measured.
    """

    content_type: str
    content: bytes
    most: int


def identity() -> Kind:
    """
    Measured: 125 to 135 KiB, and 170 of a client that reads slowly. 64 to 128 of them are on their way to the client:
    more is read from upstream only when they are gone. The objects of a connection and its request take 45.
    """
    return Kind("application/octet-stream", random.Random(5).randbytes(LENGTH), most=240)


def compressed() -> Kind:
    """
    Measured: 235 to 250 KiB. Beside what an uncompressed one costs, 64 are inflated and wait for their proof, 36 wait
    to be inflated, and zlib takes 48.
    """
    return Kind("text/plain", random.Random(5).randbytes(LENGTH // 2).hex().encode(), most=360)


@contextmanager
def descriptors_for(count: int) -> Iterator[None]:
    """Room for so many more in this process, and in those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * count + 1000
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"{needed} file descriptors are needed, and ulimit -Hn allows {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Client:
    """
    A connection that asks for the attachment.

    :ivar taken: bytes of the body.
    """

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(REQUEST)
        self.taken = 0

    def read_head(self) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.socket.recv(1)
            assert byte
            head += byte
        assert head.startswith(b"HTTP/1.1 200 "), head

    def sip(self, content: bytes) -> None:
        """Read a little."""
        data = self.socket.recv(SIP)
        assert data
        assert content.startswith(data, self.taken)
        self.taken += len(data)

    def finish(self, content: bytes) -> None:
        """Read on to the end, at full speed."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
        rest = read_to_end(self.socket)
        assert sha256(rest).digest() == sha256(content[self.taken :]).digest()
        self.socket.close()


@frozen
class Scene:
    """A node, and a gateway before it."""

    node: Node
    gateway: Running

    @contextmanager
    def crowd(self) -> Iterator[list[Client]]:
        """Clients that all get their answer, and none of whom has an exchange with the node open any more."""
        with ExitStack() as stack:
            clients = [Client(self.gateway.port()) for _ in range(CLIENTS)]
            for each in clients:
                stack.enter_context(each.socket)
            for each in clients:
                each.read_head()
            self.wait_until_parked()
            yield clients

    def wait_until_parked(self) -> None:
        deadline = monotonic() + PATIENCE
        while self.node.is_serving and monotonic() < deadline:
            beat(self.gateway.port())
        assert not self.node.is_serving

    def wait_for_descriptors(self, most: int) -> None:
        deadline = monotonic() + PATIENCE
        while descriptors(self.gateway.pid) > most and monotonic() < deadline:
            beat(self.gateway.port())
        assert descriptors(self.gateway.pid) <= most

    def memory(self) -> int:
        return resident(self.gateway.pid)


@contextmanager
def scene(directory: Path, kind: Kind) -> Iterator[Scene]:
    file = directory / "content"
    file.write_bytes(kind.content)
    with descriptors_for(CLIENTS), node(directory / "node") as it:
        fill(it.url, file, kind.content_type)
        # All at once: they wait to be accepted, and for their turn at the node.
        crowded = ("-l", "tcp:0:interface=127.0.0.1:backlog=4096", "--queue-timeout", "3600")
        with running(directory, "-c", it.url, "--park-after", "1", *crowded, **UNMEASURED) as gateway:
            gateway.port()
            yield Scene(it, gateway)
            assert gateway.is_alive


@pytest.mark.parametrize("kind", [pytest.param(identity, id="identity"), pytest.param(compressed, id="gzip")])
def test_a_thousand_clients(kind: Callable[[], Kind], tmp_path: Path) -> None:
    """First such as read nothing, then such as read slowly, of whom some read on to the end."""
    wanted = kind()
    with scene(tmp_path, wanted) as it:
        first = Client(it.gateway.port())
        first.read_head()
        first.finish(wanted.content)
        start, table = it.memory(), descriptors(it.gateway.pid)
        with it.crowd():
            crowded = it.memory()
            assert crowded - start <= CLIENTS * wanted.most
        with it.crowd() as clients:
            # What the first thousand had taken is used again.
            assert it.memory() - crowded <= CLIENTS * wanted.most / 4
            for _ in range(SIPS):
                for each in clients:
                    each.sip(wanted.content)
            assert it.memory() - start <= CLIENTS * wanted.most
            random.Random(3).shuffle(clients)
            for each in clients[FINISHERS:]:
                each.socket.close()
            for each in clients[:FINISHERS]:
                each.finish(wanted.content)
            assert it.memory() - start <= CLIENTS * wanted.most
        # The connections that are kept end with the node.
        it.node.kill()
        it.wait_for_descriptors(table + PIPES_AT_REST)
