"""multipart/byteranges: bodies are taken apart again by the stdlib's mail parser and by RFC 2046."""

import email
import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy, composite

from tests import strategies
from txcouchdl.protocol.multipart import MultipartByteranges, PartFramer, new_boundary
from txcouchdl.protocol.ranges import ByteRange

_BOUNDARY = "THIS_STRING_SEPARATES"


@composite
def _framings(draw: DrawFn, content_types: SearchStrategy[str]) -> tuple[MultipartByteranges, bytes]:
    whole = draw(st.binary(min_size=1, max_size=80) | st.text("\r\n-a", min_size=1).map(str.encode))
    ranges = draw(st.lists(strategies.byte_ranges(len(whole)), min_size=1, max_size=5))
    content_type = draw(st.none() | content_types)
    boundary = draw(strategies.boundaries)
    assume(boundary.encode() not in whole)
    return MultipartByteranges(tuple(ranges), len(whole), content_type, boundary), whole


def _body(framing: MultipartByteranges, whole: bytes) -> bytes:
    parts = (
        head + whole[member.offset : member.offset + member.length]
        for head, member in zip(framing.part_heads(), framing.ranges, strict=True)
    )
    return b"".join(parts) + framing.trailer


@given(_framings(strategies.content_types))
def test_the_length_is_known_before_a_byte_is_read(drawn: tuple[MultipartByteranges, bytes]) -> None:
    framing, whole = drawn
    assert framing.length == len(_body(framing, whole))


@given(_framings(strategies.content_types))
def test_the_body_is_what_rfc_2046_describes(drawn: tuple[MultipartByteranges, bytes]) -> None:
    """Section 5.1.1: each part follows CRLF and a delimiter, the first part too; the last delimiter is closed."""
    framing, whole = drawn
    delimiter = b"\r\n--" + framing.boundary.encode()
    nothing, *parts, end = _body(framing, whole).split(delimiter)
    assert (nothing, end) == (b"", b"--\r\n")
    assert len(parts) == len(framing.ranges)
    for part, member in zip(parts, framing.ranges, strict=True):
        head, blank, content = part.partition(b"\r\n\r\n")
        assert blank
        assert content == whole[member.first : member.last + 1]
        fields = [f"Content-Range: bytes {member.first}-{member.last}/{len(whole)}"]
        if framing.content_type is not None:
            fields.insert(0, f"Content-Type: {framing.content_type}")
        assert head.decode("iso-8859-1").split("\r\n") == ["", *fields]


@given(_framings(strategies.media_types))
def test_a_mail_parser_reads_the_body(drawn: tuple[MultipartByteranges, bytes]) -> None:
    framing, whole = drawn
    mail = f"Content-Type: {framing.media_type}\r\n\r\n".encode() + _body(framing, whole)
    message = email.message_from_bytes(mail)
    assert message.get_content_type() == "multipart/byteranges"
    parts = [part for part in message.walk() if part is not message]
    assert [part["Content-Range"] for part in parts] == [
        f"bytes {member.first}-{member.last}/{len(whole)}" for member in framing.ranges
    ]
    assert {part["Content-Type"] for part in parts} == {framing.content_type}
    assert [part.get_payload(decode=True) for part in parts] == [
        whole[member.first : member.last + 1] for member in framing.ranges
    ]


@given(st.data(), _framings(strategies.content_types))
def test_a_framer_puts_heads_between_bytes_in_any_pieces(
    data: st.DataObject, drawn: tuple[MultipartByteranges, bytes]
) -> None:
    framing, whole = drawn
    heads = framing.part_heads()
    at = data.draw(st.integers(0, len(framing.ranges)))
    framed = []
    # By two of them, one after the other.
    for ranges in framing.ranges[:at], framing.ranges[at:]:
        framer = PartFramer(heads, (each.length for each in ranges))
        content = b"".join(whole[each.first : each.last + 1] for each in ranges)
        framed += [framer.frame(piece) for piece in data.draw(strategies.cuts(content))]
    assert b"".join(framed) + framing.trailer == _body(framing, whole)


def test_a_head_comes_with_the_first_byte_of_its_part() -> None:
    framer = PartFramer(iter([b"<1>", b"<2>"]), [2, 3])
    assert [framer.frame(piece) for piece in (b"", b"a", b"", b"b", b"cd", b"e")] == [
        *(b"", b"<1>a", b"", b"b", b"<2>cd", b"e")
    ]


def test_bytes_in_the_midst_of_a_part_are_not_copied() -> None:
    framer = PartFramer(iter([b"<1>"]), [10**6])
    framer.frame(b"x")
    piece = b"y" * 1000
    assert framer.frame(piece) is piece


def test_the_example_of_section_14_6() -> None:
    framing = MultipartByteranges((ByteRange(500, 999), ByteRange(7000, 7999)), 8000, "application/pdf", _BOUNDARY)
    assert framing.media_type == "multipart/byteranges; boundary=THIS_STRING_SEPARATES"
    first, second = framing.part_heads()
    assert first == (
        b"\r\n--THIS_STRING_SEPARATES\r\nContent-Type: application/pdf\r\nContent-Range: bytes 500-999/8000\r\n\r\n"
    )
    assert second == (
        b"\r\n--THIS_STRING_SEPARATES\r\nContent-Type: application/pdf\r\nContent-Range: bytes 7000-7999/8000\r\n\r\n"
    )
    assert framing.trailer == b"\r\n--THIS_STRING_SEPARATES--\r\n"
    assert framing.length == len(first) + 500 + len(second) + 1000 + 29


def test_no_content_type_is_no_field() -> None:
    framing = MultipartByteranges((ByteRange(0, 0),), 1, None, _BOUNDARY)
    assert next(framing.part_heads()) == b"\r\n--THIS_STRING_SEPARATES\r\nContent-Range: bytes 0-0/1\r\n\r\n"


def test_there_must_be_a_range() -> None:
    with pytest.raises(ValueError, match="ranges"):
        MultipartByteranges((), 10, None, _BOUNDARY)


@pytest.mark.parametrize("complete_length", [9, 5, 0, -1])
def test_every_range_must_lie_inside(complete_length: int) -> None:
    with pytest.raises(ValueError, match="complete-length"):
        MultipartByteranges((ByteRange(0, 9), ByteRange(0, 0)), complete_length, None, _BOUNDARY)


@given(strategies.hostile_content_types())
@example("text/plain\r\nSet-Cookie: a=b")
@example("text/plain\n")
@example("text/plain\r")
@example("")
def test_no_field_can_be_injected(content_type: str) -> None:
    with pytest.raises(ValueError, match="content_type"):
        MultipartByteranges((ByteRange(0, 0),), 1, content_type, _BOUNDARY)


@pytest.mark.parametrize(
    "boundary", ["", "a" * 71, "a b", "a ", 'a"', "a;b", "a\r\n", "a\n", "a=b", "a:b", "a/b", "\xe9"]
)
def test_a_boundary_that_needs_quotes_or_is_none_is_refused(boundary: str) -> None:
    with pytest.raises(ValueError, match="boundary"):
        MultipartByteranges((ByteRange(0, 0),), 1, None, boundary)


@pytest.mark.parametrize("boundary", ["a", "a" * 70, "azAZ09'+_.-"])
def test_a_boundary_of_any_length_up_to_70_is_taken(boundary: str) -> None:
    framing = MultipartByteranges((ByteRange(0, 0),), 1, None, boundary)
    assert framing.media_type == f"multipart/byteranges; boundary={boundary}"


def test_new_boundaries_are_random_and_valid() -> None:
    boundaries = {new_boundary() for _ in range(100)}
    assert len(boundaries) == 100
    for boundary in boundaries:
        assert re.fullmatch("[0-9a-f]{32}", boundary)  # 128 bits
        assert MultipartByteranges((ByteRange(0, 0),), 1, None, boundary).boundary == boundary
