"""
The bytes of a stored body, piece by piece.

Pieces are bounded, whatever the body: a body of any size takes one piece's memory. The file stays the caller's, to be
closed when no more pieces are wanted. Reads are blocking reads of a local file, as in twisted.web.static.

Where all stored bytes pass, they are checked against the SHA-256 that names them, before the last of them pass: damage
to any of them is seen. Where a range passes they are not: a byte that has changed within the file, its length being
right, is sent as it is. To see it, all of the file would have to be read for any range of it.
"""

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from txcouchdl.protocol.ranges import ByteRange
from txcouchdl.store.errors import DamagedBody
from txcouchdl.store.values import StoredBody

#: The most bytes in one piece.
PIECE = 64 * 1024

#: zlib's window bits for a gzip container (RFC 1952).
GZIP_CONTAINER = 16 + zlib.MAX_WBITS


def whole(file: BinaryIO, body: StoredBody) -> Iterator[bytes]:
    """
    All bytes of a body.

    :param file: those bytes, at the first of them.
    :raises DamagedBody: in place of the last piece, if one of them is not what was stored; in place of the first that
        is not there.
    """
    seen = hashlib.sha256()
    left = body.stored_length
    for piece in _read(file, left):
        seen.update(piece)
        left -= len(piece)
        if not left and seen.hexdigest() != body.blob:
            raise DamagedBody(f"blob {body.blob} has other bytes")
        yield piece


def part(file: BinaryIO, span: ByteRange) -> Iterator[bytes]:
    """
    The bytes of one range of a file, unverified.

    :raises DamagedBody: in place of the first that is not there.
    """
    file.seek(span.offset)
    return _read(file, span.length)


def _read(file: BinaryIO, length: int) -> Iterator[bytes]:
    left = length
    while left:
        piece = file.read(min(left, PIECE))
        if not piece:
            raise DamagedBody(f"{left} of {length} bytes are missing")
        left -= len(piece)
        yield piece


def decoded(file: BinaryIO, body: StoredBody) -> Iterator[bytes]:
    """
    The identity bytes of a body stored as gzip.

    :raises DamagedBody: as :func:`whole` and :func:`inflated`.
    """
    return inflated(whole(file, body))


def inflated(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """
    The content of gzip bytes; members that follow one another are one body (RFC 1952, section 2.2).

    :raises DamagedBody: if they are not gzip from the first to the last.
    """
    inflater = zlib.decompressobj(GZIP_CONTAINER)
    for stored in pieces:
        while stored:
            if inflater.eof:
                inflater = zlib.decompressobj(GZIP_CONTAINER)
            piece, stored = _inflate(inflater, stored)
            if piece:
                yield piece
    if not inflater.eof:
        raise DamagedBody("the gzip stream is cut short")


def _inflate(inflater: "zlib._Decompress", stored: bytes) -> tuple[bytes, bytes]:
    """:returns: at most one piece, and the stored bytes that are still to be read."""
    try:
        piece = inflater.decompress(stored, PIECE)
    except zlib.error as error:
        raise DamagedBody(f"not gzip: {error}") from None
    return piece, inflater.unused_data or inflater.unconsumed_tail
