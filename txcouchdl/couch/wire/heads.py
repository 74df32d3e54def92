"""
Heads of answers: from bytes to a status and fields. Pure.

A node is not believed: what RFC 9112 does not allow is no head. That is more than a matter of taste, since where an
answer ends decides whose answer the next one is.
"""

import re
from enum import Enum
from typing import Final

from attrs import frozen

from txcouchdl.protocol.fields import LONGEST_NAME

#: Bytes that the head of an answer may have, interim answers before it included.
LONGEST_HEAD: Final = 64 * 2**10

_END: Final = b"\r\n\r\n"
#: Where the status stands in a head.
_STATUS_AT: Final = len(b"HTTP/1.1 ")
# The status line, and field lines: a name, a colon, and a value.
_NAME: Final = rb"[!#$%%&'*+.^_`|~0-9A-Za-z-]{1,%d}" % LONGEST_NAME
_HEAD: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\r\n\x00]*)?((?:\r\n%b:[^\r\n\x00]*)*)" % _NAME)
# One of them, of those that this has found to be some.
_FIELD: Final = re.compile(rb"\r\n([^:]+):([^\r]*)")
#: Digits of a Content-Length.
_LONGEST_LENGTH: Final = 19
_WITHOUT_BODY: Final = (204, 304)


class BadHead(Exception):
    """Not the head of an answer. The message quotes nothing of it."""


class Framing(Enum):
    """What tells where a body ends (RFC 9112, section 6.3)."""

    LENGTH = "its Content-Length"
    CHUNKED = "its last chunk"
    CLOSE = "the end of the connection"


@frozen
class AnswerHead:
    """
    :ivar fields: by their names in lower case; several lines of one name are joined.
    :ivar length: bytes of the body, as Content-Length has it; ``None`` without one.
    :ivar is_last: whether the connection ends behind this answer.
    """

    status: int
    fields: dict[bytes, bytes]
    framing: Framing
    length: int | None
    is_last: bool


def final_head(received: bytes, begin: int = 0) -> int:
    """
    Where the head of the final answer begins, as far as that has come: behind the interim ones, which have no body.

    :param received: of one connection, from where an answer begins.
    :param begin: as this has found it before, when less had come.
    :raises BadHead: if one of those is no head, or changes the protocol, for which we never ask.
    """
    while (end := received.find(_END, begin)) >= 0 and received.startswith(b"1", begin + _STATUS_AT):
        status, _ = _parse(received[begin:end])
        if status == 101:
            raise BadHead("an answer changes the protocol")
        begin = end + len(_END)
    return begin


def parse_head(received: bytes, begin: int = 0) -> tuple[AnswerHead, int] | None:
    """
    :param received: of one connection, from where an answer begins.
    :param begin: where the final answer begins at the earliest, as :func:`final_head` has it.
    :return: the head of the final answer, and where its body begins; ``None`` if there is more to come.
    :raises BadHead: if there is no such thing, or no end to it.
    """
    if received.startswith(b"1", begin + _STATUS_AT):
        begin = final_head(received, begin)
    end = received.find(_END, begin)
    if (end if end >= 0 else len(received)) > LONGEST_HEAD:
        raise BadHead("an answer's head is too long")
    if end < 0:
        return None
    _, head = _parse(received[begin:end])
    return head, end + len(_END)


def _parse(text: bytes) -> tuple[int, AnswerHead]:
    matched = _HEAD.fullmatch(text)
    if matched is None:
        raise BadHead("an answer's head is malformed")
    fields: dict[bytes, bytes] = {}
    for name, value in _FIELD.findall(matched[3]):
        name, value = name.lower(), value.strip(b" \t")
        # Repeated ones are one (RFC 9110, section 5.3).
        fields[name] = value if name not in fields else b", ".join((fields[name], value))
    status = int(matched[2])
    is_last = matched[1] == b"0" or b"close" in _options(fields)
    return status, _framed(status, fields, is_last)


def _options(fields: dict[bytes, bytes]) -> list[bytes]:
    value = fields.get(b"connection")
    return [] if value is None else [option.strip().lower() for option in value.split(b",")]


def _framed(status: int, fields: dict[bytes, bytes], is_last: bool) -> AnswerHead:
    coding, claimed = fields.get(b"transfer-encoding"), fields.get(b"content-length")
    if status in _WITHOUT_BODY or status < 200:
        return AnswerHead(status, fields, Framing.LENGTH, 0, is_last)
    if coding is not None:
        if coding.lower() != b"chunked":
            raise BadHead("an answer has an unknown transfer coding")
        # Whoever sends both may mean either: no second answer is to be looked for behind this one.
        return AnswerHead(status, fields, Framing.CHUNKED, None, is_last or claimed is not None)
    if claimed is None:
        return AnswerHead(status, fields, Framing.CLOSE, None, True)
    if b"," in claimed:
        # Repeated, with the same number, it is that number.
        numbers = {number.strip(b" \t") for number in claimed.split(b",")}
        claimed = numbers.pop() if len(numbers) == 1 else b""
    if not claimed.isdigit() or len(claimed) > _LONGEST_LENGTH:
        raise BadHead("an answer has a malformed Content-Length")
    return AnswerHead(status, fields, Framing.LENGTH, int(claimed), is_last)
