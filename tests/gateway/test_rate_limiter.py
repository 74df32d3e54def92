"""Guesses, their turns and their queues, on a clock of their own; for one process, and for two."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from txcouchdl.couch.errors import UpstreamUnavailable
from txcouchdl.couch.names import DocumentAddress
from txcouchdl.gateway.errors import Forbidden, TooManyGuesses
from txcouchdl.gateway.guess_queue import LONGEST_QUEUE, LONGEST_WAIT
from txcouchdl.gateway.guess_table import PERIOD, GuessTable
from txcouchdl.gateway.guesses import GUESS_LIMIT, RateLimiter
from txcouchdl.gateway.tally import Tally
from txcouchdl.workers.shared_minutes import new_table, shared_table

# A time at which floats are coarse.
_NOW = 1.75e9
_DOCUMENT = DocumentAddress("db", "doc")


class _Counting(Tally):
    def __init__(self) -> None:
        self.wrong = self.delayed = self.refused = 0

    def wrong_token(self) -> None:
        self.wrong += 1

    def guess_delayed(self) -> None:
        self.delayed += 1

    def guess_refused(self) -> None:
        self.refused += 1


@define(eq=False)
class _Request:
    """A request, and its outcome."""

    answering: "Deferred[Any]" = field(factory=Deferred)
    outcomes: list[str | Failure] = field(factory=list)

    @property
    def outcome(self) -> str:
        """``right``, the name of an error, or ``waits``."""
        if not self.outcomes:
            return "waits"
        [outcome] = self.outcomes
        return type(outcome.value).__name__ if isinstance(outcome, Failure) else outcome


class _Gate:
    """
    The rate limiters of some processes, one with each table, and the requests that come to them.

    :ivar compared: the times in seconds from the start at which secrets were, and which.
    :ivar reads: of documents, that are under way if ``is_slow``.
    """

    def __init__(self, limit: int = 3, tables: Sequence[GuessTable] = (), max_waiting: int = 1024) -> None:
        self.clock = Clock()
        self.clock.advance(_NOW)
        self.tally = _Counting()
        own = tables or [GuessTable.own()]
        self.limiters = [RateLimiter(limit, self.clock, table, self.tally, max_waiting) for table in own]
        self.compared: list[tuple[float, bytes]] = []
        self.right = {b"right"}
        self.reads: list[Deferred[None]] = []
        self.is_slow = False

    @property
    def times(self) -> list[float]:
        return [time for time, _ in self.compared]

    def ask(
        self,
        secret: bytes = b"wrong",
        client: str = "192.0.2.1",
        process: int = 0,
    ) -> _Request:
        request = _Request()
        request.answering = Deferred.fromCoroutine(self._check(secret, client, self.limiters[process]))
        request.answering.addBoth(request.outcomes.append)
        return request

    async def _check(self, secret: bytes, client: str, limiter: RateLimiter) -> str:
        with await limiter.admit(client, _DOCUMENT, secret):
            self.compared.append((self.clock.seconds() - _NOW, secret))
            if self.is_slow:
                read: Deferred[None] = Deferred()
                self.reads.append(read)
                await read
            if secret not in self.right:
                raise Forbidden
        return "right"

    def use_up(self, limit: int = 3, client: str = "192.0.2.1") -> None:
        """Be wrong as often as an address may be."""
        assert [self.ask(client=client).outcome for _ in range(limit)] == ["Forbidden"] * limit

    def assert_at_rest(self) -> None:
        assert self.clock.getDelayedCalls() == []
        assert all(not limiter._queues and limiter._waiting == 0 for limiter in self.limiters)


def outcomes(requests: Sequence[_Request]) -> list[str]:
    return [request.outcome for request in requests]


@pytest.fixture
def gate() -> _Gate:
    return _Gate()


@pytest.fixture(params=[1, 2], ids=["one process", "two processes"])
def tables(request: pytest.FixtureRequest) -> Iterator[list[GuessTable]]:
    if request.param == 1:
        yield [GuessTable.own()]
        return
    descriptor = new_table()
    yield [shared_table(descriptor) for _ in range(request.param)]
    os.close(descriptor)


# --- waiting ------------------------------------------------------------------------------------------------


def test_past_the_limit_guesses_wait_for_their_turns(gate: _Gate) -> None:
    gate.use_up()
    waiting = [gate.ask(b"%d" % number) for number in range(LONGEST_QUEUE)]
    assert outcomes(waiting) == ["waits"] * LONGEST_QUEUE
    for _ in range(40):
        gate.clock.advance(0.5)
    assert outcomes(waiting) == ["Forbidden"] * LONGEST_QUEUE
    assert gate.compared[3:] == [(1, b"0"), (3, b"1"), (7, b"2"), (12, b"3"), (17, b"4")]
    gate.assert_at_rest()


def test_an_address_whose_turn_it_is_does_not_wait(gate: _Gate) -> None:
    gate.use_up()
    gate.clock.advance(10)
    assert gate.ask().outcome == "Forbidden"
    assert gate.ask().outcome == "waits"


def test_no_limit() -> None:
    gate = _Gate(limit=0)
    assert {gate.ask().outcome for _ in range(1000)} == {"Forbidden"}
    assert gate.ask(b"right").outcome == "right"
    assert (gate.tally.wrong, gate.tally.delayed) == (1000, 0)


@pytest.mark.parametrize(
    ("one", "other", "is_the_same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("unix", "unix", True),
        ("unix", "unknown", False),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("2001:db8:0:1::", "2001:db8::ffff:ffff:ffff:ffff", False),
        ("::1", "0.0.0.0", False),
    ],
)
def test_addresses_that_count_as_one(gate: _Gate, one: str, other: str, is_the_same: bool) -> None:
    gate.use_up(client=one)
    assert gate.ask(client=one).outcome == "waits"
    assert (gate.ask(client=other).outcome == "waits") == is_the_same


def test_a_secret_that_was_right_does_not_wait(gate: _Gate) -> None:
    """Whatever address it comes from; and it overtakes all that wait."""
    assert gate.ask(b"right", "192.0.2.99").outcome == "right"
    gate.use_up()
    waiting = [gate.ask() for _ in range(LONGEST_QUEUE + 1)]
    for _ in range(100):
        assert gate.ask(b"right").outcome == "right"
    assert outcomes(waiting) == ["waits"] * LONGEST_QUEUE + ["TooManyGuesses"]
    for request in waiting[:-1]:
        request.answering.cancel()
    # For days, as long as it is used.
    for _ in range(10):
        gate.clock.advance(PERIOD)
        gate.use_up()
        assert gate.ask(b"right").outcome == "right"
    assert gate.tally.delayed == LONGEST_QUEUE


def test_what_was_right_is_compared_all_the_same(gate: _Gate) -> None:
    """Revoked, it is refused at once, counts, and waits from then on."""
    assert gate.ask(b"right").outcome == "right"
    gate.right.clear()
    assert gate.ask(b"right").outcome == "Forbidden"
    gate.use_up(2)
    assert gate.ask(b"right").outcome == "waits"
    assert gate.tally.wrong == 3


def test_right_secrets_are_no_guesses(gate: _Gate) -> None:
    gate.right = {b"%d" % number for number in range(1000)}
    assert {gate.ask(each).outcome for each in sorted(gate.right)} == {"right"}
    gate.use_up()


def test_what_cannot_be_compared_is_no_guess(gate: _Gate) -> None:
    gate.is_slow = True
    for _ in range(10):
        request = gate.ask()
        gate.reads.pop().errback(UpstreamUnavailable())
        assert request.outcome == "UpstreamUnavailable"
    gate.is_slow = False
    gate.use_up()
    gate.is_slow = True
    one, other = gate.ask(), gate.ask(b"right")
    gate.clock.advance(1)
    gate.reads.pop().errback(UpstreamUnavailable())
    assert (one.outcome, len(gate.reads)) == ("UpstreamUnavailable", 1), "the next turn begins at once"
    gate.reads.pop().callback(None)
    assert other.outcome == "right"


def test_leaving_is_no_way_around_the_limit(gate: _Gate) -> None:
    gate.is_slow = True
    for _ in range(3):
        request = gate.ask()
        request.answering.cancel()
        assert request.outcome == "CancelledError"
    gate.is_slow = False
    waiting = gate.ask()
    assert waiting.outcome == "waits"
    assert gate.tally.wrong == 0, "nothing was wrong"
    # They count as wrong ones, and are not waited for.
    gate.clock.advance(1)
    assert waiting.outcome == "Forbidden"


# --- at once ------------------------------------------------------------------------------------------------


def test_a_flood_is_no_way_around_the_limit(gate: _Gate) -> None:
    """As many are compared as the limit says, however many come before the first answer."""
    gate.is_slow = True
    flood = [gate.ask() for _ in range(1000)]
    assert len(gate.reads) == 3
    for _ in range(3):
        gate.reads.pop(0).callback(None)
    gate.clock.advance(0.25)
    assert len(gate.reads) == 0
    assert outcomes(flood) == ["Forbidden"] * 3 + ["waits"] * LONGEST_QUEUE + ["TooManyGuesses"] * (997 - LONGEST_QUEUE)
    assert gate.tally.refused == 997 - LONGEST_QUEUE


def test_many_right_ones_at_once_wait_for_answers_and_not_for_turns(gate: _Gate) -> None:
    gate.right = {b"%d" % number for number in range(1000)}
    gate.is_slow = True
    crowd = [gate.ask(each) for each in sorted(gate.right)]
    assert len(gate.reads) == 3
    while gate.reads:
        gate.reads.pop(0).callback(None)
    assert outcomes(crowd) == ["right"] * 1000
    assert gate.clock.seconds() == _NOW
    gate.assert_at_rest()


def test_a_crowd_whose_answers_come_at_once(gate: _Gate) -> None:
    """One request lets the next one go, and that one the next, without one call inside the other."""
    gate.right = {b"%d" % number for number in range(1000)}
    gate.is_slow = True
    crowd = [gate.ask(each) for each in sorted(gate.right)]
    gate.is_slow = False
    gate.reads.pop().callback(None)
    assert outcomes(crowd) == ["right" if number > 1 else "waits" for number in range(1000)]


def test_an_answer_at_another_process_is_noticed_soon() -> None:
    descriptor = new_table()
    gate = _Gate(1, [shared_table(descriptor), shared_table(descriptor)])
    gate.right = {b"one", b"other"}
    gate.is_slow = True
    one, other = gate.ask(b"one"), gate.ask(b"other", process=1)
    gate.reads.pop(0).callback(None)
    assert (one.outcome, len(gate.reads)) == ("right", 0)
    gate.clock.advance(0.1)
    gate.reads.pop(0).callback(None)
    assert other.outcome == "right"
    gate.assert_at_rest()
    os.close(descriptor)


# --- queues -------------------------------------------------------------------------------------------------


def test_a_right_one_behind_many_wrong_ones(gate: _Gate) -> None:
    """It waits for no more than the stated time."""
    gate.right = {b"right", b"right too"}
    gate.use_up()
    for _ in range(10):
        gate.ask()
    gate.clock.pump([1, 2, 4, 5])
    ahead = LONGEST_QUEUE - 1
    assert len(gate.times) == 3 + 4
    gate.clock.advance(0.25)
    queue = [gate.ask(b"wrong") for _ in range(ahead - 1)]
    right, too = gate.ask(b"right"), gate.ask(b"right too")
    assert (right.outcome, too.outcome) == ("waits", "TooManyGuesses")
    while right.outcome == "waits":
        gate.clock.advance(0.25)
    assert outcomes(queue) == ["Forbidden"] * (ahead - 1)
    assert gate.clock.seconds() - _NOW - 12.25 <= LONGEST_WAIT
    # Now it is known.
    assert gate.ask(b"right").outcome == "right"


def test_a_right_one_lets_the_next_one_go(gate: _Gate) -> None:
    gate.right = {b"0", b"1", b"3"}
    gate.use_up()
    waiting = [gate.ask(each) for each in (b"0", b"1", b"2", b"3")]
    gate.clock.advance(1)
    assert outcomes(waiting) == ["right", "right", "Forbidden", "waits"]
    gate.clock.advance(2)
    assert waiting[3].outcome == "right"
    assert gate.times[3:] == [1, 1, 1, 3]
    gate.assert_at_rest()


def test_requests_with_the_same_secret_go_together(gate: _Gate) -> None:
    gate.use_up()
    same = [gate.ask(b"right"), gate.ask(b"wrong"), gate.ask(b"right"), gate.ask(b"right")]
    gate.clock.advance(1)
    assert outcomes(same) == ["right", "Forbidden", "right", "right"]
    gate.assert_at_rest()


def test_a_new_request_does_not_overtake(gate: _Gate) -> None:
    """Not even when a turn has come, and the first request in the queue does not know yet."""
    gate.use_up()
    first = gate.ask(b"right")
    gate.clock.rightNow += 1
    second = gate.ask(b"another")
    gate.clock.advance(0)
    assert (first.outcome, second.outcome) == ("right", "Forbidden")
    assert [secret for _, secret in gate.compared[3:]] == [b"right", b"another"]


def test_a_client_that_leaves_gives_its_place_to_the_next(gate: _Gate) -> None:
    gate.use_up()
    waiting = [gate.ask(b"%d" % number) for number in range(LONGEST_QUEUE)]
    assert gate.ask().outcome == "TooManyGuesses"
    waiting[0].answering.cancel()
    waiting[2].answering.cancel()
    more = [gate.ask(b"more"), gate.ask(b"more"), gate.ask(b"more")]
    assert outcomes(more) == ["waits", "waits", "TooManyGuesses"]
    gate.clock.pump([1, 2])
    assert gate.compared[3:] == [(1, b"1"), (3, b"3")]
    for request in [*waiting, *more]:
        request.answering.cancel()
    gate.assert_at_rest()


def test_nobody_holds_turns_by_leaving(gate: _Gate) -> None:
    """Joining and leaving, again and again, moves no turn."""
    gate.use_up()
    for _ in range(100):
        gate.ask().answering.cancel()
    gate.assert_at_rest()
    right = gate.ask(b"right")
    for _ in range(100):
        gate.ask().answering.cancel()
    gate.clock.advance(1)
    assert right.outcome == "right"
    gate.assert_at_rest()


def test_a_refusal_says_when_there_may_be_a_place(gate: _Gate) -> None:
    gate.use_up()
    for _ in range(LONGEST_QUEUE):
        gate.ask()
    gate.clock.advance(0.75)
    assert _retry_after(gate.ask()) == 0.25
    gate.clock.advance(0.25)
    assert gate.ask().outcome == "waits"
    assert _retry_after(gate.ask()) == 2


def _retry_after(request: _Request) -> float:
    [outcome] = request.outcomes
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.value, TooManyGuesses)
    return outcome.value.retry_after


def test_all_queues_together_have_an_end() -> None:
    gate = _Gate(limit=1, max_waiting=7)
    addresses = [f"192.0.2.{number}" for number in range(10)]
    for address in addresses:
        gate.use_up(1, address)
    waiting = [gate.ask(client=address) for address in addresses]
    assert outcomes(waiting) == ["waits"] * 7 + ["TooManyGuesses"] * 3
    waiting[3].answering.cancel()
    assert gate.ask(client=addresses[8]).outcome == "waits"
    # Addresses without wrong ones are not held up, nor are secrets that are known.
    assert gate.ask(b"right", "192.0.2.99").outcome == "right"
    assert gate.ask(b"right", addresses[0]).outcome == "right"
    gate.clock.pump([0.5] * 60)
    gate.assert_at_rest()


def test_a_request_is_refused_if_its_turn_does_not_come(gate: _Gate) -> None:
    """Where answers do not come, and nothing is known to be wrong."""
    gate.is_slow = True
    crowd = [gate.ask() for _ in range(10)]
    gate.clock.pump([0.5] * 59)
    assert outcomes(crowd) == ["waits"] * 10
    gate.clock.pump([0.5])
    assert outcomes(crowd) == ["waits"] * 3 + ["TooManyGuesses"] * 7
    assert len(gate.reads) == 3
    assert _retry_after(crowd[-1]) == 5
    for read in gate.reads:
        read.callback(None)
    gate.assert_at_rest()


def test_two_processes_take_turns() -> None:
    """And in each of them no request waits for longer than the stated time."""
    descriptor = new_table()
    gate = _Gate(3, [shared_table(descriptor), shared_table(descriptor)])
    gate.use_up()
    requests = [gate.ask(process=number % 2) for number in range(2 * LONGEST_QUEUE)]
    gate.clock.pump([0.25] * 4 * 31)
    assert gate.times[3:] == [1, 3, 7, 12, 17, 22, 27]
    assert outcomes(requests).count("Forbidden") == 7
    assert outcomes(requests).count("TooManyGuesses") == 2 * LONGEST_QUEUE - 7
    gate.assert_at_rest()
    os.close(descriptor)


def test_a_right_one_is_known_to_all_processes() -> None:
    descriptor = new_table()
    gate = _Gate(3, [shared_table(descriptor), shared_table(descriptor)])
    assert gate.ask(b"right", process=1).outcome == "right"
    gate.use_up()
    assert gate.ask(b"right").outcome == "right"
    os.close(descriptor)


def test_clocks_that_are_set_hold_nobody_up_for_longer(gate: _Gate) -> None:
    gate.use_up()
    gate.clock.pump([5] * 100)
    for seconds in (-200.0, -3600.0, 50.0, -10.0):
        gate.clock.rightNow += seconds
        request = gate.ask()
        gate.clock.pump([1] * 6)
        assert request.outcome == "Forbidden"


# --- in an hour ---------------------------------------------------------------------------------------------

#: The figures of docs/security.rst for the default limit: without a pause; with a stop at the limit until the minute is
#: over; and at most (for that see test_guess_windows.py).
_FLOOD, _PATIENT, _MOST = 781, 3600, 3721


def test_guesses_in_an_hour_without_a_pause(tables: list[GuessTable]) -> None:
    gate = _Gate(GUESS_LIMIT, tables)
    gate.use_up(GUESS_LIMIT)
    while gate.clock.seconds() < _NOW + 3600:
        for number in range(8 * len(tables)):
            gate.ask(b"%d" % number, process=number % len(tables))
        gate.clock.advance(0.5)
    assert len(gate.times) == gate.tally.wrong == _FLOOD
    assert gate.tally.refused > 50_000


def test_guesses_in_an_hour_that_stop_at_the_limit(tables: list[GuessTable]) -> None:
    gate = _Gate(GUESS_LIMIT, tables)
    for _ in range(60):
        gate.use_up(GUESS_LIMIT)
        gate.clock.advance(60)
    assert len(gate.times) == _PATIENT


def test_what_the_documentation_says_of_it() -> None:
    text = (Path(__file__).parents[2] / "docs" / "security.rst").read_text("utf-8")
    for number in (_FLOOD, _PATIENT, _MOST):
        assert f"{number:,}" in text
    assert f"{LONGEST_WAIT:g} s" in text
