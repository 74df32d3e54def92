"""
Where the readers of one response come from: an attachment, pinned once, and pinned again when its revision goes.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import attrs
from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from txcouchdl.couch.decoding import Decoder, Identity
from txcouchdl.couch.documents import AttachmentStub, Document, Storage
from txcouchdl.couch.errors import AttachmentChanged, RevisionGone, UpstreamFailure, UpstreamUnavailable
from txcouchdl.couch.inflation import Inflation
from txcouchdl.couch.inflation_slots import InflationSlot
from txcouchdl.couch.learned import LearnedIdentities
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.names import AttachmentAddress, attachment_path
from txcouchdl.couch.opened_body import Body
from txcouchdl.couch.patience import UNHURRIED, Patience
from txcouchdl.couch.reader import AttachmentReader
from txcouchdl.couch.reading import Reading, Request, plan_reading
from txcouchdl.couch.route import Route
from txcouchdl.couch.runs import Run, ascending_runs, near_runs, needs_slot
from txcouchdl.couch.shared_decoding import MOST_COLLECTED, EndListener, Listener, RangesListener
from txcouchdl.couch.shared_passes import PassRequest, PassTraits
from txcouchdl.protocol.ranges import ByteRange

_L = TypeVar("_L", bound=Listener)

#: Revisions that are tried at once, one after the other, before the caller waits and tries again.
_FOLLOWED_IN_A_ROW: Final = 4


@frozen
class PinnedAttachment:
    """An attachment as a document's revision had it: what a read is held against."""

    address: AttachmentAddress
    rev: str
    stub: AttachmentStub


class AttachmentSource:
    """
    Opens readers of one attachment, and what they read from.

    :param follows: whether the attachment may be read from a later revision, if that has the same: so where a
        client asked for the current one; not where it asked for this revision.
    :param inflation: what it shares with others to inflate gzip.
    :param address: of the client, by which limits count; ``None`` if only those for all hold for it. Called when it is
        needed.
    :param reads_whole: whether ranges may be read from the first byte on, because nodes ignore them. If not, the first
        reader of one raises RangesIgnored.
    """

    def __init__(
        self,
        route: Route,
        pinned: PinnedAttachment,
        learned: LearnedIdentities,
        inflation: Inflation,
        limits: UpstreamLimits,
        clock: IReactorTime,
        *,
        follows: bool,
        address: Callable[[], str | None] = lambda: None,
        reads_whole: bool = False,
    ) -> None:
        self._route = route
        self._pinned = pinned
        self._learned = learned
        self._inflation = inflation
        self._address = address
        self._limits = limits
        self._clock = clock
        self._follows = follows
        self._reads_whole = reads_whole

    def runs(self, ranges: Sequence[ByteRange]) -> list[Run]:
        """Cut ranges, in their order, into those that one reader each can read: see :mod:`~txcouchdl.couch.runs`."""
        if self._pinned.stub.storage is Storage.IDENTITY and not self._reads_whole:
            return near_runs(ranges, self._limits.worth_bypassing)
        return ascending_runs(ranges)

    async def open(self, ranges: Run | None, *, is_committed: bool = False) -> AttachmentReader:
        """
        A reader, whose first bytes are there.

        :param ranges: one run of identity bytes; ``None`` for all.
        :param is_committed: whether the client has been told something already: see :meth:`AttachmentReader.open`.
        :raises RevisionGone: if the revision is gone, and must be this one.
        :raises AttachmentChanged: if the current revision has another attachment, or none.
        :raises RangesIgnored: if nodes send all bytes instead of a range, and the client has been told nothing.
        :raises UpstreamFailure: if CouchDB does not give what the stub promises.
        """
        reading = plan_reading(self._pinned.stub, ranges)
        slot = await self._slot(is_committed=is_committed) if reading.needs_slot else None
        reader = self._reader(reading, slot=slot)
        await reader.open(is_committed=is_committed)
        return reader

    async def _slot(self, *, is_committed: bool) -> InflationSlot:
        slot = self._inflation.slots.slot(self._address())
        await slot.acquire(is_committed=is_committed)
        return slot

    def _reader(
        self, reading: Reading, *, slot: InflationSlot | None = None, decoder: Decoder | None = None
    ) -> AttachmentReader:
        return AttachmentReader(
            attachment_path(self._pinned.address),
            reading,
            self._open_body,
            self._limits,
            self._clock,
            budget=self._inflation.budget,
            slot=slot,
            decoder=decoder,
            learn=self._learn,
        )

    async def short(self, runs: Sequence[Run | None]) -> bytes | None:
        """
        All wanted bytes, checked, if they are few.

        :param runs: as of :meth:`runs`, or ``None`` alone for all bytes.
        :return: ``None`` if they are not few, or did not come at the first attempt: then readers may have more luck.
        :raises UpstreamFailure: as :meth:`open`.
        """
        if self._pinned.stub.storage is Storage.IDENTITY:
            if self._reads_whole:
                return await self._cut_from_short(runs)
            return await self._short_read(plan_reading(self._pinned.stub, runs[0])) if len(runs) == 1 else None
        ranges = [each for run in runs for each in run or ()]
        count = sum(each.length for each in ranges)
        # All bytes are verified before the last of them is sent: a reader does that.
        if not 0 < count <= MOST_COLLECTED or count == self._pinned.stub.length:
            return None
        listener = await self._listen(lambda: RangesListener(ranges), self._traits(ranges))
        return listener.result()

    async def _cut_from_short(self, runs: Sequence[Run | None]) -> bytes | None:
        """Cut the wanted bytes from all of them, if those are few."""
        stored = await self._short_read(plan_reading(self._pinned.stub, None))
        if stored is None or runs[0] is None:
            return stored
        return b"".join(stored[each.first : each.last + 1] for run in runs for each in run or ())

    async def _short_read(self, reading: Reading) -> bytes | None:
        """Read what is stored as it is, in one piece."""
        if not reading.is_short(self._limits):
            return None
        request = reading.request(0)
        if request.is_closing:
            return None
        body = await self._open_body(request, UNHURRIED)
        try:
            stored = await body.collect(request.count, reading.digest, request.wanted)
        except UpstreamFailure as error:
            body.lost(error)
            return None
        except BaseException:
            body.vacate()
            raise
        body.vacate()
        if not reading.has_gaps:
            return stored
        decoder = reading.decoder()
        decoder.feed(stored)
        return decoder.read()

    async def measured(self, most: int | None = None) -> AttachmentStub:
        """
        The stub with its length: if it does not tell it, after a whole pass that nobody sees.

        :param most: bytes after which the pass is given up, and the stub comes without; ``None`` for no limit.
        :raises UpstreamFailure: as :meth:`open`, and if the pass fails.
        """
        await self._listen(lambda: EndListener(most), PassTraits(is_learning=True, has_slot=True))
        stub = self._learned.completed(self._pinned.address.document, self._pinned.stub)
        self._pinned = attrs.evolve(self._pinned, stub=stub)
        return stub

    def _traits(self, ranges: Sequence[ByteRange]) -> PassTraits:
        """What a pass has to do for some ranges."""
        end = max(each.last for each in ranges) + 1
        is_learning = self._pinned.stub.sha256 is None and end == self._pinned.stub.length
        return PassTraits(is_learning, needs_slot(ranges))

    async def _listen(self, make_listener: Callable[[], _L], needed: PassTraits) -> _L:
        reading = plan_reading(self._pinned.stub, None)
        request = PassRequest(
            (self._pinned, self._follows),
            self._pinned.stub.length,
            needed,
            self._address(),
            lambda decoder: self._reader(reading, decoder=decoder),
        )
        return await self._inflation.passes.listen(request, make_listener)

    def _learn(self, identity: Identity) -> None:
        self._learned.learn(self._pinned.address.document, self._pinned.stub, identity)

    async def _open_body(self, request: Request, patience: Patience) -> Body:
        """
        Open a body, of the current revision if compaction has taken the pinned one.

        A busy document may have its revisions compacted away faster than one is read and asked for its bytes. So this
        follows a few times in a row. Then the failure is one that the caller tries again, for as long as it has time.
        So it is where a node lacks the current revision, once the client has bytes of the attachment.

        :raises RevisionGone: if the revision must be this one; or, as long as the client has nothing, if the current
            one lacks the attachment that it lists.
        :raises AttachmentChanged: if the current revision has another attachment, or none.
        :raises UpstreamUnavailable: if each of several revisions was gone before its bytes were asked for.
        """
        for _ in range(_FOLLOWED_IN_A_ROW):
            try:
                return await self._open_pinned(request, patience)
            except RevisionGone:
                if not self._follows:
                    raise
                if not await self._follow(patience):
                    if patience.is_committed:
                        raise UpstreamUnavailable("the current revision lacks an attachment that it lists") from None
                    raise
        raise UpstreamUnavailable("each revision was gone before its bytes were asked for")

    async def _open_pinned(self, request: Request, patience: Patience) -> Body:
        takes_whole = self._reads_whole or patience.is_committed
        return await self._route.attachment(
            self._pinned.address,
            self._pinned.rev,
            request,
            patience,
            takes_whole=takes_whole,
            follows=self._has_the_same if self._follows else None,
        )

    async def _follow(self, patience: Patience) -> bool:
        """
        Pin the current revision instead of one that is gone.

        :return: whether it is another than the pinned one.
        :raises AttachmentChanged: if it has another attachment, or none.
        """
        address = self._pinned.address
        try:
            document = await self._route.document_with(
                address.database, address.document_id, self._has_the_same, patience
            )
        except RevisionGone:
            raise AttachmentChanged("the attachment is another now, or gone") from None
        is_another = document.rev != self._pinned.rev
        self._pinned = attrs.evolve(self._pinned, rev=document.rev)
        return is_another

    def _has_the_same(self, document: Document) -> bool:
        stub = document.attachment(self._pinned.address.attachment)
        return stub is not None and stub.is_same_attachment(self._pinned.stub)
