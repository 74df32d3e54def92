"""
Documents decoded without the fields that nobody needs: judged as Python's own JSON parser judges them, which reads all
of it.
"""

import gc
import json
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import pytest
from attrs import frozen
from hypothesis import assume, example, given
from hypothesis import strategies as st
from msgspec import Raw

from tests import strategies
from txcouchdl.couch import documents
from txcouchdl.couch.document_decoder import DocumentDecoder, KeptField
from txcouchdl.couch.documents import SMALL_DOCUMENT, AttachmentStub, BadDocument, Document
from txcouchdl.couch.errors import UnreadableDocument
from txcouchdl.couch.json_members import OTHER, scalar_of
from txcouchdl.couch.steps import at_once
from txcouchdl.gateway.tokens import LONGEST_SECRET, MOST_SECRETS, TokenRule

#: Names of the field with the secret: one of a field, a path, and both.
RULES: Final = [TokenRule(key) for key in ("a", "a.b", "a.b.b", "x", "_id", "_attachments.f.digest")]
DECODERS: Final = {rule: DocumentDecoder(rule.kept) for rule in RULES}
STUB: Final = {"content_type": "audio/mpeg", "digest": "md5-nYqIKN7E1NmHdMQ4kdH5Eg==", "length": 40000, "revpos": 4}

Found = AttachmentStub | str | None


@frozen
class Judgement:
    """What is made of a body, as far as anybody needs it."""

    rev: str
    secrets: list[bytes]
    names: list[str] | str
    stubs: dict[str, Found]


def judged(document: Document, rule: TokenRule, names: list[str]) -> Judgement:
    """
    :param names: that are looked for, beside those that there are.
    """
    try:
        known: list[str] | str = document.attachment_names()
    except BadDocument as error:
        known = str(error)
    wanted = names if isinstance(known, str) else names + known
    stubs = {name: _found(document, name) for name in wanted}
    assert isinstance(known, str) or {name: _found(document.indexed(), name) for name in wanted} == stubs
    return Judgement(document.rev, list(rule.secrets(document.fields)), known, stubs)


def _found(document: Document, name: str) -> Found:
    try:
        # No address has half a surrogate pair in it: such an attachment is on the page alone.
        return (document if _is_text(name) else document.indexed()).attachment(name)
    except BadDocument as error:
        return str(error)


def oracle(body: bytes, rule: TokenRule, names: list[str], *, is_strict: bool) -> Judgement | None:
    """
    The judgement of Python's parser, and of the rules that are applied to all that it reads.

    :param is_strict: whether it refuses what is not JSON in UTF-8, as RFC 8259 has it.
    """

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    def number(digits: str) -> float:
        return int(digits) if len(digits.lstrip("-")) <= 4300 else float(digits)

    try:
        if is_strict:
            fields = json.loads(body.decode("utf-8", "surrogatepass"), parse_int=number, parse_constant=refuse)
        else:
            fields = json.loads(body, parse_int=number)
        document = Document("doc", fields["_rev"], fields, fields.get("_attachments", {}))
        return judged(document, rule, names) if fields["_id"] == "doc" else None
    except (ValueError, TypeError, LookupError):
        return None


def decoded(body: bytes, rule: TokenRule, names: list[str], *, is_large: bool) -> Judgement | None:
    decoder = DECODERS[rule]
    try:
        document = at_once(decoder.steps(body, "doc")) if is_large else decoder.decode(body, "doc")
        return judged(document, rule, names)
    except BadDocument:
        return None


BODIES: Final = strategies.document_bodies() | strategies.mutated_document_bodies()


def _examples() -> Any:
    """Past mistakes, and whatever msgspec and Python judge differently."""
    bodies = [
        b'{"_id":"doc","_rev":"1-a","_rev":"2-b","a":"one","a":"two"}',
        b'{"_id":"doc","_rev":1,"_rev":"2-b","_attachments":[],"_attachments":{"f":1,"f":null}}',
        b'{"_id":"doc","_rev":"1-a","x":"\\ud800","a":"\\udfff","_attachments":{"\\ud800":{},"f":{}}}',
        b'{"_id":"doc","_rev":"1-a","x":"\xed\xa0\x80","a":"\xed\xa0\x80","_attachments":{"\xed\xa0\x80":{},"f":{}}}',
        b'{"_id":"doc","_rev":"1-a","a":"\\\\ud800","x":"\\ud83d\\ude00\\ude00"}',
        b'{"_id":"doc","_rev":"1-a","a":"%b\\ud83d\\ude00","x":"\\\\\\ud800"}' % (b"\\ud800" * 2000),
        b'{"_id":"doc","_rev":"1-a","a":"%b\\ud83d\\ude00","x":"\\\\\\ud800"}' % (b"\\ud800" * 2001),
        b'{"_id":"doc","_rev":"1-a","a":"%b\\ud83d\\ude00","x":"\\ud8zz"}' % (b"\\n" * 2001),
        b'{"_id":"doc","_rev":"1-a","x":"\xff"}',
        b'{"_id":"doc","_rev":"1-a","x":NaN,"_attachments":{"f":{"length":-Infinity}}}',
        b'{"_id":"doc","_rev":"1-a","x":' + b"9" * 5000 + b',"_attachments":{"f":' + json.dumps(STUB).encode() + b"}}",
        b'{"_id":"doc","_rev":"1-a","a.b":null,"a":{"b":"secret"}}',
        b'{"_id":"doc","_rev":"1-a","a":{"b":["one",2,"three"],"b":{"b":"deep"}}}',
        b'\xef\xbb\xbf{"_id":"doc","_rev":"1-a"}',
        '{"_id":"doc","_rev":"1-a","a":"\ud800"}'.encode("utf-16", "surrogatepass"),
        b'["_id"]',
        b'{"_id":"doc","_rev":"1-a"} {}',
    ]

    def add(test: Any) -> Any:
        for body in bodies:
            for rule in RULES[:3]:
                test = example(body=body, rule=rule)(test)
        return test

    return add


@given(body=BODIES, rule=st.sampled_from(RULES))
@_examples()
def test_a_small_document_is_judged_as_python_does(body: bytes, rule: TokenRule) -> None:
    names = ["f", "a", "", "_id"]
    assert decoded(body, rule, names, is_large=False) == oracle(body, rule, names, is_strict=False)


@given(body=BODIES, rule=st.sampled_from(RULES))
@_examples()
def test_a_large_document_is_judged_as_python_does_with_json(body: bytes, rule: TokenRule) -> None:
    names = ["f", "a", "", "_id"]
    with pytest.MonkeyPatch.context() as patch:
        # One attachment is looked for in another way where there is much to look through, and so are its fields.
        patch.setattr(documents, "SMALL_DOCUMENT", -1)
        patch.setattr(documents, "_SMALL_STUB", -1)
        expected = oracle(body, rule, names, is_strict=True)
        found = decoded(body, rule, names, is_large=True)
    assert found == expected


def _is_text(name: str) -> bool:
    return name == name.encode("utf-8", "replace").decode("utf-8")


@given(st.binary(), st.sampled_from(RULES))
def test_any_bytes(body: bytes, rule: TokenRule) -> None:
    for is_large in (False, True):
        assert decoded(body, rule, [], is_large=is_large) is None


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"x":'])
@pytest.mark.parametrize("place", [b'{"_id":"doc","_rev":"1-a","x":', b'{"_id":"doc","_rev":"1-a","a":{"b":', b""])
@pytest.mark.parametrize("depth", [10_000, 1_000_000])
def test_too_deep(opening: bytes, place: bytes, depth: int) -> None:
    """As far as Python's own parser goes, and no further: no crash of the process."""
    for body in (place + opening * depth, place + opening * depth + b"]"):
        with pytest.raises((UnreadableDocument, BadDocument)) as caught:
            at_once(DECODERS[RULES[1]].steps(body, "doc"))
        assert place == b"" or caught.type is UnreadableDocument


@pytest.mark.parametrize("depth", [1, 10, 300])
def test_deep_and_legal(depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    body = b'{"_id":"doc","_rev":"1-a","x":' + nested + b',"_attachments":{"g":' + nested + b',"f":%b}}'
    document = at_once(DECODERS[RULES[0]].steps(body % json.dumps(STUB).encode(), "doc"))
    assert document.attachment_names() == ["g", "f"]
    assert document.attachment("f") is not None
    with pytest.raises(BadDocument):
        document.attachment("g")


@pytest.mark.parametrize("place", [b'{"f":%b}', b'{"g":%b,"f":{}}', b'{"f":{"length":1,"x":%b}}'])
@pytest.mark.parametrize("length", [0, SMALL_DOCUMENT])
def test_nested_too_deep_for_where_it_is_looked_for(place: bytes, length: int) -> None:
    """As deep as the stack allows while the document is decoded, and too deep when it is deeper itself."""
    for depth in range(800, 1000, 10):
        stubs = place % (b"[" * depth + b'"%b"' % (b"x" * length) + b"]" * depth)
        try:
            document = at_once(DECODERS[RULES[0]].steps(b'{"_id":"doc","_rev":"1-a","_attachments":%b}' % stubs, "doc"))
        except UnreadableDocument:
            continue
        for find in (document.attachment_names, document.indexed, partial(document.attachment, "f")):
            _called_deeper(find, 150)


def _called_deeper(find: Callable[[], object], by: int) -> None:
    if by:
        _called_deeper(find, by - 1)
        return
    with suppress(BadDocument):
        find()


# --- what is kept of the field ------------------------------------------------------------------------------


def kept(value: Any, key: str = "a", most: int = 3, longest: int = 10) -> dict[str, Any]:
    body = json.dumps({"_id": "doc", "_rev": "1-a", **value}).encode()
    found = DocumentDecoder(KeptField(key, most, longest)).decode(body, "doc").fields
    assert at_once(DocumentDecoder(KeptField(key, most, longest)).steps(body, "doc")).fields == found
    return dict(found)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", "text"),
        ("", ""),
        ("x" * 8, "x" * 8),
        ("x" * 9, None),
        (["x" * 8, "x" * 9], ["x" * 8, None]),
        ([], []),
        (["one", 2, None, "four"], ["one", None, None]),
        ([["one"]], [None]),
        *((value, None) for value in (None, True, 5, 1.5, {}, {"b": "x"})),
    ],
)
def test_what_is_kept(value: Any, expected: Any) -> None:
    assert kept({"a": value}) == {"a": expected}
    assert kept({"b": {"a": value}}, "b.a") == {"b": {"a": expected}}
    assert kept({"b.a": value}, "b.a") == {"b.a": expected}


def test_a_field_of_this_name_goes_before_the_path() -> None:
    both = {"a": {"b": "path"}, "a.b": None}
    assert kept(both, "a.b") == {"a.b": None}
    assert TokenRule("a.b").secrets(kept(both, "a.b")) == TokenRule("a.b").secrets({}), "as before: no secret"


@pytest.mark.parametrize("value", [None, 5, "text", [], {}, {"b": 5}, {"b": {}}, {"b": {"c": {}}}])
def test_a_path_that_leads_nowhere(value: Any) -> None:
    assert kept({"a": value}, "a.b.c") == {"a": {"b": {"c": None}}}


def test_nothing_else_is_kept() -> None:
    assert kept({"b": "x", "a": "y", "_attachments": {"f": {}}}) == {"a": "y"}
    body = b'{"_id": "doc", "_rev": "1-a", "a": "y"}'
    assert DocumentDecoder().decode(body, "doc").fields == {}


@given(st.integers(0, LONGEST_SECRET + 3), st.sampled_from(["x", "\u00e9", "\u20ac", "\U0001f600", "\x01"]))
@example(LONGEST_SECRET, "x")
@example(LONGEST_SECRET + 1, "x")
@example(LONGEST_SECRET, "\x01")
def test_the_longest_secret(length: int, character: str) -> None:
    """However it is written."""
    secret = (character * length)[:length]
    assume(secret)
    rule = TokenRule("a")
    is_one = len(secret.encode()) <= LONGEST_SECRET
    for ensure_ascii in (True, False):
        body = json.dumps({"_id": "doc", "_rev": "1-a", "a": [secret]}, ensure_ascii=ensure_ascii).encode()
        for document in (DECODERS[RULES[0]].decode(body, "doc"), at_once(DECODERS[RULES[0]].steps(body, "doc"))):
            assert rule.allows(document.fields, secret.encode()) is is_one
    assert rule.allows({"a": secret}, secret.encode()) is is_one


# --- what it costs ------------------------------------------------------------------------------------------

MIB: Final = 2**20


def filled(open_: bytes, unit: bytes, close: bytes, length: int = 8 * MIB, before: bytes = b'"x":') -> bytes:
    """A document of this length: one value full of units."""
    head, tail = b'{"_id":"doc","_rev":"1-a","a":"t",' + before + open_, close + b"}"
    units = unit * ((length - len(head) - len(tail)) // len(unit))
    return head + units.removesuffix(b",") + tail


#: Full of that of which Python makes most, each of 8 MiB.
HOSTILE: Final = {
    "empty lists": filled(b"[", b"[],", b"]"),
    "objects": filled(b"[", b'{"":0},', b"]"),
    "small numbers": filled(b"[", b"0.5,", b"]"),
    "members": b'{"_id":"doc","_rev":"1-a",' + b",".join(b'"%x":1' % n for n in range(700_000)) + b"}",
    "secrets": filled(b"[", b'"s",', b"]", before=b'"a":'),
    "long secrets": filled(b"[", b'"' + b"s" * 20_000 + b'",', b"]", before=b'"a":'),
    "one secret": filled(b'"', b"s", b'"', before=b'"a":'),
    "a path": filled(b'{"c":[', b"[],", b'],"b":"t"}', before=b'"a":'),
    "a digit": filled(b"1", b"1", b"1"),
    "escapes": filled(b'"', b"\\ud83d\\ude00", b'"'),
    "text": filled(b'"', "\u20ac".encode(), b'"'),
    "stubs": filled(b"{", b'"f":{"length":[]},', b"}", before=b'"_attachments":'),
    "a stub": filled(b'{"f":{"x":[', b"[],", b"]}}", before=b'"_attachments":'),
    "a stub's type": filled(b'{"f":{"content_type":[', b"[],", b"]}}", before=b'"_attachments":'),
}


def peak_of(body: bytes, rule: TokenRule) -> int:
    """Bytes that decoding takes at most, beside the body; and looking for an attachment."""
    decoder = DocumentDecoder(rule.kept)
    gc.collect()
    tracemalloc.start()
    try:
        document = at_once(decoder.steps(body, "doc"))
        rule.allows(document.fields, b"wrong")
        _found(document, "f")
        _found(document, "g")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("what", HOSTILE)
def test_decoding_takes_next_to_no_memory(what: str) -> None:
    """Python's parser takes 310 MB for the empty lists."""
    for rule in RULES[:2]:
        assert peak_of(HOSTILE[what], rule) < 6 * MIB


def test_many_secrets_take_no_more_than_so_many_may() -> None:
    secrets = ["x" * LONGEST_SECRET] * MOST_SECRETS
    body = json.dumps({"_id": "doc", "_rev": "1-a", "a": secrets * 2}).encode()
    assert peak_of(body, RULES[0]) < 3 * MOST_SECRETS * LONGEST_SECRET


def test_half_surrogate_pairs_take_another_copy() -> None:
    body = filled(b'"', b"\\ud800", b'"', 4 * MIB)
    document = at_once(DECODERS[RULES[0]].steps(body, "doc"))
    assert document.fields == {"a": "t"}
    assert peak_of(body, RULES[0]) < 2 * len(body)


@pytest.mark.parametrize(("padding", "most"), [(20 * MIB, 2 * MIB), (100_000, 3 * MIB)])
def test_a_document_keeps_its_json_for_its_stubs_alone(padding: int, most: int) -> None:
    """They are copied, if they are less than half of it."""
    stubs = json.dumps({f"{number:x}": STUB for number in range(16_000)}).encode()
    assert MIB < len(stubs) < most
    tracemalloc.start()
    try:
        body = b'{"_id":"doc","_rev":"1-a","x":"%b","_attachments":%b}' % (bytes(padding).replace(b"\0", b"x"), stubs)
        document = at_once(DECODERS[RULES[0]].steps(body, "doc"))
        del body
        assert tracemalloc.get_traced_memory()[0] < most
    finally:
        tracemalloc.stop()
    assert document.is_large
    assert document.attachment("3e7f") == documents.parse_stub("3e7f", STUB)
    assert document.attachment("3e80") is None


def steps_of(rule: TokenRule, body: bytes) -> int:
    return len(list(DECODERS[rule].steps(body, "doc")))


@pytest.mark.parametrize("unit", [b"\\ud800", b"\\n", b"\\ud83d\\ude00x", b"x\\n"])
def test_escapes_are_looked_through_in_steps(unit: bytes) -> None:
    body = filled(b'"\\udfff', unit, b'"', 2 * MIB)
    assert steps_of(RULES[0], body) > 2 * MIB // 2**17


@pytest.mark.parametrize("text", ["\u00e9", "\u20ac", "\U0001f600", "\ud800"])
def test_utf8_is_checked_in_steps(text: str) -> None:
    body = filled(b'"', text.encode("utf-8", "surrogatepass"), b'"', 2 * MIB)
    assert steps_of(RULES[0], body) >= 8


def test_each_object_on_a_path_is_a_step() -> None:
    path = filled(b'{"b":{"b":["t"],"c":[', b"[],", b"]}}", MIB, b'"a":')
    assert steps_of(TokenRule("a"), path) == 2
    # One for each of two objects within the document, and one for the array.
    assert steps_of(TokenRule("a.b.b"), path) == 4


# --- UTF-8 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("character", ["\u00e9", "\u20ac", "\U0001f600"])
@pytest.mark.parametrize("shift", range(4))
def test_characters_across_the_pieces_that_are_checked(character: str, shift: int) -> None:
    text = "x" * shift + character * (MIB // 2)
    body = json.dumps({"_id": "doc", "_rev": "1-a", "x": text, "a": "t"}, ensure_ascii=False).encode()
    assert len(body) > MIB
    assert at_once(DECODERS[RULES[0]].steps(body, "doc")).fields == {"a": "t"}
    # One byte of one character is another, or missing: in each of the pieces, and between them.
    first = body.index(character.encode())
    for position in (first, first + MIB // 2, MIB - 1, MIB, MIB + 1, len(body) - 12):
        for bad in (body[:position] + b"\xff" + body[position + 1 :], body[:position] + b"\xc3" + body[position:]):
            with pytest.raises(BadDocument):
                at_once(DECODERS[RULES[0]].steps(bad, "doc"))


def test_a_run_of_continuation_bytes() -> None:
    body = filled(b'"', b"\x80", b'"', 3 * MIB)
    with pytest.raises(BadDocument):
        at_once(DECODERS[RULES[0]].steps(body, "doc"))


# --- names --------------------------------------------------------------------------------------------------


def test_a_name_may_be_written_in_any_way() -> None:
    name = 'a/"\\\n\u00e9\U0001f600'
    forms = [json.dumps(name), json.dumps(name, ensure_ascii=False), json.dumps(name).replace("/", "\\/")]
    forms.append('"' + "".join(f"\\u{unit:04x}" for unit in memoryview(name.encode("utf-16-le")).cast("H")) + '"')
    padding = ",".join(f'"{n}":{{}}' for n in range(10_000))
    for form in forms:
        stubs = f"{{{padding},{form}:{json.dumps(STUB)}}}"
        document = at_once(
            DECODERS[RULES[0]].steps(b'{"_id":"doc","_rev":"1-a","_attachments":%b}' % stubs.encode(), "doc")
        )
        assert document.is_large
        assert document.attachment(name) == documents.parse_stub(name, STUB)


@given(strategies.document_bodies(), st.sampled_from(["f", "a", "", "_id", "b"]))
def test_a_document_with_one_of_its_attachments(body: bytes, name: str) -> None:
    """It has this one as before, and no other."""
    for is_large in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(documents, "SMALL_DOCUMENT", -1 if is_large else SMALL_DOCUMENT)
            try:
                document = DECODERS[RULES[0]].decode(body, "doc")
                names = document.attachment_names()
            except BadDocument:
                continue
            only = document.only(name)
            assert not only.is_large
            assert only.attachment_names() == [each for each in names if each == name]
            assert only.has(name) is document.has(name) is (name in names)
            assert _found(only, name) == _found(document, name)
            assert (only.rev, only.fields) == (document.rev, document.fields)


@pytest.mark.parametrize("stubs", [None, [], "x", 5])
@pytest.mark.parametrize("length", [0, SMALL_DOCUMENT])
def test_what_are_no_attachments(stubs: object, length: int) -> None:
    body = json.dumps({"_id": "doc", "_rev": "1-a", "_attachments": [stubs, "x" * length] if length else stubs})
    document = at_once(DECODERS[RULES[0]].steps(body.encode(), "doc"))
    for find in (document.attachment, document.has, document.only):
        with pytest.raises(BadDocument):
            find("f")


def test_names_with_half_surrogate_pairs() -> None:
    """They are listed as they are, however large the document: no address leads to them."""
    names = ["a\ud800", "\udfff", "\U0010f000 private", "b\ufffd", "\ud800\ud800"]
    stubs = {**dict.fromkeys(names, STUB), **{f"{n}": STUB for n in range(1000)}}
    body = json.dumps({"_id": "doc", "_rev": "1-a", "_attachments": stubs}).encode()
    assert len(body) > SMALL_DOCUMENT
    document = at_once(DECODERS[RULES[0]].steps(body, "doc"))
    private = document.attachment_names()[2]
    assert document.attachment_names()[:2] == names[:2]
    assert private != names[2], "a private character stands for a half: the one that is known to be wrong"
    assert document.attachment_names()[3:5] == names[3:5]
    assert document.attachment("b\ufffd") is not None
    assert document.attachment("a\ufffd") is None
    assert document.indexed().attachment("a\ud800") is not None


def test_numbers_of_many_digits_are_never_read() -> None:
    """Not even where Python may: it takes time that grows with the square of the digits."""
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        assert scalar_of(Raw(b"9" * 4300)) == 10**4300 - 1
        assert scalar_of(Raw(b"9" * 4301)) is OTHER
        assert scalar_of(Raw(b"-" + b"9" * 5000)) is OTHER
    finally:
        sys.set_int_max_str_digits(limit)


def test_a_large_stub() -> None:
    """Of a stub that is large, its fields are read without the others."""
    stub = {**STUB, "encoding": "gzip", "encoded_length": 3, "sha256": "x"}
    body = json.dumps({"_id": "doc", "_rev": "1-a", "_attachments": {"f": stub | {"x": "y" * 5000}}}).encode()
    assert DECODERS[RULES[0]].decode(body, "doc").attachment("f") == documents.parse_stub("f", stub)
