"""Many connections: how many one address may have, and which one gives its place up."""

import ipaddress
import json
from collections import Counter
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import UNIXAddress
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, formatEvent
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory

from tests.gateway.house import GATEWAY_PORT, TOKEN, Answer, Client, House, logged, read_answer
from tests.network import End
from tests.scripted import Mark, Stored
from txcouchdl.gateway.addresses import Addresses
from txcouchdl.gateway.channel import GatewayChannel
from txcouchdl.gateway.connections import most_leaving
from txcouchdl.gateway.limits import ClientLimits
from txcouchdl.gateway.peers import TrustedProxies

SMALL = b"x" * 60_000
ATTACHMENTS = {"big": Stored(bytes(2**21)), "small": Stored(SMALL), "f": Stored(b"bytes")}
HERE, THERE = "192.0.2.1", "198.51.100.2"
FILE = f"/db/doc/f?token={TOKEN}"
REQUEST = f"GET {FILE} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def house_of(places: int, per_address: int = 0, proxies: tuple[str, ...] = (), **limits: Any) -> House:
    limited = evolve(ClientLimits(places, per_address), **limits)
    return House(dict(ATTACHMENTS), client_limits=limited, trusted_proxies=proxies)


def door(client: Client) -> End:
    return client.transport.peer


def answer_to(client: Client) -> Answer:
    return read_answer(client.received, "GET", client.is_closed)


def newcomer(house: House, host: str = HERE) -> Client:
    client = house.connect(host)
    house.network.run()
    return client


def resting(house: House, host: str = HERE) -> Client:
    """A client that was answered, and keeps its connection."""
    client = house.send(FILE, host=host)
    house.network.run()
    assert client.received.endswith(b"bytes"), client.received
    return client


def busy(house: House, host: str = HERE, name: str = "big", **fields: str) -> Client:
    """A client that asked, and takes nothing."""
    headers = {field.replace("_", "-"): value for field, value in fields.items()}
    client = house.send(f"/db/doc/{name}?token={TOKEN}", headers, host=host)
    client.transport.is_paused = True
    house.network.run()
    return client


def taken(house: House, client: Client) -> Answer:
    """What a client gets that takes all now."""
    client.transport.is_paused = False
    house.network.run()
    return answer_to(client)


def beginning(house: House, host: str = HERE) -> Client:
    """A client of whose first request a part has come."""
    client = house.connect(host)
    client.transport.write(REQUEST[:10])
    house.network.run()
    return client


def assert_refused(client: Client, status: int) -> None:
    got = answer_to(client)
    assert (got.status, got.is_whole, got.is_closed) == (status, True, True)
    assert (got["Retry-After"], got["Connection"]) == ("5", "close")


def assert_nothing_is_kept(house: House) -> None:
    """Neither of addresses nor of connections."""
    for near, _ in house.network.connections:
        near.abortConnection()
    house.network.run()
    connections = house.connections
    assert len(connections._addresses) == 0
    assert connections._addresses._address_of == {}
    for each in (connections._served, connections._leaving, connections._proxied):
        assert each == set()
    for state in (connections._unproven, connections._resting, connections._begun):
        assert state == {}


# How many one address may have.


@pytest.mark.parametrize(
    ("places", "chosen", "number"),
    [(4096, 0, 256), (4096, 10, 10), (4096, 5000, 5000), (4097, 0, 257), (128, 0, 8), (100, 0, 8), (1, 0, 8)],
)
def test_a_sixteenth_of_all_unless_somebody_says_how_many(places: int, chosen: int, number: int) -> None:
    assert ClientLimits(places, chosen).connections_per_address == number


def test_past_the_limit_of_an_address_there_is_a_429() -> None:
    house = house_of(100, 3)
    clients = [busy(house) for _ in range(3)]
    refused = newcomer(house)
    assert_refused(refused, 429)
    assert json.loads(answer_to(refused).body)["error"] == "too_many_requests"
    assert f'{HERE} - - [01/Jan/1970:00:00:00 +0000] "-" 429 ' in house.log[0]
    other = resting(house, THERE)
    for client in clients:
        assert taken(house, client).is_whole
    assert not other.is_closed
    assert_nothing_is_kept(house)


def test_a_place_of_an_address_is_free_when_a_connection_has_ended() -> None:
    house = house_of(100, 1)
    client = busy(house)
    client.transport.abortConnection()
    house.network.run()
    resting(house)


def test_one_that_rests_gives_way_to_the_next_of_its_address() -> None:
    """Behind one address there may be many people, whose browsers keep connections for a while."""
    house = house_of(100, 3)
    other = resting(house, THERE)
    first, second = resting(house), resting(house)
    running = busy(house)
    house.network.pass_time(1)
    first.transport.write(REQUEST)
    house.network.run()
    # Now the first has rested for less long than the second.
    third = resting(house)
    assert [client.is_closed for client in (first, second, third, other)] == [False, True, False, False]
    assert taken(house, running).is_whole
    assert " 429 " not in "".join(house.log)


def test_what_has_bytes_to_take_does_not_give_way_to_the_next_of_its_address() -> None:
    house = house_of(100, 1)
    client = busy(house, name="small")
    assert_refused(newcomer(house), 429)
    assert taken(house, client).body == SMALL


def test_of_an_address_too_those_that_never_asked_give_way_first() -> None:
    house = house_of(100, 2)
    rests, silent = resting(house), newcomer(house)
    house.network.pass_time(6)
    newcomer(house)
    assert [client.is_closed for client in (rests, silent)] == [False, True]


def test_what_gives_way_counts_no_longer() -> None:
    """It may take a while until it is gone."""
    house = house_of(100, 1)
    slow = resting(house)
    slow.transport.is_paused = True
    house.network.pass_time(1)
    newcomer(house).transport.abortConnection()
    house.network.run()
    assert door(slow).is_connected
    resting(house)


def test_an_address_has_its_first_request_time() -> None:
    house = house_of(100, 2)
    silent, late = newcomer(house), beginning(house)
    house.network.pass_time(4)
    assert_refused(newcomer(house), 429)
    assert not silent.is_closed
    house.network.pass_time(2)
    last = newcomer(house)
    assert (silent.is_closed, silent.received, last.is_closed) == (True, b"", False)
    next_to_last = newcomer(house)
    assert_refused(late, 429)
    assert not next_to_last.is_closed


def test_the_networks_of_ipv6_count_as_one() -> None:
    house = house_of(100, 2)
    for host in ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2"):
        busy(house, host)
    assert_refused(newcomer(house, "2001:db8:0:1::3"), 429)
    assert not newcomer(house, "2001:db8:0:2::1").is_closed


def test_an_address_of_ipv4_is_the_same_within_ipv6() -> None:
    house = house_of(100, 2)
    for host in (HERE, f"::ffff:{HERE}"):
        busy(house, host)
    assert_refused(newcomer(house), 429)
    assert_refused(newcomer(house, f"::ffff:{HERE}"), 429)


def warnings(events: list[LogEvent]) -> list[str]:
    found = [event for event in events if event["log_namespace"] == "txcouchdl.gateway.addresses"]
    assert all(event["log_level"] is LogLevel.warn for event in found)
    return [str(formatEvent(event)) for event in found]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_this_machine_has_no_limit_and_a_warning(host: str) -> None:
    """It is a proxy, usually. Who reads the log learns why limits and access log have all its clients as one."""
    house = house_of(100, 3)
    with logged() as events:
        clients = [busy(house, host) for _ in range(3)]
        assert warnings(events) == []
        clients += [busy(house, host) for _ in range(4)]
        [told] = warnings(events)
        house.network.pass_time(599, step=100)
        clients.append(busy(house, host))
        assert warnings(events) == [told]
        house.network.pass_time(2)
        clients.append(busy(house, host))
        assert len(warnings(events)) == 2
    assert "3 connections" in told
    assert "--behind-proxy" in told
    assert not any(client.is_closed for client in clients)
    assert_nothing_is_kept(house)


def test_a_crowded_address_has_a_warning() -> None:
    """It may be a proxy that nobody has named. One warning, however many addresses are crowded."""
    house = house_of(100, 2)
    with logged() as events:
        for host in [HERE] * 4 + [THERE] * 4 + ["127.0.0.1"] * 4:
            busy(house, host)
        first, second = warnings(events)
        house.network.pass_time(601, step=100)
        busy(house, THERE)
        assert [told.split(" ")[0] for told in warnings(events)] == [HERE, "127.0.0.1", THERE]
    assert "2 connections" in first
    assert "--trusted-proxy" in first
    assert "--behind-proxy" in second


def test_a_unix_socket_has_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    house = house_of(100, 1)
    monkeypatch.setattr(End, "getPeer", lambda _: UNIXAddress(b""))
    with logged() as events:
        clients = [busy(house) for _ in range(5)]
    assert warnings(events) == []
    assert not any(client.is_closed for client in clients)
    assert len(house.connections._addresses) == 0


def test_one_crowded_address_leaves_the_others_room_to_leave() -> None:
    """Refused clients linger. All places for that are not one address's."""
    house = house_of(2, 1)
    running = [busy(house, HERE), resting(house, THERE)]

    def crowd() -> Client:
        client = house.connect(HERE)
        client.transport.is_paused = True
        house.network.run()
        return client

    refused = [crowd() for _ in range(8)]
    assert all(door(each).is_connected for each in refused)
    dropped = crowd()
    assert (dropped.is_closed, dropped.received) == (True, b"")
    # The house is full. Another client gets the place of the one that rests.
    assert resting(house, "203.0.113.3")
    assert running[1].is_closed


@pytest.mark.parametrize("kind", ["busy", "silent"])
def test_one_address_does_not_occupy_all_places(kind: str) -> None:
    house = house_of(64)
    for _ in range(200):
        busy(house) if kind == "busy" else newcomer(house)
    # Some that were refused have their answer still to take.
    assert house.network.open_connections(GATEWAY_PORT) <= 8 + 8
    for _ in range(10):
        resting(house, THERE)
    assert_nothing_is_kept(house)


# Behind proxies.


PROXY = "10.0.0.1"
BEHIND = ("10.0.0.0/8",)


def test_a_trusted_proxy_has_no_limit_of_its_own() -> None:
    house = house_of(100, 2, BEHIND)
    with logged() as events:
        clients = [busy(house, PROXY, X_Forwarded_For=f"192.0.2.{number}") for number in range(20)]
        clients += [busy(house, PROXY) for _ in range(5)]
    assert warnings(events) == []
    for client in clients:
        assert taken(house, client).status == 200
    assert_nothing_is_kept(house)


def test_each_client_of_a_proxy_has_its_limit() -> None:
    house = house_of(100, 2, BEHIND)
    running = [busy(house, PROXY, X_Forwarded_For=HERE) for _ in range(2)]
    asked = len(house.node.asked)
    refused = house.send(FILE, {"X-Forwarded-For": HERE}, host="10.9.9.9")
    house.network.run()
    got = answer_to(refused)
    assert (got.status, got["Retry-After"], got.is_closed) == (429, "5", False)
    assert len(house.node.asked) == asked
    assert house.log[-1].startswith(f"{HERE} - - ")
    # The connection is the proxy's. It brings another client's request next.
    refused.received = b""
    refused.transport.write(REQUEST[:-2] + f"X-Forwarded-For: {THERE}\r\n\r\n".encode())
    house.network.run()
    assert answer_to(refused).status == 200
    assert taken(house, running[0]).is_whole
    assert house.ask(FILE, {"X-Forwarded-For": HERE}).status == 200, "from a peer that is no proxy"
    assert_nothing_is_kept(house)


@pytest.mark.parametrize("end", ["taken", "left", "broken off", "refused", "answered at once"])
def test_a_request_counts_until_it_ends(end: str) -> None:
    house = house_of(100, 1, BEHIND)
    fields = {"X-Forwarded-For": HERE}
    for _ in range(3):
        target = "/db/doc/big?token=wrong" if end == "refused" else f"/db/doc/big?token={TOKEN}"
        client = house.send(target, fields, "OPTIONS" if end == "answered at once" else "GET", host=PROXY)
        client.transport.is_paused = True
        house.network.run()
        if end == "left":
            client.transport.abortConnection()
        elif end == "broken off":
            door(client).protocol.drop()
        client.transport.is_paused = False
        house.network.run()
        assert client.received.startswith(b"HTTP/1.1 429 ") is False
    assert_nothing_is_kept(house)


def test_a_client_is_the_same_with_a_proxy_and_without() -> None:
    house = house_of(100, 2, BEHIND)
    direct, proxied = busy(house, HERE), busy(house, PROXY, X_Forwarded_For=HERE)
    assert_refused(newcomer(house, HERE), 429)
    assert taken(house, proxied).status == 200
    assert not newcomer(house, HERE).is_closed
    assert taken(house, direct).status == 200


@pytest.mark.parametrize("named", ["10.1.2.3", "127.0.0.1", "::1", "nonsense", ""])
def test_a_proxy_that_names_no_client(named: str) -> None:
    """It names itself, another proxy, its own machine, or nobody."""
    house = house_of(100, 1, BEHIND)
    with logged() as events:
        for _ in range(3):
            busy(house, PROXY, X_Forwarded_For=named)
    assert warnings(events) == []
    assert " 429 " not in "".join(house.log)
    assert_nothing_is_kept(house)


def test_a_client_that_names_others_counts_for_itself() -> None:
    house = house_of(100, 2, BEHIND)
    running = [busy(house, HERE, X_Forwarded_For=f"192.0.2.{number}") for number in range(50, 52)]
    assert_refused(newcomer(house, HERE), 429)
    for client in running:
        assert taken(house, client).status == 200
    assert_nothing_is_kept(house)


def test_a_proxy_that_speaks_the_proxy_protocol() -> None:
    """Its own address plays no part, only the one that it tells first."""
    house = house_of(100, 2)
    house.network.listen(GATEWAY_PORT, HAProxyWrappingFactory(house.site))
    header = f"PROXY TCP4 {HERE} 203.0.113.9 1 2\r\n".encode()
    unknown = [house.connect("10.9.9.9") for _ in range(5)]
    house.network.run()
    assert not any(client.is_closed for client in unknown)
    for client in unknown[:2]:
        client.transport.write(header + f"GET /db/doc/big?token={TOKEN} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        client.transport.is_paused = True
    house.network.run()
    unknown[2].transport.write(header + REQUEST)
    house.network.run()
    assert_refused(unknown[2], 429)
    unknown[3].transport.write(header.replace(HERE.encode(), THERE.encode()))
    house.network.run()
    unknown[3].transport.write(REQUEST)
    house.network.run()
    assert answer_to(unknown[3]).status == 200
    assert [line.split(" ")[0] for line in house.log] == [HERE, THERE]
    assert taken(house, unknown[0]).status == 200
    # It rests now, and gives its place up.
    unknown[4].transport.write(header + REQUEST)
    house.network.run()
    assert answer_to(unknown[4]).status == 200
    assert unknown[0].is_closed
    assert_nothing_is_kept(house)


def test_one_too_many_of_the_proxy_protocol_is_gone_at_once() -> None:
    """Where too many leave already, it is dropped, and neither counts nor asks."""
    house = house_of(2, 1)
    house.network.listen(GATEWAY_PORT + 1, HAProxyWrappingFactory(house.site))
    header = f"PROXY TCP4 {HERE} 203.0.113.9 1 2\r\n".encode()
    busy(house)
    told = Client()
    house.network.connect(GATEWAY_PORT + 1, told, "10.9.9.9")
    house.network.run()
    for _ in range(8):
        house.connect(HERE).transport.is_paused = True
    asked = len(house.node.asked)
    told.transport.peer.protocol.dataReceived(header + REQUEST)
    others = [house.connect(THERE), house.connect("203.0.113.3")]
    house.network.run()
    assert (told.is_closed, told.received, len(house.node.asked)) == (True, b"", asked)
    assert " 499 " not in "".join(house.log)
    assert [other.is_closed for other in others] == [False, True]
    assert_nothing_is_kept(house)


# Which one gives its place up.


def test_those_that_never_asked_give_way_first() -> None:
    """However long the others rest: they have shown that they are clients."""
    house = house_of(4)
    rests = resting(house)
    silent = [newcomer(house, THERE), beginning(house, THERE), newcomer(house, THERE)]
    house.network.pass_time(6)
    for number, client in enumerate(silent):
        resting(house, f"203.0.113.{number}")
        assert client.is_closed
    assert not rests.is_closed
    assert_refused(silent[1], 503)
    assert (silent[0].received, silent[2].received) == (b"", b"")


def test_then_those_that_rest() -> None:
    house = house_of(3)
    begun, rests = resting(house), resting(house)
    begun.transport.write(REQUEST[:10])
    house.network.run()
    house.network.pass_time(6)
    silent = newcomer(house)
    newcomer(house)
    assert [client.is_closed for client in (begun, rests, silent)] == [False, True, False]


def test_then_those_whose_next_request_takes_long() -> None:
    house = house_of(2)
    begun = [resting(house), resting(house)]
    for client in begun:
        client.received = b""
        client.transport.write(REQUEST[:10])
        house.network.run()
        house.network.pass_time(3)
    last = newcomer(house)
    assert_refused(begun[0], 503)
    assert (begun[1].is_closed, last.is_closed) == (False, False)
    begun[1].transport.write(REQUEST[10:])
    house.network.run()
    assert answer_to(begun[1]).status == 200


def test_a_request_behind_another_takes_long() -> None:
    """Its beginning came with the one before."""
    house = house_of(1)
    client = house.connect()
    client.transport.write(REQUEST + REQUEST[:10])
    house.network.run()
    house.network.pass_time(4)
    assert_refused(newcomer(house), 503)
    house.network.pass_time(2)
    resting(house)
    assert client.is_closed


def test_who_is_answered_does_not_give_way() -> None:
    house = house_of(2)
    house.node.faults = lambda asked: [Mark.SILENCE] if asked.path == "/db/doc/f" else None
    clients = [busy(house), busy(house, name="f")]
    house.network.pass_time(20)
    assert_refused(newcomer(house), 503)
    assert not any(client.is_closed for client in clients)


def test_new_connections_do_not_drive_out_those_that_rest() -> None:
    """Beyond a quarter of the places they drive out each other, their five seconds or not."""
    house = house_of(40, 40)
    rest = [resting(house, f"192.0.2.{number}") for number in range(30)]
    silent = [newcomer(house, f"198.51.100.{number}") for number in range(50)]
    assert [client.is_closed for client in rest] == [True] + [False] * 29
    assert [client.is_closed for client in silent] == [True] * 39 + [False] * 11
    # Who asks at once is answered at any time.
    assert resting(house, THERE)
    assert [client.is_closed for client in rest] == [True] + [False] * 29


def test_who_is_new_has_time_as_long_as_few_are() -> None:
    house = house_of(8, 8)
    rest = [resting(house) for _ in range(7)]
    silent = newcomer(house)
    others = [newcomer(house, THERE), newcomer(house, THERE)]
    assert [client.is_closed for client in rest] == [True] * 2 + [False] * 5
    assert [client.is_closed for client in (silent, *others)] == [False] * 3
    others.append(newcomer(house, THERE))
    assert silent.is_closed
    for client in others:
        client.transport.write(REQUEST)
        house.network.run()
        assert answer_to(client).status == 200


def test_too_many_that_leave() -> None:
    """Beyond some, a new connection is dropped, though another could give its place up."""
    house = house_of(3, 3)
    clients = [busy(house, f"192.0.2.{number}") for number in range(3)]
    refused = []
    for number in range(16):
        refused.append(house.connect(f"198.51.100.{number}"))
        refused[-1].transport.is_paused = True
        house.network.run()
    assert all(door(each).is_connected for each in refused)
    assert taken(house, clients[0]).is_whole
    dropped = newcomer(house)
    assert (dropped.is_closed, dropped.received, clients[0].is_closed) == (True, b"", False)
    house.network.pass_time(6)
    resting(house)
    assert clients[0].is_closed


STEPS = st.tuples(
    st.sampled_from(["connect", "begin", "ask", "hold", "take", "leave", "reset", "wait", "nonsense"]),
    st.integers(0, 9),
    st.sampled_from([HERE, THERE, "2001:db8::1", "127.0.0.1", PROXY]),
)


@given(st.lists(STEPS, max_size=40), st.integers(1, 6), st.integers(1, 4))
def test_whatever_happens_all_is_counted_once(steps: list[tuple[str, int, str]], places: int, per_address: int) -> None:
    house = house_of(places, per_address, BEHIND)
    clients: list[Client] = []
    for step, number, host in steps:
        client = clients[number % len(clients)] if clients else house.connect(host)
        if step == "connect":
            clients.append(house.connect(host))
        elif step == "begin":
            client.transport.write(REQUEST[:12])
        elif step in {"ask", "hold"}:
            client.transport.is_paused = step == "hold"
            name = "f" if step == "ask" else "big"
            fields = f"Host: x\r\nX-Forwarded-For: {HERE}\r\n"
            client.transport.write(f"GET /db/doc/{name}?token={TOKEN} HTTP/1.1\r\n{fields}\r\n".encode())
        elif step == "take":
            client.transport.is_paused = False
        elif step == "leave":
            client.transport.loseConnection()
        elif step == "reset":
            client.transport.abortConnection()
        elif step == "wait":
            house.network.pass_time(3)
        else:
            client.transport.write(b"nonsense\r\n\r\n")
        house.network.run()
        assert_consistent(house)
    house.network.pass_time(70, step=10)
    assert_nothing_is_kept(house)
    house.assert_at_rest()


def assert_consistent(house: House) -> None:
    connections = house.connections
    served, leaving = connections._served, connections._leaving
    assert len(served) <= house.connections.limits.max_connections
    assert not served & leaving
    assert len(leaving) <= most_leaving(house.connections.limits.max_connections)
    states = (connections._unproven, connections._resting, connections._begun)
    together: Counter[object] = Counter()
    for state in states:
        together.update(state.keys())
    assert set(together) <= served
    assert set(together.values()) <= {1}
    addresses = connections._addresses
    assert set(addresses._address_of) <= served
    counted = Counter(addresses._address_of.values())
    assert counted == {address: len(channels) for address, channels in addresses._channels.items()}
    most = connections.limits.connections_per_address
    assert all(count <= most for address, count in counted.items() if not address.startswith("127."))


# The table.


def test_a_table_has_no_more_entries_than_connections() -> None:
    house = house_of(1000)
    clients = [newcomer(house, str(ipaddress.IPv4Address(0xC0000200 + number))) for number in range(100)]
    assert len(house.connections._addresses) == 100
    for client in clients:
        client.transport.abortConnection()
    house.network.run()
    assert len(house.connections._addresses) == 0


def test_no_more_than_some_are_looked_at() -> None:
    addresses = Addresses(2000, TrustedProxies(), Clock())
    channels = [GatewayChannel() for _ in range(1000)]  # type: ignore[no-untyped-call]
    for channel in channels:
        addresses.add(HERE, channel)
    assert list(addresses.oldest(HERE)) == channels[:256]
