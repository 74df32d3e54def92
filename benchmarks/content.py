"""
The attachments' bytes: computable from their position, so that any range can be compared without keeping a copy.

Every block is its own number in 8 bytes and then the same noise: a shifted range does not match the noise, one of
another place not the number.
"""

import hashlib
import random
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 1024
_NOISE = random.Random(1).randbytes(_BLOCK - 8)
_PIECE = 1 << 20


def bytes_at(first_pos: int, count: int) -> bytes:
    """The bytes from a position on."""
    first_block = first_pos // _BLOCK
    end_block = -(-(first_pos + count) // _BLOCK)
    blocks = b"".join([index.to_bytes(8, "big") + _NOISE for index in range(first_block, end_block)])
    skipped = first_pos - first_block * _BLOCK
    return blocks[skipped : skipped + count]


def pieces(length: int) -> Iterator[bytes]:
    """All bytes of an attachment, a mebibyte at a time."""
    for first_pos in range(0, length, _PIECE):
        yield bytes_at(first_pos, min(_PIECE, length - first_pos))


def write_file(path: Path, length: int) -> str:
    """
    Write an attachment of this length.

    :return: its digest, as CouchDB tells it without ``md5-``: the base64 of its md5.
    """
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("wb") as file:
        for piece in pieces(length):
            digest.update(piece)
            file.write(piece)
    return b64encode(digest.digest()).decode("ascii")
