"""
What can go wrong between the gateway and a node, for one exchange.

A fault whose place the answer does not reach does nothing. Those that count from the end of the body need its
Content-Length, and do nothing where there is none.
"""

from attrs import field, frozen
from attrs.validators import ge, gt, in_

from tests.faults.connections import Hangup
from tests.faults.exchange import Exchange, Start
from tests.scripted import DYING_WORDS, answer


@frozen
class Fault:
    """One way of an exchange."""

    async def play(self, exchange: Exchange) -> Hangup | None:
        """
        Let the exchange happen.

        :return: how the connection ends now, or ``None`` if it goes on.
        """
        raise NotImplementedError


@frozen
class NoFault(Fault):
    """The exchange as it is."""

    async def play(self, exchange: Exchange) -> Hangup | None:
        await exchange.ask()
        await exchange.pass_on()
        return None


@frozen
class _Placed(Fault):
    """At a place in the answer."""

    after: int = field(validator=ge(0))
    start: Start = field(default=Start.BODY, kw_only=True)

    async def play(self, exchange: Exchange) -> Hangup | None:
        await exchange.ask()
        if not await exchange.pass_on(exchange.place(self.after, self.start)):
            return None
        return await self.happen(exchange)

    async def happen(self, exchange: Exchange) -> Hangup | None:
        """What is before the place has been passed on."""
        raise NotImplementedError


# The connection ends, or nothing more comes.


@frozen
class Refuse(Fault):
    """The connection ends as soon as something is asked. The node is not asked."""

    how: Hangup = Hangup.FIN

    async def play(self, exchange: Exchange) -> Hangup | None:
        exchange.strike()
        return self.how


@frozen
class Cut(_Placed):
    """The connection ends. At the very end of the body that is just a connection that is not kept."""

    how: Hangup = Hangup.FIN

    async def happen(self, exchange: Exchange) -> Hangup | None:
        exchange.strike()
        return self.how


@frozen
class Truncate(Fault):
    """
    The last bytes of the body are left out.

    :ivar lies: whether Content-Length is lowered with it. The connection is kept then, and ends otherwise.
    """

    count: int = field(validator=gt(0))
    lies: bool = False

    async def play(self, exchange: Exchange) -> Hangup | None:
        head = await exchange.ask()
        if head.length is None or head.length < self.count:
            await exchange.pass_on()
            return None
        exchange.strike()
        kept = head.length - self.count
        if self.lies:
            exchange.replace_head(head.replaced("Content-Length", str(kept)))
        await exchange.pass_on(exchange.place(kept))
        if not self.lies:
            return Hangup.FIN
        await exchange.drop()
        return None


@frozen
class Stall(_Placed):
    """Nothing more comes, until the client leaves."""

    async def happen(self, exchange: Exchange) -> Hangup | None:
        exchange.strike()
        await exchange.forever()
        return None


@frozen
class Delay(Fault):
    """The answer comes late: its head after so many seconds."""

    seconds: float = field(validator=gt(0))

    async def play(self, exchange: Exchange) -> Hangup | None:
        await exchange.ask()
        exchange.strike()
        await exchange.pause(self.seconds)
        await exchange.pass_on()
        return None


@frozen
class Slow(Fault):
    """The answer comes slowly: so many bytes after each second."""

    rate: int = field(validator=gt(0))

    async def play(self, exchange: Exchange) -> Hangup | None:
        await exchange.ask()
        exchange.strike()
        while data := await exchange.take_all(self.rate):
            await exchange.pause(1.0)
            await exchange.send(data)
        return None


# Other bytes than those that were asked for.


@frozen
class DyingWords(Fault):
    """
    CouchDB's error text in place of the body's bytes, all of it, and then the end (FINDINGS, section 0, point 1).

    :ivar fill: whether it reaches the end of the body, or beyond (point 3): it begins so late that it ends there, or
        at ``after``, if that is later. Otherwise it does not end there even by chance, but is a byte longer then.
    """

    after: int = field(validator=ge(0))
    fill: bool = False

    async def play(self, exchange: Exchange) -> Hangup | None:
        head = await exchange.ask()
        words, first = DYING_WORDS, self.after
        if self.fill:
            if head.length is None:
                await exchange.pass_on()
                return None
            first = max(first, head.length - len(words))
        elif first + len(words) == head.length:
            words += b"\n"
        if not await exchange.pass_on(exchange.place(first)):
            return None
        exchange.strike()
        await exchange.send(words)
        return Hangup.FIN


@frozen
class Duplicate(_Placed):
    """So many bytes come twice. Content-Length stays."""

    count: int = field(validator=gt(0))

    async def happen(self, exchange: Exchange) -> Hangup | None:
        if data := await exchange.take_all(self.count):
            exchange.strike()
            await exchange.send(data + data)
            await exchange.pass_on()
        return None


@frozen
class Corrupt(_Placed):
    """One byte is another."""

    xor: int = field(default=0x20, validator=in_(range(1, 256)))

    async def happen(self, exchange: Exchange) -> Hangup | None:
        if byte := await exchange.take(1):
            exchange.strike()
            await exchange.send(bytes([byte[0] ^ self.xor]))
            await exchange.pass_on()
        return None


@frozen
class WrongRange(Fault):
    """The node's answer for a range so many bytes further on. Where no range is asked for, nothing is wrong."""

    shift: int = field(validator=gt(0))

    async def play(self, exchange: Exchange) -> Hangup | None:
        asked = exchange.request.asked.headers.get("range", "")
        first, dash, last = asked.removeprefix("bytes=").partition("-")
        if first.isdigit() and dash:
            exchange.strike()
            moved = f"{int(first) + self.shift}-{int(last) + self.shift if last else ''}"
            await exchange.ask(exchange.request.with_range(f"bytes={moved}"))
        else:
            await exchange.ask()
        await exchange.pass_on()
        return None


@frozen
class AnotherDocument(Fault):
    """The node's answer for another target."""

    target: str

    async def play(self, exchange: Exchange) -> Hangup | None:
        exchange.strike()
        await exchange.ask(exchange.request.aimed_at(self.target))
        await exchange.pass_on()
        return None


@frozen
class AnswerStatus(Fault):
    """
    Another answer. The node is not asked.

    :ivar closes: whether the connection ends with it. It does anyhow if the client says so.
    """

    status: int
    closes: bool = False

    async def play(self, exchange: Exchange) -> Hangup | None:
        exchange.strike()
        closes = self.closes or exchange.request.asked.headers.get("connection") == "close"
        fields = {"Content-Type": "application/json", **({"Connection": "close"} if closes else {})}
        await exchange.send(answer(self.status, b'{"error":"scripted","reason":"A fault."}\n', fields))
        return Hangup.FIN if closes else None
