"""A gateway before nodes that answer, and had better not be used: drained by their operator, or cut off."""

import pytest

from tests.gateway.house import TOKEN, House, logged, read_answer
from tests.metrics.reading import counted
from tests.scripted import Mark, Script, Stored, answer, membership
from txcouchdl.couch.health import State
from txcouchdl.couch.health_checks import INTERVAL

DATA = bytes(range(256)) * 4000

MAINTENANCE = answer(404, b'{"status":"maintenance_mode"}\n')
#: What a CouchDB answers to a user who is no server admin.
NO_ADMIN = answer(401, b'{"error":"unauthorized","reason":"You are not a server admin."}\n')


def asked(house: House) -> list[int]:
    """How often each node was asked by ten requests."""
    before = [len(node.asked) for node in house.nodes]
    for _ in range(10):
        assert house.get("f", "bytes=0-9").body == DATA[:10]
    return [len(node.asked) - count for node, count in zip(house.nodes, before, strict=True)]


def states(house: House) -> list[State]:
    members = sorted(house.cluster._members, key=lambda member: str(member.client))
    return [member.health.state for member in members]


@pytest.mark.parametrize("status", ["maintenance_mode", "nolb"])
def test_a_node_in_maintenance_mode_gets_no_new_requests(status: str) -> None:
    """Though it answers all of them."""
    house = House({"f": Stored(DATA)}, nodes=3)
    assert min(asked(house)) > 0
    house.nodes[0].up = [answer(404, b'{"status":"%s"}\n' % status.encode())]
    house.network.pass_time(INTERVAL)
    assert asked(house)[0] == 0
    assert counted(house.table).get("node_aside http://127.0.0.1:5984") == 1
    assert counted(house.table).get("node_up http://127.0.0.1:5984") == 1
    house.nodes[0].up = house.nodes[1].up
    house.network.pass_time(2 * INTERVAL)
    assert min(asked(house)) > 0
    assert counted(house.table).get("node_aside http://127.0.0.1:5984") is None
    house.assert_at_rest()


def test_a_download_from_a_node_that_is_drained_goes_on() -> None:
    house = House({"f": Stored(DATA)}, nodes=2)
    client = house.send(f"/db/doc/f?token={TOKEN}")
    house.network.run(until=lambda: len(client.received) > 200_000)
    client.transport.is_paused = True
    [number] = [number for number, node in enumerate(house.nodes) if len(node.asked) == 2]
    house.nodes[number].up = [MAINTENANCE]
    house.network.pass_time(INTERVAL)
    assert states(house)[number] is State.ASIDE
    client.transport.is_paused = False
    house.network.run()
    assert read_answer(client.received, "GET", False).body == DATA
    assert len(house.nodes[number].asked) == 2
    assert not house.nodes[1 - number].asked
    house.assert_at_rest()


def test_nodes_that_are_all_drained_are_used_as_before() -> None:
    house = House({"f": Stored(DATA)}, nodes=2)
    for node in house.nodes:
        node.up = [MAINTENANCE]
    asked(house)
    assert states(house) == [State.ASIDE] * 2
    assert min(asked(house)) > 0


def test_a_node_that_is_cut_off_from_its_cluster_gets_no_requests() -> None:
    """It answers ``/_up`` with 200, and all requests, with documents as they were."""
    house = House({"f": Stored(DATA)}, nodes=3)
    house.nodes[0].membership = house.nodes[1].membership = [membership(2, 3)]
    house.nodes[2].membership = [membership(1, 3)]
    asked(house)
    assert asked(house)[2] == 0
    for node in house.nodes:
        node.membership = [membership(3, 3)]
    house.network.pass_time(INTERVAL)
    assert min(asked(house)) > 0
    house.assert_at_rest()


#: What stands for no membership.
NO_MEMBERSHIPS: dict[str, Script] = {
    "no admin": [NO_ADMIN],
    "a proxy that keeps it to itself": [answer(404, b"<html>not here</html>")],
    "a redirect": [answer(302, b"", {"Location": "/_utils"})],
    "something else": [answer(200, b"[]")],
    "too much": [answer(200, b" " * 70_000)],
    "an error": [answer(500, membership(1, 3).partition(b"\r\n\r\n")[2])],
    "no answer": [Mark.CLOSE],
    "silence": [Mark.SILENCE],
}


@pytest.mark.parametrize("script", NO_MEMBERSHIPS.values(), ids=NO_MEMBERSHIPS)
def test_nodes_that_do_not_say_whom_they_see_are_all_used(script: Script) -> None:
    house = House({"f": Stored(DATA)}, nodes=3)
    house.nodes[2].membership = script
    house.nodes[0].membership = house.nodes[1].membership = [membership(2, 3)]
    asked(house)
    house.network.pass_time(6)
    assert states(house) == [State.UP] * 3
    assert min(asked(house)) > 0
    house.network.elapse(30)
    house.assert_at_rest()


def test_a_gateway_that_is_no_admin_says_once_that_it_cannot_notice() -> None:
    house = House({"f": Stored(DATA)}, nodes=2)
    for node in house.nodes:
        node.membership = [NO_ADMIN]
    with logged() as events:
        for _ in range(10):
            asked(house)
            house.network.pass_time(INTERVAL)
    assert sum("server admins only" in str(event["log_format"]) for event in events) == 1


def test_nobody_is_asked_when_nothing_is_to_do() -> None:
    house = House({"f": Stored(DATA)}, nodes=2)
    asked(house)
    house.network.elapse(1000)
    checked = [len(node.probes) for node in house.nodes]
    assert max(checked) <= 2
    house.network.elapse(100_000)
    assert [len(node.probes) for node in house.nodes] == checked
    assert not house.network.calls
