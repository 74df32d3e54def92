"""multipart/byteranges: its framing, and its exact length before a byte is read (RFC 9110 section 14.6).

A body is, for each range, its head out of ``part_heads()`` and then that range's bytes; and at the end ``trailer``.
"""

import secrets
from collections.abc import Iterable, Iterator
from typing import Final

import attrs
from attrs import validators

from txcouchdl.protocol.ranges import ByteRange

# The bchars of RFC 2046 section 5.1.1 that a token of RFC 9110 may hold too. The others would have to be
# quoted in the Content-Type, and quoted boundaries are read wrongly by some recipients (section 14.6).
_BOUNDARY: Final = r"[0-9A-Za-z'+_.-]{1,70}"
# A field-value (RFC 9110 section 5.5) as ISO 8859-1: no control characters, above all no CR and LF.
_FIELD_VALUE: Final = r"[\t\x20-\x7e\x80-\xff]+"


@attrs.frozen
class MultipartByteranges:
    """The framing of the body of a 206 with several ranges.

    :param ranges: the ranges, in the order in which they are sent; at least one.
    :param complete_length: the length in bytes of the whole representation.
    :param content_type: the Content-Type of the representation, repeated in every part; None if it has
        none.
    :param boundary: the delimiter, from :func:`new_boundary`: it must not occur in the bytes sent.
    :raises ValueError: if there is no range; if one is not inside the representation; if ``content_type``
        is empty or has a control character or one that is not ISO 8859-1; if ``boundary`` is not 1 to 70
        bchars of RFC 2046 that need no quotes.
    """

    ranges: tuple[ByteRange, ...] = attrs.field(validator=validators.min_len(1))
    complete_length: int = attrs.field()
    content_type: str | None = attrs.field(validator=validators.optional(validators.matches_re(_FIELD_VALUE)))
    boundary: str = attrs.field(validator=validators.matches_re(_BOUNDARY))

    @complete_length.validator
    def _check_complete_length(self, attribute: "attrs.Attribute[int]", complete_length: int) -> None:
        if any(member.last >= complete_length for member in self.ranges):
            raise ValueError(f"a range is not inside a complete-length of {complete_length}")

    @property
    def media_type(self) -> str:
        """The Content-Type of the response."""
        return f"multipart/byteranges; boundary={self.boundary}"

    def part_heads(self) -> Iterator[bytes]:
        """Yield the head of each part, in turn: CRLF, delimiter, part header fields, blank line.

        The CRLF before a delimiter belongs to it (RFC 2046 section 5.1.1). The first delimiter would not need one, but
        nginx and Apache send it, and zsync discards the first line of a body unread.
        """
        described = "" if self.content_type is None else f"Content-Type: {self.content_type}\r\n"
        for each in self.ranges:
            content_range = each.content_range(self.complete_length)
            head = f"\r\n--{self.boundary}\r\n{described}Content-Range: {content_range}\r\n\r\n"
            yield head.encode("iso-8859-1")

    @property
    def trailer(self) -> bytes:
        """What comes after the bytes of the last range: the closing delimiter."""
        return f"\r\n--{self.boundary}--\r\n".encode("ascii")

    @property
    def length(self) -> int:
        """The length of the whole body in bytes: the Content-Length of the response."""
        return sum(map(len, self.part_heads())) + sum(member.length for member in self.ranges) + len(self.trailer)


class PartFramer:
    """Puts the head of each part before its bytes, which come by in pieces of any length.

    :param heads: those of the parts, and perhaps of others after them. A head is taken with the first byte of its part.
    :param lengths: how many bytes each part has: at least one.
    """

    def __init__(self, heads: Iterator[bytes], lengths: Iterable[int]) -> None:
        self._heads = heads
        self._lengths = iter(lengths)
        # Bytes of the current part that have not come yet.
        self._missing = 0

    def frame(self, data: bytes) -> bytes:
        """The next bytes of all parts together, with the heads of the parts that begin in them."""
        framed: list[bytes] = []
        begin = 0
        while begin < len(data):
            if not self._missing:
                self._missing = next(self._lengths)
                framed.append(next(self._heads))
            piece = data[begin : begin + self._missing]
            framed.append(piece)
            begin += len(piece)
            self._missing -= len(piece)
        return b"".join(framed)


def new_boundary() -> str:
    """A fresh boundary of 128 random bits.

    The bytes to come cannot be searched for it, so chance must keep it out of them; and because it is from
    a secure source, no one can prepare a representation that holds it.
    """
    return secrets.token_hex(16)
