"""Documents as clients send them, hostile ones too."""

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from txcouchdl.store.answers import Refusal
from txcouchdl.store.claims import Claim
from txcouchdl.store.drafts import InlineAttachment, KeptAttachment, parse_draft
from txcouchdl.store.values import Rev, Revision


def _refusal(text: bytes | str) -> tuple[int, str, str]:
    with pytest.raises(Refusal) as raised:
        parse_draft(text.encode() if isinstance(text, str) else text)
    return raised.value.status, raised.value.error, raised.value.reason


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        b'{"a":"\xff"}',
        b"\xef\xbb\xbf{}",
        '{"a":NaN}',
        '{"a":-Infinity}',
        '{"a":1e999}',
        r'{"a":"\ud800"}',
        r'{"\udfff":1}',
        '{"a":' + "9" * 5000 + "}",
        '{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
        "[" * 100_000,
        '{"a":1}x',
    ],
)
def test_not_json(text: bytes | str) -> None:
    assert _refusal(text) == (400, "bad_request", "invalid UTF-8 JSON")


@pytest.mark.parametrize("text", ["1", '"a"', "[]", "null"])
def test_not_an_object(text: str) -> None:
    assert _refusal(text) == (400, "bad_request", "Document must be a JSON object")


@pytest.mark.parametrize(
    ("document", "member"),
    [
        ({"_foo": 1}, "_foo"),
        ({"_deleted": "yes"}, "_deleted"),
        ({"_attachments": []}, "_attachments"),
        ({"_attachments": {"a": 1}}, "_attachments"),
        ({"_attachments": {"a": {"data": "", "content_type": 1}}}, "_attachments"),
    ],
)
def test_bad_members(document: dict[str, Any], member: str) -> None:
    assert _refusal(json.dumps(document)) == (400, "doc_validation", f"Bad special document member: {member}")


@pytest.mark.parametrize(
    ("document_id", "status", "error"),
    [
        (1, 400, "illegal_docid"),
        ("", 400, "illegal_docid"),
        ("_x", 400, "illegal_docid"),
        ("_design", 400, "illegal_docid"),
        ("_design/", 400, "illegal_docid"),
        ("_local/x", 501, "not_implemented"),
    ],
)
def test_bad_ids(document_id: object, status: int, error: str) -> None:
    assert _refusal(json.dumps({"_id": document_id}))[:2] == (status, error)


@pytest.mark.parametrize("rev", ["bad", "", "1-", "-a", "1-\u00e9", "1-a b", 1, None, "9" * 19 + "-a", "\u0661-a"])
def test_bad_revisions(rev: object) -> None:
    assert _refusal(json.dumps({"_rev": rev})) == (400, "bad_request", "Invalid rev format")


@pytest.mark.parametrize("data", [None, 1, "%", "a", "aGVsbG8", "aGVs bG8=\u00e9", "aGVsbG8==="])
def test_bad_base64(data: object) -> None:
    document = {"_attachments": {"a": {"data": data}}}
    assert _refusal(json.dumps(document)) == (400, "bad_request", "Invalid attachment data for a")


@pytest.mark.parametrize("extra", [{"follows": True}, {"data": "", "encoding": "gzip"}])
def test_attachments_sent_in_other_ways(extra: dict[str, Any]) -> None:
    assert _refusal(json.dumps({"_attachments": {"a": extra}}))[:2] == (501, "not_implemented")


def test_a_bad_attachment_name() -> None:
    assert _refusal('{"_attachments":{"_a":{"data":""}}}')[:2] == (400, "bad_request")


def test_a_draft() -> None:
    draft = parse_draft(
        b'{"z":1,"_id":"d","_rev":"2-x","a":{"_b":"\xc3\xa9"},"_attachments":{"s":{"stub":true,"revpos":1},'
        b'"t":{"stub":true},"i":{"data":"aGV\\nsbG8=","content_type":"text/plain"},"j":{"data":""}},'
        b'"_deleted":true,"_revisions":{},"_conflicts":[]}'
    )
    assert (draft.id, draft.rev, draft.deleted) == ("d", Rev(2, "x"), True)
    assert draft.body == '{"z":1,"a":{"_b":"é"}}'
    assert draft.attachments == (
        KeptAttachment("s", 1),
        KeptAttachment("t", None),
        InlineAttachment("i", "text/plain", b"hello"),
        InlineAttachment("j", "application/octet-stream", b""),
    )


# Of subnormal numbers CouchDB's parser loses some: see test_revision_ids.py.
_floats = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | _floats | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)


@given(st.dictionaries(st.text().filter(lambda name: not name.startswith("_")), _json))
def test_bodies_come_back(body: dict[str, Any]) -> None:
    assert json.loads(parse_draft(json.dumps(body).encode()).body) == body


@given(st.dictionaries(st.text().filter(lambda name: not name.startswith("_")), st.binary()))
def test_inline_data_comes_back(bodies: dict[str, bytes]) -> None:
    entries = {name: {"data": base64.b64encode(data).decode()} for name, data in bodies.items()}
    draft = parse_draft(json.dumps({"_attachments": entries}).encode())
    assert {a.name: a.data for a in draft.attachments if isinstance(a, InlineAttachment)} == bodies


@given(st.binary() | _json.map(lambda value: json.dumps(value).encode()))
@example(b'{"_attachments":{"a":null}}')
def test_anything_is_a_draft_or_refused(text: bytes) -> None:
    with suppress(Refusal):
        parse_draft(text)


def test_a_compacted_revision_has_no_text() -> None:
    with pytest.raises(LookupError):
        _ = Revision(1, "d", Rev(1, "x"), False, None).text


_A, _B = "1-" + "a" * 32, "1-" + "b" * 32


@pytest.mark.parametrize(
    ("claim", "in_document", "expected"),
    [
        (Claim(), None, None),
        (Claim(_A), None, _A),
        (Claim(None, _A), None, _A),
        (Claim(None, f' "{_A}" '), None, _A),
        (Claim(), _A, _A),
        (Claim(_A, f'"{_A}"'), _A, _A),
        (Claim(_A), _B, 400),
        (Claim(_A, _B), None, 400),
        (Claim(None, _A), _B, 400),
        (Claim(None, "*"), None, 400),
        (Claim(""), None, 400),
        (Claim(None, ""), None, 400),
    ],
)
def test_claims(claim: Claim, in_document: str | None, expected: str | int | None) -> None:
    given_rev = None if in_document is None else Rev.parse(in_document)
    if expected == 400:
        with pytest.raises(Refusal) as raised:
            claim.resolve(given_rev)
        assert raised.value.status == 400
    else:
        resolved = claim.resolve(given_rev)
        assert (None if resolved is None else str(resolved)) == expected
