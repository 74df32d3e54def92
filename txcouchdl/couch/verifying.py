"""
What can be checked of the stored bytes of a reading.
"""

import hashlib

from txcouchdl.couch.documents import Digest
from txcouchdl.couch.errors import CorruptAttachment, UnprovenEnd, UpstreamFailure
from txcouchdl.couch.reading import Request
from txcouchdl.couch.tail_proof import TailProof
from txcouchdl.couch.wire.pipes import Tap


class Verifier:
    """
    Checks stored bytes, whichever streams bring them.

    :param digest: of all bytes that are read; ``None`` if there is none.
    """

    def __init__(self, digest: Digest | None) -> None:
        self._digest = digest
        self._hash = hashlib.md5(usedforsecurity=False)
        self._tail_proof = TailProof()

    def update(self, released: bytes) -> None:
        """Take the next bytes into account."""
        if self._digest is not None:
            self._hash.update(released)

    @property
    def tap(self) -> Tap | None:
        """Takes bytes into account that do not enter this process; ``None`` if they need not be seen."""
        return None if self._digest is None else self._hash.update

    def problem(self, tail: bytes, request: Request) -> UpstreamFailure | None:
        """
        Say why the last bytes cannot be released yet; ``None`` if they can.

        :param request: that brought them.
        """
        if self._digest is not None:
            computed = self._hash.copy()
            computed.update(tail)
            is_right = computed.digest() == self._digest.md5
            return None if is_right else CorruptAttachment("has another digest than its stub")
        if request.is_closing and not self._tail_proof.accepts(tail):
            return UnprovenEnd("the last bytes could be an error text")
        return None
