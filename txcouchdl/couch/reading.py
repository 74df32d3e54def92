"""
What to ask CouchDB for, to read the wanted bytes of an attachment: from their beginning, or from wherever a lost
transfer left off.

Where stored bytes are wanted bytes, it is these. Where they are gzip, it is all of them: CouchDB has no ranges there.
What is known of them already is read again and skipped. So it is where a node ignores ranges.
"""

from typing import Final

from attrs import evolve, frozen

from txcouchdl.couch.client import BodyHead
from txcouchdl.couch.decoding import (
    Decoder,
    GzipDecoder,
    GzipRangesDecoder,
    IdentityDecoder,
    IdentityRangesDecoder,
)
from txcouchdl.couch.documents import AttachmentStub, Digest, Storage
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.runs import Run, needs_slot
from txcouchdl.couch.transfer import HELD_BACK
from txcouchdl.couch.wire.pipes import can_tap
from txcouchdl.protocol.ranges import ByteRange

# What the head of an answer claims.
_CLAIMS: Final = ("status", "Content-Range", "Content-Length", "Content-Encoding", "ETag")


@frozen
class Request:
    """
    Stored bytes to ask a node for, and what its answer must be.

    :ivar byte_range: which; ``None`` for all.
    :ivar count: how many those are.
    :ivar skip: how many of them, from the first, are known already.
    :ivar is_closing: whether the body ends where the node closes the connection, so that surplus bytes show. This
        proves no end: an error text may fill the body to its length.
    :ivar wanted: how many bytes are wanted behind the known ones, if others may follow; ``None`` for all.
    :ivar is_counted: whether the last byte ends the body, whatever comes behind it, because a digest proves the end.
    """

    byte_range: ByteRange | None
    count: int
    skip: int
    is_closing: bool
    _stub: AttachmentStub
    wanted: int | None = None
    is_counted: bool = False

    @property
    def is_gzip(self) -> bool:
        """Whether they are gzip, and to be asked for as such."""
        return self._stub.storage is not Storage.IDENTITY

    @property
    def whole(self) -> "Request":
        """The request for all stored bytes that a node answers instead of this one, if it ignores ranges."""
        return evolve(
            self,
            byte_range=None,
            count=self._stub.stored_length,
            skip=self.skip if self.byte_range is None else self.byte_range.first,
            is_closing=False,
            is_counted=self.is_closing,
        )

    @property
    def is_partial(self) -> bool:
        """Whether it is for a range that is less than all bytes: a whole body ignores that."""
        return self.byte_range is not None and self.count < self._stub.stored_length

    def answered_by(self, head: BodyHead) -> "Request | None":
        """
        Return the request that an answer is for: this one, or the one for all bytes if the node ignores the range.

        :return: ``None`` if it is for neither. :meth:`problem` says why.
        """
        if self.problem(head) is None:
            return self
        whole = self.whole
        return whole if self.byte_range is not None and whole.problem(head) is None else None

    def problem(self, head: BodyHead) -> str | None:
        """What is wrong with an answer, in words of ours; ``None`` if it promises what was asked for."""
        asked = self.byte_range
        promised = (
            200 if asked is None else 206,
            asked and asked.content_range(self._stub.stored_length),
            self.count,
            "gzip" if self.is_gzip else None,
            f'"{self._stub.digest.base64}"',
        )
        claimed = (head.status, head.content_range, head.length, head.coding, head.etag)
        if claimed == promised:
            return None
        wrong = [name for name, said, meant in zip(_CLAIMS, claimed, promised, strict=True) if said != meant]
        return f"another {', '.join(wrong)} than asked for"


@frozen
class Reading:
    """
    The stored bytes that are read for some wanted bytes of the identity representation. Made by :func:`plan_reading`.

    :ivar wanted: from the first wanted byte to the last one, unless that is all.
    :ivar ranges: the wanted bytes; ``None`` for all.
    """

    stub: AttachmentStub
    wanted: ByteRange | None
    ranges: Run | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all stored bytes are read: then the digest is to be right."""
        return self.wanted is None or self.stub.storage is not Storage.IDENTITY

    @property
    def has_gaps(self) -> bool:
        """Whether bytes that are not wanted stand between wanted ones."""
        return self.ranges is not None and len(self.ranges) > 1

    @property
    def digest(self) -> Digest | None:
        """The digest of the stored bytes that are read, if there is one."""
        return self.stub.digest if self.is_whole else None

    @property
    def needs_slot(self) -> bool:
        """Whether so many bytes are inflated for nobody that it takes a slot."""
        return self.stub.storage is not Storage.IDENTITY and self.ranges is not None and needs_slot(self.ranges)

    def decoder(self) -> Decoder:
        """What makes the wanted bytes of the stored ones."""
        ranges, stub = self.ranges, self.stub
        if stub.storage is Storage.IDENTITY:
            return (
                IdentityDecoder(self.length) if ranges is None or not self.has_gaps else IdentityRangesDecoder(ranges)
            )
        is_news = stub.sha256 is None
        if ranges is None:
            return GzipDecoder(stub.length, is_learning=is_news)
        return GzipRangesDecoder(ranges, is_learning=is_news and ranges[-1].last + 1 == stub.length)

    def is_short(self, limits: UpstreamLimits) -> bool:
        """Whether the wanted bytes are stored as they are, and the stored ones so few that they come in one piece."""
        return self.stub.storage is Storage.IDENTITY and self.length <= limits.short

    @property
    def length(self) -> int:
        """From the first wanted byte to the last one, where these are stored bytes."""
        return self.stub.stored_length if self.wanted is None else self.wanted.length

    def may_bypass(self, missing: int, limits: UpstreamLimits) -> bool:
        """
        Whether stored bytes may go past this process: they are the wanted bytes, they are enough, and whoever has to
        see them can.

        :param missing: of a body, not read yet.
        """
        is_as_stored = self.stub.storage is Storage.IDENTITY and not self.has_gaps
        return is_as_stored and missing >= limits.worth_bypassing and (self.digest is None or can_tap())

    def request(self, known: int) -> Request:
        """
        What is still to be asked for.

        :param known: how many stored bytes of the reading are, from its first. Not all: the last of them are only
            known when nothing is to be asked for any more.
        """
        length = self.stub.stored_length
        if self.stub.storage is not Storage.IDENTITY or (self.wanted is None and not known):
            return Request(None, length, known, False, self.stub)
        if self.wanted is None:
            return Request(ByteRange(known, length - 1), length - known, 0, False, self.stub)
        return self._request_range(ByteRange(self.wanted.first + known, self.wanted.last) if known else self.wanted)

    def _request_range(self, missing: ByteRange) -> Request:
        """
        Ask for a range of stored bytes, and for a margin behind it that an error text would fall into. Near the end of
        the attachment there is no room for the margin.
        """
        if missing.last + HELD_BACK >= self.stub.stored_length:
            return Request(missing, missing.length, 0, True, self.stub, missing.length)
        asked = ByteRange(missing.first, missing.last + HELD_BACK)
        return Request(asked, asked.length, 0, False, self.stub, missing.length)


def plan_reading(stub: AttachmentStub, ranges: Run | None) -> Reading:
    """
    :param ranges: of identity bytes, ascending and apart; ``None`` for all. Only where the stub knows its length.
    """
    if ranges is None:
        return Reading(stub, None)
    wanted = ranges[0] if len(ranges) == 1 else ByteRange(ranges[0].first, ranges[-1].last)
    is_all = wanted.length == stub.length
    return Reading(stub, None if is_all else wanted, None if is_all and len(ranges) == 1 else ranges)
