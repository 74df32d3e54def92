"""Relays over real sockets: whatever a receiver does while it is told something, nothing is moved after it."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.couch.wire.test_pipes import Way, no_leaks, own_pipes, way_over
from txcouchdl.couch.relay import Relay

__all__ = ["own_pipes"]

_KEEP = 2048


class Outlet:
    """An outlet that notes what it is told."""

    def __init__(self, plain: socket.socket) -> None:
        self.plain = plain
        self.told: list[str] = []
        self.count = 0

    def claim(self) -> None:
        self.told.append("claimed")

    def fileno(self) -> int:
        return self.plain.fileno()

    def passed(self, count: int) -> None:
        self.count += count

    def full(self) -> None:
        self.told.append("full")

    def broken(self) -> None:
        self.told.append("broken")

    def release(self) -> None:
        self.told.append("released")


class Receiver:
    """
    Whoever is told of a relay.

    :ivar then: what is done as soon as something has moved.
    """

    def __init__(self) -> None:
        self.then: Any = lambda: None
        self.moves: list[int] = []
        self.tail: bytes | None = None
        self.is_broken = False

    def moved(self, count: int) -> None:
        self.moves.append(count)
        self.then()

    def ended(self, tail: bytes) -> None:
        self.tail = tail

    def broke(self) -> None:
        self.is_broken = True


class Relaying:
    """A way, and a relay on it."""

    def __init__(self, way: Way, held_back: bytes = b"") -> None:
        self.way = way
        way.outlet.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        self.clock = Clock()
        self.outlet = Outlet(way.outlet)
        self.receiver = Receiver()
        self.relay = Relay(way.conduit, self.outlet, held_back, _KEEP, None, self.clock, self.receiver)
        way.wake_with(self.relay.pump)
        self.relay.begin()

    def send(self, count: int) -> None:
        self.way.send(count)
        self.relay.pump()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_all_but_the_last_bytes_leave_and_those_are_told(server: socket.socket) -> None:
    with no_leaks(), way_over(server, 50_000) as way:
        relaying = Relaying(way, b"\xff" * _KEEP)
        for _ in range(10):
            relaying.send(5000)
        way.left = relaying.outlet.count
        way.read_rest()
        assert relaying.receiver.tail == way.body[-_KEEP:]
        assert way.came_out == b"\xff" * _KEEP + way.body[:-_KEEP]
        assert sum(relaying.receiver.moves) == len(way.came_out)
        assert relaying.outlet.told == ["claimed", "released"]
        assert not relaying.clock.getDelayedCalls()


def test_the_last_bytes_of_what_breaks_do_not_leave(server: socket.socket) -> None:
    with no_leaks(), way_over(server, 50_000) as way:
        relaying = Relaying(way)
        relaying.send(1000)
        relaying.send(9000)
        way.node.close()
        while not relaying.receiver.is_broken:
            relaying.relay.pump()
        assert relaying.outlet.count == 10_000 - _KEEP
        assert relaying.receiver.moves == [0, 10_000 - _KEEP]
        assert relaying.receiver.tail is None
        assert relaying.outlet.told == ["claimed", "released"]


def test_whoever_pauses_while_he_is_told_gets_no_more(server: socket.socket) -> None:
    with no_leaks(), way_over(server, 50_000) as way:
        relaying = Relaying(way)
        relaying.receiver.then = relaying.relay.pause
        relaying.send(20_000)
        relaying.send(20_000)
        assert relaying.receiver.moves == [20_000 - _KEEP]
        assert not way.reactor.readers
        relaying.receiver.then = lambda: None
        relaying.relay.resume()
        assert sum(relaying.receiver.moves) == 40_000 - _KEEP


def test_whoever_drops_it_while_he_is_told_hears_no_more(server: socket.socket) -> None:
    """The conduit is closed with it: its pipe may be somebody else's already, and so may the numbers of its ends."""
    with no_leaks(), way_over(server, 5000) as way:
        relaying = Relaying(way)

        def drop() -> None:
            relaying.relay.drop()
            way.conduit.close()

        relaying.receiver.then = drop
        relaying.send(5000)
        assert relaying.receiver.tail is None
        assert relaying.outlet.told == ["claimed", "released"]
        assert not relaying.clock.getDelayedCalls()


@pytest.mark.parametrize("is_tapped", [False, True])
def test_a_broken_outlet_is_told_so(server: socket.socket, is_tapped: bool) -> None:
    with no_leaks(), way_over(server, 50_000) as way:
        relaying = Relaying(way)
        way.outlet.close()
        relaying.send(20_000)
        assert relaying.outlet.told == ["claimed", "broken"]
        assert not relaying.receiver.moves
