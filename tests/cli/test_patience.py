"""How long a download is tried."""

from random import Random

import pytest
from twisted.internet.task import Clock

from txcouchdl.cli.outcomes import Passing
from txcouchdl.cli.patience import Limits, Patience


def patience(retries: int = 10, give_up: float = 1e9) -> tuple[Patience, Clock]:
    clock = Clock()
    return Patience(Limits(retries, give_up), clock, Random(3)), clock


LOST = Passing("lost")


def test_delays_become_longer_up_to_a_bound() -> None:
    it, _ = patience(retries=20)
    attempts = it.attempts()
    delays = [attempts.next_delay(LOST) or 0 for _ in range(12)]
    longest = [min(0.5 * 2**number, 30) for number in range(12)]
    assert all(each / 2 <= delay <= each for each, delay in zip(longest, delays, strict=True))
    assert len({delay / each for each, delay in zip(longest, delays, strict=True)}) == 12, "they are jittered"


def test_so_many_retries() -> None:
    it, _ = patience(retries=3)
    attempts = it.attempts()
    assert [attempts.next_delay(LOST) is None for _ in range(5)] == [False, False, False, True, True]


def test_none() -> None:
    assert patience(retries=0)[0].attempts().next_delay(LOST) is None


def test_what_another_connection_brings_counts() -> None:
    """It is tried again, but no sooner."""
    it, _ = patience(retries=3)
    attempts = it.attempts()
    delays = []
    for _ in range(8):
        delays.append(attempts.next_delay(LOST) or 0)
        it.progress(1)
    assert all(delays)
    assert delays[-1] >= 15


def test_what_it_brings_itself_makes_it_soon() -> None:
    it, _ = patience()
    attempts = it.attempts()
    for _ in range(5):
        attempts.next_delay(LOST)
    attempts.went_well()
    assert (attempts.next_delay(LOST) or 9) <= 0.5


def test_time_without_a_byte() -> None:
    it, clock = patience(give_up=100)
    attempts = it.attempts()
    clock.advance(99)
    assert attempts.next_delay(LOST) is not None
    clock.advance(1)
    assert attempts.next_delay(LOST) is None
    it.progress(1)
    assert attempts.next_delay(LOST) is not None


@pytest.mark.parametrize(("asked_for", "delay"), [(7.0, 7.0), (0.0, None), (1e6, 120.0)])
def test_a_server_may_say_when(asked_for: float, delay: float | None) -> None:
    found = patience()[0].attempts().next_delay(Passing("busy", asked_for))
    assert found is not None
    assert found == delay or (delay is None and found <= 0.5)
