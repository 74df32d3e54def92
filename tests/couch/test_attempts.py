"""How often, how soon and for how long a lost body is begun again."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from txcouchdl.couch.attempts import Attempts
from txcouchdl.couch.errors import (
    AttachmentChanged,
    BadUpstream,
    CorruptAttachment,
    NoNodeAvailable,
    Overloaded,
    RevisionGone,
    UpstreamFailure,
    UpstreamRefusedUs,
    UpstreamTimeout,
    UpstreamUnavailable,
)

GIVE_UP = 60.0
#: Bytes of a transfer that has almost gone well.
ALMOST_WELL = 64 * 2**10

#: Seconds that floats add up exactly.
_quarters = st.integers(0, 400).map(lambda number: number / 4)


def _clock() -> Clock:
    """Not one that begins at 0."""
    clock = Clock()
    clock.advance(1000)
    return clock


def _delays(attempts: Attempts, count: int) -> list[float | None]:
    return [attempts.next_delay() for _ in range(count)]


# --- how soon -----------------------------------------------------------------------------------------------


def test_the_first_is_at_once_and_then_ever_later() -> None:
    attempts = Attempts(GIVE_UP, _clock())
    assert _delays(attempts, 9) == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 2, 2, 2]


def test_attempts_without_end() -> None:
    attempts = Attempts(GIVE_UP, _clock())
    assert set(_delays(attempts, 3000)) == {0, 0.1, 0.2, 0.4, 0.8, 1.6, 2}


@given(st.lists(st.integers(1, ALMOST_WELL), min_size=1, max_size=5))
@example([ALMOST_WELL])
@example([1, ALMOST_WELL])
def test_after_one_that_went_well_the_next_is_a_first_one(brought: list[int]) -> None:
    """In however many pieces it brought its bytes."""
    attempts = Attempts(GIVE_UP, _clock())
    _delays(attempts, 3)
    attempts.begun()
    for count in brought:
        attempts.progress(count)
    assert attempts.next_delay() == (0 if sum(brought) > ALMOST_WELL else 0.4)


def test_many_that_almost_went_well_are_none_that_did() -> None:
    attempts = Attempts(GIVE_UP, _clock())
    found = []
    for _ in range(4):
        attempts.begun()
        attempts.progress(ALMOST_WELL)
        found.append(attempts.next_delay())
    assert found == [0, 0.1, 0.2, 0.4]


# --- how often ----------------------------------------------------------------------------------------------


def test_few_are_two_after_the_beginning() -> None:
    """And two more behind what went well."""
    attempts = Attempts(GIVE_UP, _clock())
    found = []
    for _ in range(2):
        for _ in range(3):
            found.append(attempts.are_few)
            attempts.next_delay()
        attempts.begun()
        attempts.progress(ALMOST_WELL + 1)
    assert found == [True, True, False] * 2


@pytest.mark.parametrize(
    "error", [UpstreamUnavailable(), UpstreamTimeout(), BadUpstream(), Overloaded(), NoNodeAvailable()]
)
def test_what_may_pass_may_pass_again_and_again(error: UpstreamFailure) -> None:
    attempts = Attempts(GIVE_UP, _clock())
    assert [attempts.may_help(error) for _ in range(5)] == [True] * 5


@pytest.mark.parametrize("error", [UpstreamRefusedUs(), AttachmentChanged(), RevisionGone()])
def test_what_will_not_pass_is_not_tried_again(error: UpstreamFailure) -> None:
    assert not Attempts(GIVE_UP, _clock()).may_help(error)


def test_a_digest_may_be_wrong_once() -> None:
    """Whatever else happens meanwhile."""
    attempts = Attempts(GIVE_UP, _clock())
    assert attempts.may_help(UpstreamTimeout())
    assert attempts.may_help(CorruptAttachment())
    assert attempts.may_help(UpstreamTimeout())
    attempts.begun()
    attempts.progress(ALMOST_WELL + 1)
    assert not attempts.may_help(CorruptAttachment())


# --- until when ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "delay"), [(0, 0.0), (7, 2.0)])
@pytest.mark.parametrize(("early", "is_made"), [(0.25, True), (0.0, False), (-0.25, False)])
def test_one_that_would_come_too_late_is_not_made(before: int, delay: float, early: float, is_made: bool) -> None:
    clock = _clock()
    attempts = Attempts(GIVE_UP, clock)
    _delays(attempts, before)
    clock.advance(GIVE_UP - delay - early)
    assert attempts.next_delay() == (delay if is_made else None)


@given(_quarters, _quarters)
def test_the_time_is_counted_from_the_last_byte(before: float, after: float) -> None:
    clock = _clock()
    attempts = Attempts(GIVE_UP, clock)
    clock.advance(before)
    assert attempts.time_left == GIVE_UP - before
    attempts.progress(1)
    clock.advance(after)
    attempts.begun()
    assert attempts.time_left == GIVE_UP - after
    assert attempts.next_delay() == (0 if after < GIVE_UP else None)


@given(st.lists(st.tuples(_quarters, _quarters, st.sampled_from([0, 1, ALMOST_WELL + 1])), max_size=20))
def test_time_in_which_no_byte_could_come_does_not_count(history: list[tuple[float, float, int]]) -> None:
    """With it or without, all goes the same way."""

    def outcome(is_waiting: bool) -> list[tuple[float, float | None]]:
        clock = _clock()
        attempts = Attempts(GIVE_UP, clock)
        found = []
        for passed, waited, brought in history:
            clock.advance(passed)
            if is_waiting:
                clock.advance(waited)
                attempts.waited(waited)
            if brought:
                attempts.progress(brought)
            found.append((attempts.time_left, attempts.next_delay()))
        return found

    assert outcome(is_waiting=True) == outcome(is_waiting=False)
