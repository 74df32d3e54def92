"""Responses over real sockets: whatever way their ends take, the bytes of a connection stay in their order."""

import random
import socket
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import pytest_twisted
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from tests.servers import reactor
from txcouchdl.gateway.channel import GatewayChannel
from txcouchdl.gateway.connections import Connections
from txcouchdl.gateway.limits import ClientLimits
from txcouchdl.gateway.sending import Sending
from txcouchdl.gateway.site import GatewaySite

_RESPONSES = 60


class _Bodies(Resource):
    """Answers with bodies of any length, in one piece or in some."""

    isLeaf = True  # noqa: N815 (twisted.web's)

    def __init__(self, lengths: Iterator[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._lengths = lengths
        self.bodies: list[bytes] = []

    def render(self, request: Any) -> int:
        number = len(self.bodies)
        # The system shall take little, so that much waits for it here.
        request.channel.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        body = bytes([number]) * next(self._lengths)
        self.bodies.append(body)
        # By then the system may have taken some of what was written before.
        reactor.callLater(0.0, self._answer, request, number, body)
        return NOT_DONE_YET

    def _answer(self, request: Any, number: int, body: bytes) -> None:
        if number % 3:
            request.begin(200, (), len(body), body)
        else:
            request.begin(200, (), len(body))
            request.write(body[: len(body) // 2])
            request.write(body[len(body) // 2 :])
        request.finish()


class _Reader(Protocol):
    """Asks for everything at once, and reads in its own time."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.received = bytearray()
        self.ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * (_RESPONSES - 1))
        transport.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if self._chance.random() < 0.2:
            transport: Any = self.transport
            transport.pauseProducing()
            reactor.callLater(0.0, transport.resumeProducing)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.ended.callback(None)


@pytest.mark.parametrize("seed", range(3))
@pytest_twisted.ensureDeferred
async def test_responses_come_one_behind_the_other(seed: int) -> None:
    chance = random.Random(seed)
    bodies = _Bodies(iter(lambda: chance.choice([0, 10, 2000, 20_000, 100_000, chance.randrange(300_000)]), -1))
    site = GatewaySite(bodies, reactor, Connections(ClientLimits(), reactor), lambda _: None)
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    reader = _Reader(chance)
    await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), reader)
    await reader.ended.addTimeout(60, reactor)
    await port.stopListening()
    rest = bytes(reader.received)
    for body in bodies.bodies:
        head, _, rest = rest.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert rest[: len(body)] == body
        rest = rest[len(body) :]
    assert (len(bodies.bodies), rest) == (_RESPONSES, b"")


class _Way:
    """A transport and its socket, which has room for so many bytes more."""

    disconnecting = False

    def __init__(self) -> None:
        self.room = 0
        self.sent = b""
        # As in FileDescriptor, what was written becomes the buffer when it is first sent of.
        self.dataBuffer = self._written = b""

    def send(self, data: bytes) -> int:
        if not self.room:
            raise BlockingIOError
        sent = min(self.room, len(data))
        self.sent += data[:sent]
        self.room -= sent
        return sent

    def sendmsg(self, buffers: Iterable[bytes]) -> int:
        return self.send(b"".join(buffers))

    def write(self, data: bytes) -> None:
        self._written += data

    def doWrite(self) -> None:
        self.dataBuffer, self._written = self.dataBuffer + self._written, b""
        if self.room and self.dataBuffer:
            self.dataBuffer = self.dataBuffer[self.send(self.dataBuffer) :]


def _channel(way: _Way) -> Any:
    channel: Any = GatewayChannel()  # type: ignore[no-untyped-call]
    channel.transport = way
    channel.sending = Sending(way, way)
    return channel


@given(st.lists(st.tuples(st.sampled_from(["write", "write_all", "room", "turn"]), st.integers(1, 9))))
@example([("room", 100), ("write_all", 9000), ("room", 9000)])
@example([("room", 2), ("write_all", 4), ("room", 3), ("write_all", 2)])
def test_nothing_overtakes_what_waits(steps: list[tuple[str, int]]) -> None:
    way = _Way()
    channel = _channel(way)
    written = b""
    for what, count in steps:
        if what == "room":
            way.room += count
        elif what == "turn":
            way.doWrite()
        else:
            data = bytes(i % 256 for i in range(len(written), len(written) + count))
            written += data
            if what == "write":
                channel.write(data)
            else:
                channel.sending.write_all(data[:2], data[2:])
    way.room = len(written)
    way.doWrite()
    assert way.sent == written


def test_what_there_is_room_for_leaves_at_once() -> None:
    way = _Way()
    channel = _channel(way)
    way.room = 10
    channel.write(b"he")
    channel.sending.write_all(b"r", b"e")
    assert way.sent == b"here"
    channel.sending.write_all(b" and", b" now")
    assert way.sent == b"here and n"
    way.disconnecting = True
    way.room = 10
    channel.sending.write_all(b"gone", b"")
    assert way.sent == b"here and n"
