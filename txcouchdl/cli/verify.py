"""A file on disk against a digest."""

import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Final

from txcouchdl.protocol.digests import MD5, SHA_256

#: From the best to the worst.
_ALGORITHMS: Final[Mapping[str, str]] = {SHA_256: "sha256", MD5: "md5"}
_PIECE: Final = 2**20


class Stopped(Exception):
    """Nobody wants to know any more."""


def best_digest(digests: Mapping[str, bytes]) -> tuple[str, bytes] | None:
    """The most trustworthy of them, with its algorithm; ``None`` if there is none."""
    return next(((name, digests[name]) for name in _ALGORITHMS if name in digests), None)


def is_as_promised(file: int, algorithm: str, digest: bytes, is_stopped: Callable[[], bool] = lambda: False) -> bool:
    """
    Read a whole file, and hash it. May run in a thread.

    :param file: a descriptor at the file's beginning; it is closed.
    :param is_stopped: asked now and then.
    :raises Stopped: if that says so.
    """
    found = hashlib.new(_ALGORITHMS[algorithm], usedforsecurity=False)
    buffer = memoryview(bytearray(_PIECE))
    with open(file, "rb", buffering=0) as stream:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while count := stream.readinto(buffer):
            if is_stopped():
                raise Stopped
            found.update(buffer[:count])
    return found.digest() == digest
