"""Byte ranges: the Range field, what it selects, and the Content-Range text (RFC 9110 section 14).

Two steps, because a Range field is parsed before the representation it applies to is known:

- :func:`parse_range` reads the field into range-specs, which mean something for every length;
- :func:`resolve` fits them to one complete-length and gives the byte ranges to send.

Positions count bytes from 0 and are **inclusive** at both ends, as on the wire. They are turned into an
offset and a count in :class:`ByteRange` and nowhere else.

The field is hostile input: it may hold thousands of digits or commas. Numbers are therefore compared and
clamped as text, and only text of bounded length reaches ``int()``, which is quadratic and raises
ValueError past 4300 digits.
"""

import re
from collections.abc import Sequence
from operator import itemgetter
from typing import Final

import attrs
from attrs import validators

#: The longest representation there can be, in bytes: file offsets (``off_t``) and SQLite's integers are
#: signed 64-bit numbers. Its last byte stands at ``MAX_LENGTH - 1``, so a position clamped to MAX_LENGTH
#: still lies past the end of every representation, as the number it stands for did.
MAX_LENGTH: Final = 2**63 - 1

#: The longest Range field that is looked at, in characters.
MAX_FIELD_LENGTH: Final = 32 * 2**10

#: The most range-specs in one field; RFC 9110 section 14.2 lets a server ignore a set of many ranges. Readers of
#: columns and of differences (uproot, zchunk, zsync) send 300 to 1,000.
MAX_SPECS: Final = 1000

_RANGE_UNIT: Final = "bytes"
_OWS: Final = " \t"
# [0-9], because \d also matches the digits of other scripts.
# What nearly all clients send: one int-range, of numbers that are surely below MAX_LENGTH.
_USUAL: Final = re.compile(r"bytes=([0-9]{1,18})-([0-9]{0,18})")
_RANGE_SPEC: Final = re.compile(r"([0-9]+)-([0-9]*)|-([0-9]+)")


def _check_order(first: int, last: int) -> None:
    if first < 0:
        raise ValueError(f"first-pos {first} is negative")
    if last < first:
        raise ValueError(f"last-pos {last} is before first-pos {first}")


@attrs.frozen
class ByteRange:
    """The bytes from ``first`` to ``last``, both included, of a representation: at least one byte.

    :raises ValueError: unless ``0 <= first <= last``.
    """

    first: int
    last: int = attrs.field()

    @last.validator
    def _check_last(self, attribute: "attrs.Attribute[int]", last: int) -> None:
        if not 0 <= self.first <= last:
            _check_order(self.first, last)

    @property
    def offset(self) -> int:
        """How many bytes of the representation come before this range."""
        return self.first

    @property
    def length(self) -> int:
        """How many bytes this range has; never 0."""
        return self.last - self.first + 1

    def content_range(self, complete_length: int) -> str:
        """The Content-Range value for this range (RFC 9110 section 14.4), e.g. ``bytes 0-9/10``.

        :param complete_length: the length in bytes of the whole representation.
        :raises ValueError: if this range does not lie inside of it.
        """
        if self.last >= complete_length:
            raise ValueError(f"last-pos {self.last} is not inside a complete-length of {complete_length}")
        return f"{_RANGE_UNIT} {self.first}-{self.last}/{complete_length}"


def unsatisfied_range(complete_length: int) -> str:
    """The Content-Range value of a 416 (RFC 9110 section 15.5.17), e.g. ``bytes */10``.

    :param complete_length: the length in bytes of the whole representation.
    :raises ValueError: if it is negative.
    """
    if complete_length < 0:
        raise ValueError(f"complete-length {complete_length} is negative")
    return f"{_RANGE_UNIT} */{complete_length}"


@attrs.frozen
class IntRange:
    """``first-last``, or ``first-`` (``last`` is None) for all from ``first`` on (RFC 9110 section 14.1.2).

    :raises ValueError: unless ``0 <= first``, and ``first <= last`` where there is a ``last``.
    """

    first: int
    last: int | None = attrs.field()

    @last.validator
    def _check_last(self, attribute: "attrs.Attribute[int | None]", last: int | None) -> None:
        _check_order(self.first, self.first if last is None else last)

    def is_satisfiable(self, complete_length: int) -> bool:
        """Whether a representation of that many bytes has the first byte asked for."""
        return self.first < complete_length

    def select(self, complete_length: int) -> ByteRange:
        """The bytes asked for that a representation of that many bytes has.

        :raises ValueError: if this is not satisfiable.
        """
        end = complete_length - 1
        return ByteRange(self.first, end if self.last is None else min(self.last, end))


@attrs.frozen
class SuffixRange:
    """``-length``: the last ``length`` bytes (RFC 9110 section 14.1.2).

    :raises ValueError: if ``length`` is negative.
    """

    length: int = attrs.field(validator=validators.ge(0))

    def is_satisfiable(self, complete_length: int) -> bool:
        """Whether any byte is asked for: the RFC makes this so for an empty representation too."""
        return self.length > 0

    def select(self, complete_length: int) -> ByteRange:
        """The bytes asked for, which is all of a shorter representation.

        :raises ValueError: if this is not satisfiable or the representation is empty.
        """
        return ByteRange(max(complete_length - self.length, 0), complete_length - 1)


RangeSpec = IntRange | SuffixRange


def parse_range(field: str | None) -> tuple[RangeSpec, ...] | None:
    """Read a Range field value (RFC 9110 section 14.2). Never raises, whatever the text.

    The range unit is compared without regard to case (section 14.1). Spaces and tabs around the members of
    the set and empty members are let pass (section 5.6.1.2). One bad member makes the whole set invalid.
    Numbers past :data:`MAX_LENGTH` are clamped to it, after first-pos and last-pos were compared exactly.

    :param field: the field value, repeated field lines joined with ``", "``; None if it was not sent. Two
        Range lines thus make an invalid set, for the second unit is no range-spec.
    :return: the range-specs in the order given, at least one. None where the field must or may be ignored:
        absent, another unit, invalid, over :data:`MAX_FIELD_LENGTH` characters or :data:`MAX_SPECS` specs.
    """
    if field is None or len(field) > MAX_FIELD_LENGTH:
        return None
    usual = _USUAL.fullmatch(field)
    if usual is not None:
        first, last = int(usual[1]), int(usual[2]) if usual[2] else None
        return (IntRange(first, last),) if last is None or first <= last else None
    unit, _, range_set = field.partition("=")
    if unit.lower() != _RANGE_UNIT:
        return None
    members = [member for text in range_set.split(",") if (member := text.strip(_OWS))]
    if not 1 <= len(members) <= MAX_SPECS:
        return None
    specs = tuple(spec for member in members if (spec := _parse_spec(member)) is not None)
    return specs if len(specs) == len(members) else None


def _parse_spec(text: str) -> RangeSpec | None:
    """Read one member of a range-set; None if it is not an int-range or suffix-range, or is invalid."""
    found = _RANGE_SPEC.fullmatch(text)
    if found is None:
        return None
    first, last, suffix_length = found.groups()
    if suffix_length is not None:
        return SuffixRange(_clamp(suffix_length))
    if last and _magnitude(last) < _magnitude(first):
        return None
    return IntRange(_clamp(first), _clamp(last) if last else None)


def _magnitude(digits: str) -> tuple[int, str]:
    """A key that orders texts of ASCII digits as the numbers they write, exactly and in linear time."""
    significant = digits.lstrip("0")
    return len(significant), significant


_MAX_MAGNITUDE: Final = _magnitude(str(MAX_LENGTH))


def _clamp(digits: str) -> int:
    """The number that ASCII digits write, or :data:`MAX_LENGTH` if that is less."""
    if _magnitude(digits) >= _MAX_MAGNITUDE:
        return MAX_LENGTH
    return int(digits.lstrip("0") or "0")


def resolve(specs: Sequence[RangeSpec], complete_length: int) -> tuple[ByteRange, ...] | None:
    """Fit a range-set to a representation (RFC 9110 sections 14.1.2 and 14.2).

    Unsatisfiable members are dropped, the others are clipped. Those that overlap or touch become one range,
    which stands where the first of them stood in the request (section 15.3.7.2).

    :param specs: the range-specs as :func:`parse_range` gives them.
    :param complete_length: the length of the representation in bytes, 0 to :data:`MAX_LENGTH`.
    :return: the byte ranges to send: disjoint, with at least one byte between any two. An empty tuple if
        nothing is satisfiable (416). None if the Range is to be ignored and the whole representation sent:

        - the members together ask for more bytes than there are. Such a set costs more than it saves, and
          is how small requests are amplified into large answers (section 17.15);
        - the representation is empty, and a suffix-range asks for its last bytes. That is satisfiable, but
          Content-Range has no way to say "no bytes".
    :raises ValueError: if ``complete_length`` is out of bounds.
    """
    if not 0 <= complete_length <= MAX_LENGTH:
        raise ValueError(f"complete-length {complete_length} is not between 0 and {MAX_LENGTH}")
    satisfiable = [spec for spec in specs if spec.is_satisfiable(complete_length)]
    if satisfiable and complete_length == 0:
        return None
    selected = [spec.select(complete_length) for spec in satisfiable]
    if len(selected) < 2:
        # One alone is never longer than the whole, and there is nothing to join.
        return tuple(selected)
    if sum(member.length for member in selected) > complete_length:
        return None
    return _merge(selected)


def _merge(ranges: Sequence[ByteRange]) -> tuple[ByteRange, ...]:
    """Join what overlaps or touches, each result at the place of its first member. O(n log n)."""
    merged: list[tuple[int, ByteRange]] = []
    for place, member in sorted(enumerate(ranges), key=lambda entry: entry[1].first):
        if merged and member.first <= merged[-1][1].last + 1:
            first_place, before = merged[-1]
            joined = ByteRange(before.first, max(before.last, member.last))
            merged[-1] = (min(first_place, place), joined)
        else:
            merged.append((place, member))
    return tuple(member for _, member in sorted(merged, key=itemgetter(0)))
