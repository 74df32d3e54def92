"""
Plans. What a plan describes is put together from the attachment's bytes and taken apart again by other means: by
slices, by positions in sets, by the mail parser.
"""

import email
import json
import re
from collections.abc import Sequence
from typing import Any, Final

import attrs
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, composite

from tests import strategies
from txcouchdl.couch.documents import AttachmentStub, Digest, Storage
from txcouchdl.gateway.description import Description, entity_tag, safe_content_type, sent_type
from txcouchdl.gateway.plan import (
    QUICKLY_READ,
    DeliveryPlan,
    RequestFacts,
    plan_delivery,
    plan_options,
)
from txcouchdl.protocol.ranges import ByteRange

_BOUNDARY: Final = "THIS_STRING_SEPARATES"
_REV: Final = "3-967a00dff5e02add41819138abb3284d"
_STUB: Final = AttachmentStub(
    "v.mp4", "video/mp4", Digest.parse("md5-3IX8fosrGklBjeSPh1WzuQ=="), Storage.IDENTITY, 1000, 1000
)
_ETAG: Final = '"3IX8fosrGklBjeSPh1WzuQ=="'
_COMPRESSED: Final = attrs.evolve(_STUB, storage=Storage.COMPRESSED, stored_length=36)
_ENCODED: Final = attrs.evolve(_STUB, storage=Storage.ENCODED, stored_length=614, length=None)
_LEARNED: Final = attrs.evolve(_ENCODED, length=1000)
_EMPTY: Final = attrs.evolve(_STUB, stored_length=0, length=0)


@composite
def _small_requests(draw: DrawFn) -> tuple[AttachmentStub, str | None]:
    """A stub of a known length, of which all bytes are at hand, and a Range field for it."""
    stub = draw(strategies.stubs(st.integers(0, 256)).filter(lambda stub: stub.length is not None))
    several = [strategies.separate_range_fields(stub.length)] if stub.length and stub.length > 1 else []
    return stub, draw(st.one_of(st.none(), strategies.any_range_fields, *several))


def _plan(stub: AttachmentStub = _STUB, method: str = "GET", **facts: Any) -> DeliveryPlan:
    return plan_delivery(RequestFacts(method, **facts), stub, _REV, lambda: _BOUNDARY)


def _fields(plan: DeliveryPlan) -> dict[str, str]:
    """The header fields, each of which is there once only."""
    fields = dict(plan.headers)
    assert len(fields) == len(plan.headers)
    # The edge writes it from content_length.
    assert "Content-Length" not in fields
    return fields


def _body(plan: DeliveryPlan, whole: bytes) -> bytes:
    if plan.ranges is None:
        return whole + plan.trailer
    heads = [b""] * len(plan.ranges) if plan.framing is None else plan.framing.part_heads()
    pieces = (head + whole[each.first : each.last + 1] for head, each in zip(heads, plan.ranges, strict=True))
    return b"".join(pieces) + plan.trailer


# --- the arithmetic, a second time --------------------------------------------------------------------------


def _asked(field: str | None) -> list[tuple[str, str]] | None:
    """RFC 9110 section 14.1.1, in one expression a member: pairs of digits, or None for what is to be ignored."""
    found = None if field is None or len(field) > 2**15 else re.fullmatch(r"bytes=(.*)", field, re.S | re.I | re.A)
    if found is None:
        return None
    members = [member.strip(" \t") for member in found[1].split(",") if member.strip(" \t")]
    pairs = [re.fullmatch(r"([0-9]+)-([0-9]*)|(-)([0-9]+)", member) for member in members]
    if not 0 < len(pairs) <= 1000 or not all(pairs):
        return None
    read = [(pair[1] or "", pair[2] if pair[3] is None else pair[4]) for pair in pairs if pair]
    return None if any(first and last and int(last) < int(first) for first, last in read) else read


def _positions(first: str, last: str, length: int) -> range:
    """The bytes that one member selects."""
    if not first:
        return range(max(length - int(last), 0), length)
    return range(int(first), min(int(last) + 1, length) if last else length)


def _expected(field: str | None, length: int) -> list[range] | None:
    """The ranges to be sent; none is a 416, None the whole."""
    asked = _asked(field)
    if asked is None:
        return None
    if length == 0:
        return None if any(not first and int(last) for first, last in asked) else []
    members = [positions for first, last in asked if (positions := _positions(first, last, length))]
    if sum(map(len, members)) > length:
        return None
    # Runs of neighbours among all positions that anybody asked for, each in the place of its first member.
    selected = sorted({position for member in members for position in member})
    starts = [at for at in selected if at - 1 not in selected]
    ends = [at for at in selected if at + 1 not in selected]
    runs = [range(start, end + 1) for start, end in zip(starts, ends, strict=True)]
    return sorted(runs, key=lambda run: next(place for place, member in enumerate(members) if member[0] in run))


def _split(body: bytes, media_type: str) -> list[tuple[list[str], bytes]]:
    """The parts of a multipart body (RFC 2046 section 5.1.1): header lines and content."""
    found = re.fullmatch(r"multipart/byteranges; boundary=([0-9A-Za-z_]+)", media_type)
    assert found
    nothing, *parts, end = body.split(b"\r\n--" + found[1].encode("ascii"))
    assert (nothing, end) == (b"", b"--\r\n")
    divided = [part.partition(b"\r\n\r\n") for part in parts]
    return [(head.decode("latin-1").split("\r\n")[1:], content) for head, _, content in divided]


def _check_whole(plan: DeliveryPlan, stub: AttachmentStub, whole: bytes) -> None:
    assert plan.status == 200
    assert "Content-Range" not in _fields(plan)
    assert _body(plan, whole) == whole
    assert plan.content_length == stub.length


def _check_parts(plan: DeliveryPlan, stub: AttachmentStub, whole: bytes, runs: Sequence[range]) -> None:
    assert plan.status == 206
    fields = _fields(plan)
    body = _body(plan, whole)
    assert plan.content_length == len(body)
    ranges = [f"bytes {run[0]}-{run[-1]}/{len(whole)}" for run in runs]
    contents = [whole[run[0] : run[-1] + 1] for run in runs]
    if len(runs) == 1:
        assert (fields["Content-Range"], body) == (ranges[0], contents[0])
        assert fields.get("Content-Type") == sent_type(stub)
        return
    assert "Content-Range" not in fields
    content_type = sent_type(stub)
    lines = [] if content_type is None else [f"Content-Type: {content_type}"]
    assert _split(body, fields["Content-Type"]) == [
        ([*lines, f"Content-Range: {text}"], content) for text, content in zip(ranges, contents, strict=True)
    ]


@given(_small_requests())
@example((_EMPTY, "bytes=0-"))
@example((_EMPTY, "bytes=-5"))
@example((_EMPTY, "bytes=-0"))
@example((_EMPTY, "bytes=0-0,-1"))
@example((attrs.evolve(_STUB, stored_length=1, length=1), "bytes=-1"))
@example((attrs.evolve(_STUB, stored_length=31, length=31), "bytes=-31"))
@example((attrs.evolve(_STUB, stored_length=31, length=31), "bytes=-1000000"))
@example((attrs.evolve(_STUB, stored_length=31, length=31), "bytes=0-0,31-,5-6"))
@example((attrs.evolve(_STUB, stored_length=31, length=31), "bytes=5-6,0-4"))
@example((attrs.evolve(_STUB, stored_length=31, length=31), "bytes=18446744073709551616-"))
def test_a_get_gets_the_slices_it_asked_for(drawn: tuple[AttachmentStub, str | None]) -> None:
    stub, field = drawn
    assert stub.length is not None
    whole = bytes(range(256))[: stub.length]
    plan = _plan(stub, range=field)
    runs = _expected(field, stub.length)
    assert _fields(plan)["Accept-Ranges"] == "bytes"
    if runs is None:
        _check_whole(plan, stub, whole)
    elif runs:
        _check_parts(plan, stub, whole, runs)
    else:
        assert plan.status == 416
        assert _fields(plan)["Content-Range"] == f"bytes */{stub.length}"
        assert _body(plan, whole) == plan.trailer
        assert plan.content_length == len(plan.trailer)


@given(st.data(), st.binary(min_size=2, max_size=60) | st.text("\r\n-a", min_size=2).map(str.encode))
def test_a_mail_parser_reads_what_is_sent(data: st.DataObject, whole: bytes) -> None:
    stub = attrs.evolve(
        _STUB, stored_length=len(whole), length=len(whole), content_type=data.draw(strategies.media_types)
    )
    plan = _plan(stub, range=data.draw(strategies.separate_range_fields(len(whole))))
    assume(plan.framing is not None)
    assert plan.ranges is not None
    fields = _fields(plan)
    message = email.message_from_bytes(f"Content-Type: {fields['Content-Type']}\r\n\r\n".encode() + _body(plan, whole))
    parts = list(message.walk())[1:]
    assert len(parts) == len(plan.ranges) > 1
    for part in parts:
        found = re.fullmatch(rf"bytes ([0-9]+)-([0-9]+)/{len(whole)}", str(part["Content-Range"]))
        assert found
        assert part["Content-Type"] == stub.content_type
        assert part.get_payload(decode=True) == whole[int(found[1]) : int(found[2]) + 1]


@given(strategies.stubs(), strategies.any_range_fields)
@example(attrs.evolve(_STUB, stored_length=2**63 - 1, length=2**63 - 1), "bytes=0-,-1")
@example(attrs.evolve(_STUB, stored_length=2**63 - 1, length=2**63 - 1), "bytes=9223372036854775806-")
@example(attrs.evolve(_STUB, stored_length=2**63 - 1, length=2**63 - 1), "bytes=-9223372036854775807")
def test_the_bounds_of_any_plan(stub: AttachmentStub, field: str) -> None:
    """Of any length: never a byte more than there is, never one twice, and what is promised adds up."""
    plan = _plan(stub, range=field)
    known = plan.ranges
    if not known:
        assert plan.status == 416 or (plan.status, plan.content_length) == (200, stub.length)
        return
    assert plan.status == 206
    assert stub.length is not None
    assert sum(each.length for each in known) <= stub.length
    for before, after in zip(
        sorted(known, key=lambda each: each.first), sorted(known, key=lambda each: each.first)[1:], strict=False
    ):
        assert before.last + 1 < after.first
    assert max(each.last for each in known) < stub.length
    framing = (0 if plan.framing is None else sum(map(len, plan.framing.part_heads()))) + len(plan.trailer)
    assert plan.content_length == framing + sum(each.length for each in known)
    assert len(known) <= 1000
    if len(known) == 1:
        assert framing == 0


def test_the_caps() -> None:
    stub = attrs.evolve(_STUB, stored_length=10**6, length=10**6)

    def field(count: int) -> str:
        return "bytes=" + ",".join(f"{10 * each}-{10 * each}" for each in range(count))

    plan = _plan(stub, range=field(1000))
    assert (plan.status, len(plan.ranges or ())) == (206, 1000)
    assert _plan(stub, range=field(1001)).status == 200
    assert _plan(stub, range="bytes=" + "0" * 32_000 + "5-5").status == 206
    assert _plan(stub, range="bytes=" + "0" * 32_768 + "5-5").status == 200
    # Amplification: as many bytes as there are, and no more.
    assert _plan(stub, range="bytes=0-499999,500001-").status == 206
    assert _plan(stub, range="bytes=0-,0-0").status == 200
    assert _plan(stub, range="bytes=" + ",".join(["0-"] * 100)).status == 200


def test_all_in_one_multipart_answer_has_one_boundary_for_itself() -> None:
    boundaries = iter(["one", "two"])
    facts = RequestFacts("GET", range="bytes=0-0,2-2")
    plans = [plan_delivery(facts, _STUB, _REV, lambda: next(boundaries)) for _ in range(2)]
    assert [_fields(plan)["Content-Type"] for plan in plans] == [
        "multipart/byteranges; boundary=one",
        "multipart/byteranges; boundary=two",
    ]
    bodies = [_body(plan, b"abc") for plan in plans]
    assert b"--one\r\n" in bodies[0]
    assert b"one" not in bodies[1]


# --- storages -----------------------------------------------------------------------------------------------


@given(
    strategies.stubs().map(lambda stub: attrs.evolve(stub, length=None, storage=Storage.ENCODED)),
    strategies.any_range_fields,
)
def test_an_unknown_length_has_no_ranges(stub: AttachmentStub, field: str) -> None:
    """Not even an unsatisfiable one: nobody knows."""
    for method, ranges in (("GET", None), ("HEAD", ())):
        plan = _plan(stub, method, range=field)
        assert (plan.status, plan.content_length, plan.ranges, plan.trailer) == (200, None, ranges, b"")
        fields = _fields(plan)
        assert fields["Accept-Ranges"] == ("bytes" if stub.stored_length <= QUICKLY_READ else "none")
        assert "Content-Range" not in fields
        # Who asks for ranges may get them once the length is known.
        is_worth_while = method == "GET" and _asked(field) is not None and stub.stored_length <= QUICKLY_READ
        assert plan.wants_length == is_worth_while


@pytest.mark.parametrize("stub", [_STUB, _COMPRESSED, _LEARNED])
def test_ranges_work_in_every_storage(stub: AttachmentStub) -> None:
    plan = _plan(stub, range="bytes=-10")
    assert (plan.status, plan.ranges) == (206, (ByteRange(990, 999),))
    assert _plan(stub, range="bytes=0-0,5-5").status == 206


@pytest.mark.parametrize("storage", [Storage.IDENTITY, Storage.COMPRESSED, Storage.ENCODED])
@pytest.mark.parametrize("field", [None, "bytes=-5"])
def test_an_empty_body_is_not_read(storage: Storage, field: str | None) -> None:
    plan = _plan(attrs.evolve(_EMPTY, storage=storage), range=field)
    assert (plan.status, plan.ranges, plan.content_length, plan.trailer) == (200, (), 0, b"")


_MIB: Final = 2**20


def _backwards(count: int, distance: int, length: int) -> str:
    members = (f"{distance * each}-{distance * each + length - 1}" for each in reversed(range(count)))
    return f"bytes={','.join(members)}"


@pytest.mark.parametrize(
    ("length", "stored_length", "field", "status"),
    [
        # Few bytes are one pass, in any order, and so is whatever ascends.
        (100 * _MIB, 1000, f"bytes=-1,{60 * _MIB}-{60 * _MIB},{50 * _MIB}-{50 * _MIB}", 206),
        (2000 * _MIB, 1000, _backwards(1000, 2 * _MIB, 131), 206),
        (128 * _MIB, 1000, _backwards(128, _MIB, 1024), 206),
        (8 * _MIB, 1000, f"bytes={6 * _MIB}-{7 * _MIB},{7 * _MIB + 2}-{7 * _MIB + 9},-1", 206),
        # Less than 16 MiB to inflate is never too much, however often from the first byte on.
        (2**20, 1000, _backwards(16, 2**14, 2**14 - 1), 206),
        (8 * _MIB, 1000, f"bytes={6 * _MIB}-{7 * _MIB - 1},{5 * _MIB}-{6 * _MIB - 2},0-9", 206),
        (8 * _MIB, 1000, f"bytes={7 * _MIB}-,{5 * _MIB}-{6 * _MIB - 1},{3 * _MIB}-{4 * _MIB}", 200),
        # Else as much as twice the whole of it.
        (100 * _MIB, 1000, f"bytes={99 * _MIB}-,{98 * _MIB}-{99 * _MIB - 2}", 206),
        (100 * _MIB, 1000, f"bytes={99 * _MIB}-,{60 * _MIB}-{61 * _MIB},{50 * _MIB}-{51 * _MIB}", 200),
        (100 * _MIB, 1000, f"bytes={99 * _MIB}-,{50 * _MIB}-{51 * _MIB},{60 * _MIB}-{61 * _MIB}", 206),
        (128 * _MIB, 1000, _backwards(128, _MIB, 1025), 200),
        # Touching ones are read in one go, and a single one is always served.
        (100 * _MIB, 1000, f"bytes={99 * _MIB}-{99 * _MIB},{99 * _MIB + 1}-", 206),
        (100 * _MIB, 1000, "bytes=-1", 206),
    ],
)
def test_many_ranges_of_gzip_cost_no_more_than_the_whole(
    length: int, stored_length: int, field: str, status: int
) -> None:
    """A pass begins with the first byte: a request of some bytes must not cost a thousand times the whole."""
    for storage in (Storage.COMPRESSED, Storage.ENCODED):
        stub = attrs.evolve(_STUB, storage=storage, stored_length=stored_length, length=length)
        plan = _plan(stub, range=field)
        assert plan.status == status
        if status == 200:
            assert (plan.ranges, plan.content_length) == (None, length)
            assert _fields(plan)["Content-Type"] == "video/mp4"
    # Bytes stored as they are can be read where they are.
    assert _plan(attrs.evolve(_STUB, stored_length=length, length=length), range=field).status == 206


@given(strategies.stubs(), strategies.any_range_fields)
def test_the_cost_of_any_plan_is_bounded(stub: AttachmentStub, field: str) -> None:
    assume(stub.storage is not Storage.IDENTITY)
    ranges = _plan(stub, range=field).ranges
    ends = [stub.length or 0] if ranges is None else [each.last + 1 for each in ranges]
    if ranges is not None and sum(each.length for each in ranges) <= 2**17:
        # They are collected.
        return
    # A pass ends where the next range does not lie behind it.
    inflated = [end for end, after in zip(ends, [*ends[1:], 0], strict=False) if after <= end]
    assert sum(inflated) <= max(16 * _MIB, 2 * (stub.length or 0))


# --- HEAD ---------------------------------------------------------------------------------------------------


@given(strategies.stubs(), st.data())
def test_head_is_a_get_of_the_whole_without_the_whole(stub: AttachmentStub, data: st.DataObject) -> None:
    """RFC 9110 sections 9.3.2 and 14.2: Range is for GET only, and with it If-Range."""
    etag = str(entity_tag(stub))
    conditions: dict[str, Any] = {
        "if_match": data.draw(strategies.condition_fields(etag)),
        "if_none_match": data.draw(strategies.condition_fields(etag)),
    }
    head = _plan(
        stub,
        "HEAD",
        range=data.draw(strategies.any_range_fields),
        if_range=data.draw(strategies.condition_fields(etag)),
        **conditions,
    )
    get = _plan(stub, **conditions)
    assert (head.status, head.headers, head.content_length) == (get.status, get.headers, get.content_length)
    assert head.ranges == ()
    if head.status == 200:
        assert head.trailer == b""


# --- preconditions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ({"if_none_match": _ETAG}, 304),
        ({"if_none_match": f"W/{_ETAG}"}, 304),
        ({"if_none_match": "*"}, 304),
        ({"if_none_match": f'"x", {_ETAG}'}, 304),
        ({"if_none_match": '"x"'}, 200),
        ({"if_none_match": _ETAG[1:-1]}, 200),
        # The revision is a name of the document, not of these bytes.
        ({"if_none_match": f'"{_REV}"'}, 200),
        ({"if_match": _ETAG}, 200),
        ({"if_match": "*"}, 200),
        ({"if_match": f"W/{_ETAG}"}, 412),
        ({"if_match": '"x"'}, 412),
        ({"if_match": ""}, 412),
        ({"if_match": f'"{_REV}"'}, 200),
        ({"if_match": _REV}, 200),
        ({"if_match": f'W/"{_REV}"'}, 412),
        ({"if_match": "2-967a00dff5e02add41819138abb3284d"}, 412),
        ({"if_match": '"x"', "if_none_match": _ETAG}, 412),
        ({"if_match": _ETAG, "if_none_match": _ETAG}, 304),
        # Before any range (section 13.2.2).
        ({"if_none_match": _ETAG, "range": "bytes=5000-"}, 304),
        ({"if_match": '"x"', "range": "bytes=5000-"}, 412),
    ],
)
def test_preconditions(method: str, facts: dict[str, str], status: int) -> None:
    for stub in (_STUB, _COMPRESSED, _ENCODED, _LEARNED):
        own = {name: value.replace(_ETAG[1:-1], entity_tag(stub).opaque) for name, value in facts.items()}
        assert _plan(stub, method, **own).status == status


def test_a_digest_of_other_bytes_than_ours_is_not_our_tag() -> None:
    """The same gzip bytes, stored as they are and uploaded as a coding: one digest, two representations."""
    assert str(entity_tag(_STUB)) == str(entity_tag(_COMPRESSED)) == _ETAG
    assert entity_tag(_ENCODED) == entity_tag(_LEARNED) != entity_tag(_STUB)
    assert _plan(_ENCODED, if_none_match=_ETAG).status == 200
    assert _plan(_LEARNED, range="bytes=1-2", if_range=_ETAG).status == 200


@pytest.mark.parametrize(
    ("if_range", "status"),
    [
        (None, 206),
        (_ETAG, 206),
        (f" {_ETAG}\t", 206),
        (f"W/{_ETAG}", 200),
        ('"x"', 200),
        (_ETAG[1:-1], 200),
        (f'"{_REV}"', 200),
        (_REV, 200),
        (f'{_ETAG}, "x"', 200),
        (f"{_ETAG}, {_ETAG}", 200),
        ("*", 200),
        ("", 200),
        ("Sat, 21 Nov 2026 19:21:47 GMT", 200),
    ],
)
def test_if_range(if_range: str | None, status: int) -> None:
    for stub in (_STUB, _COMPRESSED):
        plan = _plan(stub, range="bytes=1-2", if_range=if_range)
        assert plan.status == status
        assert plan.content_length == (2 if status == 206 else 1000)
        # Where it does not hold there is no Range, not even a wrong one.
        assert _plan(stub, range="bytes=5000-", if_range=if_range).status == (416 if status == 206 else 200)
        assert _plan(stub, if_range=if_range).status == 200
    assert _plan(_ENCODED, range="bytes=1-2", if_range=if_range).status == 200


@pytest.mark.parametrize("stub", [_STUB, _COMPRESSED, _ENCODED, _EMPTY])
def test_304(stub: AttachmentStub) -> None:
    """RFC 9110 section 15.4.5: what the 200 would have of ETag and Cache-Control, and nothing to frame a body by."""
    plan = _plan(stub, if_none_match=str(entity_tag(stub)))
    fields = _fields(plan)
    assert (plan.ranges, plan.trailer, plan.content_length) == ((), b"", None)
    assert fields["ETag"] == str(entity_tag(stub))
    assert fields["Cache-Control"] == _fields(_plan(stub))["Cache-Control"] == "private, no-transform"
    assert not {"Content-Type", "Content-Range", "Transfer-Encoding"} & set(fields)


def test_412() -> None:
    plan = _plan(if_match='"x"')
    fields = _fields(plan)
    assert plan.ranges == ()
    assert plan.content_length == len(plan.trailer)
    assert fields["Content-Type"] == "application/json"
    assert fields["ETag"] == _ETAG
    assert not {"Content-Range", "Content-Disposition"} & set(fields)


def test_416() -> None:
    plan = _plan(range="bytes=1000-")
    fields = _fields(plan)
    assert plan.ranges == ()
    assert plan.content_length == len(plan.trailer)
    assert fields["Content-Range"] == "bytes */1000"
    assert fields["Accept-Ranges"] == "bytes"
    assert fields["Content-Type"] == "application/json"
    # A client that has it all must be able to tell that what it has is still this.
    assert fields["ETag"] == _ETAG


# --- header fields ------------------------------------------------------------------------------------------


@given(strategies.stubs(), st.data())
def test_any_field_of_any_plan_is_a_field(stub: AttachmentStub, data: st.DataObject) -> None:
    """RFC 9110 section 5.5, whatever the stub says: the edge writes values as ISO 8859-1."""
    etag = str(entity_tag(stub))
    plan = _plan(
        stub,
        data.draw(st.sampled_from(["GET", "HEAD"])),
        range=data.draw(st.none() | strategies.any_range_fields),
        if_match=data.draw(strategies.condition_fields(etag)),
        if_none_match=data.draw(strategies.condition_fields(etag)),
        if_range=data.draw(strategies.condition_fields(etag)),
    )
    assert plan.status in {200, 206, 304, 412, 416}
    fields = _fields(plan)
    for name, value in fields.items():
        assert re.fullmatch(r"[A-Za-z-]+", name)
        assert re.fullmatch(
            rb"[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?", value.encode("latin-1")
        )
        assert len(value) <= 8192
    for head in () if plan.framing is None else plan.framing.part_heads():
        assert head.count(b"\r\n\r\n") == 1
        assert head.count(b"\n") == head.count(b"\r")
    # One attachment, one strong entity-tag, on every answer about it.
    assert fields["ETag"] == etag
    assert fields["X-Content-Type-Options"] == "nosniff"
    if plan.status in {200, 206}:
        assert {"Accept-Ranges", "Cache-Control", "Content-Disposition", "Content-Security-Policy"} <= set(fields)
        assert fields["Referrer-Policy"] == "no-referrer"
        policy = fields["Content-Security-Policy"].split("; ")
        assert {"default-src 'none'", "form-action 'none'"} <= set(policy)
        assert not re.search(r"script-src|unsafe-eval|allow-|object-src|frame-src", fields["Content-Security-Policy"])
        is_played = re.match(r"(?:audio|video)/", sent_type(stub) or "", re.I | re.A)
        assert is_played or "sandbox" in policy
        assert fields["Cache-Control"] == "private, no-transform"
    assert not {"Content-Encoding", "Last-Modified", "Expires", "Set-Cookie"} & set(fields)


def test_the_fields_of_a_200() -> None:
    fields = _fields(_plan())
    assert fields["Content-Type"] == "video/mp4"
    assert fields["Content-Disposition"] == 'inline; filename="v.mp4"'
    assert fields["Accept-Ranges"] == "bytes"
    assert fields["ETag"] == _ETAG


def test_no_content_type_is_no_field() -> None:
    for content_type in (None, "", " ", "\t \t", "\r\n"):
        stub = attrs.evolve(_STUB, name="nameless", content_type=content_type)
        assert "Content-Type" not in _fields(_plan(stub))
        assert "Content-Type" not in _fields(_plan(stub, range="bytes=0-0"))
        plan = _plan(stub, range="bytes=0-0,2-2")
        assert _fields(plan)["Content-Type"].startswith("multipart/")
        assert plan.framing is not None
        assert all(b"Content-Type" not in head for head in plan.framing.part_heads())


@pytest.mark.parametrize(
    ("content_type", "sent"),
    [
        (None, None),
        ("", None),
        ("text/html; charset=utf-8", "text/html; charset=utf-8"),
        ("TEXT/Plain", "TEXT/Plain"),
        ("no slash at all", "no slash at all"),
        (" text/plain ", "text/plain"),
        ("text/plain;\tcharset=utf-8", "text/plain;\tcharset=utf-8"),
        ("text/pl\u00e4in", "text/pl\u00c3\u00a4in"),
        ("text/\u20ac", "text/\u00e2\u0082\u00ac"),
        ("text/\ud800", "text/?"),
        ("text/plain\r\nSet-Cookie: a=b", "application/octet-stream"),
        ("text/plain\n", "application/octet-stream"),
        ("\ntext/plain", "application/octet-stream"),
        ("text/plain\x00", "application/octet-stream"),
        ("text/\x1bplain", "application/octet-stream"),
        ("text/\x7fplain", "application/octet-stream"),
        ("text/plain\x0b", "application/octet-stream"),
        ("t" * 1024, "t" * 1024),
        ("t" * 1025, "application/octet-stream"),
        ("t" * 10**6, "application/octet-stream"),
    ],
)
def test_content_types(content_type: str | None, sent: str | None) -> None:
    assert safe_content_type(content_type) == sent


@given(strategies.content_types | strategies.hostile_content_types() | st.text(st.characters()))
@example("\x85")
@example("\u2028")
@example("\x1c text/plain")
@example("text/\u010a")
def test_any_content_type_is_made_safe(content_type: str) -> None:
    safe = safe_content_type(content_type)
    if safe is None:
        assert content_type.strip() == ""
        return
    octets = safe.encode("latin-1")
    assert re.fullmatch(rb"[\t\x20-\x7e\x80-\xff]+", octets)
    assert octets in (content_type.strip().encode("utf-8", "replace"), b"application/octet-stream")
    # Any that can go over the wire as it is does.
    if re.fullmatch(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?", content_type):
        assert safe == content_type


@pytest.mark.parametrize(
    ("content_type", "is_sandboxed"),
    [
        ("video/mp4", False),
        ("AUDIO/mpeg", False),
        ("video/mp4; codecs=avc1", False),
        (None, True),
        ("", True),
        ("text/html", True),
        ("image/svg+xml", True),
        ("application/xhtml+xml; x=video/mp4", True),
        ("text/html, video/mp4", True),
        ("v\u0131deo/mp4", True),
        ("\u212audio/mp4", True),
        # Of several types browsers take the last that they know (Fetch, "extract a MIME type").
        ("video/mp4, text/html", True),
        ("audio/x,text/html", True),
        ("video/mp4 ,\timage/svg+xml", True),
        ('video/mp4; a="b", text/html', True),
        ('video/mp4; a="b\\"", text/html', True),
    ],
)
def test_what_could_be_a_page_is_sandboxed(content_type: str | None, is_sandboxed: bool) -> None:
    for stub in (_STUB, _COMPRESSED, _ENCODED, _EMPTY):
        fields = _fields(_plan(attrs.evolve(stub, name="nameless", content_type=content_type)))
        assert ("sandbox" in fields["Content-Security-Policy"].split("; ")) == is_sandboxed


# --- what the address demands -------------------------------------------------------------------------------

_PIN: Final = "md5-3IX8fosrGklBjeSPh1WzuQ=="
_OTHER: Final = "md5-AAAAAAAAAAAAAAAAAAAAAA=="


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("facts", [{}, {"range": "bytes=5-"}, {"if_none_match": _ETAG}, {"if_match": "*"}])
def test_a_digest_that_is_right_changes_nothing(method: str, facts: dict[str, Any]) -> None:
    assert _plan(method=method, digest=_PIN, **facts) == _plan(method=method, **facts)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("facts", [{}, {"range": "bytes=5-"}, {"if_none_match": _ETAG}, {"if_match": _ETAG}])
def test_another_digest_is_412_whatever_else_is_asked(method: str, facts: dict[str, Any]) -> None:
    plan = _plan(method=method, digest=_OTHER, **facts)
    assert (plan.status, plan.ranges) == (412, ())
    assert json.loads(plan.trailer)["reason"] == "The attachment is not the one that digest names."
    assert _fields(plan)["ETag"] == _ETAG


def test_a_plus_that_was_not_encoded_is_a_plus() -> None:
    stub = attrs.evolve(_STUB, digest=Digest(b"\xfb" * 16))
    assert "+" in stub.digest.text
    assert _plan(stub, digest=stub.digest.text.replace("+", " ")).status == 200


def test_a_pin_tells_what_was_done_to_the_stored_bytes() -> None:
    """The same gzip bytes may be sent inflated, or, uploaded as what they are, as they are."""
    assert Description(_STUB).pin == _PIN
    assert Description(_ENCODED).pin == f"{_PIN}+gunzip"
    assert _plan(_ENCODED, digest=f"{_PIN}+gunzip").status == 200
    assert _plan(_STUB, digest=f"{_PIN}+gunzip").status == 412
    assert _plan(_ENCODED, digest=_PIN).status == 412


@given(strategies.stubs(), strategies.stubs())
def test_a_pin_opens_what_it_was_made_of_and_nothing_else(stub: AttachmentStub, other: AttachmentStub) -> None:
    pin = Description(stub).pin
    assert _plan(stub, digest=pin).status == 200
    assert (_plan(other, digest=pin).status == 200) == (entity_tag(stub) == entity_tag(other))


@pytest.mark.parametrize(
    "digest",
    ["", "md5-", "md5-AAAA", _PIN[4:], f"MD5-{_PIN[4:]}", f"{_PIN}, {_PIN}", f"{_PIN}+gzip", "1-abc", "\ufffd"],
)
def test_what_is_no_digest_is_400(digest: str) -> None:
    plan = _plan(digest=digest)
    assert (plan.status, json.loads(plan.trailer)["reason"]) == (400, "Invalid digest format")


@pytest.mark.parametrize("facts", [{}, {"range": "bytes=5-"}, {"range": "bytes=0-1,5-6"}])
def test_download(facts: dict[str, Any]) -> None:
    def disposition(download: str | None) -> str:
        return _fields(_plan(download=download, **facts))["Content-Disposition"]

    assert disposition(None) == 'inline; filename="v.mp4"'
    assert disposition("") == 'attachment; filename="v.mp4"'
    assert disposition("other.bin") == 'attachment; filename="other.bin"'
    assert disposition("../ü\r\n.txt") == "attachment; filename=\"___.txt\"; filename*=UTF-8''%C3%BC__.txt"


def test_options() -> None:
    plan = plan_options()
    assert (plan.status, _fields(plan), plan.content_length, plan.ranges, plan.trailer) == (
        204,
        {"Allow": "GET, HEAD, OPTIONS"},
        None,
        (),
        b"",
    )


def test_a_token_is_no_part_of_a_plan() -> None:
    requests: list[dict[str, Any]] = [{}, {"range": "bytes=0-0,2-2"}, {"if_none_match": "*"}, {"range": "bytes=5000-"}]
    for facts in requests:
        assert "QXZJ" not in repr(_plan(token=b"QXZJ", rev="1-QXZJ", **facts))
