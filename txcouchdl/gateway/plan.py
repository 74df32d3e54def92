"""
Decide first: what is sent for a request, given what the document says of the attachment. Pure.

The order is RFC 9110's (section 13.2.2): preconditions, then the range. A plan holds everything that is promised,
status, header fields, the length and the ranges of the body, before a byte is read.
"""

from collections.abc import Callable
from typing import Final

from attrs import field, frozen

from txcouchdl.couch.documents import AttachmentStub, Storage
from txcouchdl.couch.runs import ascending_runs
from txcouchdl.couch.shared_decoding import MOST_COLLECTED
from txcouchdl.gateway.credentials import Place
from txcouchdl.gateway.description import SAFETY, Description, Headers, Presentation, is_pin
from txcouchdl.gateway.errors import ALLOWED_METHODS, ErrorAnswer
from txcouchdl.gateway.links import SignedLink
from txcouchdl.protocol.conditions import Verdict, evaluate
from txcouchdl.protocol.multipart import MultipartByteranges
from txcouchdl.protocol.ranges import ByteRange, parse_range, resolve, unsatisfied_range

_PRECONDITION_FAILED: Final = ErrorAnswer(
    412, "precondition_failed", "The attachment is not the one that If-Match names."
)
_DIGEST_FAILED: Final = ErrorAnswer(412, "precondition_failed", "The attachment is not the one that digest names.")
_BAD_DIGEST: Final = ErrorAnswer(400, "bad_request", "Invalid digest format")
_UNSATISFIABLE: Final = ErrorAnswer(416, "requested_range_not_satisfiable", "Requested range not satisfiable")

#: Bytes to inflate or to skip that are never too many for one request.
_CHEAP: Final = 16 * 2**20

#: Bytes at rest that are soon read to find out a length.
QUICKLY_READ: Final = 16 * 2**20

#: Bytes of a body of unknown length that wait for its end before they are sent: as many as wait in a transport anyway.
MOST_HELD: Final = 2**16

_DEFAULT_PRESENTATION: Final = Presentation()


@frozen
class RequestFacts:
    """
    What a client asked for, out of its request and into values.

    :ivar needs_length: whether the client can tell the end of a body by its length only (HTTP/1.0).
    :ivar token: shown as a secret, decoded; ``None`` if none was, or several were.
    :ivar place: where the token or the link was shown.
    :ivar link: shown instead of a secret; ``None`` if none was, or none that can be right.
    :ivar rev: ``?rev=``, or ``None`` if not given.
    :ivar digest: ``?digest=``, the digest that the attachment is to have; ``None`` if not given.
    :ivar download: ``?download=``, the name under which to save what is sent, empty for its own; ``None`` if it is to
        be shown.
    :ivar range: this and the conditions: field values, joined over repeated lines; ``None`` if absent.
    """

    method: str
    needs_length: bool = False
    token: bytes | None = field(default=None, repr=False)
    place: Place = Place.NOWHERE
    link: SignedLink | None = None
    rev: str | None = None
    digest: str | None = None
    download: str | None = None
    range: str | None = None
    if_match: str | None = None
    if_none_match: str | None = None
    if_range: str | None = None


@frozen
class DeliveryPlan:
    """
    What to send.

    :ivar ranges: of the identity representation, in the order in which they are sent, or ``None`` for all of it alone.
        Empty for an answer without bytes of the attachment.
    :ivar framing: of several ranges: it puts its heads between them, and its trailer is in this plan's.
    :ivar trailer: bytes of ours that follow; the whole body, if there are no ranges.
    :ivar content_length: bytes of the body, or of what a GET would have got; ``None`` if it cannot be known.
    :ivar most_held: bytes of a body of unknown length that may wait for its end before they are sent; 0 for none. If
        the end comes, the response has a Content-Length.
    :ivar wants_length: whether there would be a better plan if the attachment's length were known, and it is worth
        while to find it out.
    """

    status: int
    headers: Headers
    content_length: int | None
    ranges: tuple[ByteRange, ...] | None = ()
    framing: MultipartByteranges | None = None
    trailer: bytes = b""
    most_held: int = 0
    wants_length: bool = False

    @property
    def sends_attachment(self) -> bool:
        """Whether the body has bytes of the attachment."""
        return self.ranges != ()


def plan_delivery(
    facts: RequestFacts,
    stub: AttachmentStub,
    rev: str,
    new_boundary: Callable[[], str],
    presentation: Presentation = _DEFAULT_PRESENTATION,
    most_skipped: int | None = None,
) -> DeliveryPlan:
    """
    :param facts: of a GET or HEAD whose token is right.
    :param rev: the revision of the document that the stub is from; If-Match may name it too, as with CouchDB.
    :param most_skipped: ``None`` where CouchDB serves ranges. Where it ignores them, each is read from the first byte
        on, and attachments of more bytes than this have no ranges.
    """
    description = Description(stub, presentation, facts.download)
    mismatch = _mismatch(facts.digest, description)
    if mismatch is not None:
        return plan_error(mismatch, description.tagged)
    verdict = evaluate(
        method=facts.method,
        etag=description.etag,
        if_match=facts.if_match,
        if_none_match=facts.if_none_match,
        if_range=facts.if_range,
        if_match_alias=rev,
    )
    if verdict is Verdict.PRECONDITION_FAILED:
        return plan_error(_PRECONDITION_FAILED, description.tagged)
    if verdict is Verdict.NOT_MODIFIED:
        return DeliveryPlan(304, (*description.tagged, *SAFETY), None)
    honours_range = facts.method == "GET" and verdict is Verdict.PROCEED
    if stub.length is None:
        plan = _plan_unmeasured(description, facts, honours_range and parse_range(facts.range) is not None)
    elif most_skipped is not None and stub.storage is Storage.IDENTITY and stub.length > most_skipped:
        plan = _plan_whole(description, stub.length, "none")
    else:
        is_from_start = most_skipped is not None or stub.storage is not Storage.IDENTITY
        plan = _plan_body(description, stub.length, facts.range if honours_range else None, new_boundary, is_from_start)
    return _without_body(plan) if facts.method == "HEAD" else plan


def _mismatch(pin: str | None, description: Description) -> ErrorAnswer | None:
    """
    A precondition in the address, for clients that send none: most that resume do not (CLIENTS, point 3), and join what
    they have to bytes of whatever is there now.
    """
    if pin is None:
        return None
    # In a query a plus sign that was not encoded is a space; base64 has none.
    named = pin.replace(" ", "+")
    if named == description.pin:
        return None
    return _DIGEST_FAILED if is_pin(named) else _BAD_DIGEST


def plan_error(answer: ErrorAnswer, headers: Headers = ()) -> DeliveryPlan:
    """An error, CouchDB-shaped."""
    described = (("Content-Type", "application/json"), ("X-Content-Type-Options", "nosniff"))
    cached = () if any(name == "Cache-Control" for name, _ in headers) else (("Cache-Control", "no-store"),)
    fields = (*described, *cached, *answer.headers, *headers)
    return DeliveryPlan(answer.status, fields, len(answer.body), trailer=answer.body)


def plan_options(preflight: Headers = ()) -> DeliveryPlan:
    """
    The answer to OPTIONS: the same whatever exists.

    :param preflight: what is told to a page of another site.
    """
    return DeliveryPlan(204, (("Allow", ALLOWED_METHODS), *preflight), None)


def _plan_unmeasured(description: Description, facts: RequestFacts, wants_range: bool) -> DeliveryPlan:
    """All of an attachment of unknown length. curl gives up where it wants a range and gets all."""
    stored_length = description.stub.stored_length
    is_quick = stored_length <= QUICKLY_READ
    return DeliveryPlan(
        200,
        description.fields("bytes" if is_quick else "none"),
        None,
        None,
        # wget takes a connection that ends within a chunk for the end of the body.
        most_held=MOST_HELD if stored_length <= MOST_HELD else 0,
        wants_length=facts.needs_length or (wants_range and is_quick),
    )


def _plan_whole(description: Description, length: int, accept_ranges: str) -> DeliveryPlan:
    return DeliveryPlan(200, description.fields(accept_ranges), length, None if length else ())


def _plan_body(
    description: Description,
    length: int,
    range_field: str | None,
    new_boundary: Callable[[], str],
    is_from_start: bool,
) -> DeliveryPlan:
    """
    :param is_from_start: whether each range is read from the first byte on.
    """
    specs = parse_range(range_field)
    ranges = None if specs is None else resolve(specs, length)
    if ranges is None:
        return _plan_whole(description, length, "bytes")
    if not ranges:
        unsatisfied = (("Content-Range", unsatisfied_range(length)), ("Accept-Ranges", "bytes"))
        return plan_error(_UNSATISFIABLE, (*description.tagged, *unsatisfied))
    if len(ranges) == 1:
        return _plan_range(description, ranges[0], length)
    if is_from_start and _is_too_dear(ranges, description.stub):
        return _plan_whole(description, length, "bytes")
    return _plan_ranges(description, MultipartByteranges(ranges, length, description.content_type, new_boundary()))


def _is_too_dear(ranges: tuple[ByteRange, ...], stub: AttachmentStub) -> bool:
    """
    Whether the ranges would cost more than the whole representation twice, and a good deal at that. Gzip is inflated
    from its first byte on for each run of ascending ranges; few bytes are collected in one pass, whatever their order.
    Where nodes ignore ranges, each such run is read from the first byte on.
    """
    if stub.storage is not Storage.IDENTITY and sum(each.length for each in ranges) <= MOST_COLLECTED:
        return False
    return sum(run[-1].last + 1 for run in ascending_runs(ranges)) > max(_CHEAP, 2 * (stub.length or 0))


def _plan_range(description: Description, byte_range: ByteRange, complete_length: int) -> DeliveryPlan:
    headers = (*description.fields("bytes"), ("Content-Range", byte_range.content_range(complete_length)))
    return DeliveryPlan(206, headers, byte_range.length, (byte_range,))


def _plan_ranges(description: Description, body: MultipartByteranges) -> DeliveryPlan:
    headers = description.fields("bytes", body.media_type)
    return DeliveryPlan(206, headers, body.length, body.ranges, body, body.trailer)


def _without_body(plan: DeliveryPlan) -> DeliveryPlan:
    return DeliveryPlan(plan.status, plan.headers, plan.content_length)
