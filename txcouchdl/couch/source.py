"""
Where the readers of one response come from: an attachment, pinned once, and pinned again when its revision goes.

Also remembers what only a full pass can tell: how long the identity representation of an attachment is that was
uploaded compressed.
"""

from collections import OrderedDict

import attrs
from twisted.internet.interfaces import IReactorTime

from txcouchdl.couch.client import CouchClient
from txcouchdl.couch.documents import AttachmentStub, Digest, Storage
from txcouchdl.couch.errors import AttachmentChanged, RevisionGone
from txcouchdl.couch.reader import AttachmentReader, PinnedAttachment, open_reader
from txcouchdl.protocol.ranges import ByteRange

#: Lengths remembered; the least recently used goes first.
_REMEMBERED = 4096


class IdentityLengths:
    """The lengths of identity representations that stubs do not tell, by what is stored. Bounded."""

    def __init__(self, capacity: int = _REMEMBERED) -> None:
        self._capacity = capacity
        self._lengths: OrderedDict[tuple[Digest, int], int] = OrderedDict()

    def completed(self, stub: AttachmentStub) -> AttachmentStub:
        """The stub, with its length if it is remembered."""
        if stub.length is not None:
            return stub
        length = self._lengths.get((stub.digest, stub.stored_length))
        if length is None:
            return stub
        self._lengths.move_to_end((stub.digest, stub.stored_length))
        return attrs.evolve(stub, length=length)

    def learn(self, stub: AttachmentStub, length: int) -> None:
        """
        :param length: counted over a whole body, whose digest was right.
        """
        self._lengths[stub.digest, stub.stored_length] = length
        self._lengths.move_to_end((stub.digest, stub.stored_length))
        if len(self._lengths) > self._capacity:
            self._lengths.popitem(last=False)


class AttachmentSource:
    """
    Opens readers of one attachment.

    :param follows: whether the attachment may be read from a later revision, if that has the same: so where a
        client asked for the current one; not where it asked for this revision.
    """

    def __init__(
        self,
        client: CouchClient,
        pinned: PinnedAttachment,
        lengths: IdentityLengths,
        clock: IReactorTime,
        *,
        follows: bool,
    ) -> None:
        self._client = client
        self._pinned = pinned
        self._lengths = lengths
        self._clock = clock
        self._follows = follows

    async def open(self, byte_range: ByteRange | None) -> AttachmentReader:
        """
        :param byte_range: identity bytes; ``None`` for all.
        :raises RevisionGone: if the revision is gone, and must be this one.
        :raises AttachmentChanged: if the current revision has another attachment, or none.
        :raises UpstreamFailure: as :func:`~txcouchdl.couch.reader.open_reader`.
        """
        try:
            return await self._open_pinned(byte_range)
        except RevisionGone:
            if not self._follows:
                raise
        await self._follow()
        return await self._open_pinned(byte_range)

    async def measured(self) -> AttachmentStub:
        """
        The stub with its length: if it does not tell it, after a whole pass that nobody sees.

        :raises UpstreamFailure: as :meth:`open`, and if the pass fails.
        """
        await (await self.open(None)).deliver(lambda _: None)
        stub = self._lengths.completed(self._pinned.stub)
        self._pinned = attrs.evolve(self._pinned, stub=stub)
        return stub

    async def _open_pinned(self, byte_range: ByteRange | None) -> AttachmentReader:
        return await open_reader(self._client, self._pinned, byte_range, self._clock, self._learn)

    def _learn(self, length: int) -> None:
        if self._pinned.stub.storage is Storage.ENCODED:
            self._lengths.learn(self._pinned.stub, length)

    async def _follow(self) -> None:
        """Compaction has taken the revision: pin the current one, if it has the same attachment still."""
        address = self._pinned.address
        document = await self._client.document(address.database, address.document_id)
        stub = document.attachment(address.attachment) if document is not None else None
        if document is None or stub is None or not self._lengths.completed(stub).is_same_attachment(self._pinned.stub):
            raise AttachmentChanged("the attachment is another now, or gone")
        self._pinned = attrs.evolve(self._pinned, rev=document.rev)
