"""
Plain sockets under Twisted's transports: what may be done with them past the transport, and where.

All that is faster than the portable way needs the bytes of the socket to be the bytes of the protocol, which TLS is in
the way of, and system calls that only Linux has.
"""

import os
import socket
import sys
from typing import Final

from twisted.internet.interfaces import ITransport
from twisted.internet.tcp import Connection

#: Whether this system has what the direct way takes.
IS_LINUX: Final = sys.platform == "linux" and hasattr(os, "splice")
#: Bytes that are soon copied.
_COPIED: Final = 8192
_INTERNET: Final = frozenset({socket.AF_INET, socket.AF_INET6})


def plain_socket(transport: object) -> socket.socket | None:
    """The socket of a transport, if it carries the very bytes that the transport does; ``None`` if not, or not here."""
    if not IS_LINUX or not isinstance(transport, Connection) or getattr(transport, "TLS", False):
        return None
    handle = transport.getHandle()
    return handle if handle.family in _INTERNET else None


def send_some(plain: socket.socket, head: bytes, body: bytes = b"") -> bytes:
    """
    Send what there is room for.

    :param plain: of a transport that has sent all that was written to it.
    :param body: what follows the head.
    :return: the rest, which is the transport's to send, or to fail with.
    """
    try:
        # To send both at once is dearer than to send one, and for long bodies cheaper than to make one of them.
        sent = plain.sendmsg((head, body)) if len(body) > _COPIED else plain.send(head + body)
    except OSError:
        sent = 0
    return head[sent:] + body if sent < len(head) else body[sent - len(head) :]


def send_now(transport: ITransport, plain: socket.socket | None, data: bytes) -> None:
    """
    Write what there is room for at once, without a turn of the reactor.

    :param plain: the transport's socket, if it has a plain one. Everything that was written before must have been sent.
    """
    rest = data if plain is None else send_some(plain, data)
    if rest:
        transport.write(rest)
