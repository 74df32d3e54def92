"""Several nodes with few places, and nodes that lag: who waits for what, and who does not."""

import random

import pytest

from tests.gateway.house import GATEWAY_PORT, NODE_PORT, TOKEN, Client, House, read_answer
from tests.scripted import Doc, Mark, ScriptedNode, Stored
from txcouchdl.couch.health import State
from txcouchdl.couch.limits import UpstreamLimits

NOISE = random.Random(11).randbytes(3_000_000)


def reading(house: House) -> Client:
    """A download that is under way, and whose client takes nothing for now."""
    client = house.send(f"/db/doc/f?token={TOKEN}")
    house.network.run(until=lambda: len(client.received) > 100_000)
    client.transport.is_paused = True
    house.network.run()
    return client


def sip(house: House, client: Client) -> None:
    """Let a client take some bytes, so that it is not parked."""
    client.transport.is_paused = False
    received = len(client.received)
    house.network.run(until=lambda: len(client.received) > received + 140_000 or client.is_closed)
    client.transport.is_paused = True
    house.network.run()


def cut(house: House, port: int) -> None:
    """Reset the connections of a node."""
    for _, far in house.network.connections:
        if far.address.port == port and far.is_connected:
            far.abortConnection()


def test_a_lost_download_does_not_wait_for_a_full_node_beside_an_idle_one() -> None:
    """Nor does anybody behind it."""
    house = House({"f": Stored(NOISE)}, nodes=2, limits=UpstreamLimits(max_upstream=2))
    clients = [reading(house) for _ in range(3)]
    [alone] = [member for member in house.cluster._members if member.busy == 1]
    cut(house, int(str(alone.client).rpartition(":")[2]))
    for _ in range(5):
        house.network.pass_time(1)
        for client in clients:
            sip(house, client)
    assert house.get("f", "bytes=0-9").status == 206
    assert [member.busy for member in house.cluster._members] != [2, 0]
    assert sum(member.busy for member in house.cluster._members) == 3
    for client in clients:
        client.transport.is_paused = False
    house.network.run()
    assert [read_answer(client.received, "GET", False).body == NOISE for client in clients] == [True] * 3
    house.assert_at_rest()


def test_a_download_that_was_parked_waits_for_a_place_as_long_as_it_takes() -> None:
    """And before those who have not begun."""
    house = House({"f": Stored(NOISE)}, limits=UpstreamLimits(max_upstream=1, give_way_after=100))
    parked = reading(house)
    house.network.pass_time(11)
    holder = reading(house)
    parked.transport.is_paused = False
    for _ in range(11):
        house.network.pass_time(9)
        sip(house, holder)
    assert not parked.is_closed
    late = house.send(f"/db/doc/f?token={TOKEN}", {"Range": "bytes=0-9"})
    house.network.run()
    assert late.received == b""
    holder.transport.loseConnection()
    house.network.run()
    assert read_answer(parked.received, "GET", False).body == NOISE
    assert read_answer(late.received, "GET", False).body == NOISE[:10]
    house.assert_at_rest()


def test_who_waits_for_a_place_and_leaves_is_forgotten() -> None:
    house = House({"f": Stored(NOISE)}, limits=UpstreamLimits(max_upstream=1))
    parked = reading(house)
    house.network.pass_time(11)
    holder = reading(house)
    parked.transport.is_paused = False
    house.network.run()
    parked.transport.loseConnection()
    holder.transport.is_paused = False
    house.network.run()
    assert read_answer(holder.received, "GET", False).body == NOISE
    house.assert_at_rest()


def test_whose_client_takes_nothing_gives_way_to_who_waits() -> None:
    """After a moment; and goes on where it stood when its client reads on."""

    class Stalling(Client):
        is_stalling = True

        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            self.transport.is_paused = self.is_stalling

    house = House({"f": Stored(NOISE)}, limits=UpstreamLimits(max_upstream=2))
    stalled = [Stalling() for _ in range(10)]
    for client in stalled:
        house.network.connect(GATEWAY_PORT, client)
        client.transport.write(f"GET /db/doc/f?token={TOKEN} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    house.network.pass_time(14)
    assert all(client.received.startswith(b"HTTP/1.1 200 ") for client in stalled)
    assert house.get("f", "bytes=0-9").status == 206
    for client in stalled:
        client.transport.is_paused = client.is_stalling = False
    house.network.run()
    house.network.pass_time(20)
    assert [read_answer(client.received, "GET", False).body == NOISE for client in stalled] == [True] * 10
    house.assert_at_rest()


def test_nobody_gives_way_for_nobody() -> None:
    house = House({"f": Stored(NOISE)}, limits=UpstreamLimits(max_upstream=2))
    stalled = [reading(house) for _ in range(2)]
    house.network.pass_time(9)
    assert house.cluster._members[0].busy == 2
    for client in stalled:
        client.transport.loseConnection()
    house.network.run()
    house.assert_at_rest()


@pytest.mark.parametrize("lag", ["no document yet", "an older attachment", "the revision is another"])
def test_a_node_that_lags_does_not_break_what_another_can_go_on_with(lag: str) -> None:
    rev = "2-" + "b" * 32
    house = House({"f": Stored(NOISE)}, nodes=2)
    house.doc.rev = rev
    behind: dict[str, dict[str, Doc]] = {
        "no document yet": {},
        "an older attachment": {"/db/doc": Doc({"download_token": TOKEN}, {"f": Stored(b"old")})},
        "the revision is another": {"/db/doc": Doc({"download_token": TOKEN}, {"f": Stored(NOISE)})},
    }
    client = reading(house)
    serving, other = sorted(house.nodes, key=lambda node: -len(node.asked))
    other.docs = behind[lag]
    cut(house, NODE_PORT + house.nodes.index(serving))
    client.transport.is_paused = False
    house.network.run()
    assert read_answer(client.received, "GET", client.is_closed).body == NOISE
    assert other.asked
    house.assert_at_rest()


def test_what_no_node_has_breaks_at_once() -> None:
    house = House({"f": Stored(NOISE)}, nodes=3)
    client = reading(house)
    for node in house.nodes:
        node.docs = {"/db/doc": Doc({"download_token": TOKEN}, {"f": Stored(b"new")}, rev="3-" + "c" * 32)}
    for number in range(3):
        cut(house, NODE_PORT + number)
    client.transport.is_paused = False
    house.network.run()
    assert client.is_closed
    assert not read_answer(client.received, "GET", True).is_whole
    house.assert_at_rest()


def test_silent_nodes_that_are_known_to_be_down() -> None:
    """Whoever asks waits for one question, and no longer."""
    house = House({"f": Stored(NOISE)}, nodes=2, limits=UpstreamLimits(stall_timeout=5))
    for node in house.nodes:
        _silence(node)
    house.send(f"/db/doc/f?token={TOKEN}")
    house.network.run()
    house.network.pass_time(60)
    assert {member.health.state for member in house.cluster._members} == {State.DOWN}
    client = house.send(f"/db/doc/f?token={TOKEN}")
    house.network.run()
    house.network.pass_time(6)
    got = read_answer(client.received, "GET", False)
    assert (got.status, b"cannot be reached" in got.body) == (503, True)


def _silence(node: ScriptedNode) -> None:
    node.faults = lambda _: [Mark.SILENCE]
    node.up = [Mark.SILENCE]
