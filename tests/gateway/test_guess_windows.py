"""When an address may have its next token compared: the arithmetic alone."""

from bisect import bisect_right

import pytest
from attrs import evolve
from hypothesis import example, given
from hypothesis import strategies as st

from tests.strategies import GuessStep, guess_cycles, guess_steps
from txcouchdl.gateway.guess_windows import LONGEST_DELAY, POLL, WINDOW, Ticket, Wait, Window, delay

# A time at which floats are coarse.
_NOW = 1.75e9


def _wrong(window: Window, limit: int, now: float) -> Window:
    """A window behind a wrong token that is compared at once."""
    window, ticket = window.at(now).admit(limit, now)
    assert isinstance(ticket, Ticket)
    return window.with_wrong(ticket, limit, now)


def _full(limit: int = 3, now: float = _NOW) -> Window:
    window = Window.begin(now)
    for _ in range(limit):
        window = _wrong(window, limit, now)
    return window


def _verdict(window: Window, limit: int, now: float) -> Ticket | Wait:
    return window.at(now).admit(limit, now)[1]


def test_delays_grow_and_end_growing() -> None:
    assert [delay(turn) for turn in range(6)] == [1, 2, 4, 5, 5, 5]
    assert delay(10**9) == LONGEST_DELAY


def test_the_turns_of_an_address_that_does_not_pause() -> None:
    window, now, turns = _full(), _NOW, list[float]()
    while len(turns) < 6:
        verdict = _verdict(window, 3, now)
        if isinstance(verdict, Wait):
            assert verdict.is_full
            now += verdict.seconds
        else:
            turns.append(now - _NOW)
            window = _wrong(window, 3, now)
    assert turns == [1, 3, 7, 12, 17, 22]


def test_a_window_is_over_a_minute_after_its_first_token() -> None:
    window = _wrong(_wrong(_wrong(Window.begin(_NOW), 3, _NOW), 3, _NOW), 3, _NOW + 59.5)
    assert window.at(_NOW + 59.75) is window
    assert _verdict(window, 3, _NOW + 59.75) == Wait(0.25, is_full=True)
    assert window.at(_NOW + 60) == Window(_NOW + 60, _NOW + 120)


def test_with_a_wrong_token_past_the_limit_it_is_over_a_minute_after_that() -> None:
    window = _wrong(_full(), 3, _NOW + 59)
    assert window.at(_NOW + 118.75) is window
    assert window.at(_NOW + 119) == Window(_NOW + 119, _NOW + 179)


def test_a_window_that_knows_nothing_is_none() -> None:
    window, ticket = Window.begin(_NOW).admit(1, _NOW)
    assert isinstance(ticket, Ticket)
    assert window.without(ticket, _NOW + 50).at(_NOW + 50) == Window(_NOW + 50, _NOW + 110)


def test_as_many_as_the_limit_are_under_way_at_once() -> None:
    window = Window.begin(_NOW)
    tickets = []
    for _ in range(3):
        window, ticket = window.admit(3, _NOW)
        assert isinstance(ticket, Ticket)
        tickets.append(ticket)
    assert window.admit(3, _NOW) == (window, Wait(POLL, is_full=False))
    # One is right: another may go. All are wrong: the window is full.
    assert isinstance(_verdict(window.without(tickets[0], _NOW), 3, _NOW), Ticket)
    for ticket in tickets:
        assert _verdict(window, 3, _NOW) == Wait(POLL, is_full=False)
        window = window.with_wrong(ticket, 3, _NOW)
    assert _verdict(window, 3, _NOW) == Wait(delay(0), is_full=True)


def test_a_right_token_gives_back_its_turn() -> None:
    window, ticket = _full().admit(3, _NOW + 1)
    assert isinstance(ticket, Ticket)
    assert _verdict(window, 3, _NOW + 1.5) == Wait(1.5, is_full=True)
    after = window.without(ticket, _NOW + 1.5)
    assert isinstance(_verdict(after, 3, _NOW + 1.5), Ticket)
    # The delay does not grow by it, and nothing is prolonged.
    assert (after.admitted, after.wrong, after.ends) == (3, 3, _NOW + 60)
    assert _wrong(after, 3, _NOW + 2).next_turn == _NOW + 4


def test_a_right_token_takes_no_turn_that_began_behind_it() -> None:
    window, ticket = _full().admit(3, _NOW + 1)
    assert isinstance(ticket, Ticket)
    window = _wrong(window, 3, _NOW + 3)
    assert window.without(ticket, _NOW + 3).next_turn == _NOW + 7


def test_a_ticket_of_a_window_that_is_over() -> None:
    """A wrong token counts in the window that holds then; a right one is taken out of none."""
    _, ticket = Window.begin(_NOW).admit(3, _NOW)
    assert isinstance(ticket, Ticket)
    window = _wrong(Window.begin(_NOW + 60), 3, _NOW + 60)
    assert window.without(ticket, _NOW + 61) is window
    counted = window.with_wrong(ticket, 3, _NOW + 61)
    assert (counted.began, counted.admitted, counted.wrong) == (_NOW + 60, 2, 2)
    # An empty one may have begun at the very time.
    assert Window.begin(_NOW).without(ticket, _NOW) == Window.begin(_NOW)


def test_a_token_without_a_ticket_counts() -> None:
    window = Window.begin(_NOW)
    for _ in range(3):
        window = window.with_wrong(None, 3, _NOW)
    assert window == _full()
    assert (window.with_wrong(None, 3, _NOW).next_turn, window.next_turn) == (_NOW + 1, _NOW + 1)


@pytest.mark.parametrize("back", [0.25, 30, 59, 3600, 10**9])
def test_a_clock_that_is_set_back(back: float) -> None:
    window = _full(now=_NOW)
    for seconds in (10, 20, 30):
        window = _wrong(window, 3, _NOW + seconds)
    now = _NOW + 30 - back
    held = window.at(now)
    if now < _NOW:
        assert held == Window(now, now + WINDOW)
    else:
        assert held == evolve(window, ends=now + WINDOW, next_turn=now + LONGEST_DELAY)


@given(st.integers(1, 4), guess_steps)
@example(1, [GuessStep(0.0, "wrong"), GuessStep(-0.25, "wrong"), GuessStep(60.0, "right")])
def test_whatever_comes_in_whatever_order(limit: int, steps: list[GuessStep]) -> None:
    """Counts stay counts, no wait is longer than the longest, and after its wait a token is admitted."""
    window, now = Window.begin(_NOW), _NOW
    tickets: list[Ticket] = []
    for step in steps:
        now += step.seconds
        window = window.at(now)
        if step.event == "admit":
            after, verdict = window.admit(limit, now)
            if isinstance(verdict, Ticket):
                tickets.append(verdict)
            else:
                assert after is window
                assert 0 < verdict.seconds <= LONGEST_DELAY
                assert verdict.is_full == (window.wrong >= limit)
                if verdict.is_full:
                    later = now + verdict.seconds + 1e-6
                    assert isinstance(_verdict(window, limit, later), Ticket)
            window = after
        elif step.event == "known":
            window = window.with_wrong(None, limit, now)
        elif tickets:
            ticket = tickets.pop(step.which % len(tickets))
            is_right = step.event == "right"
            window = window.without(ticket, now) if is_right else window.with_wrong(ticket, limit, now)
        assert 0 <= window.wrong <= window.admitted
        assert window.began <= now < window.ends <= now + WINDOW
        assert window.next_turn <= now + LONGEST_DELAY
        mine = sum(ticket.began == window.began for ticket in tickets)
        assert mine <= window.admitted - window.wrong


@given(
    st.integers(1, 4), st.lists(st.sampled_from([0.0, 0.25, 1.0, 30.0, 59.75, 60.0]) | st.floats(0, 120), max_size=40)
)
@example(2, [0.0, 60.0 - 0.25, 0.5])
def test_an_address_that_keeps_to_the_limit_never_waits(limit: int, steps: list[float]) -> None:
    """One with no more wrong tokens than that in any minute."""
    window, now, wrong = Window.begin(_NOW), _NOW, list[float]()
    for step in steps:
        now += step
        if sum(now - each < WINDOW for each in wrong) < limit:
            window = _wrong(window, limit, now)
            wrong.append(now)


def _most(limit: int) -> int:
    """
    Return the number of guesses that are possible in an hour, in whatever order.

    A window of an address with k turns lasts at least a minute and the sum of k delays, which is k seconds or more. So
    behind one another, windows let through no more than the greater of one guess a second and the limit a minute. The
    first one may have begun before the hour, and the last one may end behind it: each has one limit more, and the first
    one a turn on the very second.
    """
    return 60 * max(limit, 60) + 2 * limit + 1


@given(st.sampled_from([1, 2, 5, 59, 60, 61, 200]), guess_cycles)
@example(60, [60, float("inf")])
@example(60, [59, float("-inf"), 1, float("inf")])
@example(60, [61, None, 1, float("inf")])
@example(1, [1, None])
@example(5, [5, None, 1, None, 1, None, 1, float("inf")])
def test_how_many_guesses_are_possible_in_an_hour(limit: int, cycle: list[int | float | None]) -> None:
    """In any hour, in whatever order they come."""
    window, now, guesses = Window.begin(_NOW), _NOW, list[float]()
    for step in range(5000):
        action = cycle[step % len(cycle)]
        window = window.at(now)
        if isinstance(action, int):
            for _ in range(action):
                if isinstance(_verdict(window, limit, now), Ticket):
                    window = _wrong(window, limit, now)
                    guesses.append(now)
        elif action is None:
            now = max(now + 0.01, window.next_turn)
        else:
            rest = window.ends - now
            now += {float("inf"): rest, float("-inf"): max(rest - 0.01, 0.01)}.get(action, action)
        if now > _NOW + 2 * 3600:
            break
    for first, each in enumerate(guesses):
        assert bisect_right(guesses, each + 3600) - first <= _most(limit)
