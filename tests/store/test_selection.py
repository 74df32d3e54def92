"""What one GET of an attachment is answered with; the recording holds many more, see test_replay.py."""

import io
from hashlib import sha256

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import representations
from txcouchdl.couch.documents import Digest
from txcouchdl.store.answers import Refusal
from txcouchdl.store.credentials import Caller, Credentials
from txcouchdl.store.packing import is_compressible, parse_encoding
from txcouchdl.store.selection import Asked, accepts_gzip, names_etag, select
from txcouchdl.store.values import Attachment, Encoding, StoredBody


def _attachment(length: int, content_type: str = "video/mp4", encoding: Encoding = Encoding.IDENTITY) -> Attachment:
    return Attachment("a", content_type, 1, StoredBody("0" * 64, Digest(bytes(16)), encoding, length, length))


@pytest.mark.parametrize(
    ("field", "accepted"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("GZIP ;Q=0.001", True),
        ("br, gzip ; q=1.000", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("*;q=0, gzip", True),
        ("gzip;q=2", False),
        ("gzip;q=0.0001", False),
        ("gzip;q=", False),
        ("gzip;;", False),
        ("identity", False),
        (",,;,q=1", False),
    ],
)
def test_accept_encoding(field: str | None, accepted: bool) -> None:
    assert accepts_gzip(field) is accepted


@given(st.text())
def test_any_accept_encoding(field: str) -> None:
    accepts_gzip(field)


@pytest.mark.parametrize(
    ("field", "named"),
    [
        (None, False),
        ('"a"', True),
        ('W/"a"', True),
        ('"b" , "a"', True),
        ('w/"a"', False),
        ("a", False),
        ("*", False),
        ('"b"', False),
    ],
)
def test_if_none_match(field: str | None, named: bool) -> None:
    assert names_etag(field, '"a"') is named


@given(representations, st.integers(0, 300), st.integers(0, 300))
def test_a_range_is_a_slice(content: bytes, first: int, last: int) -> None:
    asked, attachment = Asked(range=f"bytes={first}-{last}"), _attachment(len(content))
    body = evolve(attachment.body, blob=sha256(content).hexdigest())
    if first > last:
        expected, status = content, 200
    elif first >= len(content):
        with pytest.raises(Refusal) as raised:
            select(asked, attachment)
        assert (raised.value.status, dict(raised.value.headers)[b"Content-Range"]) == (
            416,
            b"bytes */%d" % len(content),
        )
        return
    else:
        expected, status = content[first : last + 1], 206
    selection = select(asked, attachment)
    assert selection is not None
    assert (selection.status, selection.length) == (status, len(expected))
    assert b"".join(selection.pieces(io.BytesIO(content), body)) == expected


@pytest.mark.parametrize("content_type", ["a/b\r\nX: y", "a/b\0", "\x7f", "text/html\n\n<script>"])
def test_no_content_type_ends_its_line(content_type: str) -> None:
    selection = select(Asked(), _attachment(1, content_type))
    assert selection is not None
    sent = dict(selection.headers)[b"Content-Type"]
    assert not set(sent) & {*range(32), 127}


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("text/plain", True),
        ("TEXT/x-anything;a=b", True),
        (" application/JSON ; charset=utf-8", True),
        ("application/javascript", True),
        ("application/xml", True),
        ("application/xhtml+xml", False),
        ("image/svg+xml", False),
        ("text", False),
        ("", False),
    ],
)
def test_compressible_types(content_type: str, expected: bool) -> None:
    assert is_compressible(content_type) is expected


@pytest.mark.parametrize(
    ("field", "encoding"),
    [(None, Encoding.IDENTITY), ("identity", Encoding.IDENTITY), ("GZip ", Encoding.GZIP), ("", Encoding.IDENTITY)],
)
def test_encodings(field: str | None, encoding: Encoding) -> None:
    assert parse_encoding(field) is encoding


@pytest.mark.parametrize("field", ["br", "deflate", "gzip, gzip", "x-gzip", "zstd"])
def test_other_encodings(field: str) -> None:
    with pytest.raises(Refusal) as raised:
        parse_encoding(field)
    assert raised.value.status == 415


@pytest.mark.parametrize(
    ("authorization", "caller"),
    [
        (None, Caller.NOBODY),
        (b"", Caller.NOBODY),
        (b"Bearer YTpiOmM=", Caller.NOBODY),
        (b"Basic YTpiOmM=", Caller.ADMIN),  # a:b:c
        (b"BASIC  YTpiOmM= ", Caller.ADMIN),
        (b"Basic YTpiOmM", Caller.IMPOSTOR),
        (b"Basic YTpiOmQ=", Caller.IMPOSTOR),
        (b"Basic YTpi", Caller.IMPOSTOR),
        (b"Basic YQ==", Caller.NOBODY),
        (b"Basic \xff\xfe", Caller.IMPOSTOR),
    ],
)
def test_callers(authorization: bytes | None, caller: Caller) -> None:
    assert Credentials("a", "b:c").judge(authorization) is caller


def test_a_name_has_no_colon() -> None:
    with pytest.raises(ValueError, match="colon"):
        Credentials("a:b", "c")
    assert "secret" not in repr(Credentials("a", "secret"))
