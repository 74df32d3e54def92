"""Preconditions, against a table written from the prose of RFC 9110 sections 8.8.3 and 13."""

import itertools
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests import strategies
from txcouchdl.protocol.conditions import (
    ANY,
    EntityTag,
    UnquotedTag,
    Verdict,
    evaluate,
    parse_entity_tag_list,
)

# --- entity-tags --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("character", ['"', " ", "\t", "\r", "\n", "\x00", "\x1f", "\x7f", "\u0100", "\ud800"])
def test_an_entity_tag_holds_etagc_only(character: str) -> None:
    with pytest.raises(ValueError, match="opaque"):
        EntityTag(f"a{character}")


@pytest.mark.parametrize("text", ["", ",", "a,b", '"a"', "a b"])
def test_an_unquoted_tag_holds_no_delimiter(text: str) -> None:
    with pytest.raises(ValueError, match="text"):
        UnquotedTag(text)


@given(strategies.entity_tags)
def test_an_entity_tag_is_written_and_read_back(tag: EntityTag) -> None:
    assert str(tag) == ("W/" if tag.weak else "") + '"' + tag.opaque + '"'
    assert parse_entity_tag_list(str(tag)) == (tag,)


# The table of section 8.8.3.2.
@pytest.mark.parametrize(
    ("one", "other", "strongly", "weakly"),
    [
        (EntityTag("1", weak=True), EntityTag("1", weak=True), False, True),
        (EntityTag("1", weak=True), EntityTag("2", weak=True), False, False),
        (EntityTag("1", weak=True), EntityTag("1"), False, True),
        (EntityTag("1"), EntityTag("1", weak=True), False, True),
        (EntityTag("1"), EntityTag("1"), True, True),
        (EntityTag("1"), EntityTag("2"), False, False),
        (EntityTag("a"), EntityTag("A"), False, False),
    ],
)
def test_comparison(one: EntityTag, other: EntityTag, strongly: bool, weakly: bool) -> None:
    assert one.strongly_equals(other) is strongly
    assert one.weakly_equals(other) is weakly


# --- lists --------------------------------------------------------------------------------------------------


@given(strategies.entity_tag_lists())
def test_malformed_elements_do_not_spoil_their_neighbours(drawn: tuple[str, list[EntityTag]]) -> None:
    field, tags = drawn
    assert parse_entity_tag_list(field) == tuple(tags)


@given(strategies.entity_tag_lists(), strategies.unclosed_tags, strategies.entity_tag_lists())
def test_an_unclosed_quote_spoils_what_is_behind_it_only(
    before: tuple[str, list[EntityTag]], unclosed: str, after: tuple[str, list[EntityTag]]
) -> None:
    parsed = parse_entity_tag_list(f"{before[0]},{unclosed}")
    assert parsed == tuple(before[1])
    longer = parse_entity_tag_list(f"{before[0]},{unclosed},{after[0]}")
    assert longer is not ANY
    assert longer[: len(before[1])] == tuple(before[1])


@given(st.lists(strategies.unquoted_tags, max_size=5))
def test_unquoted_elements_are_kept_as_they_are(words: list[str]) -> None:
    # A word before the list keeps a lone "*" from being the whole field.
    expected = tuple(UnquotedTag(word) for word in ["first", *words])
    assert parse_entity_tag_list(", ".join(["first", *words])) == expected


@pytest.mark.parametrize("field", ["*", " * ", "\t*"])
def test_any(field: str) -> None:
    assert parse_entity_tag_list(field) is ANY


@pytest.mark.parametrize("field", ['"*"', "*, *", '*, "a"', '"a", *', "**", "*,", ",*", 'W/"*"', "W/*"])
def test_not_any(field: str) -> None:
    assert parse_entity_tag_list(field) is not ANY


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("", ()),
        (" ,\t, ", ()),
        ('""', (EntityTag(""),)),
        ('"a,b"', (EntityTag("a,b"),)),
        ('"a,","b"', (EntityTag("a,"), EntityTag("b"))),
        ('"a" ,W/"b"', (EntityTag("a"), EntityTag("b", weak=True))),
        ('"W/2Gt+80"', (EntityTag("W/2Gt+80"),)),
        ('W/"W/2Gt+80"', (EntityTag("W/2Gt+80", weak=True),)),
        ('"a\\"', (EntityTag("a\\"),)),
        ('w/"a", "b"', (EntityTag("b"),)),
        ('"a b", "c"', (EntityTag("c"),)),
        ('"a" "b", "c"', (EntityTag("c"),)),
        ('"a", 1-abc', (EntityTag("a"), UnquotedTag("1-abc"))),
        ('"a", "b', (EntityTag("a"),)),
        ('"a, "b"', ()),
        ('"\xe9"', (EntityTag("\xe9"),)),
        ('"\u0100", "a"', (EntityTag("a"),)),
        ('"a"\n', ()),
    ],
)
def test_lists(field: str, expected: tuple[EntityTag | UnquotedTag, ...]) -> None:
    assert parse_entity_tag_list(field) == expected


@given(strategies.tag_garbage)
@example('"' * 100_000)
@example('"a",' * 25_000)
@example('W/"' * 33_333)
@example("a" * 100_000)
@example(" " * 100_000 + "a")
def test_reading_a_list_never_raises(text: str) -> None:
    parsed = parse_entity_tag_list(text)
    assert parsed is ANY or all(str(tag) in text for tag in parsed if isinstance(tag, EntityTag))


# --- the verdict --------------------------------------------------------------------------------------------

_CURRENT: Final = EntityTag("W/x,y=")
_ALIAS: Final = "7-abc"
_DATE: Final = "Sat, 29 Oct 1994 19:43:31 GMT"

# Section 13.1.1: "*" and a representation: true. A list: true if any tag matches it, strongly. Otherwise
# false. The alias counts as a strong tag and as a bare word.
_IF_MATCH: Final = {
    None: None,
    "*": True,
    '"W/x,y="': True,
    '"no", "W/x,y="': True,
    ',"W/x,y=",': True,
    '"no" "W/x,y=", "W/x,y="': True,
    '"7-abc"': True,
    "7-abc": True,
    '"no", 7-abc': True,
    "": False,
    ",": False,
    '"no"': False,
    'W/"W/x,y="': False,
    'w/"W/x,y="': False,
    '"w/x,y="': False,
    '"x,y="': False,
    "W/x,y=": False,
    '"W/x", "y="': False,
    'W/"7-abc"': False,
    "7-ABC": False,
    "7-ab": False,
    '*, "no"': False,
    "**": False,
    '"': False,
    _DATE: False,
}

# Section 13.1.2: "*" and a representation: false. A list: false if any tag matches it, weakly. Otherwise
# true.
_IF_NONE_MATCH: Final = {
    None: None,
    "*": False,
    '"W/x,y="': False,
    'W/"W/x,y="': False,
    '"no", W/"W/x,y=", "no"': False,
    'oops, "W/x,y="': False,
    "": True,
    ",": True,
    '"no"': True,
    'w/"W/x,y="': True,
    '"x,y="': True,
    "W/x,y=": True,
    '"7-abc"': True,
    "7-abc": True,
    "*, *": True,
    '"W/x,y=': True,
    _DATE: True,
}

# Section 13.1.5: one entity-tag: true if it matches strongly. A date: true if it is the Last-Modified, of
# which there is none. Nothing else is a value.
_IF_RANGE: Final = {
    None: None,
    '"W/x,y="': True,
    ' "W/x,y="\t': True,
    'W/"W/x,y="': False,
    '"no"': False,
    '"W/x,y=", "no"': False,
    '"W/x,y=", "W/x,y="': False,
    '"W/x,y=",': False,
    "W/x,y=": False,
    "*": False,
    "": False,
    '"7-abc"': False,
    "7-abc": False,
    _DATE: False,
}

# Section 13.2.2, one row a way through its steps; None: not sent, ...: whatever it is.
_STEPS: Final = [
    # If-Match, If-None-Match, If-Range
    (False, ..., ..., {"GET": Verdict.PRECONDITION_FAILED, "*": Verdict.PRECONDITION_FAILED}),
    (
        True,
        False,
        ...,
        {"GET": Verdict.NOT_MODIFIED, "HEAD": Verdict.NOT_MODIFIED, "*": Verdict.PRECONDITION_FAILED},
    ),
    (
        None,
        False,
        ...,
        {"GET": Verdict.NOT_MODIFIED, "HEAD": Verdict.NOT_MODIFIED, "*": Verdict.PRECONDITION_FAILED},
    ),
    (True, True, False, {"GET": Verdict.PROCEED_WITHOUT_RANGE, "*": Verdict.PROCEED}),
    (True, None, False, {"GET": Verdict.PROCEED_WITHOUT_RANGE, "*": Verdict.PROCEED}),
    (None, True, False, {"GET": Verdict.PROCEED_WITHOUT_RANGE, "*": Verdict.PROCEED}),
    (None, None, False, {"GET": Verdict.PROCEED_WITHOUT_RANGE, "*": Verdict.PROCEED}),
    (..., ..., True, {"*": Verdict.PROCEED}),
    (..., ..., None, {"*": Verdict.PROCEED}),
]


def _expected(method: str, *truths: bool | None) -> Verdict:
    for *row, verdicts in _STEPS:
        if all(cell is ... or cell is truth for cell, truth in zip(row, truths, strict=True)):
            assert isinstance(verdicts, dict)
            return verdicts.get(method) or verdicts["*"]
    raise AssertionError(truths)


def _verdict(method: str, if_match: str | None, if_none_match: str | None, if_range: str | None) -> Verdict:
    return evaluate(
        method=method,
        etag=_CURRENT,
        if_match_alias=_ALIAS,
        if_match=if_match,
        if_none_match=if_none_match,
        if_range=if_range,
    )


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "get"])
def test_every_combination(method: str) -> None:
    for if_match, if_none_match, if_range in itertools.product(_IF_MATCH, _IF_NONE_MATCH, _IF_RANGE):
        truths = _IF_MATCH[if_match], _IF_NONE_MATCH[if_none_match], _IF_RANGE[if_range]
        verdict = _verdict(method, if_match, if_none_match, if_range)
        assert verdict is _expected(method, *truths), (if_match, if_none_match, if_range)


@pytest.mark.parametrize("method", ["CONNECT", "OPTIONS", "TRACE"])
def test_methods_that_select_nothing_have_no_preconditions(method: str) -> None:
    """Section 13.2.1."""
    assert _verdict(method, '"no"', "*", '"no"') is Verdict.PROCEED


@pytest.mark.parametrize("if_match", ["", "None", '"None"', '""'])
def test_without_an_alias_only_the_entity_tag_matches(if_match: str) -> None:
    verdict = evaluate(method="GET", etag=_CURRENT, if_match=if_match, if_none_match=None, if_range=None)
    assert verdict is Verdict.PRECONDITION_FAILED


def test_without_quotes_the_current_entity_tag_is_no_entity_tag() -> None:
    def verdict(if_match: str | None, if_none_match: str | None, if_range: str | None) -> Verdict:
        return evaluate(
            method="GET",
            etag=EntityTag("abc="),
            if_match=if_match,
            if_none_match=if_none_match,
            if_range=if_range,
            if_match_alias=_ALIAS,
        )

    assert verdict("abc=", None, None) is Verdict.PRECONDITION_FAILED
    assert verdict(None, "abc=", None) is Verdict.PROCEED
    assert verdict(None, None, "abc=") is Verdict.PROCEED_WITHOUT_RANGE


def test_a_weak_current_entity_tag_is_good_for_if_none_match_only() -> None:
    def verdict(**fields: str) -> Verdict:
        sent: dict[str, str | None] = {"if_match": None, "if_none_match": None, "if_range": None}
        return evaluate(method="GET", etag=EntityTag("a", weak=True), **(sent | fields))

    assert verdict(if_match='W/"a"') is Verdict.PRECONDITION_FAILED
    assert verdict(if_none_match='"a"') is Verdict.NOT_MODIFIED
    assert verdict(if_range='W/"a"') is Verdict.PROCEED_WITHOUT_RANGE


_FIELDS: Final = st.none() | strategies.tag_garbage | strategies.entity_tag_lists().map(lambda drawn: drawn[0])


@given(strategies.entity_tags, st.sampled_from(["GET", "HEAD", "POST"]), _FIELDS, _FIELDS, _FIELDS)
def test_no_field_raises(
    etag: EntityTag, method: str, if_match: str | None, if_none_match: str | None, if_range: str | None
) -> None:
    verdict = evaluate(method=method, etag=etag, if_match=if_match, if_none_match=if_none_match, if_range=if_range)
    assert verdict is not Verdict.PROCEED_WITHOUT_RANGE or (method == "GET" and if_range is not None)
    assert verdict is not Verdict.NOT_MODIFIED or (method != "POST" and if_none_match is not None)


@given(strategies.entity_tags.filter(lambda tag: not tag.weak), strategies.entity_tag_lists())
def test_the_current_tag_is_found_in_any_list(etag: EntityTag, drawn: tuple[str, list[EntityTag]]) -> None:
    def verdict(if_match: str | None, if_none_match: str | None) -> Verdict:
        return evaluate(method="GET", etag=etag, if_match=if_match, if_none_match=if_none_match, if_range=None)

    field, tags = drawn
    matches = any(str(tag) == str(etag) for tag in tags)
    assert (verdict(field, None) is Verdict.PROCEED) is matches
    assert verdict(f"{field},{etag}", None) is Verdict.PROCEED
    assert verdict(None, f"W/{etag},{field}") is Verdict.NOT_MODIFIED
