"""What is done with sockets past their transports, and that it is not done with others; over loopback."""

import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, UNIXServerEndpoint
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from tests.couch.wire.nodes import Taker, answer
from tests.network import Network
from tests.servers import reactor
from txcouchdl.couch.wire import pipes, sockets
from txcouchdl.couch.wire.answers import Answer, Body
from txcouchdl.couch.wire.line import Lines
from txcouchdl.couch.wire.pipes import Conduit, Pipe
from txcouchdl.couch.wire.sockets import plain_socket, send_now


class Transport:
    """A transport that says what is written to it."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)


class Sending:
    """A socket that has room for so many bytes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.sent = b""

    def send(self, data: bytes) -> int:
        if not self.room:
            raise BlockingIOError
        self.sent += data[: self.room]
        return min(self.room, len(data))


@pytest.mark.parametrize("room", [0, 1, 3, 4, 5])
def test_what_there_is_room_for_is_sent_now_and_the_rest_in_time(room: int) -> None:
    transport: Any = Transport()
    plain: Any = Sending(room)
    send_now(transport, plain, b"data")
    assert plain.sent + b"".join(transport.written) == b"data"
    assert len(plain.sent) == min(room, 4)
    assert len(transport.written) == (room < 4)


def test_without_a_plain_socket_it_is_the_transports() -> None:
    transport: Any = Transport()
    send_now(transport, None, b"data")
    assert transport.written == [b"data"]


def test_a_socket_that_is_closed_is_the_transports_matter() -> None:
    transport: Any = Transport()
    plain = socket.socket()
    plain.close()
    send_now(transport, plain, b"data")
    assert transport.written == [b"data"]


def test_what_is_no_transport_of_a_socket_has_none() -> None:
    assert plain_socket(object()) is None
    assert plain_socket(Network()) is None


class Node(Factory):
    """
    A node over loopback, that answers every request with what it is given for it.

    :ivar ends: its ends of connections.
    """

    noisy = False

    def __init__(self, answers: list[bytes]) -> None:
        self.answers = answers
        self.ends: list[Any] = []
        self.lost: Deferred[None] = Deferred()

    def buildProtocol(self, _: IAddress | None) -> Protocol:
        self.ends.append(_NodeEnd(self))
        return self.ends[-1]  # type: ignore[no-any-return]


class _NodeEnd(Protocol):
    def __init__(self, node: Node) -> None:
        self._node = node

    def dataReceived(self, _: bytes) -> None:
        if self._node.answers:
            self.transport.write(self._node.answers.pop(0))  # type: ignore[union-attr]

    def connectionLost(self, _: Failure = connectionDone) -> None:
        if not self._node.lost.called:
            self._node.lost.callback(None)


class Whole(Taker):
    """
    Somebody who takes a body, and says when it is over.

    :ivar over: fires then.
    """

    def __init__(self) -> None:
        super().__init__()
        self.over: Deferred[None] = Deferred()

    def connectionLost(self, reason: Failure | None = None) -> None:
        super().connectionLost(reason)
        self.over.callback(None)


class Conducted(Whole):
    """Somebody who lets a body go by a conduit after the first bytes, and takes it out of it again."""

    def __init__(self, leave: int) -> None:
        super().__init__()
        self._leave = leave
        self._conduit: Conduit | None = None

    @property
    def body(self) -> Body:
        assert isinstance(self.transport, Body)
        return self.transport

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        if self._conduit is None:
            self._conduit = self.body.conduit(self._pump)
            if self._conduit is not None:
                self._pump()

    def _pump(self) -> None:
        conduit = self._conduit
        assert conduit is not None
        while conduit.missing > self._leave:
            try:
                assert conduit.fill()
            except BlockingIOError:
                conduit.watch()
                return
            self.pieces.append(conduit.take())
        self.body.conducted()


_BODY = bytes(range(256)) * 2**13


def _descriptors() -> int:
    """That are open, without those of empty pipes that wait for the next one."""
    return len(os.listdir("/proc/self/fd")) - 2 * len(Pipe._spare) - 3 * len(pipes._doubles)


@pytest_twisted.async_yield_fixture
async def line() -> AsyncIterator[Any]:
    """A node with its answers to come, and a line to it."""
    node = Node([])
    port = reactor.listenTCP(0, node, interface="127.0.0.1")
    lines = Lines(reactor)
    before = _descriptors()
    yield node, lines.to(f"http://127.0.0.1:{port.getHost().port}")
    await lines.close()
    for end in node.ends:
        end.transport.abortConnection()
    await node.lost
    await port.stopListening()
    assert _descriptors() <= before


def _mark(answer: Answer) -> int:
    plain: socket.socket = answer._body._connection.plain  # type: ignore[union-attr]
    return plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)


@pytest.mark.parametrize("way", ["portable", "by a conduit", "by a conduit, the rest portable"])
@ensureDeferred
async def test_large_bodies_one_behind_the_other_on_one_connection(way: str, line: Any) -> None:
    node, to = line
    node.answers += [answer(_BODY), answer(b"short"), answer(_BODY)]
    for expected in _BODY, b"short", _BODY:
        answered = await to.ask(b"GET / HTTP/1.1\r\n\r\n")
        assert _mark(answered) == 1
        taker = Whole() if way == "portable" else Conducted(2**19 if "rest" in way else 0)
        answered.deliverBody(taker)
        await taker.over
        assert taker.is_done
        assert taker.received == expected
    assert len(node.ends) == 1


@ensureDeferred
async def test_what_comes_behind_a_conducted_body_is_not_the_answer_of_the_next_request(line: Any) -> None:
    node, to = line
    said = answer(_BODY[:1000])
    node.answers += [said[:-100], answer(b"its own")]
    answered = await to.ask(b"GET / HTTP/1.1\r\n\r\n")
    taker = Conducted(0)
    answered.deliverBody(taker)
    node.ends[0].transport.write(said[-100:] + answer(b"not for you"))
    await taker.over
    assert taker.received == _BODY[:1000]
    # From within the end of the first.
    answered = await to.ask(b"GET / HTTP/1.1\r\n\r\n")
    following = Whole()
    answered.deliverBody(following)
    await following.over
    assert following.received == b"its own"
    assert len(node.ends) == 2


@pytest.mark.parametrize("is_conducted", [False, True])
@ensureDeferred
async def test_who_stops_amid_a_body_leaves_nothing(is_conducted: bool, line: Any) -> None:
    node, to = line
    node.answers.append(answer(_BODY)[:-1])
    answered = await to.ask(b"GET / HTTP/1.1\r\n\r\n")
    taker = Conducted(2**20) if is_conducted else Whole()
    answered.deliverBody(taker)
    if is_conducted and taker.transport._conduit is not None:  # type: ignore[union-attr]
        taker.transport._conduit.watch()  # type: ignore[union-attr]
    taker.transport.stopProducing()  # type: ignore[union-attr]
    await node.lost
    assert taker.end is None
    assert not [reader for reader in reactor.getReaders() if type(reader).__name__ == "SocketConduit"]


@ensureDeferred
async def test_a_socket_of_the_file_system_is_no_plain_one(tmp_path: Path) -> None:
    node = Node([answer(b"body")])
    port = await UNIXServerEndpoint(reactor, str(tmp_path / "socket")).listen(node)
    end: Protocol = Protocol()

    class Connecting(Factory):
        noisy = False

        def buildProtocol(self, _: object) -> Protocol:
            return end

    await UNIXClientEndpoint(reactor, str(tmp_path / "socket")).connect(Connecting())
    assert plain_socket(end.transport) is None
    end.transport.loseConnection()  # type: ignore[union-attr]
    await node.lost
    await port.stopListening()


@ensureDeferred
async def test_no_socket_is_a_plain_one_on_other_systems(line: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    node, to = line
    monkeypatch.setattr(sockets, "IS_LINUX", False)
    node.answers.append(answer(_BODY))
    answered = await to.ask(b"GET / HTTP/1.1\r\n\r\n")
    assert answered._body._connection.plain is None
    taker = Conducted(0)
    answered.deliverBody(taker)
    await taker.over
    assert taker.received == _BODY
