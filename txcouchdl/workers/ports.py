"""
Ports of which several processes accept connections.

The kernel wakes all of them for each connection, and who comes first has it. Left alone, one that has nothing to do
takes nearly all of a crowd, while another is still waking up (measured: 182 of 200, 16 of 16). So each accepts one at a
time, where Twisted accepts as many as there are; and one that has clearly more than another leaves it a moment to come
first.
"""

import select
import socket
from typing import Any, Final, cast

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IDelayedCall, IProtocolFactory

from txcouchdl.workers.loads import Load

#: Seconds. It is what a connection waits at most for a worker that is stuck.
_MOMENT: Final = 0.001


class _Inherited(tcp.Port):
    """A port on a socket that listens already, and stays as it is when this process does not listen any more."""

    _shouldShutdown = False  # noqa: N815 (Twisted's)
    _load: Load
    _pause: IDelayedCall | None = None

    def adopt(self, inherited: socket.socket, load: Load) -> None:
        """What Twisted does to listen, but for that which has been done."""
        tcp._reservedFD.reserve()
        self._load = load
        self._state = select.poll()
        self._state.register(inherited, 0)
        self.factory.doStart()  # type: ignore[union-attr]
        self.connected = True
        self.socket = inherited
        self.fileno = inherited.fileno  # type: ignore[method-assign]
        self.startReading()

    def doRead(self) -> None:
        if self._state.poll(0):
            # The crew has shut it for all: there is nobody left to accept.
            self.stopReading()
        elif self._load.is_ahead():
            self.stopReading()
            self._pause = cast(Any, self.reactor).callLater(_MOMENT, self._go_on)
        else:
            self._accept_one()

    def _accept_one(self) -> None:
        """If there is one left."""
        self.numberAccepts = 1
        super().doRead()

    def _go_on(self) -> None:
        self._pause = None
        self._accept_one()
        self.startReading()

    def loseConnection(self, *args: Any) -> Any:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        return super().loseConnection(*args)

    stopListening = loseConnection  # noqa: N815 (Twisted's)

    def _logConnectionLostMsg(self) -> None:
        """The crew tells when a port closes."""


class _InheritedUNIX(_Inherited, unix.Port):
    def connectionLost(self, reason: Any) -> None:
        # Past unix.Port, which would remove the file.
        tcp.Port.connectionLost(self, reason)


def adopt(reactor: Any, descriptor: int, family: int, factory: IProtocolFactory, load: Load) -> tcp.Port:
    """
    Accept connections on a socket.

    :param descriptor: belongs to the port from now on.
    """
    inherited = socket.socket(family, socket.SOCK_STREAM, fileno=descriptor)
    inherited.setblocking(False)
    if family == socket.AF_UNIX:
        port: _Inherited = _InheritedUNIX(inherited.getsockname(), factory, reactor=reactor)
    else:
        port = _Inherited(0, factory, interface=inherited.getsockname()[0], reactor=reactor)
    port.adopt(inherited, load)
    return port
