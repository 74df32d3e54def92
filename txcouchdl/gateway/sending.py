"""
What a connection sends: in its order, and at once where it can.

A transport sends what it is given in the reactor's next turn, when its socket is found to have room. A response that is
all there does not wait for that.
"""

from typing import Any, Final

from txcouchdl.couch.wire.sockets import send_some


class Sending:
    """
    :param transport: of the connection.
    :ivar plain: its socket, if bytes may leave by past it: see :func:`.plain_socket`.
    """

    def __init__(self, transport: Any, plain: Any) -> None:
        self.plain: Final = plain
        self._transport = transport
        # Whether the transport has sent all that was written to it.
        self._is_sent = True

    def others_write(self) -> None:
        """Something is written to the transport, or may be."""
        self._is_sent = False

    def write_all(self, head: bytes, body: bytes) -> None:
        """Write a whole response: what there is room for leaves at once."""
        transport = self._transport
        if self.plain is None or transport.disconnecting:
            transport.write(head + body)
            return
        rest = send_some(self.plain, head, body) if self._is_sent else head + body
        if rest:
            transport.write(rest)
            transport.doWrite()
            self._is_sent = not transport.dataBuffer
