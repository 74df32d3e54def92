"""
Where an HTTP/1.1 message ends (RFC 9112), well enough for a proxy that passes it on as it is.

What is no HTTP is no error here: it goes on to the end of its connection.
"""

from typing import Protocol as Interface

from attrs import evolve, frozen

from tests.scripted import Asked

#: A head longer than this is not waited for any longer.
LONGEST_HEAD = 2**16


def end_of_head(received: bytes | bytearray) -> int | None:
    """:return: the offset behind the blank line; interim answers before a final one are of its head."""
    first = 0
    while (end := received.find(b"\r\n\r\n", first)) != -1:
        is_interim = received.startswith(b"HTTP/1.1 1", first)
        first = end + 4
        if not is_interim:
            return first
    return None


def _fields(lines: list[bytes]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.decode("latin-1").partition(":")
        fields[name.strip().lower()] = value.strip()
    return fields


@frozen
class Request:
    """The head of a request, which is all of it: requests have no body here."""

    data: bytes

    @property
    def asked(self) -> Asked:
        first, *lines = self.data.rstrip(b"\r\n").split(b"\r\n")
        method, target, _ = first.decode("latin-1").split(" ")
        return Asked(method, target, _fields(lines))

    def aimed_at(self, target: str) -> "Request":
        """The same, of another target."""
        first, _, rest = self.data.partition(b"\r\n")
        method, _, version = first.split(b" ")
        return Request(b"%b %b %b\r\n%b" % (method, target.encode("latin-1"), version, rest))

    def with_range(self, range_: str) -> "Request":
        return Request(_replaced(self.data, "Range", range_))


@frozen
class Head:
    """
    The head of an answer.

    :ivar data: as it came, interim answers and the blank line included.
    :ivar is_whole: whether it has its blank line.
    """

    data: bytes
    is_whole: bool = True

    @property
    def _final(self) -> list[bytes]:
        return self.data.rstrip(b"\r\n").rpartition(b"\r\n\r\n")[2].split(b"\r\n")

    @property
    def fields(self) -> dict[str, str]:
        return _fields(self._final[1:])

    @property
    def status(self) -> int | None:
        parts = self._final[0].split(b" ", 2)
        return int(parts[1]) if len(parts) > 1 and parts[0].startswith(b"HTTP/") and parts[1].isdigit() else None

    @property
    def length(self) -> int | None:
        """What Content-Length says, where the body is framed by it."""
        fields = self.fields
        text = fields.get("content-length", "")
        return int(text) if "transfer-encoding" not in fields and text.isascii() and text.isdigit() else None

    def replaced(self, name: str, value: str | None) -> "Head":
        """The same with a field of another value, or without it."""
        return evolve(self, data=_replaced(self.data, name, value))

    def framing(self, method: str) -> "Framing":
        """How its body ends (RFC 9112 section 6.3)."""
        if not self.is_whole or self.status is None:
            return UntilClose()
        if method == "HEAD" or self.status in (204, 304):
            return Counted(0)
        if self.fields.get("transfer-encoding", "").lower() == "chunked":
            return Chunked()
        return UntilClose() if self.length is None else Counted(self.length)


def _replaced(head: bytes, name: str, value: str | None) -> bytes:
    lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    prefix = name.lower().encode() + b":"
    kept = [line for line in lines if not line.lower().startswith(prefix)]
    new = [] if value is None else [f"{name}: {value}".encode("latin-1")]
    return b"\r\n".join([*kept, *new]) + b"\r\n\r\n"


class Framing(Interface):
    @property
    def is_complete(self) -> bool:
        """Whether the body has ended."""

    def accept(self, data: bytes) -> int:
        """:return: how many of the bytes that come next are of the body."""


class UntilClose:
    is_complete = False

    def accept(self, data: bytes) -> int:
        return len(data)


class Counted:
    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def is_complete(self) -> bool:
        return not self._left

    def accept(self, data: bytes) -> int:
        count = min(self._left, len(data))
        self._left -= count
        return count


class Chunked:
    """RFC 9112 section 7.1. What is no chunk goes on until the connection closes."""

    def __init__(self) -> None:
        self.is_complete = False
        self._is_broken = False
        self._is_trailer = False
        self._line = b""
        # Bytes of the chunk, and of the CRLF behind it, that are still to come.
        self._left = 0

    def accept(self, data: bytes) -> int:
        at = 0
        while at < len(data) and not self.is_complete:
            if self._is_broken:
                return len(data)
            if self._left:
                count = min(self._left, len(data) - at)
                self._left -= count
            else:
                count = (data.find(b"\n", at) + 1 or len(data)) - at
                self._line += data[at : at + count]
                self._take_line()
            at += count
        return at

    def _take_line(self) -> None:
        if not self._line.endswith(b"\n"):
            self._is_broken = len(self._line) > LONGEST_HEAD
            return
        line, self._line = self._line.strip(), b""
        if self._is_trailer:
            self.is_complete = not line
            return
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            self._is_broken = True
            return
        self._is_trailer = size == 0
        self._left = size + 2 if size > 0 else 0
