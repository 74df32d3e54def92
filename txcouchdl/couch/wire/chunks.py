"""
The chunked transfer coding (RFC 9112, section 7.1), undone. Pure.

CouchDB sends documents and attachments with their lengths; but there may be a proxy before it.
"""

import re
from typing import Final

#: Bytes of a chunk's first line, and of all trailer fields.
_LONGEST_LINE: Final = 16 * 2**10
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")


class BadChunks(Exception):
    """Not the chunked coding."""


class ChunkDecoder:
    """
    Feed it what comes.

    :ivar is_complete: whether the last chunk, and the trailer section behind it, have come.
    :ivar surplus: what came behind them.
    """

    def __init__(self) -> None:
        self.is_complete = False
        self.surplus = b""
        # What is not decoded yet, from a place on.
        self._pending = b""
        self._at = 0
        # Bytes of the chunk that are still to come; with the line end behind it.
        self._missing = 0
        self._is_in_chunk = False
        self._is_in_trailer = False
        self._trailer_length = 0

    def feed(self, received: bytes) -> bytes:
        """
        :return: the bytes of the body among it.
        :raises BadChunks: if they cannot be.
        """
        self._pending += received
        body: list[bytes] = []
        while not self.is_complete and self._step(body):
            pass
        self._pending, self._at = self._pending[self._at :], 0
        return b"".join(body)

    def _step(self, body: list[bytes]) -> bool:
        """Whether there was something to do."""
        if self._is_in_chunk:
            return self._take_chunk(body)
        end = self._pending.find(b"\r\n", self._at)
        if (end if end >= 0 else len(self._pending)) - self._at > _LONGEST_LINE:
            raise BadChunks("a line is too long")
        if end < 0:
            return False
        line, self._at = self._pending[self._at : end], end + 2
        if self._is_in_trailer:
            self._take_trailer(line)
        else:
            self._begin_chunk(line)
        return True

    def _begin_chunk(self, line: bytes) -> None:
        size = _SIZE.fullmatch(line)
        if size is None:
            raise BadChunks("a chunk has no size")
        self._missing = int(size[1], 16)
        self._is_in_chunk = self._missing > 0
        self._is_in_trailer = not self._missing

    def _take_chunk(self, body: list[bytes]) -> bool:
        taken = self._pending[self._at : self._at + self._missing]
        if taken:
            body.append(taken)
            self._missing -= len(taken)
            self._at += len(taken)
        if self._missing or len(self._pending) - self._at < 2:
            return False
        if not self._pending.startswith(b"\r\n", self._at):
            raise BadChunks("a chunk has another length than its size")
        self._at += 2
        self._is_in_chunk = False
        return True

    def _take_trailer(self, line: bytes) -> None:
        self._trailer_length += len(line)
        if self._trailer_length > _LONGEST_LINE:
            raise BadChunks("the trailer section is too long")
        if not line:
            self.is_complete = True
            self.surplus, self._pending, self._at = self._pending[self._at :], b"", 0
