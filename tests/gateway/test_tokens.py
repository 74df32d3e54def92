"""The token rule: a secret opens its document, and nothing else opens any."""

import hmac
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests import strategies
from txcouchdl.gateway.tokens import TokenRule

_RULE = TokenRule("download_token")


def _octets(secret: str) -> bytes:
    """As a client shows it, percent-decoded."""
    return secret.encode("utf-8", "surrogatepass")


# --- a secret -----------------------------------------------------------------------------------------------


@given(strategies.secrets, strategies.secrets)
@example("a", "aa")
@example("\u00fc", "u\u0308")
@example("\ud83d\ude00", "\U0001f600")
@example("s3cret", "s3cret\x00")
def test_a_secret_matches_itself_only(secret: str, other: str) -> None:
    document = {"download_token": secret}
    assert _RULE.allows(document, _octets(secret))
    assert _RULE.allows(document, _octets(other)) == (secret == other)


@given(strategies.secrets, st.binary(max_size=30))
@example("\u00fc", b"\xfc")
@example("\ud800", b"?")
@example("\ud800", b"\xef\xbf\xbd")
@example("null", b"None")
def test_octets_match_what_encodes_to_them_only(secret: str, shown: bytes) -> None:
    assert _RULE.allows({"download_token": secret}, shown) == (_octets(secret) == shown)


@given(st.none() | st.just(b""), strategies.json_values)
def test_nothing_shown_opens_nothing(shown: bytes | None, value: Any) -> None:
    assert not _RULE.allows({"download_token": value}, shown)


@given(st.none() | st.binary())
@example(b"None")
@example(b"null")
@example(b"\x00" * 32)
def test_no_document_is_open(shown: bytes | None) -> None:
    assert not _RULE.allows(None, shown)
    assert not _RULE.allows({}, shown)
    assert not _RULE.allows({"_id": "doc", "token": "s3cret", "Download_token": "s3cret"}, shown)


_NO_SECRETS: list[Any] = [None, True, False, 0, 1, 1.5, float("nan"), "", [], {}, [""], [None], [0], [True], [[]], [{}]]


@pytest.mark.parametrize("value", [*_NO_SECRETS, {"s3cret": "s3cret"}, [["s3cret"]], [{"s3cret": 1}], {"": "s3cret"}])
def test_what_is_no_secret_opens_nothing(value: Any) -> None:
    texts = {"s3cret", str(value), repr(value), "null", "true", "false", "1", "0", "[]", "{}", ""}
    for shown in [None, *(text.encode() for text in texts)]:
        assert not _RULE.allows({"download_token": value}, shown)


@given(strategies.json_values, st.binary(min_size=1, max_size=12) | strategies.secrets.map(_octets))
def test_any_value_opens_to_its_strings_only(value: Any, shown: bytes) -> None:
    strings = [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]
    assert _RULE.allows({"download_token": value}, shown) == (shown in [_octets(each) for each in strings])


# --- several, for rotation ----------------------------------------------------------------------------------


@given(st.lists(strategies.secrets, min_size=1, max_size=5), strategies.secrets)
def test_each_secret_of_a_list_opens(accepted: list[str], other: str) -> None:
    document = {"download_token": accepted}
    assert all(_RULE.allows(document, _octets(secret)) for secret in accepted)
    assert _RULE.allows(document, _octets(other)) == (other in accepted)
    assert not _RULE.allows(document, _octets("".join(accepted)) + b"x")


@given(st.permutations([*_NO_SECRETS, "old", "new"]))
def test_what_is_no_secret_in_a_list_does_no_harm(values: list[Any]) -> None:
    document = {"download_token": values}
    assert _RULE.allows(document, b"old")
    assert _RULE.allows(document, b"new")
    for shown in (b"", b"None", b"True", b"1", b"[]", b"oldnew"):
        assert not _RULE.allows(document, shown)


# --- where it is --------------------------------------------------------------------------------------------


@given(
    st.lists(st.text(st.characters(exclude_characters="."), min_size=1, max_size=4), min_size=1, max_size=4),
    strategies.secrets,
)
def test_a_path_of_names(names: list[str], secret: str) -> None:
    document: dict[str, Any] = {names[-1]: secret}
    for name in reversed(names[:-1]):
        document = {name: document}
    rule = TokenRule(".".join(names))
    assert rule.allows(document, _octets(secret))
    # One level off is off.
    assert not rule.allows({"wrapped": document}, _octets(secret))
    if len(set(names)) > 1:
        assume(names[0] != names[-1])
        assert not rule.allows({names[-1]: secret}, _octets(secret))


def test_a_field_with_dots_in_its_name() -> None:
    rule = TokenRule("data.token")
    assert rule.allows({"data.token": "x"}, b"x")
    both = {"data.token": "x", "data": {"token": "y"}}
    # The field of exactly this name is meant.
    assert rule.allows(both, b"x")
    assert not rule.allows(both, b"y")
    # Also when it holds no secret: a document can be closed in this way.
    nothings: list[Any] = [None, "", [], 0]
    for nothing in nothings:
        assert not rule.allows({**both, "data.token": nothing}, b"y")
    # But at the top only.
    assert not TokenRule("a.b.c").allows({"a": {"b.c": "x"}}, b"x")
    assert not TokenRule("a.b.c").allows({"a.b": {"c": "x"}}, b"x")


@pytest.mark.parametrize("on_the_way", [None, True, 0, "token", "", [], [{"token": "x"}], ["token"], {}, {"tok": "x"}])
def test_the_way_may_end_early(on_the_way: Any) -> None:
    rule = TokenRule("data.token")
    assert not rule.allows({"data": on_the_way}, b"x")
    assert not TokenRule("data.token.deeper").allows({"data": {"token": on_the_way}}, b"x")


@given(
    st.dictionaries(st.sampled_from(["data", "token", "data.token", "0"]), strategies.json_values),
    st.binary(max_size=6),
)
def test_any_document_has_an_answer(document: Mapping[str, Any], shown: bytes) -> None:
    for key in ("data.token", "data.0", "token.data.token", "data"):
        assert TokenRule(key).allows(document, shown) in (True, False)


@pytest.mark.parametrize("key", ["", ".", "..", "a.", ".a", "a..b"])
def test_a_key_has_no_empty_names(key: str) -> None:
    with pytest.raises(ValueError, match="token key"):
        TokenRule(key)


# --- in constant time ---------------------------------------------------------------------------------------


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """The pairs that hmac.compare_digest is called for."""
    pairs: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def spy(one: bytes, other: bytes) -> bool:
        pairs.append((one, other))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    return pairs


@pytest.mark.parametrize(
    ("document", "count"),
    [
        (None, 1),
        ({}, 1),
        ({"download_token": None}, 1),
        ({"download_token": ""}, 1),
        ({"download_token": []}, 1),
        ({"download_token": 5}, 1),
        ({"download_token": "s3cret"}, 1),
        ({"download_token": "other"}, 1),
        ({"download_token": ["s3cret", "b", "c"]}, 3),
        ({"download_token": ["a", "s3cret", "c", "", None]}, 3),
        ({"download_token": ["a", "b", "s3cret"]}, 3),
        ({"download_token": ["a", "b", "c" * 10_000]}, 3),
    ],
)
@pytest.mark.parametrize("shown", [None, b"", b"s", b"s3cret", b"s" * 100_000])
def test_all_secrets_are_compared_whatever_is_shown(
    compared: list[tuple[bytes, bytes]], document: dict[str, Any] | None, count: int, shown: bytes | None
) -> None:
    """The first that matches ends nothing, nothing shown is compared too, and so is no document."""
    _RULE.allows(document, shown)
    assert len(compared) == count
    # Of one length, always: comparing takes as long as the shorter is.
    assert {len(value) for pair in compared for value in pair} == {32}


def test_nothing_but_the_constant_time_comparison_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: False)
    assert not _RULE.allows({"download_token": "s3cret"}, b"s3cret")


def test_a_key_is_in_the_repr_and_no_secret() -> None:
    assert repr(_RULE) == "TokenRule(key='download_token')"
