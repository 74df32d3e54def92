"""
The bodies of answers with documents: collected within bounds, and decoded.

A small document is read at once. For a large one there has to be memory first; it is decoded in steps, one at each turn
of the reactor, and its JSON is dropped before its memory is given back, except the stubs.
"""

from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import UNKNOWN_LENGTH

from txcouchdl.couch.deadlines import Deadlines
from txcouchdl.couch.document_decoder import DocumentDecoder
from txcouchdl.couch.document_memory import DocumentMemory
from txcouchdl.couch.documents import SMALL_DOCUMENT, Document
from txcouchdl.couch.errors import UnreadableDocument
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.short_bodies import abandon, collect
from txcouchdl.couch.tally import UNCOUNTED, Tally
from txcouchdl.couch.turns import Turns
from txcouchdl.couch.wire.answers import Answer


def is_small(answer: Answer) -> bool:
    """Whether an answer tells that its body is a small document."""
    return answer.length is not UNKNOWN_LENGTH and answer.length <= SMALL_DOCUMENT


class DocumentReader:
    """
    :param limits: how large documents may be, one and all that are read at the same time.
    :param tally: is told of reads that got no memory in time.
    :ivar decode: makes a document of the body of a :func:`small <is_small>` one: see :meth:`.DocumentDecoder.decode`.
    :ivar turns: in which large documents are decoded.
    """

    def __init__(
        self, decoder: DocumentDecoder, limits: UpstreamLimits, clock: IReactorTime, tally: Tally = UNCOUNTED
    ) -> None:
        self.decode = decoder.decode
        self.turns = Turns(clock)
        self._steps = decoder.steps
        self._most = limits.max_document
        self._memory = DocumentMemory(limits.document_memory, limits.queue_timeout, clock, tally)

    @property
    def is_crowded(self) -> bool:
        """Whether documents wait for memory."""
        return self._memory.has_queue

    async def read(self, answer: Answer, document_id: str, deadlines: Deadlines, *, is_committed: bool) -> Document:
        """
        Read a document that may be large. However this ends, its body is read or dropped.

        :param deadlines: for the body to arrive, once there is memory for it.
        :param is_committed: whether a client has been told something already, and can be told nothing else.
        :raises BadDocument: if it is not that document.
        :raises UnreadableDocument: if it is too long or nested too deep.
        :raises Overloaded: if there is no memory for it in time.
        :raises UpstreamFailure: if it does not arrive.
        """
        # A body whose length is not told may have any.
        length = self._most if answer.length is UNKNOWN_LENGTH else answer.length
        try:
            if length > self._most:
                raise _too_long(self._most)
            await self._memory.take(length, is_committed=is_committed)
        except BaseException:
            abandon(answer)
            raise
        try:
            body = await _body(answer, self._most, deadlines)
            if len(body) <= SMALL_DOCUMENT:
                return self.decode(body, document_id)
            steps = self._steps(body, document_id)
            # The steps drop it as soon as they can.
            del body
            return await self.turns.run(steps)
        finally:
            self._memory.give_back(length)


async def _body(answer: Answer, most: int, deadlines: Deadlines) -> bytes:
    deadline = deadlines.begin()
    try:
        return await deadline.wait(collect(answer, most))
    except UnreadableDocument:
        raise _too_long(most) from None
    finally:
        deadline.end()


def _too_long(most: int) -> UnreadableDocument:
    return UnreadableDocument(f"it has more than {most} bytes (--max-document)")
