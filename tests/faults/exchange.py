"""One request, and its answer on the way to the client: what a fault has in its hands."""

from collections.abc import Awaitable, Callable
from enum import Enum

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from tests.faults.connections import Downstream, Upstream, UpstreamLost
from tests.faults.messages import LONGEST_HEAD, Framing, Head, Request, UntilClose, end_of_head

#: Bytes that are passed on at once, at most.
PIECE = 2**16


class Start(Enum):
    """From where bytes are counted; on from the head they go on into the body, which is as it is on the wire."""

    HEAD = "the answer's first byte"
    BODY = "the first byte behind its head"


class Exchange:
    """
    :param connect: gives the connection to the node.
    :param struck: called when the fault shows, if it does.
    """

    def __init__(
        self,
        request: Request,
        client: Downstream,
        connect: Callable[[], Awaitable[Upstream]],
        clock: IReactorTime,
        struck: Callable[[], None],
    ) -> None:
        self.request = request
        self.strike = struck
        self.send = client.send
        self._connect = connect
        self._clock = clock
        self._upstream: Upstream
        self._head = Head(b"")
        # Of the head, what has not been taken yet.
        self._rest_of_head = b""
        self._framing: Framing = UntilClose()

    # Of the node

    async def ask(self, request: Request | None = None) -> Head:
        """Ask the node for what the client wants, or for something else, and wait for the head of the answer."""
        self._upstream = await self._connect()
        self._upstream.transport.write((request or self.request).data)
        head = await self._read_head()
        self._framing = head.framing(self.request.asked.method)
        self.replace_head(head)
        return head

    async def _read_head(self) -> Head:
        received = b""
        while (end := end_of_head(received)) is None:
            if len(received) > LONGEST_HEAD:
                return Head(received, is_whole=False)
            try:
                received += await self._upstream.read(PIECE)
            except UpstreamLost:
                # It goes on as it is, and the next read says the same.
                return Head(received, is_whole=False)
        self._upstream.unread(received[end:])
        return Head(received[:end])

    def replace_head(self, head: Head) -> None:
        """Say this to the client. What the node's own head says of the body's end is known, and stays."""
        self._head, self._rest_of_head = head, head.data

    async def take(self, most: int = PIECE) -> bytes:
        """
        Some bytes that come next in the answer, beginning with its head; none when it has ended.

        :raises UpstreamLost: if it breaks off.
        """
        if self._rest_of_head:
            taken, self._rest_of_head = self._rest_of_head[:most], self._rest_of_head[most:]
            return taken
        if self._framing.is_complete:
            return b""
        try:
            data = await self._upstream.read(most)
        except UpstreamLost:
            if isinstance(self._framing, UntilClose) and self._head.is_whole:
                return b""
            raise
        count = self._framing.accept(data)
        self._upstream.unread(data[count:])
        return data[:count]

    async def take_all(self, count: int) -> bytes:
        """So many bytes, fewer only at the end of the answer."""
        taken = b""
        while len(taken) < count and (data := await self.take(count - len(taken))):
            taken += data
        return taken

    # To the client

    def place(self, after: int, start: Start = Start.BODY) -> int:
        """:return: the offset of a place, from the answer's first byte."""
        return after + (len(self._head.data) if start is Start.BODY else 0)

    async def pass_on(self, count: int | None = None) -> bool:
        """
        Pass on so many bytes of the answer, or all the rest.

        :return: whether there were so many.
        """
        while count is None or count > 0:
            data = await self.take(PIECE if count is None else min(count, PIECE))
            if not data:
                return count is None
            await self.send(data)
            count = None if count is None else count - len(data)
        return True

    async def drop(self) -> None:
        """Take the rest of the answer, and pass it to nobody."""
        while await self.take():
            pass

    # Time

    async def pause(self, seconds: float) -> None:
        await deferLater(self._clock, seconds)

    async def forever(self) -> None:
        """Until the client leaves."""
        await Deferred()
