"""
A client's socket, for bytes that pass its transport by: see :class:`~txcouchdl.couch.relay.Outlet`.
"""

import socket
from typing import Any, Final

from twisted.internet.interfaces import IPullProducer
from twisted.web.server import Request
from zope.interface import implementer

#: Bytes that the kernel takes for a client beyond what it has sent him. It would take megabytes from us, for each who
#: has stopped reading.
MOST_UNSENT: Final = 256 * 2**10


@implementer(IPullProducer)
class SocketOutlet:
    """
    While it is claimed, it stands in for the channel as the transport's producer: one that is pulled, which the
    transport does whenever its socket has room and nothing else is to be sent.

    :param plain: the transport's socket.
    """

    def __init__(self, request: Request, plain: Any) -> None:
        self._request: Any = request
        self._channel: Any = request.channel
        self._transport: Any = self._channel.transport
        self.plain: Final = plain
        self._is_claimed = False
        self._is_full = False
        self._is_leaving = False

    def claim(self) -> None:
        self._is_leaving = False
        if not self._is_claimed:
            self._is_claimed = True
            self.plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MOST_UNSENT)
            self._transport.unregisterProducer()
            self._transport.registerProducer(self, False)
        self.full()

    def fileno(self) -> int:
        number: int = self.plain.fileno()
        return number

    def passed(self, count: int) -> None:
        self._request.sentLength += count
        self._request.tell_sent()

    def full(self) -> None:
        self._is_full = True
        self._transport.startWriting()
        self._channel.pauseProducing()

    def broken(self) -> None:
        self._transport.abortConnection()

    def release(self) -> None:
        self._is_leaving = True
        if not self._is_full:
            self._leave()

    def _leave(self) -> None:
        if self._is_claimed:
            self._is_claimed = False
            self._transport.unregisterProducer()
            self._transport.registerProducer(self._channel, True)

    # IPullProducer

    def resumeProducing(self) -> None:
        if not self._is_full:
            # The transport says so when we are registered.
            return
        self._is_full = False
        if self._is_leaving:
            self._leave()
        self._channel.resumeProducing()

    def stopProducing(self) -> None:
        self._channel.stopProducing()


def outlet_of(request: Request) -> SocketOutlet | None:
    """The outlet of a response whose bytes are sent as they are; ``None`` if they are not, or it has none."""
    channel: Any = request.channel
    plain = channel.sending.plain
    return None if plain is None or request.chunked else SocketOutlet(request, plain)
