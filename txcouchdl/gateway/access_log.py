"""
One line for each request, in the combined format that log tools know, and without secrets.

Of a request target's query nothing is written but a revision: a token may be called by its name or by an escape of
it, and tomorrow's parameters may be secret too. Of a Referer field only what stands before its query is.
"""

import re

from attrs import frozen
from twisted.internet.interfaces import IAddress
from twisted.web.server import Request
from zope.interface import implementer

# Nothing that somebody may have pasted behind it.
_REVISION = re.compile(rb"rev=[0-9]{1,19}-[0-9a-f]{1,64}")
# Of a target in absolute-form: a name and a password may stand before the host.
_USERINFO = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*://)[^/@]*@")
_UNPRINTABLE = re.compile(r'[^\x20-\x7e]|["\\]')


@implementer(IAddress)
@frozen
class ClientAddress:
    """
    Whom a request is from, once that is known: behind a trusted proxy it is not the connection's peer.

    :ivar host: as :meth:`~txcouchdl.gateway.peers.TrustedProxies.client_of` has it.
    """

    host: str


@frozen
class AccessLogLine:
    """
    What ``str()`` writes. It holds no secret, and is not written out for a log that nobody reads.

    :ivar timestamp: in the format's brackets already.
    :ivar requested: the request line, its target redacted.
    :ivar length: bytes of the body that were sent.
    :ivar referer: without its query.
    """

    client: str
    timestamp: str
    requested: bytes
    status: int
    length: int
    referer: bytes
    agent: bytes

    def __str__(self) -> str:
        return (
            f'{_escaped(self.client.encode())} - - {self.timestamp} "{_escaped(self.requested)}" {self.status} '
            f'{self.length or "-"} "{_escaped(self.referer)}" "{_escaped(self.agent)}"'
        )


def access_log_line(timestamp: str, request: Request) -> AccessLogLine:
    """
    :param timestamp: in the format's brackets already.
    :param request: its client is the connection's peer, or a :class:`ClientAddress`.
    """
    return AccessLogLine(
        str(getattr(request.getClientAddress(), "host", "-")),
        timestamp,
        b"%b %b %b" % (request.method, redacted_target(request.uri), request.clientproto),
        request.code,
        request.sentLength,
        _bare(request.getHeader(b"Referer") or b"-"),
        request.getHeader(b"User-Agent") or b"-",
    )


def refusal_log_line(timestamp: str, peer: IAddress, status: int, length: int) -> str:
    """
    The line of a request that could not be read: of what it said, nothing is known to be no secret.

    :param length: bytes of the answer's body.
    """
    return f'{_escaped(str(getattr(peer, "host", "-")).encode())} - - {timestamp} "-" {status} {length} "-" "-"'


def redacted_target(target: bytes) -> bytes:
    """A request target without the values of its query."""
    path, mark, query = target.partition(b"?")
    userinfo = _USERINFO.match(path)
    if userinfo is not None:
        path = userinfo[1] + path[userinfo.end() :]
    return path + mark + b"&".join([_redacted(pair) for pair in query.split(b"&")])


def _redacted(pair: bytes) -> bytes:
    name, equals, _ = pair.partition(b"=")
    if _REVISION.fullmatch(pair) or not pair:
        return pair
    # A value without its name may be anything.
    return name + b"=***" if equals else b"***"


def _bare(url: bytes) -> bytes:
    return url.partition(b"?")[0].partition(b"#")[0]


def _escaped(text: bytes) -> str:
    """On one line, and inside its quotes, whatever a client sent."""
    return _UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", text.decode("latin-1"))
