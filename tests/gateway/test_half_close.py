"""
Clients that have closed their half of a connection, on a clock: when they are waited for, and when they are cut off.

Real sockets and TLS: ``tests/test_half_close.py``.
"""

import gzip
import select
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory

from tests.certificates import certify
from tests.gateway.house import GATEWAY_PORT, TOKEN, Client, House, read_answer
from tests.network import READ_SIZE, SEND_BUFFER
from tests.running import PATIENCE
from tests.scripted import Mark, Stored
from txcouchdl.gateway.half_close import Backlog, HalfClosedWatch, backlog_of
from txcouchdl.gateway.limits import ClientLimits

BIG = bytes(range(256)) * 2**12
WAYS = {"plain": Stored(BIG), "gzip": Stored.compressed(BIG), "uploaded": Stored.encoded(gzip.compress(BIG))}
LIMITS = ClientLimits(half_close_timeout=10)
#: Seconds from the last byte that a client takes to its end: the connection is looked at four times in 10 s.
LATEST = 12.5


def half_closed(house: House, name: str = "plain", headers: dict[str, str] | None = None) -> Client:
    """A client that has sent a request, and closed its half."""
    client = house.send(f"/db/doc/{name}?token={TOKEN}", headers)
    client.transport.half_close()
    return client


def stuck(house: House, name: str = "plain") -> Client:
    """A client that has closed its half, and takes nothing more."""
    client = half_closed(house, name)
    client.transport.is_paused = True
    house.network.run()
    return client


def is_connected(client: Client) -> bool:
    return client.transport.peer.is_connected


def assert_has_all(house: House, client: Client, body: bytes = BIG) -> None:
    """The client has the whole response, and the gateway has closed the connection behind it."""
    answer = read_answer(client.received, "GET", client.is_closed)
    assert (answer.status, answer.body, answer.is_whole, answer.is_closed) == (200, body, True, True)
    house.assert_at_rest()


@pytest.mark.parametrize("is_direct", [False, True])
@pytest.mark.parametrize("name", WAYS)
def test_the_whole_response_comes(name: str, is_direct: bool) -> None:
    house = House(dict(WAYS), is_direct=is_direct)
    client = half_closed(house, name)
    house.network.run()
    assert_has_all(house, client)
    assert " 200 " in house.log[0]


def test_a_client_waits_for_couchdb_for_as_long_as_others_do() -> None:
    """Nothing waits for the client, so it is not the client that is slow. Here it gets the 504 that others get."""
    house = House(dict(WAYS), client_limits=LIMITS)
    house.node.faults = lambda asked: [Mark.SILENCE] if asked.path.endswith("/plain") else None
    client = half_closed(house)
    house.network.pass_time(2 * LATEST)
    assert is_connected(client)
    assert client.received == b""
    house.network.pass_time(60)
    answer = read_answer(client.received, "GET", client.is_closed)
    assert (answer.status, answer.is_whole, answer.is_closed) == (504, True, True)
    house.assert_at_rest()


def test_a_client_waits_for_its_turn_to_guess() -> None:
    house = House({"f": Stored(b"bytes")}, client_limits=LIMITS, guess_limit=1)
    clients = [house.send("/db/doc/f?token=wrong") for _ in range(2)]
    for client in clients:
        client.transport.half_close()
    house.network.pass_time(180)
    assert [read_answer(each.received, "GET", each.is_closed).status for each in clients] == [403, 403]
    assert all(each.is_closed for each in clients)
    house.assert_at_rest()


@pytest.mark.parametrize("is_direct", [False, True])
def test_a_client_that_takes_nothing_is_cut_off(is_direct: bool) -> None:
    """Its transfer from CouchDB ends, and no delayed call is left."""
    house = House(dict(WAYS), client_limits=LIMITS, is_direct=is_direct)
    client = stuck(house)
    house.network.pass_time(LIMITS.half_close_timeout - 1, step=0.5)
    assert is_connected(client)
    house.network.pass_time(LATEST - LIMITS.half_close_timeout + 1, step=0.5)
    assert not is_connected(client)
    assert len(house.log) == 1
    assert int(house.log[0].partition('" 200 ')[2].partition(" ")[0]) < len(BIG)
    house.assert_at_rest()


def test_a_client_that_takes_a_little_now_and_then_is_not() -> None:
    house = House(dict(WAYS), client_limits=LIMITS)
    client = stuck(house)
    for _ in range(20):
        house.network.pass_time(LIMITS.half_close_timeout - 1)
        client.transport.is_paused = False
        wanted = len(client.received) + 1
        house.network.run(until=lambda wanted=wanted: len(client.received) >= wanted)  # type: ignore[misc]
        client.transport.is_paused = True
    client.transport.is_paused = False
    house.network.run()
    assert_has_all(house, client)


def test_the_end_of_a_response_that_is_not_taken_is_given_up() -> None:
    """The response has ended, and its bytes wait: ``--client-timeout`` would be an hour."""
    house = House({"f": Stored(bytes(SEND_BUFFER + READ_SIZE // 2))}, client_limits=LIMITS)
    client = stuck(house, "f")
    assert client.transport.peer.sent
    house.network.pass_time(LATEST, step=0.5)
    assert not is_connected(client)
    house.assert_at_rest()


def test_a_client_that_leaves_after_all_takes_the_transfer_with_it() -> None:
    house = House(dict(WAYS), client_limits=LIMITS)
    client = stuck(house)
    client.transport.abortConnection()
    house.network.run()
    assert len(house.log) == 1
    house.assert_at_rest()


def test_an_end_of_the_service_waits_for_it() -> None:
    house = House(dict(WAYS), client_limits=LIMITS)
    client = stuck(house)
    drained: list[int] = []
    Deferred.fromCoroutine(house.connections.drain(60)).addCallback(drained.append)
    client.transport.is_paused = False
    house.network.run()
    assert drained == [0]
    assert_has_all(house, client)


# What the kernel tells.


@define
class Sender:
    """As much of a transport of Twisted's as is looked at."""

    handle: socket.socket
    dataBuffer: bytes = b""  # noqa: N815 (Twisted's)

    def getHandle(self) -> socket.socket:
        return self.handle


@contextmanager
def connected() -> Iterator[tuple[Sender, socket.socket]]:
    """A sender and its client, over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server, closing(socket.socket()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        client.connect(server.getsockname())
        accepted, _ = server.accept()
        with accepted:
            yield Sender(accepted), client


def fill(sender: Sender) -> None:
    """Send until the kernel takes no more."""
    sender.handle.setblocking(False)
    while select.select([], [sender.handle], [], 0)[1]:
        sender.handle.send(bytes(2**16))


needs_tcp_info = pytest.mark.skipif(sys.platform != "linux", reason="the kernel does not tell")


@needs_tcp_info
def test_bytes_in_the_kernels_buffers_are_not_taken() -> None:
    """A slow client takes some of them long before the kernel takes more from the gateway."""
    with connected() as (sender, client):
        assert not backlog_of(sender).is_waiting
        fill(sender)
        before = backlog_of(sender)
        assert before.is_waiting
        assert not before.is_reset
        assert backlog_of(sender) == before
        client.settimeout(PATIENCE)
        while (now := backlog_of(sender)).taken == before.taken:
            assert client.recv(1024)
        assert now == Backlog(False, True, now.taken)
        assert now.taken > before.taken


@needs_tcp_info
def test_a_reset_is_seen() -> None:
    """By somebody who neither reads nor writes."""
    with connected() as (sender, client):
        client.shutdown(socket.SHUT_WR)
        assert sender.handle.recv(1) == b""
        assert not backlog_of(sender).is_reset
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        select.select([sender.handle], [], [sender.handle], PATIENCE)
        cut_off: list[None] = []
        clock = Clock()
        watch = HalfClosedWatch(sender, clock.callLater, 4, lambda: cut_off.append(None))
        clock.advance(1)
        assert backlog_of(sender).is_reset
        assert cut_off == [None]
        assert not clock.getDelayedCalls()
        watch.end()


def test_what_waits_in_the_transport_counts_where_the_kernel_tells_nothing() -> None:
    near, far = socket.socketpair()
    with near, far:
        assert backlog_of(Sender(near)) == Backlog(False, False, 0)
        assert backlog_of(Sender(near, b"12345")) == Backlog(False, True, -5)


def test_a_watch_ends_with_its_connection() -> None:
    near, far = socket.socketpair()
    with near, far:
        clock = Clock()
        watch = HalfClosedWatch(Sender(near, b"1"), clock.callLater, 4, lambda: pytest.fail("cut off"))
        clock.advance(1)
        watch.end()
        watch.end()
        assert not clock.getDelayedCalls()
        clock.advance(100)


def test_nothing_refers_to_a_channel_that_has_ended(tmp_path: Path) -> None:
    """Through TLS: neither the wrapper of its transport nor the OpenSSL connection, which is large."""
    certify(tmp_path)
    certificate = DefaultOpenSSLContextFactory(str(tmp_path / "key.pem"), str(tmp_path / "cert.pem"))
    house = House(dict(WAYS))
    house.network.listen(GATEWAY_PORT, TLSMemoryBIOFactory(certificate, False, house.site, house.network))
    client = house.connect()
    wrapper = client.transport.peer.protocol
    connection = wrapper.getHandle()
    assert "recv" in vars(connection)
    client.transport.abortConnection()
    house.network.run()
    assert not {"readConnectionLost", "writeConnectionLost"} & vars(wrapper).keys()
    assert "recv" not in vars(connection)
