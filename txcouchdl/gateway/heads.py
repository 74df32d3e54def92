"""
The heads of plain requests, read at once. Pure.

Nearly all requests are GET or HEAD, have no body, and come in one piece. Their heads are read here as a whole, rather
than line by line. What is not plain is not refused: twisted.web reads it, which knows what else there may be, and what
must not be. So whatever might be read in two ways is not plain, least of all what a proxy may take for a body.
"""

import re
from typing import Final

from attrs import frozen

from txcouchdl.protocol.fields import LONGEST_NAME

#: Bytes of a head, and fields in it: no limit of twisted.web's is near.
_LONGEST: Final = 8192
_MOST_FIELDS: Final = 100

_NAME: Final = rb"[A-Za-z0-9!#$%%&'*+.^_`|~-]{1,%d}" % LONGEST_NAME
# No line is folded, and no value has control characters.
_HEAD: Final = re.compile(rb"(GET|HEAD) ([!-~]+) HTTP/1\.1\r\n((?:%b:[\t -~\x80-\xff]*\r\n)+)\r\n" % _NAME)
# One line, of those that this has found to be some.
_FIELD: Final = re.compile(rb"([^:]+):([^\r]*)\r\n")
#: They say that something follows the head, or that it should not be the end of HTTP's.
_NOT_PLAIN: Final = frozenset({b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"http2-settings"})


@frozen
class PlainHead:
    """
    The head of a request of HTTP/1.1.

    :ivar target: as it is in the request line.
    :ivar fields: each with the values of its lines, by names in lower case.
    """

    method: bytes
    target: bytes
    fields: dict[bytes, list[bytes]]


def parse_plain(data: bytes) -> PlainHead | None:
    """
    :param data: what has come since the end of the request before.
    :return: ``None`` if it is anything else than one plain head from its first byte to its last.
    """
    found = _HEAD.fullmatch(data) if len(data) <= _LONGEST else None
    if found is None:
        return None
    method, target, lines = found.groups()
    pairs = _FIELD.findall(lines)
    fields: dict[bytes, list[bytes]] = {}
    for name, value in pairs:
        fields.setdefault(name.lower(), []).append(value.strip(b" \t"))
    if len(pairs) > _MOST_FIELDS or not _NOT_PLAIN.isdisjoint(fields):
        return None
    return PlainHead(method, target, fields)
