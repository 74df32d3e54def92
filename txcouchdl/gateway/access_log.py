"""
One line for each request, in the combined format that log tools know or as JSON, without secrets and of bounded length.

Of a request target's query nothing is written but a revision: a token may be called by its name or by an escape of
it, and tomorrow's parameters may be secret too. Of a Referer field only what stands before its query is.

A line has 8 KiB at most. If it would be longer, its longest texts are cut, behind a whole escape, and end with three
dots. What is secret was redacted before.
"""

import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from attrs import frozen
from twisted.internet.interfaces import IAddress
from twisted.web.http import datetimeToLogString
from twisted.web.server import Request
from zope.interface import implementer

# Nothing that somebody may have pasted behind it.
_REVISION = re.compile(rb"rev=[0-9]{1,19}-[0-9a-f]{1,64}")
# Of a target in absolute-form: a name and a password may stand before the host.
_USERINFO = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*://)[^/@]*@")
_UNPRINTABLE = re.compile(r'[^\x20-\x7e]|["\\]')
# Of a line's own.
_QUOTES = 6
# Of a line of JSON, those that others choose.
_TEXTS = ("client", "method", "target", "protocol", "referer", "agent")

#: Bytes of a line, its end included.
LONGEST_LINE: Final = 8 * 2**10
#: Of these, the ones for everything but texts: the time, numbers, names and quotes.
_FRAME: Final = 512
_CUT: Final = "..."
# What may stand before a cut: whole escapes. Of JSON's, two that are one character are not parted.
_WHOLE_HEX: Final = re.compile(r"(?:[^\\]|\\x[0-9a-f]{2})*")
_WHOLE_JSON: Final = re.compile(
    r"(?:[^\\]|\\u[dD][89abAB][0-9a-f]{2}\\u[dD][c-fC-F][0-9a-f]{2}|\\u(?![dD][89abAB])[0-9a-f]{4}|\\[^u])*"
)


class LineFormat(Enum):
    """How the access log's lines are written."""

    COMBINED = "combined"
    JSON = "json"


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
        return _written(self.client, self.timestamp, self.requested, self.status, self.length, self.referer, self.agent)


def access_log_line(timestamp: str, request: Request) -> AccessLogLine:
    """
    :param timestamp: in the format's brackets already.
    :param request: its client is the connection's peer, or a :class:`ClientAddress`.
    """
    return AccessLogLine(*_told(timestamp, request))


def access_log_json(timestamp: str, request: Request) -> str:
    """
    The same as an object of JSON, with ``time``, ``client``, ``method``, ``target``, ``protocol``, ``status``,
    ``length``, ``referer`` and ``agent``, the last two of them ``null`` if there are none.

    :param timestamp: as :func:`iso_timestamp` has it.
    """
    client, _, requested, status, length, referer, agent = _told(timestamp, request)
    data = {
        "time": timestamp,
        "client": client,
        "method": _legible(request.method),
        # Redacted once, as the combined line has it: between what it begins and ends with.
        "target": _legible(requested[len(request.method) + 1 : -len(request.clientproto) - 1]),
        "protocol": _legible(request.clientproto),
        "status": status,
        "length": length,
        "referer": None if referer == b"-" else _legible(referer),
        "agent": None if agent == b"-" else _legible(agent),
    }
    line = json.dumps(data)
    if len(line) < LONGEST_LINE:
        return line
    texts = {name: json.dumps(data[name])[1:-1] for name in _TEXTS if isinstance(data[name], str)}
    cut = zip(texts, _cut([*texts.values()], _WHOLE_JSON), strict=True)
    return json.dumps(data | {name: json.loads(f'"{text}"') for name, text in cut})


def iso_timestamp(now: int) -> str:
    """:param now: seconds since 1970."""
    return datetime.fromtimestamp(now, UTC).isoformat()


def access_log_text(timestamp: str, request: Request) -> str:
    """The same, written out at once: ASCII, without a line's end."""
    return _written(*_told(timestamp, request))


def _told(timestamp: str, request: Request) -> tuple[str, str, bytes, int, int, bytes, bytes]:
    """What a line tells, in its order."""
    referer, agent = request.getHeader(b"Referer"), request.getHeader(b"User-Agent")
    return (
        str(getattr(request.getClientAddress(), "host", "-")),
        timestamp,
        b"%b %b %b" % (request.method, redacted_target(request.uri), request.clientproto),
        request.code,
        request.sentLength,
        _bare(referer or b"-"),
        agent or b"-",
    )


def _written(
    client: str, timestamp: str, requested: bytes, status: int, length: int, referer: bytes, agent: bytes
) -> str:
    line = (
        f'{client} - - {timestamp} "{requested.decode("latin-1")}" {status} {length or "-"} '
        f'"{referer.decode("latin-1")}" "{agent.decode("latin-1")}"'
    )
    # Nearly always there is nothing to escape, and to see that of all of it at once costs least. The quotes are ours.
    is_plain = line.isascii() and line.isprintable() and "\\" not in line and line.count('"') == _QUOTES
    if is_plain and len(line) < LONGEST_LINE:
        return line
    asked, _, protocol = requested.rpartition(b" ")
    texts = [_escaped(each) for each in (client.encode(), asked, protocol, referer, agent)]
    client, shown, version, *fields = _cut(texts, _WHOLE_HEX)
    return f'{client} - - {timestamp} "{shown} {version}" {status} {length or "-"} "{fields[0]}" "{fields[1]}"'


def _cut(texts: Sequence[str], whole: re.Pattern[str]) -> list[str]:
    """
    Cut the longest of some texts, so that all of them fit into a line.

    :param texts: escaped.
    :param whole: matches what may stand before a cut.
    """
    room, cut = LONGEST_LINE - 1 - _FRAME, list(texts)
    # The short ones get what they need, and the others equal parts of the rest.
    for done, index in enumerate(sorted(range(len(texts)), key=lambda index: len(texts[index]))):
        most = room // (len(texts) - done)
        if len(texts[index]) > most:
            found = whole.match(texts[index], 0, most - len(_CUT))
            cut[index] = f"{found[0] if found else ''}{_CUT}"
        room -= len(cut[index])
    return cut


def refusal_log_line(timestamp: str, peer: IAddress, status: int, length: int) -> str:
    """
    The line of a request that could not be read: of what it said, nothing is known to be no secret.

    :param length: bytes of the answer's body.
    """
    return f'{_escaped(str(getattr(peer, "host", "-")).encode())} - - {timestamp} "-" {status} {length} "-" "-"'


def refusal_log_json(timestamp: str, peer: IAddress, status: int, length: int) -> str:
    """The same as an object of JSON: see :func:`access_log_json`. What is not known is ``null``."""
    unknown = dict.fromkeys(("method", "target", "protocol", "referer", "agent"))
    client = str(getattr(peer, "host", "-"))
    return json.dumps({"time": timestamp, "client": client, "status": status, "length": length, **unknown})


@frozen
class LineWriter:
    """
    Writes the lines of one format.

    :ivar timestamp: of seconds since 1970, as the others take it.
    :ivar of_request: see :func:`access_log_text`.
    :ivar of_refusal: see :func:`refusal_log_line`.
    """

    timestamp: Callable[[int], str]
    of_request: Callable[[str, Request], object]
    of_refusal: Callable[[str, IAddress, int, int], str]


def line_writer(line_format: LineFormat, is_for_events: bool) -> LineWriter:
    """
    :param is_for_events: whether lines become events of the log: who reads that writes them out, if anybody does.
    """
    if line_format is LineFormat.JSON:
        return LineWriter(iso_timestamp, access_log_json, refusal_log_json)
    return LineWriter(
        lambda now: str(datetimeToLogString(now)),
        access_log_line if is_for_events else access_log_text,
        refusal_log_line,
    )


def redacted_target(target: bytes) -> bytes:
    """A request target without the values of its query."""
    path, mark, query = target.partition(b"?")
    if path[:1] != b"/" and (userinfo := _USERINFO.match(path)):
        path = userinfo[1] + path[userinfo.end() :]
    return path + mark + b"&".join([_redacted(pair) for pair in query.split(b"&")]) if query else path + mark


def _redacted(pair: bytes) -> bytes:
    if not pair or (pair[:4] == b"rev=" and _REVISION.fullmatch(pair)):
        return pair
    name, equals, _ = pair.partition(b"=")
    # A value without its name may be anything.
    return name + b"=***" if equals else b"***"


def _legible(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")


def _bare(url: bytes) -> bytes:
    return url.partition(b"?")[0].partition(b"#")[0]


def _escaped(text: bytes) -> str:
    """On one line, and inside its quotes, whatever a client sent."""
    return _UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", text.decode("latin-1"))
