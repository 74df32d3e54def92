"""Nodes that take long where another one answers at once: what their clients see, and what it costs."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gateway.house import NODE_PORT, TOKEN, Answer, Client, House, read_answer
from tests.gateway.test_body_hedges import IDENTITY, Two, silent_after
from tests.gateway.test_body_hedges import STORED as BODIES
from tests.metrics.reading import counted
from tests.scripted import Asked, Mark, Script, Stored, answer, attachment_answer
from txcouchdl.couch.hedging import LEAST_BUDGET
from txcouchdl.couch.limits import UpstreamLimits

NOISE = random.Random(21).randbytes(1_000_000)
SHORT = NOISE[:5000]
STORED = {"long": Stored(NOISE), "short": Stored(SHORT)}
LIMITS = UpstreamLimits()

#: Of whichever node is asked first.
DOCUMENTS, HEADS = "documents", "heads"


def is_of(kind: str, asked: Asked) -> bool:
    return (asked.path == "/db/doc") is (kind == DOCUMENTS)


def slow_house(kind: str, nodes: int = 2, script: Script = (Mark.SILENCE,), **limits: float) -> House:
    """A house whose first node answers nothing of a kind. The first request goes there."""
    house = House(dict(STORED), nodes=nodes, limits=UpstreamLimits(**limits))  # type: ignore[arg-type]
    house.node.faults = lambda asked: script if is_of(kind, asked) else None
    return house


def begun(house: House, name: str = "long", range_: str = "bytes=100-2000") -> Client:
    client = house.send(f"/db/doc/{name}?token={TOKEN}", {"Range": range_})
    house.network.run()
    return client


def got(client: Client) -> Answer:
    return read_answer(client.received, "GET", client.is_closed)


def kinds(house: House, name: str) -> dict[str, float]:
    """What is counted of hedges, by kind."""
    told = counted(house.table)
    return {key.partition(" ")[2]: value for key, value in told.items() if key.startswith(f"{name} ")}


@pytest.mark.parametrize("kind", [DOCUMENTS, HEADS])
def test_a_node_that_does_not_answer_in_time_is_not_waited_for(kind: str) -> None:
    """A node that had just restarted was seen to take 18 s for a document."""
    house = slow_house(kind)
    client = begun(house)
    house.network.elapse(LIMITS.hedge_after - 0.01)
    assert client.received == b""
    house.network.elapse(0.01)
    assert (got(client).status, got(client).body) == (206, NOISE[100:2001])
    assert kinds(house, "hedges_total") == kinds(house, "hedges_won_total") == {kind[:-1]: 1}
    house.network.elapse(10)
    house.assert_at_rest()


@pytest.mark.parametrize("kind", [DOCUMENTS, HEADS])
def test_a_node_that_was_overtaken_is_probed(kind: str) -> None:
    """Its exchange is dropped and never fails. Each request that goes there would wait as long."""
    house = slow_house(kind)
    house.node.up = [Mark.SILENCE]
    begun(house)
    house.network.elapse(LIMITS.hedge_after)
    [health] = [member.health for member in house.cluster._members if str(member.client).endswith("5984")]
    assert health.state.name == "DOUBTED"
    assert house.get("long").body == NOISE
    house.network.elapse(6)
    assert health.state.name == "DOWN"


def test_the_slow_node_answers_first_after_all() -> None:
    house = slow_house(DOCUMENTS, script=[])
    house.nodes[1].faults = lambda _: [Mark.SILENCE]
    client = begun(house)
    house.network.elapse(LIMITS.hedge_after + 1)
    assert len(house.nodes[1].asked) == 1
    far = next(far for _, far in house.network.connections if far.address.port == 5984)
    house.node.faults = lambda _: None
    far.write(answer(200, house.doc.json("doc")))
    house.network.run()
    assert got(client).body == NOISE[100:2001]
    assert kinds(house, "hedges_total") == {"document": 1}
    assert not kinds(house, "hedges_won_total")
    assert "node_failures_total http://127.0.0.1:5984" not in counted(house.table)
    house.network.elapse(10)
    house.assert_at_rest()


@pytest.mark.parametrize("kind", [DOCUMENTS, HEADS])
def test_both_are_silent(kind: str) -> None:
    house = House(dict(STORED), nodes=3)
    for node in house.nodes:
        node.faults = lambda asked: [Mark.SILENCE] if is_of(kind, asked) else None
    client = begun(house)
    house.network.elapse(LIMITS.stall_timeout)
    assert client.received == b""
    assert sum(is_of(kind, asked) for node in house.nodes for asked in node.asked) == 2
    house.network.elapse(4 * LIMITS.stall_timeout)
    assert got(client).status == 504
    house.assert_at_rest()


@pytest.mark.parametrize("script", [[Mark.CLOSE], [answer(500, b"{}")], [answer(200, b"garbage")]])
def test_the_second_node_fails(script: Script) -> None:
    house = slow_house(DOCUMENTS)
    house.nodes[1].faults = lambda _: script
    client = begun(house)
    house.network.elapse(LIMITS.hedge_after + 1)
    assert house.nodes[1].asked
    assert client.received == b"", "the first one is waited for"
    assert sum(member.busy for member in house.cluster._members) == 1
    house.nodes[1].faults = lambda _: None
    house.network.elapse(LIMITS.stall_timeout)
    assert got(client).status == 504, "both were tried"
    house.network.elapse(20)
    house.assert_at_rest()


def test_a_document_of_the_second_node_that_cannot_be_read_is_not_waited_out() -> None:
    """Nor read again at another one, but for the second read before every refusal."""
    house = slow_house(DOCUMENTS, 3, max_document=2**16)
    for node in house.nodes[1:]:
        node.faults = lambda _: [answer(200, b" " * 70_000)]
    client = begun(house)
    house.network.elapse(LIMITS.hedge_after)
    assert got(client).status == 403
    assert sum(len(node.asked) for node in house.nodes) == 3
    house.network.elapse(10)
    house.assert_at_rest()


def test_a_node_that_has_no_such_document_answers_too() -> None:
    """It is a 403, as if it had been asked first; but a newer document is looked for."""
    house = slow_house(DOCUMENTS)
    house.nodes[1].docs = {}
    client = begun(house)
    house.network.elapse(LIMITS.hedge_after + 5)
    assert got(client).status == 403


@pytest.mark.parametrize("kind", [DOCUMENTS, HEADS])
def test_a_client_that_leaves_drops_both(kind: str) -> None:
    house = House(dict(STORED), nodes=2)
    for node in house.nodes:
        node.faults = lambda asked: [Mark.SILENCE] if is_of(kind, asked) else None
    client = begun(house)
    house.network.elapse(LIMITS.hedge_after + 1)
    assert sum(member.busy for member in house.cluster._members) == 2
    client.transport.loseConnection()
    house.network.run()
    assert sum(member.busy for member in house.cluster._members) == 0
    house.assert_at_rest()


def test_no_more_are_asked_than_the_budget_allows() -> None:
    """A cluster that is slow as a whole is not asked for everything twice."""
    house = House(dict(STORED), nodes=2)
    for node in house.nodes:
        node.faults = lambda asked: [Mark.SILENCE] if is_of(HEADS, asked) else None
    clients = [begun(house) for _ in range(60)]
    house.network.elapse(LIMITS.hedge_after * 5)
    assert sum(is_of(HEADS, asked) for node in house.nodes for asked in node.asked) == 66
    assert kinds(house, "hedges_total") == {"head": 6}
    for client in clients:
        client.transport.loseConnection()
    house.network.run()
    house.assert_at_rest()


def test_those_who_wait_for_the_budget_have_their_turns() -> None:
    house = House(dict(STORED), nodes=2)
    for node in house.nodes:
        node.faults = lambda asked: [Mark.SILENCE] if is_of(HEADS, asked) else None
    clients = [begun(house) for _ in range(10 * LEAST_BUDGET)]
    for node in house.nodes:
        node.faults = lambda _: None
    # A node that was overtaken is doubted for a moment. What it could have answered meanwhile is due again.
    house.network.elapse(4 * LIMITS.hedge_after)
    assert all(got(client).body == NOISE[100:2001] for client in clients), "none waits for the stall timeout"
    assert kinds(house, "hedges_won_total") == {"head": len(clients)}
    house.network.elapse(10)
    house.assert_at_rest()


def test_without_a_free_place_there_is_no_hedge() -> None:
    house = slow_house(HEADS, max_upstream=2)
    full = [house.cluster.spare_place([house.cluster._members[0]]) for _ in range(2)]
    assert None not in full
    client = begun(house)
    house.network.elapse(LIMITS.hedge_after + 1)
    assert client.received == b""
    assert not kinds(house, "hedges_total")
    for place in full:
        assert place is not None
        place.vacate()
    house.network.elapse(LIMITS.hedge_after)
    assert got(client).status == 206, "tried again when it is due again"


@pytest.mark.parametrize(("nodes", "after"), [(1, 3.0), (2, 0.0), (2, 30.0), (2, 100.0)])
def test_where_nothing_is_hedged(nodes: int, after: float) -> None:
    house = slow_house(HEADS, nodes, hedge_after=after)
    client = begun(house)
    house.network.elapse(LIMITS.stall_timeout - 0.5)
    assert client.received == b""
    assert not kinds(house, "hedges_total")
    assert sum(is_of(HEADS, asked) for node in house.nodes for asked in node.asked) == 1
    assert (house.cluster.hedges is None) is (nodes == 1 or not after)


def test_a_second_read_is_not_hedged() -> None:
    house = House(dict(STORED), nodes=3)
    for node in house.nodes[1:]:
        node.faults = lambda _: [Mark.SILENCE]
    client = house.send("/db/doc/long?token=wrong")
    house.network.elapse(10)
    assert got(client).status == 403
    assert not kinds(house, "hedges_total")


# Short bodies, which come in one piece.


def half_of_it(asked: Asked) -> Script:
    right = attachment_answer(STORED["short"], asked)
    return [right[: len(right) // 2], Mark.SILENCE]


def test_a_short_body_that_does_not_come_in_time() -> None:
    house = House(dict(STORED), nodes=2)
    house.node.faults = lambda asked: None if is_of(DOCUMENTS, asked) else half_of_it(asked)
    house.node.up = [Mark.SILENCE]
    # The other node is asked though it has more to do.
    places = [house.cluster.spare_place([house.cluster._members[0]]) for _ in range(3)]
    client = house.send(f"/db/doc/short?token={TOKEN}")
    house.network.elapse(LIMITS.hedge_after)
    assert (got(client).status, got(client).body) == (200, SHORT)
    assert kinds(house, "hedges_won_total") == {"body": 1}
    states = {str(member.client)[-4:]: member.health.state.name for member in house.cluster._members}
    assert states == {"5984": "DOUBTED", "5985": "UP"}
    for place in places:
        assert place is not None
        place.vacate()
    house.node.up = house.nodes[1].up
    house.network.elapse(10)
    house.assert_at_rest()


@pytest.mark.parametrize(
    ("script", "failures"),
    [
        ([Mark.CLOSE], 1),
        ([answer(200, SHORT[:9], {"ETag": f'"{STORED["short"].etag}"'}, length=len(SHORT)), Mark.CLOSE], 1),
        ([answer(404, b"{}")], 0),
        ([answer(200, SHORT, {"ETag": '"x"'})], 0),
    ],
)
@pytest.mark.parametrize("wakes", [True, False])
def test_a_short_body_whose_second_node_fails(script: Script, failures: int, wakes: bool) -> None:
    house = House(dict(STORED), nodes=2)
    house.node.faults = lambda asked: None if is_of(DOCUMENTS, asked) else half_of_it(asked)
    house.nodes[1].faults = lambda asked: script
    client = house.send(f"/db/doc/short?token={TOKEN}")
    house.network.elapse(LIMITS.hedge_after + 1)
    assert client.received == b""
    assert sum(member.busy for member in house.cluster._members) == 1
    assert counted(house.table).get("node_failures_total http://127.0.0.1:5985", 0) == failures
    assert len(house.node.asked) == 2, "the first one is waited for"
    if wakes:
        far = next(far for _, far in house.network.connections if far.address.port == 5984)
        right = attachment_answer(STORED["short"], house.node.asked[1])
        far.write(right[len(right) // 2 :])
        house.network.run()
        assert got(client).body == SHORT
    house.nodes[1].faults = lambda _: None
    house.network.elapse(2 * LIMITS.stall_timeout)
    assert got(client).body == SHORT
    house.network.elapse(20)
    house.assert_at_rest()


def test_a_client_that_leaves_while_a_short_body_is_hedged() -> None:
    house = House(dict(STORED), nodes=2)
    for node in house.nodes:
        node.faults = lambda asked: None if is_of(DOCUMENTS, asked) else half_of_it(asked)
    client = house.send(f"/db/doc/short?token={TOKEN}")
    house.network.elapse(LIMITS.hedge_after + 1)
    assert sum(member.busy for member in house.cluster._members) == 2
    client.transport.loseConnection()
    house.network.run()
    house.assert_at_rest()


# Bodies: see tests/gateway/test_body_hedges.py.


@given(
    name=st.sampled_from(sorted(IDENTITY)),
    first=st.integers(0, 700_000),
    second=st.integers(0, 700_000),
    woken=st.none() | st.tuples(st.floats(0, 40), st.integers(1, 400_000)),
    ends=st.booleans(),
    is_range=st.booleans(),
    is_direct=st.booleans(),
)
def test_whoever_brings_the_bytes_they_are_right(
    name: str, first: int, second: int, woken: tuple[float, int] | None, ends: bool, is_range: bool, is_direct: bool
) -> None:
    """Two nodes that fall silent where they like, and one that wakes up or dies when it likes."""
    limits = UpstreamLimits(short=0, worth_bypassing=2**12)
    two = Two(silent_after(first), silent_after(second), limits=limits, is_direct=is_direct)
    wanted = slice(5, 599_000) if is_range else slice(None)
    client = two.begin(name, "bytes=5-598999" if is_range else None)
    if woken is not None:
        two.network.elapse(woken[0])
    if woken is not None and two.network.open_connections(NODE_PORT):
        far, stored = two.silent_end(), BODIES[name].stored
        begin = first + (5 if is_range and name == "identity" else 0)
        if far.protocol._is_silent:
            far.write(stored[begin : begin + woken[1]])
            two.network.run()
        if ends:
            far.abortConnection()
    two.network.elapse(3 * LIMITS.stall_timeout)
    two.assert_whole(client, name, wanted)
