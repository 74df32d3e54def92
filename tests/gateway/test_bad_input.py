"""Requests that cannot be read, and stubs that would like to write our headers: a clear answer, nothing left behind."""

import json
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import Request

from tests.gateway.house import TOKEN, House, logged, read_answer
from tests.scripted import Mark, Stored, answer
from txcouchdl.protocol.fields import LONGEST_HEAD, MOST_FIELDS


@pytest.fixture
def house() -> House:
    return House({"f": Stored(b"bytes")})


def send_raw(house: House, raw: bytes) -> tuple[bytes, bool]:
    client = house.connect()
    client.transport.write(raw)
    house.network.run()
    return client.received, client.is_closed


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01" + b"x" * 40_000 + b"\r\n\r\n",
        b"\x16\x03\x01 " + b"x" * 40_000,
        b"x" * 40_000 + b" / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /db/doc/f HTTP/1.1\r\n" + b"X: " + b"y" * 1000 + b"\r\n" * 20 + b"\r\n",
        b"GET /db/doc/f HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /db/doc/f HTTP/1.1\r\nX: a\x00b\r\n\r\n",
        b"GET /db/doc/f HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET /db/doc/f HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /db/doc/f HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET\r\n\r\n",
        b"GET /db/doc/f\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_what_is_no_request_is_a_400_in_our_shape(house: House, raw: bytes) -> None:
    received, is_closed = send_raw(house, raw)
    if raw.startswith(b"GET /db/doc/f HTTP/1.1\r\nX: yyy"):
        assert received.startswith(b"HTTP/1.1 ")
        return
    got = read_answer(received, "GET", is_closed)
    assert (got.status, got.is_whole, is_closed) == (400, True, True)
    assert json.loads(got.body)["error"] == "bad_request"
    assert house.node.asked == []
    house.assert_at_rest()


def request_of(line: int, field: int, *more: bytes) -> bytes:
    """
    Write a request.

    :param line: bytes of its request line, without the line's end; ``field`` those of a field's line.
    """
    head = b"GET /db/doc/f?" + b"x" * (line - 23) + b" HTTP/1.1"
    return b"\r\n".join([head, b"X:" + b"y" * (field - 2), *more, b"", b""])


@pytest.mark.parametrize("before", [b"", b"\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["", "line", "request"])
@pytest.mark.parametrize("step", [10**6, 1000], ids=["at once", "in pieces"])
@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (request_of(LONGEST_HEAD + 1, 9), 414),
        (request_of(40_000, 9), 414),
        (request_of(40_000, 9).replace(b"GET", b"PROPFIND"), 414),
        (request_of(LONGEST_HEAD + 3, 9)[: LONGEST_HEAD + 2], 414),
        (request_of(LONGEST_HEAD, 9, b"Host: x"), 431),
        (request_of(30, LONGEST_HEAD - 30, b"Host: x"), 431),
        (request_of(30, LONGEST_HEAD + 1, b"Host: x"), 431),
        (request_of(30, 40_000, b"Host: x"), 431),
        (request_of(30, 40_000)[:39_000], 431),
        (request_of(30, 9, b"Host: x", *[b"z" * 1000] * 40), 400),
        (request_of(30, 9, b"Host: x", *[b"z: " + b"z" * 1000] * 40), 431),
        (request_of(30, 9, b"Host: x", b"z: 1", *[b" " + b"z" * 1000] * 40), 431),
        (request_of(30, 9, b"Host: x", *[b"z: z"] * (MOST_FIELDS - 1)), 431),
    ],
)
def test_a_head_that_is_too_large(house: House, raw: bytes, status: int, step: int, before: bytes) -> None:
    """414 where the request line alone is (RFC 9112, section 3), 431 where it is with its fields (RFC 6585)."""
    client = house.connect()
    if before.startswith(b"GET"):
        client.transport.write(before)
        house.network.run()
        client.received, before = b"", b""
    for first in range(0, len(before + raw), step):
        client.transport.write((before + raw)[first : first + step])
        house.network.run()
    got = read_answer(client.received, "GET", client.is_closed)
    assert (got.status, got.is_whole, client.is_closed) == (status, True, True)
    names = {400: "bad_request", 414: "uri_too_long", 431: "request_header_fields_too_large"}
    assert json.loads(got.body)["error"] == names[status]
    assert client.received.count(b"HTTP/1.1 ") == 1
    assert house.node.asked == []
    house.assert_at_rest()


@pytest.mark.parametrize(
    "raw",
    [
        request_of(LONGEST_HEAD - 9 - 7, 9, b"Host: x"),
        request_of(30, LONGEST_HEAD - 30 - 7, b"Host: x"),
        request_of(30, 9, b"Host: x", *[b"z: z"] * (MOST_FIELDS - 2)),
    ],
)
def test_the_largest_heads(house: House, raw: bytes) -> None:
    """They are read: without a token, the answer is 403."""
    received, is_closed = send_raw(house, raw)
    assert (read_answer(received, "GET", is_closed).status, is_closed) == (403, False)


@pytest.mark.parametrize(
    "path", ["/db/doc/%zz", "/db/doc/100%", "/db/%/f", "/db/doc/%ff", "/%c3%28/doc/f", "/db/doc/\xff\xfe"]
)
def test_a_path_that_cannot_be_decoded(house: House, path: str) -> None:
    got = house.ask(f"{path}?token={TOKEN}")
    assert (got.status, json.loads(got.body)["error"]) == (400, "bad_request")
    assert house.node.asked == []


def test_a_target_that_is_not_ascii_is_no_target(house: House) -> None:
    """RFC 3986 has no other characters. Browsers encode them; CouchDB would take them raw, twisted.web does not."""
    raw = f"GET /db/doc/ü.txt?token={TOKEN} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    received, is_closed = send_raw(house, raw)
    assert (read_answer(received, "GET", is_closed).status, is_closed) == (400, True)


@pytest.mark.parametrize("host", ["", "a" * 300, "..", "[::1", "-" * 70 + ".x", "x:y:z", "xn--", "%ff"])
def test_no_host_field_trips_the_router(house: House, host: str) -> None:
    received, _ = send_raw(house, f"GET /db/doc/f?token={TOKEN} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1"))
    assert received.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "hosts",
    [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: \xff\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: a@b\r\n",
        "Host: a\tb\r\n",
    ],
)
def test_a_request_without_one_host_is_no_request(house: House, hosts: str) -> None:
    """RFC 9112, section 3.2."""
    raw = f"GET /db/doc/f?token={TOKEN} HTTP/1.1\r\n{hosts}\r\n".encode("latin-1")
    received, is_closed = send_raw(house, raw)
    assert (read_answer(received, "GET", is_closed).status, is_closed) == (400, True)
    assert house.node.asked == []


def test_http_1_0_needs_no_host(house: House) -> None:
    received, _ = send_raw(house, f"GET /db/doc/f?token={TOKEN} HTTP/1.0\r\n\r\n".encode())
    assert received.startswith(b"HTTP/1.0 200 ")


@pytest.mark.parametrize("digits", [20, 5000])
def test_a_length_of_many_digits(house: House, digits: int) -> None:
    raw = b"GET /db/doc/f HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * digits + b"\r\n\r\n"
    with logged() as events:
        received, is_closed = send_raw(house, raw)
    assert (read_answer(received, "GET", is_closed).status, is_closed) == (400, True)
    assert not [event for event in events if event.get("log_failure")]


def test_a_refused_request_has_the_fields_and_the_log_line_of_others(house: House) -> None:
    received, is_closed = send_raw(house, b"GET /db/doc/f?token=s3cret HTTP/1.1\r\nno colon\r\n\r\n")
    got = read_answer(received, "GET", is_closed)
    assert {"date", "server", "x-content-type-options", "cache-control", "content-type"} <= set(got.headers)
    [line] = house.log
    assert '"-" 400 ' in line
    assert TOKEN not in line


@pytest.mark.parametrize(("method", "status"), [("OPTIONS", 204), ("GET", 404)])
def test_the_asterisk_form(house: House, method: str, status: int) -> None:
    got = house.ask("*", method=method)
    assert (got.status, got["Server"].split("/")[0]) == (status, "txcouchdl")


@pytest.mark.parametrize("connection", ["close", "Close", "TE, close", "close, TE", "keep-alive\r\nConnection: close"])
def test_a_client_that_wants_the_connection_closed(house: House, connection: str) -> None:
    raw = f"GET /db/doc/f?token={TOKEN} HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\n\r\n".encode()
    received, is_closed = send_raw(house, raw)
    assert is_closed
    assert read_answer(received, "GET", is_closed)["Connection"] == "close"


@pytest.mark.parametrize(
    "target", ["//db/doc/f", "/db//doc/f", "/db/doc//f", "/db/doc/f/", "/db/doc/./f", "/db/../db/doc/f"]
)
def test_no_path_is_redirected_or_resolved(house: House, target: str) -> None:
    got = house.ask(f"{target}?token={TOKEN}")
    assert got.status in {403, 404}
    assert "location" not in got.headers


@pytest.mark.parametrize("document_id", ["d" * 8_100, "!" * 2_700, "d" * 15_000], ids=["long", "quoted", "longest"])
def test_an_id_that_is_too_long_for_couchdb(house: House, document_id: str) -> None:
    """CouchDB closes the connection at such a line. That is no answer, and no fault of the node's."""
    house.node.faults = lambda asked: [Mark.ABORT] if len(asked.target) > 8_150 else None
    got = house.ask(f"/db/{document_id}/f?token={TOKEN}")
    assert (got.status, got.is_whole) == (403, True)
    assert got.body == house.ask(f"/db/doc/f?token=x{TOKEN}").body
    assert len(house.node.asked) == 1
    assert house.node.probes == []


def test_the_longest_id(house: House) -> None:
    document_id = "d" * 8_000
    house.node.docs[f"/db/{document_id}"] = house.doc
    assert house.ask(f"/db/{document_id}/f?token={TOKEN}").status == 200


def test_something_before_couchdb_that_takes_shorter_ids_only(house: House) -> None:
    house.node.faults = lambda asked: [answer(414, b"<html>")] if len(asked.target) > 1_000 else None
    assert house.ask(f"/db/{'d' * 2_000}/f?token={TOKEN}").status == 403


def test_a_name_that_is_too_long_for_couchdb(house: House) -> None:
    name = "n" * 8_100
    house.doc.attachments[name] = Stored(b"bytes")
    house.node.faults = lambda asked: [Mark.ABORT] if len(asked.target) > 8_150 else None
    assert house.get(name).status == 404
    assert house.node.probes == []


def test_a_short_body_is_skipped(house: House) -> None:
    raw = f"GET /db/doc/f?token={TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello".encode()
    received, is_closed = send_raw(house, raw * 2)
    assert received.count(b"HTTP/1.1 200 ") == 2
    assert not is_closed


@pytest.mark.parametrize("extra", ["", "Expect: 100-continue\r\n"])
def test_a_long_body_is_refused_when_it_is_announced(house: House, extra: str) -> None:
    raw = f"GET /db/doc/f?token={TOKEN} HTTP/1.1\r\nHost: x\r\n{extra}Content-Length: 100000000000\r\n\r\n".encode()
    received, is_closed = send_raw(house, raw)
    got = read_answer(received, "GET", is_closed)
    assert (got.status, got.is_whole, is_closed) == (413, True, True)
    assert b"100 Continue" not in received
    assert house.node.asked == []


@pytest.mark.parametrize("chunks", [5, 100])
def test_a_long_body_is_refused_when_it_has_become_long(house: House, chunks: int) -> None:
    raw = f"GET /db/doc/f?token={TOKEN} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    received, is_closed = send_raw(house, raw + (b"4000\r\n" + b"x" * 0x4000 + b"\r\n") * chunks + b"0\r\n\r\n")
    got = read_answer(received, "GET", is_closed)
    assert (got.status, is_closed) == (413, True)
    assert received.count(b"HTTP/1.1") == 1
    house.assert_at_rest()


@given(
    st.text()
    | st.sampled_from(["text/html\r\nSet-Cookie: a=b", "a\nb", "a\x00b", "x" * 10_000, "é/ü", "\ud800", " ", "a\tb"])
)
@example("image/png\r\n\r\n<script>")
def test_no_content_type_writes_our_headers(content_type: str) -> None:
    house = House({"f": Stored(b"bytes", content_type)})
    for range_ in (None, "bytes=0-0,2-2"):
        got = house.get("f", range_)
        assert got.status == (200 if range_ is None else 206)
        assert got.is_whole
        assert "set-cookie" not in got.headers
        assert set(got.headers) <= {
            "server", "date", "content-type", "accept-ranges", "content-disposition", "etag", "cache-control",
            "x-content-type-options", "content-security-policy", "referrer-policy", "content-length", "repr-digest",
            "x-accel-buffering", "x-robots-tag",
        }  # fmt: skip


@given(st.text(min_size=1).filter(lambda name: not name.startswith("_")))
@example('a"b\r\nX: y')
@example("../../etc/passwd")
@example("\u202egpj.exe")
def test_no_name_writes_our_headers(name: str) -> None:
    try:
        quoted = quote(name, safe="")
    except UnicodeEncodeError:
        return
    house = House({name: Stored(b"bytes")})
    got = house.get(quoted)
    assert (got.status, got.body) == (200, b"bytes")
    assert got["Content-Disposition"].isascii()


@given(st.binary(max_size=300))
@example(b"GET / HTTP/1.1\r\n\r\n")
def test_any_bytes_at_the_door(raw: bytes) -> None:
    """Nothing hangs, nothing leaks, no error of ours is logged."""
    house = House({"f": Stored(b"bytes")})
    with logged() as events:
        client = house.connect()
        client.transport.write(raw)
        house.network.run()
        client.transport.loseConnection()
        house.network.run()
    assert not [event for event in events if event.get("log_failure")]
    assert not [call for call in house.network.calls if "removeConnection" not in call.func.__qualname__]


def test_a_client_that_sends_half_a_head_is_let_go(house: House) -> None:
    client = house.connect()
    client.transport.write(b"GET /db/doc/f HTTP/1.1\r\nHo")
    house.network.run()
    house.network.pass_time(61)
    assert client.is_closed


def test_a_client_that_dribbles_a_head_is_let_go(house: House) -> None:
    """Each byte begins the idle timeout anew, but not the time for the whole of it."""
    client = house.connect()
    for byte in b"GET /db/doc/f HTTP/1.1":
        client.transport.write(bytes([byte]))
        house.network.run()
        house.network.pass_time(10)
        if client.is_closed:
            break
    got = read_answer(client.received, "GET", client.is_closed)
    assert (got.status, client.is_closed) == (408, True)
    assert '"-" 408 ' in house.log[0]
    house.assert_at_rest()


def test_the_time_for_a_request_begins_with_it(house: House) -> None:
    client = house.connect()
    request = f"GET /db/doc/f?token={TOKEN} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    for _ in range(3):
        house.network.pass_time(50)
        client.transport.write(request)
        house.network.run()
    assert client.received.count(b"HTTP/1.1 200 ") == 3
    assert not client.is_closed
    house.assert_at_rest()


def test_a_bug_of_ours_is_a_clean_500(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object) -> None:
        raise ZeroDivisionError("innards")

    monkeypatch.setattr("txcouchdl.gateway.responder.plan_delivery", broken)
    with logged() as events:
        got = house.get("f")
    assert (got.status, json.loads(got.body)["error"]) == (500, "internal_server_error")
    assert b"innards" not in got.body
    assert [event for event in events if event.get("log_failure")]
    house.assert_at_rest()


def test_a_bug_of_ours_after_the_status_line_breaks_the_connection(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.doc.attachments["f"] = Stored(b"x" * 200_000)

    async def broken(*_args: object) -> None:
        raise ZeroDivisionError("innards")

    monkeypatch.setattr("txcouchdl.gateway.delivery._Stream.send", broken)
    with logged():
        got = house.get("f")
    assert (got.status, got.is_whole, got.is_closed) == (200, False, True)
    house.assert_at_rest()


class Broken(Resource):
    """Fails where Klein would not: below everything that we catch."""

    isLeaf = True  # noqa: N815 (twisted.web's)

    def __init__(self, begins: bool) -> None:
        super().__init__()
        self._begins = begins

    def render(self, request: Request) -> bytes:
        if self._begins:
            request.setHeader(b"Content-Length", b"100")
            request.write(b"some of it")
        raise ZeroDivisionError("innards")


def test_what_fails_below_the_app_is_a_clean_500(house: House) -> None:
    house.site.resource = Broken(begins=False)
    with logged() as events:
        got = house.get("f")
    assert (got.status, got.is_whole, json.loads(got.body)["error"]) == (500, True, "internal_server_error")
    assert [event for event in events if event.get("log_failure")]
    house.assert_at_rest()


def test_what_fails_below_the_app_in_mid_body_breaks_the_connection(house: House) -> None:
    house.site.resource = Broken(begins=True)
    with logged():
        client = house.send(f"/db/doc/f?token={TOKEN}")
        house.network.run()
    assert client.is_closed
    assert b"innards" not in client.received
    house.assert_at_rest()


def test_connections_are_ended_with_their_lines_in_the_log(house: House) -> None:
    house.node.faults = lambda _: [Mark.SILENCE]
    clients = [house.send(f"/db/doc/f?token={TOKEN}"), house.connect()]
    house.network.run()
    ended: list[object] = []
    Deferred.fromCoroutine(house.connections.drain(0)).addCallback(ended.append)
    house.network.run()
    assert ended == [1], "the response that was broken off"
    assert all(client.is_closed for client in clients)
    [line] = house.log
    assert '" 499 ' in line
    house.assert_at_rest()
    assert house.network.open_connections(5984) == 0


def test_a_password_in_an_absolute_target_is_not_logged(house: House) -> None:
    house.ask(f"http://user:pa55word@gateway.example/db/doc/f?token={TOKEN}")
    [line] = house.log
    assert "pa55word" not in line
    assert "http://gateway.example/db/doc/f?token=***" in line


def test_a_break_below_the_app_takes_its_producer_with_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or twisted.web would log the whole request target, token included."""

    async def broken(*_args: object) -> None:
        raise ZeroDivisionError

    house.doc.attachments["f"] = Stored(b"x" * 200_000)
    monkeypatch.setattr("txcouchdl.gateway.delivery._Stream.send", broken)
    monkeypatch.setattr("txcouchdl.gateway.app.break_off", broken)
    with logged() as events:
        client = house.send(f"/db/doc/f?token={TOKEN}")
        house.network.run()
    assert client.is_closed
    assert not any(TOKEN in str(event.get("log_failure", "")) for event in events)
