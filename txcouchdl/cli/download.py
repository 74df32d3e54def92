"""
One file, from its address to its place.

The first request is a GET for the first bytes that are missing, not a HEAD: it tells the same, every server has it,
and of a small file it is the last. Where the answer has a strong entity-tag, ranges can be told from those of other
versions: all others ask with If-Range, whose answer is a range of this version or visibly none, on servers that do not
know the field, too. (If-Match would give a 412 two meanings, one of them that of a pinned address.) What is not surely
of the version that was begun with is not written. Where there is no such tag, or ranges are wrong, the file is had in
one piece.

Not everything that answers is the server: there are login pages in the way. What is not what a listing or a pinned
address has told, or has less to be believed by than what came before, is not taken for a new version; and what there
is stays until the first answer of another is accepted.

The digest is computed over what is on disk, and decides.
"""

from collections.abc import Mapping
from threading import Event
from typing import Final

from attrs import evolve

from txcouchdl.cli.asking import Means, Source, dropped_on_error, part_of, range_fields
from txcouchdl.cli.client import Answer
from txcouchdl.cli.filling import Filling
from txcouchdl.cli.heads import Head
from txcouchdl.cli.locations import Location
from txcouchdl.cli.outcomes import (
    BadRanges,
    Changed,
    LocalTrouble,
    Passing,
    RangesIgnored,
    Saved,
    Trouble,
    WrongDigest,
    local_trouble,
)
from txcouchdl.cli.part import Part, is_there, require_file, tidy
from txcouchdl.cli.places import Place
from txcouchdl.cli.ranged import Ranges
from txcouchdl.cli.record import Record
from txcouchdl.cli.spans import Spans
from txcouchdl.cli.verify import best_digest, is_as_promised
from txcouchdl.cli.versions import (
    Promise,
    Resumable,
    Version,
    part_version,
    require_no_less,
    require_success,
    whole_version,
)
from txcouchdl.cli.whole import Whole
from txcouchdl.protocol.ranges import ByteRange

#: How often a file is begun anew because it is another one now.
_MOST_CHANGES: Final = 3
#: How often because its digest is wrong.
_MOST_DAMAGES: Final = 1


class Download:
    """
    One, to be run once.

    :param promise: what the file has to be; what its address pins is added to it.
    """

    def __init__(self, means: Means, location: Location, place: Place, promise: Promise | None = None) -> None:
        self._means = means
        self._location = location
        self._place = place
        self._promise = evolve(promise or Promise(), tag=location.pin)
        # The last version that was accepted, by this run or by the one before it.
        self._before: Version | Resumable | None = None
        # Whether the server serves ranges, as far as is known.
        self._has_ranges = True
        self._source = Source(means, location)

    async def run(self) -> Saved:
        """
        :raises Trouble: if it cannot be completed. What there is of it is kept, if it is worth anything.
        """
        try:
            if is_there(self._place) and not self._means.replaces:
                return await self._compare()
            require_file(self._place)
            part = Part(self._place)
            try:
                return await self._complete(part)
            finally:
                part.close()
        except OSError as error:
            raise local_trouble(self._place.shown, error) from None

    async def _compare(self) -> Saved:
        """What is there already may be the file."""
        answer = await self._source.insist("HEAD", {})
        answer.drop()
        best = best_digest({**answer.head.digests, **self._promise.digests})
        if answer.head.status == 200 and best is not None:
            self._promise.require(whole_version(answer.head))
            file, length = self._place.open()
            if await self._is_as_promised(file, *best):
                tidy(self._place)
                return Saved(self._place.shown, length, best[0], was_there=True)
        raise LocalTrouble(f"{self._place.shown}: is there already; --force replaces it")

    async def _complete(self, part: Part) -> Saved:
        changes, damages, is_new, is_whole = _MOST_CHANGES, _MOST_DAMAGES, False, False
        while True:
            try:
                version, length = await self._bring(part, is_new, is_whole)
                return await self._finish(part, version, length)
            except RangesIgnored as change:
                # What is there is of the version that comes. It stays.
                changes -= 1
                if changes < 0:
                    raise
                is_new, self._has_ranges = False, False
                self._means.watcher.say(f"{self._place.shown}: {change.sentence}: completing it from that")
            except Changed as change:
                if isinstance(change, WrongDigest):
                    damages -= 1
                else:
                    changes -= 1
                if min(changes, damages) < 0:
                    part.discard()
                    raise
                is_new, is_whole = True, is_whole or isinstance(change, BadRanges)
                self._means.watcher.say(f"{self._place.shown}: {change.sentence}: beginning anew")

    def _record(self, part: Part, version: Resumable | None = None) -> Record:
        """Of a part of which nothing is there."""
        address, inode = self._location.identity, part.inode
        if version is None:
            return Record(address=address, etag=None, length=None, inode=inode)
        return Record(
            address=address, etag=version.validator, length=version.length, digests=version.digests, inode=inode
        )

    def _accept(self, version: Version) -> None:
        """:raises Unusable: if it is not to be had, whatever it is."""
        self._promise.require(version)
        if self._before is not None:
            require_no_less(self._before, version)
        self._before = version

    async def _bring(self, part: Part, is_new: bool, is_whole: bool) -> tuple[Version, int]:
        """
        :param is_new: whether what is there is not gone on with.
        :return: the version that is on disk now, and how many bytes it has.
        """
        if is_whole:
            return await self._bring_whole(part)
        record = None if is_new else self._recalled(part)
        if record is None or record.etag is None or not record.length:
            return await self._begin(part)
        version = Resumable(record.etag, record.length, record.digests)
        self._before = version
        if not self._has_ranges:
            return await self._fill(part, record, version, None)
        wanted = self._first_missing(record.done, record.length)
        answer = await self._source.insist("GET", range_fields(wanted, version))
        with dropped_on_error(answer):
            try:
                found = part_of(version, answer, wanted)
            except RangesIgnored:
                return await self._fill(part, record, version, answer)
            version.require(found)
            self._promise.require(found)
            known = evolve(version, digests={**version.digests, **found.digests})
            return await self._bring_ranges(part, record, known, answer)

    async def _fill(self, part: Part, record: Record, version: Resumable, answer: Answer | None) -> tuple[Version, int]:
        """
        Complete what is there from all bytes, since the server ignores ranges.

        :param answer: brings them; ``None`` to ask for them.
        """
        self._promise.require(Version(version.validator, version.length, version.digests))
        self._means.watcher.sized(version.length, record.done.count)
        digests = await Filling(self._means, self._source, part, record, version).bring(answer)
        return Version(version.validator, version.length, digests), version.length

    def _recalled(self, part: Part) -> Record | None:
        """
        What is known of what is there.

        :raises LocalTrouble: if that is of something else, and somebody may still want it.
        """
        record = part.recall()
        if record is None or record.address == self._location.identity:
            return record
        if record.done.count:
            raise LocalTrouble(f"{part.shown}: is of another address; remove it, or choose another name with -o")
        return None

    def _first_missing(self, done: Spans, length: int) -> ByteRange:
        """What the first request is for; of a file of which nothing is missing, its last byte."""
        gap = next(iter(done.gaps(length)), ByteRange(length - 1, length - 1))
        return ByteRange(gap.first, min(gap.first + self._means.least - 1, gap.last))

    async def _begin(self, part: Part) -> tuple[Version, int]:
        """Nothing is there, and nothing is known."""
        wanted = ByteRange(0, self._means.least - 1)
        answer = await self._source.insist("GET", range_fields(wanted, None))
        with dropped_on_error(answer):
            if answer.head.status == 200:
                return await self._bring_whole(part, answer)
            version = _begun_version(answer.head, wanted)
            if version is not None:
                self._accept(Version(version.validator, version.length, version.digests))
                record = self._record(part, version)
                part.begin(record)
                return await self._bring_ranges(part, record, version, answer)
        answer.drop()
        return await self._bring_whole(part)

    async def _bring_ranges(
        self, part: Part, record: Record, version: Resumable, answer: Answer
    ) -> tuple[Version, int]:
        """:param answer: brings the first of what is missing."""
        self._means.watcher.sized(version.length, record.done.count)
        if record.done.count == version.length:
            answer.drop()
        else:
            wanted = self._first_missing(record.done, version.length)
            await Ranges(self._means, self._source, part, record, version).bring(wanted, answer)
        return Version(version.validator, version.length, version.digests), version.length

    async def _bring_whole(self, part: Part, answer: Answer | None = None) -> tuple[Version, int]:
        """All of it, on one connection, from its beginning, and again from there."""
        attempts = self._source.patience.attempts()
        record, promised = self._record(part), self._promise.length
        whole = Whole(self._means.watcher, self._source.patience, part, record, self._accept, promised)
        while True:
            try:
                answer = answer or await self._source.ask("GET", {})
                with dropped_on_error(answer):
                    return await whole.bring(answer)
            except Passing as trouble:
                answer = None
                await self._source.pause(attempts, trouble)

    async def _finish(self, part: Part, version: Version, length: int) -> Saved:
        if self._promise.length not in {None, length}:
            raise WrongDigest("what came is not as long as the listing says")
        told = {**version.digests, **self._promise.digests}
        best = best_digest(told or await self._learned(version))
        if best is not None and not await self._is_as_promised(part.reader(), *best):
            raise WrongDigest("what came is not what its digest says")
        part.finish(self._means.replaces)
        return Saved(self._place.shown, length, None if best is None else best[0])

    async def _learned(self, version: Version) -> Mapping[str, bytes]:
        """The server has sent all of the file now, and may have hashed it meanwhile."""
        try:
            answer = await self._source.ask("HEAD", {})
        except Trouble:
            return {}
        answer.drop()
        is_same = version.validator is not None and answer.head.validator == version.validator
        return answer.head.digests if is_same and answer.head.status == 200 else {}

    async def _is_as_promised(self, file: int, algorithm: str, digest: bytes) -> bool:
        stop = Event()
        try:
            answer: bool = await self._means.in_thread(lambda: is_as_promised(file, algorithm, digest, stop.is_set))
        finally:
            stop.set()
        return answer


def _begun_version(head: Head, wanted: ByteRange) -> Resumable | None:
    """What the first range tells; ``None`` where the file is to be had in one piece."""
    # Of an empty file there is no range; and 416 tells nothing else of it.
    if head.status == 416 and head.unsatisfied_length == 0:
        return None
    require_success(head)
    return part_version(head, wanted).resumable
