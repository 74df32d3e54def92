"""Rows of numbers: where each stands, and who sees it."""

import mmap
import os
from bisect import bisect_right
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txcouchdl.couch.errors import (
    BadUpstream,
    CorruptAttachment,
    NoNodeAvailable,
    Overloaded,
    UpstreamFailure,
    UpstreamRefusedUs,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from txcouchdl.couch.tally import HedgeKind
from txcouchdl.gateway.errors import _TABLE
from txcouchdl.gateway.tally import End
from txcouchdl.metrics.counts import Counts
from txcouchdl.metrics.layout import BOUNDS, STATUSES, Histogram, Layout
from txcouchdl.metrics.table import Table, new_table

NODES = Layout(["http://a", "http://b"])


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = new_table(NODES, 3)
    yield descriptor
    os.close(descriptor)


def fill(counts: Counts, times: int) -> None:
    """Tell everything there is, so many times."""
    counts.answers()
    for _ in range(times):
        for status in (*STATUSES, 999):
            counts.answered(status)
        for end in (End.LEFT, End.BROKEN_OFF):
            counts.cut_short(end)
        for loss in (CorruptAttachment(), UpstreamTimeout(), BadUpstream(), UpstreamUnavailable()):
            counts.healed(loss)
        for kind in HedgeKind:
            counts.hedged(kind)
            counts.hedge_won(kind)
        for seconds in (*BOUNDS, 31):
            counts.waited(seconds)
            for number in (0, 1):
                counts.node(number).answered(seconds)
        for number in (0, 1):
            counts.node(number).failed()
            counts.node(number).is_down(True)
            counts.node(number).is_aside(True)
        counts.sent(1)
        counts.wrong_token()
        counts.guess_delayed()
        counts.guess_refused()
        counts.overloaded()
        counts.died()
        counts.moves(7.9)
        counts.connections(7)
        counts.parked(1)
        counts.queue(7)


def unused() -> int:
    """Of a row's places, at its end."""
    return NODES.length - 1 - NODES.nodes[-1].aside


def test_every_number_has_a_place_of_its_own() -> None:
    """Each grows, and once told everything, none is left out."""
    table = Table.own(NODES)
    fill(Counts(table), 1)
    first = table.sums()
    assert first.count(0) == unused()
    assert unused() < 8
    fill(Counts(table), 1)
    second = table.sums()
    assert all(second[place] > first[place] for place in range(NODES.gauges))
    assert [first[place] for place in NODES.outcomes.values()] == [1] * len(NODES.outcomes)
    assert [first[place] for place in NODES.losses.values()] == [1] * 4


def test_rows_are_apart_and_summed_up(memory: int) -> None:
    tables = [Table.shared(NODES, memory) for _ in range(3)]
    for number, table in enumerate(tables):
        fill(Counts(table, number), number + 1)
    one = Table.own(NODES)
    fill(Counts(one), 6)
    for table in tables:
        assert table.sums()[: NODES.gauges] == one.sums()[: NODES.gauges]
        assert table.sums()[NODES.connections] == 21
        assert table.sums()[NODES.workers] == 3


def test_who_comes_in_the_place_of_another_goes_on(memory: int) -> None:
    """What had been counted stays; what the other had is gone, and nobody else's."""
    mine, crews = Table.shared(NODES, memory), Table.shared(NODES, memory)
    for number in range(3):
        fill(Counts(mine, number), 1)
    before = crews.sums()
    Counts(crews, 1).vacate()
    after = crews.sums()
    assert after[: NODES.gauges] == before[: NODES.gauges]
    assert all(after[gauge] * 3 == before[gauge] * 2 for gauge in range(NODES.gauges, NODES.length))
    fill(Counts(Table.shared(NODES, memory), 1), 1)
    assert crews.sums()[NODES.outcomes["200"]] == 4
    assert crews.sums()[NODES.connections] == 21


@pytest.mark.parametrize(
    ("now", "hung"), [(1009.9, 0), (1010, 1), (1014.9, 1), (1015, 2), (996, 0), (995, 1), (990, 2), (10**9, 2)]
)
def test_who_has_not_moved_for_some_time_hangs(memory: int, now: float, hung: int) -> None:
    """Clocks are set back, too. The third one has never said that it moves."""
    table = Table.shared(NODES, memory)
    for number, moved in enumerate((1000.5, 1005.0)):
        Counts(table, number).moves(moved)
    Counts(table, 2).answers()
    assert table.hung(now) == hung


def test_nobody_makes_the_memory_shorter(memory: int) -> None:
    """Whoever reads it would die of that."""
    with pytest.raises(PermissionError):
        os.ftruncate(memory, 0)
    with pytest.raises(PermissionError):
        os.ftruncate(memory, 10 * os.fstat(memory).st_size)
    with pytest.raises(ValueError, match="mmap length is greater"):
        mmap.mmap(memory, 10 * os.fstat(memory).st_size)


def test_numbers_of_any_size() -> None:
    table = Table.own(NODES)
    for _ in range(3):
        Counts(table).sent(2**61)
    assert table.sums()[NODES.sent] == 3 * 2**61


@given(st.lists(st.floats(-10, 1e6) | st.sampled_from(BOUNDS)))
def test_times_are_in_their_buckets(times: list[float]) -> None:
    numbers = memoryview(bytearray(8 * 20)).cast("q")
    histogram = Histogram(2)
    for seconds in times:
        histogram.observe(numbers, seconds)
    told = numbers.tolist()
    in_order = sorted(times)
    expected = [bisect_right(in_order, bound) for bound in (*BOUNDS, float("inf"))]
    assert histogram.cumulated(told) == expected
    passed = sum(each for each in times if each > 0)
    assert abs(histogram.seconds(told) - passed) <= 1e-6 * (len(times) + passed)
    assert told[:2] == told[18:] == [0, 0]


def test_every_status_that_we_answer_with_has_its_outcome() -> None:
    known = {200, 204, 206, 304, 408, 412, 413, 414, 416, 431, 499} | {answer.status for answer in _TABLE.values()}
    assert known == set(STATUSES)


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (CorruptAttachment(), "corrupt"),
        (UpstreamTimeout(), "stalled"),
        (BadUpstream(), "wrong"),
        (UpstreamUnavailable(), "lost"),
        (NoNodeAvailable("", 1), "lost"),
        (Overloaded("", 1), "lost"),
        (UpstreamRefusedUs(), "lost"),
    ],
)
def test_kinds_of_losses(loss: UpstreamFailure, kind: str) -> None:
    table = Table.own(NODES)
    Counts(table).healed(loss)
    assert {name for name, place in NODES.losses.items() if table.sums()[place]} == {kind}
