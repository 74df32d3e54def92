"""Documents and stubs: what CouchDB writes is understood, and nothing else is, whatever it is."""

import hashlib
import json
import math
from base64 import b64encode
from typing import Any, Final

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests import strategies
from txcouchdl.couch.document_decoder import DocumentDecoder, KeptField
from txcouchdl.couch.documents import (
    SMALL_DOCUMENT,
    AttachmentStub,
    BadDocument,
    Digest,
    Document,
    Storage,
    is_revision,
    parse_stub,
)
from txcouchdl.couch.errors import BadUpstream, UnreadableDocument
from txcouchdl.couch.steps import at_once

_REV: Final = "20-0a44845028a2d5499daf90fb7e959ab8"
_STUB: Final[dict[str, Any]] = {
    "content_type": "audio/mpeg",
    "revpos": 4,
    "digest": "md5-nYqIKN7E1NmHdMQ4kdH5Eg==",
    "length": 40000,
    "stub": True,
}

# CouchDB 3.5.2's own words: exchange ``doc.att_encoding_info`` of the recording, four of its stubs.
_RECORDED: Final = (
    b'{"_id":"types","_rev":"20-0a44845028a2d5499daf90fb7e959ab8","download_token":"s3cret","title":"types",'
    b'"_attachments":{"gz.bin":{"content_type":"application/octet-stream","revpos":16,'
    b'"digest":"md5-1ZX0Jlk3yshzxXJe9oPuQw==","length":614,"stub":true,"encoding":"gzip","encoded_length":614},'
    b'"empty.txt":{"content_type":"text/plain","revpos":14,"digest":"md5-cCkGbCesb17xjWYNV0GXmg==","length":0,'
    b'"stub":true,"encoding":"gzip","encoded_length":20},'
    b'"h.html":{"content_type":"text/html; charset=utf-8","revpos":8,"digest":"md5-6y8UZMl5lgUEnPriL3LVnw==",'
    b'"length":260,"stub":true,"encoding":"gzip","encoded_length":36},'
    b'"v.mp4":{"content_type":"video/mp4","revpos":3,"digest":"md5-3IX8fosrGklBjeSPh1WzuQ==","length":1048576,'
    b'"stub":true}}}\n'
)


_DECODER: Final = DocumentDecoder(KeptField("download_token", 3, 1000))


def parse_document(body: bytes, document_id: str) -> Document:
    """Decode a document, small or large."""
    if len(body) <= SMALL_DOCUMENT:
        return _DECODER.decode(body, document_id)
    return at_once(_DECODER.steps(body, document_id))


def _document(stubs: object) -> Document:
    fields = {"_id": "doc", "_rev": _REV, "_attachments": stubs}
    return parse_document(json.dumps(fields).encode("ascii"), "doc")


# --- what CouchDB writes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content_type", "etag", "storage", "stored_length", "length"),
    [
        ("v.mp4", "video/mp4", "3IX8fosrGklBjeSPh1WzuQ==", Storage.IDENTITY, 1048576, 1048576),
        ("h.html", "text/html; charset=utf-8", "6y8UZMl5lgUEnPriL3LVnw==", Storage.COMPRESSED, 36, 260),
        ("empty.txt", "text/plain", "cCkGbCesb17xjWYNV0GXmg==", Storage.COMPRESSED, 20, 0),
        ("gz.bin", "application/octet-stream", "1ZX0Jlk3yshzxXJe9oPuQw==", Storage.ENCODED, 614, None),
    ],
)
def test_a_recorded_document(
    name: str, content_type: str, etag: str, storage: Storage, stored_length: int, length: int | None
) -> None:
    document = parse_document(_RECORDED, "types")
    assert (document.id, document.rev) == ("types", _REV)
    assert document.fields["download_token"] == "s3cret"
    stub = document.attachment(name)
    assert stub is not None
    assert (stub.name, stub.content_type, stub.digest.base64) == (name, content_type, etag)
    assert (stub.storage, stub.stored_length, stub.length) == (storage, stored_length, length)
    assert stub.revpos is not None
    assert stub.revpos > 0
    assert name in document.attachment_names()


def test_a_document_may_have_no_attachments() -> None:
    document = parse_document(b'{"_id": "doc", "_rev": "1-abc"}', "doc")
    assert document.attachment("f") is None
    assert document.attachment_names() == []


def test_a_recorded_document_has_no_others() -> None:
    document = parse_document(_RECORDED, "types")
    for name in ("", "V.MP4", "v.mp4 ", "v", "v.mp4/", "_attachments", "download_token"):
        assert document.attachment(name) is None


@pytest.mark.parametrize("name", ["_view/x", "_under.bin", "_", "_rewrite"])
def test_no_attachment_begins_with_an_underscore(name: str) -> None:
    """Below a design document these are handlers, whatever somebody has written into the object."""
    document = _document({name: _STUB})
    assert document.attachment(name) is None
    assert document.attachment_names() == []


@given(strategies.stub_objects(), strategies.hostile_names)
def test_what_couchdb_writes_is_understood(fields: dict[str, Any], name: str) -> None:
    stub = parse_stub(name, fields)
    encoded_length = fields.get("encoded_length")
    assert (stub.name, stub.content_type, stub.digest.text) == (name, fields["content_type"], fields["digest"])
    if encoded_length is None:
        assert (stub.storage, stub.stored_length, stub.length) == (Storage.IDENTITY, fields["length"], fields["length"])
    elif encoded_length == fields["length"]:
        # Nothing is nothing in any coding.
        length = None if encoded_length else 0
        assert (stub.storage, stub.stored_length, stub.length) == (Storage.ENCODED, encoded_length, length)
    else:
        assert (stub.storage, stub.stored_length, stub.length) == (Storage.COMPRESSED, encoded_length, fields["length"])


def test_a_content_type_may_be_missing() -> None:
    assert parse_stub("f", {**_STUB, "content_type": None}).content_type is None
    assert parse_stub("f", {key: _STUB[key] for key in ("digest", "length")}).content_type is None


@given(strategies.stubs(), strategies.stubs())
def test_the_same_attachment_is_the_same_bytes_in_the_same_storage(one: AttachmentStub, other: AttachmentStub) -> None:
    renamed = attrs.evolve(one, name=other.name, content_type=other.content_type)
    assert one.is_same_attachment(renamed)
    assert not one.is_same_attachment(attrs.evolve(renamed, stored_length=one.stored_length + 1))
    # Where the document does not tell the length, it may have been learned, or forgotten, of one of them.
    is_told = one.storage is not Storage.ENCODED
    assert one.is_same_attachment(attrs.evolve(renamed, length=(one.length or 0) + 1)) is not is_told
    for storage in set(Storage) - {one.storage}:
        assert not one.is_same_attachment(attrs.evolve(renamed, storage=storage))
    assert one.is_same_attachment(attrs.evolve(renamed, digest=other.digest)) == (one.digest == other.digest)


@pytest.mark.parametrize("storage", list(Storage))
def test_what_is_known_to_be_other_bytes_is_another_attachment(storage: Storage) -> None:
    """An MD5 may be that of two: somebody made them so."""
    one = AttachmentStub("f", None, Digest(bytes(16)), storage, 5, 7)
    told = attrs.evolve(one, sha256=bytes(32))
    assert told.is_same_attachment(told)
    assert told.is_same_attachment(one)
    assert one.is_same_attachment(told)
    assert not told.is_same_attachment(attrs.evolve(one, sha256=bytes(31) + b"\1"))


# --- what our own store tells beside ------------------------------------------------------------------------

_SHA256: Final = hashlib.sha256(b"what is stored").digest()
_SHA256_TEXT: Final = b64encode(_SHA256).decode("ascii")


def test_a_sha256_of_what_is_stored_as_it_is() -> None:
    assert parse_stub("f", _STUB).sha256 is None
    assert parse_stub("f", _STUB | {"sha256": _SHA256_TEXT}).sha256 == _SHA256


@pytest.mark.parametrize("encoded_length", [40000, 36])
def test_a_sha256_of_gzip_is_not_that_of_what_is_sent(encoded_length: int) -> None:
    stub = _STUB | {"sha256": _SHA256_TEXT, "encoding": "gzip", "encoded_length": encoded_length}
    assert parse_stub("f", stub).sha256 is None


@pytest.mark.parametrize("encoding", [{}, {"encoding": "gzip", "encoded_length": 20}])
def test_the_sha256_of_nothing_is_known(encoding: dict[str, Any]) -> None:
    for said in ({}, {"sha256": _SHA256_TEXT}):
        assert parse_stub("f", _STUB | {"length": 0} | encoding | said).sha256 == hashlib.sha256(b"").digest()


@given(
    strategies.json_values
    | st.sampled_from([1, None, [_SHA256_TEXT], f"sha256-{_SHA256_TEXT}", f" {_SHA256_TEXT}", f"{_SHA256_TEXT}\n"])
    | st.sampled_from([_SHA256.hex(), _SHA256_TEXT[:-1], _SHA256_TEXT + "=", _SHA256_TEXT.replace("/", "_") + "_"])
    | st.sampled_from([b64encode(_SHA256[:-1]).decode(), b64encode(_SHA256 + b"!").decode(), "\uff21" * 43 + "="])
    | st.sampled_from([f"{_SHA256_TEXT[:-2]}{stray}=" for stray in "BDFZbz159+/"])
)
def test_what_is_no_sha256_is_as_good_as_absent(said: Any) -> None:
    assert parse_stub("f", _STUB | {"sha256": said}) == parse_stub("f", _STUB)


@given(st.binary(min_size=32, max_size=32))
def test_every_sha256_is_read(sha256: bytes) -> None:
    assert parse_stub("f", _STUB | {"sha256": b64encode(sha256).decode()}).sha256 == sha256


# --- stubs of any kind --------------------------------------------------------------------------------------


def _is_length(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


@given(strategies.mutated_stub_objects())
@example({**_STUB, "length": True})
@example({**_STUB, "encoding": "gzip", "encoded_length": 40000.0})
def test_any_stub_is_understood_or_bad(fields: Any) -> None:
    try:
        stub = parse_stub("f", fields)
    except BadDocument:
        return
    assert isinstance(fields, dict)
    assert _is_length(fields["length"])
    assert fields.get("content_type") is None or isinstance(fields["content_type"], str)
    assert stub.content_type == fields.get("content_type")
    assert len(stub.digest.md5) == 16
    assert stub.digest.text == fields["digest"]
    if fields.get("encoding", "identity") == "identity":
        assert stub.storage is Storage.IDENTITY
        assert stub.length == stub.stored_length == fields["length"]
    else:
        assert fields["encoding"] == "gzip"
        assert _is_length(fields["encoded_length"])
        assert stub.stored_length == fields["encoded_length"]
        is_known = fields["encoded_length"] != fields["length"]
        assert (stub.storage, stub.length) == (
            (Storage.COMPRESSED, fields["length"]) if is_known else (Storage.ENCODED, None if fields["length"] else 0)
        )


@pytest.mark.parametrize("key", ["length", "encoded_length"])
@pytest.mark.parametrize(
    "value", [None, -1, 2**63, 10**30, True, False, 0.0, 31.0, math.nan, math.inf, "31", "", [], [31], {}, {"31": 31}]
)
def test_what_is_no_length(key: str, value: object) -> None:
    with pytest.raises(BadDocument, match=f"usable {key}$"):
        parse_stub("f", {**_STUB, "encoding": "gzip", "encoded_length": 7, key: value})


@pytest.mark.parametrize(("length", "encoded_length"), [(0, 2**63 - 1), (2**63 - 1, 0), (1, 0), (0, 1)])
def test_the_extreme_lengths(length: int, encoded_length: int) -> None:
    stub = parse_stub("f", {**_STUB, "length": length, "encoding": "gzip", "encoded_length": encoded_length})
    assert (stub.storage, stub.stored_length, stub.length) == (Storage.COMPRESSED, encoded_length, length)


@pytest.mark.parametrize("missing", ["length", "digest"])
def test_a_stub_has_a_length_and_a_digest(missing: str) -> None:
    with pytest.raises(BadDocument, match=missing):
        parse_stub("f", {key: value for key, value in _STUB.items() if key != missing})


def test_gzip_has_an_encoded_length() -> None:
    """Without ``att_encoding_info`` CouchDB tells neither: then gzip would be taken for identity, and not half."""
    with pytest.raises(BadDocument, match="encoded_length"):
        parse_stub("f", {**_STUB, "encoding": "gzip"})


@pytest.mark.parametrize("encoding", [None, "", "br", "GZIP", "gzip ", "x-gzip", "deflate", 1, True, ["gzip"], {}])
def test_what_is_no_encoding(encoding: object) -> None:
    with pytest.raises(BadDocument, match="encoding is unknown"):
        parse_stub("f", {**_STUB, "encoding": encoding, "encoded_length": 7})


@pytest.mark.parametrize("stub", [None, True, 0, 1.5, "", "stub", [], [_STUB], [[]]])
def test_what_is_no_stub(stub: object) -> None:
    with pytest.raises(BadDocument, match="not an object"):
        parse_stub("f", stub)


@pytest.mark.parametrize("content_type", [0, False, 1.5, [], ["text/plain"], {"type": "text/plain"}])
def test_what_is_no_content_type(content_type: object) -> None:
    with pytest.raises(BadDocument, match="content_type"):
        parse_stub("f", {**_STUB, "content_type": content_type})


@given(strategies.mutated_stub_objects(), strategies.hostile_names.filter(lambda name: name != "good"))
@example(bad=None, name="\ud800\udc00")
def test_a_bad_stub_does_not_spoil_its_neighbours(bad: Any, name: str) -> None:
    # In JSON, both halves of a surrogate pair are one character.
    name = json.loads(json.dumps(name))
    document = _document({name: bad, "good": _STUB})
    assert document.attachment("good") == parse_stub("good", _STUB)
    assert document.attachment("missing " + name) is None
    assert set(document.attachment_names()) == {"good"} | ({name} if not name.startswith("_") else set())


@pytest.mark.parametrize("revpos", [None, "1", 1.5, True, [1], {}])
def test_a_number_that_is_none_is_not_told(revpos: object) -> None:
    assert parse_stub("f", {**_STUB, "revpos": revpos}).revpos is None


@pytest.mark.parametrize("stubs", [None, [], ["f"], "f", "", 0, True, 1.5])
def test_attachments_that_are_no_object(stubs: object) -> None:
    document = _document(stubs)
    with pytest.raises(BadDocument, match="_attachments"):
        document.attachment("f")
    with pytest.raises(BadDocument, match="_attachments"):
        document.attachment_names()


# --- digests ------------------------------------------------------------------------------------------------


@given(strategies.digests)
def test_a_digest_is_written_and_read_back(digest: Digest) -> None:
    assert digest.base64 == b64encode(digest.md5).decode()
    assert digest.text == f"md5-{digest.base64}"
    assert Digest.parse(digest.text) == digest


@given(st.binary(max_size=40).filter(lambda md5: len(md5) != 16))
def test_an_md5_has_sixteen_bytes(md5: bytes) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Digest(md5)
    with pytest.raises(ValueError, match="16 bytes"):
        Digest.parse(f"md5-{b64encode(md5).decode()}")


@pytest.mark.parametrize(
    "text",
    [
        *(
            None,
            0,
            True,
            [],
            {},
            b"md5-nYqIKN7E1NmHdMQ4kdH5Eg==",
            "",
            "md5",
            "md5-",
            "md5-=",
            "nYqIKN7E1NmHdMQ4kdH5Eg==",
        ),
        *("MD5-nYqIKN7E1NmHdMQ4kdH5Eg==", "sha1-nYqIKN7E1NmHdMQ4kdH5Eg==", " md5-nYqIKN7E1NmHdMQ4kdH5Eg=="),
        *(
            "md5-nYqIKN7E1NmHdMQ4kdH5Eg",
            "md5-nYqIKN7E1NmHdMQ4kdH5Eg=",
            "md5-nYqIKN7E1NmHdMQ4kdH5Eg===",
            "md5-" + "=" * 24,
        ),
        *("md5-nYqIKN7E1NmHdMQ4kdH5Eg== ", "md5-nYqIKN7E1NmHdMQ4kdH5Eg==\n", "md5-nYqI\r\nKN7E1NmHdMQ4kdH5Eg=="),
        *("md5-nYqIKN7E1NmHdMQ4kdH5Eg==AAAA", "md5-nYqIKN7E1NmHdMQ4kdH5Eg==nYqI", "md5-nYqIKN7E1NmHdMQ4kdH5\u0661g=="),
        *("md5-nYqIKN7E1NmHdMQ4kdH5E\ud800==", "md5-nYqIKN7E1NmHdMQ4kdH5E-==", "md5-9d8a8828dec4d4d98774c43891d1f912"),
        "md5-" + "A" * 10**6,
    ],
)
def test_what_is_no_digest(text: object) -> None:
    with pytest.raises(ValueError, match=r"not an MD5|not base64|16 bytes"):
        Digest.parse(text)
    with pytest.raises(BadDocument, match="digest"):
        parse_stub("f", {**_STUB, "digest": text})


# --- documents ----------------------------------------------------------------------------------------------


@given(st.binary() | strategies.json_values.map(lambda value: json.dumps(value).encode("ascii")))
def test_any_body_is_a_document_or_a_bad_one(body: bytes) -> None:
    with pytest.raises(BadDocument):
        parse_document(body, "doc")


@given(strategies.json_values, strategies.json_values, strategies.json_values)
def test_any_fields_make_a_document_or_a_bad_one(id_: Any, rev: Any, stubs: Any) -> None:
    body = json.dumps({"_id": id_, "_rev": rev, "_attachments": stubs}).encode("ascii")
    try:
        document = parse_document(body, "doc")
    except BadDocument:
        assert id_ != "doc" or not (isinstance(rev, str) and is_revision(rev))
        return
    assert (document.id, document.rev) == (id_, rev)


@given(strategies.names, st.dictionaries(strategies.hostile_names, strategies.json_values, max_size=3))
def test_any_attachments_of_a_good_document(document_id: str, stubs: dict[str, Any]) -> None:
    body = json.dumps({"_id": document_id, "_rev": _REV, "_attachments": stubs}).encode("ascii")
    document = parse_document(body, document_id)
    for name in stubs:
        try:
            assert document.attachment(name) is None or isinstance(stubs[name], dict)
        except BadDocument as error:
            message = str(error)
            assert message in {
                "a stub is not an object",
                "a stub's content_type is not a string",
                "a stub without a usable digest",
                "a stub without a usable length",
                "a stub's encoding is unknown",
                "a stub without a usable encoded_length",
            }


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b" ", b"{", b"null", b"[]", b"0", b'"doc"', b"\xff\xfe", b"\x00", b"HTTP/1.1 500", b'{"_id": "doc"}'),
        *(b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000),
        b'{"_id": "doc", "_rev": "1-a", "n": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"_id": "doc", "_rev": "1-a"}{"_id": "doc", "_rev": "1-a"}',
        b'{"_id": "doc", "_rev": "1-a"}HTTP/1.1 500 Internal Server Error',
        b'{"_id": "doc", "_rev": "1-a", "_attachments": {',
        b'{"_id": "doc", "_rev": "1-a", "x": "\xc3"}',
        b'{"error":"not_found","reason":"missing"}',
    ],
    ids=range(20),
)
def test_bodies_that_are_no_document(body: bytes) -> None:
    with pytest.raises((BadDocument, UnreadableDocument)):
        parse_document(body, "doc")


def test_huge_numbers_are_no_crash() -> None:
    """Python refuses to read integers of so many digits (and would take long); CouchDB stores them."""
    for digits in (5000, 100_000):
        document = parse_document(b'{"_id": "doc", "_rev": "1-a", "n": ' + b"9" * digits + b"}", "doc")
        assert document.rev == "1-a"
    with pytest.raises(BadDocument):
        parse_document(b'{"_id": "doc", "_rev": "1-a", "n": ' + b"9" * 100_000, "doc")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-0", "1E400", "31.0", "9" * 400])
def test_numbers_that_are_no_length_are_read_and_refused(number: str) -> None:
    stub = f'{{"digest": "md5-nYqIKN7E1NmHdMQ4kdH5Eg==", "length": {number}}}'
    body = f'{{"_id": "doc", "_rev": "1-a", "n": {number}, "_attachments": {{"f": {stub}}}}}'
    document = parse_document(body.encode("ascii"), "doc")
    if number == "-0":
        digest = Digest.parse("md5-nYqIKN7E1NmHdMQ4kdH5Eg==")
        nothing = AttachmentStub("f", None, digest, Storage.IDENTITY, 0, 0, sha256=hashlib.sha256().digest())
        assert document.attachment("f") == nothing
        return
    with pytest.raises(BadDocument, match="usable length"):
        document.attachment("f")


def test_lone_surrogates_are_no_crash() -> None:
    body = json.dumps({"_id": "doc", "_rev": "1-a", "\ud800": "\udfff", "_attachments": {"\ud800": _STUB}}).encode()
    document = parse_document(body, "doc")
    assert document.attachment("\ud800") == parse_stub("\ud800", _STUB)
    with pytest.raises(BadDocument):
        parse_document(json.dumps({"_id": "doc\ud800", "_rev": "1-a"}).encode(), "doc")


@given(strategies.names, strategies.names)
def test_another_document_is_refused(one: str, other: str) -> None:
    body = json.dumps({"_id": one, "_rev": _REV}).encode("ascii")
    if one == other:
        assert parse_document(body, other).id == other
    else:
        with pytest.raises(BadDocument, match="asked for"):
            parse_document(body, other)


_REVISIONS: Final = ["1-a", _REV, "1-conflict", "9999999999999999999-x", "1-zz", "1-" + "a" * 128, "1-a-b", "1-'&?#"]
_NO_REVISIONS: Final = [
    *(
        "",
        "1",
        "1-",
        "-1",
        "-a",
        "a-1",
        "0-a",
        "01-a",
        "+1-a",
        "1_0-a",
        " 1-a",
        "1-a ",
        "1-a\n",
        "1-a\r\nX: y",
        "1-\u00e9",
    ),
    *(
        "1-\x00",
        '1-"',
        "1-a b",
        "\u0661-a",
        "1-" + "a" * 129,
        "1" * 20 + "-a",
        "1\u2010a",
        "1-\ud800",
        "1-\x7f",
        "9" * 10**5,
    ),
]


@pytest.mark.parametrize("rev", _REVISIONS)
def test_revisions(rev: str) -> None:
    assert is_revision(rev)
    assert parse_document(json.dumps({"_id": "doc", "_rev": rev}).encode("ascii"), "doc").rev == rev


@pytest.mark.parametrize("rev", _NO_REVISIONS)
def test_no_revisions(rev: str) -> None:
    assert not is_revision(rev)
    with pytest.raises(BadDocument, match="no revision"):
        parse_document(json.dumps({"_id": "doc", "_rev": rev}).encode("ascii"), "doc")
    with pytest.raises(ValueError, match="rev"):
        Document("doc", rev, {})


@pytest.mark.parametrize("rev", [None, 1, True, [_REV], {_REV: _REV}])
def test_a_revision_is_a_string(rev: object) -> None:
    with pytest.raises(BadDocument, match="no revision"):
        parse_document(json.dumps({"_id": "doc", "_rev": rev}).encode("ascii"), "doc")


def test_a_documents_secrets_are_not_in_its_repr() -> None:
    assert "s3cret" not in repr(parse_document(_RECORDED, "types"))


@given(strategies.telltale_secrets)
def test_a_bad_document_names_no_content(secret: str) -> None:
    bodies = [
        secret.encode("ascii"),
        json.dumps({"_id": secret, "_rev": _REV}).encode("ascii"),
        json.dumps({"_id": "doc", "_rev": secret}).encode("ascii"),
        json.dumps({"_id": "doc", "_rev": _REV, "_attachments": {"f": {**_STUB, "digest": secret}}}).encode("ascii"),
        json.dumps({"_id": "doc", "_rev": _REV, "_attachments": {"f": {**_STUB, "encoding": secret}}}).encode("ascii"),
        json.dumps({"_id": "doc", "_rev": _REV, "_attachments": {"f": {**_STUB, "length": secret}}}).encode("ascii"),
    ]
    for body in bodies:
        with pytest.raises(BadDocument) as caught:
            parse_document(body, "doc").attachment("f")
        assert secret not in repr(caught.value)


def test_a_bad_document_is_couchdbs_fault() -> None:
    assert issubclass(BadDocument, BadUpstream)
