"""A file by ranges, over several connections, into its part."""

from collections.abc import Callable

from attrs import evolve

from txcouchdl.cli.asking import Means, Source
from txcouchdl.cli.client import Answer
from txcouchdl.cli.outcomes import Passing
from txcouchdl.cli.part import Part
from txcouchdl.cli.patience import Attempts
from txcouchdl.cli.record import Record
from txcouchdl.cli.saving import Saver
from txcouchdl.cli.segments import Segment, Work
from txcouchdl.cli.together import together
from txcouchdl.cli.versions import Resumable
from txcouchdl.protocol.digests import MD5
from txcouchdl.protocol.ranges import ByteRange


class Ranges:
    """
    What is missing of one version, to be brought once.

    :param version: the record's.
    """

    def __init__(self, means: Means, source: Source, part: Part, record: Record, version: Resumable) -> None:
        self._source = source
        self._part = part
        self._version = version
        self._watcher = means.watcher
        self._work = Work(version.length, record.done, means.least)
        self._saver = Saver(part, lambda: evolve(record, done=self._work.done), means.clock, means.in_thread)
        # Of what is stored compressed a gateway knows no MD5, and inflates it anew for each range; where no digest is
        # known at all, the file may be made anew, too.
        wanted = means.connections if MD5 in version.digests else 1
        self._connections = max(1, min(wanted, -(-self._work.missing // means.least)))
        self._idle = self._connections

    async def bring(self, wanted: ByteRange, answer: Answer) -> None:
        """
        All of it; whatever happens, what is there is saved.

        :param answer: brings the first of what is missing.
        :raises Trouble: if not all of it comes.
        """
        first = self._work.claim(wanted)
        self._idle -= 1
        others = (self._connection() for _ in range(self._connections - 1))
        try:
            await together([self._connection((first, answer)), *others])
        finally:
            await self._saver.settle()

    async def _connection(self, begun: tuple[Segment, Answer | None] | None = None) -> None:
        """One of them: it brings a segment after the other, as long as there are any."""
        attempts = self._source.patience.attempts()
        while begun is not None or (begun := self._next()) is not None:
            trouble = await self._bring(*begun, attempts)
            begun = None
            if trouble is not None:
                await self._source.pause(attempts, trouble)

    def _next(self) -> tuple[Segment, Answer | None] | None:
        segment = self._work.take(max(self._idle, 1))
        if segment is None:
            return None
        self._idle -= 1
        return segment, None

    async def _bring(self, segment: Segment, answer: Answer | None, attempts: Attempts) -> Passing | None:
        """:return: what went wrong, if it did, and may go better."""
        asked = segment.rest
        try:
            if answer is None:
                answer = await self._source.part(self._version, asked)
            await answer.deliver(self._taker(segment, asked, attempts))
            return Passing("the connection broke off") if segment.missing else None
        except Passing as trouble:
            # All that was wanted of it may be there.
            return trouble if segment.missing else None
        finally:
            self._work.give_back(segment)
            self._idle += 1

    def _taker(self, segment: Segment, asked: ByteRange, attempts: Attempts) -> Callable[[bytes], bool]:
        def take(data: bytes) -> bool:
            wanted = data[: segment.missing]
            if wanted:
                self._part.write(segment.next, wanted)
                segment.next += len(wanted)
                self._brought(len(wanted), attempts)
            # An answer that ends here by itself leaves its connection for the next one.
            return segment.missing > 0 or (segment.last == asked.last and len(wanted) == len(data))

        return take

    def _brought(self, count: int, attempts: Attempts) -> None:
        self._source.patience.progress(count)
        attempts.went_well()
        self._watcher.brought(count)
        self._saver.wrote()
