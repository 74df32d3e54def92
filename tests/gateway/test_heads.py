"""Heads that are read at once: whatever comes, and in whatever pieces, it is what twisted.web reads line by line."""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from attrs import frozen
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from tests.gateway.house import GATEWAY_PORT, Client
from tests.network import Network
from txcouchdl.gateway.channel import GatewayChannel
from txcouchdl.gateway.connections import Connections
from txcouchdl.gateway.heads import parse_plain
from txcouchdl.gateway.limits import ClientLimits
from txcouchdl.gateway.site import GatewaySite

PLAIN = b"GET /db/doc/f?token=x HTTP/1.1\r\nHost: x\r\n\r\n"


class PortableChannel(GatewayChannel):
    """Reads everything line by line."""

    def _is_at_a_beginning(self) -> bool:
        return False


@frozen
class Seen:
    """What an app gets to see of a request."""

    method: bytes
    target: bytes
    version: bytes
    fields: list[tuple[bytes, list[bytes]]]


class Recorder(Resource):
    """Answers every request with its number, at once or later."""

    isLeaf = True  # noqa: N815 (twisted.web's)

    def __init__(self, network: Network, is_late: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[Seen] = []
        self._network = network
        self._is_late = is_late

    def render(self, request: Request) -> Any:
        fields = [(name, list(values)) for name, values in request.requestHeaders.getAllRawHeaders()]
        self.seen.append(Seen(request.method, request.uri, request.clientproto, fields))
        request.setHeader(b"Content-Length", b"%d" % len(b"%d" % len(self.seen)))
        if self._is_late:
            later = self._network.callLater(1, self._answer, request, len(self.seen))
            request.notifyFinish().addErrback(lambda _: later.cancel())
        else:
            self._answer(request, len(self.seen))
        return NOT_DONE_YET

    def _answer(self, request: Request, number: int) -> None:
        request.write(b"%d" % number)
        request.finish()


@frozen
class Outcome:
    """All that can be seen of a connection, inside and outside."""

    seen: list[Seen]
    sent: list[bytes]
    is_closed: list[bool]
    lines: list[str]
    resting: int
    pending: list[str]


def outcome(pieces: list[bytes], channel: type[GatewayChannel], is_late: bool) -> Outcome:
    network, lines = Network(), list[str]()
    recorder = Recorder(network, is_late)
    connections = Connections(ClientLimits(idle_timeout=70, header_timeout=50), network)
    site = GatewaySite(recorder, network, connections, lines.append)
    site.protocol = channel  # type: ignore[assignment,method-assign]
    network.listen(GATEWAY_PORT, site)
    client = Client()
    network.connect(GATEWAY_PORT, client)
    is_closed, sent = [], []
    for piece in pieces:
        client.transport.write(piece)
        network.run()
        is_closed.append(client.is_closed)
        sent.append(re.sub(rb"Date: [^\r]*", b"", client.received))
    resting = len(connections._resting)
    for seconds in (3, 46, 2, 21):
        network.elapse(seconds)
        is_closed.append(client.is_closed)
        sent.append(re.sub(rb"Date: [^\r]*", b"", client.received))
    pending = sorted(call.func.__qualname__ for call in network.calls)
    return Outcome(recorder.seen, sent, is_closed, [re.sub(r"\[.*?\]", "", line) for line in lines], resting, pending)


def cut(data: bytes, at: list[int]) -> Iterator[bytes]:
    places = sorted({min(each, len(data)) for each in at} | {0, len(data)})
    return (data[first:last] for first, last in pairwise(places) if first < last)


# What one head or another has, right and wrong. Whatever follows a head that has a body may be a part of it.
_METHODS = st.sampled_from([b"GET", b"HEAD", b"GET", b"POST", b"get", b"OPTIONS", b"PRI", b""])
_TARGETS = st.sampled_from(
    [b"/", b"/db/doc/f?token=x", b"*", b"http://h/f", b"/\xb0", b"/\xb1", b"/\x7f", b"/a b", b""]
)
_VERSIONS = st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"http/1.1", b"HTTP/2.0"])
_NAMES = st.sampled_from(
    [
        *(b"Host", b"host", b"HOST", b"Range", b"rAnge", b"If-None-Match", b"ETAG", b"dnt", b"X-y", b"X-Y"),
        *(b"Connection", b"Content-Length", b"content-length", b"Transfer-Encoding", b"Expect", b"Upgrade", b"Cookie"),
        *(b"", b" Host", b"Host ", b"a b", b"\tx", b"x\x00", b"\xff", b"(x)", b"no-colon"),
    ]
)
_VALUES = st.sampled_from(
    [
        *(b"", b"x", b" x", b"x ", b"\t x \t", b"a:b", b"a  b", b"\xff", b"\x80", b"a\x00", b"a\x0bb", b"\x7f"),
        *(b"close", b"keep-alive, close", b"Upgrade", b"0", b"3", b"-1", b"chunked", b"identity", b"100-continue"),
        *(b"a\rb", b"a\nb", b"\r", b"\n", b"x\x85y", b"a\x1cb", b"\xe2\x80\xa8"),
    ]
)
_COLONS = st.sampled_from([b":", b": ", b":\t ", b"", b" :"])
_ENDS = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n", b"\r\n ", b"\r\n\t", b"\r\n\r\n", b"\n\r"])
_FIELDS = st.tuples(_NAMES, _COLONS, _VALUES, _ENDS).map(b"".join)
_REQUEST_LINES = st.builds(
    lambda words, space, end: space.join(words) + end,
    st.tuples(_METHODS, _TARGETS, _VERSIONS),
    st.sampled_from([b" "] * 6 + [b"  ", b"\t"]),
    _ENDS,
)
_HOSTS = st.sampled_from([b"Host: x\r\n"] * 5 + [b"", b"Host: x\r\nHost: x\r\n", b"Host: a b\r\n", b"Host:\r\n"])
_HEADS = st.tuples(_REQUEST_LINES, _HOSTS, st.lists(_FIELDS, max_size=4).map(b"".join), st.just(b"\r\n")).map(b"".join)
_GOOD = st.lists(st.tuples(_NAMES, _VALUES), max_size=4).map(
    lambda fields: PLAIN[:-2] + b"".join(b"%b: %b\r\n" % field for field in fields) + b"\r\n"
)
_BETWEEN = st.sampled_from([b"", b"", b"\r\n", b"\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n", b"abc", b"G", b"\n", b" "])
_MESSAGES = st.one_of(st.just(PLAIN), _GOOD, _HEADS, st.binary(max_size=40), _BETWEEN)


@given(st.lists(_MESSAGES, max_size=4), st.lists(st.integers(0, 300), max_size=5), st.booleans())
@example([PLAIN, PLAIN], [len(PLAIN)], False)
@example([PLAIN, PLAIN], [], False)
@example([PLAIN, b"\r\n", PLAIN], [len(PLAIN)], False)
@example([b"\r\n", PLAIN], [2], False)
@example([PLAIN + b"\r\n", PLAIN, b"\r\n" + PLAIN], [len(PLAIN) + 2, 2 * len(PLAIN) + 2], False)
@example([PLAIN, b"GET", PLAIN], [len(PLAIN) + 3], False)
@example([PLAIN, b"G", PLAIN], [len(PLAIN)], True)
@example([PLAIN[:-2] + b"Content-Length: 44\r\n\r\n", PLAIN, PLAIN], [64, 108], False)
@example([PLAIN[:-2] + b"tRansfer-encoding: chunked\r\n\r\n", b"0\r\n\r\n", PLAIN], [70], False)
@example([PLAIN[:-2] + b"Connection: close\r\n\r\n", PLAIN], [63], True)
@example([PLAIN[:-2] + b"Connection: close\r\n\r\n", PLAIN], [63], False)
@example([PLAIN[:-2] + b"X: a\r\n b\r\n\r\n"], [], False)
@example([PLAIN[:-2] + b"X: a\r\n\r\n" + PLAIN], [], False)
@example([PLAIN[:-2] + b"X : a\r\n\r\n"], [], False)
@example([PLAIN[:-2] + b"X: a\x0bb\x1c\x85\r\n\r\n"], [], False)
@example([PLAIN[:-2] + b"X: " + b"y" * 8200 + b"\r\n\r\n"], [], False)
@example([PLAIN[:-2] + b"X: " + b"y" * 17000 + b"\r\n\r\n"], [], False)
@example([PLAIN[:-2] + b"y" * 256 + b": z\r\n\r\n"], [], False)
@example([PLAIN[:-2] + b"y" * 257 + b": z\r\n\r\n"], [], False)
@example([PLAIN[:-2] + b"y" * 257 + b": z\r\n\r\n", PLAIN], [], False)
@example([PLAIN[:-2] + b"y" * 257 + b"\r\n z: z\r\n\r\n", PLAIN], [], False)
@example([PLAIN[:-2] + b"x:\r\n" * 99 + b"\r\n", PLAIN[:-2] + b"x:\r\n" * 600 + b"\r\n"], [4000, 439], False)
@example([b"GET / HTTP/1.1\r\n\r\n"], [], False)
@example([b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", PLAIN], [36], False)
def test_both_ways_are_one(messages: list[bytes], at: list[int], is_late: bool) -> None:
    pieces = list(cut(b"".join(messages), at))
    assert outcome(pieces, GatewayChannel, is_late) == outcome(pieces, PortableChannel, is_late)


def test_what_the_two_are_compared_by() -> None:
    """A difference would show."""
    pieces = [PLAIN, b"\r\nHEAD /x HTTP/1.1\r\nhost: y\r\nX:\t1 \r\nx: 2\r\n\r\n", b"nonsense\r\n\r\n"]
    got = outcome(pieces, PortableChannel, False)
    assert got.seen == [
        Seen(b"GET", b"/db/doc/f?token=x", b"HTTP/1.1", [(b"Host", [b"x"])]),
        Seen(b"HEAD", b"/x", b"HTTP/1.1", [(b"Host", [b"y"]), (b"X", [b"1", b"2"])]),
    ]
    assert (got.is_closed[1:3], len(got.lines), got.pending) == ([False, True], 3, [])
    assert got.sent[-1].count(b"HTTP/1.1 400 ") == 1
    assert outcome([PLAIN], PortableChannel, True).resting == 0
    assert outcome([PLAIN], PortableChannel, False).resting == 1


@pytest.mark.parametrize("channel", [GatewayChannel, PortableChannel])
@pytest.mark.parametrize("state", ["persistent", "disconnecting", "_busyReceiving"])
def test_nothing_is_read_out_of_turn(channel: type[GatewayChannel], state: str) -> None:
    """Not behind the last request, nor behind the end, nor before what has come before."""
    network = Network()
    recorder = Recorder(network, False)
    site = GatewaySite(recorder, network, Connections(ClientLimits(), network), lambda _: None)
    site.protocol = channel  # type: ignore[assignment,method-assign]
    network.listen(GATEWAY_PORT, site)
    door = network.connect(GATEWAY_PORT, Client()).peer
    setattr(door if state == "disconnecting" else door.protocol, state, state != "persistent")
    door.protocol.dataReceived(PLAIN)
    assert recorder.seen == []


def test_a_plain_head() -> None:
    head = parse_plain(b"HEAD /f HTTP/1.1\r\nhost:x\r\nX: \ta  b \r\nX:\r\n\r\n")
    assert head is not None
    assert (head.method, head.target) == (b"HEAD", b"/f")
    assert head.fields == {b"host": [b"x"], b"x": [b"a  b", b""]}


def test_the_longest_field_name() -> None:
    head = parse_plain(PLAIN[:-2] + b"y" * 256 + b": z\r\n\r\n")
    assert head is not None
    assert head.fields[b"y" * 256] == [b"z"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n",
        PLAIN[:-1],
        PLAIN + b"\r\n",
        PLAIN + PLAIN,
        b"\r\n" + PLAIN,
        PLAIN.replace(b"\r\n", b"\n"),
        PLAIN.replace(b"1.1", b"1.0"),
        PLAIN.replace(b"GET", b"POST"),
        PLAIN.replace(b"GET", b"get"),
        PLAIN.replace(b"GET ", b"GET  "),
        PLAIN.replace(b"/f", b"/\x80"),
        PLAIN.replace(b"Host: x", b"Host : x"),
        PLAIN.replace(b"Host: x", b" Host: x"),
        PLAIN.replace(b"Host: x", b"Host: x\r\n y"),
        PLAIN.replace(b"Host: x", b"Host: x\ry"),
        PLAIN.replace(b"Host: x", b"Host: x\ny: z"),
        PLAIN.replace(b"Host: x", b"Host: x\x00"),
        PLAIN.replace(b"Host: x", b"Host: x\x7f"),
        PLAIN[:-2] + b"CONTENT-LENGTH: 0\r\n\r\n",
        PLAIN[:-2] + b"Transfer-Encoding: identity\r\n\r\n",
        PLAIN[:-2] + b"expect: 100-continue\r\n\r\n",
        PLAIN[:-2] + b"upGrade: h2c\r\n\r\n",
        PLAIN[:-2] + b"X:\r\n" * 100 + b"\r\n",
        PLAIN[:-2] + b"X: " + b"y" * 8192 + b"\r\n\r\n",
        PLAIN[:-2] + b"y" * 257 + b": z\r\n\r\n",
    ],
)
def test_what_is_not_plain(data: bytes) -> None:
    assert parse_plain(PLAIN) is not None
    assert parse_plain(data) is None


def test_plain_heads_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or all of this would be for nothing."""
    monkeypatch.setattr(GatewayChannel, "lineReceived", None)
    assert len(outcome([PLAIN, PLAIN], GatewayChannel, False).seen) == 2
