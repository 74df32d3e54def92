"""The faulty proxy over loopback sockets."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from tests.faults import (
    Corrupt,
    Cut,
    DyingWords,
    Fault,
    FaultyProxy,
    Hangup,
    NoFault,
    Schedule,
)
from tests.faults.bench import BODY, FIN, HEAD, ON_THE_WIRE, RST, WHOLE, flipped, named
from tests.scripted import DYING_WORDS, Script, ScriptedNode, answer
from tests.servers import Server, reactor


class Wired(Protocol):
    """A client that keeps all that it is sent, and can be waited for."""

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.ended: Deferred[Hangup] = Deferred()
        self._is_enough: Callable[[], bool] = lambda: False
        self._enough: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if not self._enough.called and self._is_enough():
            self._enough.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(Hangup.of(reason))

    async def ask(self, length: int) -> bytes:
        """Ask, and wait until so many bytes are there in all."""
        self._enough, self._is_enough = Deferred(), lambda: len(self.received) >= length
        self.transport.write(b"GET /db/doc/f HTTP/1.1\r\nHost: test\r\n\r\n")
        await self._enough
        return self.received


async def connected(port: int) -> Wired:
    client = Wired()
    await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), client)
    return client


@asynccontextmanager
async def loopback(*faults_: Fault, script: Script = (WHOLE,)) -> AsyncIterator[tuple[FaultyProxy, Wired]]:
    """A client at the proxy, at a node. Behind it nothing is open."""
    node = reactor.listenTCP(0, ScriptedNode(faults=lambda _: script), interface="127.0.0.1")
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", node.getHost().port)
    proxy = FaultyProxy(endpoint, Schedule.of(*faults_), reactor)
    port = reactor.listenTCP(0, proxy, interface="127.0.0.1")
    client = await connected(port.getHost().port)
    try:
        yield proxy, client
    finally:
        client.transport.loseConnection()
        if not client.ended.called:
            await client.ended
        await port.stopListening()
        await node.stopListening()


@ensureDeferred
async def test_over_loopback_without_a_fault() -> None:
    body = bytes(2_000_000)
    async with loopback(script=[answer(200, body)]) as (proxy, client):
        for times in (1, 2, 3):
            assert await client.ask(times * len(answer(200, body))) == answer(200, body) * times
        assert proxy.open_connections == (1, 1)
    await proxy.rest()


@ensureDeferred
@pytest.mark.parametrize(
    ("fault", "expected", "how"),
    [each for each in ON_THE_WIRE if each[2] is FIN],
    ids=named,
)
async def test_a_fault_on_a_real_wire(fault: Fault, expected: bytes, how: Hangup) -> None:
    async with loopback(NoFault(), fault) as (proxy, client):
        await client.ask(len(WHOLE))
        client.transport.write(b"GET /db/doc/f HTTP/1.1\r\nHost: test\r\n\r\n")
        assert await client.ended is how
        assert client.received == WHOLE + expected
        await proxy.rest()


@ensureDeferred
async def test_a_reset_on_a_real_wire() -> None:
    """What was sent before has mostly come, but that is the system's affair."""
    async with loopback(Cut(70_000, RST)) as (proxy, client):
        client.transport.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await client.ended is RST
        assert WHOLE[: len(HEAD) + 70_000].startswith(client.received)
        await proxy.rest()


@ensureDeferred
async def test_before_a_real_server(server: Server) -> None:
    """Where places are counted in what the server says, whatever that is."""
    rev = await server.put_document("d", {"n": 1})
    await server.put_attachment("d", "f", BODY, rev, "application/octet-stream")
    url = urlsplit(server.node.base)
    assert url.hostname is not None
    schedule = Schedule.of(NoFault(), Cut(50_000), Corrupt(60_000, 1), DyingWords(0, fill=True), NoFault())
    proxy = FaultyProxy(TCP4ClientEndpoint(reactor, url.hostname, url.port or 80), schedule, reactor)
    port = reactor.listenTCP(0, proxy, interface="127.0.0.1")
    bodies: list[bytes] = []
    for _ in range(5):
        client = await connected(port.getHost().port)
        fields = f"Host: test\r\nAuthorization: {server.node.authorization}\r\nConnection: close\r\n"
        client.transport.write(f"GET {url.path}/{server.database}/d/f HTTP/1.1\r\n{fields}\r\n".encode())
        assert await client.ended is FIN
        bodies.append(client.received.partition(b"\r\n\r\n")[2])
    wrong = [BODY[:50_000], flipped(BODY, 60_000, 1), BODY[: -len(DYING_WORDS)] + DYING_WORDS]
    assert bodies == [BODY, *wrong, BODY]
    assert len(schedule.struck) == 3
    await proxy.rest()
    await port.stopListening()
