"""What the tests of this folder share: a node that is played by hand, and somebody who takes bodies."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone

from tests.network import End

PORT = 5984


class Node(Factory):
    """
    A node that says what it is told to.

    :ivar connections: all that were made.
    """

    def __init__(self) -> None:
        self.connections: list[NodeEnd] = []

    def buildProtocol(self, _: object) -> "NodeEnd":
        self.connections.append(NodeEnd())
        return self.connections[-1]

    @property
    def asked(self) -> list[list[bytes]]:
        """The requests on each connection."""
        return [connection.asked for connection in self.connections]


class NodeEnd(Protocol):
    """The node's end of a connection."""

    transport: End

    def __init__(self) -> None:
        self.received = b""
        self.is_lost = False

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: object = None) -> None:
        self.is_lost = True

    @property
    def asked(self) -> list[bytes]:
        return [each + b"\r\n\r\n" for each in self.received.split(b"\r\n\r\n")[:-1]]

    def say(self, data: bytes) -> None:
        self.transport.write(data)


class Taker(Protocol):
    """
    Somebody who takes a body.

    :ivar end: what it ended with, once it has.
    """

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.end: Any = None

    def dataReceived(self, data: bytes) -> None:
        assert self.end is None
        self.pieces.append(data)

    def connectionLost(self, reason: Failure | None = None) -> None:
        assert reason is not None
        assert self.end is None
        self.end = reason

    @property
    def received(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def is_open(self) -> bool:
        """Whether more may come."""
        return self.end is None

    @property
    def is_done(self) -> bool:
        """Whether the body is over, and complete."""
        return self.end is not None and self.end.check(ResponseDone) is not None


def outcome(waiting: "Deferred[Any]") -> Any:
    """What a Deferred has fired with, its error if that; ``None`` if it has not."""
    results: list[Any] = []
    waiting.addBoth(results.append)
    return results[0].value if results and isinstance(results[0], Failure) else (results or [None])[0]


def answer(body: bytes, fields: bytes = b"") -> bytes:
    """An answer of a known length."""
    return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (fields, len(body), body)
