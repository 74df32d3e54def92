"""
What a node may do, and what the client sees of it: never a wrong byte, never a clean end of a body that is not whole.

Before the status line a fault is an answer of its own; after it, it is a broken connection.
"""

import gzip
import json
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.logger import LogLevel, formatEvent

from tests.gateway.house import NODE_PORT, TOKEN, Answer, House, logged, read_answer
from tests.scripted import DYING_WORDS, Asked, Mark, Script, Step, Stored, answer, attachment_answer
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.transfer import CLOSE_TIMEOUT, HELD_BACK

LIMITS = UpstreamLimits()

#: More than any buffer on the way, and compressible to more than what is held back.
DATA = random.Random(1).randbytes(300_000)
TEXT = b"".join(b"%d %s\n" % (number, random.Random(number).randbytes(9).hex().encode()) for number in range(9000))

STORED = {
    "identity": Stored(DATA),
    "compressed": Stored.compressed(TEXT),
    "encoded": Stored.encoded(gzip.compress(TEXT)),
}
IDENTITY = {"identity": DATA, "compressed": TEXT, "encoded": TEXT}
RANGES = {
    None: slice(0, None),
    "bytes=0-": slice(0, None),
    "bytes=1000-": slice(1000, None),
    "bytes=5-150000": slice(5, 150_001),
}


def house_with(script: Script | None, documents: Script | None = None) -> House:
    """A gateway whose node answers attachments, or documents, with a script."""
    house = House(dict(STORED))
    house.node.faults = lambda asked: documents if asked.path == "/db/doc" else script
    return house


def head_and_body(house: House, name: str, range_: str | None) -> tuple[bytes, bytes]:
    """What the node would rightly answer for an attachment."""
    stored = STORED[name]
    headers = {"accept-encoding": "gzip" if stored.encoding else "identity"}
    if range_ is not None and range_ != "bytes=0-" and not stored.encoding:
        wanted = RANGES[range_]
        # As the reader asks: by what is held back beyond the range, where there is so much.
        last = (wanted.stop or len(stored.stored)) - 1
        last = last + HELD_BACK if last + HELD_BACK < len(stored.stored) else last
        headers["range"] = f"bytes={wanted.start}-{last}"
    head, _, body = attachment_answer(stored, Asked("GET", "/", headers)).partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", body


def outlast(house: House, name: str, range_: str | None = None) -> Answer:
    """Ask, and wait until nobody has hope any more."""
    client = house.send(f"/db/doc/{name}?token={TOKEN}", {} if range_ is None else {"Range": range_})
    house.network.run()
    house.network.pass_time(LIMITS.stall_timeout + LIMITS.give_up + 1)
    return read_answer(client.received, "GET", client.is_closed)


# Before the status line


IDENTITY_ETAG = {"ETag": f'"{STORED["identity"].etag}"'}
RIGHT_RANGE = f"bytes 1000-{len(DATA) - 1}/{len(DATA)}"


def ranged(content_range: str) -> bytes:
    return answer(206, DATA[1000:], {**IDENTITY_ETAG, "Content-Range": content_range})


def raw(*fields: str) -> bytes:
    lines = "".join(f"{field}\r\n" for field in (f"ETag: {IDENTITY_ETAG['ETag']}", *fields))
    return f"HTTP/1.1 200 OK\r\n{lines}\r\nhello".encode()


#: Answers to the GET of the bytes from 1000 on of the attachment "identity".
BAD_RANGE_HEADS = {
    "range ignored, with another ETag": answer(200, DATA, {"ETag": '"AAAAAAAAAAAAAAAAAAAAAA=="'}),
    "range ignored, with a weak ETag": answer(200, DATA, {"ETag": f"W/{IDENTITY_ETAG['ETag']}"}),
    "range ignored, without an ETag": answer(200, DATA),
    "range ignored, with another length": answer(200, DATA + b"x", IDENTITY_ETAG),
    "range ignored, without a length": raw("Transfer-Encoding: chunked"),
    "range ignored, compressed": answer(200, DATA, {**IDENTITY_ETAG, "Content-Encoding": "gzip"}),
    "all bytes as a range": answer(
        206, DATA, {**IDENTITY_ETAG, "Content-Range": f"bytes 0-{len(DATA) - 1}/{len(DATA)}"}
    ),
    "a range that is said to be the whole": answer(200, DATA[1000:], {**IDENTITY_ETAG, "Content-Range": RIGHT_RANGE}),
    "another range": ranged(f"bytes 999-{len(DATA) - 2}/{len(DATA)}"),
    "another complete-length": ranged(f"bytes 1000-{len(DATA) - 1}/{len(DATA) + 1}"),
    "a shorter range": answer(206, DATA[1000:-1], {**IDENTITY_ETAG, "Content-Range": RIGHT_RANGE}),
    "no Content-Range": answer(206, DATA[1000:], IDENTITY_ETAG),
    "multipart": answer(206, b"--x", {**IDENTITY_ETAG, "Content-Type": "multipart/byteranges; boundary=x"}),
    "another ETag in the range": answer(206, DATA[1000:], {"ETag": '"x"', "Content-Range": RIGHT_RANGE}),
    "416": answer(416, b'{"error":"requested_range_not_satisfiable"}'),
}

#: Answers to the GET of all of it.
BAD_HEADS = {
    "206 unasked": answer(206, DATA, {**IDENTITY_ETAG, "Content-Range": f"bytes 0-{len(DATA) - 1}/{len(DATA)}"}),
    "another ETag": answer(200, DATA, {"ETag": '"AAAAAAAAAAAAAAAAAAAAAA=="'}),
    "a weak ETag": answer(200, DATA, {"ETag": f"W/{IDENTITY_ETAG['ETag']}"}),
    "no ETag": answer(200, DATA),
    "a longer body": answer(200, DATA + b"x", IDENTITY_ETAG),
    "a shorter body": answer(200, DATA[:-1], IDENTITY_ETAG),
    "an empty body": answer(200, b"", IDENTITY_ETAG),
    "204": b"HTTP/1.1 204 No\r\n\r\n",
    "chunked": raw("Transfer-Encoding: chunked"),
    "no length": raw(),
    "two lengths": raw("Content-Length: 5", "Content-Length: 6"),
    "a negative length": raw("Content-Length: -5"),
    "an unknown transfer coding": raw("Transfer-Encoding: br"),
    "a header line of a megabyte": raw("X: " + "x" * 2**20),
    "compressed on the way": answer(200, gzip.compress(DATA), {**IDENTITY_ETAG, "Content-Encoding": "gzip"}),
    "a redirect": answer(302, b"", {"Location": "http://127.0.0.1:5984/_utils/session.html"}),
    "moved": answer(301, b"", {"Location": "/elsewhere"}),
    "an error page": answer(200, b"<html>Welcome to nginx</html>", {"Content-Type": "text/html"}),
    "500": answer(500, b'{"error":"badmatch","reason":"secret innards"}'),
    "503": answer(503, b""),
    "401": answer(401, b'{"error":"unauthorized","reason":"Name or password is incorrect."}'),
    "a lockout": answer(403, b'{"error":"forbidden","reason":"Account is temporarily locked"}'),
    "400": answer(400, b""),
    "garbage": b"\x00\x01\x02 what?\r\n\r\n",
    "a status that is none": b"HTTP/1.1 abc OK\r\n\r\n",
}

#: Answers to the GET of the attachment "compressed", asked for as gzip.
BAD_GZIP_HEADS = {
    "not compressed though asked": answer(200, TEXT, {"ETag": f'"{STORED["compressed"].etag}"'}),
    "another coding": answer(
        200, STORED["compressed"].stored, {"ETag": f'"{STORED["compressed"].etag}"', "Content-Encoding": "br"}
    ),
}


def bad_heads() -> list[object]:
    asked = [
        ("identity", "bytes=1000-", BAD_RANGE_HEADS),
        ("identity", None, BAD_HEADS),
        ("compressed", None, BAD_GZIP_HEADS),
    ]
    return [pytest.param(name, range_, said, id=what) for name, range_, heads in asked for what, said in heads.items()]


@pytest.mark.parametrize(("name", "range_", "said"), bad_heads())
def test_a_bad_head_is_a_clean_error(name: str, range_: str | None, said: bytes) -> None:
    house = house_with([said, Mark.SILENCE])
    got = house.get(name, range_)
    assert got.status in {502, 503}
    assert got.is_whole
    assert len(house.node.asked) <= 3, "once for the document, and twice for the attachment"
    body = json.loads(got.body)
    assert set(body) == {"error", "reason"}
    assert "secret" not in body["reason"]
    assert "couch" not in got.headers.get("location", "")
    house.assert_at_rest()
    assert house.network.open_connections(5984) <= 1


@pytest.mark.parametrize("mark", [Mark.CLOSE, Mark.ABORT])
@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Le"])
def test_an_upstream_that_hangs_up_before_its_head(said: bytes, mark: Mark) -> None:
    house = house_with([said, mark] if said else [mark])
    got = house.get("identity")
    assert (got.status, got["Retry-After"]) == (503, "1")
    house.assert_at_rest()


def test_nobody_listens() -> None:
    house = house_with(None)
    house.network.listen(5984, None)
    got = house.get("identity")
    assert (got.status, got["Retry-After"]) == (503, "1")
    house.assert_at_rest()


@pytest.mark.parametrize("name", IDENTITY)
def test_no_head_in_time(name: str) -> None:
    house = house_with([Mark.SILENCE])
    client = house.send(f"/db/doc/{name}?token={TOKEN}")
    house.network.run()
    house.network.pass_time(LIMITS.stall_timeout - 1)
    assert client.received == b""
    house.network.pass_time(2)
    assert client.received.startswith(b"HTTP/1.1 504 ")
    house.assert_at_rest()
    assert house.network.open_connections(5984) <= 1


def test_a_single_node_that_stays_silent_counts_as_down() -> None:
    """The first request waits for ``--stall-timeout``. Later ones wait for ``/_up``: 5 s at most."""
    house = House(dict(STORED), limits=LIMITS)
    house.node.faults = lambda asked: [Mark.SILENCE]
    house.node.up = [Mark.SILENCE]
    client = house.send(f"/db/doc/identity?token={TOKEN}")
    house.network.run()
    house.network.pass_time(LIMITS.stall_timeout + 1)
    assert client.received.startswith(b"HTTP/1.1 504 ")
    house.network.pass_time(6)
    for _ in range(3):
        later = house.send(f"/db/doc/identity?token={TOKEN}")
        house.network.run()
        house.network.pass_time(6)
        assert later.received.startswith(b"HTTP/1.1 503 ")


def test_a_head_and_then_silence_is_a_504_too() -> None:
    house = house_with(None)
    head, body = head_and_body(house, "identity", None)
    house.node.faults = lambda asked: None if asked.path == "/db/doc" else [head, body[:HELD_BACK], Mark.SILENCE]
    client = house.send(f"/db/doc/identity?token={TOKEN}")
    house.network.run()
    house.network.pass_time(LIMITS.give_up - 1)
    assert client.received == b""
    house.network.pass_time(2)
    assert client.received.startswith(b"HTTP/1.1 504 ")
    house.assert_at_rest()


DOCUMENT_FAULTS: dict[str, tuple[Script, int]] = {
    "500": ([answer(500, b"{}")], 503),
    "503 with a long page": ([answer(503, b"<html>" * 10_000)], 503),
    "503 and a lost page": ([answer(503, b"<html>", length=100), Mark.ABORT], 503),
    "401": ([answer(401, b"{}")], 502),
    "a lockout": ([answer(403, b'{"error":"forbidden","reason":"Account is temporarily locked due to..."}')], 502),
    "closed to us": ([answer(403, b'{"error":"forbidden","reason":"You are not allowed to access this db."}')], 403),
    "our credentials ignored": (
        [answer(401, b'{"error":"unauthorized","reason":"You are not authorized to access this db."}')],
        502,
    ),
    "missing": ([answer(404, b"{}")], 403),
    "unspeakable": ([answer(400, b"")], 403),
    "a redirect": ([answer(302, b"", {"Location": "/_utils/session.html"})], 502),
    "not JSON": ([answer(200, b"<html>")], 502),
    "JSON that is no object": ([answer(200, b"[]")], 502),
    "another document": ([answer(200, b'{"_id":"other","_rev":"1-a","download_token":"s3cret"}')], 502),
    "another document's token": ([answer(200, b'{"_rev":"1-a","download_token":"s3cret"}')], 502),
    "no revision": ([answer(200, b'{"_id":"doc","download_token":"s3cret"}')], 502),
    "a revision with a line end": (
        [answer(200, b'{"_id":"doc","_rev":"1-a\\r\\nX: y","download_token":"s3cret"}')],
        502,
    ),
    "deep nesting": ([answer(200, b'{"_id":"doc","_rev":"1-a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}")], 403),
    "a huge number, and no token": ([answer(200, b'{"_id":"doc","_rev":"1-a","x":' + b"9" * 10_000 + b"}")], 403),
    "cut": ([answer(200, b'{"_id":"doc"', length=500), Mark.CLOSE], 503),
    "reset": ([Mark.ABORT], 503),
    "dying words": ([answer(200, b'{"_id":"doc",' + DYING_WORDS, length=50_000), Mark.CLOSE], 503),
}


@pytest.mark.parametrize(("script", "status"), DOCUMENT_FAULTS.values(), ids=DOCUMENT_FAULTS)
def test_a_bad_document(script: Script, status: int) -> None:
    house = house_with(None, script)
    got = house.get("identity")
    assert (got.status, got.is_whole) == (status, True)
    house.assert_at_rest()


def test_a_gateway_without_credentials_does_not_tell_which_databases_exist() -> None:
    closed = b'{"error":"unauthorized","reason":"You are not authorized to access this db."}'
    house = House(dict(STORED), node_url=f"http://127.0.0.1:{NODE_PORT}")
    house.node.faults = lambda asked: [answer(401, closed)] if asked.path == "/db/doc" else None
    with logged() as events:
        got = house.get("identity")
    assert got.body == house.ask(f"/nodb/doc/f?token={TOKEN}").body
    assert got.status == 403
    assert [event for event in events if event["log_level"] is LogLevel.warn]
    assert not any("authorization" in each.headers for each in house.node.asked)


def test_a_document_of_50_mb_is_not_read_to_its_end() -> None:
    house = house_with(None)
    sent = 0

    def endless(asked: Asked) -> Script:
        nonlocal sent
        sent = 50_000_000
        return [answer(200, b'{"_id":"doc","_rev":"1-a","x":"' + b"x" * sent)]

    house.node.faults = endless
    # Nobody's, as if it were not there: its token cannot be read either.
    with logged() as events:
        assert house.get("identity").status == 403
    assert [event for event in events if event["log_level"] is LogLevel.warn]
    assert len(house.node.asked) == 1, "it will be as long the next time"
    house.assert_at_rest()
    _, node_end = next(pair for pair in house.network.connections if pair[1].address.port == 5984)
    assert not node_end.is_connected
    assert sent > LIMITS.max_document


def test_a_document_that_never_ends() -> None:
    house = house_with(None, [answer(200, b"{", length=100), Mark.SILENCE])
    client = house.send(f"/db/doc/identity?token={TOKEN}")
    house.network.run()
    house.network.pass_time(LIMITS.stall_timeout + 1)
    assert client.received.startswith(b"HTTP/1.1 504 ")
    house.assert_at_rest()


@pytest.mark.parametrize(
    "stub",
    [
        None,
        [],
        {},
        {"digest": "md5-AAAAAAAAAAAAAAAAAAAAAA==", "length": -1},
        {"digest": "md5-AAAAAAAAAAAAAAAAAAAAAA==", "length": 2**63},
        {"digest": "md5-AAAAAAAAAAAAAAAAAAAAAA==", "length": "12"},
        {"digest": "md5-AAAAAAAAAAAAAAAAAAAAAA==", "length": True},
        {"digest": "md5-AAAAAAAAAAAAAAAAAAAAAA=="},
        {"digest": "sha1-AAAA", "length": 1},
        {"length": 1},
        {"digest": "md5-AAAAAAAAAAAAAAAAAAAAAA==", "length": 1, "encoding": "br", "encoded_length": 1},
        {"digest": "md5-AAAAAAAAAAAAAAAAAAAAAA==", "length": 1, "content_type": 5},
    ],
)
def test_a_bad_stub(stub: object) -> None:
    house = house_with(None)
    house.doc.fields["_attachments"] = {"bad": stub, "identity": STORED["identity"].stub}
    assert house.get("bad").status == 502
    assert house.ask("/db/doc/bad?token=wrong").status == 403
    assert house.get("identity").body == DATA


@pytest.mark.parametrize("attachments", [None, [], "x", 5])
def test_attachments_that_are_no_object(attachments: object) -> None:
    house = house_with(None)
    house.doc.fields["_attachments"] = attachments
    assert house.get("identity").status == 502
    assert house.ask("/db/doc/identity?token=wrong").status == 403


# After the status line


@given(
    name=st.sampled_from(sorted(IDENTITY)),
    range_=st.sampled_from(list(RANGES)),
    cut=st.integers(0, 400_000),
    mark=st.sampled_from([Mark.CLOSE, Mark.ABORT, Mark.SILENCE]),
    words=st.sampled_from([b"", DYING_WORDS, b"x" * HELD_BACK]),
    pieces=st.integers(500, 9000),
)
@example(name="identity", range_=None, cut=299_000, mark=Mark.CLOSE, words=DYING_WORDS, pieces=4096)
@example(name="identity", range_=None, cut=300_000, mark=Mark.CLOSE, words=b"", pieces=4096)
@example(name="compressed", range_=None, cut=150_000, mark=Mark.CLOSE, words=DYING_WORDS, pieces=4096)
# So close to the end that the error message fills the body up to its length, and goes on.
@example(name="identity", range_="bytes=1000-", cut=298_900, mark=Mark.CLOSE, words=DYING_WORDS, pieces=4096)
@example(name="identity", range_="bytes=1000-", cut=298_999, mark=Mark.CLOSE, words=DYING_WORDS, pieces=500)
@example(name="identity", range_="bytes=5-150000", cut=149_990, mark=Mark.CLOSE, words=DYING_WORDS, pieces=4096)
@example(name="identity", range_="bytes=5-150000", cut=149_997, mark=Mark.SILENCE, words=DYING_WORDS, pieces=4096)
def test_a_body_cut_short(name: str, range_: str | None, cut: int, mark: Mark, words: bytes, pieces: int) -> None:
    """With or without an error text where bytes should be: right bytes so far, and no clean end."""
    house = house_with(None)
    head, body = head_and_body(house, name, range_)
    script: list[Step] = [head, *_pieces(body[:cut] + (words if cut < len(body) else b""), pieces), mark]
    # What is on its way when a connection is reset is lost with it.
    is_whole = cut >= len(body) and mark is not Mark.ABORT
    if name == "encoded" and range_ is not None and mark is Mark.SILENCE:
        # Read twice, on a connection that says nothing more.
        is_whole = False
    house.node.faults = lambda asked: None if asked.path == "/db/doc" else script
    got = outlast(house, name, range_)
    _assert_right_or_broken(got, name, range_, must_break=not is_whole)
    house.assert_at_rest()


def _pieces(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


def _assert_right_or_broken(got: Answer, name: str, range_: str | None, must_break: bool) -> None:
    # Of what was uploaded compressed there are ranges once it could be read whole.
    wanted = IDENTITY[name][RANGES[range_ if name != "encoded" or got.status == 206 else None]]
    if got.status in {502, 503, 504}:
        assert must_break
        assert got.is_whole
        return
    assert wanted.startswith(got.body), "a wrong byte"
    if got.is_whole:
        assert got.body == wanted
    else:
        assert got.is_closed
    # A range may be complete before the compressed bytes are: what comes after it does not matter to it.
    if must_break and (range_ is None or name != "compressed"):
        assert not got.is_whole


@given(
    name=st.sampled_from(sorted(IDENTITY)),
    at=st.floats(0, 1),
    bit=st.integers(0, 7),
)
@example(name="identity", at=1.0, bit=0)
@example(name="compressed", at=1.0, bit=0)
@example(name="encoded", at=1.0, bit=0)
@example(name="compressed", at=0.0, bit=0)
def test_one_wrong_bit_in_a_whole_body(name: str, at: float, bit: int) -> None:
    """Bytes that have gone bad on CouchDB's disk: the right length, and no clean end (FINDINGS, section 0, point 3)."""
    house = house_with(None)
    head, body = head_and_body(house, name, None)
    place = min(int(at * len(body)), len(body) - 1)
    bad = body[:place] + bytes([body[place] ^ 1 << bit]) + body[place + 1 :]
    house.node.faults = lambda asked: None if asked.path == "/db/doc" else [head, bad, DYING_WORDS]
    got = outlast(house, name)
    assert got.status == 502 or not got.is_whole
    if got.status == 200:
        assert len(got.body) < len(IDENTITY[name])
        assert got.is_closed
    house.assert_at_rest()


@pytest.mark.parametrize("name", ["identity", "compressed", "encoded"])
def test_a_short_body_that_is_bad_is_a_clean_502(name: str) -> None:
    """All of it is here, and verified, before the status line."""
    house = House(
        {
            "identity": Stored(b"short"),
            "compressed": Stored.compressed(b"s" * 99),
            "encoded": Stored.encoded(gzip.compress(b"short")),
        }
    )
    stored = house.doc.attachments[name]
    asked = Asked("GET", "/", {"accept-encoding": "gzip"})
    bad = bytearray(attachment_answer(stored, asked))
    bad[-1] ^= 1
    house.node.faults = lambda asked: None if asked.path == "/db/doc" else [bytes(bad)]
    assert house.get(name).status == 502
    house.assert_at_rest()


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
def test_an_upload_that_is_no_gzip(version: str) -> None:
    """CouchDB takes anything with Content-Encoding: gzip, and dies when it is to decode it (FINDINGS, section 6)."""
    house = House({"bad": Stored.encoded(b"this is not gzip at all")})
    assert house.ask(f"/db/doc/bad?token={TOKEN}", version=version).status == 502


def test_an_upload_whose_gzip_is_cut() -> None:
    house = House({"bad": Stored.encoded(gzip.compress(TEXT)[:-20])})
    got = house.get("bad")
    assert (got.status, got.is_whole) == (200, False)
    assert TEXT.startswith(got.body)


def test_an_upload_whose_gzip_is_cut_for_a_client_that_could_not_see_it_end() -> None:
    """To HTTP/1.0 nothing is sent whose length is not known: it is read once before."""
    house = House({"bad": Stored.encoded(gzip.compress(TEXT)[:-20])})
    assert house.ask(f"/db/doc/bad?token={TOKEN}", version="HTTP/1.0").status == 502
    house.assert_at_rest()


def test_an_upload_of_several_gzip_members_is_served_whole() -> None:
    house = House({"many": Stored.encoded(gzip.compress(b"one ") + gzip.compress(b"two ") + gzip.compress(b""))})
    assert house.get("many").body == b"one two "


def test_compressed_bytes_longer_than_their_stub_says() -> None:
    house = House({"long": Stored(gzip.compress(TEXT), "text/plain", "gzip", len(TEXT) - 1)})
    got = house.get("long")
    assert not got.is_whole
    assert TEXT.startswith(got.body)
    assert len(got.body) < len(TEXT) - 1


def test_compressed_bytes_shorter_than_their_stub_says() -> None:
    house = House({"short": Stored(gzip.compress(TEXT), "text/plain", "gzip", len(TEXT) + 1)})
    got = house.get("short")
    assert not got.is_whole
    assert TEXT.startswith(got.body)
    house.assert_at_rest()


@pytest.mark.parametrize("second", [[Mark.CLOSE], [answer(500, b"")], [Mark.SILENCE], [answer(404, b"{}")]])
def test_a_fault_in_the_second_part_breaks_the_connection(second: Script) -> None:
    house = house_with(None)

    def fault(asked: Asked) -> Script | None:
        return second if asked.headers.get("range", "").startswith("bytes=200000") else None

    house.node.faults = fault
    client = house.send(f"/db/doc/identity?token={TOKEN}", {"Range": "bytes=0-99,200000-200099"})
    house.network.run()
    house.network.pass_time(LIMITS.stall_timeout + LIMITS.stall_timeout + 1)
    got = read_answer(client.received, "GET", client.is_closed)
    assert (got.status, got.is_whole, got.is_closed) == (206, False, True)
    assert DATA[:100] in got.body
    house.assert_at_rest()


def test_surplus_behind_a_body_is_never_sent_on_and_spoils_nothing() -> None:
    """CouchDB's second answer behind a complete first one (FINDINGS, section 0, point 3)."""
    house = house_with(None)
    head, body = head_and_body(house, "identity", None)
    house.node.faults = lambda asked: None if asked.path == "/db/doc" else [head, body + DYING_WORDS]
    for _ in range(3):
        got = house.get("identity")
        assert (got.status, got.body, got.is_whole) == (200, DATA, True)
        assert house.get("compressed").status == 502  # the script's ETag is another's
    house.node.faults = lambda _: None
    assert house.get("compressed").body == TEXT


def test_one_byte_too_many_behind_a_range() -> None:
    house = house_with(None)
    head, body = head_and_body(house, "identity", "bytes=1000-")
    house.node.faults = lambda asked: None if asked.path == "/db/doc" else [head, body + b"x", Mark.SILENCE]
    got = outlast(house, "identity", "bytes=1000-")
    assert (got.status, got.is_whole, got.is_closed) == (206, False, True)
    assert DATA[1000:].startswith(got.body)
    house.assert_at_rest()


def test_a_node_that_does_not_close_is_not_waited_for_long() -> None:
    house = house_with(None)
    head, body = head_and_body(house, "identity", "bytes=1000-")
    house.node.faults = lambda asked: None if asked.path == "/db/doc" else [head, body, Mark.SILENCE]
    client = house.send(f"/db/doc/identity?token={TOKEN}", {"Range": "bytes=1000-"})
    house.network.run()
    assert not read_answer(client.received, "GET", client.is_closed).is_whole
    house.network.pass_time(CLOSE_TIMEOUT + 1)
    assert read_answer(client.received, "GET", client.is_closed).body == DATA[1000:]
    house.assert_at_rest()


def test_the_break_is_in_the_log() -> None:
    house = house_with(None)
    head, body = head_and_body(house, "identity", None)
    house.node.faults = lambda asked: None if asked.path == "/db/doc" else [head, body[:-1], Mark.CLOSE]
    with logged() as events:
        outlast(house, "identity")
    [ignores, warning] = [formatEvent(event) for event in events if event["log_level"] is LogLevel.warn]
    assert "ignores ranges" in ignores
    assert f"lost a body after {len(body) - 1} of {len(body)} bytes" in warning
    [line] = house.log
    assert f'" 200 {len(DATA) - 1 - HELD_BACK} "' in line
