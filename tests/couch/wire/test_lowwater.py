"""
Low-water marks, against a model of the kernel: whatever arrives, and whenever, is read soon, and the last byte of it
too; and a fast sender does not wake us for each of its pieces.
"""

import socket
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from txcouchdl.couch.wire.lowwater import FIRST_MARK, TICK, LowWater, Ticker

_MOST = 64 * 2**10
# Of sums of floats.
_A_BIT = 1e-9


class Kernel:
    """
    A socket, as far as the kernel tells of it: readable where there is as much as its mark, or the end.

    :ivar marks: all that were set.
    """

    def __init__(self) -> None:
        self.available = 0
        self.has_ended = False
        self.mark = 1
        self.marks: list[int] = []

    def setsockopt(self, level: int, name: int, value: int, /) -> None:
        assert (level, name) == (socket.SOL_SOCKET, socket.SO_RCVLOWAT)
        assert value >= 1
        self.mark = value
        self.marks.append(value)

    @property
    def is_readable(self) -> bool:
        return self.has_ended or self.available >= self.mark


class Reading:
    """
    Somebody who reads a body when woken, while time goes by.

    :ivar wakes: how often that was.
    """

    def __init__(self, size: int, at_once: int | None = _MOST) -> None:
        self.clock = Clock()
        self.kernel = Kernel()
        self.low_water = LowWater(self.kernel, Ticker(self.clock), _MOST)
        self.missing = size
        self.to_come = size
        self.wakes = 0
        self._at_once = at_once
        self._is_resting = False
        # Since when something is there that nobody was woken for.
        self._since = 0.0
        self._expect()

    def _expect(self) -> None:
        self.low_water.expect(self.missing)
        assert self.kernel.mark <= max(1, self.missing)
        assert self.kernel.mark <= _MOST

    def arrive(self, count: int) -> None:
        count = min(count, self.to_come)
        self.to_come -= count
        if not self.kernel.available:
            self._since = self.clock.seconds()
        self.kernel.available += count
        self._run()

    def _run(self) -> None:
        """As a reactor does, as long as it is told of the socket."""
        while not self._is_resting and self.missing and self.kernel.is_readable:
            self.wakes += 1
            taken = self.kernel.available if self._at_once is None else min(self.kernel.available, self._at_once)
            if not taken:
                break
            self.kernel.available -= taken
            self.missing -= taken
            self._since = self.clock.seconds()
            self._expect()
        waited = self.clock.seconds() - self._since
        assert self._is_resting or not self.kernel.available or waited <= 2 * TICK + _A_BIT

    def pass_time(self, seconds: float) -> None:
        end = self.clock.seconds() + seconds
        while (left := end - self.clock.seconds()) > 0:
            due = min((call.getTime() for call in self.clock.getDelayedCalls()), default=end)
            self.clock.advance(min(left, max(due - self.clock.seconds(), _A_BIT)))
            self._run()

    def rest(self) -> None:
        self._is_resting = True
        self.low_water.rest()

    def resume(self) -> None:
        self._is_resting = False
        self._since = self.clock.seconds()
        self._expect()
        self._run()

    def end(self) -> None:
        self.low_water.end()
        assert self.kernel.mark == 1
        self.clock.advance(TICK)
        assert not self.clock.getDelayedCalls()


_SIZES = st.integers(1, 20) | st.integers(FIRST_MARK - 2, 4 * FIRST_MARK) | st.integers(1, 400 * 2**10)
_PAUSES = st.sampled_from([0.0, 0.001, TICK / 2, TICK, 1.5 * TICK, 2 * TICK, 5 * TICK]) | st.floats(0, 0.1)
_ARRIVALS = st.lists(st.tuples(st.integers(1, 3) | st.integers(1, 2**17), _PAUSES), max_size=30)


@given(_SIZES, _ARRIVALS, st.sampled_from([1, 4096, _MOST, None]))
@example(FIRST_MARK + 1, [(FIRST_MARK, 0.0)], _MOST)
@example(3 * _MOST, [(4096, 0.001)] * 20 + [(1, 5 * TICK)], _MOST)
def test_what_has_arrived_is_read_within_two_ticks_and_the_last_byte_at_once(
    size: int, arrivals: Sequence[tuple[int, float]], at_once: int | None
) -> None:
    reading = Reading(min(size, 2000) if at_once == 1 else size, at_once)
    for count, pause in arrivals:
        reading.arrive(count)
        reading.pass_time(pause)
    reading.arrive(reading.to_come)
    # The mark was never above what was missing: all of it is enough.
    assert not reading.missing
    reading.end()


@given(st.integers(1, 3 * _MOST), _ARRIVALS)
def test_what_has_arrived_before_the_end_is_read(size: int, arrivals: Sequence[tuple[int, float]]) -> None:
    reading = Reading(size)
    for count, pause in arrivals:
        reading.arrive(count)
        reading.pass_time(pause)
    reading.kernel.has_ended = True
    reading.arrive(0)
    assert not reading.kernel.available
    reading.end()


@given(
    st.integers(1, 3 * _MOST), st.lists(st.tuples(st.sampled_from(["rest", "resume"]), st.integers(0, 9000), _PAUSES))
)
def test_whoever_rests_is_woken_within_two_ticks_again(size: int, steps: Sequence[tuple[str, int, float]]) -> None:
    reading = Reading(size)
    for what, count, pause in steps:
        getattr(reading, what)()
        reading.arrive(count)
        reading.pass_time(pause)
    reading.resume()
    reading.arrive(reading.to_come)
    assert not reading.missing
    reading.end()


def test_who_rests_has_no_time_running() -> None:
    reading = Reading(10 * _MOST)
    reading.rest()
    mark = reading.kernel.mark
    reading.clock.advance(TICK)
    assert not reading.clock.getDelayedCalls()
    assert reading.kernel.mark == mark


def test_a_fast_sender_of_small_pieces_wakes_us_seldom() -> None:
    pieces = 500
    reading = Reading(pieces * 4096)
    for _ in range(pieces):
        reading.arrive(4096)
        reading.pass_time(0.0005)
    assert not reading.missing
    assert reading.wakes < pieces / 10
    reading.end()


def test_a_slow_sender_is_not_waited_for_longer_and_longer() -> None:
    """What comes once in a while is not what the mark was raised for, and what comes after a pause is read at once."""
    reading = Reading(10 * _MOST)
    for _ in range(40):
        reading.arrive(4096)
        reading.pass_time(0.001)
    assert reading.kernel.mark > 4 * FIRST_MARK
    for _ in range(4):
        reading.arrive(1)
        reading.pass_time(2 * TICK)
    assert reading.kernel.mark == FIRST_MARK
    reading.pass_time(2 * TICK)
    assert reading.kernel.mark == 1
    reading.arrive(1)
    assert not reading.kernel.available
    assert reading.kernel.mark == FIRST_MARK
    reading.end()


def test_the_mark_doubles_as_long_as_so_much_comes_in_time() -> None:
    clock, kernel = Clock(), Kernel()
    low_water = LowWater(kernel, Ticker(clock), _MOST)
    for _ in range(7):
        low_water.expect(10 * _MOST)
    assert kernel.marks == [2**13, 2**14, 2**15, 2**16]
    low_water.widen(4 * _MOST)
    for _ in range(4):
        low_water.expect(10 * _MOST)
    assert kernel.marks[4:] == [2**17, 2**18]


@pytest.mark.parametrize("ticks", [1, 2])
def test_a_tick_in_between_leaves_the_mark_where_it_is(ticks: int) -> None:
    """Ticks are everybody's: the first one may come just after something was expected."""
    clock, kernel = Clock(), Kernel()
    low_water = LowWater(kernel, Ticker(clock), _MOST)
    low_water.expect(_MOST)
    first = kernel.mark
    for _ in range(ticks):
        clock.advance(TICK)
    assert kernel.mark == (first if ticks == 1 else 1)
    low_water.expect(_MOST)
    assert kernel.mark == (first if ticks == 1 else FIRST_MARK)


def test_a_body_of_no_known_length_is_waited_for_byte_by_byte() -> None:
    clock, kernel = Clock(), Kernel()
    low_water = LowWater(kernel, Ticker(clock), _MOST)
    for missing in 0, 1:
        low_water.expect(missing)
    assert not kernel.marks
    assert not clock.getDelayedCalls()


def test_all_who_wait_share_the_ticks() -> None:
    clock = Clock()
    ticker = Ticker(clock)
    kernels = [Kernel() for _ in range(5)]
    marks = [LowWater(kernel, ticker, _MOST) for kernel in kernels]
    for each in marks:
        each.expect(_MOST)
        assert len(clock.getDelayedCalls()) == 1
    marks[0].end()
    clock.advance(TICK)
    clock.advance(TICK)
    assert [kernel.mark for kernel in kernels] == [1] * 5
    clock.advance(TICK)
    assert not clock.getDelayedCalls()
    marks[1].expect(_MOST)
    assert len(clock.getDelayedCalls()) == 1
    marks[1].end()


def test_the_kernel_takes_the_marks() -> None:
    clock = Clock()
    with socket.socket() as plain:
        low_water = LowWater(plain, Ticker(clock), _MOST)
        low_water.expect(_MOST)
        assert plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 2 * FIRST_MARK
        low_water.end()
        assert plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
