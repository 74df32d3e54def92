"""
A relay between a browser and a gateway: a slow network that tells what has passed it, and that breaks when it is told.

Each connection is good for one exchange. The first bytes of a body pass at once, as from a buffer near the client, so
that a player soon knows its medium; the others pass at the relay's rate.
"""

import asyncio
import re
import socket
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Thread
from typing import Final
from urllib.parse import urlsplit

from attrs import define, frozen

from tests.faults import Hangup
from tests.faults.messages import LONGEST_HEAD, Head, Request
from tests.running import PATIENCE

#: Bytes of each body that pass at once.
BURST: Final = 2**16
#: The path of the relay's own answer: a document without content, of the same origin as all that passes.
BLANK: Final = "/"
_BLANK_PAGE: Final = b"<!doctype html><title>blank</title><link rel=icon href=data:,>"
_BLANK_ANSWER: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
    % (len(_BLANK_PAGE), _BLANK_PAGE)
)
_PIECES_A_SECOND: Final = 20
_LINGER_NOT: Final = struct.pack("ii", 1, 0)
_FIRST_POS: Final = re.compile(r"bytes ([0-9]+)-")


@define
class Exchange:
    """
    A request, and what came of it until now.

    :ivar range: the request's field, like ``if_range``.
    :ivar first: where the body begins in its file: 0, or as Content-Range says.
    :ivar is_ahead: whether that place lay beyond all that had passed of the file, or in a gap, when the answer began.
    :ivar passed: bytes of the body that have gone to the client.
    :ivar was_cut: whether the relay broke it, or holds it until it does.
    """

    path: str
    range: str | None
    if_range: str | None
    status: int | None = None
    first: int = 0
    is_ahead: bool = False
    passed: int = 0
    was_cut: bool = False
    is_over: bool = False

    @property
    def end(self) -> int:
        """Behind the last byte that has passed, in the file."""
        return self.first + self.passed


@frozen
class _Hold:
    after: int
    cut: asyncio.Future[Hangup]


class Relay:
    """
    The relay. Use :func:`relay`.

    :ivar rate: bytes a second.
    :ivar exchanges: all of them, in the order of their requests.
    """

    def __init__(self, listening: socket.socket) -> None:
        self.rate = 2**20
        self.exchanges: list[Exchange] = []
        self._listening = listening
        self._hold: _Hold | None = None
        self._news = Condition()
        self._gateway_port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=lambda: self._loop.run_until_complete(self._serve()), daemon=True)
        self._stop = asyncio.Event()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def trusted_origin(self) -> str:
        """The same place by another name: another origin. The gateway is told to trust it."""
        return f"http://localhost:{self._port}"

    @property
    def strange_origin(self) -> str:
        """One that the gateway is not told of."""
        return f"http://strange.localhost:{self._port}"

    @property
    def _port(self) -> int:
        port: int = self._listening.getsockname()[1]
        return port

    def start(self, gateway_port: int) -> None:
        """Who connects before waits."""
        self._gateway_port = gateway_port
        self._thread.start()

    def close(self) -> None:
        """Break all connections."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(PATIENCE)
        self._loop.close()

    def begin(self, rate: int) -> None:
        """Forget what was, and be as fast as this."""
        self.exchanges, self._hold, self.rate = [], None, rate

    def hold(self, after: int) -> None:
        """Let no body pass beyond so many bytes, until :meth:`cut`."""
        self._hold = _Hold(after, self._loop.create_future())

    def cut(self, how: Hangup) -> None:
        """Break the connection that is held; from then on all pass."""
        assert self._hold is not None
        self._loop.call_soon_threadsafe(self._hold.cut.set_result, how)

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is so that exchanges bring about."""
        with self._news:
            assert self._news.wait_for(is_so, PATIENCE), self.exchanges

    def _tell(self) -> None:
        with self._news:
            self._news.notify_all()

    async def _serve(self) -> None:
        connections: set[asyncio.Task[None]] = set()

        def connected(reader: StreamReader, writer: StreamWriter) -> None:
            task = asyncio.create_task(self._connected(reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)

        async with await asyncio.start_server(connected, sock=self._listening, limit=LONGEST_HEAD):
            await self._stop.wait()
            for each in connections:
                each.cancel()
            await asyncio.gather(*connections, return_exceptions=True)

    async def _connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        how = Hangup.RST
        try:
            asked = Request(await reader.readuntil(b"\r\n\r\n"))
            # Who has sent a request sends no more, but may leave.
            leaving = asyncio.create_task(reader.read(1))
            answering = asyncio.create_task(self._answer(asked, writer))
            try:
                await asyncio.wait((leaving, answering), return_when=asyncio.FIRST_COMPLETED)
                how = answering.result() if answering.done() else Hangup.RST
            finally:
                leaving.cancel()
                answering.cancel()
                await asyncio.gather(leaving, answering, return_exceptions=True)
        except (asyncio.IncompleteReadError, OSError):
            pass  # It left, or the gateway broke the connection: it is broken to the other side too.
        finally:
            _hang_up(writer, how)

    async def _answer(self, request: Request, writer: StreamWriter) -> Hangup:
        path = urlsplit(request.asked.target).path
        if path == BLANK:
            writer.write(_BLANK_ANSWER)
            await writer.drain()
            return Hangup.FIN
        headers = request.asked.headers
        exchange = Exchange(path, headers.get("range"), headers.get("if-range"))
        self.exchanges.append(exchange)
        try:
            gateway, to_gateway = await asyncio.open_connection("127.0.0.1", self._gateway_port, limit=LONGEST_HEAD)
            try:
                to_gateway.write(request.data)
                return await self._pass_on(exchange, request.asked.method, gateway, writer)
            finally:
                _hang_up(to_gateway, Hangup.RST)
        finally:
            exchange.is_over = True
            self._tell()

    async def _pass_on(self, exchange: Exchange, method: str, gateway: StreamReader, writer: StreamWriter) -> Hangup:
        head = Head(await gateway.readuntil(b"\r\n\r\n"))
        position = _FIRST_POS.match(head.fields.get("content-range", ""))
        exchange.status, exchange.first = head.status, int(position[1]) if position else 0
        others = (each for each in self.exchanges if each.path == exchange.path and each is not exchange)
        exchange.is_ahead = not any(each.first <= exchange.first <= each.end for each in others)
        writer.write(head.replaced("Connection", "close").data)
        self._tell()
        framing = head.framing(method)
        while not framing.is_complete:
            most = max(BURST - exchange.passed, self.rate // _PIECES_A_SECOND)
            data = await gateway.read(most)
            if not data:
                return Hangup.FIN
            hold = self._hold
            if hold is not None and not hold.cut.done() and exchange.passed + len(data) > hold.after:
                await self._send(exchange, data[: hold.after - exchange.passed], writer)
                exchange.was_cut = True
                self._tell()
                return await hold.cut
            framing.accept(data)
            await self._send(exchange, data, writer)
            if exchange.passed > BURST:
                await asyncio.sleep(len(data) / self.rate)
        return Hangup.FIN

    async def _send(self, exchange: Exchange, data: bytes, writer: StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        exchange.passed += len(data)
        self._tell()


def _hang_up(writer: StreamWriter, how: Hangup) -> None:
    if how is Hangup.RST and not writer.is_closing():
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        writer.transport.abort()
    else:
        writer.close()


@contextmanager
def relay() -> Iterator[Relay]:
    """A relay whose port is known, and that is to be started."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        it = Relay(listening)
        try:
            yield it
        finally:
            it.close()
