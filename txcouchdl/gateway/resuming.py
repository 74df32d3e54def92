"""Which answers go on with something that has begun: those that a link gives in its grace. Pure."""

from typing import Final

from txcouchdl.gateway.plan import DeliveryPlan, RequestFacts
from txcouchdl.protocol.conditions import EntityTag, is_named

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
