"""Requests: what goes in goes out, and one stays one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txcouchdl.couch.wire.requests import RequestHead

_TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20)
_NAMES = st.text("abcXYZ-", min_size=1, max_size=10)
_TARGETS = st.text("/abc%20?=&;:@", min_size=1, max_size=30).map(lambda text: text.encode("ascii"))


@given(st.sampled_from(["", "/couch"]), st.dictionaries(_NAMES, _TEXT, max_size=4), _TARGETS)
def test_a_request_is_its_target_as_given_and_its_fields(prefix: str, fields: dict[str, str], target: bytes) -> None:
    head = RequestHead(prefix, fields)
    for more in b"", b"Range: bytes=0-1\r\nConnection: close\r\n":
        request = head.request(target, more)
        line, *lines = request.removesuffix(more + b"\r\n").split(b"\r\n")
        assert line == b"GET %b%b HTTP/1.1" % (prefix.encode(), target)
        assert lines == [f"{name}: {value}".encode("latin-1") for name, value in fields.items()] + [b""]


@given(_TEXT, st.sampled_from(["\r", "\n", "\r\n", "\r\nX: y"]), _TEXT)
def test_a_field_has_one_line(before: str, end: str, behind: str) -> None:
    with pytest.raises(ValueError, match="line"):
        RequestHead("", {"Host": "localhost", "Authorization": before + end + behind})


@pytest.mark.parametrize("prefix", ["/\xfc", "/\u2028"])
def test_a_prefix_is_escaped_already(prefix: str) -> None:
    with pytest.raises(UnicodeEncodeError):
        RequestHead(prefix, {})


def test_a_field_is_of_bytes() -> None:
    with pytest.raises(UnicodeEncodeError):
        RequestHead("", {"Authorization": "\u20ac"})
