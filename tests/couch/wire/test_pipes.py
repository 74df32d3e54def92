"""
Bytes through pipes, over real sockets: whatever is moved in whatever steps comes out as it went in, and no descriptor
is left behind.
"""

import fcntl
import os
import select
import socket
import struct
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from txcouchdl.couch.wire import pipes
from txcouchdl.couch.wire.lowwater import LowWater, Ticker
from txcouchdl.couch.wire.pipes import Pipe, SocketConduit, can_tap

#: Two places of a page each: they run out soon.
_SMALL = 2 * 4096


def _bytes(count: int, first: int = 0) -> bytes:
    """Bytes that tell where they are."""
    return b"".join(number.to_bytes(4, "big") for number in range(first, first + count // 4 + 1))[:count]


class Watching:
    """A reactor that is told what to watch."""

    def __init__(self) -> None:
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        assert reader not in self.readers
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.remove(reader)


def _waiting(plain: socket.socket) -> int:
    """Bytes that can be read from a socket."""
    return struct.unpack("i", fcntl.ioctl(plain, termios.FIONREAD, b"\0" * 4))[0]  # type: ignore[no-any-return]


def _connected(server: socket.socket) -> tuple[socket.socket, socket.socket]:
    near = socket.create_connection(server.getsockname())
    far, _ = server.accept()
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    return near, far


class Way:
    """
    A node, a conduit, and a client, with everything that has passed.

    :ivar went_in: what was put, and what was filled.
    :ivar seen: by the tap.
    """

    def __init__(self, server: socket.socket, missing: int, size: int) -> None:
        self.source, self.node = _connected(server)
        self.outlet, self.client = _connected(server)
        self.outlet.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        for each in self.source, self.outlet, self.client:
            each.setblocking(False)
        self.body = _bytes(missing)
        self.sent = 0
        self.clock = Clock()
        self.reactor = Watching()
        self.low_water = LowWater(self.source, Ticker(self.clock), 2**16)
        self.wakes = 0
        self.conduit = SocketConduit(self.source, self.reactor, self.low_water, missing, self._woken)
        self.size = size
        self.went_in = b""
        self.came_out = b""
        self.left = 0
        self.seen = b""

    @property
    def _filled(self) -> int:
        return len(self.body) - self.conduit.missing

    def close(self) -> None:
        self.conduit.close()
        for each in self.source, self.node, self.outlet, self.client:
            each.close()

    def send(self, count: int) -> None:
        # No more than surely has room.
        count = min(count, len(self.body) - self.sent, 2**15 - (self.sent - self._filled))
        self.node.sendall(self.body[self.sent : self.sent + count])
        self.sent += count
        # Not select(2): it looks at the mark.
        while _waiting(self.source) < self.sent - self._filled:
            pass

    def put(self, data: bytes) -> None:
        self.conduit.put(data)
        self.went_in += data

    def fill(self) -> int:
        """What ``fill`` gives; -1 if nothing has come, or it has no room."""
        first = self._filled
        try:
            filled = self.conduit.fill()
        except BlockingIOError:
            return -1
        self.went_in += self.body[first : first + filled]
        return filled

    def wake_with(self, wake: Callable[[], object]) -> None:
        """Let somebody else be woken."""
        self.conduit._wake = wake

    def _woken(self) -> None:
        self.wakes += 1
        self.last = self.fill()

    def wake(self) -> int:
        """Fill as one that the reactor woke."""
        self.conduit.doRead()
        return self.last

    def drain(self, most: int, *, is_tapped: bool) -> int:
        """What ``drain`` gives; -1 if there is no room."""
        shown: list[bytes] = []
        try:
            drained = self.conduit.drain(
                self.outlet, most, (lambda data: shown.append(bytes(data))) if is_tapped else None
            )
        except BlockingIOError:
            assert not shown
            return -1
        if is_tapped:
            self.seen += b"".join(shown)
            assert len(b"".join(shown)) == drained
        self.left += drained
        return drained

    def read(self) -> None:
        """Let the client take all that has come."""
        while select.select([self.client], [], [], 0)[0] and (data := self.client.recv(2**16)):
            self.came_out += data

    def read_rest(self) -> None:
        while len(self.came_out) < self.left:
            select.select([self.client], [], [], 5)
            data = self.client.recv(2**16)
            assert data
            self.came_out += data


def _descriptors() -> int:
    """That are open, without those of empty pipes that wait for the next one."""
    return len(os.listdir("/proc/self/fd")) - 2 * len(Pipe._spare) - 3 * len(pipes._doubles)


@contextmanager
def no_leaks() -> Iterator[None]:
    before = _descriptors()
    yield
    assert _descriptors() == before
    assert len(Pipe._spare) <= 16
    for pipe in Pipe._spare:
        with pytest.raises(BlockingIOError):
            os.read(pipe.reading, 1)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture(autouse=True)
def own_pipes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pipes that are no other test's."""
    spare: list[Pipe] = []
    monkeypatch.setattr(Pipe, "_spare", spare)
    yield
    for pipe in spare:
        os.close(pipe.reading)
        os.close(pipe.writing)


@contextmanager
def way_over(server: socket.socket, missing: int, size: int = pipes.PIPE_SIZE) -> Iterator[Way]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipes, "PIPE_SIZE", size)
        way = Way(server, missing, size)
        try:
            yield way
        finally:
            way.close()


_STEPS = st.lists(
    st.tuples(st.just("send"), st.integers(1, 40) | st.integers(1, 20_000))
    | st.tuples(st.just("trickle"), st.integers(1, 12))
    | st.tuples(st.sampled_from(["fill", "wake", "read", "take"]), st.just(0))
    | st.tuples(st.just("put"), st.integers(1, 2048))
    | st.tuples(st.just("drain"), st.integers(1, 5000) | st.just(10**6)),
    max_size=30,
)


def _take_step(way: Way, what: str, count: int, is_tapped: bool) -> bytes:
    """One of them; what was taken, if it was that."""
    inside, missing = way.conduit.inside, way.conduit.missing
    has_room = missing > 0 and inside < way.size
    if what == "send":
        way.send(count)
    elif what == "read":
        way.read()
    elif what == "take":
        return way.conduit.take()
    elif what == "put" and not inside:
        way.put(b"\xff" * count)
    elif what == "drain" and inside:
        drained = way.drain(min(count, inside), is_tapped=is_tapped)
        assert way.conduit.inside == inside - max(0, drained)
    elif what in ("fill", "wake") and has_room:
        filled = way.fill() if what == "fill" else way.wake()
        assert way.conduit.inside == inside + max(0, filled)
        assert way.conduit.missing == missing - max(0, filled)
        assert way.conduit.inside <= way.size
    for _ in range(count if what == "trickle" and has_room else 0):
        way.send(1)
        if way.conduit.missing > 0 and way.conduit.inside < way.size:
            way.wake()
    return b""


@given(st.integers(1, 100_000), st.booleans(), st.sampled_from([_SMALL, pipes.PIPE_SIZE]), _STEPS)
@example(1000, True, _SMALL, [("put", 2048), ("trickle", 12), ("drain", 2050), ("trickle", 12), ("drain", 10**6)])
def test_what_comes_out_is_what_went_in_in_order(
    missing: int, is_tapped: bool, size: int, steps: list[tuple[str, int]]
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        no_leaks(),
        way_over(server, missing, size) as way,
    ):
        out: list[bytes] = []
        for what, count in steps:
            taken = _take_step(way, what, count, is_tapped)
            if taken:
                way.read_rest()
                out += [way.came_out, taken]
                assert b"".join(out) == way.went_in
                # From here on it is as if it began anew.
                out, way.went_in, way.came_out, way.left = [], b"", b"", 0
                way.seen = b""
        way.read_rest()
        assert way.came_out + way.conduit.take() == way.went_in
        if is_tapped:
            assert way.seen == way.came_out


@pytest.mark.parametrize("is_tapped", [False, True])
def test_pieces_of_one_byte_take_all_places_and_still_come_in(server: socket.socket, is_tapped: bool) -> None:
    with no_leaks(), way_over(server, 3000, _SMALL) as way:
        way.put(b"\xff" * 2048)
        for _ in range(1500):
            way.send(1)
            assert way.wake() == 1
        assert way.conduit.inside == 2048 + 1500
        assert way.drain(2048 + 1000, is_tapped=is_tapped) == 2048 + 1000
        way.send(1500)
        while way.conduit.missing:
            assert way.wake() > 0
        way.read_rest()
        assert way.came_out + way.conduit.take() == b"\xff" * 2048 + way.body


def test_who_was_not_woken_does_not_copy_what_is_inside(server: socket.socket) -> None:
    """Nothing may have come. The reactor tells."""
    with way_over(server, 100, _SMALL) as way:
        way.put(b"\xff")
        way.send(1)
        assert way.fill() == 1
        way.send(1)
        assert way.fill() == -1
        assert way.wake() == 1
        way.send(1)
        assert way.fill() == -1
        assert way.wake() == 1


def test_an_empty_source_and_its_end(server: socket.socket) -> None:
    with no_leaks(), way_over(server, 100) as way:
        assert way.fill() == -1
        assert way.wake() == -1
        way.send(40)
        way.node.close()
        filled = 0
        while filled < 40:
            filled += max(0, way.fill())
        select.select([way.source], [], [], 5)
        assert way.fill() == 0
        assert (way.conduit.missing, way.conduit.inside) == (60, 40)
        assert way.conduit.take() == way.body[:40]


def test_more_than_is_missing_is_left_where_it_is(server: socket.socket) -> None:
    with way_over(server, 10) as way:
        way.node.sendall(b"0123456789surplus")
        select.select([way.source], [], [], 5)
        assert way.conduit.fill() == 10
        assert way.conduit.missing == 0
        assert way.source.recv(100) == b"surplus"


def test_a_source_that_is_reset(server: socket.socket) -> None:
    with no_leaks(), way_over(server, 100) as way:
        way.node.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        way.node.close()
        select.select([way.source], [], [], 5)
        with pytest.raises(ConnectionResetError):
            way.conduit.fill()
        assert way.conduit.fill() == 0


def test_a_source_that_is_closed(server: socket.socket) -> None:
    with no_leaks(), way_over(server, 100) as way:
        way.source.close()
        assert way.conduit.fileno() == -1
        with pytest.raises((OSError, ValueError)) as raised:
            way.conduit.fill()
        assert not isinstance(raised.value, BlockingIOError)


@pytest.mark.parametrize("is_tapped", [False, True])
def test_a_full_outlet_takes_less_and_then_none(server: socket.socket, is_tapped: bool) -> None:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with no_leaks(), way_over(server, 8 * 2**20) as way:
        drained = 0
        while drained >= 0:
            way.send(2**15)
            way.fill()
            drained = way.drain(way.conduit.inside, is_tapped=is_tapped)
        inside = way.conduit.inside
        assert inside > 0
        assert way.drain(inside, is_tapped=is_tapped) == -1
        assert way.conduit.inside == inside
        way.read_rest()
        if is_tapped:
            assert way.seen == way.came_out
        assert way.came_out + way.conduit.take() == way.went_in
        # Of a double with something in it nobody gets anything.
        assert not is_tapped or way.conduit._pipe not in Pipe._spare


@pytest.mark.parametrize("is_tapped", [False, True])
def test_an_outlet_that_is_broken(server: socket.socket, is_tapped: bool) -> None:
    with no_leaks(), way_over(server, 100) as way:
        way.put(b"x" * 50)
        way.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        way.client.close()
        select.select([way.outlet], [], [], 5)
        shown: list[int] = []
        for _ in range(2):
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                way.conduit.drain(way.outlet, 50, (lambda data: shown.append(len(data))) if is_tapped else None)
        assert not shown
        assert way.conduit.take() == b"x" * 50


def test_the_tap_sees_much_in_pieces(server: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipes, "_buffer", memoryview(bytearray(1000)))
    with way_over(server, 1) as way:
        way.put(_bytes(5500))
        sizes: list[int] = []
        seen: list[bytes] = []

        def tap(data: memoryview) -> None:
            sizes.append(len(data))
            seen.append(bytes(data))

        assert way.conduit.drain(way.outlet, 5300, tap) == 5300
        assert max(sizes) <= 1000
        assert b"".join(seen) == _bytes(5300)
        assert way.conduit.take() == _bytes(5500)[5300:]


def test_no_more_leaves_than_is_shown(server: socket.socket) -> None:
    """A double may be smaller than what it is a double of."""
    with no_leaks(), way_over(server, 1) as way:
        way.outlet.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipes, "PIPE_SIZE", _SMALL)
            patch.setattr(pipes, "_doubles", [pipes._Double()])
            way.put(_bytes(5 * 4096))
            assert way.drain(5 * 4096, is_tapped=True) == _SMALL
            pipes._doubles[0].give_back(is_empty=False)
            os.close(pipes._doubles[0]._sink)
        way.read_rest()
        assert way.seen == way.came_out == _bytes(_SMALL)


@pytest.mark.parametrize("is_tapped", [False, True])
def test_of_nothing_nothing_leaves(server: socket.socket, is_tapped: bool) -> None:
    with no_leaks(), way_over(server, 1) as way:
        assert way.drain(10, is_tapped=is_tapped) == -1


def test_this_system_can_tap() -> None:
    assert can_tap()


# --- pipes --------------------------------------------------------------------------------------------------


def test_a_pipe_is_used_again_if_it_is_empty(server: socket.socket) -> None:
    with no_leaks():
        with way_over(server, 100) as way:
            first = way.conduit._pipe
        with way_over(server, 100) as way:
            assert way.conduit._pipe is first
            way.put(b"left behind")
        with way_over(server, 100) as way:
            assert way.conduit._pipe is not first
            assert way.conduit.take() == b""


def test_only_so_many_pipes_are_kept() -> None:
    with no_leaks():
        for pipe in [Pipe.get() for _ in range(30)]:
            pipe.give_back(is_empty=True)
        assert len(Pipe._spare) == 16


def test_a_user_with_too_many_pages_in_pipes_gets_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipes, "PIPE_SIZE", 2**31 - 1)
    with no_leaks():
        pipe = Pipe()
        assert 0 < pipe.size <= 2**20
        os.write(pipe.writing, b"x" * pipe.size)
        with pytest.raises(BlockingIOError):
            os.write(pipe.writing, b"x")
        assert not os.get_inheritable(pipe.reading)
        assert not os.get_inheritable(pipe.writing)
        pipe.give_back(is_empty=False)


# --- watching -----------------------------------------------------------------------------------------------


def test_it_is_watched_until_it_rests_or_is_closed(server: socket.socket) -> None:
    with way_over(server, 10_000) as way:
        conduit, reactor = way.conduit, way.reactor
        for _ in range(2):
            conduit.watch()
            assert reactor.readers == [conduit]
            assert way.source.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) > 1
            conduit.rest()
            conduit.rest()
            assert not reactor.readers
            way.clock.advance(1)
            assert not way.clock.getDelayedCalls()
        conduit.watch()
        conduit.close()
        conduit.close()
        assert not reactor.readers
        assert len(Pipe._spare) == 1
        assert conduit.fileno() == way.source.fileno()
        way.clock.advance(1)
        assert not way.clock.getDelayedCalls()


def test_while_it_is_watched_the_mark_is_of_what_is_missing(server: socket.socket) -> None:
    with way_over(server, 6000) as way:
        way.conduit.watch()
        assert way.source.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 6000
        way.send(5000)
        assert way.wake() == 5000
        way.conduit.watch()
        assert way.source.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1000
        way.low_water.end()
        assert way.source.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1


def test_the_reactor_lets_go_of_a_source_that_has_ended(server: socket.socket) -> None:
    with way_over(server, 100) as way:
        way.conduit.watch()
        way.send(30)
        way.node.close()
        way.reactor.readers.clear()
        way.conduit.connectionLost()
        assert way.wakes == 1
        assert way.went_in == way.body[:30]
        way.conduit.close()


def test_it_is_watched_again_after_the_reactor_let_go(server: socket.socket) -> None:
    with way_over(server, 100) as way:
        way.conduit.watch()
        way.reactor.readers.clear()
        way.conduit.connectionLost()
        way.conduit.watch()
        assert way.reactor.readers == [way.conduit]
