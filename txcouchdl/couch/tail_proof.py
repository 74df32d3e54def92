"""
Tells content from an error text at the end of a body that nothing but the close of its connection ends. Pure.

CouchDB writes an error text into a body that dies: a status line, header fields, a blank line, JSON. The text can have
exactly as many bytes as are missing (FINDINGS, section 0, point 1; seen with real nodes). Such a body has the promised
length and ends in a close, like a whole one.

So a tail in which such a text could begin proves nothing by itself. It is read again, on another connection. Content
repeats; an error text of CouchDB does not: each has a request id and a date of its own. Two reads that agree
prove the tail.

A cut connection may deliver a part of the text only, down to its first letter. Any tail that ends in a beginning of
``HTTP/1.`` is therefore in doubt as well. One random tail in 256 is, and costs one short read.

Two inputs remain that this cannot tell from content: two connections, one after the other, that are cut behind the same
byte of an error text, before its request id; and a proxy that writes the same text, without a date or an id, into two
bodies, one after the other, each time with exactly as many bytes as are missing.
"""

import hashlib
from typing import Final

#: The beginning of a status line, as every CouchDB and every proxy writes it.
_STATUS_LINE: Final = b"HTTP/1."
_BEGINNINGS: Final = tuple(_STATUS_LINE[:length] for length in range(1, len(_STATUS_LINE)))


def may_hold_error_text(tail: bytes) -> bool:
    """Say whether an error text, or the beginning of one, could stand at the end of these bytes."""
    return _STATUS_LINE in tail or tail.endswith(_BEGINNINGS)


class TailProof:
    """The tails that several reads of the same last bytes have brought."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def accepts(self, tail: bytes) -> bool:
        """
        Judge the tail of one more read.

        :param tail: the last bytes of a body of the promised length: all that was held back.
        :return: whether it is content. If not, read the same bytes again on another connection.
        """
        if not may_hold_error_text(tail):
            return True
        fingerprint = hashlib.sha256(tail).digest()
        is_repeated = fingerprint in self._seen
        self._seen.add(fingerprint)
        return is_repeated
