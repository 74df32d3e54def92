"""URLs: what is asked for, what is shown of it, and what is the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txcouchdl.cli.locations import BadLocation, Location, parse_location


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://h/db/doc/f?token=x", "http://h/db/doc/f?token=x"),
        ("HTTP://H:80/a%2Fb#fragment", "http://h/a%2Fb"),
        ("https://h:443", "https://h/"),
        ("https://h:8443/ü b?q=ü", "https://h:8443/%C3%BC%20b?q=%C3%BC"),
        ("http://[::1]:8000/x", "http://[::1]:8000/x"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://straße.example/", "http://xn--strae-oqa.example/"),
        ("http://BÜCHER。example/", "http://xn--bcher-kva.example/"),
        ("http://h/100%", "http://h/100%25"),
        ("http://h/a?b=%2B+c&d", "http://h/a?b=%2B+c&d"),
    ],
)
def test_urls(text: str, url: str) -> None:
    assert parse_location(text).url == url
    assert parse_location(url).url == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h/x",
        "ftp://h/x",
        "http:///x",
        "http://u:p@h/",
        "http://h:x/",
        "http://h:99999/",
        "http://a b/",
        "http://h/\r\nX: y",
        "http://h/\x00",
        "file:///etc/passwd",
        "http://[::1/",
        "http://a\u0301\u200b\u2044b.example/",
        "http://h/" + "x" * 20_000,
    ],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(BadLocation) as refused:
        parse_location(text)
    assert len(text) < 4 or text not in refused.value.sentence


@given(st.text())
def test_any_text(text: str) -> None:
    """It is ASCII, without white space, or no address."""
    try:
        url = parse_location(f"http://h/{text}").url
    except BadLocation:
        return
    assert url.isascii()
    assert url.isprintable()
    assert " " not in url


SECRET = parse_location("http://h/db/doc/f?token=s3cret&digest=md5-x&signature=s3cret&s3cret&expires=s3cret")


def test_no_secret_is_shown() -> None:
    assert SECRET.shown == "http://h/db/doc/f?token=***&digest=***&signature=***&***&expires=***"
    assert "s3cret" not in repr(SECRET)


def test_identity_is_without_secrets() -> None:
    same = parse_location("http://H:80/db/doc/f?expires=9&digest=md5-x&token=other&s3cret&download=n.txt")
    assert same.identity == SECRET.identity


@pytest.mark.parametrize(
    "other",
    [
        "https://h/db/doc/f",
        "http://g/db/doc/f",
        "http://h:81/db/doc/f",
        "http://h/db/doc/g",
        "http://h/db/doc/f?rev=1-x",
    ],
)
def test_identity_tells_things_apart(other: str) -> None:
    assert parse_location(other).identity != parse_location("http://h/db/doc/f").identity


def test_what_opens_itself() -> None:
    assert SECRET.opens_itself
    assert parse_location("http://h/f?signature=x").opens_itself
    assert not parse_location("http://h/f?rev=1-x&tokens=1").opens_itself


@pytest.mark.parametrize(
    ("at", "field", "url"),
    [
        ("http://h/a/b", "c", "http://h/a/c"),
        ("http://h/a/b", "/c?d=e", "http://h/c?d=e"),
        ("http://h/a", "https://g/x", "https://g/x"),
        ("https://h/a", "//g/x", "https://g/x"),
        ("https://h/a", "/caf\xc3\xa9 \xc3\x83%C3%A9", "https://h/caf%C3%A9%20%C3%83%C3%A9"),
    ],
)
def test_redirects(at: str, field: str, url: str) -> None:
    assert parse_location(at).redirected(field).url == url


@pytest.mark.parametrize("field", ["http://h/a", "ftp://h/a", "http://u@h/", "file:///etc/passwd", "//[", "\x00"])
def test_redirects_that_are_not_followed(field: str) -> None:
    with pytest.raises(BadLocation):
        parse_location("https://h/a").redirected(field)


@pytest.mark.parametrize(
    ("query", "pin"),
    [
        ("digest=md5-AAAAAAAAAAAAAAAAAAAAAA==", "AAAAAAAAAAAAAAAAAAAAAA=="),
        ("token=x&digest=md5-A%2FAAAA%2BAAAAAAAAAAAAAAA%3D%3D%2Bgunzip", "A/AAAA+AAAAAAAAAAAAAAA==+gunzip"),
        ("digest=md5-x", None),
        ("digest", None),
        ("digest=AAAAAAAAAAAAAAAAAAAAAA==", None),
        ("xdigest=md5-AAAAAAAAAAAAAAAAAAAAAA==", None),
        ("", None),
    ],
)
def test_pins(query: str, pin: str | None) -> None:
    assert parse_location(f"http://h/f?{query}").pin == pin


def test_attachments() -> None:
    document = parse_location("https://h/prefix/db/doc/?token=x&skip=500")
    assert document.is_document
    assert document.attachment("a/ü ..", "token=x").url == "https://h/prefix/db/doc/a%2F%C3%BC%20..?token=x"
    assert document.attachment("..", "").url == "https://h/prefix/db/doc/%2E%2E"
    assert not document.attachment("a", "").is_document
    assert document.with_query("q=a b").url == "https://h/prefix/db/doc/?q=a%20b"


def test_origins() -> None:
    assert Location("http", "h", 80, "/").origin == parse_location("http://h/x").origin
    assert parse_location("http://h:81/").origin != parse_location("http://h/").origin
