"""
Revision ids: the same edit has the same id as in CouchDB.

``recorded/revision_ids.json`` has chains of edits and the ids that a CouchDB 3.5.0 gave them. The other recording
(test_replay.py), of a CouchDB 3.5.2, has some more.
"""

import json
import os
import struct
from base64 import b64decode
from hashlib import md5
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import example, given

from tests import strategies
from tests.store.serving import RawClient, in_reactor
from txcouchdl.couch.documents import Digest
from txcouchdl.couch.nodes import Node
from txcouchdl.store.answers import Refusal
from txcouchdl.store.drafts import parse_draft
from txcouchdl.store.external_terms import json_term, scalar_term
from txcouchdl.store.json_text import parse_json, write_json
from txcouchdl.store.revision_ids import next_rev
from txcouchdl.store.values import Attachment, Encoding, Rev, Revision, StoredBody

_RECORDED = json.loads((Path(__file__).parent / "recorded" / "revision_ids.json").read_text("ascii"))
_CHAINS: list[dict[str, Any]] = _RECORDED["chains"]


def _revision(rev: Rev, deleted: bool = False) -> Revision:
    return Revision(1, "d", rev, deleted, "{}")


def _id_of(text: str, parent: Rev | None = None) -> str:
    return str(next_rev(None if parent is None else _revision(parent), False, parse_draft(text.encode()).body, ()))


def _outcome(text: str, parent: Rev | None) -> str | dict[str, str]:
    """The id, or CouchDB's error for a text that is not JSON."""
    try:
        return _id_of(text, parent)
    except Refusal as refusal:
        return {"error": refusal.error, "reason": refusal.reason}


def test_there_are_many_recorded_chains() -> None:
    assert len(_CHAINS) >= 150
    assert sum("rev" in edit for chain in _CHAINS for edit in chain["edits"]) >= 250


@in_reactor
async def test_recorded_chains(couch: RawClient, database: str) -> None:
    wrong = []
    for number, chain in enumerate(_CHAINS):
        rev, prefix = "", chain["edits"][0].get("prefix", "")
        for edit in chain["edits"]:
            document_id = f"{prefix}{number}"
            method, target, body, fields = _request(edit, f"/{database}/{document_id}", document_id, rev)
            answer = await couch.ask(method, target, body, **fields)
            outcome = answer.json.get("rev", answer.status)
            if outcome != edit.get("rev", edit.get("status")):
                wrong.append((chain["what"], edit, outcome))
            rev = answer.json.get("rev", rev)
    assert wrong == [], wrong


def _request(edit: dict[str, Any], target: str, document_id: str, rev: str) -> tuple[str, str, bytes, dict[str, str]]:
    if "name" in edit:
        target += "/" + quote(edit["name"], safe="")
    if rev and edit.get("is_claimed", True):
        target += f"?rev={rev}"
    fields = {name: value for name, value in edit.items() if name in {"content_type", "content_encoding"}}
    body: bytes = b64decode(edit.get("base64", ""))
    if "text" in edit:
        body = edit["text"].replace('"ID"', f'"{document_id}"').encode()
    return edit.get("method", "PUT"), target, body, fields


@pytest.mark.parametrize(
    ("text", "rev"),
    [
        ('{"a":[' + ",".join(["1"] * 65535) + "]}", "1-f866a9735a3bf5172f252e745e91e514"),
        ('{"a":[' + ",".join(["1"] * 65536) + "]}", "1-058768add826087ce6dbeb34f3aaaf4c"),
        ('{"a":"' + "x" * 70_000 + '"}', "1-6157a93204b15b592fe2950574c190f3"),
    ],
    ids=["the longest list that is a string", "one that is too long for it", "a long text"],
)
def test_large_ones(text: str, rev: str) -> None:
    """As CouchDB 3.5.0."""
    assert _id_of(text) == rev


@pytest.mark.parametrize(
    ("value", "digest"),
    [
        ((1 << 2040) - 1, "489946fb7ae90a4cf4b39ced2612d022"),
        (1 << 2040, "156f678d0967d3ee751eee9cc4f83024"),
        (10**700, "6140dbf6cbdaf1d48f65a6cd4069bdeb"),
        (-(10**700), "79789d456e3fa67cac40a2cc75344527"),
    ],
)
def test_integers_that_couchdb_does_not_take(value: int, digest: str) -> None:
    """As Erlang/OTP 25 writes them; the store takes them."""
    assert md5(b"\x83" + scalar_term(value)).hexdigest() == digest


def test_a_document_of_any_depth() -> None:
    """A stored text is read again when an attachment is added, perhaps with less of the stack left."""
    deep = "[" * 5000 + "1.5" + "]" * 5000
    assert json_term(deep) == b"l\0\0\0\1" * 5000 + b"F" + struct.pack(">d", 1.5) + b"j" * 5000


@given(strategies.json_texts)
@example("[[1],[2,300],[]]")
@example('{"a":{"b":[{}]}}')
@example('"\\u0000\\"\\\\/é😀"')
def test_terms_have_the_values_of_the_text(text: str) -> None:
    try:
        value = parse_json(text.encode())
    except Refusal:
        return
    read, rest = _read_term(json_term(write_json(value)))
    assert rest == b""
    assert repr(read) == repr(value)


def _read_term(data: bytes) -> tuple[Any, bytes]:
    """A value back from its term, by Erlang's documentation of the format."""
    tag, rest = chr(data[0]), data[1:]
    match tag:
        case "a":
            return rest[0], rest[1:]
        case "b":
            return struct.unpack(">i", rest[:4])[0], rest[4:]
        case "n" | "o":
            width = 1 if tag == "n" else 4
            length, sign, digits = int.from_bytes(rest[:width]), rest[width], rest[width + 1 :]
            magnitude = int.from_bytes(digits[:length], "little")
            return -magnitude if sign else magnitude, digits[length:]
        case "F":
            return struct.unpack(">d", rest[:8])[0], rest[8:]
        case "d":
            length = int.from_bytes(rest[:2])
            return {b"true": True, b"false": False, b"null": None}[rest[2 : 2 + length]], rest[2 + length :]
        case "m":
            length = int.from_bytes(rest[:4])
            return rest[4 : 4 + length].decode(), rest[4 + length :]
        case "k":
            length = int.from_bytes(rest[:2])
            return list(rest[2 : 2 + length]), rest[2 + length :]
        case "j" | "l":
            return _read_list(data)
        case _:
            assert data[:2] == b"h\x01"
            members, rest = _read_list(data[2:])
            return dict(members), rest


def _read_list(data: bytes) -> tuple[list[Any], bytes]:
    if data[:1] == b"j":
        return [], data[1:]
    assert data[:1] == b"l"
    elements, rest = [], data[5:]
    for _ in range(int.from_bytes(data[1:5])):
        is_member = rest[:2] == b"h\x02"
        element, rest = _read_term(rest[2:] if is_member else rest)
        if is_member:
            value, rest = _read_term(rest)
            element = (element, value)
        elements.append(element)
    assert rest[:1] == b"j"
    return elements, rest[1:]


def test_each_part_changes_the_id() -> None:
    def attachment(name: str = "a", content_type: str = "x/y", body: bytes = b"1") -> Attachment:
        stored = StoredBody("0" * 64, Digest(md5(body).digest()), Encoding.IDENTITY, 1, 1)
        return Attachment(name, content_type, 1, stored)

    parents = [Rev(1, "a" * 32), Rev(2, "a" * 32), Rev(1, "b" * 32), Rev(1, "b")]
    one, two = attachment(), attachment("b")
    others = [attachment("c"), attachment(content_type="x"), attachment(body=b"2")]
    revs = [
        next_rev(None, False, "{}", ()),
        next_rev(None, True, "{}", ()),
        next_rev(None, False, '{"a":1}', ()),
        *(next_rev(_revision(parent), False, "{}", ()) for parent in parents),
        *(next_rev(None, False, "{}", (each,)) for each in (one, two, *others)),
        next_rev(None, False, "{}", (one, two)),
        next_rev(None, False, "{}", (two, one)),
    ]
    assert len({rev.hash for rev in revs}) == len(revs)


def test_an_id_that_is_hexadecimal_has_no_case() -> None:
    revs = {next_rev(_revision(Rev(1, text)), False, "{}", ()) for text in ("AB" * 16, "ab" * 16, "aB" * 16)}
    assert len(revs) == 1
    assert {Rev.parse(f"1-{text}") for text in ("AB" * 16, "ab" * 16)} == {Rev(1, "ab" * 16)}
    assert Rev.parse("1-AB").hash == "AB"
    with pytest.raises(ValueError, match="hexadecimal"):
        Rev.parse("1-" + "z" * 32)


def test_a_name_counts_where_it_was_last() -> None:
    assert parse_draft(b'{"a":1,"b":{"x":1,"y":2,"x":3},"c":4,"a":5}').body == '{"b":{"y":2,"x":3},"c":4,"a":5}'
    assert parse_draft(b'{"a":1e309,"b":1e999,"a":5,"b":2.0e999,"b":6}').body == '{"a":5,"b":6}'


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        ("5e-324", 0.0),
        ("5.0e-324", 5e-324),
        ("-0e0", -0.0),
        ("1e22", 1e22),
        ("1E+2", 100.0),
        ("1000000000000000000000000000000e1", 1e31),
        ("1e-400", 0.0),
    ],
)
def test_numbers_with_an_exponent(literal: str, value: float) -> None:
    assert repr(parse_json(literal.encode())) == repr(value)


@pytest.mark.parametrize(
    "literal", ["1e309", "1.8e308", "-1e309", "1e" + "9" * 40, "0e" + "9" * 40, "1e-" + "9" * 400, "9" * 400 + "e1"]
)
def test_numbers_beyond_a_doubles_range(literal: str) -> None:
    with pytest.raises(Refusal) as raised:
        parse_json(literal.encode())
    assert (raised.value.status, raised.value.reason) == (400, "invalid UTF-8 JSON")


@pytest.mark.couchdb
@pytest.mark.skipif("COUCHDB_URL" not in os.environ, reason="COUCHDB_URL names no CouchDB")
def test_any_document_has_couchdbs_id() -> None:
    node, parts = Node.parse(os.environ["COUCHDB_URL"]), urlsplit(os.environ["COUCHDB_URL"])
    connection = HTTPConnection(parts.hostname or "", parts.port)

    def ask(method: str, target: str, text: str = "") -> dict[str, Any]:
        fields = {"Authorization": node.authorization or "", "Content-Type": "application/json"}
        connection.request(method, target, text.encode(), fields)
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        return answer

    database = f"/couchdl-test-{os.urandom(8).hex()}"

    @given(strategies.document_texts, strategies.document_texts)
    def check(first: str, second: str) -> None:
        parent = None
        target = f"{database}/{os.urandom(8).hex()}"
        for text in (first, second):
            written = ask("PUT", target + (f"?rev={parent}" if parent else ""), text)
            expected = _outcome(text, parent)
            assert written.get("rev", written) == expected
            parent = parent if isinstance(expected, dict) else Rev.parse(expected)

    assert ask("PUT", database) == {"ok": True}
    try:
        check()
    finally:
        ask("DELETE", database)
        connection.close()
