"""
The bytes of a stored body, piece by piece.

Pieces are bounded, whatever the body: a body of any size takes one piece's memory. The file stays the caller's, to be
closed when no more pieces are wanted. Reads are blocking reads of a local file, as in twisted.web.static.
"""

import zlib
from collections.abc import Iterator
from typing import BinaryIO

from txcouchdl.protocol.ranges import ByteRange
from txcouchdl.store.errors import DamagedBody

#: The most bytes in one piece.
PIECE = 64 * 1024

#: zlib's window bits for a gzip container (RFC 1952).
GZIP_CONTAINER = 16 + zlib.MAX_WBITS


def whole(file: BinaryIO, length: int) -> Iterator[bytes]:
    """
    The first ``length`` bytes of a file.

    :raises DamagedBody: in place of the first byte that is not there.
    """
    left = length
    while left:
        piece = file.read(min(left, PIECE))
        if not piece:
            raise DamagedBody(f"{left} of {length} bytes are missing")
        left -= len(piece)
        yield piece


def part(file: BinaryIO, span: ByteRange) -> Iterator[bytes]:
    """The bytes of one range of a file; as :func:`whole`."""
    file.seek(span.offset)
    return whole(file, span.length)


def decoded(file: BinaryIO, stored_length: int) -> Iterator[bytes]:
    """
    The identity bytes of a body stored as gzip; members that follow one another are one body (RFC 1952,
    section 2.2).

    :raises DamagedBody: if the stored bytes are not gzip from the first to the last.
    """
    inflater = zlib.decompressobj(GZIP_CONTAINER)
    for stored in whole(file, stored_length):
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
