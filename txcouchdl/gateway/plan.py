"""
Decide first: what is sent for a request, given what the document says of the attachment. Pure.

The order is RFC 9110's (section 13.2.2): preconditions, then the range. A plan holds everything that is promised,
status, header fields, the length and the parts of the body, before a byte is read.
"""

import re
from collections.abc import Callable
from typing import Final

from attrs import field, frozen

from txcouchdl.couch.documents import AttachmentStub, Storage
from txcouchdl.gateway.errors import ALLOWED_METHODS, ErrorAnswer
from txcouchdl.protocol.conditions import EntityTag, Verdict, evaluate
from txcouchdl.protocol.disposition import content_disposition
from txcouchdl.protocol.multipart import MultipartByteranges
from txcouchdl.protocol.ranges import ByteRange, parse_range, resolve, unsatisfied_range

Headers = tuple[tuple[str, str], ...]

_PRECONDITION_FAILED: Final = ErrorAnswer(
    412, "precondition_failed", "The attachment is not the one that If-Match names."
)
_UNSATISFIABLE: Final = ErrorAnswer(416, "requested_range_not_satisfiable", "Requested range not satisfiable")

#: What every answer about an attachment carries.
_SAFETY: Final[Headers] = (
    ("X-Content-Type-Options", "nosniff"),
    # The address holds the token.
    ("Referrer-Policy", "no-referrer"),
)
# An attachment may be looked at, but it loads nothing and runs nothing; and what could be a page is of no origin.
_POLICY: Final = (
    "default-src 'none'; form-action 'none'; img-src 'self' data:; media-src 'self'; style-src 'unsafe-inline'"
)
_SANDBOXED: Final = f"sandbox; {_POLICY}"
# Browsers show these in a player that reads the address again; from within a sandbox it is not let in.
# One type and nothing else: of several, joined by commas, browsers take the last.
_PLAYED: Final = re.compile(r"(audio|video)/[!#$&^_.+a-z0-9-]+ *(;[^,]*)?", re.IGNORECASE | re.ASCII)
# May be kept by the client, for no longer than it is still the same: there is no date to guess an age from.
_CACHING: Final = ("Cache-Control", "private")

#: Bytes to inflate that are never too many for one request.
_CHEAP: Final = 16 * 2**20

_FALLBACK_TYPE: Final = "application/octet-stream"
_LONGEST_TYPE: Final = 1024
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@frozen
class RequestFacts:
    """
    What a client asked for, out of its request and into values.

    :ivar needs_length: whether the client can tell the end of a body by its length only (HTTP/1.0).
    :ivar token: shown as a secret, decoded; ``None`` if none was, or several were.
    :ivar rev: ``?rev=``, or ``None`` if not given.
    :ivar range: this and the conditions: field values, joined over repeated lines; ``None`` if absent.
    """

    method: str
    needs_length: bool = False
    token: bytes | None = field(default=None, repr=False)
    rev: str | None = None
    range: str | None = None
    if_match: str | None = None
    if_none_match: str | None = None
    if_range: str | None = None


@frozen
class Part:
    """
    A piece of the body: some bytes of ours, then some of the attachment's.

    :ivar byte_range: of the identity representation; ``None`` for all of it.
    """

    prefix: bytes
    byte_range: ByteRange | None


@frozen
class DeliveryPlan:
    """
    What to send.

    :ivar parts: read and sent in turn; none for an answer without bytes of the attachment.
    :ivar trailer: bytes of ours that follow the parts; the whole body, if there are no parts.
    :ivar content_length: bytes of the body, or of what a GET would have got; ``None`` if it cannot be known.
    """

    status: int
    headers: Headers
    content_length: int | None
    parts: tuple[Part, ...] = ()
    trailer: bytes = b""


def plan_delivery(facts: RequestFacts, stub: AttachmentStub, rev: str, new_boundary: Callable[[], str]) -> DeliveryPlan:
    """
    :param facts: of a GET or HEAD whose token is right.
    :param rev: the revision of the document that the stub is from; If-Match may name it too, as with CouchDB.
    """
    etag = entity_tag(stub)
    verdict = evaluate(
        method=facts.method,
        etag=etag,
        if_match=facts.if_match,
        if_none_match=facts.if_none_match,
        if_range=facts.if_range,
        if_match_alias=rev,
    )
    if verdict is Verdict.PRECONDITION_FAILED:
        return plan_error(_PRECONDITION_FAILED, _tagged(etag))
    if verdict is Verdict.NOT_MODIFIED:
        return DeliveryPlan(304, (*_tagged(etag), *_SAFETY), None)
    honours_range = facts.method == "GET" and verdict is Verdict.PROCEED
    plan = _plan_body(stub, facts.range if honours_range else None, new_boundary)
    return _without_body(plan) if facts.method == "HEAD" else plan


def plan_error(answer: ErrorAnswer, headers: Headers = ()) -> DeliveryPlan:
    """An error, CouchDB-shaped."""
    described = (("Content-Type", "application/json"), ("X-Content-Type-Options", "nosniff"))
    cached = () if any(name == "Cache-Control" for name, _ in headers) else (("Cache-Control", "no-store"),)
    fields = (*described, *cached, *answer.headers, *headers)
    return DeliveryPlan(answer.status, fields, len(answer.body), trailer=answer.body)


def plan_options() -> DeliveryPlan:
    """The answer to OPTIONS: the same whatever exists."""
    return DeliveryPlan(204, (("Allow", ALLOWED_METHODS),), None)


def _plan_body(stub: AttachmentStub, range_field: str | None, new_boundary: Callable[[], str]) -> DeliveryPlan:
    if stub.length is None:
        return DeliveryPlan(200, _described(stub, "none"), None, (Part(b"", None),))
    specs = parse_range(range_field)
    ranges = None if specs is None else resolve(specs, stub.length)
    if ranges is None:
        parts = (Part(b"", None),) if stub.length else ()
        return DeliveryPlan(200, _described(stub, "bytes"), stub.length, parts)
    if not ranges:
        unsatisfied = (("Content-Range", unsatisfied_range(stub.length)), ("Accept-Ranges", "bytes"))
        return plan_error(_UNSATISFIABLE, (*_tagged(entity_tag(stub)), *unsatisfied))
    if len(ranges) == 1:
        return _plan_range(stub, ranges[0], stub.length)
    if _is_too_dear(ranges, stub):
        return _plan_body(stub, None, new_boundary)
    return _plan_ranges(
        stub, MultipartByteranges(ranges, stub.length, safe_content_type(stub.content_type), new_boundary())
    )


def _is_too_dear(ranges: tuple[ByteRange, ...], stub: AttachmentStub) -> bool:
    """
    Whether many small ranges would cost more than the whole representation twice, and a good deal at that: of gzip,
    each is read and inflated from the first byte on.
    """
    inflated = sum(each.last + 1 for each in ranges)
    return stub.storage is not Storage.IDENTITY and inflated > max(_CHEAP, 2 * (stub.length or 0))


def _plan_range(stub: AttachmentStub, byte_range: ByteRange, complete_length: int) -> DeliveryPlan:
    headers = (*_described(stub, "bytes"), ("Content-Range", byte_range.content_range(complete_length)))
    return DeliveryPlan(206, headers, byte_range.length, (Part(b"", byte_range),))


def _plan_ranges(stub: AttachmentStub, body: MultipartByteranges) -> DeliveryPlan:
    parts = tuple(Part(body.part_head(index), each) for index, each in enumerate(body.ranges))
    headers = _described(stub, "bytes", body.media_type)
    return DeliveryPlan(206, headers, body.length, parts, body.trailer)


def _without_body(plan: DeliveryPlan) -> DeliveryPlan:
    return DeliveryPlan(plan.status, plan.headers, plan.content_length)


def entity_tag(stub: AttachmentStub) -> EntityTag:
    """
    The digest, as CouchDB has it. Of an attachment that was uploaded compressed it is the digest of what we do not
    send: the very same bytes, uploaded again as what they are, would have the same. So that nobody takes one for
    the other, ours says what was done to them.
    """
    suffix = "+gunzip" if stub.storage is Storage.ENCODED else ""
    return EntityTag(f"{stub.digest.base64}{suffix}")


def _tagged(etag: EntityTag) -> Headers:
    return (("ETag", str(etag)), _CACHING)


def _described(stub: AttachmentStub, accept_ranges: str, media_type: str | None = None) -> Headers:
    """The header fields of a 200 and a 206."""
    own_type = safe_content_type(stub.content_type)
    content_type = media_type or own_type
    return (
        *((("Content-Type", content_type),) if content_type is not None else ()),
        ("Accept-Ranges", accept_ranges),
        ("Content-Disposition", content_disposition("inline", stub.name)),
        *_tagged(entity_tag(stub)),
        ("Content-Security-Policy", _policy(own_type)),
        *_SAFETY,
    )


def _policy(content_type: str | None) -> str:
    """
    :param content_type: as it is sent. With ``nosniff``, what is said to be sound or film is never taken for a page.
    """
    return _POLICY if content_type is not None and _PLAYED.fullmatch(content_type) else _SANDBOXED


def safe_content_type(content_type: str | None) -> str | None:
    """
    A stub's content type, fit for a header field: verbatim as far as it can be, its UTF-8 bytes as ISO 8859-1
    characters. One with control characters was made to break out of the field, and is not used.

    :return: ``None`` if there is none.
    """
    if content_type is None or not content_type.strip():
        return None
    if len(content_type) > _LONGEST_TYPE or _CONTROL.search(content_type):
        return _FALLBACK_TYPE
    return content_type.strip().encode("utf-8", "replace").decode("latin-1")
