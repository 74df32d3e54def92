"""Ranges out of a stream: against Python's slices, in any pieces."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import strategies
from txcouchdl.couch.cutting import Cutter
from txcouchdl.protocol.ranges import ByteRange


@given(st.data(), strategies.representations.filter(bool))
def test_any_ranges_in_any_pieces(data: st.DataObject, whole: bytes) -> None:
    """The bytes are their own positions."""
    ranges = data.draw(strategies.ascending_byte_ranges(len(whole)))
    begin = data.draw(st.integers(0, ranges[0].first))
    cutter = Cutter(ranges, begin)
    position = begin
    for piece in data.draw(strategies.cuts(whole[begin:])):
        _assert_told(cutter, ranges, position)
        expected = bytes(byte for byte in piece if any(each.first <= byte <= each.last for each in ranges))
        assert cutter.cut(piece) == expected
        position += len(piece)
    _assert_told(cutter, ranges, position)
    assert cutter.is_satisfied


def _assert_told(cutter: Cutter, ranges: Sequence[ByteRange], position: int) -> None:
    assert cutter.position == position
    assert cutter.is_satisfied == (position > ranges[-1].last)
    wanted = {at for each in ranges for at in range(each.first, each.last + 1)}
    ahead = range(position, ranges[-1].last + 1)
    assert cutter.has_gap_ahead == any(at not in wanted for at in ahead)
    if not cutter.is_satisfied:
        assert cutter.next_wanted == next(at for at in ahead if at in wanted)


@given(st.data(), strategies.representations.filter(bool))
def test_what_nobody_wants_may_be_left_out(data: st.DataObject, whole: bytes) -> None:
    ranges = data.draw(strategies.ascending_byte_ranges(len(whole)))
    cutter, position, cut = Cutter(ranges), 0, b""
    for piece in data.draw(strategies.cuts(whole)):
        position += len(piece)
        if not cutter.is_satisfied and cutter.next_wanted < position:
            cutter.skip_to(position - len(piece))
            cut += cutter.cut(piece)
    assert cut == b"".join(whole[each.first : each.last + 1] for each in ranges)


def test_a_piece_in_the_midst_of_a_range_is_not_copied() -> None:
    cutter = Cutter([ByteRange(0, 10**6)])
    piece = b"x" * 1000
    assert cutter.cut(piece) is piece


class _Counted(tuple[ByteRange, ...]):
    """Counts how often somebody looks at a range."""

    looks = 0

    def __getitem__(self, index: Any) -> Any:
        type(self).looks += 1
        return super().__getitem__(index)


@pytest.mark.parametrize("length", [1, 7, 2000])
def test_the_work_grows_with_pieces_and_ranges_and_no_faster(length: int) -> None:
    ranges = _Counted(ByteRange(2 * each, 2 * each) for each in range(1000))
    cutter = Cutter(ranges)
    _Counted.looks = 0
    pieces = range(0, 2000, length)
    assert sum(len(cutter.cut(bytes(length))) for _ in pieces) == 1000
    assert _Counted.looks <= 2 * (len(pieces) + len(ranges))
