"""A request to a node that is cancelled, over the network: it is never the node's failure, whenever that happens."""

from collections.abc import AsyncIterator

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tests.servers import reactor
from txcouchdl.couch.client import BodyHead, CouchClient
from txcouchdl.couch.names import AttachmentAddress
from txcouchdl.couch.nodes import Node
from txcouchdl.couch.wire.line import Lines


class Silent(Factory):
    """
    A node that never answers.

    :ivar asked: fires when it is asked something.
    :ivar left: fires when the connection ends.
    """

    noisy = False

    def __init__(self) -> None:
        self.asked: Deferred[None] = Deferred()
        self.left: Deferred[None] = Deferred()

    def buildProtocol(self, _: object) -> Protocol:
        return _Silent(self)


class _Silent(Protocol):
    def __init__(self, node: Silent) -> None:
        self._node = node

    def dataReceived(self, _: bytes) -> None:
        self._node.asked.callback(None)

    def connectionLost(self, _: Failure = connectionDone) -> None:
        if not self._node.left.called:
            self._node.left.callback(None)


@pytest_twisted.async_yield_fixture
async def node() -> AsyncIterator[tuple[Silent, CouchClient]]:
    silent = Silent()
    port = reactor.listenTCP(0, silent, interface="127.0.0.1")
    lines = Lines(reactor)
    yield silent, CouchClient(Node(f"http://127.0.0.1:{port.getHost().port}"), lines, reactor, 30)
    await lines.close()
    await port.stopListening()


def ask(client: CouchClient, closing: bool) -> "Deferred[BodyHead]":
    address = AttachmentAddress("db", "doc", "file")
    return Deferred.fromCoroutine(client.attachment(address, "1-a", None, gzip=False, closing=closing))


@pytest.mark.parametrize("closing", [False, True])
@pytest.mark.parametrize("turns", range(4))
@ensureDeferred
async def test_while_it_connects(turns: int, closing: bool, node: tuple[Silent, CouchClient]) -> None:
    _, client = node
    asking = ask(client, closing)
    for _ in range(turns):
        await deferLater(reactor, 0)
    asking.cancel()
    with pytest.raises(CancelledError):
        await asking


@pytest.mark.parametrize("closing", [False, True])
@ensureDeferred
async def test_while_it_waits_for_an_answer(closing: bool, node: tuple[Silent, CouchClient]) -> None:
    silent, client = node
    asking = ask(client, closing)
    await silent.asked
    asking.cancel()
    with pytest.raises(CancelledError):
        await asking
    await silent.left
