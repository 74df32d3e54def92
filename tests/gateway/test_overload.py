"""Limits on clients: how many connections, how long we wait for them, and how all of them end when the service does."""

import json
import ssl
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.ssl import CertificateOptions, DefaultOpenSSLContextFactory
from twisted.logger import formatEvent
from twisted.protocols.tls import TLSMemoryBIOFactory

from tests.certificates import certify
from tests.gateway.house import GATEWAY_PORT, TOKEN, Answer, Client, House, logged, read_answer
from tests.network import READ_SIZE, SEND_BUFFER, End
from tests.scripted import Mark, Stored
from txcouchdl.gateway.limits import ClientLimits
from txcouchdl.gateway.site import GatewaySite

BIG = bytes(range(256)) * 2**13
#: Fits into the gateway's buffer, and is therefore finished before a client has taken any of it.
SMALL = b"x" * 60_000
ATTACHMENTS = {"big": Stored(BIG), "small": Stored(SMALL), "f": Stored(b"bytes")}


def house_of(max_connections: int = 4096, **limits: Any) -> House:
    return House(dict(ATTACHMENTS), client_limits=evolve(ClientLimits(max_connections), **limits))


def request(name: str, method: str = "GET") -> bytes:
    return f"{method} /db/doc/{name}?token={TOKEN} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def door(client: Client) -> End:
    """The gateway's end of a client's connection."""
    return client.transport.peer


def answer_to(client: Client) -> Answer:
    return read_answer(client.received, "GET", client.is_closed)


def resting(house: House) -> Client:
    """A client that was answered, and keeps its connection."""
    client = house.send(f"/db/doc/f?token={TOKEN}")
    house.network.run()
    assert client.received.endswith(b"bytes")
    return client


def busy(house: House, name: str = "big") -> Client:
    """A client that asked, and takes nothing."""
    client = house.send(f"/db/doc/{name}?token={TOKEN}")
    client.transport.is_paused = True
    house.network.run()
    return client


def newcomer(house: House) -> Client:
    client = house.connect()
    house.network.run()
    return client


def take(house: House, client: Client, count: int) -> None:
    """Let a client take some bytes, and no more than can be helped."""
    wanted = len(client.received) + count
    client.transport.is_paused = False
    house.network.run(until=lambda: len(client.received) >= wanted)
    client.transport.is_paused = True
    house.network.run()


def assert_untouched(house: House, *clients: Client) -> None:
    for client in clients:
        assert door(client).is_connected
        assert not door(client).disconnecting
        client.transport.is_paused = False
    house.network.run()
    for client in clients:
        assert answer_to(client).is_whole


# Places.


def test_past_the_limit_there_is_a_503() -> None:
    house = house_of(2)
    clients = [busy(house), busy(house)]
    refused = newcomer(house)
    got = answer_to(refused)
    assert (got.status, got.is_whole, got.is_closed) == (503, True, True)
    assert json.loads(got.body)["error"] == "service_unavailable"
    assert (got["Retry-After"], got["Connection"]) == ("5", "close")
    assert {"date", "server", "x-content-type-options", "cache-control", "content-type"} <= set(got.headers)
    assert '"-" 503 ' in house.log[0]
    assert_untouched(house, *clients)


def test_a_refused_client_may_go_on_sending() -> None:
    """It gets one answer, and its request goes nowhere."""
    house = house_of(1)
    client = busy(house)
    asked = len(house.node.asked)
    refused = house.connect()
    refused.transport.write(request("f") * 100)
    house.network.run()
    assert refused.received.count(b"HTTP/1.1") == 1
    assert answer_to(refused).status == 503
    assert len(house.node.asked) == asked
    assert_untouched(house, client)


def test_a_place_is_free_when_a_connection_has_ended() -> None:
    house = house_of(1)
    client = busy(house)
    client.transport.abortConnection()
    house.network.run()
    assert house.get("f").status == 200


def test_the_connection_that_has_rested_longest_gives_way() -> None:
    house = house_of(3)
    first, second = resting(house), resting(house)
    first.transport.write(request("f"))
    house.network.run()
    # Now the first has rested for less long than the second.
    third = resting(house)
    assert house.get("f").status == 200
    assert (first.is_closed, second.is_closed, third.is_closed) == (False, True, False)
    assert len(house.log) == 5, "only requests have lines"
    assert '" 503 ' not in "".join(house.log)


def test_who_has_not_asked_yet_does_not_give_way() -> None:
    """Its request may be under way, and would get no answer; who was answered before will ask again."""
    house = house_of(1)
    silent = house.connect()
    house.network.pass_time(4)
    assert answer_to(newcomer(house)).status == 503
    assert door(silent).is_connected


def test_who_does_not_ask_for_long_does() -> None:
    """As many silent connections as there may be would else keep all others out."""
    house = house_of(1)
    silent = house.connect()
    house.network.pass_time(6)
    assert resting(house)
    assert silent.is_closed


def test_who_has_begun_to_ask_does_not_give_way() -> None:
    house = house_of(1)
    client = resting(house)
    client.transport.write(request("f")[:10])
    house.network.run()
    assert answer_to(newcomer(house)).status == 503
    client.transport.write(request("f")[10:])
    house.network.run()
    assert client.received.count(b"HTTP/1.1 200 ") == 2


def test_who_waits_for_an_answer_does_not_give_way() -> None:
    """Not even if it came behind one that was answered at once."""
    house = house_of(1)
    house.node.faults = lambda _: [Mark.SILENCE]
    client = house.connect()
    client.transport.write(request("f", "OPTIONS") + request("f"))
    house.network.run()
    assert client.received.startswith(b"HTTP/1.1 204 ")
    assert answer_to(newcomer(house)).status == 503
    assert not client.is_closed


def test_who_has_bytes_to_take_does_not_give_way() -> None:
    house = house_of(2)
    client = busy(house, "small")
    other = resting(house)
    assert newcomer(house).received == b""
    assert other.is_closed
    refused = newcomer(house)
    assert answer_to(refused).status == 503
    assert_untouched(house, client)


@pytest.fixture
def lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused client's connection is there until its time is over: only our half of it is closed."""
    monkeypatch.setattr(End, "loseWriteConnection", lambda _: None)


@pytest.mark.parametrize("method", ["OPTIONS", "GET"])
def test_a_refused_request_does_not_give_way(method: str, lingering: None) -> None:
    """It has its own few seconds to take the answer, whether the one before it was answered at once or not."""
    house = house_of(1)
    client = house.connect()
    client.transport.write(request("f", method) + b"nonsense\r\n\r\n")
    house.network.run()
    assert b"HTTP/1.1 400 " in client.received
    assert answer_to(newcomer(house)).status == 503
    assert not door(client).disconnecting


def test_a_refused_request_is_not_wound_up(lingering: None) -> None:
    """A connection that is closed on unread bytes is reset."""
    house = house_of()
    client = house.connect()
    client.transport.write(b"nonsense\r\n\r\n")
    house.network.run()
    ended = drained(house, 30)
    assert not door(client).disconnecting
    house.network.pass_time(6)
    assert (client.is_closed, ended) == (True, [0])


def test_who_has_begun_the_next_request_does_not_give_way() -> None:
    house = house_of(1)
    client = house.connect()
    client.transport.write(request("f") + request("f")[:10])
    house.network.run()
    assert client.received.endswith(b"bytes")
    assert answer_to(newcomer(house)).status == 503


def test_clients_that_send_half_a_request_each_keep_nobody_out(lingering: None) -> None:
    """They get a 503, and stay. When too many of them leave already, further ones are cut off."""
    house = house_of(16)
    for _ in range(60):
        newcomer(house).transport.write(b"GET /db/doc/f HTTP/1.1\r\nX: ")
        house.network.run()
        house.network.elapse(0.1)
    client = newcomer(house)
    client.transport.write(request("f"))
    house.network.run()
    assert answer_to(client).status == 200


@pytest.mark.parametrize("sent", [b"", b"GET /db/doc/f HTTP/1.1\r\nX: "])
def test_where_too_many_leave_one_without_a_request_is_cut_off(sent: bytes, lingering: None) -> None:
    house = house_of(2)
    busy(house)
    unproven = newcomer(house)
    unproven.transport.write(sent)
    house.network.elapse(4)
    for _ in range(16):
        newcomer(house)
    house.network.elapse(1.5)
    assert len(house.connections._leaving) == 16
    client = newcomer(house)
    client.transport.write(request("f"))
    house.network.run()
    assert answer_to(client).status == 200
    assert (unproven.is_closed, unproven.received) == (True, b"")


def test_one_limit_for_all_endpoints() -> None:
    house = house_of(2)
    other = GatewaySite(house.gateway.app.resource(), house.network, house.connections, house.log.append)
    house.network.listen(GATEWAY_PORT + 1, other)
    client, here, there = busy(house), Client(), Client()
    house.network.connect(GATEWAY_PORT + 1, there)
    there.transport.write(request("f"))
    house.network.run()
    house.network.connect(GATEWAY_PORT, here)
    house.network.run()
    assert there.is_closed, "gave way to one at the other endpoint"
    assert not here.is_closed
    assert answer_to(newcomer(house)).status == 503
    assert_untouched(house, client)


@pytest.mark.parametrize(("places", "leaving"), [(1, 16), (160, 20)])
def test_refused_clients_are_bounded_too(places: int, leaving: int) -> None:
    house = house_of(places)
    clients = [busy(house) for _ in range(places)]

    def refused() -> Client:
        client = house.connect()
        client.transport.is_paused = True
        house.network.run()
        return client

    refusals = [refused() for _ in range(leaving)]
    assert all(door(each).is_connected for each in refusals)
    dropped = refused()
    assert (dropped.is_closed, dropped.received) == (True, b"")
    assert len(house.log) == leaving
    house.network.pass_time(6)
    assert not any(door(each).is_connected for each in refusals), "they have had their time"
    assert answer_to(newcomer(house)).status == 503
    assert all(door(each).is_connected for each in clients)


ENDS = [
    *("closes", "resets", "asks and closes", "asks and resets", "rests and closes", "rests and resets"),
    *("is refused", "is late", "is idle", "pauses", "rests"),
]


@given(st.lists(st.sampled_from(ENDS), max_size=12))
def test_a_place_is_freed_once_however_its_connection_ends(ends: list[str]) -> None:
    house = house_of(3)
    for end in ends:
        client = house.connect()
        if "asks" in end:
            client.transport.write(request("big"))
        if end == "is refused":
            client.transport.write(b"nonsense\r\n\r\n")
        if end == "is late":
            client.transport.write(b"GET ")
        if "rests" in end:
            client.transport.write(request("f"))
        if end == "pauses":
            client.transport.write(request("big"))
            client.transport.is_paused = True
        house.network.run(until=lambda: len(client.received) > 10_000)  # noqa: B023 (called at once)
        if "closes" in end:
            client.transport.loseConnection()
        if "resets" in end:
            client.transport.abortConnection()
        house.network.run()
    house.network.pass_time(60 + 3600 + 1, step=10)
    assert house.network.open_connections(GATEWAY_PORT) == 0
    house.assert_at_rest()
    clients = [busy(house) for _ in range(4)]
    assert [bool(client.received) for client in clients] == [False] * 4
    clients[3].transport.is_paused = False
    house.network.run()
    assert answer_to(clients[3]).status == 503
    assert_untouched(house, *clients[:3])


# Waiting for requests.


def test_a_dribbled_head_is_cut_off_by_the_limit_of_heads() -> None:
    house = house_of(header_timeout=20, idle_timeout=5)
    client = house.connect()
    for second in range(20):
        assert not client.is_closed, f"after {second} s"
        client.transport.write(b"x")
        house.network.run()
        house.network.pass_time(1)
    assert (answer_to(client).status, client.is_closed) == (408, True)
    house.assert_at_rest()


def test_a_head_that_stops_has_the_limit_of_heads_too() -> None:
    """A request is under way: the connection is not idle."""
    house = house_of(header_timeout=20, idle_timeout=5)
    client = house.connect()
    client.transport.write(request("f")[:-1])
    house.network.run()
    house.network.pass_time(19)
    assert client.received == b""
    client.transport.write(request("f")[-1:])
    house.network.run()
    assert answer_to(client).status == 200
    house.network.pass_time(6)
    assert client.is_closed


@pytest.mark.parametrize("first", [False, True])
def test_an_idle_connection_is_closed(first: bool) -> None:
    """Before the first request, and between two."""
    house = house_of(idle_timeout=7)
    client = house.connect() if first else resting(house)
    house.network.pass_time(6)
    assert not client.is_closed
    house.network.pass_time(1)
    assert client.is_closed
    assert client.received == b"" or first is False
    house.assert_at_rest()


def test_a_running_response_is_not_idle() -> None:
    house = house_of(idle_timeout=7)
    client = busy(house)
    house.network.pass_time(600, step=10)
    assert_untouched(house, client)


# Waiting for clients to take what is theirs.


def test_the_idle_limit_takes_nothing_away() -> None:
    """A response that is finished for us waits in the transport's buffer; Twisted would cut it off after 15 s."""
    house = house_of(idle_timeout=10, client_timeout=1000)
    client = busy(house, "small")
    assert len(door(client).sent) >= len(SMALL)
    assert len(house.log) == 1, "it is finished"
    house.network.pass_time(1009, step=1)
    assert door(client).is_connected
    client.transport.is_paused = False
    house.network.run()
    assert answer_to(client).body == SMALL
    assert client.is_closed
    house.assert_at_rest()


def test_but_it_does_not_wait_for_ever() -> None:
    house = house_of(idle_timeout=10, client_timeout=1000)
    client = busy(house, "small")
    house.network.pass_time(1011)
    assert not door(client).is_connected
    house.assert_at_rest()


def test_a_client_that_takes_nothing_is_dropped() -> None:
    house = house_of(client_timeout=100)
    client = busy(house)
    house.network.pass_time(99)
    assert door(client).is_connected
    assert house.log == []
    # What comes late makes the transport say once more that it is enough.
    door(client).write(b"")
    house.network.pass_time(2)
    assert not door(client).is_connected
    house.network.run()
    assert len(house.log) == 1
    assert house.network.open_connections(5984) <= 1, "the transfer is given up"
    house.assert_at_rest()


def test_a_slow_client_is_not() -> None:
    """As long as it takes what waits for it now and then."""
    house = house_of(client_timeout=100)
    client = busy(house)
    while len(client.received) < len(BIG) - 4 * SEND_BUFFER:
        house.network.pass_time(99, step=33)
        take(house, client, SEND_BUFFER + READ_SIZE)
    assert_untouched(house, client)
    house.assert_at_rest()


def test_a_client_that_takes_too_little_is_dropped() -> None:
    """Bytes that do not empty the buffer do not count."""
    house = house_of(client_timeout=100)
    client = busy(house)
    for _ in range(2):
        house.network.pass_time(45, step=15)
        client.transport.is_paused = False
        client.dataReceived(bytes(door(client).sent[:10]))
        del door(client).sent[:10]
        client.transport.is_paused = True
    house.network.pass_time(11)
    assert not door(client).is_connected


def test_an_end_that_has_a_time_has_that_time() -> None:
    """However long the client took nothing before."""
    house = house_of(client_timeout=100)
    client = busy(house)
    house.network.pass_time(90, step=10)
    door(client).protocol.give_up_after(20)
    house.network.pass_time(19)
    assert door(client).is_connected
    house.network.pass_time(1)
    assert not door(client).is_connected
    house.assert_at_rest()


def test_a_client_that_asks_and_asks_and_takes_nothing_is_dropped() -> None:
    house = house_of(client_timeout=100)
    client = house.connect()
    client.transport.is_paused = True
    client.transport.write(request("small") * 100)
    house.network.run()
    house.network.pass_time(99)
    assert door(client).is_connected
    house.network.pass_time(2)
    assert not door(client).is_connected
    house.assert_at_rest()


# The end of all.


def drained(house: House, seconds: float) -> list[int]:
    """Begin to drain. :return: its result, when it has one."""
    ended: list[int] = []
    house.network.listen(GATEWAY_PORT, None)
    Deferred.fromCoroutine(house.connections.drain(seconds)).addCallback(ended.append)
    house.network.run()
    return ended


def test_nothing_to_drain() -> None:
    house = house_of()
    assert drained(house, 30) == [0]
    house.assert_at_rest()
    assert house.network.calls == []


def test_a_drain_waits_for_responses_and_for_nothing_else() -> None:
    house = house_of()
    idle = [house.connect(), resting(house), house.connect()]
    idle[-1].transport.write(request("f")[:20])
    running = [busy(house), busy(house), busy(house, "small")]
    with logged() as events:
        ended = drained(house, 30)
    assert [client.is_closed for client in idle] == [True] * 3
    told = [formatEvent(event) for event in events if event["log_namespace"] == "txcouchdl.gateway.connections"]
    assert told == ["waiting for 3 downloads, at most 30 s"]
    house.network.pass_time(29)
    assert ended == []
    for client in running:
        assert door(client).is_connected
        client.transport.is_paused = False
    house.network.run()
    assert [answer_to(client).body for client in running] == [BIG, BIG, SMALL]
    assert all(client.is_closed for client in running)
    assert ended == [0]
    assert len(house.log) == 1 + 3
    house.assert_at_rest()
    assert not [call for call in house.network.calls if "Line._prune" not in call.func.__qualname__]


def test_no_further_request_is_read_while_draining() -> None:
    house = house_of()
    client = house.connect()
    client.transport.write(request("big") + request("f") * 2)
    client.transport.is_paused = True
    house.network.run()
    ended = drained(house, 30)
    client.transport.write(request("f"))
    client.transport.is_paused = False
    house.network.run()
    assert client.received.count(b"HTTP/1.1 ") == 1
    assert answer_to(client).body == BIG
    assert (ended, client.is_closed, len(house.log)) == ([0], True, 1)


def test_a_request_that_has_only_begun_is_forgotten_while_draining() -> None:
    """Nothing is said to it behind what the client has still to take."""
    house = house_of()
    client = busy(house, "small")
    client.transport.write(request("f")[:10])
    house.network.run()
    ended = drained(house, 1000)
    house.network.pass_time(70)
    client.transport.is_paused = False
    house.network.run()
    assert client.received.count(b"HTTP/1.1 ") == 1
    assert (answer_to(client).body, ended) == (SMALL, [0])
    house.assert_at_rest()


def test_an_answer_that_begins_while_draining_says_that_it_is_the_last() -> None:
    house = house_of()
    client = house.connect()
    client.transport.write(request("f"))
    house.network.run(until=lambda: house.node.asked)
    ended = drained(house, 30)
    got = answer_to(client)
    assert (got.body, got["Connection"], got.is_closed, ended) == (b"bytes", "close", True, [0])


def test_a_finished_response_whose_end_waits_for_the_client_is_the_last() -> None:
    """Requests were piled up: the next is begun when the client has taken what is there for it."""
    house = House({"small": Stored.compressed(SMALL)})
    client = house.connect()
    client.transport.is_paused = True
    client.transport.write(request("small") * 100)
    house.network.run()
    answered = len(house.log)
    assert answered == 2
    ended = drained(house, 30)
    client.transport.is_paused = False
    house.network.run()
    assert client.received.count(b"HTTP/1.1 200 ") == answered
    assert (ended, client.is_closed, len(house.log)) == ([0], True, answered)
    house.assert_at_rest()


def test_what_is_left_is_broken_off() -> None:
    house = house_of()
    house.node.faults = lambda asked: [Mark.SILENCE] if asked.path == "/db/doc/f" else None
    running = [busy(house), busy(house, "small"), busy(house, "f")]
    in_time = busy(house)
    ended = drained(house, 20)
    in_time.transport.is_paused = False
    house.network.pass_time(19)
    assert (in_time.is_closed, ended) == (True, [])
    house.network.pass_time(1)
    assert ended == [3]
    assert not any(door(client).is_connected for client in running)
    assert len(house.log) == 4
    assert '" 499 ' in "".join(house.log)
    assert house.network.open_connections(5984) <= 1
    house.assert_at_rest()


def test_a_drain_can_be_cut_short() -> None:
    house = house_of()
    client = busy(house)
    ended = drained(house, 30)
    house.connections.abort()
    house.connections.abort()
    house.network.run()
    assert ended == [1]
    assert not door(client).is_connected
    house.assert_at_rest()


def test_a_drain_of_no_time() -> None:
    """What rests is closed all the same, not broken."""
    house = house_of()
    rests, client = resting(house), busy(house)
    assert drained(house, 0) == [1]
    assert (rests.transport.reason.__class__.__name__, door(client).is_connected) == ("ConnectionDone", False)
    house.assert_at_rest()


def test_refused_clients_are_not_waited_for_longer(lingering: None) -> None:
    house = house_of(1)
    busy(house)
    assert answer_to(newcomer(house)).status == 503
    ended = drained(house, 30)
    house.connections.abort()
    house.network.run()
    assert ended == [1]
    assert house.network.open_connections(GATEWAY_PORT) == 0


def test_who_comes_while_draining_is_dropped() -> None:
    """It was accepted before the port was closed."""
    house = house_of()
    busy(house)
    ended = drained(house, 30)
    house.network.listen(GATEWAY_PORT, house.site)
    late = newcomer(house)
    assert (late.is_closed, late.received) == (True, b"")
    house.network.pass_time(30)
    assert ended == [1]


def test_a_refused_client_gets_its_answer_while_draining() -> None:
    house = house_of(1)
    running = busy(house)
    refused = house.connect()
    bad = house.connect()
    for client in (refused, bad):
        client.transport.is_paused = True
    house.network.run()
    ended = drained(house, 30)
    for client in (running, refused, bad):
        client.transport.is_paused = False
    house.network.run()
    assert answer_to(refused).is_whole
    assert answer_to(bad).is_whole
    assert ended == [0]


# Over TLS.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> DefaultOpenSSLContextFactory:
    directory = tmp_path_factory.mktemp("certificate")
    certify(directory)
    return DefaultOpenSSLContextFactory(str(directory / "key.pem"), str(directory / "cert.pem"))


def secured(house: House, certificate: DefaultOpenSSLContextFactory) -> House:
    """A house whose door speaks TLS."""
    house.network.listen(GATEWAY_PORT, TLSMemoryBIOFactory(certificate, False, house.site, house.network))
    return house


def connect_securely(house: House) -> Client:
    """A client that speaks TLS. Its transport takes what it writes before the handshake is over, too."""
    client = Client()
    factory = Factory()
    factory.protocol = lambda: client
    wrapped = TLSMemoryBIOFactory(CertificateOptions(), True, factory, house.network)
    protocol = wrapped.buildProtocol(None)
    assert protocol is not None
    house.network.connect(GATEWAY_PORT, protocol)
    return client


def client_hello() -> bytes:
    """What a client says first."""
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="gateway").do_handshake()
    return outgoing.read()


def far_end(house: House) -> End:
    """The gateway's end of the newest connection to it."""
    return [far for _, far in house.network.connections if far.address.port == GATEWAY_PORT][-1]


def test_a_download_over_tls(certificate: DefaultOpenSSLContextFactory) -> None:
    house = secured(house_of(), certificate)
    client = connect_securely(house)
    client.transport.write(request("big"))
    house.network.run()
    assert answer_to(client).body == BIG
    house.network.pass_time(60)
    assert client.is_closed
    house.assert_at_rest()


def test_a_handshake_that_does_not_end_is_cut_off(certificate: DefaultOpenSSLContextFactory) -> None:
    """By the idle limit, from the beginning of the connection: each byte of it gains nothing."""
    house = secured(house_of(idle_timeout=10), certificate)
    client = house.connect()
    hello = iter(client_hello())
    for _ in range(10):
        assert door(client).is_connected
        client.transport.write(bytes([next(hello)]))
        house.network.run()
        house.network.pass_time(1)
    assert not door(client).is_connected
    house.assert_at_rest()


def test_a_503_over_tls(certificate: DefaultOpenSSLContextFactory) -> None:
    """The refusal waits for the handshake."""
    house = secured(house_of(1), certificate)
    first = connect_securely(house)
    first.transport.write(request("f")[:10])
    house.network.run()
    refused = connect_securely(house)
    refused.transport.write(request("f"))
    house.network.run()
    got = answer_to(refused)
    assert (got.status, got.is_whole, got.is_closed) == (503, True, True)
    first.transport.write(request("f")[10:])
    house.network.run()
    assert answer_to(first).status == 200


def test_a_refused_client_without_a_handshake_is_let_go(certificate: DefaultOpenSSLContextFactory) -> None:
    house = secured(house_of(1), certificate)
    connect_securely(house)
    refused = house.connect()
    house.network.run()
    house.network.pass_time(6)
    assert not door(refused).is_connected


def test_a_400_over_tls(certificate: DefaultOpenSSLContextFactory) -> None:
    house = secured(house_of(), certificate)
    client = connect_securely(house)
    client.transport.write(b"nonsense\r\n\r\n" + b"x" * 100_000)
    house.network.run()
    got = answer_to(client)
    assert (got.status, got.is_whole, got.is_closed) == (400, True, True)
    house.assert_at_rest()


def test_closing_over_tls_waits_for_no_goodbye(certificate: DefaultOpenSSLContextFactory) -> None:
    """A client that has vanished sends none. It would hold its place, and the end of the service, up."""
    house = secured(house_of(idle_timeout=10, client_timeout=1000), certificate)
    client = connect_securely(house)
    client.transport.write(request("f"))
    house.network.run()
    assert client.received.endswith(b"bytes")
    far = far_end(house)
    # It takes what is sent to it, and says nothing any more.
    far.is_paused = True
    house.network.pass_time(11)
    assert not far.is_connected
    house.assert_at_rest()


def test_who_gives_way_over_tls_is_soon_gone(certificate: DefaultOpenSSLContextFactory) -> None:
    """Also if it does not take our goodbye. Its place is free at once."""
    house = secured(house_of(2), certificate)
    client = connect_securely(house)
    client.transport.write(request("f"))
    house.network.run()
    far = far_end(house)
    far.peer.is_paused = True
    others = [connect_securely(house), connect_securely(house)]
    house.network.run()
    assert far.is_connected
    others[0].transport.abortConnection()
    house.network.run()
    another = connect_securely(house)
    another.transport.write(request("f"))
    house.network.run()
    assert answer_to(another).status == 200
    house.network.pass_time(6)
    assert not far.is_connected


def test_few_leave_at_the_same_time_over_tls(certificate: DefaultOpenSSLContextFactory) -> None:
    """Not even if none of them takes our goodbye."""
    house = secured(house_of(100), certificate)
    for _ in range(100):
        connect_securely(house).transport.write(request("f"))
        house.network.run()
        far_end(house).peer.is_paused = True
    for _ in range(40):
        connect_securely(house)
        house.network.run()
        assert len(house.connections._leaving) <= 16
    house.network.pass_time(6)
    assert len(house.connections._leaving) == 0


def test_the_rest_of_a_response_over_tls_arrives(certificate: DefaultOpenSSLContextFactory) -> None:
    house = secured(house_of(idle_timeout=10, client_timeout=1000), certificate)
    client = connect_securely(house)
    client.transport.write(request("small"))
    house.network.run(until=lambda: house.node.asked)
    far = far_end(house)
    far.peer.is_paused = True
    house.network.run()
    assert len(far.sent) > len(SMALL)
    house.network.pass_time(500)
    assert far.is_connected
    far.peer.is_paused = False
    house.network.run()
    assert answer_to(client).body == SMALL
    assert client.is_closed
    house.assert_at_rest()


def test_a_drain_over_tls(certificate: DefaultOpenSSLContextFactory) -> None:
    house = secured(house_of(), certificate)
    idle = connect_securely(house)
    idle.transport.write(request("f"))
    house.network.run()
    running = connect_securely(house)
    running.transport.write(request("big"))
    house.network.run(until=lambda: running.received)
    far = far_end(house)
    far.peer.is_paused = True
    house.network.run()
    ended = drained(house, 30)
    assert (idle.is_closed, ended) == (True, [])
    far.peer.is_paused = False
    house.network.run()
    assert (answer_to(running).body, ended) == (BIG, [0])
    house.assert_at_rest()
