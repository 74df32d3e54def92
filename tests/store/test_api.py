"""The API where the recording has nothing: what the manual's examples do, and what is not covered."""

import gzip
import hashlib
import json
from base64 import b64encode

import pytest

from tests.store.serving import Response, ServedStore, in_reactor


async def _database(served: ServedStore) -> None:
    assert (await served.ask("PUT", "/db")).status == 201


def _check_refusal(answer: Response, status: int, error: str) -> None:
    assert (answer.status, answer.json["error"]) == (status, error)
    assert answer.headers["content-type"] == "application/json"
    assert answer.body.endswith(b"}\n")
    assert answer.is_whole


@in_reactor
async def test_databases(served: ServedStore) -> None:
    for name in ("b", "a%2Fb", "a"):
        assert (await served.ask("PUT", f"/{name}")).status == 201
    assert (await served.ask("GET", "/_all_dbs")).json == ["a", "a/b", "b"]
    await served.ask("PUT", "/a/doc", "{}")
    assert (await served.ask("DELETE", "/a")).json == {"ok": True}
    assert (await served.ask("GET", "/_all_dbs")).json == ["a/b", "b"]
    _check_refusal(await served.ask("DELETE", "/a"), 404, "not_found")
    _check_refusal(await served.ask("GET", "/a"), 404, "not_found")
    assert (await served.ask("PUT", "/a")).status == 201
    _check_refusal(await served.ask("GET", "/a/doc"), 404, "not_found")


@in_reactor
async def test_deleting_a_database_keeps_what_others_share(served: ServedStore) -> None:
    for name in ("a", "b"):
        await served.ask("PUT", f"/{name}")
        await served.ask("PUT", f"/{name}/doc/shared", b"shared")
        await served.ask("PUT", f"/{name}/own/file", name)
    assert len(served.files("blobs")) == 3
    await served.ask("DELETE", "/a")
    assert len(served.files("blobs")) == 2
    assert (await served.ask("GET", "/b/doc/shared")).body == b"shared"


@in_reactor
async def test_posted_documents(served: ServedStore) -> None:
    await _database(served)
    named = await served.ask("POST", "/db", '{"_id":"n/1","a":1}', content_type="application/json; charset=utf-8")
    assert (named.status, named.json["id"]) == (201, "n/1")
    assert named.headers["location"] == "http://store.example/db/n%2F1"
    made_up = await served.ask("POST", "/db", '{"a":1}', content_type="application/json")
    assert (await served.ask("GET", f"/db/{made_up.json['id']}")).json["a"] == 1
    assert made_up.headers["etag"] == f'"{made_up.json["rev"]}"'
    _check_refusal(await served.ask("POST", "/db", "{}"), 415, "bad_content_type")
    _check_refusal(await served.ask("POST", "/db/_compact", ""), 415, "bad_content_type")
    assert (await served.ask("GET", "/db")).json["doc_count"] == 2


@in_reactor
async def test_the_life_of_a_document(served: ServedStore) -> None:
    await _database(served)
    first = (await served.ask("PUT", "/db/doc", '{"a":1,"_attachments":{"f":{"data":"eA=="}}}')).json["rev"]
    _check_refusal(await served.ask("PUT", "/db/doc", '{"a":2}'), 409, "conflict")
    _check_refusal(await served.ask("DELETE", "/db/doc"), 409, "conflict")
    _check_refusal(await served.ask("DELETE", "/db/nope"), 404, "not_found")
    gone = (await served.ask("DELETE", "/db/doc", if_match=f'"{first}"')).json["rev"]
    _check_refusal(await served.ask("DELETE", f"/db/doc?rev={gone}"), 404, "not_found")
    _check_refusal(await served.ask("DELETE", "/db/doc/f"), 404, "not_found")
    third = (await served.ask("PUT", "/db/doc/g", b"y")).json["rev"]
    assert third.startswith("3-")
    found = (await served.ask("GET", "/db/doc?revs=true&revs_info=true")).json
    assert list(found["_attachments"]) == ["g"]
    assert found["_revisions"] == {"start": 3, "ids": [rev.partition("-")[2] for rev in (third, gone, first)]}
    assert found["_revs_info"] == [
        {"rev": third, "status": "available"},
        {"rev": gone, "status": "deleted"},
        {"rev": first, "status": "available"},
    ]
    assert (await served.ask("GET", f"/db/doc?rev={gone}&latest=true")).json["_rev"] == third


@in_reactor
async def test_the_same_edit_has_the_same_revision(served: ServedStore) -> None:
    await _database(served)
    revs = {(await served.ask("PUT", f"/db/{name}", '{"a":1}')).json["rev"] for name in ("x", "y")}
    assert len(revs) == 1
    other = (await served.ask("PUT", "/db/z", '{"a":2}')).json["rev"]
    assert other not in revs


@in_reactor
async def test_another_attachment_makes_another_revision(served: ServedStore) -> None:
    await _database(served)
    edits = [("a", b"x", "text/plain"), ("b", b"x", "text/plain"), ("a", b"y", "text/plain"), ("a", b"x", "x/y")]
    revs = set()
    for number, (name, body, content_type) in enumerate(edits):
        written = await served.ask("PUT", f"/db/{number}/{name}", body, content_type=content_type)
        revs.add(written.json["rev"])
    assert len(revs) == len(edits)


@in_reactor
async def test_compaction(served: ServedStore) -> None:
    await _database(served)
    old = (await served.ask("PUT", "/db/doc/f", b"old")).json["rev"]
    new = (await served.ask("PUT", f"/db/doc/f?rev={old}", b"new")).json["rev"]
    assert (await served.ask("GET", f"/db/doc/f?rev={old}")).body == b"old"
    assert len(served.files("blobs")) == 2
    answer = await served.ask("POST", "/db/_compact", "", content_type="application/json")
    assert (answer.status, answer.json) == (202, {"ok": True})
    for target in ("/db/doc", "/db/doc/f"):
        missing = await served.ask("GET", f"{target}?rev={old}")
        assert (missing.status, missing.json["reason"]) == (404, "missing")
    assert (await served.ask("GET", "/db/doc/f")).body == b"new"
    assert len(served.files("blobs")) == 1
    info = (await served.ask("GET", "/db/doc?revs_info=true")).json["_revs_info"]
    assert info == [{"rev": new, "status": "available"}, {"rev": old, "status": "missing"}]
    _check_refusal(await served.ask("PUT", f"/db/doc/f?rev={old}", b"x"), 409, "not_found")
    nowhere = await served.ask("POST", "/nodb/_compact", "", content_type="application/json")
    _check_refusal(nowhere, 404, "not_found")


@in_reactor
async def test_stubs_keep_attachments(served: ServedStore) -> None:
    await _database(served)
    first = (await served.ask("PUT", "/db/doc/f.txt", b"text", content_type="text/plain")).json["rev"]
    document = (await served.ask("GET", "/db/doc")).json
    inline = {"data": b64encode(b"more").decode(), "content_type": "x/y"}
    document["_attachments"] |= {"g": inline}
    assert (await served.ask("PUT", "/db/doc", json.dumps(document))).status == 201
    kept = (await served.ask("GET", "/db/doc?att_encoding_info=true")).json["_attachments"]
    assert (kept["f.txt"]["revpos"], kept["g"]["revpos"]) == (1, 2)
    assert ("encoding" in kept["f.txt"], "encoding" in kept["g"]) == (True, False)
    assert (await served.ask("GET", "/db/doc/f.txt")).body == b"text"
    assert (await served.ask("GET", f"/db/doc/g?rev={first}")).status == 404
    document = (await served.ask("GET", "/db/doc")).json
    document["_attachments"]["f.txt"]["revpos"] = 2
    _check_refusal(await served.ask("PUT", "/db/doc", json.dumps(document)), 412, "missing_stub")


@in_reactor
async def test_stubs_keep_nothing_of_a_tombstone(served: ServedStore) -> None:
    """CouchDB answers 500."""
    await _database(served)
    await served.ask("PUT", "/db/doc", '{"_deleted":true,"_attachments":{"f":{"data":"eA=="}}}')
    answer = await served.ask("PUT", "/db/doc", '{"_attachments":{"f":{"stub":true}}}')
    _check_refusal(answer, 412, "missing_stub")
    assert (await served.ask("PUT", "/db/doc", "{}")).status == 201


@in_reactor
async def test_stubs_tell_the_sha_256_of_what_is_stored(served: ServedStore) -> None:
    """To who asks how it is stored, and not before: CouchDB does not know it."""
    await _database(served)
    rev = (await served.ask("PUT", "/db/doc/f.txt", b"text" * 99, content_type="text/plain")).json["rev"]
    await served.ask("PUT", f"/db/doc/f.bin?rev={rev}", b"bytes", content_type="a/b")
    told = (await served.ask("GET", "/db/doc?att_encoding_info=true")).json["_attachments"]
    stored = (await served.ask("GET", "/db/doc/f.txt", Accept_Encoding="gzip")).body
    assert gzip.decompress(stored) == b"text" * 99
    assert {name: stub["sha256"] for name, stub in told.items()} == {
        "f.txt": b64encode(hashlib.sha256(stored).digest()).decode(),
        "f.bin": b64encode(hashlib.sha256(b"bytes").digest()).decode(),
    }
    for query in ("", "?att_encoding_info=false", "?att_encoding_info=maybe", "?revs=true"):
        stubs = (await served.ask("GET", f"/db/doc{query}")).json["_attachments"]
        assert not [name for name, stub in stubs.items() if "sha256" in stub]


@pytest.mark.parametrize("lie", [b64encode(bytes(32)).decode(), None, 5, {"a": []}])
@in_reactor
async def test_nobody_is_believed_who_says_which_sha_256_it_is(served: ServedStore, lie: object) -> None:
    """In a stub, in an attachment's own bytes, or in a member of the document that looks like one."""
    await _database(served)
    await served.ask("PUT", "/db/doc/kept", b"kept", content_type="a/b")
    document = (await served.ask("GET", "/db/doc?att_encoding_info=true")).json
    document["_attachments"]["kept"]["sha256"] = lie
    document["_attachments"]["new"] = {"data": b64encode(b"new").decode(), "content_type": "a/b", "sha256": lie}
    assert (await served.ask("PUT", "/db/doc", json.dumps(document | {"sha256": lie}))).status == 201
    read = (await served.ask("GET", "/db/doc?att_encoding_info=true")).json
    assert {name: stub["sha256"] for name, stub in read["_attachments"].items()} == {
        name: b64encode(hashlib.sha256(name.encode()).digest()).decode() for name in ("kept", "new")
    }


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/_utils/"),
        ("PUT", "/_users"),
        ("POST", "/_replicate"),
        ("GET", "/db/_all_docs"),
        ("POST", "/db/_bulk_docs"),
        ("GET", "/db/_changes?feed=continuous"),
        ("POST", "/db/_find"),
        ("GET", "/db/_security"),
        ("GET", "/db/_local/x"),
        ("PUT", "/db/_local%2Fx"),
        ("GET", "/db/_design/d/_view/v"),
        ("GET", "/db/doc?attachments=true"),
        ("GET", "/db/doc?atts_since=[]"),
        ("GET", "/db/doc?open_revs=all"),
        ("GET", "/db/doc?local_seq=true"),
        ("PUT", "/db/doc?new_edits=false"),
        ("COPY", "/db/doc"),
        ("POST", "/db/doc"),
    ],
)
@in_reactor
async def test_what_is_not_covered_says_so(served: ServedStore, method: str, target: str) -> None:
    await _database(served)
    answer = await served.ask(method, target, None if method == "GET" else "{}")
    _check_refusal(answer, 501, "not_implemented")
    assert "CouchDB does" in answer.json["reason"]


@in_reactor
async def test_multipart_documents_are_not_covered(served: ServedStore) -> None:
    await _database(served)
    answer = await served.ask("PUT", "/db/doc", "--x", content_type="Multipart/Related; boundary=x")
    _check_refusal(answer, 501, "not_implemented")


@pytest.mark.parametrize(
    ("target", "methods"),
    [
        ("/", "GET,HEAD"),
        ("/db", "DELETE,GET,HEAD,POST,PUT"),
        ("/db/_compact", "POST"),
        ("/db/d/f", "DELETE,GET,HEAD,PUT"),
    ],
)
@in_reactor
async def test_methods(served: ServedStore, target: str, methods: str) -> None:
    answer = await served.ask("PATCH", target)
    _check_refusal(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == methods


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/db/doc", "You are not authorized to access this db."),
        ("/nodb", "You are not authorized to access this db."),
        ("/_all_dbs", "You are not a server admin."),
        ("/_session/x", "You are not a server admin."),
    ],
)
@in_reactor
async def test_nothing_is_told_without_credentials(served: ServedStore, target: str, reason: str) -> None:
    await _database(served)
    answer = await served.ask("GET", target, authorization=None)
    _check_refusal(answer, 401, "unauthorized")
    assert answer.json["reason"] == reason
    assert "www-authenticate" not in answer.headers


@in_reactor
async def test_wrong_credentials_are_refused_everywhere(served: ServedStore) -> None:
    for target in ("/", "/_up", "/db"):
        _check_refusal(await served.ask("GET", target, authorization="Basic YWRtOng="), 401, "unauthorized")


@in_reactor
async def test_no_two_bodies_share_a_file_by_md5(served: ServedStore) -> None:
    """Two blocks with one MD5 (Wang and Yu, 2004)."""
    one = bytes.fromhex(
        "d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f89"
        "55ad340609f4b30283e488832571415a085125e8f7cdc99fd91dbdf280373c5b"
        "d8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0"
        "e99f33420f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70"
    )
    changed = {19: 0x80, 45: 0x80, 59: 0x80, 83: 0x80, 109: 0x80, 123: 0x80}
    other = bytes(byte ^ changed.get(place, 0) for place, byte in enumerate(one))
    await _database(served)
    await served.ask("PUT", "/db/a/f", one)
    await served.ask("PUT", "/db/b/f", other)
    first, second = await served.ask("GET", "/db/a/f"), await served.ask("GET", "/db/b/f")
    assert first.headers["etag"] == second.headers["etag"]
    assert (first.body, second.body) == (one, other)
