"""
Memory for the documents that are read at the same time.

Reads that find none wait for it in a queue, first come first served: a request for some time, a download that has begun
as long as it takes, and before the requests. A read takes all of its memory at once and then waits for nothing but its
node, so that reads never wait for each other in a circle.
"""

from collections import OrderedDict
from typing import Final

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from txcouchdl.couch.errors import Overloaded
from txcouchdl.couch.tally import UNCOUNTED, Tally

#: Seconds after which a client that was refused for want of memory may well find some.
_RETRY_AFTER: Final = 5.0
_TOO_LATE: Final = "no memory for a large document was free in time (--document-memory, --queue-timeout)"

_Queue = OrderedDict[Deferred[None], int]


class DocumentMemory:
    """
    :param size: bytes.
    :param timeout: seconds that a read waits.
    :param tally: is told of reads that wait too long.
    :ivar free: bytes.
    """

    def __init__(self, size: int, timeout: float, clock: IReactorTime, tally: Tally = UNCOUNTED) -> None:
        self.free = size
        self._timeout = timeout
        self._clock = clock
        self._tally = tally
        # In the order in which they came.
        self._committed: _Queue = OrderedDict()
        self._waiting: _Queue = OrderedDict()
        self._is_granting = False

    @property
    def has_queue(self) -> bool:
        """Whether reads wait."""
        return bool(self._committed or self._waiting)

    async def take(self, count: int, *, is_committed: bool) -> None:
        """
        Take memory, as soon as there is enough. To be given back.

        :param count: bytes, not more than there are.
        :param is_committed: whether a client has been told something already, and can be told nothing else.
        :raises Overloaded: if there is not enough in time.
        """
        if count <= self.free and not (self._committed or (self._waiting and not is_committed)):
            self.free -= count
            return
        waiting: Deferred[None] = Deferred(self._forget)
        queue = self._committed if is_committed else self._waiting
        queue[waiting] = count
        if is_committed:
            await waiting
            return
        try:
            await waiting.addTimeout(self._timeout, self._clock)
        except defer.TimeoutError:
            self._tally.overloaded()
            raise Overloaded(_TOO_LATE, _RETRY_AFTER) from None

    def give_back(self, count: int) -> None:
        """Give back what was taken."""
        self.free += count
        self._grant()

    def _forget(self, waiting: "Deferred[None]") -> None:
        """It waits no longer. There may be enough for the one behind it."""
        self._committed.pop(waiting, None)
        self._waiting.pop(waiting, None)
        self._grant()

    def _grant(self) -> None:
        """Give what is free to the reads that wait, in their order."""
        # A read that goes on may give back at once.
        if self._is_granting:
            return
        self._is_granting = True
        try:
            while (queue := self._committed or self._waiting) and next(iter(queue.values())) <= self.free:
                waiting, count = queue.popitem(last=False)
                self.free -= count
                waiting.callback(None)
        finally:
            self._is_granting = False
