"""
Verifies the stored bytes of one reading, whichever transfers bring them.

The digest is computed over the released bytes. The last bytes are released only if it is right. If it is wrong, they
are read once more: an error text of the right length may stand in their place (FINDINGS, section 0, point 1).

A range to the end of an attachment has no digest. If an error text could stand in its last bytes, they are read again
until two reads agree: see :mod:`~txcouchdl.couch.tail_proof`. If the node ignores the range, all bytes of the
attachment pass, those before the range included, and their digest decides.
"""

import hashlib

from attrs import frozen

from txcouchdl.couch.documents import AttachmentStub
from txcouchdl.couch.errors import CorruptAttachment, UnprovenEnd, UpstreamFailure
from txcouchdl.couch.reading import Reading, Request
from txcouchdl.couch.tail_proof import TailProof
from txcouchdl.couch.wire.pipes import Tap


@frozen
class Tail:
    """
    The last bytes of a transfer: all that were held back, of a body of the promised length.

    :ivar position: of the first one among all stored bytes.
    :ivar new: the new ones among them.
    """

    position: int
    stored: bytes
    new: bytes


class Verifier:
    """See the module."""

    def __init__(self, reading: Reading) -> None:
        self._digest = reading.digest
        self._stub = reading.stub
        self._hash = hashlib.md5(usedforsecurity=False)
        self._tail_proof = TailProof()
        self._whole: _WholeDigest | None = None

    def begin(self, request: Request) -> None:
        """Expect a transfer that answers a request."""
        if request.is_counted and self._whole is None:
            self._whole = _WholeDigest(self._stub)

    @property
    def has_to_see_all(self) -> bool:
        """Whether all bytes that a transfer brings are to be fed, those that are not new included."""
        return self._whole is not None

    def feed(self, position: int, stored: bytes) -> None:
        """
        Take bytes of a transfer into account, new or not.

        :param position: of the first one among all stored bytes.
        """
        if self._whole is not None:
            self._whole.feed(position, stored)

    def update(self, new: bytes) -> None:
        """Take the next released bytes into account."""
        if self._digest is not None:
            self._hash.update(new)

    @property
    def tap(self) -> Tap | None:
        """Takes released bytes into account that pass this process by; ``None`` if they need not be seen."""
        return None if self._digest is None else self._hash.update

    def problem(self, request: Request, tail: Tail) -> UpstreamFailure | None:
        """
        Say why the last bytes of a transfer cannot be released yet; ``None`` if they can.

        :param request: that the transfer answers.
        """
        is_right = self._is_right(tail)
        if is_right is False or (is_right is None and request.is_counted):
            return CorruptAttachment("has another digest than its stub")
        if is_right is None and request.is_closing and not self._tail_proof.accepts(tail.stored):
            return UnprovenEnd("the last bytes could be an error text")
        return None

    def _is_right(self, tail: Tail) -> bool | None:
        """Whether the digest is right; ``None`` if there is none of these bytes."""
        if self._digest is not None:
            computed = self._hash.copy()
            computed.update(tail.new)
            return computed.digest() == self._digest.md5
        return None if self._whole is None else self._whole.is_right(tail.position, tail.stored)


class _WholeDigest:
    """The digest of an attachment, over the bytes that come from its first one on without a gap."""

    def __init__(self, stub: AttachmentStub) -> None:
        self._stub = stub
        self._hash = hashlib.md5(usedforsecurity=False)
        self._end = 0

    def feed(self, position: int, stored: bytes) -> None:
        known = self._end - position
        if 0 <= known < len(stored):
            self._hash.update(stored[known:])
            self._end = position + len(stored)

    def is_right(self, position: int, tail: bytes) -> bool | None:
        """Whether it is, with this end; ``None`` if some bytes before that have not come."""
        if position != self._end:
            return None
        computed = self._hash.copy()
        computed.update(tail)
        return computed.digest() == self._stub.digest.md5
