"""
What is missing of a file, from answers that bring all of it: of a version of which some bytes are there, from a server
that ignores ranges now. What is there stays, however often that breaks off.
"""

from collections.abc import Mapping

from attrs import evolve

from txcouchdl.cli.asking import Means, Source, dropped_on_error
from txcouchdl.cli.client import Answer
from txcouchdl.cli.outcomes import BadRanges, Passing
from txcouchdl.cli.part import Part
from txcouchdl.cli.record import Record
from txcouchdl.cli.saving import Saver
from txcouchdl.cli.versions import Resumable, Version, require_success
from txcouchdl.protocol.ranges import ByteRange


class Filling:
    """
    What is missing of one version, to be brought once.

    :param record: of what is there, which is some of that version.
    """

    def __init__(self, means: Means, source: Source, part: Part, record: Record, version: Resumable) -> None:
        self._source = source
        self._part = part
        self._version = version
        self._watcher = means.watcher
        self._done = record.done
        self._digests = {**version.digests}
        self._position = 0
        self._saver = Saver(part, lambda: evolve(record, done=self._done), means.clock, means.in_thread)

    async def bring(self, answer: Answer | None) -> Mapping[str, bytes]:
        """
        Bring all that is missing. Whatever happens, what is there is saved.

        :param answer: brings all of the version, from its first byte on; ``None`` to ask for it.
        :return: the digests of the version, as far as the server tells them.
        :raises Trouble: if not all of it comes.
        """
        attempts = self._source.patience.attempts()
        try:
            while self._missing:
                try:
                    answer = answer or await self._source.ask("GET", {})
                    with dropped_on_error(answer):
                        await self._fill(answer)
                except Passing as trouble:
                    answer = None
                    await self._source.pause(attempts, trouble)
        finally:
            await self._saver.settle()
        return self._digests

    @property
    def _missing(self) -> int:
        return self._version.length - self._done.count

    async def _fill(self, answer: Answer) -> None:
        """
        :raises Passing: if not all of it comes.
        :raises Changed: if it is of another version.
        """
        head = answer.head
        require_success(head)
        if head.status != 200:
            raise BadRanges("the server sends a part of the file where all of it was asked for")
        length = self._version.length if head.length is None else head.length
        self._version.require(Version(head.validator, length, head.digests))
        self._digests.update(head.digests)
        self._position = 0
        await answer.deliver(self._take)
        if self._missing:
            raise Passing("the connection broke off")

    def _take(self, data: bytes) -> bool:
        first, self._position = self._position, self._position + len(data)
        # What stands before these bytes is there.
        for gap in self._done.gaps(min(self._position, self._version.length)):
            self._write(gap, data, first)
        return self._missing > 0

    def _write(self, wanted: ByteRange, data: bytes, first: int) -> None:
        """:param first: where the data begins."""
        self._part.write(wanted.first, data[wanted.first - first : wanted.last + 1 - first])
        self._done = self._done.and_also([wanted])
        self._source.patience.progress(wanted.length)
        self._watcher.brought(wanted.length)
        self._saver.wrote()
