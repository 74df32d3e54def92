"""
From stored bytes to the wanted bytes of the identity representation. Pure: bytes in, bytes out.

Where CouchDB stores gzip there are no ranges upstream: the gzip bytes are read from the first one, inflated,
skipped up to the first byte wanted, and taken up to the last. A few bytes of gzip can inflate to a thousand times
as many, so a decoder gives its output in bounded steps and only when asked: whoever reads decides when.

Whatever is fed comes out of the inflater once and in order, wanted or not: there, what only a full pass can tell is
counted and hashed. How often stored bytes had to be read to get them here makes no difference.
"""

import hashlib
import zlib
from collections.abc import Sequence
from typing import Protocol as Interface

from attrs import frozen

from txcouchdl.couch.cutting import Cutter
from txcouchdl.couch.errors import CorruptAttachment
from txcouchdl.protocol.ranges import ByteRange

#: The most bytes that one :meth:`Decoder.read` returns of gzip, and the most it inflates.
STEP = 64 * 2**10

_GZIP_CONTAINER = 16 + zlib.MAX_WBITS
_GZIP_MAGIC = b"\x1f\x8b"


@frozen
class Identity:
    """
    What a full pass tells of an identity representation.

    :ivar length: its bytes.
    :ivar sha256: theirs.
    """

    length: int
    sha256: bytes


class Decoder(Interface):
    """
    Feed it stored bytes in order, read wanted bytes until there are none, feed it more.

    :ivar is_satisfied: whether all wanted bytes have been read, whatever stored bytes are still to come. Never
        true for a decoder that is to see the whole: its last bytes come with :meth:`finish`.
    :ivar has_work: whether the next :meth:`read` inflates something, which takes its time.
    :ivar has_gap_ahead: whether bytes that are not wanted are still to be inflated before a wanted one.
    """

    @property
    def is_satisfied(self) -> bool: ...

    @property
    def has_work(self) -> bool: ...

    @property
    def has_gap_ahead(self) -> bool: ...

    def feed(self, stored: bytes) -> None:
        """Take the next stored bytes; they are kept until they are read."""

    def read(self) -> bytes | None:
        """
        The next wanted bytes; perhaps none yet (``b""``, ask again); ``None`` when it must be fed first.

        :raises CorruptAttachment: if the stored bytes are not what they should be.
        """

    def finish(self) -> bytes:
        """
        The last wanted bytes, after all stored bytes were fed, read and verified.

        :raises CorruptAttachment: if the representation ended too early.
        """

    def identity(self) -> Identity | None:
        """
        What has been found out of the identity representation, if all of it has passed, and that was to be found out.
        To be asked at the end, all stored bytes being fed and verified: after :meth:`finish`, or when satisfied.
        """


class IdentityDecoder:
    """
    Stored bytes that are the wanted bytes, and perhaps some more behind them.

    :param count: how many are wanted; what follows is dropped.
    """

    is_satisfied = has_work = has_gap_ahead = False

    def __init__(self, count: int) -> None:
        self._missing = count
        self._pending: bytes | None = None

    def feed(self, stored: bytes) -> None:
        self._pending = stored if self._pending is None else self._pending + stored

    def read(self) -> bytes | None:
        pending, self._pending = self._pending, None
        if pending is None:
            return None
        wanted = pending[: self._missing]
        self._missing -= len(wanted)
        return wanted

    def passed(self, count: int) -> None:
        """The next so many stored bytes went another way."""
        self._missing -= count

    def finish(self) -> bytes:
        return b""

    def identity(self) -> Identity | None:
        return None


class IdentityRangesDecoder:
    """
    Several ranges of stored bytes that are read in one go, without those between and behind them.

    :param ranges: at least one, ascending and apart. The stored bytes begin with the first one.
    """

    is_satisfied = has_work = has_gap_ahead = False

    def __init__(self, ranges: Sequence[ByteRange]) -> None:
        self._cutter = Cutter(ranges, ranges[0].first)
        self._pending: bytes | None = None

    def feed(self, stored: bytes) -> None:
        self._pending = stored if self._pending is None else self._pending + stored

    def read(self) -> bytes | None:
        pending, self._pending = self._pending, None
        return None if pending is None else self._cutter.cut(pending)

    def finish(self) -> bytes:
        return b""

    def identity(self) -> Identity | None:
        return None


class GzipDecoder:
    """
    Gzip (RFC 1952; several members follow each other as one stream), inflated whole.

    The last bytes that it has inflated stay in it until :meth:`finish`: all bytes of a representation may well come
    out before the last stored ones have come in and the digest is known to be right.

    :param length: bytes of the identity representation, or ``None`` if not known. More or fewer are an error.
    :param is_learning: whether its :class:`Identity` is to be found out.
    """

    is_satisfied = has_gap_ahead = False

    def __init__(self, length: int | None, *, is_learning: bool = False) -> None:
        self._length = length
        self._withheld = b""
        self._inflater = Inflater(is_learning)

    @property
    def has_work(self) -> bool:
        return self._inflater.has_work

    def feed(self, stored: bytes) -> None:
        self._inflater.feed(stored)

    def read(self) -> bytes | None:
        inflated = self._inflater.read()
        if not inflated:
            return inflated
        if self._length is not None and self._inflater.produced > self._length:
            raise CorruptAttachment("inflates to more than its length")
        released, self._withheld = self._withheld, inflated
        return released

    def finish(self) -> bytes:
        self._inflater.finish()
        if self._length is not None and self._inflater.produced != self._length:
            raise CorruptAttachment("inflates to less than its length")
        return self._withheld

    def identity(self) -> Identity | None:
        return self._inflater.identity()


class GzipRangesDecoder:
    """
    Ranges of the identity bytes of gzip.

    :param ranges: at least one, ascending and apart. They lie within the representation, or that is an error.
    :param is_learning: whether the last one goes to the end, as far as is known, and the :class:`Identity` of the whole
        is to be found out.
    """

    def __init__(self, ranges: Sequence[ByteRange], *, is_learning: bool = False) -> None:
        self._cutter = Cutter(ranges)
        self._end = ranges[-1].last + 1
        self._inflater = Inflater(is_learning)

    @property
    def is_satisfied(self) -> bool:
        return self._cutter.is_satisfied

    @property
    def has_work(self) -> bool:
        return self._inflater.has_work

    @property
    def has_gap_ahead(self) -> bool:
        return self._cutter.has_gap_ahead

    def feed(self, stored: bytes) -> None:
        self._inflater.feed(stored)

    def read(self) -> bytes | None:
        inflated = self._inflater.read()
        return self._cutter.cut(inflated) if inflated else inflated

    def finish(self) -> bytes:
        if not self.is_satisfied:
            raise CorruptAttachment("inflates to less than its length")
        return b""

    def identity(self) -> Identity | None:
        """
        ``None`` as well if it was not the end: the document may say so, and the gzip another thing. What is behind the
        ranges, a wrong check sum perhaps, is nothing to those who did not want it.
        """
        is_end = self._inflater.is_exhausted() and self._inflater.produced == self._end
        return self._inflater.identity() if is_end else None


class Inflater:
    """
    Inflates gzip members in steps.

    What follows the last member and is no member is ignored, as gzip(1), browsers and CouchDB do: the digest has
    it that somebody uploaded it so.

    :param is_learning: whether to hash what is inflated.
    :ivar produced: bytes inflated so far.
    """

    def __init__(self, is_learning: bool) -> None:
        self.produced = 0
        self._hash = hashlib.sha256() if is_learning else None
        self._inflate = zlib.decompressobj(_GZIP_CONTAINER)
        self._pending = b""
        # zlib may have taken all input and still hold output back: a full step says to ask again.
        self._is_full = False
        self._is_ignoring = False

    def feed(self, stored: bytes) -> None:
        """See :meth:`Decoder.feed`."""
        self._pending += stored

    @property
    def has_work(self) -> bool:
        """Whether :meth:`read` inflates something, or at least looks at it."""
        return bool(self._pending) or self._is_full

    def read(self) -> bytes | None:
        """See :meth:`Decoder.read`; all inflated bytes are wanted."""
        if self._inflate.eof and not self._begin_member():
            return None
        if not self._pending and not self._is_full:
            return None
        try:
            inflated = self._inflate.decompress(self._pending, STEP)
        except zlib.error:
            raise CorruptAttachment("is not gzip") from None
        self._is_full = len(inflated) == STEP
        self._pending = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
        self.produced += len(inflated)
        if self._hash is not None:
            self._hash.update(inflated)
        return inflated

    def _begin_member(self) -> bool:
        """Whether another member begins in what is pending. Two bytes must be there to tell."""
        if len(self._pending) < len(_GZIP_MAGIC) and not self._is_ignoring:
            return False
        if self._is_ignoring or not self._pending.startswith(_GZIP_MAGIC):
            self._is_ignoring = True
            self._pending = b""
            return False
        self._inflate = zlib.decompressobj(_GZIP_CONTAINER)
        return True

    @property
    def is_at_end(self) -> bool:
        """Whether no member is begun and not ended."""
        return self._inflate.eof

    def is_exhausted(self) -> bool:
        """Whether no byte can be inflated any more, and no member is begun and not ended."""
        try:
            while (rest := self.read()) is not None:
                if rest:
                    return False
        except CorruptAttachment:
            return False
        return self.is_at_end

    def finish(self) -> None:
        """:raises CorruptAttachment: if a member is begun and not ended."""
        if not self.is_at_end:
            raise CorruptAttachment("ends in the middle of its gzip stream")

    def identity(self) -> Identity | None:
        """Of what was inflated so far, if that is to be found out."""
        return None if self._hash is None else Identity(self.produced, self._hash.digest())
