"""Times as people write them."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txcouchdl.cli.durations import parse_end, parse_span
from txcouchdl.links import LATEST

NOW = 1_800_000_000.25


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90s", 90), ("30m", 1800), ("2h", 7200), ("7d", 604800), ("1w", 604800), ("1h30m", 5400), ("0s", 0)],
)
def test_spans(text: str, seconds: int) -> None:
    assert parse_span(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "2", "h", "2 h", "-2h", "+2h", "2h ", "2H", "1.5h", "2h-", "\u0662h", "9" * 10 + "h"]
)
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(ValueError, match="is no length of time"):
        parse_span(text)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        # Never sooner than was said.
        ("2h", 1_800_007_201),
        ("2027-01-15T08:00:01Z", 1_800_000_001),
        ("2027-01-15T09:00:01+01:00", 1_800_000_001),
        ("2027-01-15T08:00:00.5Z", 1_800_000_001),
        ("20270115T080001Z", 1_800_000_001),
    ],
)
def test_ends(text: str, end: int) -> None:
    assert parse_end(text, NOW) == end


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0s", "is over already"),
        ("2027-01-15T08:00:00Z", "is over already"),
        ("1969-12-31T23:59Z", "is over already"),
        ("999999999w", "will never be"),
        ("2027-01-15T08:00:01", "in which zone"),
        ("2027-01-15", "in which zone"),
        ("tomorrow", "is no time"),
        ("1900000000", "is no time"),
        ("", "is no time"),
    ],
)
def test_what_is_no_end(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_end(text, NOW)


@given(text=st.text(max_size=30) | st.text("0123456789smhdw-:TZ+.", max_size=30))
def test_any_text_is_an_end_or_a_sentence(text: str) -> None:
    with suppress(ValueError):
        assert NOW < parse_end(text, NOW) <= LATEST
