"""What a link says, and its signature: the documentation's vectors, and that nothing can be changed unnoticed."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import attrs
import pytest
from attrs import asdict, evolve
from hypothesis import assume, example, given
from hypothesis import strategies as st

from txcouchdl.links import LATEST, Link, parse_number, signing_key

# Made by another program, in another language, from docs/links.rst alone; the first ones are OpenSSL's too.
VECTORS = json.loads((Path(__file__).parent.parent / "docs" / "link-vectors.json").read_text())

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["", "a", "a/b", "a%2Fb", "%", "+", " ", "&", "=", "\n", "\nrev=1-a", "..", "é", "e\u0301", "\x00", "~", "\u2028"]
)
_NAMES = _TEXTS.filter(bool)
_TIMES = st.integers(0, LATEST)

links = st.builds(
    Link,
    database=_NAMES,
    document_id=_NAMES,
    attachment=st.none() | _NAMES,
    expires=_TIMES,
    grace=st.none() | _TIMES,
    digest=st.none() | _TEXTS,
    download=st.none() | _TEXTS,
    rev=st.none() | _TEXTS,
)
keys = st.binary(min_size=1, max_size=80)


def changed(link: Link, name: str, value: object) -> Link:
    fields: dict[str, Any] = {name: value}
    return evolve(link, **fields)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))
def test_the_vectors_of_the_documentation(vector: dict[str, Any]) -> None:
    fields: dict[str, Any] = {each.name: vector.get(each.name) for each in attrs.fields(Link)}
    link = Link(**fields)
    secret = None if vector["secret"] is None else vector["secret"].encode()
    key = signing_key(vector["token"].encode(), secret)
    assert link.message == vector["message"].encode()
    assert link.query(key) == vector["query"]


def test_the_vectors_have_all_there_is() -> None:
    for name in ("grace", "digest", "download", "rev"):
        assert any(name in vector for vector in VECTORS)
    assert {vector["attachment"] is None for vector in VECTORS} == {True, False}
    assert {vector["secret"] is None for vector in VECTORS} == {True, False}


@given(one=links, other=links, key=keys)
def test_no_two_links_have_one_signature(one: Link, other: Link, key: bytes) -> None:
    assert (one == other) == (one.message == other.message) == (one.signature(key) == other.signature(key))


@given(link=links, key=keys, data=st.data())
def test_a_change_of_any_field_breaks_the_signature(link: Link, key: bytes, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(asdict(link))))
    value = data.draw({"expires": _TIMES, "grace": st.none() | _TIMES}.get(name, st.none() | _NAMES))
    assume(value != getattr(link, name) and (value is not None or name not in {"database", "document_id", "expires"}))
    assert changed(link, name, value).signature(key) != link.signature(key)


@given(one=links, name=st.sampled_from(["digest", "download", "rev"]))
def test_empty_is_not_absent(one: Link, name: str) -> None:
    assert changed(one, name, "").message != changed(one, name, None).message


@given(link=links, key=keys, other=keys)
def test_another_key_has_another_signature(link: Link, key: bytes, other: bytes) -> None:
    # To HMAC a short key is one with zeros behind it (RFC 2104, section 2).
    assume(key.rstrip(b"\0") != other.rstrip(b"\0") and len(key) <= 64 and len(other) <= 64)
    assert link.signature(key) != link.signature(other)


@given(token=keys, other=keys, secret=st.binary(min_size=32, max_size=64))
@example(token=b"a", other=b"a\0", secret=b"s" * 32)
def test_a_secret_makes_another_key_of_each_token(token: bytes, other: bytes, secret: bytes) -> None:
    key = signing_key(token, secret)
    assert len(key) == 32
    assert (signing_key(other, secret) == key) == (other == token)
    assert signing_key(token, secret + b"x") != key
    assert signing_key(token, None) == token


@given(link=links, key=keys)
def test_a_query_says_what_was_signed(link: Link, key: bytes) -> None:
    query = link.query(key)
    assert query.isascii()
    assert not set(query) & set("+ #/?\"'<>")
    pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
    assert pairs == [*link.parameters, ("signature", link.signature(key))]
    assert len(link.signature(key)) == 43


@given(link=links)
def test_a_message_can_be_read_in_one_way_only(link: Link) -> None:
    version, method, path, *lines = link.message.decode("ascii").split("\n")
    assert (version, method) == ("couchdl-link-1", "GET")
    names = [unquote(segment) for segment in path.split("/")]
    assert names == ["", link.database, link.document_id, link.attachment or ""]
    read = [(name, unquote(value)) for name, _, value in (line.partition("=") for line in lines)]
    assert read == list(link.parameters)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, number) for name in ("expires", "grace") for number in (-1, LATEST + 1)),
        *((name, "") for name in ("database", "document_id", "attachment")),
    ],
)
def test_what_no_link_says(name: str, value: object) -> None:
    """An empty attachment's name would be the document's link."""
    link = Link(database="db", document_id="doc", attachment=None, expires=0)
    with pytest.raises(ValueError, match=name):
        changed(link, name, value)


@given(number=_TIMES)
def test_a_number_is_written_in_one_way(number: int) -> None:
    assert parse_number(str(number)) == number
    assert parse_number(f"0{number}") is None
    assert parse_number(f"+{number}") is None


@pytest.mark.parametrize(
    "text", ["", "-1", "1.0", "1e3", " 1", "1 ", "1\n", "0x1", "\u0661", "9" * 13, "9" * 5000, "00"]
)
def test_what_is_no_number(text: str) -> None:
    assert parse_number(text) is None


def test_a_name_without_utf8_cannot_be_signed() -> None:
    with pytest.raises(UnicodeEncodeError):
        Link(database="db", document_id="doc", attachment="\ud800", expires=1).signature(b"key")
