"""Bodies of answers, on their way to whoever wants them, in memory: when they flow, and how they end."""

import errno
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.web.client import ResponseFailed
from twisted.web.iweb import UNKNOWN_LENGTH

from tests import strategies
from tests.couch.wire.nodes import PORT, Node, NodeEnd, Taker, answer
from tests.network import Network
from txcouchdl.couch.short_bodies import abandon
from txcouchdl.couch.wire.answers import Answer, Body
from txcouchdl.couch.wire.chunks import BadChunks
from txcouchdl.couch.wire.connection import Connection, Means
from txcouchdl.couch.wire.lowwater import TICK, LowWater

_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_CHUNKS = b"4\r\nbody\r\n0\r\n\r\n"
_UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"


class Plain:
    """A plain socket, as far as one is needed: what is sent has no room in it."""

    def __init__(self) -> None:
        self.mark = 1
        self.to_read: list[bytes] = []

    def setsockopt(self, level: int, name: int, value: int, /) -> None:
        assert (level, name) == (socket.SOL_SOCKET, socket.SO_RCVLOWAT)
        self.mark = value

    def send(self, _: bytes) -> int:
        raise BlockingIOError

    def recv(self, count: int, *_: int) -> bytes:
        if not self.to_read:
            raise BlockingIOError
        return self.to_read.pop(0)


class PlayedConduit:
    """One that the test moves by hand."""

    def __init__(self, low_water: LowWater, missing: int, wake: Callable[[], object]) -> None:
        self.low_water = low_water
        self.missing = missing
        self.inside = 0
        self.wake = wake
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class PlainMeans(Means):
    """Means of connections in memory that look like plain sockets."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self.socket = Plain()
        self.conduits: list[PlayedConduit] = []

    def plain(self, transport: object) -> Any:
        return self.socket

    def conduit(self, plain: Any, low_water: LowWater, missing: int, wake: Callable[[], object]) -> Any:
        assert plain is self.socket
        self.conduits.append(PlayedConduit(low_water, missing, wake))
        return self.conduits[-1]


class Asked:
    """
    A connection that has asked, and a node that answers.

    :ivar rested: how often the connection could be used again.
    """

    def __init__(self, *, is_to_close: bool = False, is_plain: bool = False) -> None:
        self.network = Network()
        self.means = PlainMeans(self.network) if is_plain else Means(self.network)
        node = Node()
        self.network.listen(PORT, node)
        self.rested = 0
        self.ended = 0
        self.connection = Connection("node", self._rest, self._end, self.means)
        self.network.connect(PORT, self.connection)
        self.node: NodeEnd = node.connections[0]
        self.answer: Answer
        self.taker = Taker()
        self.ask(is_to_close=is_to_close)

    def ask(self, *, is_to_close: bool = False) -> None:
        def answered(answer: Answer) -> None:
            self.answer = answer

        waiting: Deferred[Answer] = self.connection.ask(b"GET / HTTP/1.1\r\n\r\n", is_to_close=is_to_close)
        waiting.addCallback(answered)
        self.network.run()

    def _rest(self, _: Connection) -> None:
        self.rested += 1

    def _end(self, _: Connection) -> None:
        self.ended += 1

    def say(self, *pieces: bytes) -> None:
        """Let the node say something in pieces, and everything move."""
        for piece in pieces:
            self.node.say(piece)
            self.network.run()

    def close(self) -> None:
        self.node.transport.loseConnection()
        self.network.run()

    def deliver(self, taker: Taker | None = None) -> Taker:
        self.taker = taker or self.taker
        self.answer.deliverBody(self.taker)
        self.network.run()
        return self.taker

    @property
    def body(self) -> Body:
        assert isinstance(self.taker.transport, Body)
        return self.taker.transport

    @property
    def socket(self) -> Plain:
        assert isinstance(self.means, PlainMeans)
        return self.means.socket

    @property
    def near(self) -> Any:
        return self.connection.transport

    def assert_ready(self) -> None:
        """The connection can be used again, and nothing is waited for."""
        assert (self.rested, self.ended) == (1, 0)
        assert not self.near.is_paused
        if isinstance(self.means, PlainMeans):
            assert self.socket.mark == 1
            self.network.advance(TICK)
        assert not self.network.getDelayedCalls()
        self.ask()
        self.say(answer(b"next"))
        assert self.deliver(Taker()).received == b"next"


# --- heads --------------------------------------------------------------------------------------------------


def test_an_answer_says_what_its_head_does() -> None:
    asked = Asked()
    asked.say(b'HTTP/1.1 404 Object Not Found\r\nETag: "a"\r\nX: 1\r\nx: 2\r\nContent-Length: 3\r\n\r\n')
    assert (asked.answer.code, asked.answer.length) == (404, 3)
    assert list(asked.answer.headers.getAllRawHeaders()) == [
        (b"ETag", [b'"a"']),
        (b"X", [b"1, 2"]),
        (b"Content-Length", [b"3"]),
    ]
    assert asked.answer.request is None
    with pytest.raises(NotImplementedError):
        asked.answer.setPreviousResponse(asked.answer)


@pytest.mark.parametrize("head", [_CHUNKED, _UNTIL_CLOSE])
def test_a_length_that_is_not_known(head: bytes) -> None:
    asked = Asked()
    asked.say(head)
    assert asked.answer.length is UNKNOWN_LENGTH


# --- bodies -------------------------------------------------------------------------------------------------


@given(st.data(), st.binary(max_size=50), st.sampled_from(["length", "chunks", "close", "to close"]), st.booleans())
def test_any_body_in_any_pieces_wanted_at_any_time(data: st.DataObject, body: bytes, way: str, is_plain: bool) -> None:
    said = {
        "length": answer(body),
        "chunks": _CHUNKED + (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n",
        "close": _UNTIL_CLOSE + body,
        "to close": answer(body),
    }[way]
    asked = Asked(is_to_close=way == "to close", is_plain=is_plain)
    pieces = data.draw(strategies.cuts(said))
    wanted_at = data.draw(st.integers(0, len(pieces)))
    for number, piece in enumerate([*pieces, b""]):
        if number >= wanted_at and hasattr(asked, "answer") and asked.taker.transport is None:
            asked.deliver()
        asked.say(piece)
    if asked.taker.transport is None:
        asked.deliver()
    assert asked.taker.received == body
    if "close" in way:
        assert asked.taker.is_open
        asked.close()
        assert asked.taker.end.check(ResponseFailed)
        assert asked.ended == 1
        asked.network.advance(TICK)
        assert not asked.network.getDelayedCalls()
    else:
        assert asked.taker.is_done
        asked.assert_ready()


@pytest.mark.parametrize("said", [answer(b"body")[:-1], _CHUNKED + b"4\r\nbod", _CHUNKED + b"3\r\nbod\r\n0\r\n"])
@pytest.mark.parametrize("is_wanted_late", [False, True])
def test_a_body_that_breaks_off_is_not_complete(said: bytes, is_wanted_late: bool) -> None:
    asked = Asked()
    asked.say(said)
    if not is_wanted_late:
        asked.deliver()
    asked.close()
    if is_wanted_late:
        asked.deliver()
    assert asked.taker.received == b"bod"
    assert asked.taker.end.check(ResponseFailed)
    assert (asked.rested, asked.ended) == (0, 1)


@pytest.mark.parametrize("said", [answer(b"body"), _CHUNKED + _CHUNKS])
def test_a_body_that_came_whole_is_complete_though_its_connection_has_ended(said: bytes) -> None:
    asked = Asked()
    asked.say(said)
    asked.close()
    asked.deliver()
    assert asked.taker.received == b"body"
    assert asked.taker.is_done
    asked.network.run()
    assert asked.ended == 1


@pytest.mark.parametrize("at_once", [False, True])
def test_broken_chunks_break_the_body_and_the_connection(at_once: bool) -> None:
    asked = Asked()
    pieces = [_CHUNKED, b"4\r\nbody\r\n", b"oops\r\n"]
    asked.say(pieces[0])
    asked.deliver()
    asked.say(*([b"".join(pieces[1:])] if at_once else pieces[1:]))
    assert asked.taker.end.check(ResponseFailed)
    assert asked.taker.end.value.reasons[0].check(BadChunks)
    assert asked.node.is_lost
    assert asked.rested == 0


@pytest.mark.parametrize("surplus", [b"x", answer(b"not for you")])
@pytest.mark.parametrize("said", [answer(b"body"), _CHUNKED + _CHUNKS, answer(b"")])
@pytest.mark.parametrize("is_wanted_late", [False, True])
def test_what_comes_behind_a_body_ends_the_connection(said: bytes, surplus: bytes, is_wanted_late: bool) -> None:
    asked = Asked()
    body = b"" if b"Length: 0" in said else b"body"
    if is_wanted_late:
        asked.say(said + surplus)
        asked.deliver()
    else:
        asked.connection._waiting.addCallback(lambda _: asked.deliver())  # type: ignore[union-attr]
        asked.say(said + surplus)
    assert asked.taker.received == body
    assert asked.taker.is_done
    assert asked.node.is_lost
    assert asked.rested == 0


# --- flow ---------------------------------------------------------------------------------------------------


def test_what_nobody_wants_yet_is_kept_and_no_more_read() -> None:
    asked = Asked()
    size = 10 * 2**16
    asked.say(answer(b"x" * size))
    assert asked.near.is_paused
    assert sum(map(len, asked.answer._body._held)) < 2**16
    assert asked.deliver().received == b"x" * size
    assert asked.taker.is_done
    asked.assert_ready()


def test_whoever_wants_it_at_once_has_it_without_a_pause() -> None:
    asked = Asked()
    pauses: list[None] = []
    asked.near.pauseProducing = lambda: pauses.append(None)
    asked.connection._waiting.addCallback(lambda _: asked.answer.deliverBody(asked.taker))  # type: ignore[union-attr]
    asked.say(answer(b"body")[:-1])
    assert asked.taker.received == b"bod"
    assert not pauses


class Pausing(Taker):
    """Somebody who has enough at some point."""

    def __init__(self, *, at_once: bool) -> None:
        super().__init__()
        self._at_once = at_once

    def connectionMade(self) -> None:
        if self._at_once:
            self.transport.pauseProducing()  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.transport.pauseProducing()  # type: ignore[union-attr]


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("is_held", [False, True])
@pytest.mark.parametrize("is_plain", [False, True])
def test_who_pauses_gets_no_more_until_he_resumes(at_once: bool, is_held: bool, is_plain: bool) -> None:
    asked = Asked(is_plain=is_plain)
    taker = Pausing(at_once=at_once)
    if is_held:
        asked.say(answer(b"x" * 2**18)[: 2**17])
        asked.deliver(taker)
    else:
        asked.taker = taker
        asked.connection._waiting.addCallback(lambda _: asked.answer.deliverBody(taker))  # type: ignore[union-attr]
        asked.say(answer(b"x" * 2**18)[: 2**17])
    asked.say(answer(b"x" * 2**18)[2**17 :])
    while not taker.is_done:
        before = len(taker.received)
        assert asked.near.is_paused
        asked.network.advance(TICK)
        assert not asked.network.getDelayedCalls()
        asked.network.pass_time(1)
        assert len(taker.received) == before
        asked.body.resumeProducing()
        asked.network.run()
        assert len(taker.received) > before
    assert len(taker.received) == 2**18
    asked.assert_ready()


def test_whoever_pauses_as_he_begins_gets_what_was_kept_and_no_more() -> None:
    asked = Asked()
    asked.say(answer(b"x" * 2**18))
    assert len(asked.deliver(Pausing(at_once=True)).pieces) == 1


def test_whoever_pauses_and_resumes_while_he_is_given_what_was_kept_goes_on() -> None:
    asked = Asked()

    class Wavering(Taker):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            self.transport.pauseProducing()  # type: ignore[union-attr]
            self.transport.resumeProducing()  # type: ignore[union-attr]

    asked.say(answer(b"x" * 2**18))
    assert asked.deliver(Wavering()).is_done
    asked.assert_ready()


def test_a_body_that_ends_while_it_is_paused_leaves_a_connection_that_reads() -> None:
    asked = Asked()
    asked.say(answer(b"body")[:-4])
    asked.deliver(Pausing(at_once=False))
    asked.say(b"body")
    assert asked.taker.is_done
    asked.assert_ready()


@pytest.mark.parametrize("is_late", [False, True])
def test_a_body_that_nobody_wants_is_dropped(is_late: bool) -> None:
    asked = Asked()
    asked.say(answer(b"x" * 2**18))
    if is_late:
        asked.close()
    abandon(asked.answer)
    asked.network.run()
    assert asked.node.is_lost
    assert asked.rested == 0


@pytest.mark.parametrize("said", [answer(b"body"), answer(b"body")[:-1], _CHUNKED + _CHUNKS, _UNTIL_CLOSE])
@pytest.mark.parametrize("is_paused", [False, True])
def test_whoever_stops_within_hears_no_more(said: bytes, is_paused: bool) -> None:
    asked = Asked(is_plain=True)

    class Stopping(Taker):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            if is_paused:
                self.transport.pauseProducing()  # type: ignore[union-attr]
            self.transport.stopProducing()  # type: ignore[union-attr]

    asked.say(said)
    asked.deliver(Stopping())
    asked.say(b"more")
    asked.close()
    assert len(asked.taker.pieces) <= 1
    assert asked.taker.is_open
    assert asked.taker.end is None
    assert asked.rested == 0
    assert asked.ended
    asked.network.advance(TICK)
    assert not asked.network.getDelayedCalls()


# --- trust --------------------------------------------------------------------------------------------------


def test_a_body_that_is_not_what_it_should_be_takes_its_connection_with_it() -> None:
    asked = Asked()

    class Doubting(Taker):
        def connectionLost(self, reason: Any = None) -> None:
            super().connectionLost(reason)
            asked.body.distrust()

    asked.say(answer(b"body"))
    asked.deliver(Doubting())
    assert asked.taker.is_done
    assert asked.ended
    assert asked.node.is_lost


def test_distrust_that_comes_later_is_of_nobody() -> None:
    asked = Asked()
    asked.say(answer(b"body"))
    asked.deliver()
    asked.body.distrust()
    asked.assert_ready()


# --- low-water marks ----------------------------------------------------------------------------------------


def test_a_plain_socket_has_a_mark_as_long_as_its_body_flows() -> None:
    asked = Asked(is_plain=True)
    asked.say(answer(b"x" * 2**18)[: 2**16])
    assert asked.socket.mark == 1
    asked.deliver()
    assert 1 < asked.socket.mark <= 2**16
    asked.body.pauseProducing()
    asked.network.advance(TICK)
    assert not asked.network.getDelayedCalls()
    asked.body.resumeProducing()
    asked.network.run()
    assert asked.network.getDelayedCalls()
    asked.say(answer(b"x" * 2**18)[2**16 : -3])
    assert asked.socket.mark == 3
    asked.say(b"xxx")
    assert asked.taker.is_done
    asked.assert_ready()


def test_a_little_more_is_not_worth_a_mark() -> None:
    asked = Asked(is_plain=True)
    asked.say(answer(b"x" * 2**15)[:-16_384])
    asked.deliver()
    assert asked.socket.mark == 1
    assert not asked.network.getDelayedCalls()


def test_a_body_up_to_the_close_has_a_mark_as_far_as_its_length_goes() -> None:
    asked = Asked(is_plain=True, is_to_close=True)
    asked.say(answer(b"x" * 2**15)[:-20_000])
    asked.deliver()
    assert 1 < asked.socket.mark <= 20_000
    asked.say(b"x" * 19_990)
    assert asked.socket.mark == 10
    asked.say(b"x" * 10, b"more")
    assert asked.socket.mark == 1
    assert asked.taker.is_open


def test_marks_go_up_to_what_is_read_at_once() -> None:
    asked = Asked(is_plain=True)
    asked.say(answer(b"x" * 2**20)[: 2**10])
    asked.deliver()
    for _ in range(10):
        asked.say(b"x" * 1000)
    assert asked.socket.mark == 2**16


def test_a_connection_that_is_lost_has_no_mark_to_lift() -> None:
    asked = Asked(is_plain=True)
    asked.say(answer(b"x" * 2**18)[: 2**16])
    asked.deliver()
    mark = asked.socket.mark
    asked.close()
    assert asked.taker.end.check(ResponseFailed)
    asked.body.stopProducing()
    asked.network.advance(TICK)
    assert asked.socket.mark == mark > 1
    assert not asked.network.getDelayedCalls()


def test_whoever_stops_leaves_no_mark_and_no_ticks() -> None:
    asked = Asked(is_plain=True)
    asked.say(answer(b"x" * 2**18)[: 2**16])
    asked.deliver()
    asked.body.stopProducing()
    assert asked.socket.mark == 1
    asked.network.advance(TICK)
    asked.network.run()
    assert not asked.network.getDelayedCalls()


# --- reading on ---------------------------------------------------------------------------------------------


def test_where_much_has_come_more_is_read_at_once_but_not_for_ever() -> None:
    asked = Asked(is_plain=True)
    asked.say(_UNTIL_CLOSE)
    asked.deliver()
    asked.socket.to_read = [b"y" * 2**16] * 5
    asked.say(b"x" * (2**16 - 1))
    assert len(asked.socket.to_read) == 5
    asked.say(b"x" * 2**16)
    assert len(asked.socket.to_read) == 2
    assert asked.taker.received[2**17 - 1 :] == b"y" * 3 * 2**16


@pytest.mark.parametrize("what", ["pauses", "stops", "is done", "is conducted"])
def test_nothing_more_is_read_for_whoever_wants_none(what: str) -> None:
    asked = Asked(is_plain=True)
    size = 2**16 if what == "is done" else 2**20

    class Content(Taker):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            body: Any = self.transport
            if what == "pauses":
                body.pauseProducing()
            elif what == "stops":
                body.stopProducing()
            elif what == "is conducted":
                body.conduit(lambda: None)

    asked.say(answer(b"x" * size)[:-size])
    asked.deliver(Content())
    asked.socket.to_read = [b"y"]
    asked.say(b"x" * 2**16)
    assert asked.socket.to_read == [b"y"]
    assert asked.taker.received == b"x" * 2**16
    assert asked.taker.is_done == (what == "is done")


def test_an_end_that_is_read_ahead_is_left_to_the_transport() -> None:
    asked = Asked(is_plain=True)
    asked.say(_UNTIL_CLOSE)
    asked.deliver()
    asked.socket.to_read = [b"y", b"", b"z"]
    asked.say(b"x" * 2**16)
    assert asked.socket.to_read == [b"z"]
    assert asked.taker.received == b"x" * 2**16 + b"y"
    assert asked.taker.is_open
    assert asked.taker.end is None


# --- past this process --------------------------------------------------------------------------------------


def _conducted(said: bytes, *, is_to_close: bool = False) -> tuple[Asked, PlayedConduit]:
    """A body that goes on by a conduit."""
    asked = Asked(is_plain=True, is_to_close=is_to_close)
    asked.say(said)
    asked.deliver()
    conduit: Any = asked.body.conduit(lambda: None)
    assert conduit is not None
    return asked, conduit


def test_while_there_is_a_conduit_nothing_else_is_read() -> None:
    asked, conduit = _conducted(answer(b"x" * 1000)[:-100])
    assert conduit.missing == 100
    asked.body.pauseProducing()
    asked.body.resumeProducing()
    asked.say(b"x" * 50)
    assert asked.near.is_paused
    assert len(asked.taker.received) == 900


def test_what_a_conduit_leaves_is_the_protocols() -> None:
    asked, conduit = _conducted(answer(b"x" * 1000)[:-100])
    conduit.missing = 30
    asked.body.conducted()
    assert conduit.closed
    asked.body.conducted()
    asked.say(b"y" * 30)
    assert asked.taker.received == b"x" * 900 + b"y" * 30
    assert asked.taker.is_done
    asked.assert_ready()


def test_what_a_conduit_leaves_waits_while_paused() -> None:
    asked, conduit = _conducted(answer(b"x" * 1000)[:-100])
    conduit.missing = 30
    asked.body.pauseProducing()
    asked.body.conducted()
    asked.say(b"y" * 30)
    assert asked.near.is_paused
    asked.body.resumeProducing()
    asked.network.run()
    assert asked.taker.is_done
    asked.assert_ready()


def test_a_conduit_that_takes_all_ends_the_body() -> None:
    asked, conduit = _conducted(answer(b"x" * 1000)[:-100])
    conduit.low_water.expect(100)
    conduit.missing = 0
    asked.body.conducted()
    assert asked.taker.is_done
    assert conduit.closed
    asked.assert_ready()


def test_behind_a_conduit_there_may_be_more_up_to_the_close() -> None:
    asked, conduit = _conducted(answer(b"x" * 1000)[:-100], is_to_close=True)
    conduit.missing = 0
    asked.body.conducted()
    assert asked.taker.is_open
    assert asked.socket.mark == 1
    asked.say(b"more")
    assert asked.taker.received[900:] == b"more"
    asked.close()
    assert asked.taker.end.check(ResponseFailed)


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_conduit_ends_with_its_body(is_lost: bool) -> None:
    asked, conduit = _conducted(answer(b"x" * 1000)[:-100])
    conduit.low_water.expect(100)
    if is_lost:
        asked.near.abortConnection()
    else:
        asked.body.stopProducing()
    asked.network.run()
    assert conduit.closed
    asked.body.conducted()
    assert asked.body.conduit(lambda: None) is None
    asked.network.advance(TICK)
    assert not asked.network.getDelayedCalls()


def test_a_conduit_has_higher_marks() -> None:
    asked, conduit = _conducted(answer(b"x" * 2**21)[: 2**20])
    for _ in range(10):
        conduit.low_water.expect(2**20)
    assert asked.socket.mark == 2**19


def test_without_room_for_a_pipe_bytes_go_the_portable_way() -> None:
    """File descriptors may be gone."""
    asked = Asked(is_plain=True)

    def conduit(*_: object) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    asked.means.conduit = conduit  # type: ignore[assignment, method-assign]
    asked.say(answer(b"x" * 1000)[:-100])
    asked.deliver()
    assert asked.body.conduit(lambda: None) is None
    asked.say(b"x" * 100)
    assert asked.taker.is_done
    asked.assert_ready()


@pytest.mark.parametrize(
    ("said", "is_plain"),
    [
        (answer(b"body"), True),
        (answer(b"body")[:-1], False),
        (_CHUNKED + b"4\r\n", True),
        (_UNTIL_CLOSE, True),
    ],
)
def test_not_everything_can_go_by_a_conduit(said: bytes, is_plain: bool) -> None:
    asked = Asked(is_plain=is_plain)
    asked.say(said)
    asked.deliver()
    paused = asked.near.is_paused
    assert asked.body.conduit(lambda: None) is None
    assert asked.near.is_paused == paused


@pytest.mark.parametrize("left", [0, 30])
def test_a_body_may_go_by_a_conduit_from_within_its_delivery(left: int) -> None:
    asked = Asked(is_plain=True)
    conduits: list[Any] = []

    class Bypassing(Taker):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            body: Any = self.transport
            if not conduits:
                conduits.append(body.conduit(lambda: None))

    asked.say(answer(b"x" * 1000)[:-100])
    asked.deliver(Bypassing())
    assert conduits[0].missing == 100
    asked.say(b"y" * left)
    assert asked.near.is_paused
    assert len(asked.taker.received) == 900
    conduits[0].low_water.expect(100)
    assert asked.socket.mark == 100
    conduits[0].missing = left
    asked.body.conducted()
    if left:
        asked.body.pauseProducing()
        asked.body.resumeProducing()
        asked.network.run()
    assert asked.taker.received == b"x" * 900 + b"y" * left
    assert asked.taker.is_done
    asked.assert_ready()
