"""Range, Content-Range: against Python's slices, werkzeug's parser and the sections of RFC 9110."""

import math
import re
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from werkzeug.http import parse_range_header

from tests import strategies
from txcouchdl.protocol.ranges import (
    MAX_FIELD_LENGTH,
    MAX_LENGTH,
    MAX_SPECS,
    ByteRange,
    IntRange,
    RangeSpec,
    SuffixRange,
    parse_range,
    resolve,
    unsatisfied_range,
)

# --- the values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "last"), [(-1, 0), (-2, -1), (1, 0), (10, 5)])
def test_an_impossible_byte_range_cannot_be_made(first: int, last: int) -> None:
    with pytest.raises(ValueError, match=r"first|last"):
        ByteRange(first, last)


@pytest.mark.parametrize(("first", "last"), [(-1, None), (-1, 0), (1, 0), (2**64, 2**64 - 1)])
def test_an_impossible_int_range_cannot_be_made(first: int, last: int | None) -> None:
    with pytest.raises(ValueError, match=r"first|last"):
        IntRange(first, last)


def test_a_negative_suffix_length_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="length"):
        SuffixRange(-1)


@given(st.data(), strategies.representations.filter(bool))
def test_offset_and_length_cut_what_first_and_last_name(data: st.DataObject, whole: bytes) -> None:
    selected = data.draw(strategies.byte_ranges(len(whole)))
    part = whole[selected.offset : selected.offset + selected.length]
    # The bytes of ``whole`` are their own positions.
    assert (part[0], part[-1], len(part)) == (selected.first, selected.last, selected.length)


def test_content_range() -> None:
    assert ByteRange(0, 0).content_range(1) == "bytes 0-0/1"
    assert ByteRange(42, 1233).content_range(1234) == "bytes 42-1233/1234"


@pytest.mark.parametrize("complete_length", [10, 9, 0, -1])
def test_content_range_refuses_a_last_pos_outside(complete_length: int) -> None:
    with pytest.raises(ValueError, match="complete-length"):
        ByteRange(0, 10).content_range(complete_length)


def test_unsatisfied_range() -> None:
    assert unsatisfied_range(1234) == "bytes */1234"
    assert unsatisfied_range(0) == "bytes */0"
    with pytest.raises(ValueError, match="negative"):
        unsatisfied_range(-1)


# --- parse_range --------------------------------------------------------------------------------------------


def _clamped(spec: RangeSpec) -> RangeSpec:
    match spec:
        case SuffixRange(length):
            return SuffixRange(min(length, MAX_LENGTH))
        case IntRange(first, last):
            return IntRange(min(first, MAX_LENGTH), None if last is None else min(last, MAX_LENGTH))


@given(strategies.range_fields())
def test_a_well_formed_field_means_what_it_says(drawn: tuple[str, list[RangeSpec]]) -> None:
    field, specs = drawn
    assert parse_range(field) == tuple(map(_clamped, specs))


@given(strategies.malformed_range_fields)
@example("bytes=0-1, bytes=4-5")  # two Range lines, joined
@example("bytes=10-5")
@example("bytes=0-1,10-5")
@example("bytes=18446744073709551616-18446744073709551615")
def test_a_malformed_field_is_ignored(field: str) -> None:
    assert parse_range(field) is None


def test_an_absent_field_is_ignored() -> None:
    assert parse_range(None) is None


@given(strategies.range_garbage)
@example("bytes=\ud800-")
@example("bytes=\u0660-\u0669")
@example("=" * MAX_FIELD_LENGTH)
@example("bytes=" + "-" * 8000)
def test_parsing_never_raises(text: str) -> None:
    specs = parse_range(text)
    assert specs is None or 0 < len(specs) <= MAX_SPECS


@pytest.mark.parametrize("field", ["bytes= 0-1", "bytes=,0-1", "bytes=0-1,", "bytes=\t,, 0-1\t,", "BYTES=00-0001"])
def test_lists_are_read_as_leniently_as_section_5_6_1_asks(field: str) -> None:
    assert parse_range(field) == (IntRange(0, 1),)


# Each was accepted, or was a 500, in twisted.web.static or in CouchDB.
@pytest.mark.parametrize(
    "field",
    [
        "bytes=",
        "bytes=,",
        "bytes=+1-2",
        "bytes=+1-+3",
        "bytes=0--3",
        "bytes=--5",
        "bytes=5",
        "bytes=-",
        "bytes=1-0",
    ],
)
def test_bugs_of_other_parsers(field: str) -> None:
    assert parse_range(field) is None


@pytest.mark.parametrize("field", ["bytes = 0-1", "bytes=0 - 1", " bytes=0-1", "bytes =0-1"])
def test_white_space_stands_around_members_only(field: str) -> None:
    assert parse_range(field) is None


@pytest.mark.parametrize("character", ["\n", "\r", "\x0b", "\x0c", "\x1f", "\x85", "\xa0", "\u3000"])
def test_white_space_is_space_and_tab(character: str) -> None:
    assert parse_range(f"bytes=0-1{character}") is None
    assert parse_range(f"bytes={character}0-1") is None


def test_the_unit_is_that_of_ascii() -> None:
    """U+017F is a small s to str.upper() and str.casefold()."""
    assert parse_range("byte\u017f=0-1") is None


@pytest.mark.parametrize("length", [MAX_FIELD_LENGTH, MAX_FIELD_LENGTH + 1])
def test_a_field_may_be_so_long_and_no_longer(length: int) -> None:
    field = "bytes=0-1".ljust(length, ",")
    assert (parse_range(field) is None) == (length > MAX_FIELD_LENGTH)


@pytest.mark.parametrize("count", [MAX_SPECS, MAX_SPECS + 1])
def test_a_set_may_be_so_large_and_no_larger(count: int) -> None:
    field = "bytes=" + ",,".join(["0-1"] * count)
    assert (parse_range(field) is None) == (count > MAX_SPECS)


@pytest.mark.parametrize("number", [MAX_LENGTH - 1, MAX_LENGTH, MAX_LENGTH + 1, 10 * MAX_LENGTH, 9 * 10**18])
def test_numbers_are_exact_up_to_the_longest_length(number: int) -> None:
    expected = min(number, MAX_LENGTH)
    assert parse_range(f"bytes={number}-") == (IntRange(expected, None),)
    assert parse_range(f"bytes=0-{number}") == (IntRange(0, expected),)
    assert parse_range(f"bytes=-{number}") == (SuffixRange(expected),)


def _without_long_ints(function: Callable[[], object]) -> object:
    """Call ``function`` where int() refuses texts of more than 640 digits, the least one can set."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        return function()
    finally:
        sys.set_int_max_str_digits(before)


_NINES = "9" * 4000


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (f"bytes={_NINES}-", (IntRange(MAX_LENGTH, None),)),
        (f"bytes=-{_NINES}{_NINES}", (SuffixRange(MAX_LENGTH),)),
        (f"bytes=5-{_NINES}", (IntRange(5, MAX_LENGTH),)),
        (f"bytes={_NINES}-{_NINES}", (IntRange(MAX_LENGTH, MAX_LENGTH),)),
        (f"bytes={_NINES}8-{_NINES}9", (IntRange(MAX_LENGTH, MAX_LENGTH),)),
        (f"bytes={_NINES}9-{_NINES}8", None),
        (f"bytes={_NINES}-5", None),
        (f"bytes={'0' * 8000}7-8", (IntRange(7, 8),)),
    ],
    ids=range(8),
)
def test_thousands_of_digits_are_compared_and_clamped(field: str, expected: tuple[RangeSpec, ...] | None) -> None:
    assert len(field) <= MAX_FIELD_LENGTH
    assert _without_long_ints(lambda: parse_range(field)) == expected


def _calls(function: Callable[[], object]) -> int:
    """How many functions, Python's and C's, are called by ``function``."""
    count = 0

    def profile(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("text", [",", " ,", "0-1,", "-,", "0"])
def test_the_work_grows_with_the_field_and_no_faster(text: str) -> None:
    """Even at the limits there is little to do: at most a few calls a character."""
    field = "bytes=" + text * ((MAX_FIELD_LENGTH - 6) // len(text))
    assert _calls(lambda: parse_range(field)) < 2 * len(field)


def _werkzeug(field: str) -> tuple[RangeSpec, ...] | None:
    """What werkzeug makes of a Range field, in our words; None where we differ on purpose.

    It refuses empty members, sets that are not in ascending order, a suffix-length of 0 and what is over
    Python's limit of digits. It accepts other units, white space around the unit and inside of a range,
    and "0--0" as "0-0". It knows no limits and clamps nothing.
    """
    theirs = parse_range_header(field)
    too_lenient = "--" in field or re.search(r"[0-9-][ \t]+-|-[ \t]+[0-9]|[ \t]=", field)
    if theirs is None or theirs.units != "bytes" or len(theirs.ranges) > MAX_SPECS or too_lenient:
        return None
    return tuple(_clamped(_from_werkzeug(*each)) for each in theirs.ranges)


def _from_werkzeug(start: int, stop: int | None) -> RangeSpec:
    if start < 0:
        return SuffixRange(-start)
    return IntRange(start, None if stop is None else stop - 1)


@given(strategies.ascending_range_fields())
@example("bytes=0-499")
@example("bytes=500-999, 7000-7999")
@example("bytes=-500")
@example("bytes=0-0,-1")
def test_werkzeug_agrees_about_sets_in_ascending_order(field: str) -> None:
    theirs = _werkzeug(field)
    assert theirs is not None
    assert parse_range(field) == theirs


@given(strategies.range_garbage | strategies.malformed_range_fields)
def test_what_werkzeug_accepts_is_accepted(text: str) -> None:
    theirs = _werkzeug(text)
    assert theirs is None or parse_range(text) == theirs


# --- resolve ------------------------------------------------------------------------------------------------


def _slice(spec: RangeSpec) -> slice:
    match spec:
        case SuffixRange(0):
            return slice(0, 0)
        case SuffixRange(length):
            return slice(-length, None)
        case IntRange(first, last):
            return slice(first, None if last is None else last + 1)


@given(strategies.range_specs, strategies.representations.filter(bool))
@example(SuffixRange(1000), bytes(10))  # a 500 in twisted.web.static
@example(SuffixRange(31), bytes(range(31)))  # CouchDB loses the first byte
@example(SuffixRange(1), b"a")  # CouchDB: 416
@example(SuffixRange(2), b"a")
@example(IntRange(0, None), b"a")
def test_one_range_is_a_slice(spec: RangeSpec, whole: bytes) -> None:
    resolved = resolve([spec], len(whole))
    assert resolved is not None
    assert b"".join(whole[each.offset : each.offset + each.length] for each in resolved) == whole[_slice(spec)]
    assert len(resolved) == (1 if whole[_slice(spec)] else 0)


@given(strategies.range_specs, strategies.complete_lengths.filter(bool))
@example(SuffixRange(MAX_LENGTH), MAX_LENGTH)
@example(IntRange(MAX_LENGTH, None), MAX_LENGTH)
@example(IntRange(MAX_LENGTH - 1, None), MAX_LENGTH)
def test_one_range_is_a_slice_of_any_length(spec: RangeSpec, complete_length: int) -> None:
    positions = range(complete_length)[_slice(spec)]
    expected = (ByteRange(positions[0], positions[-1]),) if positions else ()
    assert resolve([spec], complete_length) == expected


@given(strategies.range_spec_sets, strategies.representations.filter(bool))
@example([IntRange(0, 0), IntRange(31, None)], bytes(range(31)))  # CouchDB: 416 for all
@example([IntRange(0, None), IntRange(0, None)], b"a")
@example([IntRange(5, 6), IntRange(0, 1), IntRange(2, 3)], bytes(range(10)))
@example([IntRange(5, 6), IntRange(0, 1), IntRange(3, 4)], bytes(range(10)))
@example([IntRange(0, 8), IntRange(2, 3), IntRange(7, 9)], bytes(range(40)))
def test_a_set_is_a_set_of_slices(specs: list[RangeSpec], whole: bytes) -> None:
    slices = [part for spec in specs if (part := whole[_slice(spec)])]
    resolved = resolve(specs, len(whole))
    if sum(map(len, slices)) > len(whole):
        assert resolved is None
    else:
        assert resolved is not None
        parts = [whole[each.offset : each.offset + each.length] for each in resolved]
        assert parts == _runs(slices)


def _runs(slices: Sequence[bytes]) -> list[bytes]:
    """The maximal runs of neighbours among the bytes of ``slices``, in the order of the slices.

    Bytes are their own positions here, so a run is found by walking from a slice both ways.
    """
    wanted = set(b"".join(slices))
    runs = []
    for part in slices:
        start, stop = part[0], part[-1]
        while start - 1 in wanted:
            start -= 1
        while stop + 1 in wanted:
            stop += 1
        runs.append(bytes(range(start, stop + 1)))
    return list(dict.fromkeys(runs))


@pytest.mark.parametrize(
    ("field", "complete_length", "expected"),
    [
        ("bytes=0-", 10, [(0, 9)]),
        ("bytes=0-0,-1", 10, [(0, 0), (9, 9)]),
        ("bytes=-1,0-0", 10, [(9, 9), (0, 0)]),
        ("bytes=0-0,31-", 31, [(0, 0)]),
        ("bytes=31-,0-0", 31, [(0, 0)]),
        ("bytes=31-", 31, []),
        ("bytes=-0", 31, []),
        ("bytes=-0", 0, []),
        ("bytes=0-", 0, []),
        ("bytes=0-0", 0, []),
        ("bytes=1-,-0", 0, []),
        ("bytes=-1", 0, None),
        ("bytes=0-,-1", 0, None),
        ("bytes=-1", 1, [(0, 0)]),
        ("bytes=-2", 1, [(0, 0)]),
        ("bytes=1-", 1, []),
        ("bytes=-1000", 10, [(0, 9)]),
        ("bytes=0-4,5-9", 10, [(0, 9)]),
        ("bytes=5-9,0-4", 10, [(0, 9)]),
        ("bytes=0-4,4-9", 10, None),
        ("bytes=0-,0-", 10, None),
        ("bytes=0-4,20-29", 10, [(0, 4)]),
        ("bytes=8-9,0-1,1-2,6-6", 10, [(8, 9), (0, 2), (6, 6)]),
        ("bytes=8-9,0-1,7-7", 10, [(7, 9), (0, 1)]),
        ("bytes=18446744073709551616-", 31, []),
        ("bytes=0-18446744073709551616", 31, [(0, 30)]),
    ],
)
def test_field_to_byte_ranges(field: str, complete_length: int, expected: list[tuple[int, int]] | None) -> None:
    specs = parse_range(field)
    assert specs is not None
    resolved = resolve(specs, complete_length)
    assert resolved == (None if expected is None else tuple(ByteRange(*each) for each in expected))


@given(strategies.range_spec_sets, strategies.complete_lengths)
def test_what_is_sent_is_never_more_than_the_whole(specs: list[RangeSpec], complete_length: int) -> None:
    resolved = resolve(specs, complete_length)
    assume(resolved is not None)
    assert resolved is not None
    assert sum(each.length for each in resolved) <= complete_length
    assert all(each.content_range(complete_length) for each in resolved)


@given(strategies.range_spec_sets)
def test_an_empty_representation_has_no_range(specs: list[RangeSpec]) -> None:
    """Section 14.1.2: only a suffix-range with a length is satisfiable, and no Content-Range can tell."""
    has_suffix = any(spec != SuffixRange(0) for spec in specs if isinstance(spec, SuffixRange))
    assert resolve(specs, 0) == (None if has_suffix else ())


@pytest.mark.parametrize("complete_length", [-1, MAX_LENGTH + 1])
def test_an_impossible_complete_length_is_refused(complete_length: int) -> None:
    with pytest.raises(ValueError, match="complete-length"):
        resolve([IntRange(0, 0)], complete_length)


class _CountedInt(int):
    """An int that counts how often it is compared."""

    comparisons = 0

    def __lt__(self, other: int) -> bool:
        _CountedInt.comparisons += 1
        return super().__lt__(other)

    def __le__(self, other: int) -> bool:
        _CountedInt.comparisons += 1
        return super().__le__(other)

    def __gt__(self, other: int) -> bool:
        _CountedInt.comparisons += 1
        return super().__gt__(other)

    def __ge__(self, other: int) -> bool:
        _CountedInt.comparisons += 1
        return super().__ge__(other)


@pytest.mark.parametrize("gap", [1, 2], ids=["touching", "apart"])
def test_merging_takes_n_log_n_comparisons(gap: int) -> None:
    count = 4096
    # In an order that is neither ascending nor descending: 997 has no factor in common with 4096.
    firsts = [place * 997 % count * gap for place in range(count)]
    specs = [IntRange(_CountedInt(first), _CountedInt(first)) for first in firsts]
    _CountedInt.comparisons = 0
    resolved = resolve(specs, count * gap)
    assert resolved is not None
    assert len(resolved) == (1 if gap == 1 else count)
    assert count < _CountedInt.comparisons < 2 * count * math.log2(count)
