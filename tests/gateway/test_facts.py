"""From headers and a query to facts."""

from collections.abc import Sequence
from urllib.parse import parse_qsl

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.web.http_headers import Headers

from tests import strategies
from txcouchdl.gateway.facts import facts_of, parse_query
from txcouchdl.gateway.plan import RequestFacts


def _facts(query: bytes = b"", **fields: bytes | list[bytes]) -> RequestFacts:
    headers = Headers()
    for name, value in fields.items():
        headers.setRawHeaders(name.replace("_", "-"), [value] if isinstance(value, bytes) else value)
    return facts_of(b"GET", query, _fields(headers))


def _fields(headers: Headers) -> dict[bytes, Sequence[bytes]]:
    return {name.lower(): values for name, values in headers.getAllRawHeaders()}


# --- the query ----------------------------------------------------------------------------------------------


@given(st.binary() | st.text("abtoken=&+%2B4;?#", max_size=30).map(str.encode))
@example(b"a=b=c&&=&a")
@example(b"%zz=%&+=+%2B")
def test_any_query_is_read_as_a_form_is(query: bytes) -> None:
    expected: dict[bytes, list[bytes]] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="latin-1"):
        expected.setdefault(name.encode("latin-1"), []).append(value.encode("latin-1"))
    read = parse_query(query)
    # The nameless ones are nothing to anybody.
    for parameters in (expected, read):
        parameters.pop(b"", None)
    assert read == expected


@given(st.data(), strategies.secrets, strategies.secrets)
def test_a_token_in_any_spelling(data: st.DataObject, secret: str, other: str) -> None:
    name = data.draw(strategies.spellings("token"))
    shown = data.draw(strategies.spellings(secret, safe="-._~:/?@!$'()*,=")).replace(b"%20", b"+")
    octets = secret.encode("utf-8", "surrogatepass")
    assert _facts(name + b"=" + shown).token == octets
    noise = data.draw(strategies.spellings(other))
    assert _facts(b"a=" + noise + b"&" + name + b"=" + shown + b"&b=" + noise).token == octets
    assert _facts(b"&&" + name + b"=" + shown + b"&").token == octets


@pytest.mark.parametrize(
    ("query", "token"),
    [
        (b"", None),
        (b"token", b""),
        (b"token=", b""),
        (b"token=a+b", b"a b"),
        (b"token=a%2Bb", b"a+b"),
        (b"token=a%2bb", b"a+b"),
        (b"token=a%20b", b"a b"),
        (b"token=a=b", b"a=b"),
        (b"token=a%26b", b"a&b"),
        (b"token=a;b", b"a;b"),
        (b"token=a?b#c", b"a?b#c"),
        (b"token=%", b"%"),
        (b"token=%zz", b"%zz"),
        (b"token=%FF%00", b"\xff\x00"),
        (b"token=%C3%BC", "\u00fc".encode()),
        (b"token=\xc3\xbc", "\u00fc".encode()),
        (b"token=%2541", b"%41"),
        (b"t%6fken=x", b"x"),
        (b"TOKEN=x", None),
        (b"token%20=x", None),
        (b"+token=x", None),
        (b"token[]=x", None),
        (b"token%3Dx", None),
        (b"%26token=x", None),
        (b"a=1;token=x", None),
        (b"a?token=x", None),
        (b"rev=1-a&token=x", b"x"),
    ],
)
def test_tokens_of_queries(query: bytes, token: bytes | None) -> None:
    assert _facts(query).token == token


def test_several_tokens_are_none() -> None:
    """Which one was meant is not ours to guess; whoever signs links must not be outdone by an added parameter."""
    for query in (
        b"token=a&token=b",
        b"token=a&token=a",
        b"token=a&token=",
        b"token=&token=a",
        b"token=a&t%6Fken=b",
        b"token&token=a",
    ):
        assert _facts(query).token is None
        assert _facts(query, Authorization=b"Bearer c").token is None
    assert _facts(Authorization=[b"Bearer a", b"Bearer b"]).token is None


# --- Bearer -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("credentials", "token"),
    [
        (b"Bearer s3cret", b"s3cret"),
        (b"bearer s3cret", b"s3cret"),
        (b"BEARER s3cret", b"s3cret"),
        (b"Bearer   s3cret", b"s3cret"),
        (b"Bearer a+b%20c/d==", b"a+b%20c/d=="),
        (b"Bearer a b", b"a b"),
        (b"Bearer \xc3\xbc", "\u00fc".encode()),
        (b"Basic s3cret", None),
        (b"Bearer", None),
        (b"Bearers3cret", None),
        (b"Bearer: s3cret", None),
        (b"Token s3cret", None),
        (b"s3cret", None),
        (b"", None),
    ],
)
def test_tokens_of_bearers(credentials: bytes, token: bytes | None) -> None:
    assert _facts(Authorization=credentials).token == token


def test_another_scheme_beside_it_does_no_harm() -> None:
    assert _facts(Authorization=[b"Basic YTpi", b"Bearer s3cret"]).token == b"s3cret"


def test_the_query_goes_before_the_header() -> None:
    assert _facts(b"token=a", Authorization=b"Bearer b").token == b"a"
    # What was shown empty was shown.
    assert not _facts(b"token=", Authorization=b"Bearer b").token


def test_a_token_from_nowhere_else() -> None:
    facts = _facts(
        b"x=1", Cookie=b"token=a", Referer=b"http://h/db/d/f?token=a", X_Token=b"a", Proxy_Authorization=b"Bearer a"
    )
    assert facts.token is None


# --- the rest -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "rev"),
    [
        (b"", None),
        (b"token=x", None),
        (b"rev", ""),
        (b"rev=", ""),
        (b"rev=1-abc", "1-abc"),
        (b"rev=1%2Dabc", "1-abc"),
        (b"r%65v=1-abc", "1-abc"),
        (b"rev=1-a+b", "1-a b"),
        (b"rev=%C3%BC", "\u00fc"),
        (b"rev=%FF%00", "\ufffd\x00"),
        (b"rev=1-a&rev=1-a", "1-a, 1-a"),
        (b"rev=&rev=1-a", ", 1-a"),
        (b"REV=1-a", None),
        (b"revs=1-a", None),
    ],
)
def test_revisions(query: bytes, rev: str | None) -> None:
    assert _facts(query).rev == rev


_FIELDS = [("Range", "range"), ("If-Match", "if_match"), ("If-None-Match", "if_none_match"), ("If-Range", "if_range")]
_VALUES = st.lists(
    st.binary(max_size=20).filter(lambda value: not set(value) & set(b"\r\n\x0b\x0c\x1c\x1d\x1e\x1f\x85")), max_size=3
)


@given(st.lists(_VALUES, min_size=4, max_size=4))
def test_fields_are_joined_and_nothing_is_taken_for_another(values: list[list[bytes]]) -> None:
    """RFC 9110 section 5.3. Octets outside of ASCII are kept apart: ISO 8859-1 has one character for each."""
    headers = Headers()
    for (name, _), lines in zip(_FIELDS, values, strict=True):
        if lines:
            headers.setRawHeaders(name, lines)
    facts = facts_of(b"GET", b"", _fields(headers))
    for (name, attribute), lines in zip(_FIELDS, values, strict=True):
        sent = headers.getRawHeaders(name.encode("ascii"))
        expected = None if sent is None else ", ".join(line.decode("latin-1") for line in sent)
        assert getattr(facts, attribute) == expected
        assert (expected is None) == (not lines)


def test_an_empty_field_is_not_an_absent_one() -> None:
    assert _facts(Range=b"").range == ""
    assert _facts().range is None


@given(st.binary(max_size=8))
def test_methods(method: bytes) -> None:
    facts = facts_of(method, b"", {})
    assert facts == RequestFacts(method.decode("latin-1"))


@given(st.binary(max_size=60), st.lists(st.binary(max_size=20), max_size=3))
def test_any_request_has_facts(query: bytes, lines: list[bytes]) -> None:
    headers = Headers()
    for name in (b"Authorization", b"Range", b"If-Match"):
        headers.setRawHeaders(name, lines)
    facts = facts_of(b"GET", query, _fields(headers))
    assert facts.token is None or isinstance(facts.token, bytes)
