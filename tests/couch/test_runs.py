"""Which ranges are read together: against the rule, pair by pair."""

from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, composite

from txcouchdl.couch.runs import MOST_GAP, ascending_runs, near_runs
from txcouchdl.protocol.ranges import ByteRange

_LONG: Final = 256 * 2**10
_steps = st.sampled_from([1, 2, MOST_GAP - 1, MOST_GAP, MOST_GAP + 1]) | st.integers(1, 3 * MOST_GAP)
_lengths = st.sampled_from([1, 2, _LONG - 1, _LONG, _LONG + 1]) | st.integers(1, 2 * _LONG)


@composite
def _apart(draw: DrawFn) -> list[ByteRange]:
    """Ranges that neither overlap nor touch, mostly in ascending order."""
    ranges: list[ByteRange] = []
    position = draw(st.integers(0, 1000))
    for gap, length in draw(st.lists(st.tuples(_steps, _lengths), min_size=1, max_size=12)):
        ranges.append(ByteRange(position, position + length - 1))
        position += length + gap
    return draw(st.just(ranges) | st.permutations(ranges))


def _gap(before: ByteRange, after: ByteRange) -> int:
    return len(range(before.last + 1, after.first))


def _assert_same(runs: Sequence[Sequence[ByteRange]], ranges: Sequence[ByteRange]) -> None:
    assert all(runs)
    assert list(chain(*runs)) == list(ranges)


@given(_apart())
@example([ByteRange(0, 0), ByteRange(MOST_GAP + 1, MOST_GAP + 1)])
@example([ByteRange(0, 0), ByteRange(MOST_GAP + 2, MOST_GAP + 2)])
@example([ByteRange(0, _LONG - 2), ByteRange(_LONG, 2 * _LONG - 2), ByteRange(2 * _LONG, 3 * _LONG - 1)])
@example([ByteRange(5, 5), ByteRange(3, 3), ByteRange(7, 7)])
def test_near_ranges_are_read_together_and_no_others(ranges: list[ByteRange]) -> None:
    runs = near_runs(ranges, _LONG)
    _assert_same(runs, ranges)
    for run in runs:
        for before, after in pairwise(run):
            assert 1 <= _gap(before, after) <= MOST_GAP
        assert len(run) == 1 or all(each.length < _LONG for each in run)
    for one, other in pairwise(runs):
        before, after = one[-1], other[0]
        is_near = before.last < after.first and _gap(before, after) <= MOST_GAP
        assert not is_near or max(before.length, after.length) >= _LONG


@given(_apart())
def test_what_is_dropped_is_bounded(ranges: list[ByteRange]) -> None:
    runs = near_runs(ranges, _LONG)
    read = sum(run[-1].last + 1 - run[0].first for run in runs)
    wanted = sum(each.length for each in ranges)
    assert read - wanted <= (len(ranges) - len(runs)) * MOST_GAP


@given(_apart())
@example([ByteRange(5, 5), ByteRange(3, 3), ByteRange(7, 7), ByteRange(10**12, 10**12)])
def test_whatever_ascends_is_one_pass_over_gzip(ranges: list[ByteRange]) -> None:
    runs = ascending_runs(ranges)
    _assert_same(runs, ranges)
    assert all(before.last < after.first for run in runs for before, after in pairwise(run))
    assert all(other[0].last < one[-1].first for one, other in pairwise(runs))


@pytest.mark.parametrize("gap", [2, MOST_GAP + 2], ids=["near", "far"])
def test_the_most_ranges_that_there_may_be(gap: int) -> None:
    ranges = [ByteRange(gap * each, gap * each) for each in range(1000)]
    assert len(near_runs(ranges, _LONG)) == (1 if gap == 2 else 1000)
    assert len(near_runs(ranges[::-1], _LONG)) == 1000
    assert len(ascending_runs(ranges)) == 1
    assert len(ascending_runs(ranges[::-1])) == 1000
