"""
Rules of CouchDB that are easily missed: the tests run against the store and, with ``COUCHDB_URL``, a real CouchDB.

At the end are tests of the store alone, for its differences.
"""

import gzip
import json
import re
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

import pytest

from tests.store.serving import RawClient, Response, ServedStore, in_reactor

JSON = {"content_type": "application/json"}
_NO_REV = "You tried to DELETE a database with a ?=rev parameter. Did you mean to DELETE a document instead?"


def _check_refusal(answer: Response, status: int, error: str, reason: str) -> None:
    assert (answer.status, answer.json) == (status, {"error": error, "reason": reason})


# --- databases ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["?rev=1-x", "?rev=", "?rev", "?a=b&rev=bad"])
@pytest.mark.parametrize("path", ["", "/", "-that-is-not-there"])
@in_reactor
async def test_a_database_is_not_deleted_by_revision(couch: RawClient, database: str, path: str, query: str) -> None:
    """The script has lost the id of its document."""
    _check_refusal(await couch.ask("DELETE", f"/{database}{path}{query}"), 400, "bad_request", _NO_REV)
    assert (await couch.ask("GET", f"/{database}")).status == 200


@in_reactor
async def test_a_database_and_a_stranger(couch: RawClient, database: str) -> None:
    for method in ("DELETE", "PUT"):
        answer = await couch.ask(method, f"/{database}?rev=1-x", authorization=None)
        _check_refusal(answer, 401, "unauthorized", "You are not a server admin.")


@pytest.mark.parametrize("name", ["d", "d/and/more"])
@in_reactor
async def test_the_index_of_a_design_document_is_compacted(couch: RawClient, database: str, name: str) -> None:
    target = f"/{database}/_compact/{name}"
    _check_refusal(await couch.ask("POST", target, "", **JSON), 404, "not_found", "missing")
    rev = (await couch.ask("PUT", f"/{database}/_design/d", "{}")).json["rev"]
    answer = await couch.ask("POST", target, "", **JSON)
    assert (answer.status, answer.json) == (202, {"ok": True})
    _check_refusal(await couch.ask("GET", target), 405, "method_not_allowed", "Only POST allowed")
    reason = "Content-Type must be application/json"
    _check_refusal(await couch.ask("POST", target, ""), 415, "bad_content_type", reason)
    assert (await couch.ask("DELETE", f"/{database}/_design/d?rev={rev}")).status == 200
    _check_refusal(await couch.ask("POST", target, "", **JSON), 404, "not_found", "deleted")


@in_reactor
async def test_an_index_in_no_database(couch: RawClient, database: str) -> None:
    answer = await couch.ask("POST", f"/{database}-not/_compact/d", "", **JSON)
    _check_refusal(answer, 404, "not_found", "Database does not exist.")


_ALL_DBS = [
    ("", "abc"),
    ("limit=1", "a"),
    ("limit=0", ""),
    ("limit=%2B2", "ab"),
    ("skip=1", "bc"),
    ("skip=1&limit=1", "b"),
    ("skip=99999999999999999999", ""),
    ("descending=true", "cba"),
    ("descending=TRUE&limit=1&skip=1", "b"),
    ("descending=False", "abc"),
    ("startkey={b}", "bc"),
    ("start_key={b}", "bc"),
    ("startkey={b}x", 'error "bad_request" "invalid UTF-8 JSON"'),
    ("endkey={b}", "ab"),
    ("end_key={b}", "ab"),
    ("endkey={b}&inclusive_end=false", "a"),
    ("inclusive_end=false", "abc"),
    ("startkey={b}&endkey={b}", "b"),
    ("startkey={c}&endkey={b}", ""),
    ("startkey={c}&endkey={b}&descending=true", "cb"),
    ("startkey={c}&endkey={b}&descending=true&inclusive_end=false", "c"),
    ("startkey={b}&endkey={c}&descending=true", ""),
    ("key={b}", "b"),
    ("key={b}&descending=true", "b"),
    ("startkey={c}&startkey={b}", "bc"),
    ("startkey={b}&start_key={c}", "c"),
    ("limit=1&limit=2", "ab"),
    ("startkey=5", "abc"),
    ("startkey=null", "abc"),
    ("startkey=[]&descending=true", ""),
    ("endkey={{}}", ""),
    ("endkey={{}}&descending=true", "cba"),
    ("foo=bar&include_docs=true", "abc"),
    ("startkey=", 'error "bad_request" "invalid UTF-8 JSON"'),
    ("endkey=unquoted", 'error "bad_request" "invalid UTF-8 JSON"'),
    ("limit=", 'error "query_parse_error" "Invalid value for integer: []"'),
    ("limit=x", r'error "query_parse_error" "Invalid value for integer: \"x\""'),
    ("limit=%225%22", r'error "query_parse_error" "Invalid value for integer: \"\\\"5\\\"\""'),
    ("limit=1.5", r'error "query_parse_error" "Invalid value for integer: \"1.5\""'),
    ("limit=-1", r'error "query_parse_error" "Invalid value for positive integer: \"-1\""'),
    ("skip=-1", r'error "query_parse_error" "Invalid value for positive integer: \"-1\""'),
    (
        "limit=576460752303423488",
        'error "query_parse_error" "Limit is too large, must not exceed 576460752303423487"',
    ),
    ("descending=", 'error "query_parse_error" "Invalid boolean parameter: []"'),
    ("descending=1", r'error "query_parse_error" "Invalid boolean parameter: \"1\""'),
    ("inclusive_end=x", r'error "query_parse_error" "Invalid boolean parameter: \"x\""'),
]


@in_reactor
async def test_a_part_of_all_databases(couch: RawClient, database: str) -> None:
    """``{a}`` to ``{c}`` stand for three names, one after the other, which are all that is looked at."""
    names = {letter: f"{database}-{letter}" for letter in "abc"}
    try:
        for name in names.values():
            assert (await couch.ask("PUT", f"/{name}")).status == 201
        wrong = []
        for query, expected in _ALL_DBS:
            found = await _listed(couch, query, names)
            if found != expected:
                wrong.append((query, expected, found))
        assert wrong == []
    finally:
        for name in names.values():
            await couch.ask("DELETE", f"/{name}")


async def _listed(couch: RawClient, query: str, names: Mapping[str, str]) -> str:
    quoted = {letter: f"%22{name}%22" for letter, name in names.items()}
    # Bounds that leave nothing else in, where the query has none.
    lowest, highest = f"{names['a'][:-1]}!", f"{names['a'][:-1]}~"
    bounds = f"?startkey=%22{lowest}%22&endkey=%22{highest}%22&"
    if "descending" in query.lower() and "=t" in query.lower():
        bounds = f"?startkey=%22{highest}%22&endkey=%22{lowest}%22&"
    answer = await couch.ask("GET", "/_all_dbs" + bounds + query.format(**quoted))
    if answer.status != 200:
        return f"error {json.dumps(answer.json['error'])} {json.dumps(answer.json['reason'])}"
    letters = {name: letter for letter, name in names.items()}
    return "".join(letters.get(name, "") for name in answer.json)


# --- documents ----------------------------------------------------------------------------------------------

_ZIPPED = gzip.compress(b'{"a":1}', mtime=0)
_NOT_GZIP = "Request body is not properly gzipped."


@pytest.mark.parametrize(
    "body", [_ZIPPED, gzip.compress(b'{"a"', mtime=0) + gzip.compress(b":1}", mtime=0)], ids=["one", "two members"]
)
@in_reactor
async def test_documents_in_gzip(couch: RawClient, database: str, body: bytes) -> None:
    put = await couch.ask("PUT", f"/{database}/doc", body, content_encoding="gzip")
    assert put.json["rev"] == "1-23202479633c2b380f79507a776743d5"
    posted = await couch.ask("POST", f"/{database}", body, content_encoding="gzip", **JSON)
    assert (await couch.ask("GET", f"/{database}/{posted.json['id']}")).json["a"] == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"a":1}', _NOT_GZIP),
        (b"", _NOT_GZIP),
        (_ZIPPED[:-5], _NOT_GZIP),
        (_ZIPPED + b"xx", _NOT_GZIP),
        (_ZIPPED[:-8] + bytes(8), _NOT_GZIP),
        (_ZIPPED + _ZIPPED, "invalid UTF-8 JSON"),
        (gzip.compress(b"", mtime=0), "invalid UTF-8 JSON"),
    ],
)
@in_reactor
async def test_what_is_not_gzip(couch: RawClient, database: str, body: bytes, reason: str) -> None:
    answer = await couch.ask("PUT", f"/{database}/doc", body, content_encoding="gzip")
    _check_refusal(answer, 400, "bad_request", reason)


@pytest.mark.parametrize("coding", ["deflate", "br", "x-gzip", "GZIP", "gzip, gzip", ""])
@in_reactor
async def test_other_codings(couch: RawClient, database: str, coding: str) -> None:
    reason = f"{coding} is not a supported content encoding."
    answer = await couch.ask("PUT", f"/{database}/doc", _ZIPPED, content_encoding=coding)
    _check_refusal(answer, 415, "bad_content_type", reason)
    answer = await couch.ask("POST", f"/{database}", _ZIPPED, content_encoding=coding, **JSON)
    _check_refusal(answer, 415, "bad_content_type", reason)


@in_reactor
async def test_identity_is_no_coding(couch: RawClient, database: str) -> None:
    assert (await couch.ask("PUT", f"/{database}/doc", "{}", content_encoding="identity")).status == 201


@pytest.mark.parametrize("piece", [b"x", b'","b":"', b"\\n"], ids=["a text", "members", "escapes"])
@in_reactor
async def test_a_document_grows_to_the_limit_of_documents(couch: RawClient, database: str, piece: bytes) -> None:
    """A bomb of a few KiB."""
    bomb = gzip.compress(b'{"a":"' + piece * (9_000_000 // len(piece)) + b'"}')
    assert len(bomb) < 100_000
    answer = await couch.ask("PUT", f"/{database}/doc", bomb, content_encoding="gzip")
    if piece == b"x":
        assert (answer.status, answer.json["error"]) == (413, "document_too_large")
    assert (await couch.ask("GET", f"/{database}")).status == 200


@in_reactor
async def test_no_body(couch: RawClient, database: str) -> None:
    _check_refusal(await couch.ask("PUT", f"/{database}/doc"), 400, "bad_request", "Missing request body")
    _check_refusal(await couch.ask("POST", f"/{database}", **JSON), 400, "bad_request", "Missing request body")
    _check_refusal(await couch.ask("PUT", f"/{database}/doc", ""), 400, "bad_request", "invalid UTF-8 JSON")


@in_reactor
async def test_a_body_in_chunks(couch: RawClient, database: str) -> None:
    head = f"PUT /{database}/doc HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {couch.authorization}"
    for chunks, status in (("2\r\n{}\r\n0", 201), ("0", 400)):
        answer = await couch.send(f"{head}\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}\r\n\r\n".encode())
        assert answer is not None
        assert answer.status == status
        assert answer.json.get("reason", "invalid UTF-8 JSON") == "invalid UTF-8 JSON"


_BASE64 = {
    "eA==": b"x",
    "eHg=": b"xx",
    "eHh4": b"xxx",
    "": b"",
    "eA==\\n": b"x",
    "e A = =": b"x",
    "e\\r\\nA=\\t=": b"x",
    "eB==": b"x",
    "eH9=": b"x\x7f",
    "e+A/": b"\x7b\xe0\x3f",
} | dict.fromkeys(
    [
        *("eA=", "eA", "eA===", "eA====", "eHg", "eHg==", "eHg===", "eHh4=", "eHh4==", "eHh4===", "eHh4===="),
        *("=", "==", "====", "e", "eHh4eA=", "eHh4eA", "eA==eA==", "eHg=eHg=", "eA==x", "=eA=", "e=A=", "e===", "===="),
        *("e-A=", "e_A=", "e,A==", "*", "eA==*", "e\\u00a0A==", "e\\u000bA==", "e\\u000cA==", "e\\u0085A=="),
        *("e\\u001cA==", "e\\u2003A==", "e\\u0000A=="),
    ]
)


@in_reactor
async def test_base64(couch: RawClient, database: str) -> None:
    wrong = []
    for number, (data, decoded) in enumerate(_BASE64.items()):
        text = f'{{"_attachments":{{"f":{{"data":"{data}","content_type":"a/b"}}}}}}'
        answer = await couch.ask("PUT", f"/{database}/{number}", text)
        found = (await couch.ask("GET", f"/{database}/{number}/f")).body if answer.status == 201 else None
        if found != decoded or (found is None and answer.json["reason"] != "Invalid attachment data for f"):
            wrong.append((data, decoded, found))
    assert wrong == []


@pytest.mark.parametrize(("query", "is_batch"), [("?batch=ok", True), ("?batch=OK", False), ("?batch=", False)])
@in_reactor
async def test_batches(couch: RawClient, database: str, query: str, is_batch: bool) -> None:
    """``batch=ok``: the document, or the design document, has no revision yet."""
    for document_id in ("doc", "_design/d"):
        put = await couch.ask("PUT", f"/{database}/{document_id}{query}", '{"a":1}')
        assert (put.status, "rev" in put.json) == ((202, False) if is_batch else (201, True))
        assert put.json.items() >= {"ok": True, "id": document_id}.items()
        assert ("etag" in put.headers, "location" in put.headers) == (not is_batch, not is_batch)
    posted = await couch.ask("POST", f"/{database}{query}", '{"a":1}', **JSON)
    assert (posted.status, "rev" in posted.json) == ((202, False) if is_batch else (201, True))
    assert re.fullmatch("[0-9a-f]{32}", posted.json["id"])
    bad = await couch.ask("PUT", f"/{database}/bad{query}", "{")
    _check_refusal(bad, 400, "bad_request", "invalid UTF-8 JSON")


@in_reactor
async def test_attachments_and_deletions_have_no_batch(couch: RawClient, database: str) -> None:
    put = await couch.ask("PUT", f"/{database}/doc/f?batch=ok", b"x")
    assert (put.status, "location" in put.headers) == (201, True)
    deleted = await couch.ask("DELETE", f"/{database}/doc/f?batch=ok&rev={put.json['rev']}")
    assert deleted.status == 200
    gone = await couch.ask("DELETE", f"/{database}/doc?batch=ok&rev={deleted.json['rev']}")
    assert (gone.status, gone.json["rev"][:2]) == (200, "3-")


@in_reactor
async def test_a_tombstone_that_is_put(couch: RawClient, database: str) -> None:
    put = await couch.ask("PUT", f"/{database}/doc", '{"_deleted":true,"why":"so"}')
    assert (put.status, put.json["rev"][:2]) == (200, "1-")
    assert {"etag", "location"} <= put.headers.keys()
    posted = await couch.ask("POST", f"/{database}", '{"_id":"other","_deleted":true}', **JSON)
    assert posted.status == 201
    _check_refusal(await couch.ask("GET", f"/{database}/doc"), 404, "not_found", "deleted")


@pytest.mark.parametrize("is_inline", [False, True])
@in_reactor
async def test_a_document_made_anew_counts_from_1(couch: RawClient, database: str, is_inline: bool) -> None:
    """Its attachments do: they keep their revpos, which a stub may repeat."""
    rev = (await couch.ask("PUT", f"/{database}/doc/old", b"old")).json["rev"]
    await couch.ask("DELETE", f"/{database}/doc?rev={rev}")
    if is_inline:
        new = await couch.ask("PUT", f"/{database}/doc", '{"_attachments":{"new":{"data":"eA=="}}}')
    else:
        new = await couch.ask("PUT", f"/{database}/doc/new", b"x")
    assert new.json["rev"][:2] == "3-"
    document = (await couch.ask("GET", f"/{database}/doc")).json
    assert {name: stub["revpos"] for name, stub in document["_attachments"].items()} == {"new": 1}
    assert (await couch.ask("PUT", f"/{database}/doc", json.dumps(document))).status == 201
    document["_rev"] = (await couch.ask("GET", f"/{database}/doc")).json["_rev"]
    document["_attachments"]["new"]["revpos"] = 3
    assert (await couch.ask("PUT", f"/{database}/doc", json.dumps(document))).status == 412
    rev = (await couch.ask("PUT", f"/{database}/doc/more?rev={document['_rev']}", b"y")).json["rev"]
    assert rev[:2] == "5-"
    assert (await couch.ask("GET", f"/{database}/doc")).json["_attachments"]["more"]["revpos"] == 5


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "COPY", "PATCH"])
@pytest.mark.parametrize("path", ["_local", "_local/", "_local%2F", "_local%2f"])
@in_reactor
async def test_a_local_document_without_a_name(couch: RawClient, database: str, method: str, path: str) -> None:
    answer = await couch.ask(method, f"/{database}/{path}", "{}" if method in {"PUT", "POST"} else None, **JSON)
    _check_refusal(answer, 400, "bad_request", "Invalid _local document id.")
    answer = await couch.ask(method, f"/{database}-not/{path}")
    _check_refusal(answer, 404, "not_found", "Database does not exist.")


@pytest.mark.parametrize("document_id", ["_design/", "_local/"])
@in_reactor
async def test_an_id_without_a_name(couch: RawClient, database: str, document_id: str) -> None:
    answer = await couch.ask("POST", f"/{database}", json.dumps({"_id": document_id}), **JSON)
    _check_refusal(answer, 400, "illegal_docid", f"Illegal document id `{document_id}`")


@in_reactor
async def test_revisions_as_clients_write_them(couch: RawClient, database: str) -> None:
    rev = (await couch.ask("PUT", f"/{database}/doc", '{"a":1}')).json["rev"]
    for spelled in (rev.upper(), f"0{rev}"):
        assert (await couch.ask("GET", f"/{database}/doc?rev={spelled}")).json["_rev"] == rev
    answer = await couch.ask("GET", f"/{database}/doc?rev=1-{'z' * 32}")
    _check_refusal(answer, 400, "bad_request", "Invalid rev format")
    _check_refusal(await couch.ask("GET", f"/{database}/doc?rev=1-{'z' * 31}"), 404, "not_found", "missing")
    assert (await couch.ask("PUT", f"/{database}/doc?rev={rev.upper()}", '{"a":2}')).json["rev"][:2] == "2-"


# --- header fields ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "origin"),
    [
        ({}, "http://store.example"),
        ({"x_forwarded_host": "front.example"}, "http://front.example"),
        ({"x_forwarded_host": "front.example:444", "x_forwarded_proto": "https"}, "https://front.example:444"),
        ({"x_forwarded_proto": "HTTPS"}, "http://store.example"),
        ({"x_forwarded_proto": "ftp"}, "http://store.example"),
        ({"x_forwarded_ssl": "on"}, "https://store.example"),
        ({"x_forwarded_ssl": "ON"}, "http://store.example"),
        ({"x_forwarded_ssl": "on", "x_forwarded_proto": "http"}, "https://store.example"),
        ({"forwarded": "host=front.example;proto=https"}, "http://store.example"),
    ],
)
@in_reactor
async def test_locations(couch: RawClient, database: str, fields: dict[str, str], origin: str) -> None:
    put = await couch.ask("PUT", f"/{database}/doc", "{}", **fields)
    assert put.headers["location"] == f"{origin}/{database}/doc"
    put = await couch.ask("PUT", f"/{database}/doc/f?rev={put.json['rev']}", b"x", **fields)
    assert put.headers["location"] == f"{origin}/{database}/doc/f"


@pytest.mark.parametrize("sent", ["abc", "ABC-_09", "a" * 36])
@in_reactor
async def test_a_request_keeps_its_id(couch: RawClient, database: str, sent: str) -> None:
    for target in (f"/{database}", f"/{database}/missing", "/_up"):
        answer = await couch.ask("GET", target, x_couch_request_id=sent)
        assert answer.headers["x-couch-request-id"] == sent


@pytest.mark.parametrize("sent", [None, "a" * 37, "a b", "a,b", "\u00e9"])
@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "", 200), ("GET", "/missing", 404), ("GET", "/%zz", 400), ("FOO", "", 405)]
)
@in_reactor
async def test_a_request_gets_an_id(
    couch: RawClient, database: str, sent: str | None, method: str, path: str, status: int
) -> None:
    fields = {} if sent is None else {"x_couch_request_id": sent}
    answers = [await couch.ask(method, f"/{database}{path}", **fields) for _ in range(2)]
    ids = [answer.headers["x-couch-request-id"] for answer in answers]
    assert [answer.status for answer in answers] == [status] * 2
    assert all(re.fullmatch("[0-9a-f]{10}", each) for each in ids)
    assert len(set(ids)) == 2


@in_reactor
async def test_a_stranger_gets_an_id(couch: RawClient, database: str) -> None:
    answer = await couch.ask("GET", f"/{database}", authorization=None, x_couch_request_id="abc")
    assert (answer.status, answer.headers["x-couch-request-id"]) == (401, "abc")


# --- what clients ask for first -----------------------------------------------------------------------------


@pytest.mark.parametrize(("query", "count"), [("", 1), ("?count=3", 3), ("?count=0", 0), ("?count=1000", 1000)])
@in_reactor
async def test_uuids(couch: RawClient, query: str, count: int) -> None:
    answer = await couch.ask("GET", f"/_uuids{query}", authorization=None)
    uuids = answer.json["uuids"]
    assert (answer.status, len(uuids), len(set(uuids))) == (200, count, count)
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in uuids)
    headers = {name: answer.headers[name] for name in ("cache-control", "pragma", "expires")}
    assert headers == {"cache-control": "no-cache", "pragma": "no-cache", "expires": "Mon, 01 Jan 1990 00:00:00 GMT"}


@pytest.mark.parametrize("count", ["-1", "x", "", "1.5", "+2", "%202", "1001", "99999999999999999999999"])
@in_reactor
async def test_too_many_uuids(couch: RawClient, count: str) -> None:
    answer = await couch.ask("GET", f"/_uuids?count={count}")
    reason = "count parameter too large" if count > "10" and count.isdigit() else "count must be a positive integer"
    _check_refusal(answer, 400, "bad_request", reason)


@in_reactor
async def test_uuids_are_only_read(couch: RawClient) -> None:
    assert (await couch.ask("POST", "/_uuids", "", **JSON)).status == 405


def _user(name: str | None, *roles: str) -> dict[str, Any]:
    return {"name": name, "roles": [*roles]}


_HANDLERS = ["cookie", "default"]


@in_reactor
async def test_the_caller_of_a_request(couch: RawClient) -> None:
    nobody = await couch.ask("GET", "/_session", authorization=None)
    info = {"authentication_handlers": _HANDLERS}
    assert (nobody.status, nobody.json) == (200, {"ok": True, "userCtx": _user(None), "info": info})
    admin = await couch.ask("GET", "/_session")
    user = _user(couch.user, "_admin")
    assert (admin.status, admin.json) == (
        200,
        {"ok": True, "userCtx": user, "info": info | {"authenticated": "default"}},
    )
    head = await couch.ask("HEAD", "/_session", authorization=None)
    assert (head.status, head.headers["content-length"]) == (200, nobody.headers["content-length"])
    assert (await couch.ask("GET", "/_session?basic=true")).json == admin.json
    asked = await couch.ask("GET", "/_session?basic=true", authorization=None)
    _check_refusal(asked, 401, "unauthorized", "Please login.")


def _cookie(answer: Response) -> str:
    return answer.headers["set-cookie"].partition(";")[0]


@pytest.mark.parametrize("form", ["form", "json", "json in gzip", "username"])
@in_reactor
async def test_a_session(couch: RawClient, database: str, form: str) -> None:
    answer = await couch.log_in(form)
    assert (answer.status, answer.json) == (200, {"ok": True, **_user(couch.user, "_admin")})
    attributes = answer.headers["set-cookie"].split("; ")
    assert {"Version=1", "Max-Age=600", "Path=/", "HttpOnly"} <= set(attributes)
    cookie: dict[str, Any] = {"authorization": None, "cookie": f"first=1; {_cookie(answer)}; last=2"}
    found = await couch.ask("GET", "/_session", **cookie)
    assert found.json["userCtx"] == _user(couch.user, "_admin")
    assert found.json["info"]["authenticated"] == "cookie"
    quoted = cookie | {"cookie": 'AuthSession="{}"'.format(_cookie(answer).partition("=")[2])}
    assert (await couch.ask("GET", "/_session", **quoted)).json == found.json
    assert (await couch.ask("PUT", f"/{database}/doc", "{}", **cookie)).status == 201
    assert (await couch.ask("PUT", f"/{database}/other/file", b"x" * 100_000, **cookie)).status == 201
    assert (await couch.ask("GET", f"/{database}/other/file", **cookie)).body == b"x" * 100_000
    ended = await couch.ask("DELETE", "/_session", **cookie)
    assert (ended.status, ended.json, _cookie(ended)) == (200, {"ok": True}, "AuthSession=")


@in_reactor
async def test_a_cookie_comes_before_a_password(couch: RawClient, database: str) -> None:
    cookie = _cookie(await couch.log_in("form"))
    answer = await couch.ask("GET", f"/{database}", authorization="Basic bm9ib2R5Ong=", cookie=cookie)
    assert answer.status == 200


@pytest.mark.parametrize("is_anonymous", [True, False])
@pytest.mark.parametrize("target", ["/_up", "/", "/_session"])
@in_reactor
async def test_a_malformed_cookie(couch: RawClient, target: str, is_anonymous: bool) -> None:
    for value in ("zzzz", "YWFh", "%%%", "YTpi", "a"):
        fields: dict[str, Any] = {"authorization": None} if is_anonymous else {}
        answer = await couch.ask("GET", target, cookie=f"AuthSession={value}", **fields)
        reason = "Malformed AuthSession cookie. Please clear your cookies."
        _check_refusal(answer, 400, "bad_request", reason)


@in_reactor
async def test_a_cookie_that_opens_nothing(couch: RawClient, database: str) -> None:
    """It counts as none."""
    signed = _cookie(await couch.log_in("form"))
    name, _, value = signed.partition("=")
    time = b64decode(value + "=" * (-len(value) % 4), b"-_").split(b":")[1].decode()
    forged = ["", "YTpiOmM", value[:-2] + ("AA" if value[-2:] != "AA" else "BB"), value + "AAAA"]
    assert re.fullmatch("[0-9A-F]{8}", time)
    for each in forged:
        answer = await couch.ask("GET", f"/{database}", authorization=None, cookie=f"{name}={each}")
        _check_refusal(answer, 401, "unauthorized", "You are not authorized to access this db.")
        assert (await couch.ask("GET", f"/{database}", cookie=f"{name}={each}")).status == 200


@in_reactor
async def test_a_wrong_login(couch: RawClient) -> None:
    form = "application/x-www-form-urlencoded"
    # Not the admin's name: CouchDB locks accounts.
    answer = await couch.ask("POST", "/_session", "name=nobody&password=x", authorization=None, content_type=form)
    _check_refusal(answer, 401, "unauthorized", "Name or password is incorrect.")
    assert _cookie(answer) == "AuthSession="
    for body in ("", "password=x"):
        answer = await couch.ask("POST", "/_session", body, authorization=None, content_type=form)
        _check_refusal(answer, 400, "bad_request", "request body must contain a username")
    answer = await couch.ask("POST", "/_session", "name=a&username=b", authorization=None, content_type=form)
    _check_refusal(answer, 400, "bad_request", "request body contains different usernames")
    answer = await couch.ask("POST", "/_session", "{", authorization=None, **JSON)
    _check_refusal(answer, 400, "bad_request", "invalid UTF-8 JSON")


@pytest.mark.parametrize("content_type", [None, "text/plain", "multipart/form-data; boundary=x"])
@in_reactor
async def test_a_login_in_another_form(couch: RawClient, content_type: str | None) -> None:
    fields = {} if content_type is None else {"content_type": content_type}
    answer = await couch.ask("POST", "/_session", "name=a&password=b", authorization=None, **fields)
    reason = "Content-Type must be 'application/x-www-form-urlencoded' or 'application/json'"
    _check_refusal(answer, 415, "bad_content_type", reason)


# --- the store alone ----------------------------------------------------------------------------------------


@in_reactor
async def test_a_database_is_not_deleted_by_if_match(served: ServedStore) -> None:
    """CouchDB deletes it."""
    await served.ask("PUT", "/db")
    answer = await served.ask("DELETE", "/db", if_match='"1-x"')
    reason = "You tried to DELETE a database with an If-Match header. Did you mean to DELETE a document instead?"
    _check_refusal(answer, 400, "bad_request", reason)
    assert (await served.ask("GET", "/db")).status == 200
    assert (await served.ask("DELETE", "/db")).status == 200


@pytest.mark.parametrize("target", ["/db/_design/d", "/db/_design%2Fd", "/db"])
@pytest.mark.parametrize("member", ['"function() {}"', "null"])
@in_reactor
async def test_a_design_document_that_validates(served: ServedStore, target: str, member: str) -> None:
    """The store cannot run it."""
    await served.ask("PUT", "/db")
    text = f'{{"_id":"_design/d","views":{{}},"validate_doc_update":{member}}}'
    answer = await served.ask("POST" if target == "/db" else "PUT", target, text, **JSON)
    assert (answer.status, answer.json["error"]) == (501, "not_implemented")
    assert "validate_doc_update" in answer.json["reason"]
    assert (await served.ask("GET", "/db/_design/d")).status == 404
    for allowed in ("/db/_design/d", "/db/other"):
        nested = '{"a":{"validate_doc_update":1}}' if "_design" in allowed else '{"validate_doc_update":1}'
        assert (await served.ask("PUT", allowed, nested)).status == 201
    rev = (await served.ask("GET", "/db/_design/d")).json["_rev"]
    tombstone = f'{{"_rev":"{rev}","_deleted":true,"validate_doc_update":{member}}}'
    assert (await served.ask("PUT", "/db/_design/d", tombstone)).status == 200


@in_reactor
async def test_a_batch_reports_a_conflict(served: ServedStore) -> None:
    """CouchDB answers 202 before it tries."""
    await served.ask("PUT", "/db")
    assert (await served.ask("PUT", "/db/doc?batch=ok", '{"a":1}')).status == 202
    assert (await served.ask("GET", "/db/doc")).json["a"] == 1
    assert (await served.ask("PUT", "/db/doc?batch=ok", '{"a":2}')).status == 409


@in_reactor
async def test_some_names_of_databases(served: ServedStore) -> None:
    """CouchDB answers 500."""
    answer = await served.ask("GET", "/_all_dbs?keys=[%22a%22,%22b%22]")
    assert (answer.status, answer.json["error"]) == (501, "not_implemented")


@in_reactor
async def test_several_proxies(served: ServedStore) -> None:
    """CouchDB takes the whole field for a host."""
    await served.ask("PUT", "/db")
    fields = {"x_forwarded_host": "outer.example, inner", "x_forwarded_proto": "https, http"}
    put = await served.ask("PUT", "/db/doc", "{}", **fields)
    assert put.headers["location"] == "https://outer.example/db/doc"
    put = await served.ask("PUT", "/db/empty", "{}", x_forwarded_host="")
    assert put.headers["location"] == "http://store.example/db/empty"
