"""Repr-Digest (RFC 9530): what is told of all bytes of an attachment, whichever of them are sent."""

import gzip
import hashlib
import json
import random
from base64 import b64encode
from typing import Any

import attrs
import pytest

from tests.gateway.house import TOKEN, Answer, House
from tests.scripted import Asked, Doc, Mark, Script, Stored, attachment_answer
from txcouchdl.couch.documents import AttachmentStub, Digest, Storage
from txcouchdl.gateway.description import Description, representation_digests
from txcouchdl.protocol.digests import MD5, SHA_256, parse_digest_field

DATA = random.Random(3).randbytes(300_000)
#: Inflates in many steps, and its gzip is longer than what is held back.
TEXT = DATA.hex().encode()
SENT = {"f.bin": DATA, "text": TEXT, "upload": TEXT, "empty": b"", "empty.txt": b""}
GZIP = ["text", "upload"]
STORED = {
    "f.bin": Stored(DATA),
    "text": Stored.compressed(TEXT),
    "upload": Stored.encoded(gzip.compress(TEXT)),
    "empty": Stored(b""),
    "empty.txt": Stored.compressed(b""),
}


@pytest.fixture
def house() -> House:
    return House(dict(STORED))


def head(house: House, name: str) -> Answer:
    return house.ask(f"/db/doc/{name}?token={TOKEN}", method="HEAD")


def told(got: Answer) -> dict[str, bytes]:
    return parse_digest_field(got.headers.get("repr-digest"))


def md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


# --- what is told -------------------------------------------------------------------------------------------

_STUB = AttachmentStub("f", None, Digest(md5(b"f")), Storage.IDENTITY, 1, 1)
_OF_F = f"sha-256=:{b64encode(sha256(b'f')).decode()}:"
_MD5_OF_F = f"md5=:{b64encode(md5(b'f')).decode()}:"


@pytest.mark.parametrize(
    ("storage", "known", "field"),
    [
        (Storage.IDENTITY, None, _MD5_OF_F),
        (Storage.IDENTITY, sha256(b"f"), f"{_OF_F}, {_MD5_OF_F}"),
        # The MD5 is of the gzip bytes.
        (Storage.COMPRESSED, None, None),
        (Storage.COMPRESSED, sha256(b"f"), _OF_F),
        (Storage.ENCODED, None, None),
        (Storage.ENCODED, sha256(b"f"), _OF_F),
    ],
)
def test_the_field_word_for_word(storage: Storage, known: bytes | None, field: str | None) -> None:
    stub = attrs.evolve(_STUB, storage=storage, sha256=known)
    assert dict(Description(stub).fields("bytes")).get("Repr-Digest") == field
    assert representation_digests(stub) == parse_digest_field(field)
    assert "Repr-Digest" not in dict(Description(stub).tagged)


@pytest.mark.parametrize("range_", [None, "bytes=0-", "bytes=5-9", "bytes=-1", "bytes=0-0,5-9,-1"])
def test_of_whatever_is_sent_it_is_the_digest_of_all(house: House, range_: str | None) -> None:
    for name in ("f.bin", *GZIP):
        house.get(name)
        got = house.get(name, range_)
        assert (got.status, got.is_whole) == (200 if range_ is None else 206, True)
        assert told(got) == ({MD5: md5(DATA)} if name == "f.bin" else {SHA_256: sha256(TEXT)})
        assert told(head(house, name)) == told(got)


def test_several_ranges_say_it_once_and_not_in_each_part(house: House) -> None:
    got = house.get("f.bin", "bytes=0-0,5-9")
    assert got["Content-Type"].startswith("multipart/byteranges")
    assert b"digest" not in got.body.lower()


def test_nothing_has_a_digest_too(house: House) -> None:
    assert told(house.get("empty")) == {SHA_256: sha256(b""), MD5: md5(b"")}
    assert told(house.get("empty.txt")) == {SHA_256: sha256(b"")}


@pytest.mark.parametrize("name", sorted(SENT))
def test_answers_that_carry_none(house: House, name: str) -> None:
    etag = house.get(name)["ETag"]
    refused = {
        304: house.get(name, If_None_Match=etag),
        412: house.get(name, If_Match='"other"'),
        416: house.get(name, "bytes=1000000-"),
        404: house.get("no-such-name"),
        403: house.ask(f"/db/doc/{name}?token=wrong"),
        400: house.ask(f"/db/doc/{name}?token={TOKEN}&digest=x"),
    }
    assert {each.status for each in refused.values()} == set(refused)
    assert not [status for status, each in refused.items() if "repr-digest" in each.headers]


# --- what a node tells --------------------------------------------------------------------------------------


def house_that_tells(**said: object) -> House:
    house = House({"f.bin": Stored(DATA), "text": Stored.compressed(TEXT)})
    house.doc.fields["_attachments"] = {name: each.stub | said for name, each in house.doc.attachments.items()}
    return house


def test_a_node_that_tells_the_sha_256_is_quoted() -> None:
    house = house_that_tells(sha256=b64encode(sha256(DATA)).decode())
    for got in (head(house, "f.bin"), house.get("f.bin"), house.get("f.bin", "bytes=7-9")):
        assert told(got) == {SHA_256: sha256(DATA), MD5: md5(DATA)}
    # What it tells is of the stored bytes.
    assert told(house.get("text")) == {}
    assert told(house.get("text")) == {SHA_256: sha256(TEXT)}


@pytest.mark.parametrize("said", [1, None, "", "x" * 44, sha256(DATA).hex(), "\r\nSet-Cookie: a=b", ["sha"]])
def test_a_node_that_tells_nonsense_is_not_quoted(said: object) -> None:
    house = house_that_tells(sha256=said)
    assert told(house.get("f.bin")) == {MD5: md5(DATA)}
    assert house.get("f.bin").body == DATA


@pytest.mark.parametrize("is_another", [True, False])
def test_an_attachment_of_the_same_md5_that_is_another_is_not_gone_on_with(is_another: bool) -> None:
    """A client has the first half, and the second would be of what somebody made to have the same MD5."""
    house = house_that_tells(sha256=b64encode(sha256(DATA)).decode())

    def faults(asked: Asked) -> Script | None:
        if asked.path != "/db/doc/f.bin":
            return None
        right = attachment_answer(house.doc.attachments["f.bin"], asked)
        house.node.faults = lambda _: None
        said = b64encode(sha256(b"another" if is_another else DATA)).decode()
        stubs = {name: stub | {"sha256": said} for name, stub in house.doc.fields["_attachments"].items()}
        fields = house.doc.fields | {"_attachments": stubs}
        house.node.docs["/db/doc"] = attrs.evolve(house.doc, fields=fields, rev="2-" + "0" * 32)
        return [right[:-100_000], Mark.CLOSE]

    house.node.faults = faults
    client = house.send(f"/db/doc/f.bin?token={TOKEN}")
    house.network.elapse(20)
    assert client.received.endswith(DATA[-100:]) is not is_another
    assert client.is_closed is is_another


# --- what is learned ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GZIP)
def test_what_has_passed_whole_is_known_from_then_on(house: House, name: str) -> None:
    assert told(head(house, name)) == {}
    assert told(house.get(name)) == {}
    for got in (head(house, name), house.get(name), house.get(name, "bytes=5-9")):
        assert told(got) == {SHA_256: sha256(TEXT)}


@pytest.mark.parametrize("range_", ["bytes=5-", "bytes=-1", "bytes=0-0,-1", "bytes=599990-700000"])
def test_a_range_to_the_end_passes_through_all_of_it(house: House, range_: str) -> None:
    assert (got := house.get("text", range_)).status == 206
    assert got.is_whole
    assert told(head(house, "text")) == {SHA_256: sha256(TEXT)}


@pytest.mark.parametrize("range_", ["bytes=0-0", "bytes=0-599998", "bytes=5-9,599000-599998"])
def test_a_range_that_stops_early_teaches_nothing(house: House, range_: str) -> None:
    assert house.get("text", range_).is_whole
    assert told(head(house, "text")) == {}


def test_a_length_that_had_to_be_found_out_brings_the_digest(house: House) -> None:
    """Before the first range of what was uploaded compressed, all of it is read."""
    got = house.get("upload", "bytes=0-0")
    assert (got.status, told(got)) == (206, {SHA_256: sha256(TEXT)})


def test_a_pass_that_nobody_waited_for_teaches_nothing(house: House) -> None:
    client = house.send(f"/db/doc/text?token={TOKEN}")
    house.network.run(until=lambda: len(client.received) > 100_000)
    assert 0 < len(client.received) < len(TEXT)
    client.transport.loseConnection()
    house.network.run()
    assert told(head(house, "text")) == {}


@pytest.mark.parametrize("damage", [b"", b"!"], ids=["a lost end", "a wrong byte"])
def test_a_pass_that_was_wrong_teaches_nothing(house: House, damage: bytes) -> None:
    """Bytes of the right length that inflate, to others: the digest tells, and nobody is told of theirs."""
    other = gzip.compress(TEXT[:-2] + b"!" + (damage or b"?"), 8, mtime=0)
    lying = Stored(other, "text/plain", "gzip", len(TEXT))
    house.doc.attachments["text"] = lying
    stub = lying.stub | {"digest": STORED["text"].stub["digest"]}
    house.doc.fields["_attachments"] = {"text": stub}

    def faults(asked: Asked) -> Script | None:
        if asked.path != "/db/doc/text":
            return None
        return [attachment_answer(lying, asked, {"ETag": f'"{STORED["text"].etag}"'})]

    house.node.faults = faults
    for range_ in (None, "bytes=5-"):
        fields = {} if range_ is None else {"Range": range_}
        client = house.send(f"/db/doc/text?token={TOKEN}", fields)
        house.network.elapse(200)
        assert client.is_closed
    assert told(head(house, "text")) == {}


def test_a_range_that_needs_no_more_before_the_digest_is_right_teaches_nothing(house: House) -> None:
    """The end of the gzip has come, and with it the end of the range; what it is the end of nobody can tell yet."""
    padded = Stored(gzip.compress(TEXT) + bytes(10_000), "text/plain", "gzip", len(TEXT))
    house.doc.attachments["text"] = padded
    house.doc.fields["_attachments"] = {"text": padded.stub | {"digest": STORED["f.bin"].stub["digest"]}}
    etag = {"ETag": f'"{STORED["f.bin"].etag}"'}
    house.node.faults = lambda asked: [attachment_answer(padded, asked, etag)] if asked.path == "/db/doc/text" else None
    assert house.get("text", "bytes=5-").body == TEXT[5:]
    assert told(head(house, "text")) == {}


def test_an_upload_that_is_cut_short_teaches_nothing(house: House) -> None:
    """Its digest is right, and its bytes are no gzip."""
    house.doc.attachments["upload"] = Stored.encoded(STORED["upload"].stored[:-5])
    assert not house.get("upload").is_whole
    got = head(house, "upload")
    assert (told(got), "content-length" in got.headers) == ({}, False)


def test_a_range_to_the_end_is_served_whatever_is_behind_it(house: House) -> None:
    """As it was uploaded: only who wants all is told that it is not gzip to its end."""
    stored = STORED["text"].stored + b"\x1f\x8b, and no member"
    house.doc.attachments["text"] = Stored(stored, "text/plain", "gzip", len(TEXT))
    got = house.get("text", "bytes=5-")
    assert (got.status, got.is_whole, got.body) == (206, True, TEXT[5:])
    assert told(head(house, "text")) == {}
    assert not house.get("text").is_whole
    assert told(head(house, "text")) == {}


@pytest.mark.parametrize("range_", [None, "bytes=5-"])
@pytest.mark.parametrize("at", [1, 5000, 100_000, 250_000])
@pytest.mark.parametrize("name", GZIP)
def test_bytes_that_were_read_again_are_not_hashed_again(house: House, name: str, at: int, range_: str | None) -> None:
    """Two losses: what is healed comes from the first stored byte on each time."""
    lengths = [at, at + 20_000]

    def faults(asked: Asked) -> Script | None:
        if asked.path != f"/db/doc/{name}" or not lengths:
            return None
        right = attachment_answer(STORED[name], asked)
        return [right[: right.index(b"\r\n\r\n") + 4 + lengths.pop(0)], Mark.CLOSE]

    house.node.faults = faults
    client = house.send(f"/db/doc/{name}?token={TOKEN}", {} if range_ is None else {"Range": range_})
    house.network.elapse(30)
    assert not lengths
    assert client.received.endswith(TEXT[-1000:] if range_ else b"0\r\n\r\n" if name == "upload" else TEXT[-1000:])
    assert told(head(house, name)) == {SHA_256: sha256(TEXT)}


def test_another_documents_bytes_of_the_same_md5_are_another_matter(house: House) -> None:
    house.node.docs["/db/other"] = Doc({"download_token": TOKEN}, dict(STORED))
    for name in GZIP:
        house.get(name)
        got = house.ask(f"/db/other/{name}?token={TOKEN}", method="HEAD")
        assert (got.status, told(got)) == (200, {})


def test_a_new_upload_is_not_what_was_learned(house: House) -> None:
    house.get("text")
    house.doc.attachments["text"] = Stored.compressed(TEXT + b"!")
    assert told(head(house, "text")) == {}
    house.get("text")
    assert told(head(house, "text")) == {SHA_256: sha256(TEXT + b"!")}


# --- the documents' page ------------------------------------------------------------------------------------


def listed(house: House) -> dict[str, dict[str, Any]]:
    page = house.ask(f"/db/doc/?token={TOKEN}")
    return {each["name"]: each["repr_digest"] for each in json.loads(page.body)["attachments"]}


def test_the_page_tells_what_the_answers_do(house: House) -> None:
    def as_told(name: str) -> dict[str, str]:
        return {algorithm: b64encode(each).decode() for algorithm, each in told(head(house, name)).items()}

    assert listed(house)["text"] == {}
    for name in SENT:
        house.get(name)
    assert listed(house) == {name: as_told(name) for name in SENT}
    assert listed(house)["text"] == {SHA_256: b64encode(sha256(TEXT)).decode()}
    assert listed(house)["f.bin"] == {MD5: b64encode(md5(DATA)).decode()}
