"""Lines to a node, in memory: which connection an exchange takes, and what becomes of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from tests.couch.wire.nodes import PORT, Node, Taker, answer, outcome
from tests.network import End, MemoryLines, Network
from txcouchdl.couch.errors import BadUpstream, UpstreamTimeout, UpstreamUnavailable
from txcouchdl.couch.wire.answers import Answer
from txcouchdl.couch.wire.connection import Connection, Means
from txcouchdl.couch.wire.line import IDLE_CONNECTIONS, Line

_REQUEST = b"GET / HTTP/1.1\r\n\r\n"


class Exchange:
    """
    A request, and the answer with its body as they come.

    :ivar answer: the answer, or the error, once there is one.
    """

    def __init__(self, line: Line, request: bytes = _REQUEST, *, is_to_close: bool = False) -> None:
        self.answer: Any = None
        self.taker = Taker()
        self.waiting = line.ask(request, is_to_close=is_to_close)
        self.waiting.addCallbacks(self._answered, self._failed)

    def _answered(self, answer: Answer) -> None:
        self.answer = answer
        answer.deliverBody(self.taker)

    def _failed(self, failure: Any) -> None:
        self.answer = failure.value

    @property
    def body(self) -> bytes | None:
        """The whole body, once it is there."""
        return self.taker.received if self.taker.is_done else None


class Wire:
    """A line to a node, in memory."""

    def __init__(self) -> None:
        self.network = Network()
        self.node = Node()
        self.network.listen(PORT, self.node)
        self.lines = MemoryLines(self.network)
        self.line = self.lines.to(f"http://127.0.0.1:{PORT}")

    def ask(self, *, is_to_close: bool = False, number: int = 0) -> Exchange:
        """Ask, and let everything move."""
        exchange = Exchange(self.line, b"GET /%d HTTP/1.1\r\n\r\n" % number, is_to_close=is_to_close)
        self.network.run()
        return exchange

    def say(self, data: bytes, connection: int = -1) -> None:
        """Let the node say something, and everything move."""
        self.node.connections[connection].say(data)
        self.network.run()

    def exchange(self, body: bytes = b"body") -> None:
        """A whole one. The connection rests then."""
        before = [len(asked) for asked in self.node.asked] + [0]
        exchange = self.ask()
        asked = next(number for number, asked in enumerate(self.node.asked) if len(asked) > before[number])
        self.say(answer(body), asked)
        assert exchange.body == body

    def rest(self, count: int) -> list[Exchange]:
        """Let so many connections rest, the first one longest."""
        exchanges = [Exchange(self.line) for _ in range(count)]
        self.network.run()
        for number in range(count):
            self.say(answer(b""), number - count)
        return exchanges

    @property
    def idle(self) -> int:
        return len(self.line._idle)

    @property
    def open(self) -> int:
        return self.network.open_connections(PORT)


# --- connections are used again -----------------------------------------------------------------------------


def test_one_exchange_after_the_other_takes_one_connection() -> None:
    wire = Wire()
    for number in range(3):
        exchange = wire.ask(number=number)
        assert wire.idle == 0
        wire.say(answer(b"%d" % number))
        assert exchange.body == b"%d" % number
        assert wire.idle == 1
    assert wire.node.asked == [[b"GET /%d HTTP/1.1\r\n\r\n" % number for number in range(3)]]


@given(st.lists(st.binary(max_size=20), max_size=6), st.booleans())
def test_any_bodies_one_behind_the_other_are_each_others_not(bodies: list[bytes], is_asked_from_within: bool) -> None:
    """Whoever asks while it is told of an end takes the same connection."""
    wire = Wire()
    exchanges: list[Exchange] = []

    class Next(Taker):
        def connectionLost(self, reason: Any = None) -> None:
            super().connectionLost(reason)
            begin()

    def begin() -> None:
        if len(exchanges) < len(bodies):
            exchanges.append(Exchange.__new__(Exchange))
            exchange = exchanges[-1]
            exchange.taker = Next() if is_asked_from_within else Taker()
            wire.line.ask(_REQUEST).addCallback(exchange._answered)

    for body in bodies:
        if not is_asked_from_within or not exchanges:
            begin()
        wire.network.run()
        wire.say(answer(body))
    assert [exchange.body for exchange in exchanges] == bodies
    assert len(wire.node.connections) == (1 if bodies else 0)
    assert wire.idle == len(wire.node.connections)


def test_whoever_came_to_rest_last_is_taken_first() -> None:
    wire = Wire()
    wire.rest(3)
    wire.ask(number=1)
    wire.ask(number=2)
    assert [len(asked) for asked in wire.node.asked] == [1, 2, 2]
    assert wire.node.asked[2][1].startswith(b"GET /1 ")


def test_each_exchange_under_way_has_its_own() -> None:
    wire = Wire()
    exchanges = [wire.ask(number=number) for number in range(3)]
    for number in reversed(range(3)):
        wire.say(answer(b"%d" % number), number)
    assert [exchange.body for exchange in exchanges] == [b"0", b"1", b"2"]


@pytest.mark.parametrize(
    "last",
    [
        answer(b"body", b"Connection: close\r\n"),
        answer(b"body").replace(b"1.1", b"1.0"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    ],
)
def test_what_says_it_is_the_last_answer_is(last: bytes) -> None:
    wire = Wire()
    exchange = wire.ask()
    wire.say(last)
    assert exchange.body == b"body"
    assert (wire.idle, wire.open) == (0, 0)


def test_who_asks_for_the_close_gets_it() -> None:
    wire = Wire()
    exchange = wire.ask(is_to_close=True)
    wire.say(answer(b"body"))
    assert exchange.taker.received == b"body"
    assert exchange.taker.end is None
    wire.say(b"behind its length")
    wire.node.connections[0].transport.loseConnection()
    wire.network.run()
    assert exchange.taker.received == b"bodybehind its length"
    assert exchange.taker.end is not None
    assert (wire.idle, wire.open) == (0, 0)


def test_what_one_exchange_asked_for_is_not_the_next_ones() -> None:
    wire = Wire()
    wire.exchange()
    first = wire.ask(is_to_close=True)
    assert len(wire.node.connections) == 1
    wire.say(answer(b"body") + b"more")
    wire.node.connections[0].transport.loseConnection()
    wire.network.run()
    assert first.taker.received == b"bodymore"
    wire.exchange()
    wire.exchange()
    assert [len(asked) for asked in wire.node.asked] == [2, 2]


# --- what is not the answer of anything ---------------------------------------------------------------------


@pytest.mark.parametrize("surplus", [b"x", answer(b"not for you")])
@pytest.mark.parametrize(
    "body", [answer(b"body"), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"]
)
def test_what_comes_behind_an_answer_is_nobodys(body: bytes, surplus: bytes) -> None:
    wire = Wire()
    exchange = wire.ask()
    wire.say(body + surplus)
    assert exchange.body == b"body"
    assert (wire.idle, wire.open) == (0, 0)
    following = wire.ask()
    assert following.answer is None
    wire.say(answer(b"its own"))
    assert following.body == b"its own"


def test_what_comes_unasked_for_is_nobodys() -> None:
    wire = Wire()
    wire.exchange()
    wire.say(answer(b"not for you"))
    assert (wire.idle, wire.open) == (0, 0)
    following = wire.ask()
    wire.say(answer(b"its own"))
    assert following.body == b"its own"


def test_what_comes_before_anything_was_asked_is_nobodys() -> None:
    """A connection that was never used is none to send a request on."""
    network = Network()
    ended: list[Connection] = []
    connection = Connection("node", lambda _: None, ended.append, Means(network))
    node = Node()
    network.listen(PORT, node)
    network.connect(PORT, connection)
    node.connections[0].say(answer(b"x"))
    network.run()
    assert ended == [connection, connection]
    assert node.connections[0].is_lost


@pytest.mark.parametrize("said", [b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"SSH-2.0\r\n\r\n", b"x" * 70_000])
def test_what_is_no_answer_ends_the_connection(said: bytes) -> None:
    wire = Wire()
    wire.exchange()
    exchange = wire.ask()
    wire.say(said)
    assert isinstance(exchange.answer, BadUpstream)
    assert str(exchange.answer).startswith(f"http://127.0.0.1:{PORT}: ")
    assert (wire.idle, wire.open) == (0, 0)
    assert len(wire.node.connections) == 1


# --- connections that have ended ----------------------------------------------------------------------------


def _let_end_unnoticed(wire: Wire, number: int = 0) -> None:
    """The node closes a connection; we learn of it when we have asked."""
    wire.node.connections[number].transport.loseConnection()


def test_a_stale_connection_is_replaced_and_the_request_sent_once_more() -> None:
    wire = Wire()
    wire.exchange()
    _let_end_unnoticed(wire)
    exchange = wire.ask(number=1)
    assert len(wire.node.connections) == 2
    assert wire.node.asked[1] == [b"GET /1 HTTP/1.1\r\n\r\n"]
    wire.say(answer(b"body"))
    assert exchange.body == b"body"


def test_it_is_sent_once_more_only_once() -> None:
    wire = Wire()
    wire.rest(2)
    _let_end_unnoticed(wire, 1)
    exchange = wire.ask()
    # Not on the other one that rests: it may be stale too.
    assert len(wire.node.connections) == 3
    assert wire.idle == 1
    _let_end_unnoticed(wire, 2)
    wire.network.run()
    assert isinstance(exchange.answer, UpstreamUnavailable)
    assert len(wire.node.connections) == 3


def test_a_new_connection_that_ends_is_not_replaced() -> None:
    wire = Wire()
    exchange = wire.ask()
    _let_end_unnoticed(wire)
    wire.network.run()
    assert type(exchange.answer) is UpstreamUnavailable
    assert len(wire.node.connections) == 1


@pytest.mark.parametrize("part", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_who_has_begun_to_answer_is_not_asked_again(part: bytes) -> None:
    wire = Wire()
    wire.exchange()
    exchange = wire.ask()
    wire.say(part)
    assert exchange.answer is None
    _let_end_unnoticed(wire)
    wire.network.run()
    assert isinstance(exchange.answer, UpstreamUnavailable)
    assert len(wire.node.connections) == 1


def test_a_part_of_one_answer_says_nothing_of_the_next() -> None:
    """An answer that comes in pieces leaves the connection one that has said nothing yet."""
    wire = Wire()
    exchange = wire.ask()
    for piece in (b"HTTP/1.1 200 ", b"OK\r\nContent-Length: 0\r\n", b"\r\n"):
        wire.say(piece)
    assert exchange.body == b""
    _let_end_unnoticed(wire)
    again = wire.ask()
    assert again.answer is None
    assert len(wire.node.connections) == 2


def test_a_body_that_breaks_off_is_not_asked_for_again() -> None:
    wire = Wire()
    wire.exchange()
    exchange = wire.ask()
    wire.say(answer(b"body")[:-1])
    _let_end_unnoticed(wire)
    wire.network.run()
    assert exchange.taker.received == b"bod"
    assert exchange.taker.end is not None
    assert not exchange.taker.is_done
    assert len(wire.node.connections) == 1


def test_a_connection_that_ends_at_rest_is_forgotten() -> None:
    wire = Wire()
    wire.rest(3)
    wire.node.connections[1].transport.loseConnection()
    wire.network.run()
    assert wire.idle == 2
    wire.exchange()
    assert len(wire.node.connections) == 3


# --- how many rest, and for how long ------------------------------------------------------------------------


def test_only_so_many_rest_and_the_oldest_leaves_first() -> None:
    wire = Wire()
    wire.rest(IDLE_CONNECTIONS + 3)
    assert wire.idle == wire.open == IDLE_CONNECTIONS == 32
    assert [connection.is_lost for connection in wire.node.connections[:5]] == [True] * 3 + [False] * 2


def test_who_rests_too_long_is_closed_each_in_its_time() -> None:
    wire = Wire()
    wire.rest(3)
    wire.network.elapse(100)
    wire.exchange()
    wire.network.elapse(139.9)
    assert wire.open == 3
    wire.network.elapse(0.1)
    assert wire.open == wire.idle == 1
    assert len(wire.network.getDelayedCalls()) == 1
    wire.network.elapse(99.9)
    assert wire.open == 1
    wire.network.elapse(0.1)
    assert wire.open == wire.idle == 0
    assert not wire.network.getDelayedCalls()


def test_whoever_is_at_work_has_no_such_time() -> None:
    wire = Wire()
    wire.exchange()
    exchange = wire.ask()
    wire.network.elapse(1000)
    assert not wire.network.getDelayedCalls()
    wire.say(answer(b"late"))
    assert exchange.body == b"late"
    wire.network.elapse(240)
    assert wire.open == 0


# --- letting go ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_used", [False, True])
@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 2"])
def test_cancelling_before_the_answer_drops_the_connection(is_used: bool, said: bytes) -> None:
    wire = Wire()
    if is_used:
        wire.exchange()
    exchange = wire.ask()
    wire.say(said)
    exchange.waiting.cancel()
    wire.network.run()
    assert isinstance(exchange.answer, CancelledError)
    assert (wire.idle, wire.open) == (0, 0)
    assert len(wire.node.connections) == 1


def test_cancelling_the_second_attempt_drops_its_connection() -> None:
    wire = Wire()
    wire.exchange()
    _let_end_unnoticed(wire)
    exchange = wire.ask()
    exchange.waiting.cancel()
    wire.network.run()
    assert isinstance(exchange.answer, CancelledError)
    assert wire.open == 0
    assert len(wire.node.connections) == 2


def test_stopping_a_body_drops_the_connection() -> None:
    wire = Wire()
    exchange = wire.ask()
    wire.say(answer(b"body")[:-1])
    exchange.taker.transport.stopProducing()  # type: ignore[union-attr]
    exchange.taker.transport.stopProducing()  # type: ignore[union-attr]
    wire.network.run()
    assert exchange.taker.end is None
    assert (wire.idle, wire.open) == (0, 0)


def test_stopping_a_body_that_is_over_drops_nothing() -> None:
    wire = Wire()
    exchange = wire.ask()
    wire.say(answer(b"body"))
    exchange.taker.transport.stopProducing()  # type: ignore[union-attr]
    wire.network.run()
    assert (wire.idle, wire.open) == (1, 1)


@implementer(IStreamClientEndpoint)
class Endpoint:
    """One whose connecting is in the test's hand."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.connecting: Deferred[IProtocol] = Deferred(self._cancel)
        self.protocol: Any = None

    def _cancel(self, _: object) -> None:
        self.cancelled += 1

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[IProtocol]":  # noqa: N803 (the interface's)
        self.protocol = protocolFactory.buildProtocol(None)  # type: ignore[arg-type]
        return self.connecting


def test_cancelling_while_it_connects_fails_at_once_and_cancels_that() -> None:
    endpoint = Endpoint()
    exchange = Exchange(Line("node", endpoint, Network(), Means(Network())))
    exchange.waiting.cancel()
    assert isinstance(exchange.answer, CancelledError)
    assert endpoint.cancelled == 1


def test_a_connection_that_comes_up_for_nobody_is_dropped() -> None:
    network, node, endpoint = Network(), Node(), Endpoint()
    endpoint.connecting = Deferred(lambda waiting: waiting.callback(endpoint.protocol))
    network.listen(PORT, node)
    exchange = Exchange(Line("node", endpoint, network, Means(network)))
    network.connect(PORT, endpoint.protocol)
    exchange.waiting.cancel()
    network.run()
    assert isinstance(exchange.answer, CancelledError)
    assert node.connections[0].is_lost
    assert not node.connections[0].received


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (error.ConnectionRefusedError(), UpstreamUnavailable),
        (error.NoRouteError(), UpstreamUnavailable),
        (error.ConnectBindError(), UpstreamUnavailable),
        (error.DNSLookupError(), UpstreamUnavailable),
        (error.TimeoutError(), UpstreamTimeout),
        (error.TCPTimedOutError(), UpstreamUnavailable),
        (ZeroDivisionError(), ZeroDivisionError),
    ],
)
def test_what_cannot_be_connected_to(failure: Exception, kind: type[Exception]) -> None:
    endpoint = Endpoint()
    endpoint.connecting = fail(failure)
    exchange = Exchange(Line("the node", endpoint, Network(), Means(Network())))
    assert type(exchange.answer) is kind
    assert kind is ZeroDivisionError or str(exchange.answer).startswith("the node: ")


def test_a_node_that_does_not_listen() -> None:
    wire = Wire()
    wire.network.listen(PORT, None)
    assert isinstance(wire.ask().answer, UpstreamUnavailable)
    assert not wire.network.getDelayedCalls()


# --- closing ------------------------------------------------------------------------------------------------


def test_closing_closes_what_rests_and_nothing_else() -> None:
    wire = Wire()
    wire.rest(3)
    exchange = wire.ask()
    closing = wire.lines.close()
    assert not closing.called
    wire.network.run()
    assert closing.called
    assert outcome(closing) is None
    assert (wire.idle, wire.open) == (0, 1)
    wire.say(answer(b"body"))
    assert exchange.body == b"body"


def test_closing_waits_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire()
    wire.rest(2)
    monkeypatch.setattr(End, "loseConnection", lambda _: None)
    closing = wire.lines.close()
    for connection in wire.node.connections:
        assert not closing.called
        connection.transport.abortConnection()
        wire.network.run()
    assert closing.called


def test_closing_with_nothing_at_rest_is_done_at_once() -> None:
    wire = Wire()
    wire.ask()
    assert wire.lines.close().called
    assert not wire.network.getDelayedCalls()


def test_closing_waits_for_the_last_of_all_lines() -> None:
    wire = Wire()
    other = Node()
    wire.network.listen(PORT + 1, other)
    line = wire.lines.to(f"http://127.0.0.1:{PORT + 1}/couch")
    exchange = Exchange(line)
    wire.network.run()
    other.connections[0].say(answer(b""))
    wire.rest(2)
    assert exchange.body == b""
    closing = wire.lines.close()
    wire.network.run(until=lambda: wire.open == 0)
    wire.network.run()
    assert closing.called
    assert other.connections[0].is_lost
    assert not wire.network.getDelayedCalls()


def _closed_by_hand(wire: Wire, patch: pytest.MonkeyPatch) -> "list[Deferred[None]]":
    """Let no connection close. What the line's closings come to is put into a list."""
    patch.setattr(End, "loseConnection", lambda _: None)
    closings: list[Deferred[None]] = []
    close = wire.line.close

    def closing() -> "Deferred[None]":
        closings.append(close())
        return closings[-1]

    patch.setattr(wire.line, "close", closing)
    return closings


def test_closing_takes_no_longer_than_some_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire()
    wire.rest(1)
    closings = _closed_by_hand(wire, monkeypatch)
    closing = wire.lines.close()
    wire.network.elapse(4.9)
    assert not closing.called
    wire.network.elapse(0.1)
    assert closing.called
    assert len([outcome(each) for each in closings]) == 1


def test_a_node_that_does_not_let_go_leaves_no_error_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire()
    wire.rest(1)
    closings = _closed_by_hand(wire, monkeypatch)
    wire.lines.close()
    wire.network.elapse(5)
    assert [outcome(each) for each in closings] == [None]


def test_closing_twice_is_closing_once() -> None:
    wire = Wire()
    wire.rest(1)
    closings = [wire.line.close(), wire.line.close()]
    wire.network.run()
    assert [closing.called for closing in closings] == [True, True]


def test_what_comes_to_rest_behind_the_close_is_closed_too() -> None:
    wire = Wire()
    exchange = wire.ask()
    assert wire.lines.close().called
    wire.say(answer(b"body"))
    assert exchange.body == b"body"
    assert (wire.idle, wire.open) == (0, 0)
    assert not wire.network.getDelayedCalls()


def test_lines_go_where_their_urls_lead() -> None:
    asked: list[tuple[str, int]] = []

    class Asking(MemoryLines):
        def endpoint(self, host: str, port: int) -> IStreamClientEndpoint:
            asked.append((host, port))
            return super().endpoint(host, port)

    lines = Asking(Network())
    for base in "http://a", "http://b:5984/couch", "https://c", "https://[::1]:6984":
        lines.to(base)
    assert asked == [("a", 80), ("b", 5984), ("c", 443), ("::1", 6984)]
