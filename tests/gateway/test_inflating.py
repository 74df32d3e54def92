"""
What ranges of compressed attachments cost: passes that are shared, slots, and steps that leave turns to others.

Addresses are those that a trusted proxy tells.
"""

import gzip
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Final

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import formatEvent

from tests.gateway.house import DEFAULTS, TOKEN, Answer, Client, House, logged, read_answer
from tests.gateway.test_many_ranges import assert_parts, field_of
from tests.network import READ_SIZE, SEND_BUFFER
from tests.scripted import Asked, Doc, Mark, Script, Stored, attachment_answer
from txcouchdl.couch.decoding import STEP, Inflater
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.runs import SKIPPED_FREELY
from txcouchdl.couch.shared_decoding import MOST_COLLECTED
from txcouchdl.couch.step_budget import STEPS_A_TURN

#: More than is skipped freely, in several reads of a socket.
TEXT: Final = random.Random(4).randbytes(2 * 2**20).hex().encode()
LAST: Final = len(TEXT) - 1
STORED: Final = {
    "text": Stored.compressed(TEXT),
    "other": Stored.compressed(TEXT[::-1]),
    "encoded": Stored.encoded(gzip.compress(TEXT)),
    "f": Stored(b"quick"),
}
#: A range that is not collected, at the end.
LONG: Final = f"bytes={len(TEXT) - MOST_COLLECTED - 1}-"


def house_of(limits: UpstreamLimits = DEFAULTS, nodes: int = 1) -> House:
    return House(dict(STORED), limits=limits, nodes=nodes, trusted_proxies=["127.0.0.1"])


def send(house: House, range_: str | None, name: str = "text", address: str = "192.0.2.1", query: str = "") -> Client:
    fields = {"X-Forwarded-For": address, **({} if range_ is None else {"Range": range_})}
    return house.send(f"/db/doc/{name}?token={TOKEN}{query}", fields)


def answer_of(client: Client) -> Answer:
    return read_answer(client.received, "GET", client.is_closed)


def reads(house: House, name: str | None = None) -> int:
    """How often an attachment was asked for, or any."""
    asked = [each for node in house.nodes for each in node.asked if each.path != "/db/doc"]
    return sum(name is None or each.path == f"/db/doc/{name}" for each in asked)


def assert_ranges(clients: dict[Client, str], identity: bytes = TEXT) -> None:
    for client, range_ in clients.items():
        first, last = range_.removeprefix("bytes=").split("-")
        expected = identity[-int(last) :] if not first else identity[int(first) : int(last or LAST) + 1]
        got = answer_of(client)
        assert (got.status, got.is_whole) == (206, True)
        assert got.body == expected


# --- shared passes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["text", "encoded"])
def test_a_hundred_requests_for_the_last_byte_are_one_pass(name: str) -> None:
    house = house_of()
    if name == "encoded":
        house.get(name)
        house.node.asked.clear()
    clients = {send(house, "bytes=-1", name): "bytes=-1" for _ in range(100)}
    house.network.run()
    assert_ranges(clients)
    assert reads(house) == 1
    house.assert_at_rest()


@pytest.mark.parametrize("range_", [f"bytes={LAST - MOST_COLLECTED + 1}-", f"bytes={LAST - MOST_COLLECTED}-"])
def test_what_is_few_bytes(range_: str) -> None:
    """Long ranges have a pass each: they come faster than clients take them."""
    house = house_of()
    clients = {send(house, range_): range_ for _ in range(3)}
    house.network.run()
    assert_ranges(clients)
    assert reads(house) == (1 if "bytes=" + str(LAST - MOST_COLLECTED + 1) in range_ else 3)
    house.assert_at_rest()


def _run_until_inflated(house: House, count: int, counted: list[int]) -> None:
    house.network.run(until=lambda: sum(counted) >= count)


@pytest.fixture
def inflated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """:return: the bytes of each step that was inflated."""
    lengths: list[int] = []
    read = Inflater.read

    def noted(self: Inflater) -> bytes | None:
        piece = read(self)
        if piece:
            lengths.append(len(piece))
        return piece

    monkeypatch.setattr(Inflater, "read", noted)
    return lengths


def test_a_request_joins_a_pass_that_has_not_come_to_its_first_byte(inflated: list[int]) -> None:
    house = house_of()
    clients = {send(house, "bytes=-1"): "bytes=-1"}
    _run_until_inflated(house, 2 * 2**20, inflated)
    position = sum(inflated)
    ahead = f"bytes={position + 10 * STEP}-{position + 10 * STEP + 5}"
    clients |= {send(house, range_): range_ for range_ in (ahead, "bytes=-70000")}
    house.network.run()
    assert reads(house) == 1
    assert sum(inflated) == len(TEXT)
    assert_ranges(clients)
    house.assert_at_rest()


def test_what_a_pass_has_left_behind_begins_another_and_later_ones_join_that(inflated: list[int]) -> None:
    house = house_of()
    # So that no pass has to learn its digest.
    house.get("text")
    house.node.asked.clear()
    inflated.clear()
    clients = {send(house, "bytes=-1"): "bytes=-1"}
    _run_until_inflated(house, 2 * 2**20, inflated)
    behind = "bytes=1200000-1200005"
    clients |= {send(house, range_): range_ for range_ in (behind, "bytes=-2", behind)}
    house.network.run()
    assert reads(house) == 2
    assert_ranges(clients)
    house.assert_at_rest()


@pytest.mark.parametrize("first", [700_000, 1_100_000], ids=["without a slot", "with one"])
def test_a_pass_ends_when_nobody_wants_more_of_it(first: int, inflated: list[int]) -> None:
    house = house_of()
    ranges = [f"bytes={first + at}-{first + at + 9}" for at in (0, 50_000, 100_000)]
    clients = {send(house, range_): range_ for range_ in ranges}
    house.network.run()
    assert_ranges(clients)
    assert reads(house) == 1
    assert sum(inflated) <= first + 100_009 + STEP
    house.assert_at_rest()


def test_any_order_of_few_bytes_is_one_pass() -> None:
    ranges = [(4000 * each, 4000 * each + 9) for each in reversed(range(1000))]
    house = house_of()
    got = house.get("text", field_of(ranges))
    assert_parts(got, TEXT, ranges)
    assert reads(house) == 1
    house.assert_at_rest()


@pytest.mark.parametrize("what", ["attachment", "revision", "rule"])
def test_what_is_not_the_same_is_not_shared(what: str) -> None:
    house = house_of()
    clients = [send(house, "bytes=-1")]
    if what == "attachment":
        clients.append(send(house, "bytes=-1", "other"))
    elif what == "rule":
        # It must not go on with another revision.
        clients.append(send(house, "bytes=-1", query=f"&rev={house.doc.rev}"))
    else:
        house.network.run(until=lambda: reads(house))
        old = house.doc
        house.node.docs["/db/doc"] = Doc(old.fields, old.attachments, rev="2-0123456789abcdef0123456789abcdef")
        house.node.old_docs["/db/doc", old.rev] = old
        clients.append(send(house, "bytes=-1"))
    house.network.run()
    assert reads(house) == 2
    assert [answer_of(client).body for client in clients] == [
        TEXT[-1:],
        TEXT[:1] if what == "attachment" else TEXT[-1:],
    ]
    house.assert_at_rest()


def test_a_hundred_requests_for_ranges_of_an_unknown_length_are_two_passes() -> None:
    """One for the length, and one for the ranges."""
    house = house_of()
    clients = {send(house, "bytes=-1", "encoded"): "bytes=-1" for _ in range(100)}
    house.network.run()
    assert_ranges(clients)
    assert reads(house) == 2
    house.assert_at_rest()


def test_each_answer_tells_the_digest_that_its_pass_has_learned(inflated: list[int]) -> None:
    """A pass that is not to learn it is not joined by a request whose pass has to."""
    house = house_of()
    inner = send(house, f"bytes={LAST - 9}-{LAST - 5}")
    _run_until_inflated(house, 2**20, inflated)
    end = send(house, "bytes=-1")
    house.network.run()
    assert (answer_of(inner).status, answer_of(end).status, reads(house)) == (206, 206, 2)
    assert "sha-256=" in house.get("text", "bytes=0-0")["Repr-Digest"]


# --- those that leave, and what fails -----------------------------------------------------------------------


@pytest.mark.parametrize("leaver", [0, 1])
def test_a_pass_goes_on_without_one_of_its_clients(leaver: int, inflated: list[int]) -> None:
    """Also without the one that has begun it."""
    house = house_of()
    clients = [send(house, "bytes=-1") for _ in range(3)]
    _run_until_inflated(house, 2**20, inflated)
    clients[leaver].transport.loseConnection()
    house.network.run()
    assert_ranges({client: "bytes=-1" for number, client in enumerate(clients) if number != leaver})
    assert reads(house) == 1
    house.assert_at_rest()


def test_without_all_of_them_it_ends_at_once(inflated: list[int]) -> None:
    house = house_of()
    clients = [send(house, "bytes=-1") for _ in range(3)]
    _run_until_inflated(house, 2**20, inflated)
    for client in clients:
        client.transport.abortConnection()
    house.network.run()
    assert sum(inflated) < 2**21
    house.assert_at_rest()
    # And the next one begins a pass of its own.
    assert house.get("text", "bytes=-1").body == TEXT[-1:]


def _fails(count: int) -> Callable[[Asked], Script | None]:
    """The first so many bodies are cut short."""
    left = count

    def fault(asked: Asked) -> Script | None:
        nonlocal left
        if asked.path == "/db/doc" or not left:
            return None
        left -= 1
        return [attachment_answer(STORED["text"], asked)[:50_000], Mark.RESET]

    return fault


def test_a_pass_that_fails_fails_for_who_began_it_and_others_try_once_more() -> None:
    """Its attempts were made before theirs."""
    house = house_of()
    house.node.faults = _fails(3)
    clients = [send(house, "bytes=-1") for _ in range(5)]
    house.network.elapse(20)
    assert sorted(answer_of(client).status for client in clients) == [206, 206, 206, 206, 503]
    assert reads(house) == 4
    house.assert_at_rest()


def test_and_no_more_than_once() -> None:
    house = house_of()
    house.node.faults = _fails(1000)
    clients = [send(house, "bytes=-1") for _ in range(5)]
    house.network.elapse(60)
    assert [answer_of(client).status for client in clients] == [503] * 5
    assert reads(house) == 6
    house.assert_at_rest()


def test_a_damaged_attachment_is_a_clean_error_for_all() -> None:
    text = TEXT + b"!"
    house = House({"text": Stored(gzip.compress(TEXT), "text/plain", "gzip", len(text))})
    clients = [send(house, "bytes=-1") for _ in range(3)]
    house.network.elapse(20)
    assert [answer_of(client).status for client in clients] == [502] * 3
    house.assert_at_rest()


@pytest.mark.parametrize("range_", [None, "bytes=0-", "bytes=0-999999"])
def test_all_bytes_are_verified_however_they_are_asked_for(range_: str | None) -> None:
    """Also where they come out of gzip before its last bytes, which are no gzip, are there."""
    text = TEXT[:1000]
    stored = Stored(gzip.compress(text) + bytes(10_000), "text/plain", "gzip", len(text))
    house = House({"text": stored})
    assert house.get("text", range_).body == text
    right = attachment_answer(stored, Asked("GET", "/db/doc/text", {"accept-encoding": "gzip"}))
    house.node.faults = lambda asked: None if asked.path == "/db/doc" else [right[:-1] + b"!"]
    client = send(house, range_)
    house.network.elapse(100)
    assert client.received == b"" or not answer_of(client).is_whole or answer_of(client).status == 502


# --- slots --------------------------------------------------------------------------------------------------

LIMITS: Final = evolve(DEFAULTS, max_inflations=3, max_inflations_per_address=2, queue_timeout=5)


def silent(house: House) -> None:
    """Bodies do not come to their end."""
    house.node.faults = lambda asked: (
        None if asked.path == "/db/doc" else [attachment_answer(STORED["text"], asked)[:1000], Mark.SILENCE]
    )


def test_so_many_passes_for_an_address_and_for_all() -> None:
    house = house_of(LIMITS)
    silent(house)
    for _ in range(5):
        send(house, LONG)
    house.network.run()
    assert reads(house) == 2
    for number in range(5):
        send(house, LONG, address=f"192.0.2.{2 + number}")
    house.network.run()
    assert reads(house) == 3


def test_ipv6_counts_by_64_bits() -> None:
    house = house_of(LIMITS)
    silent(house)
    for number in range(5):
        send(house, LONG, address=f"2001:db8::{number + 1}")
    house.network.run()
    assert reads(house) == 2
    send(house, LONG, address="2001:db8:0:1::1")
    house.network.run()
    assert reads(house) == 3


def test_this_machine_has_only_the_limit_for_all() -> None:
    """It is usually a proxy that nobody has named."""
    house = House(dict(STORED), limits=LIMITS)
    silent(house)
    for _ in range(5):
        send(house, LONG)
    house.network.run()
    assert reads(house) == 3


def test_who_finds_no_slot_in_time_is_to_come_again() -> None:
    house = house_of(LIMITS)
    silent(house)
    for _ in range(2):
        send(house, LONG)
    house.network.run()
    late = [send(house, LONG), send(house, "bytes=-1", "other")]
    house.network.elapse(4.9)
    assert not any(client.received for client in late)
    with logged() as events:
        house.network.elapse(0.2)
    for client in late:
        got = answer_of(client)
        assert (got.status, got["Retry-After"]) == (503, "5")
    assert all("--max-inflations-per-address, --queue-timeout)" in formatEvent(event) for event in events)
    assert len(events) == len(late)
    # The cheap and the whole need none.
    house.node.faults = lambda _: None
    assert answer_of(_asked(house, send(house, None))).body == TEXT
    assert answer_of(_asked(house, send(house, f"bytes={SKIPPED_FREELY}-{SKIPPED_FREELY}"))).status == 206


def _asked(house: House, client: Client) -> Client:
    house.network.run()
    return client


def test_passes_that_wait_go_on_in_their_turn() -> None:
    house = house_of(LIMITS)
    clients = {send(house, LONG, address=f"192.0.2.{1 + number % 3}"): LONG for number in range(12)}
    house.network.run()
    assert_ranges(clients)
    assert reads(house) == 12
    house.assert_at_rest()


def test_who_waits_for_a_slot_joins_a_pass_that_begins_meanwhile() -> None:
    house = house_of(LIMITS)
    silent(house)
    holders = [send(house, LONG) for _ in range(2)]
    house.network.run()
    waiting = {send(house, "bytes=-7"): "bytes=-7" for _ in range(50)}
    house.network.run()
    house.node.faults = lambda _: None
    # For another address there is a slot: its pass has what they want.
    other = send(house, "bytes=-1", address="192.0.2.2")
    house.network.run()
    assert_ranges({**waiting, other: "bytes=-1"})
    assert reads(house) == 3
    for client in holders:
        client.transport.abortConnection()
    house.network.run()
    house.assert_at_rest()


def test_who_leaves_while_waiting_for_a_slot_is_forgotten() -> None:
    house = house_of(LIMITS)
    silent(house)
    holders = [send(house, LONG) for _ in range(2)]
    house.network.run()
    leavers = [send(house, range_) for range_ in (LONG, "bytes=-1", "bytes=-1")]
    house.network.run()
    for client in (*leavers, *holders):
        client.transport.abortConnection()
    house.network.run()
    house.assert_at_rest()
    house.node.faults = lambda _: None
    assert answer_of(_asked(house, send(house, LONG))).status == 206


def test_slow_clients_hold_no_slot() -> None:
    """Neither while they are sent what they want, nor while they take nothing."""
    house = house_of(LIMITS)
    gap = f"bytes=0-{2**20},{LAST - 5}-{LAST}"
    slow = [send(house, range_) for range_ in [None] * 5 + [f"bytes={2**20 + 1}-"] * 5 + [gap] * 5]
    for client in slow:
        client.transport.is_paused = True
    house.network.run()
    house.network.elapse(1)
    quick = send(house, LONG)
    house.network.run()
    assert_ranges({quick: LONG})
    for client in slow:
        client.transport.is_paused = False
    house.network.run()
    assert all(answer_of(client).is_whole for client in slow)
    assert answer_of(slow[0]).body == TEXT
    assert_ranges(dict.fromkeys(slow[5:10], f"bytes={2**20 + 1}-"))
    for client in slow[10:]:
        assert_parts(answer_of(client), TEXT, [(0, 2**20), (LAST - 5, LAST)])
    house.assert_at_rest()


def test_a_gap_behind_a_pause_is_skipped_with_a_slot_again(inflated: list[int]) -> None:
    """However many go on at the same time."""
    house = house_of(LIMITS)
    gap = f"bytes=0-{2**18},{LAST - 5}-{LAST}"
    clients = [send(house, gap) for _ in range(6)]
    for client in clients:
        client.transport.is_paused = True
    house.network.run()
    house.network.elapse(1)
    assert len(house.gateway._inflation.slots._held_by) == 0
    for client in clients:
        client.transport.is_paused = False
    most = 0
    while not all(b"--\r\n" in client.received[-10:] for client in clients):
        house.network.run(until=iter([False, True]).__next__)
        most = max(most, house.gateway._inflation.slots._held)
    assert most == 2
    house.network.run()
    for client in clients:
        assert_parts(answer_of(client), TEXT, [(0, 2**18), (LAST - 5, LAST)])
    house.assert_at_rest()


# --- turns --------------------------------------------------------------------------------------------------


def test_all_clients_together_inflate_so_much_in_a_turn(monkeypatch: pytest.MonkeyPatch, inflated: list[int]) -> None:
    house = house_of()
    for number in range(20):
        send(house, LONG, address=f"192.0.2.{number + 1}")
        send(house, None, address=f"192.0.2.{number + 1}")
    turns: list[int] = []
    turn = house.network._turn

    def counted() -> bool:
        turns.append(len(inflated))
        return turn()

    monkeypatch.setattr(house.network, "_turn", counted)
    house.network.run()
    steps = [after - before for before, after in pairwise(turns)]
    # A turn of this network moves bytes first, as a reactor's polls after what is due: budgets of two turns may meet.
    assert max(steps) <= 2 * STEPS_A_TURN
    assert sum(steps) > 40 * len(TEXT) / STEP / 2


def test_another_client_is_answered_meanwhile(inflated: list[int]) -> None:
    house = house_of()
    clients = {send(house, LONG, address=f"192.0.2.{number + 1}"): LONG for number in range(16)}
    _run_until_inflated(house, 2**20, inflated)
    before = len(inflated)
    quick = house.send(f"/db/doc/f?token={TOKEN}")
    house.network.run(until=lambda: b"quick" in quick.received)
    assert len(inflated) - before <= 20 * STEPS_A_TURN
    house.network.run()
    assert_ranges(clients)


# --- memory -------------------------------------------------------------------------------------------------


def test_what_is_collected_for_a_client_that_does_not_read_is_bounded() -> None:
    house = house_of()
    range_ = f"bytes=-{MOST_COLLECTED}"
    client = send(house, range_)
    client.transport.is_paused = True
    house.network.run()
    door = next(far for near, far in house.network.connections if near is client.transport)
    assert len(door.sent) <= MOST_COLLECTED + 4096
    client.transport.is_paused = False
    house.network.run()
    assert_ranges({client: range_})
    client = send(house, f"bytes=-{MOST_COLLECTED + 1}")
    client.transport.is_paused = True
    house.network.run()
    door = next(far for near, far in house.network.connections if near is client.transport)
    assert len(door.sent) <= SEND_BUFFER + READ_SIZE + 4096


# --- any of it ----------------------------------------------------------------------------------------------

_places = st.integers(0, LAST) | st.sampled_from([0, SKIPPED_FREELY, LAST])
_lengths = st.sampled_from([1, 100, MOST_COLLECTED, MOST_COLLECTED + 1]) | st.integers(1, 300_000)


@given(
    wanted=st.lists(
        st.tuples(_places, _lengths, st.integers(0, 40), st.sampled_from(["stays", "pauses", "leaves"])),
        min_size=1,
        max_size=6,
    ),
    total=st.integers(1, 3),
)
def test_whoever_comes_when_and_does_what_gets_its_bytes(wanted: list[tuple[int, int, int, str]], total: int) -> None:
    house = house_of(evolve(DEFAULTS, max_inflations=total, max_inflations_per_address=1, queue_timeout=1e6))
    clients: dict[Client, str] = {}
    for number, (first, length, moves, what) in enumerate(wanted):
        range_ = f"bytes={first}-{min(first + length - 1, LAST)}"
        client = send(house, range_, address=f"192.0.2.{number % 3}")
        house.network.run(until=iter([*[False] * moves, True]).__next__)
        if what == "leaves":
            client.transport.abortConnection()
            continue
        clients[client] = range_
        client.transport.is_paused = what == "pauses"
    house.network.run()
    house.network.elapse(20)
    for client in clients:
        client.transport.is_paused = False
    house.network.run()
    assert_ranges(clients)
    house.assert_at_rest()
    assert not house.gateway._inflation.passes._newest
    assert not house.gateway._inflation.passes._waiting
    assert not house.gateway._inflation.slots._held
