"""
What the couch client relies on, as one suite: run against the embedded store, and against a real CouchDB where there
is one (``tox -e couchdb``).
"""

import gzip
import hashlib
import json
import random
from base64 import b64encode
from collections.abc import Callable

import pytest
from pytest_twisted import ensureDeferred

from tests.servers import Server, reactor
from txcouchdl.couch.client import CouchClient
from txcouchdl.couch.cluster import Cluster
from txcouchdl.couch.document_decoder import DocumentDecoder, KeptField
from txcouchdl.couch.document_reader import DocumentReader
from txcouchdl.couch.documents import Document, Storage
from txcouchdl.couch.errors import AttachmentChanged, RevisionGone, UpstreamRefusedUs
from txcouchdl.couch.inflation import Inflation
from txcouchdl.couch.learned import LearnedIdentities
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.names import AttachmentAddress
from txcouchdl.couch.nodes import Node
from txcouchdl.couch.route import Route
from txcouchdl.couch.source import AttachmentSource, PinnedAttachment
from txcouchdl.couch.transfer import HELD_BACK
from txcouchdl.protocol.ranges import ByteRange

LIMITS = UpstreamLimits()
NOISE = random.Random(0).randbytes(300_000)
TEXT = "".join(f"{number} über alles\n" for number in range(20_000)).encode()


def client_of(server: Server) -> CouchClient:
    documents = DocumentReader(DocumentDecoder(KeptField("n", 1, 100)), LIMITS, reactor)
    return CouchClient(server.node, server.lines, reactor, LIMITS.stall_timeout, documents=documents)


def source_of(
    server: Server, pinned: PinnedAttachment, learned: LearnedIdentities | None = None, *, follows: bool = True
) -> AttachmentSource:
    route = Route(Cluster([client_of(server)], reactor, LIMITS))
    return AttachmentSource(
        route,
        pinned,
        learned or LearnedIdentities(),
        Inflation.of(LIMITS, reactor),
        LIMITS,
        reactor,
        follows=follows,
    )


async def read(
    server: Server, address: AttachmentAddress, document: Document, byte_range: ByteRange | None = None
) -> bytes:
    stub = document.attachment(address.attachment)
    assert stub is not None
    body: list[bytes] = []
    source = source_of(server, PinnedAttachment(address, document.rev, stub), follows=False)
    reader = await source.open(None if byte_range is None else (byte_range,))
    await reader.deliver(body.append)
    return b"".join(body)


async def current(server: Server, document_id: str) -> Document:
    document = await client_of(server).document(server.database, document_id)
    assert document is not None
    return document


@ensureDeferred
async def test_a_document_and_its_revisions(server: Server) -> None:
    first = await server.put_document("d", {"download_token": "x", "n": "one"})
    second = await server.put_document("d", {"_rev": first, "download_token": "y", "n": "two"})
    client = client_of(server)
    document = await current(server, "d")
    assert (document.id, document.rev, document.fields) == ("d", second, {"n": "two"})
    old = await client.document(server.database, "d", first)
    assert old is not None
    assert old.fields == {"n": "one"}
    assert await client.document(server.database, "d", "9-" + "0" * 32) is None
    assert await client.document(server.database, "d", "not a rev") is None
    await server.compact("d", first)
    assert await client.document(server.database, "d", first) is None


@ensureDeferred
async def test_documents_that_are_not_there(server: Server) -> None:
    client = client_of(server)
    rev = await server.put_document("gone", {"a": 1})
    tombstone = await server.delete_document("gone", rev)
    assert await client.document(server.database, "gone") is None
    assert await client.document(server.database, "never") is None
    assert await client.document("no-such-database", "d") is None
    buried = await client.document(server.database, "gone", tombstone)
    assert buried is not None
    assert buried.rev == tombstone
    assert buried.attachment("f") is None


@ensureDeferred
@pytest.mark.parametrize(
    ("content_type", "encode", "storage"),
    [
        ("application/octet-stream", None, Storage.IDENTITY),
        ("image/svg+xml", None, Storage.IDENTITY),
        ("text/plain; charset=utf-8", None, Storage.COMPRESSED),
        ("Application/JSON", None, Storage.COMPRESSED),
        ("application/octet-stream", gzip.compress, Storage.ENCODED),
        ("text/plain", gzip.compress, Storage.ENCODED),
    ],
)
async def test_every_storage_whole_and_in_ranges(
    server: Server, content_type: str, encode: Callable[[bytes], bytes] | None, storage: Storage
) -> None:
    data = TEXT
    rev = await server.put_document("d", {})
    headers = {} if encode is None else {"Content_Encoding": "gzip"}
    await server.put_attachment("d", "f", data if encode is None else encode(data), rev, content_type, **headers)
    address = AttachmentAddress(server.database, "d", "f")
    document = await current(server, "d")
    stub = document.attachment("f")
    assert stub is not None
    assert (stub.storage, stub.content_type) == (storage, content_type)
    assert stub.length == (None if storage is Storage.ENCODED else len(data))
    assert await read(server, address, document) == data
    if storage is not Storage.ENCODED:
        last = len(data) - 1
        for first, end in [(0, 0), (0, last), (1, last), (last, last), (77, 100_000), (last - 5000, last)]:
            assert await read(server, address, document, ByteRange(first, end)) == data[first : end + 1]


@ensureDeferred
@pytest.mark.parametrize("length", [1, 2, HELD_BACK - 1, HELD_BACK, HELD_BACK + 1, 4096, 65_536, 300_000])
async def test_every_length(server: Server, length: int) -> None:
    data = NOISE[:length]
    rev = await server.put_document("d", {})
    await server.put_attachment("d", "f", data, rev, "application/octet-stream")
    document = await current(server, "d")
    address = AttachmentAddress(server.database, "d", "f")
    assert await read(server, address, document) == data
    assert await read(server, address, document, ByteRange(length - 1, length - 1)) == data[-1:]


@ensureDeferred
async def test_empty_attachments(server: Server) -> None:
    rev = await server.put_document("d", {})
    rev = await server.put_attachment("d", "bin", b"", rev, "application/octet-stream")
    await server.put_attachment("d", "txt", b"", rev, "text/plain")
    document = await current(server, "d")
    stubs = [document.attachment(name) for name in ("bin", "txt")]
    assert [stub and (stub.length, stub.storage) for stub in stubs] == [(0, Storage.IDENTITY), (0, Storage.COMPRESSED)]


@ensureDeferred
@pytest.mark.parametrize(
    "document_id", ["a/b", "ü€", "p+q r", "100%", "a#b?c", "_design/x", ".", "..", "a%2Fb", "x:y@z"]
)
async def test_odd_names_lead_to_what_they_name(server: Server, document_id: str) -> None:
    client = client_of(server)
    rev = await server.put_document(document_id, {})
    names = [
        "a b",
        "a+b",
        "dir/sub/f",
        "100%",
        "a%2Fb",
        "ü",
        "u\u0308",
        "🎉",
        "q?x=1",
        "a#b",
        "..",
        "x/../y",
        'q"q',
        "a\nb",
        "~",
    ]
    for name in names:
        rev = await server.put_attachment(document_id, name, name.encode(), rev, "application/octet-stream")
    document = await client.document(server.database, document_id)
    assert document is not None
    for name in names:
        address = AttachmentAddress(server.database, document_id, name)
        assert await read(server, address, document) == name.encode()


@ensureDeferred
async def test_a_read_is_pinned_to_its_revision(server: Server) -> None:
    rev = await server.put_document("d", {})
    old_rev = await server.put_attachment("d", "f", b"old", rev, "application/octet-stream")
    old = await current(server, "d")
    await server.put_attachment("d", "f", b"newer", old_rev, "application/octet-stream")
    address = AttachmentAddress(server.database, "d", "f")
    assert await read(server, address, old) == b"old"
    assert await read(server, address, await current(server, "d")) == b"newer"
    await server.compact("d", old_rev)
    with pytest.raises(RevisionGone):
        await read(server, address, old)


@ensureDeferred
async def test_a_source_follows_the_same_attachment_and_no_other(server: Server) -> None:
    rev = await server.put_document("d", {})
    old_rev = await server.put_attachment("d", "f", NOISE, rev, "application/octet-stream")
    document = await current(server, "d")
    stub = document.attachment("f")
    assert stub is not None
    address = AttachmentAddress(server.database, "d", "f")
    pinned = PinnedAttachment(address, document.rev, stub)
    source = source_of(server, pinned)
    kept = {"_attachments": {"f": {"stub": True, "revpos": stub.revpos, "digest": stub.digest.text}}}
    new_rev = await server.put_document("d", {"_rev": document.rev, **kept, "n": "two"})
    await server.compact("d", old_rev)
    body: list[bytes] = []
    await (await source.open(None)).deliver(body.append)
    assert b"".join(body) == NOISE
    newest = await server.put_attachment("d", "f", b"another", new_rev, "application/octet-stream")
    await server.compact("d", new_rev)
    with pytest.raises(AttachmentChanged):
        await source.open(None)
    await server.delete_document("d", newest)
    with pytest.raises(AttachmentChanged):
        await source.open(None)


@ensureDeferred
async def test_wrong_credentials(server: Server) -> None:
    intruder = CouchClient(
        Node.of(server.node.base, "nobody-of-that-name", "wrong"), server.lines, reactor, LIMITS.stall_timeout
    )
    with pytest.raises(UpstreamRefusedUs):
        await intruder.document(server.database, "d")


@ensureDeferred
@pytest.mark.parametrize("is_encoded", [True, False])
async def test_what_was_read_once_is_remembered(server: Server, is_encoded: bool) -> None:
    rev = await server.put_document("d", {})
    if is_encoded:
        await server.put_attachment("d", "f", gzip.compress(TEXT), rev, "text/plain", Content_Encoding="gzip")
    else:
        await server.put_attachment("d", "f", TEXT, rev, "text/plain")
    document = await current(server, "d")
    stub = document.attachment("f")
    assert stub is not None
    learned = LearnedIdentities()
    address = AttachmentAddress(server.database, "d", "f")
    assert learned.completed(address.document, stub) == stub
    assert stub.sha256 is None, "what a stub tells is of the gzip bytes"
    source = source_of(server, PinnedAttachment(address, document.rev, stub), learned)
    await (await source.open(None)).deliver(lambda _: None)
    completed = learned.completed(address.document, stub)
    assert (completed.length, completed.sha256) == (len(TEXT), hashlib.sha256(TEXT).digest())


async def is_ours(server: Server) -> bool:
    vendor = (await server.call("GET", "/"))["vendor"]
    return "txcouchdl" in vendor["name"]


@ensureDeferred
async def test_our_own_store_tells_the_sha_256(server: Server) -> None:
    """And CouchDB does not, which knows none."""
    rev = await server.put_document("d", {})
    await server.put_attachment("d", "f", NOISE, rev, "application/octet-stream")
    stub = (await current(server, "d")).attachment("f")
    assert stub is not None
    assert stub.sha256 == (hashlib.sha256(NOISE).digest() if await is_ours(server) else None)


@ensureDeferred
@pytest.mark.parametrize("way", ["PUT", "_bulk_docs", "_bulk_docs with its own revisions", "multipart"])
async def test_nobody_is_believed_who_says_which_sha_256_it_is(server: Server, way: str) -> None:
    """A stub or an inline attachment is a client's, and becomes the server's."""
    lie = b64encode(bytes(32)).decode()
    rev = await server.put_document("d", {})
    await server.put_attachment("d", "kept", b"kept", rev, "application/octet-stream")
    path = f"/{server.database}/d"
    document = await server.call("GET", f"{path}?att_encoding_info=true")
    document["_attachments"]["kept"]["sha256"] = lie
    new = {"content_type": "application/octet-stream", "sha256": lie}
    document["_attachments"]["new"] = new | {"data": b64encode(b"new").decode()}
    if way == "PUT":
        await server.call("PUT", path, json.dumps(document).encode(), 201)
    elif way == "multipart":
        document["_attachments"]["new"] = new | {"follows": True, "length": 3}
        related = b"--x\r\nContent-Type: application/json\r\n\r\n%b\r\n--x\r\n\r\nnew\r\n--x--"
        body = related % json.dumps(document).encode()
        await server.call("PUT", path, body, Content_Type='multipart/related; boundary="x"')
    else:
        edits = {} if way == "_bulk_docs" else {"new_edits": False}
        await server.call("POST", f"/{server.database}/_bulk_docs", json.dumps({"docs": [document], **edits}).encode())
    for query in ("att_encoding_info=true", "att_encoding_info=true&attachments=true"):
        read = await server.call("GET", f"{path}?{query}", Accept="application/json")
        # Our store does not know the second one, nor some of the ways: it keeps what it had.
        told = {name: stub.get("sha256") for name, stub in read.get("_attachments", {}).items()}
        right = {name: b64encode(hashlib.sha256(name.encode()).digest()).decode() for name in told}
        assert told == (right if await is_ours(server) else dict.fromkeys(told))
        assert await is_ours(server) or len(told) > 0
