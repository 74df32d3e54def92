"""Faults, too: more bytes than were promised, some of them without an end."""

from typing import ClassVar, Final

from attrs import field, frozen
from attrs.validators import ge, gt

from tests.faults.connections import Hangup
from tests.faults.exchange import Exchange
from tests.faults.kinds import Fault

_FILLER: Final = 2**16


@frozen
class Surplus(Fault):
    """
    Bytes behind the whole answer: with its last ones, or later. The next request waits for them.

    :ivar later: seconds.
    """

    data: bytes
    later: float = field(default=0.0, validator=ge(0))

    async def play(self, exchange: Exchange) -> Hangup | None:
        await exchange.ask()
        last = b""
        while data := await exchange.take():
            await exchange.send(last)
            last = data
        exchange.strike()
        if self.later:
            await exchange.send(last)
            await exchange.pause(self.later)
            last = b""
        await exchange.send(last + self.data)
        return None


@frozen
class EndlessBody(Fault):
    """
    Far more than was promised behind the whole answer, and then the end.

    :ivar count: how many bytes more.
    """

    count: int = field(default=10 * 2**30, validator=gt(0))

    async def play(self, exchange: Exchange) -> Hangup | None:
        await exchange.ask()
        await exchange.pass_on()
        exchange.strike()
        for first in range(0, self.count, _FILLER):
            await exchange.send(bytes(min(_FILLER, self.count - first)))
        return Hangup.FIN


@frozen
class _Endless(Fault):
    """It begins somehow, and goes on for ever. The node is not asked."""

    begins: ClassVar[bytes]
    goes_on: ClassVar[bytes]

    async def play(self, exchange: Exchange) -> Hangup | None:
        exchange.strike()
        await exchange.send(self.begins)
        return await self._go_on(exchange)

    async def _go_on(self, exchange: Exchange) -> Hangup | None:
        piece = self.goes_on * (_FILLER // len(self.goes_on))
        while True:
            await exchange.send(piece)


@frozen
class EndlessHead(_Endless):
    """One header field after the other."""

    begins = b"HTTP/1.1 200 OK\r\n"
    goes_on = b"X-Filler: 0123456789abcdef\r\n"


@frozen
class EndlessInterim(_Endless):
    """One interim answer after the other."""

    begins = b""
    goes_on = b"HTTP/1.1 102 Processing\r\n\r\n"


@frozen
class EndlessPage(_Endless):
    """A whole head, with nothing that says where the body ends, and a body that does not."""

    status: int
    goes_on = b"<p>Sorry.</p>\n"

    async def play(self, exchange: Exchange) -> Hangup | None:
        exchange.strike()
        await exchange.send(b"HTTP/1.1 %d Scripted\r\nContent-Type: text/html\r\n\r\n" % self.status)
        return await self._go_on(exchange)


@frozen
class EndlessChunkSize(_Endless):
    """The node's head, but of a chunked body; and the size of its first chunk, which has no end."""

    goes_on = b"0"

    async def play(self, exchange: Exchange) -> Hangup | None:
        head = await exchange.ask()
        exchange.strike()
        await exchange.send(head.replaced("Content-Length", None).replaced("Transfer-Encoding", "chunked").data)
        return await self._go_on(exchange)
