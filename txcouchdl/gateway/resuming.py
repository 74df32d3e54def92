"""Which requests and answers continue something that has begun. A link gives such answers in its grace. Pure."""

from typing import Final

from txcouchdl.gateway.plan import DeliveryPlan, RequestFacts
from txcouchdl.protocol.conditions import EntityTag, is_named
from txcouchdl.protocol.ranges import parse_range

# Answers without a byte of the attachment, to somebody who has some, or says so.
_WITHOUT_BYTES: Final = frozenset({304, 412, 416})


def goes_on(plan: DeliveryPlan, facts: RequestFacts, etag: EntityTag) -> bool:
    """
    Whether a request's answer goes on with what its client has: it asks for nothing but later bytes, as most clients do
    that resume; or it names the entity-tag, by If-Range or If-Match, which it has from an answer. A HEAD, with which
    some begin to, gets no byte anyhow.
    """
    if facts.method == "HEAD" or plan.status in _WITHOUT_BYTES:
        return True
    if is_named(facts.if_range, etag) or is_named(facts.if_match, etag):
        return True
    return plan.status == 206 and all(each.first > 0 for each in plan.ranges or ())


def may_resume(facts: RequestFacts) -> bool:
    """
    Say whether a request may resume a download: a GET for a range of what its client has seen before, by If-Range or
    If-Match. The document decides whether it does.
    """
    if facts.range is None or (facts.if_range is None and facts.if_match is None):
        return False
    return facts.method == "GET" and parse_range(facts.range) is not None
