"""
Transfers that fall silent in the middle of a body, where another node has the same bytes.

After a compaction a transfer was seen to stay silent for minutes. ``tests/gateway/test_direct.py`` has all of this once
more, with the bytes passing the gateway by.
"""

import gzip
import random
from collections.abc import Callable

import attrs
import pytest

from tests.gateway.house import NODE_PORT, TOKEN, Answer, Client, House, read_answer
from tests.metrics.reading import counted
from tests.network import End
from tests.scripted import DYING_WORDS, Asked, Mark, Script, Stored, answer, attachment_answer
from txcouchdl.couch.hedging import LEAST_BUDGET
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.transfer import HELD_BACK

NOISE = random.Random(31).randbytes(600_000)
TEXT = NOISE.hex().encode()
IDENTITY = {"identity": NOISE, "compressed": TEXT, "encoded": TEXT}
STORED = {
    "identity": Stored(NOISE),
    "compressed": Stored.compressed(TEXT),
    "encoded": Stored.encoded(gzip.compress(TEXT)),
}
LIMITS = UpstreamLimits()
AFTER = LIMITS.hedge_after

Respond = Callable[[Asked, bytes], Script | None]


def silent_after(count: int) -> Respond:
    """So many bytes of the right body, and then nothing."""

    def respond(_: Asked, right: bytes) -> Script:
        begin = right.index(b"\r\n\r\n") + 4
        return [right[: begin + count], Mark.SILENCE]

    return respond


def only(*script: bytes | Mark) -> Respond:
    return lambda *_: script


def right(*_: object) -> None:
    """As the model answers."""


class Two:
    """
    A gateway before two nodes, the first of which is asked first. Each answers requests for bytes as listed, one after
    the other, and rightly behind that.
    """

    def __init__(
        self, first: Respond, *second: Respond, limits: UpstreamLimits = LIMITS, is_direct: bool = False
    ) -> None:
        # tests/gateway/test_direct.py has another default.
        direct = House(dict(STORED), nodes=2, limits=limits, is_direct=True) if is_direct else None
        self.house = direct or House(dict(STORED), nodes=2, limits=limits)
        self.network = self.house.network
        for node, responses in zip(self.house.nodes, ([first], second), strict=True):
            node.faults = self._faults(iter(responses))

    def _faults(self, responses: "object") -> Callable[[Asked], Script | None]:
        def fault(asked: Asked) -> Script | None:
            name = asked.path.rpartition("/")[2]
            if name not in STORED:
                return None
            respond = next(responses, right)  # type: ignore[call-overload]
            script: Script | None = respond(asked, attachment_answer(STORED[name], asked))
            return script

        return fault

    def begin(self, name: str, range_: str | None = None) -> Client:
        fields = {} if range_ is None else {"Range": range_}
        client = self.house.send(f"/db/doc/{name}?token={TOKEN}", fields)
        self.network.run()
        return client

    def asked(self, number: int) -> list[str]:
        """The Range fields of a node's requests for bytes."""
        asked = self.house.nodes[number].asked
        return [each.headers.get("range", "") for each in asked if each.path != "/db/doc"]

    @property
    def hedges(self) -> tuple[float, float]:
        """How many there were of bodies, and how many of them won."""
        told = counted(self.house.table)
        return told.get("hedges_total body", 0), told.get("hedges_won_total body", 0)

    @property
    def busy(self) -> int:
        return sum(member.busy for member in self.house.cluster._members)

    def silent_end(self) -> End:
        """The node's end of the transfer that is silent: the last but probes that was opened to the first node."""
        ends = [far for _, far in self.network.connections if far.address.port == NODE_PORT and far.is_connected]
        return max(ends, key=lambda far: far.delivered)

    def assert_whole(self, client: Client, name: str, wanted: slice = slice(None)) -> None:
        got = answer_of(client)
        assert got.is_whole
        assert got.body == IDENTITY[name][wanted]
        self.network.elapse(10)
        self.house.assert_at_rest()


def answer_of(client: Client) -> Answer:
    return read_answer(client.received, "GET", client.is_closed)


#: Where a transfer falls silent: at its head, within what is held back, further on.
PLACES = [0, 100, HELD_BACK + 1, 70_000, 200_000]
RANGES = {None: slice(None), "bytes=1000-": slice(1000, None), "bytes=1000-599990": slice(1000, 599_991)}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("range_", RANGES)
@pytest.mark.parametrize("name", IDENTITY)
def test_another_node_goes_on_where_a_transfer_is_silent(name: str, range_: str | None, place: int) -> None:
    two = Two(silent_after(place))
    client = two.begin(name, range_)
    two.network.elapse(AFTER - 0.1)
    assert not two.asked(1)
    two.network.elapse(0.2)
    two.assert_whole(client, name, RANGES[range_])
    assert two.hedges == (1, 1)
    assert len(two.asked(0)) == 1
    # Of what was uploaded compressed, the length is found out before.
    assert len(two.asked(1)) == (2 if name == "encoded" and range_ is not None else 1)


def test_a_body_that_is_all_held_back_takes_over_when_it_is_complete() -> None:
    little = Stored.compressed(TEXT[:1000])
    two = Two(right)
    two.house.doc.attachments["little"] = little
    two.house.node.faults = lambda asked: (
        silent_after(10)(asked, attachment_answer(little, asked)) if asked.path != "/db/doc" else None
    )
    client = two.house.send(f"/db/doc/little?token={TOKEN}")
    two.network.elapse(AFTER)
    assert answer_of(client).body == TEXT[:1000]
    assert two.hedges == (1, 1)
    assert counted(two.house.table)["node_failures_total http://127.0.0.1:5984"] == 1
    two.network.elapse(10)
    two.house.assert_at_rest()


def test_it_is_asked_for_the_first_byte_that_was_not_released() -> None:
    two = Two(silent_after(300_000))
    client = two.begin("identity", "bytes=1000-500000")
    two.network.elapse(AFTER)
    assert two.asked(1) == [f"bytes={1000 + 300_000 - HELD_BACK}-{500_000 + HELD_BACK}"]
    two.assert_whole(client, "identity", slice(1000, 500_001))
    assert counted(two.house.table)["healings_total stalled"] == 1


def test_the_other_node_is_asked_though_it_has_more_to_do() -> None:
    two = Two(silent_after(300_000))
    [first] = [member for member in two.house.cluster._members if str(member.client).endswith(str(NODE_PORT))]
    places = [two.house.cluster.spare_place([first]) for _ in range(3)]
    client = two.house.send(f"/db/doc/identity?token={TOKEN}")
    two.network.elapse(AFTER)
    assert [len(two.asked(number)) for number in (0, 1)] == [1, 1]
    for place in places:
        assert place is not None
        place.vacate()
    two.assert_whole(client, "identity")


def test_the_node_that_was_silent_is_probed_and_avoided() -> None:
    two = Two(silent_after(300_000))
    two.house.node.up = [Mark.SILENCE]
    client = two.begin("identity")
    two.network.elapse(AFTER)
    assert answer_of(client).is_whole
    states = {str(member.client): member.health.state.name for member in two.house.cluster._members}
    assert states == {f"http://127.0.0.1:{NODE_PORT}": "DOUBTED", f"http://127.0.0.1:{NODE_PORT + 1}": "UP"}


def test_a_transfer_that_is_slow_is_not_silent() -> None:
    two = Two(silent_after(300_000))
    client = two.begin("identity")
    far, begin = two.silent_end(), 300_000
    for _ in range(20):
        two.network.elapse(AFTER - 0.1)
        far.write(NOISE[begin : begin + 10])
        begin += 10
    assert two.hedges == (0, 0)
    far.write(NOISE[begin:])
    two.network.run()
    two.assert_whole(client, "identity")


@pytest.mark.parametrize("count", [1, HELD_BACK, 100_000])
def test_the_silent_transfer_wakes_up_first(count: int) -> None:
    two = Two(silent_after(300_000), only(Mark.SILENCE))
    client = two.begin("identity")
    two.network.elapse(AFTER + 1)
    assert (len(two.asked(1)), two.busy) == (1, 2)
    far = two.silent_end()
    far.write(NOISE[300_000 : 300_000 + count])
    two.network.run()
    assert two.busy == 1, "the second one is dropped"
    assert two.hedges == (1, 0)
    two.network.elapse(AFTER)
    assert len(two.asked(1)) == 2, "another silence, another hedge"
    two.assert_whole(client, "identity")


def test_what_the_silent_transfer_brings_too_late_is_nobodys() -> None:
    two = Two(silent_after(300_000), silent_after(100_000))
    client = two.begin("identity")
    two.network.elapse(AFTER)
    assert two.hedges == (1, 1)
    received = len(client.received)
    far = two.silent_end()
    far.write(b"x" * 100_000)
    two.network.run()
    assert len(client.received) == received
    two.network.elapse(AFTER)
    two.assert_whole(client, "identity")


@pytest.mark.parametrize("count", [0, 1, HELD_BACK])
def test_a_second_transfer_that_brings_nothing_new_takes_nothing_over(count: int) -> None:
    """What it holds back may be an error text."""
    two = Two(silent_after(300_000), silent_after(count))
    client = two.begin("identity")
    two.network.elapse(LIMITS.stall_timeout - 1)
    assert (two.hedges, two.busy) == ((1, 0), 2)
    far = two.silent_end()
    far.write(NOISE[300_000:])
    two.network.run()
    two.assert_whole(client, "identity")


@pytest.mark.parametrize("name", ["compressed", "encoded"])
def test_a_second_transfer_that_brings_what_is_known_takes_nothing_over(name: str) -> None:
    """Of gzip, all of it is read again, and skipped."""
    two = Two(silent_after(300_000), silent_after(200_000))
    client = two.begin(name)
    two.network.elapse(LIMITS.stall_timeout - 1)
    assert (two.hedges, two.busy) == ((1, 0), 2)
    two.silent_end().write(STORED[name].stored[300_000:])
    two.network.run()
    two.assert_whole(client, name)


NO_BODIES: dict[str, Respond] = {
    "500": only(answer(500, b'{"error":"badmatch"}')),
    "404": only(answer(404, b'{"error":"not_found","reason":"missing"}')),
    "another": only(answer(200, NOISE, {"ETag": '"x"'})),
    "refused": only(Mark.CLOSE),
    "garbage": only(b"what?\r\n\r\n", Mark.SILENCE),
    "lost": lambda _, answered: [answered[:3000], Mark.RESET],
    "dying": lambda _, answered: [answered[:3000], DYING_WORDS, Mark.CLOSE],
}


@pytest.mark.parametrize("no_body", NO_BODIES)
@pytest.mark.parametrize("name", IDENTITY)
def test_a_second_node_that_fails_changes_nothing(name: str, no_body: str) -> None:
    two = Two(silent_after(300_000), NO_BODIES[no_body], NO_BODIES[no_body])
    client = two.begin(name)
    two.network.elapse(AFTER + 1)
    assert (two.hedges, two.busy) == ((1, 0), 1)
    received = len(client.received)
    two.network.elapse(LIMITS.stall_timeout - AFTER - 2)
    assert len(client.received) == received
    assert not client.is_closed
    two.network.elapse(10)
    two.assert_whole(client, name)


def test_a_second_node_that_failed_and_a_first_one_that_goes_on() -> None:
    two = Two(silent_after(300_000), NO_BODIES["500"])
    client = two.begin("identity")
    two.network.elapse(AFTER + 1)
    two.silent_end().write(NOISE[300_000:])
    two.network.run()
    two.assert_whole(client, "identity")


@pytest.mark.parametrize("second", ["no head", "no body", "a part that is held back"])
def test_the_first_transfer_is_lost_while_the_second_is_silent(second: str) -> None:
    """No third one is opened: the second one goes on in its place."""
    count = HELD_BACK if second == "a part that is held back" else 0
    two = Two(silent_after(300_000), only(Mark.SILENCE) if second == "no head" else silent_after(count))
    client = two.begin("identity")
    two.network.elapse(AFTER + 1)
    two.silent_end().abortConnection()
    two.network.run()
    two.network.elapse(1)
    assert [len(two.asked(number)) for number in (0, 1)] == [1, 1]
    assert two.busy == 1
    [far] = [
        far
        for _, far in two.network.connections
        if far.address.port == NODE_PORT + 1 and far.is_connected and far.protocol._is_silent
    ]
    first = 300_000 - HELD_BACK
    asked = Asked("GET", "", {"range": f"bytes={first}-{len(NOISE) - 1}"})
    answered = attachment_answer(STORED["identity"], asked)
    begin = 0 if second == "no head" else answered.index(b"\r\n\r\n") + 4 + count
    far.write(answered[begin:])
    two.network.run()
    two.assert_whole(client, "identity")
    assert counted(two.house.table)["healings_total lost"] == 1
    assert two.hedges == (1, 0)


def test_both_are_silent_for_good() -> None:
    two = Two(silent_after(300_000), *[only(Mark.SILENCE)] * 99)
    two.house.node.faults = first_and_then_silent(two.house.node.faults)
    client = two.begin("identity")
    two.network.elapse(LIMITS.give_up + 2 * LIMITS.stall_timeout)
    assert client.is_closed
    got = answer_of(client)
    assert not got.is_whole
    assert NOISE.startswith(got.body)
    two.network.elapse(20)
    two.house.assert_at_rest()


def first_and_then_silent(fault: Callable[[Asked], Script | None]) -> Callable[[Asked], Script | None]:
    seen: list[Asked] = []

    def respond(asked: Asked) -> Script | None:
        if asked.path == "/db/doc":
            return None
        seen.append(asked)
        return fault(asked) if len(seen) == 1 else [Mark.SILENCE]

    return respond


# Compaction, which is what makes transfers silent.


def edited(two: Two, **attachments: Stored) -> None:
    """The document is edited, and its old revision is compacted away."""
    old = two.house.doc
    two.house.node.docs["/db/doc"] = attrs.evolve(
        old, rev="2-fedcba9876543210fedcba9876543210", attachments={**old.attachments, **attachments}
    )


@pytest.mark.parametrize("name", IDENTITY)
def test_the_second_node_has_another_revision_by_then(name: str) -> None:
    two = Two(silent_after(300_000))
    client = two.begin(name)
    edited(two)
    two.network.elapse(AFTER)
    two.assert_whole(client, name)
    assert two.hedges == (1, 1)
    assert two.house.nodes[1].asked[-1].target.endswith("?rev=2-fedcba9876543210fedcba9876543210")


@pytest.mark.parametrize("name", IDENTITY)
@pytest.mark.parametrize("what", ["changed", "removed", "the document", "longer ago"])
def test_the_second_node_has_another_attachment_by_then(name: str, what: str) -> None:
    """It is not read. The silent transfer may still bring the right one."""
    two = Two(silent_after(300_000))
    query = "&rev=" + two.house.doc.rev if what == "longer ago" else ""
    client = two.house.send(f"/db/doc/{name}?token={TOKEN}{query}")
    two.network.run()
    edited(two, **({name: Stored(b"another")} if what == "changed" else {}))
    if what == "removed":
        del two.house.doc.attachments[name]
    if what == "the document":
        del two.house.node.docs["/db/doc"]
    two.network.elapse(AFTER + 1)
    assert two.hedges == (1, 0)
    assert two.busy == 1
    two.silent_end().write(STORED[name].stored[300_000:])
    two.network.run()
    two.assert_whole(client, name)


# Clients.


def test_a_client_that_reads_nothing_has_no_second_transfer() -> None:
    """The transfer is paused, and silent for that reason alone."""
    two = Two(right)
    client = two.house.send(f"/db/doc/identity?token={TOKEN}")
    client.transport.is_paused = True
    two.network.run()
    two.network.elapse(LIMITS.park_after - 1)
    assert two.hedges == (0, 0)
    client.transport.is_paused = False
    two.network.run()
    two.assert_whole(client, "identity")


def test_a_client_that_stops_reading_drops_the_second_transfer() -> None:
    two = Two(silent_after(300_000), only(Mark.SILENCE))
    client = two.begin("identity")
    two.network.elapse(AFTER + 1)
    assert two.busy == 2
    client.transport.is_paused = True
    # More than fits on the way to the client.
    two.silent_end().write(NOISE[300_000:])
    two.network.run()
    assert two.busy == 1
    client.transport.is_paused = False
    two.network.run()
    two.assert_whole(client, "identity")


@pytest.mark.parametrize("name", IDENTITY)
def test_a_client_that_leaves_drops_both(name: str) -> None:
    two = Two(silent_after(300_000), silent_after(100))
    client = two.begin(name)
    two.network.elapse(AFTER + 1)
    assert two.busy == 2
    client.transport.loseConnection()
    two.network.run()
    assert two.busy == 0
    two.network.elapse(10)
    two.house.assert_at_rest()


# What is right and what it costs.


def test_wrong_bytes_of_the_second_node_are_noticed_where_a_digest_tells() -> None:
    def bad(_: Asked, answered: bytes) -> Script:
        return [answered[:-1] + bytes([answered[-1] ^ 1])]

    two = Two(silent_after(300_000), bad)
    client = two.begin("identity")
    two.network.elapse(AFTER)
    two.assert_whole(client, "identity")
    assert two.asked(0)[1:] == [f"bytes={len(NOISE) - HELD_BACK}-{len(NOISE) - 1}"], "the end was read once more"


def test_an_error_text_of_the_second_node_is_no_end_of_a_range() -> None:
    def dying(asked: Asked, answered: bytes) -> Script:
        return [answered[: -len(DYING_WORDS)] + DYING_WORDS, Mark.CLOSE]

    two = Two(silent_after(300_000), dying)
    client = two.begin("identity", "bytes=1000-")
    two.network.elapse(AFTER)
    two.assert_whole(client, "identity", slice(1000, None))


def test_nothing_is_hedged_where_it_is_turned_off() -> None:
    for after in (0.0, LIMITS.stall_timeout, 1000.0):
        two = Two(silent_after(300_000), limits=attrs.evolve(LIMITS, hedge_after=after))
        client = two.begin("identity")
        two.network.elapse(LIMITS.stall_timeout - 0.1)
        assert not two.asked(1)
        two.network.elapse(0.2)
        two.assert_whole(client, "identity")
        assert two.hedges == (0, 0)


def test_a_single_node_has_no_second() -> None:
    house = House(dict(STORED))
    house.node.faults = lambda asked: (
        silent_after(300_000)(asked, attachment_answer(STORED["identity"], asked))
        if "range" not in asked.headers and asked.path != "/db/doc"
        else None
    )
    client = house.send(f"/db/doc/identity?token={TOKEN}")
    house.network.elapse(LIMITS.stall_timeout - 0.1)
    assert len(house.node.asked) == 2
    house.network.elapse(0.2)
    assert answer_of(client).body == NOISE
    house.assert_at_rest()


def test_no_more_second_transfers_than_the_budget_allows() -> None:
    house = House(dict(STORED), nodes=2)
    for node in house.nodes:
        node.faults = lambda asked: (
            None
            if asked.path == "/db/doc"
            else silent_after(50_000)(asked, attachment_answer(STORED["identity"], asked))
        )
    clients = [house.send(f"/db/doc/identity?token={TOKEN}") for _ in range(20)]
    house.network.run()
    for node in house.nodes:
        node.faults = lambda asked: None if asked.path == "/db/doc" else [Mark.SILENCE]
    house.network.elapse(LIMITS.stall_timeout - 1)
    assert counted(house.table)["hedges_total body"] == LEAST_BUDGET
    assert sum(member.busy for member in house.cluster._members) == 20 + LEAST_BUDGET
    for client in clients:
        client.transport.loseConnection()
    house.network.run()
    house.network.elapse(10)
    house.assert_at_rest()
