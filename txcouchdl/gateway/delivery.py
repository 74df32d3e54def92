"""
Carries a plan out to one client.

The first reader is opened, and its first bytes are there, before the status line is written: until then everything
that goes wrong is an answer of its own. From then on there is the end rule: a response ends cleanly only when every
promised byte was sent and every check has passed. Everything else breaks the client's connection, visibly: inside
the promised Content-Length, or before the last chunk. No response is framed by the end of its connection.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, cast

from attrs import evolve
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.web.server import Request
from zope.interface import implementer

from txcouchdl.couch.errors import DownloadError
from txcouchdl.couch.reader import AttachmentReader
from txcouchdl.couch.runs import Run
from txcouchdl.couch.source import AttachmentSource
from txcouchdl.gateway.channel import GatewayChannel
from txcouchdl.gateway.description import Headers
from txcouchdl.gateway.outlet import outlet_of
from txcouchdl.gateway.plan import DeliveryPlan
from txcouchdl.protocol.multipart import PartFramer

if TYPE_CHECKING:
    from txcouchdl.gateway.request import GatewayRequest

#: Seconds that a client gets to take what was sent before the break, before it is cut off.
_LINGER = 15.0

_log = Logger()


async def deliver(
    plan: DeliveryPlan, request: Request, source: AttachmentSource, begins: Callable[[], object] | None = None
) -> None:
    """
    Answer a request as planned, to the end or the break. Cancelling it drops the upstream connection.

    :param source: of the planned attachment.
    :param begins: called when a response that takes time begins: from now on it can be no error.
    :raises DownloadError: only as long as nothing has been sent to the client.
    """
    if not plan.sends_attachment:
        answer(plan, request)
        return
    runs: Sequence[Run | None] = (plan.ranges,)
    heads = None
    if plan.framing is not None:
        runs, heads = source.runs(plan.framing.ranges), plan.framing.part_heads()
    body = await source.short(runs)
    if body is not None:
        _answer(plan, request, _framed(plan.ranges, heads)(body) + plan.trailer)
        return
    first = await source.open(runs[0])
    try:
        if begins is not None:
            begins()
        response = _Response(plan, request)
        stream = _Stream(request, heads, response)
        await stream.send(runs, first, source)
        response.end()
        stream.end()
    except DownloadError as error:
        if not response.has_begun:
            request.unregisterProducer()
            raise
        _log.warn("a download broke off: {error}", error=error)
        await break_off(request)
    finally:
        first.stopProducing()


def answer(plan: DeliveryPlan, request: Request) -> None:
    """Answer with a plan whose trailer is all of the body."""
    _answer(plan, request, plan.trailer)


def _answer(plan: DeliveryPlan, request: Request, body: bytes) -> None:
    cast("GatewayRequest", request).begin(plan.status, plan.headers, plan.content_length, body)
    request.finish()


def tell(headers: Headers, request: Request) -> None:
    """Put fields into the head of whatever answer there will be."""
    for name, value in headers:
        request.responseHeaders.setRawHeaders(name.encode("ascii"), [value.encode("latin-1")])


def _write_head(plan: DeliveryPlan, request: Request) -> None:
    cast("GatewayRequest", request).begin(plan.status, plan.headers, plan.content_length)


async def break_off(request: Request) -> None:
    """
    End a response that cannot be completed, and wait until it has ended.

    Its framing shows the break. What has been sent may still arrive, so the connection is closed behind it rather than
    reset: the client has more to resume from, and Chromium resumes a download after a close only (CLIENTS, point 11).
    """
    if request.channel is None:
        return
    gone = request.notifyFinish()
    request.unregisterProducer()
    cast("GatewayChannel", request.channel).give_up_after(_LINGER)
    request.loseConnection()
    await gone.addErrback(lambda _: None)


def _framed(run: Run | None, heads: Iterator[bytes] | None) -> Callable[[bytes], bytes]:
    """
    Make what puts part heads between the bytes of a run, as these come by.

    :param heads: of the parts from this run on; ``None`` if the body has no parts.
    """
    if run is None or heads is None:
        return bytes
    return PartFramer(heads, (each.length for each in run)).frame


class _Response:
    """
    The head of a response, and the bytes behind it.

    A body of unknown length may be short. Its head waits until the body is complete or has more bytes than the plan
    allows to hold back: so it has a Content-Length in the first case, and is chunked in the second.

    :ivar has_begun: whether the head has been written.
    """

    def __init__(self, plan: DeliveryPlan, request: Request) -> None:
        self._plan = plan
        self._request = request
        self._held: list[bytes] = []
        self._held_count = 0
        self.has_begun = False
        if not plan.most_held:
            self._begin(plan.content_length)

    def write(self, data: bytes) -> None:
        if self.has_begun:
            self._request.write(data)
            return
        self._held.append(data)
        self._held_count += len(data)
        if self._held_count > self._plan.most_held:
            self._begin(None)

    def end(self) -> None:
        """Write what follows the bytes of the attachment. The request is finished by the caller."""
        if not self.has_begun:
            self._begin(self._held_count)
        self._request.write(self._plan.trailer)

    def _begin(self, length: int | None) -> None:
        self.has_begun = True
        _write_head(evolve(self._plan, content_length=length), self._request)
        held, self._held = self._held, []
        for data in held:
            self._request.write(data)


@implementer(IPushProducer)
class _Stream:
    """
    The body of one response: its runs in turn, each from a reader of its own, at the pace of the client.

    :param heads: of its parts; ``None`` if it has none.
    """

    def __init__(self, request: Request, heads: Iterator[bytes] | None, response: _Response) -> None:
        self._request = request
        self._response = response
        self._heads = heads
        # The bytes of a response that has not begun cannot leave past it.
        self._outlet = outlet_of(request) if response.has_begun else None
        self._reader: AttachmentReader | None = None
        self._is_paused = False
        request.registerProducer(self, True)

    async def send(self, runs: Sequence[Run | None], first: AttachmentReader, source: AttachmentSource) -> None:
        """
        :param first: the reader of the first run.
        :raises DownloadError: if the body cannot be completed.
        """
        await self._send_run(runs[0], first)
        for run in runs[1:]:
            await self._send_run(run, await source.open(run, is_committed=True))

    async def _send_run(self, run: Run | None, reader: AttachmentReader) -> None:
        self._reader = reader
        framed = _framed(run, self._heads)
        if self._is_paused:
            reader.pauseProducing()
        try:
            await reader.deliver(lambda data: self._response.write(framed(data)), self._outlet)
        finally:
            reader.stopProducing()

    def end(self) -> None:
        """The clean end."""
        self._request.unregisterProducer()
        self._request.finish()

    def pauseProducing(self) -> None:
        self._is_paused = True
        if self._reader is not None:
            self._reader.pauseProducing()

    def resumeProducing(self) -> None:
        self._is_paused = False
        if self._reader is not None:
            self._reader.resumeProducing()

    def stopProducing(self) -> None:
        """The client is gone. The request hears of it too, and cancels the delivery."""
        if self._reader is not None:
            self._reader.stopProducing()
