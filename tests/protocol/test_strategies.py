"""What tests/strategies.py promises. Judged here by other means than those that the code under test uses."""

import json
import re
import unicodedata
from typing import Final

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests import strategies
from txcouchdl.protocol.conditions import EntityTag
from txcouchdl.protocol.ranges import MAX_LENGTH, MAX_SPECS, ByteRange, IntRange, RangeSpec, SuffixRange

# RFC 9110 sections 14.1.1 and 5.6.1.2, written down a second time and as one expression.
_SPEC = "(?:[0-9]+-[0-9]*|-[0-9]+)"
_UNIT = "[Bb][Yy][Tt][Ee][Ss]"
_GRAMMAR = re.compile(rf"{_UNIT}=[ \t]*(?:,[ \t]*)*{_SPEC}[ \t]*(?:,[ \t]*(?:{_SPEC}[ \t]*)?)*")


def _has_backward_member(field: str) -> bool:
    return any(int(last) < int(first) for first, last in re.findall(r"([0-9]+)-([0-9]+)", field))


@given(strategies.json_texts)
def test_json_texts_are_json(text: str) -> None:
    json.loads(text)


@given(strategies.document_texts)
def test_document_texts_have_no_special_members(text: str) -> None:
    assert not [name for name in json.loads(text) if name.startswith("_")]


@pytest.mark.parametrize("pattern", [r'"a":.*"(a|\\u0061)":', r"\d{32}", r"[^.\d]\d+e-3[12]\d", r"\[\d+,"])
def test_json_texts_reach_what_makes_a_difference(pattern: str) -> None:
    """Two members of one name, long numbers, tiny numbers without a point, arrays of numbers."""
    found = find(
        strategies.document_texts,
        lambda text: re.search(pattern, text, re.DOTALL) is not None,
        settings=settings(max_examples=20_000, phases=[Phase.generate], database=None),
    )
    assert found


@given(strategies.representations)
def test_the_bytes_of_a_representation_are_all_different(data: bytes) -> None:
    assert len(set(data)) == len(data)


@given(strategies.complete_lengths)
def test_complete_lengths_are_possible(complete_length: int) -> None:
    assert 0 <= complete_length <= MAX_LENGTH


@given(st.data(), strategies.complete_lengths.filter(bool))
def test_byte_ranges_lie_inside(data: st.DataObject, complete_length: int) -> None:
    assert data.draw(strategies.byte_ranges(complete_length)).last < complete_length


@given(strategies.range_fields())
def test_range_fields_follow_the_grammar(drawn: tuple[str, list[RangeSpec]]) -> None:
    field, specs = drawn
    assert _GRAMMAR.fullmatch(field)
    assert not _has_backward_member(field)
    assert [int(number) for number in re.findall("[0-9]+", field)] == [
        number
        for spec in specs
        for number in ([spec.length] if isinstance(spec, SuffixRange) else [spec.first, spec.last])
        if number is not None
    ]


@given(strategies.ascending_range_fields())
def test_ascending_range_fields_ascend(field: str) -> None:
    numbers = [int(number) for number in re.findall("[0-9]+", re.sub("[=,][ \t]*-.*", "", field))]
    assert _GRAMMAR.fullmatch(field)
    assert numbers == sorted(set(numbers))


@given(strategies.malformed_range_fields)
def test_malformed_range_fields_do_not_follow_the_grammar(field: str) -> None:
    too_many = field.count(",") >= MAX_SPECS
    assert not _GRAMMAR.fullmatch(field) or _has_backward_member(field) or too_many


@given(strategies.entity_tag_lists())
def test_entity_tag_lists_hold_their_tags(drawn: tuple[str, list[EntityTag]]) -> None:
    field, tags = drawn
    assert field.count('"') % 2 == 0
    assert all(str(tag) in field for tag in tags)


@given(strategies.malformed_tags | strategies.unclosed_tags)
def test_malformed_tags_are_no_entity_tags_and_no_words(text: str) -> None:
    assert not re.fullmatch(r'(W/)?"[!#-~\x80-\xff]*"|[!#-~\x80-\xff]+', text)


@given(strategies.unclosed_tags)
def test_unclosed_tags_have_an_odd_number_of_quotes(text: str) -> None:
    assert text.count('"') % 2 == 1


@given(strategies.unquoted_tags)
def test_unquoted_tags_have_nothing_that_ends_an_element(text: str) -> None:
    assert not set(text) & set('", \t')


@given(strategies.boundaries)
def test_boundaries_are_of_both_rfcs(boundary: str) -> None:
    assert re.fullmatch(r"[0-9a-zA-Z'()+_,./:=? -]{0,69}[0-9a-zA-Z'()+_,./:=?-]", boundary)  # RFC 2046, 5.1.1
    assert re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", boundary)  # RFC 9110, 5.6.2


@given(strategies.content_types)
def test_content_types_can_be_sent(content_type: str) -> None:
    assert not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", content_type.encode("iso-8859-1"))


@given(strategies.hostile_content_types())
def test_hostile_content_types_cannot_be_sent(content_type: str) -> None:
    assert re.search(r"[^\t\x20-\x7e\x80-\xff]", content_type)


@given(strategies.friendly_names)
def test_friendly_names_are_printable(name: str) -> None:
    assert name.isprintable()
    assert not set(name) & set('/\\"')


def _is_surrogate(text: str) -> bool:
    return any(unicodedata.category(character) == "Cs" for character in text)


_THOROUGH: Final = settings(max_examples=5000, phases=[Phase.generate])


# A strategy that has lost its teeth would let every test pass: each of these must still be found.
@pytest.mark.parametrize(
    ("strategy", "wanted"),
    [
        (strategies.complete_lengths, lambda n: n == 0),
        (strategies.complete_lengths, lambda n: n == 1),
        (strategies.complete_lengths, lambda n: n > 2**62),
        (strategies.range_specs, lambda spec: isinstance(spec, IntRange) and spec.last is None),
        (strategies.range_specs, lambda spec: spec == SuffixRange(0)),
        (strategies.range_spec_sets, lambda specs: len(specs) > 3),
        (strategies.byte_ranges(10), lambda member: member == ByteRange(9, 9)),
        (strategies.range_fields(), lambda drawn: ",," in drawn[0]),
        (strategies.range_fields(), lambda drawn: re.search("[0-9]{25}", drawn[0])),
        (strategies.malformed_range_fields, lambda field: field == "bytes="),
        (strategies.malformed_range_fields, lambda field: field.count(",") > MAX_SPECS),
        (strategies.malformed_range_fields, lambda field: field.isascii() and _has_backward_member(field)),
        (strategies.malformed_range_fields, lambda field: not field.isascii()),
        (strategies.range_garbage, lambda text: text.startswith("bytes=") and "-" in text),
        (strategies.opaque_tags, lambda opaque: "," in opaque),
        (strategies.opaque_tags, lambda opaque: opaque.startswith("W/")),
        (strategies.entity_tags, lambda tag: tag.weak),
        (strategies.entity_tag_lists(), lambda drawn: len(drawn[1]) > 1),
        (strategies.tag_garbage, lambda text: '",' in text),
        (strategies.hostile_names, lambda name: len(name.encode(errors="replace")) > 255),
        (strategies.hostile_names, lambda name: "\r\n" in name),
        (strategies.hostile_names, lambda name: "\u202e" in name),
        (strategies.hostile_names, _is_surrogate),
        (strategies.guess_steps, lambda steps: any(step.seconds < 0 for step in steps)),
        (strategies.guess_cycles, lambda cycle: None in cycle and float("inf") in cycle),
    ],
)
def test_what_matters_is_drawn(strategy: SearchStrategy[object], wanted: object) -> None:
    # That there is one is enough: it need not be the smallest. Raises NoSuchExample.
    find(strategy, wanted, settings=_THOROUGH)  # type: ignore[arg-type]
