"""Whole requests, through the real Site, app, treq and Agent, against a node that behaves."""

import gc
import gzip
import io
import json
import random
from email.parser import BytesParser
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.logger import LogLevel

from tests import scripted
from tests.gateway.house import TOKEN, Answer, House, are_decoys, logged, read_answer
from tests.scripted import Doc, Mark, Stored
from txcouchdl.couch.documents import Document
from txcouchdl.gateway.plan import MOST_HELD, QUICKLY_READ
from txcouchdl.gateway.request import field_lines
from txcouchdl.gateway.responder import _QUICKLY_INFLATED

DATA = bytes(range(256)) * 41
TEXT = "".join(f"line {number}\n" for number in range(3000)).encode()

#: The three ways in which CouchDB stores an attachment, of the same bytes.
WAYS = {
    "identity": Stored(TEXT),
    "compressed": Stored.compressed(TEXT),
    "encoded": Stored.encoded(gzip.compress(TEXT)),
}


@pytest.fixture
def house() -> House:
    return House({"f.bin": Stored(DATA, "video/mp4"), **WAYS, "empty": Stored(b""), "one": Stored(b"1")})


def parts_of(answer: Answer) -> list[tuple[str, bytes]]:
    """The Content-Range and the bytes of each part of a multipart/byteranges body."""
    head = f"Content-Type: {answer['Content-Type']}\r\n\r\n".encode()
    parts: Any = BytesParser().parse(io.BytesIO(head + answer.body)).get_payload()
    return [(part["Content-Range"], part.get_payload(decode=True)) for part in parts]


def test_whole_attachment(house: House) -> None:
    answer = house.get("f.bin")
    assert (answer.status, answer.body, answer.is_whole, answer.is_closed) == (200, DATA, True, False)
    etag = house.doc.attachments["f.bin"].etag
    expected = {
        "Content-Length": str(len(DATA)),
        "Content-Type": "video/mp4",
        "Accept-Ranges": "bytes",
        "ETag": f'"{etag}"',
        "Cache-Control": "private, no-transform",
        "Content-Disposition": 'inline; filename="f.bin"',
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "X-Accel-Buffering": "no",
    }
    assert {name: answer[name] for name in expected} == expected
    assert answer["Date"]
    house.assert_at_rest()


@pytest.mark.parametrize(
    ("content_type", "is_sandboxed"),
    [
        ("text/html", True),
        ("image/svg+xml", True),
        (None, True),
        ("application/octet-stream", True),
        ("xvideo/mp4", True),
        ("video/mp4", False),
        ("Audio/MPEG", False),
    ],
)
def test_no_attachment_acts_as_our_origin(house: House, content_type: str | None, is_sandboxed: bool) -> None:
    """And what is played is played: Chromium does not let its own player read the address from within a sandbox."""
    house.doc.attachments["f"] = Stored(b"<script>", content_type)
    answer = house.get("f")
    policy = answer["Content-Security-Policy"].split("; ")
    assert ("sandbox" in policy) == is_sandboxed
    assert {"default-src 'none'", "form-action 'none'"} <= set(policy)
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_nothing_of_the_upstreams_headers_is_passed_on(house: House) -> None:
    body = Stored(DATA)
    house.doc.attachments["f.bin"] = body
    house.node.faults = lambda asked: (
        None
        if asked.path == "/db/doc"
        else [
            b"HTTP/1.1 200 OK\r\nX-Couch-Request-ID: 1\r\nSet-Cookie: AuthSession=x\r\nServer: CouchDB/3.5.2\r\n"
            b'ETag: "%s"\r\nContent-Length: %d\r\nX-Evil: 1\r\n\r\n' % (body.etag.encode(), len(DATA)),
            DATA,
        ]
    )
    answer = house.get("f.bin")
    assert answer.body == DATA
    assert not {"x-couch-request-id", "set-cookie", "x-evil"} & set(answer.headers)
    assert answer["Server"].startswith("txcouchdl/")


@pytest.mark.parametrize("name", WAYS)
def test_every_storage_gives_the_identity_bytes(house: House, name: str) -> None:
    answer = house.get(name, Accept_Encoding="gzip, br")
    assert (answer.status, answer.body, answer.is_whole) == (200, TEXT, True)
    assert "content-encoding" not in answer.headers
    # The digest is of the stored bytes; of an upload that was compressed, these are another representation.
    assert answer["ETag"] == f'"{WAYS[name].etag}{"+gunzip" if name == "encoded" else ""}"'
    house.assert_at_rest()


@pytest.mark.parametrize("name", ["identity", "compressed"])
@pytest.mark.parametrize(("range_", "expected"), [("bytes=100-199", slice(100, 200)), ("bytes=-7", slice(-7, None))])
def test_one_range(house: House, name: str, range_: str, expected: slice) -> None:
    answer = house.get(name, range_)
    first = TEXT.index(TEXT[expected]) if expected.start < 0 else expected.start
    assert (answer.status, answer.body) == (206, TEXT[expected])
    assert answer["Content-Range"] == f"bytes {first}-{first + len(TEXT[expected]) - 1}/{len(TEXT)}"
    assert answer["Content-Length"] == str(len(TEXT[expected]))
    house.assert_at_rest()


def test_identity_ranges_go_upstream_absolute(house: House) -> None:
    """CouchDB's suffix ranges lose the first byte (FINDINGS, section 0, point 4)."""
    house.get("f.bin", f"bytes=-{len(DATA) - 1}")
    assert house.node.asked[-1].headers["range"] == f"bytes=1-{len(DATA) - 1}"


@pytest.mark.parametrize("range_", ["bytes=0-", "bytes=-1000000", f"bytes=0-{len(DATA) - 1}"])
def test_a_range_of_everything_is_206_and_verified_like_the_whole(house: House, range_: str) -> None:
    answer = house.get("f.bin", range_)
    assert (answer.status, answer.body) == (206, DATA)
    assert answer["Content-Range"] == f"bytes 0-{len(DATA) - 1}/{len(DATA)}"
    assert "range" not in house.node.asked[-1].headers


@pytest.mark.parametrize("name", ["identity", "compressed"])
def test_several_ranges(house: House, name: str) -> None:
    answer = house.get(name, "bytes=10-19, 5-7, -4, 15-25, 1000000-")
    assert answer.status == 206
    length = len(TEXT)
    assert parts_of(answer) == [
        (f"bytes 10-25/{length}", TEXT[10:26]),
        (f"bytes 5-7/{length}", TEXT[5:8]),
        (f"bytes {length - 4}-{length - 1}/{length}", TEXT[-4:]),
    ]
    assert answer.is_whole
    assert len(answer.body) == int(answer["Content-Length"])
    house.assert_at_rest()


def test_an_upload_that_was_compressed_has_no_length_until_it_was_read_once(house: House) -> None:
    text = TEXT * (MOST_HELD // len(TEXT) + 1)
    house.doc.attachments["encoded"] = Stored.encoded(gzip.compress(text))
    first = house.get("encoded")
    assert (first.status, first.body, first["Accept-Ranges"]) == (200, text, "bytes")
    assert first["Transfer-Encoding"] == "chunked"
    second = house.get("encoded", "bytes=10-19")
    assert (second.status, second.body, second["Accept-Ranges"]) == (206, text[10:20], "bytes")
    assert house.get("encoded")["Content-Length"] == str(len(text))


NOISE = random.Random(4).randbytes(MOST_HELD)


@pytest.mark.parametrize(
    ("body", "is_short"),
    [
        (b"", True),
        (b"1", True),
        (TEXT, True),
        (bytes(MOST_HELD), True),
        (bytes(MOST_HELD + 1), False),
        (bytes(50 * MOST_HELD), False),
        (NOISE[: MOST_HELD - 100], True),
        # Its gzip is longer.
        (NOISE, False),
    ],
)
@pytest.mark.parametrize("is_direct", [False, True])
def test_a_short_upload_that_was_compressed_has_a_length_at_once(body: bytes, is_short: bool, is_direct: bool) -> None:
    """It is inflated before the head is sent, and read once. A client may take a break within a chunk for the end."""
    house = House({"f": Stored.encoded(gzip.compress(body))}, is_direct=is_direct)
    answer = house.get("f")
    assert (answer.status, answer.body, answer.is_whole) == (200, body, True)
    assert answer.headers.get("content-length") == (str(len(body)) if is_short else None)
    assert answer.headers.get("transfer-encoding") == (None if is_short else "chunked")
    assert sum(each.path == "/db/doc/f" for each in house.node.asked) == 1
    house.assert_at_rest()


def test_a_short_upload_that_is_damaged_is_an_error() -> None:
    """Nothing has been sent when its digest turns out to be wrong."""
    house = House({"f": Stored.encoded(gzip.compress(TEXT))})
    stored = house.doc.attachments["f"].stored
    # The operating system's number in gzip's head: it inflates to the same bytes.
    damaged = stored[:9] + bytes([stored[9] ^ 1]) + stored[10:]
    assert gzip.decompress(damaged) == TEXT
    house.node.faults = lambda asked: (
        [scripted.answer(200, damaged, {"ETag": f'"{house.doc.attachments["f"].etag}"', "Content-Encoding": "gzip"})]
        if asked.path == "/db/doc/f"
        else None
    )
    got = house.get("f")
    assert (got.status, got.is_whole) == (502, True)
    house.network.pass_time(60)
    house.assert_at_rest()


def test_a_short_upload_that_is_no_whole_gzip_is_an_error() -> None:
    """Its first bytes wait for the others, which do not come: the answer is a clean one, and the connection goes on."""
    house = House({"f": Stored.encoded(gzip.compress(TEXT)[:-1]), "g": Stored(b"bytes")})
    with logged() as events:
        client = house.send(f"/db/doc/f?token={TOKEN}")
        house.network.run()
    assert not [each for each in events if each["log_level"] in (LogLevel.error, LogLevel.critical)]
    answer = read_answer(client.received, "GET", client.is_closed)
    assert (answer.status, answer.is_whole, json.loads(answer.body)["error"]) == (502, True, "bad_gateway")
    client.received = b""
    client.transport.write(f"GET /db/doc/g?token={TOKEN} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    house.network.run()
    assert read_answer(client.received, "GET", client.is_closed).body == b"bytes"
    house.assert_at_rest()


def test_a_client_that_leaves_before_a_short_upload_is_inflated() -> None:
    house = House({"f": Stored.encoded(gzip.compress(TEXT))})
    stored = house.doc.attachments["f"]
    head = scripted.answer(200, stored.stored, {"ETag": f'"{stored.etag}"', "Content-Encoding": "gzip"})[:-10]
    house.node.faults = lambda asked: [head, Mark.SILENCE] if asked.path == "/db/doc/f" else None
    client = house.send(f"/db/doc/f?token={TOKEN}")
    house.network.run()
    assert client.received == b""
    client.transport.abortConnection()
    house.network.run()
    assert " 499 " in house.log[0]
    house.assert_at_rest()


def test_for_a_range_an_upload_that_was_compressed_is_read_at_once(house: House) -> None:
    """curl -C - would give up where it gets the whole."""
    answer = house.get("encoded", "bytes=10-19")
    assert (answer.status, answer.body, answer["Content-Range"]) == (206, TEXT[10:20], f"bytes 10-19/{len(TEXT)}")
    house.assert_at_rest()


@pytest.mark.parametrize(
    ("headers", "status", "reads"),
    [
        ({"Range": "bytes=10-19", "If-Match": '"x"'}, 412, 0),
        ({"Range": "bytes=10-19", "If-None-Match": "*"}, 304, 0),
        # For these there is no range, whatever the length may be.
        ({"Range": "bytes=10-19", "If-Range": '"x"'}, 200, 1),
        ({"Range": "lines=10-19"}, 200, 1),
        ({"Range": "bytes=9-1"}, 200, 1),
        ({}, 200, 1),
        ({"Range": "bytes=10-19"}, 206, 2),
    ],
)
def test_but_not_for_nothing(house: House, headers: dict[str, str], status: int, reads: int) -> None:
    answer = house.ask(f"/db/doc/encoded?token={TOKEN}", headers)
    assert answer.status == status
    assert sum(each.path == "/db/doc/encoded" for each in house.node.asked) == reads


def test_nor_for_a_head(house: House) -> None:
    answer = house.ask(f"/db/doc/encoded?token={TOKEN}", {"Range": "bytes=1-"}, "HEAD")
    assert (answer.status, answer["Accept-Ranges"]) == (200, "bytes")
    assert {each.path for each in house.node.asked} == {"/db/doc"}


@pytest.mark.parametrize(("less", "accept_ranges", "status"), [(0, "bytes", 206), (1, "none", 200)])
def test_nor_if_there_is_much_to_read(
    monkeypatch: pytest.MonkeyPatch, house: House, less: int, accept_ranges: str, status: int
) -> None:
    monkeypatch.setattr("txcouchdl.gateway.plan.QUICKLY_READ", len(WAYS["encoded"].stored) - less)
    assert house.ask(f"/db/doc/encoded?token={TOKEN}", method="HEAD")["Accept-Ranges"] == accept_ranges
    assert house.get("encoded", "bytes=10-19").status == status


@pytest.mark.parametrize(("less", "expected"), [(0, (206, TEXT[10:20])), (1, (200, TEXT))])
def test_nor_if_there_is_much_to_inflate(
    monkeypatch: pytest.MonkeyPatch, house: House, less: int, expected: tuple[int, bytes]
) -> None:
    """A few bytes may be the gzip of any number."""
    monkeypatch.setattr("txcouchdl.gateway.responder._QUICKLY_INFLATED", len(TEXT) - less)
    answer = house.get("encoded", "bytes=10-19")
    assert (answer.status, answer.body) == expected
    assert answer.is_whole
    house.assert_at_rest()


def test_what_is_soon_read_and_inflated() -> None:
    assert (QUICKLY_READ, _QUICKLY_INFLATED) == (2**24, 2**27), "as docs/protocol.rst says"


def test_an_upload_of_nothing_at_all_said_to_be_gzip(house: House) -> None:
    house.doc.attachments["f"] = Stored.encoded(b"")
    answer = house.get("f")
    assert (answer.status, answer.body, answer["Content-Length"]) == (200, b"", "0")


def test_a_head_of_such_an_upload_promises_no_length(house: House) -> None:
    answer = house.ask(f"/db/doc/encoded?token={TOKEN}", method="HEAD")
    assert answer.status == 200
    assert "content-length" not in answer.headers


def test_http_1_0_gets_such_an_upload_with_its_length(house: House) -> None:
    """It could not tell a break from an end: the attachment is read once before, to know."""
    answer = house.ask(f"/db/doc/encoded?token={TOKEN}", version="HTTP/1.0")
    assert (answer.body, answer.is_closed, answer["Content-Length"]) == (TEXT, True, str(len(TEXT)))
    assert "transfer-encoding" not in answer.headers
    assert [each.path for each in house.node.asked] == ["/db/doc", "/db/doc/encoded", "/db/doc/encoded"]


def test_http_1_0_with_a_range(house: House) -> None:
    """axel speaks HTTP/1.0 with ranges (CLIENTS, point 7)."""
    answer = house.ask(f"/db/doc/f.bin?token={TOKEN}", {"Range": "bytes=1-5"}, version="HTTP/1.0")
    assert (answer.status, answer.body, answer.is_closed) == (206, DATA[1:6], True)


@pytest.mark.parametrize("name", ["f.bin", "compressed"])
def test_head_is_the_get_without_a_body_and_without_a_read(house: House, name: str) -> None:
    # What can be learned of it is learned.
    house.get(name)
    whole = house.get(name)
    asked = len(house.node.asked)
    answer = house.ask(f"/db/doc/{name}?token={TOKEN}", {"Range": "bytes=0-4"}, "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    unlike = {"date"}
    assert {k: v for k, v in answer.headers.items() if k not in unlike} == {
        k: v for k, v in whole.headers.items() if k not in unlike
    }
    assert [each.path for each in house.node.asked[asked:]] == ["/db/doc"]


@pytest.mark.parametrize(
    ("range_", "status", "body"),
    [(None, 200, b""), ("bytes=0-", 416, None), ("bytes=-1", 200, b""), ("bytes=0-0", 416, None), ("bytes=", 200, b"")],
)
def test_empty_attachment(house: House, range_: str | None, status: int, body: bytes | None) -> None:
    answer = house.get("empty", range_)
    assert answer.status == status
    if status == 416:
        assert answer["Content-Range"] == "bytes */0"
        assert json.loads(answer.body)["error"] == "requested_range_not_satisfiable"
    else:
        assert (answer.body, answer["Content-Length"]) == (body, "0")
    assert [each.path for each in house.node.asked] == ["/db/doc"]


@pytest.mark.parametrize("range_", ["bytes=-1", "bytes=-2", "bytes=0-0", "bytes=0-99"])
def test_one_byte(house: House, range_: str) -> None:
    """CouchDB answers 416 to a suffix range of a one-byte attachment (FINDINGS, section 3)."""
    answer = house.get("one", range_)
    assert (answer.status, answer.body, answer["Content-Range"]) == (206, b"1", "bytes 0-0/1")


def test_unsatisfiable(house: House) -> None:
    """As curl -C - meets it on a file that it has, and VLC at the end of one."""
    answer = house.get("f.bin", f"bytes={len(DATA)}-")
    assert (answer.status, answer["Content-Range"]) == (416, f"bytes */{len(DATA)}")
    assert answer["Accept-Ranges"] == "bytes"
    assert [each.path for each in house.node.asked] == ["/db/doc"]


def test_two_range_lines_are_one_malformed_field(house: House) -> None:
    client = house.connect()
    client.transport.write(
        f"GET /db/doc/f.bin?token={TOKEN} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-1\r\nRange: bytes=4-5\r\n\r\n".encode()
    )
    house.network.run()
    assert client.received.startswith(b"HTTP/1.1 200 ")
    assert client.received.endswith(DATA)


def test_preconditions_come_before_the_range(house: House) -> None:
    etag = house.get("f.bin")["ETag"]
    rev = house.doc.rev
    unsatisfiable = "bytes=999999-"
    assert house.get("f.bin", unsatisfiable, If_None_Match=f"W/{etag}").status == 304
    assert house.get("f.bin", unsatisfiable, If_Match='"other"').status == 412
    assert house.get("f.bin", "bytes=0-1", If_Match=f'"x", {etag}').status == 206
    assert house.get("f.bin", "bytes=0-1", If_Match=f"W/{etag}").status == 412
    assert house.get("f.bin", "bytes=0-1", If_Match=rev).status == 206
    assert house.get("f.bin", "bytes=0-1", If_Match=f'"{rev}"').status == 206
    assert house.get("f.bin", "bytes=0-1", If_Match="*").status == 206
    assert house.get("f.bin", "bytes=0-1", If_Range=etag).status == 206
    assert house.get("f.bin", "bytes=0-1", If_Range=f"W/{etag}").status == 200
    assert house.get("f.bin", unsatisfiable, If_Range='"other"').body == DATA
    assert house.get("f.bin", "bytes=0-1", If_Range="Wed, 21 Oct 2037 07:28:00 GMT").status == 200
    assert house.get("f.bin", If_Modified_Since="Wed, 21 Oct 2037 07:28:00 GMT").status == 200
    assert house.get("f.bin", If_Unmodified_Since="Wed, 21 Oct 2015 07:28:00 GMT").status == 200
    house.assert_at_rest()


def test_not_modified_has_the_fields_a_cache_needs_and_no_body(house: House) -> None:
    etag = house.get("f.bin")["ETag"]
    answer = house.get("f.bin", If_None_Match=etag)
    assert (answer.status, answer.body) == (304, b"")
    assert (answer["ETag"], answer["Cache-Control"]) == (etag, "private, no-transform")
    assert "content-type" not in answer.headers


# Addresses


@given(
    document_id=st.sampled_from(
        ["a/b", "ü€", "p+q", "100%", "a#b", "a?b", ".", "..", "x y", "_design/x", "a%2Fb", "a:b"]
    ),
    name=st.sampled_from(
        [
            "f.bin",
            "dir/sub/f.bin",
            "a+b",
            "a b",
            "100%",
            "a#b",
            "q?x=1",
            ".",
            "..",
            "x/../y",
            "🎉",
            "ü",
            "u\u0308",
            "a%2Fb",
            "\0",
        ]
    ),
)
def test_odd_names_arrive(document_id: str, name: str) -> None:
    house = House()
    quoted_id = (
        "/".join(quote(part, safe="") for part in document_id.split("/", 1))
        if "_design" in document_id
        else quote(document_id, safe="")
    )
    upstream_id = quoted_id.replace("..", "%2E%2E") if document_id == ".." else quoted_id
    upstream_id = "%2E" if document_id == "." else upstream_id
    house.node.docs[f"/db/{upstream_id}"] = Doc({"download_token": TOKEN}, {name: Stored(DATA)})
    for spelling in {quote(name, safe=""), quote(name, safe="/")}:
        answer = house.ask(f"/db/{quoted_id}/{spelling}?token={TOKEN}")
        assert (answer.status, answer.body) == (200, DATA)


def test_a_raw_plus_is_a_plus(house: House) -> None:
    house.doc.attachments["a+b"] = Stored(b"plus")
    house.doc.attachments["a b"] = Stored(b"space")
    assert house.get("a+b").body == b"plus"
    assert house.get("a%20b").body == b"space"


def test_a_database_with_a_slash(house: House) -> None:
    house.node.docs["/a%2Fb/doc"] = Doc({"download_token": TOKEN}, {"f": Stored(b"here")})
    assert house.ask(f"/a%2Fb/doc/f?token={TOKEN}").body == b"here"


@pytest.mark.parametrize(
    "target",
    [
        "/_users/org.couchdb.user:bob/f",
        "/db/_local/x/f",
        "/db/_all_docs/f",
        "/_all_dbs/x/y",
        "/../db/doc",
        "/DB/doc/f",
        "/db//f",
    ],
)
def test_couchdbs_own_are_refused_without_asking_for_them(house: House, target: str) -> None:
    answer = house.ask(f"{target}?token={TOKEN}")
    assert answer.status == 403
    assert are_decoys(house)


@pytest.mark.parametrize("target", ["/", "/db", "/db/", "/db/doc", "/favicon.ico", "/db/_design/x"])
def test_too_short_for_an_address(house: House, target: str) -> None:
    answer = house.ask(f"{target}?token={TOKEN}")
    assert (answer.status, json.loads(answer.body)["error"]) == (404, "not_found")
    assert house.node.asked == []


def test_handlers_of_a_design_document_are_no_attachments(house: House) -> None:
    house.node.docs["/db/_design/x"] = Doc({"download_token": TOKEN}, {"_view": Stored(b"no"), "f": Stored(b"yes")})
    assert house.ask(f"/db/_design/x/_view?token={TOKEN}").status == 404
    assert house.ask(f"/db/_design%2Fx/f?token={TOKEN}").body == b"yes"


def test_absolute_form(house: House) -> None:
    assert house.ask(f"http://gateway.example/db/doc/f.bin?token={TOKEN}").body == DATA


# Revisions


@pytest.fixture
def revised(house: House) -> House:
    house.node.old_docs["/db/doc", "1-old"] = Doc({"download_token": "old"}, {"f.bin": Stored(b"old bytes")}, "1-old")
    house.doc.rev = "2-new"
    return house


def test_an_old_revision_is_read_with_the_current_token(revised: House) -> None:
    assert revised.ask(f"/db/doc/f.bin?rev=1-old&token={TOKEN}").body == b"old bytes"
    assert revised.ask("/db/doc/f.bin?rev=1-old&token=old").status == 403
    assert revised.ask(f"/db/doc/f.bin?rev=2-new&token={TOKEN}").body == DATA


def test_a_node_that_answers_with_another_revision(revised: House) -> None:
    """A proxy that drops the query, say."""
    current = revised.doc.json("doc")
    revised.node.faults = lambda asked: (
        [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(current), current)]
        if asked.path == "/db/doc"
        else None
    )
    assert revised.ask(f"/db/doc/f.bin?rev=1-old&token={TOKEN}").status == 502


@pytest.mark.parametrize(
    ("rev", "status", "reason"),
    [
        ("9-missing", 404, "missing"),
        ("bad", 400, "Invalid rev format"),
        ("", 400, "Invalid rev format"),
        ("1-old&rev=2-new", 400, "Invalid rev format"),
        ("1-old%0d%0aX:y", 400, "Invalid rev format"),
    ],
)
def test_a_revision_that_is_none(revised: House, rev: str, status: int, reason: str) -> None:
    answer = revised.ask(f"/db/doc/f.bin?rev={rev}&token={TOKEN}")
    assert (answer.status, json.loads(answer.body)["reason"]) == (status, reason)
    assert revised.ask(f"/db/doc/f.bin?rev={rev}&token=wrong").status == 403


def test_a_tombstone_has_no_attachments(revised: House) -> None:
    revised.node.old_docs["/db/doc", "3-gone"] = Doc({"_deleted": True}, {}, "3-gone")
    assert revised.ask(f"/db/doc/f.bin?rev=3-gone&token={TOKEN}").status == 404


def test_every_read_is_pinned(revised: House) -> None:
    revised.get("f.bin")
    assert revised.node.asked[-1].target == "/db/doc/f.bin?rev=2-new"


def test_a_revision_compacted_away_meanwhile_is_followed(house: House) -> None:
    """The same attachment under a newer revision goes on."""
    house.node.docs["/db/doc"].rev = "1-old"

    def compact(asked: object) -> None:
        if getattr(asked, "path", "") == "/db/doc/f.bin" and house.doc.rev == "1-old":
            house.doc.rev = "2-new"

    house.node.faults = compact
    answer = house.get("f.bin")
    assert (answer.status, answer.body) == (200, DATA)
    assert house.node.asked[-1].target == "/db/doc/f.bin?rev=2-new"


def test_an_attachment_changed_meanwhile_is_planned_anew(house: House) -> None:
    house.node.docs["/db/doc"].rev = "1-old"

    def change(asked: object) -> None:
        if getattr(asked, "path", "") == "/db/doc/f.bin" and house.doc.rev == "1-old":
            house.doc.rev = "2-new"
            house.doc.attachments["f.bin"] = Stored(b"changed")

    house.node.faults = change
    answer = house.get("f.bin", "bytes=0-")
    assert (answer.status, answer.body, answer["Content-Range"]) == (206, b"changed", "bytes 0-6/7")


def test_an_attachment_that_changes_all_the_time_is_given_up(house: House) -> None:
    changes = iter(range(2, 1000))

    def change(asked: object) -> None:
        if getattr(asked, "path", "") == "/db/doc/f.bin":
            number = next(changes)
            house.doc.rev = f"{number}-x"
            house.doc.attachments["f.bin"] = Stored(b"%d" % number)

    house.node.faults = change
    assert house.get("f.bin").status == 502
    assert len(house.node.asked) < 20
    house.assert_at_rest()


def test_a_name_that_couchdb_cannot_be_asked_for(house: House) -> None:
    """``//`` in a name collapses in CouchDB's paths; the document has it, and no path leads to it."""
    house.doc.attachments["p//q"] = Stored(b"x")
    house.node.faults = lambda asked: (
        [b"HTTP/1.1 404 N\r\nContent-Length: 0\r\n\r\n"] if "p%2F%2Fq" in asked.path else None
    )
    assert house.get("p//q").status == 404


# Methods, and what goes upstream


def test_options_is_the_same_whatever_exists(house: House) -> None:
    answers = [house.ask(target, method="OPTIONS") for target in ["/db/doc/f.bin", "/no/such/thing", "/"]]
    assert {(each.status, each["Allow"], each.body) for each in answers} == {(204, "GET, HEAD, OPTIONS", b"")}
    assert house.node.asked == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "COPY", "get", "FOO"])
def test_other_methods(house: House, method: str) -> None:
    answer = house.ask(f"/db/doc/f.bin?token={TOKEN}", {"X-HTTP-Method-Override": "GET"}, method)
    assert (answer.status, answer["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert json.loads(answer.body)["error"] == "method_not_allowed"
    assert house.node.asked == []


def test_nothing_of_the_clients_headers_goes_upstream(house: House) -> None:
    house.get(
        "compressed",
        "bytes=0-1",
        Cookie="AuthSession=zzzz",
        Accept="text/html",
        Accept_Encoding="identity;q=0",
        Authorization="Basic YTpi",
        X_CouchDB_WWW_Authenticate="Cookie",
        X_Forwarded_For="1.2.3.4",
        User_Agent="evil",
    )
    ours = {"host", "accept", "accept-encoding", "authorization", "connection"}
    assert [set(each.headers) - ours for each in house.node.asked] == [set(), set()]
    document, body = house.node.asked
    assert (document.headers["accept"], body.headers["accept"]) == ("application/json", "*/*")
    assert (document.headers["accept-encoding"], body.headers["accept-encoding"]) == ("identity", "gzip")
    assert {each.headers["authorization"] for each in house.node.asked} == {"Basic YWRtaW46aHVudGVyMg=="}


def test_the_nodes_cookies_are_not_kept(house: House) -> None:
    doc = house.doc.json("doc")
    house.node.faults = lambda asked: (
        [b"HTTP/1.1 200 OK\r\nSet-Cookie: AuthSession=x; Path=/\r\nContent-Length: %d\r\n\r\n%s" % (len(doc), doc)]
        if asked.path == "/db/doc"
        else None
    )
    house.get("f.bin")
    house.get("f.bin")
    assert not any("cookie" in each.headers for each in house.node.asked)


def test_one_connection_serves_many_requests(house: House) -> None:
    client = house.connect()
    request = f"GET /db/doc/f.bin?token={TOKEN} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-3\r\n\r\n".encode()
    client.transport.write(request * 3)
    house.network.run()
    assert client.received.count(b"HTTP/1.1 206 Partial Content") == 3
    assert not client.is_closed


def test_upstream_connections_are_used_again_but_where_the_close_is_the_proof(house: House) -> None:
    for range_ in "bytes=1-3", None, "bytes=2-4", None:
        house.get("f.bin", range_)
        assert "connection" not in house.node.asked[-1].headers
    assert house.network.open_connections(5984) == 1
    house.get("f.bin", "bytes=-3")
    assert house.node.asked[-1].headers["connection"] == "close"
    assert house.network.open_connections(5984) == 0


# Heads of answers


def test_the_date_is_that_of_the_answer(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    dates = []
    for seconds in (1_000_000_000.1, 1_000_000_000.9, 1_000_000_001.0):
        monkeypatch.setattr("txcouchdl.gateway.site.time", lambda seconds=seconds: seconds)
        dates.append(house.get("one")["Date"])
    assert dates == ["Sun, 09 Sep 2001 01:46:40 GMT"] * 2 + ["Sun, 09 Sep 2001 01:46:41 GMT"]


@given(st.text(st.characters(max_codepoint=255)))
@example("a\r\nSet-Cookie: b")
@example("a\n\rb\r\n")
def test_a_field_is_one_line(value: str) -> None:
    [line] = field_lines((("X", value),))
    assert line.startswith(b"X: ")
    assert line.endswith(b"\r\n")
    assert not {b"\r", b"\n"} & {line[at : at + 1] for at in range(len(line) - 2)}


def test_an_answer_is_one_write(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two packets would be two wakings of a client, and of us."""
    written: list[bytes] = []
    client = house.send("/db/doc/one?token=wrong")
    door = client.transport.peer
    monkeypatch.setattr(door, "write", written.append)
    house.network.run()
    [answer] = written
    assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert answer.endswith(b"}\n")


@pytest.mark.parametrize(
    ("method", "target", "etag", "status", "is_framed"),
    [
        ("HEAD", "/db/doc/one?token=wrong", "", 403, True),
        ("HEAD", f"/db/doc/encoded?token={TOKEN}", "", 200, False),
        ("GET", f"/db/doc/one?token={TOKEN}", "*", 304, False),
        ("OPTIONS", "/", "", 204, False),
    ],
)
@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
def test_what_has_no_body_has_none(
    house: House, method: str, target: str, etag: str, status: int, is_framed: bool, version: str
) -> None:
    """Nor a last chunk: a client would take it for the beginning of the next answer."""
    client = house.send(target, {"If-None-Match": etag} if etag else {}, method, version)
    house.network.run()
    head, end, rest = client.received.partition(b"\r\n\r\n")
    assert (head.startswith(b"%b %d " % (version.encode(), status)), end, rest) == (True, b"\r\n\r\n", b"")
    assert b"Transfer-Encoding" not in head
    assert (b"Content-Length" in head) == is_framed
    assert f'" {status} - ' in house.log[0]


def test_an_error_has_its_length_in_the_log(house: House) -> None:
    got = house.ask("/db/doc/one?token=wrong")
    assert f'" 403 {len(got.body)} ' in house.log[0]


@pytest.mark.parametrize(("version", "is_chunked"), [(b"HTTP/1.1", True), (b"HTTP/1.0", False)])
def test_chunks_are_for_those_who_know_them(house: House, version: bytes, is_chunked: bool) -> None:
    client = house.send(f"/db/doc/one?token={TOKEN}")
    house.network.run(until=lambda: client.transport.peer.protocol.requests)
    [request] = client.transport.peer.protocol.requests
    request.clientproto = version
    request.begin(200, (), None)
    request.write(b"x")
    assert bytes(client.transport.peer.sent).endswith(b"\r\n\r\n" + (b"1\r\nx\r\n" if is_chunked else b"x"))


def test_who_goes_leaves_nothing_in_the_log_of_errors(house: House) -> None:
    house.node.faults = lambda _: [Mark.SILENCE]
    with logged() as events:
        client = house.send(f"/db/doc/one?token={TOKEN}")
        house.network.run()
        client.transport.abortConnection()
        house.network.run()
    assert not [event for event in events if event.get("log_failure")]
    assert '" 499 ' in house.log[0]


def test_who_is_gone_is_told_nothing(house: House) -> None:
    client = house.send(f"/db/doc/one?token={TOKEN}")
    house.network.run(until=lambda: client.transport.peer.protocol.requests)
    [request] = client.transport.peer.protocol.requests
    client.transport.abortConnection()
    house.network.run()
    request.begin(200, (), 1, b"x")
    assert not request.startedWriting


def test_a_document_is_not_kept_while_its_attachment_is_sent(house: House) -> None:
    """It may be as large as an attachment, and a response may take days."""
    house.doc.attachments["big"] = Stored(bytes(10 * 2**20))
    client = house.send(f"/db/doc/big?token={TOKEN}")
    client.transport.is_paused = True
    house.network.run()
    assert client.transport.peer.sent
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, Document) and each.rev == house.doc.rev]
