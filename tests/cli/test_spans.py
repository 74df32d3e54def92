"""Sets of bytes, against Python's sets."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from txcouchdl.cli.spans import Spans
from txcouchdl.protocol.ranges import ByteRange

_ranges = st.tuples(st.integers(0, 60), st.integers(0, 20)).map(lambda pair: ByteRange(pair[0], sum(pair)))
_lists = st.lists(_ranges, max_size=8)


def _bytes(spans: Spans | list[ByteRange]) -> set[int]:
    return {position for each in spans for position in range(each.first, each.last + 1)}


@given(_lists)
def test_a_set_has_the_bytes_of_its_ranges(ranges: list[ByteRange]) -> None:
    spans = Spans(ranges)
    assert _bytes(spans) == _bytes(ranges)
    assert spans.count == len(_bytes(ranges))
    assert spans == Spans(reversed(ranges))


@given(_lists)
def test_its_ranges_are_in_order_and_apart(ranges: list[ByteRange]) -> None:
    found = Spans(ranges).ranges
    assert all(one.last + 1 < other.first for one, other in pairwise(found))


@given(_lists, _lists)
def test_union(ranges: list[ByteRange], more: list[ByteRange]) -> None:
    assert _bytes(Spans(ranges).and_also(more)) == _bytes(ranges) | _bytes(more)


@given(_lists, st.integers(0, 100))
def test_gaps(ranges: list[ByteRange], length: int) -> None:
    assert _bytes(Spans(ranges).gaps(length)) == set(range(length)) - _bytes(ranges)
