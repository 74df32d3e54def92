"""
A document's page: what is told of its attachments to whom the token is right, and with which links. Pure.

What a link carries is what the page itself was asked for with: whoever showed the token in the address gets addresses
with the token in them; whoever showed it in a header field shows it there again.
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from attrs import field, frozen
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from txcouchdl.couch.documents import AttachmentStub, Document
from txcouchdl.couch.names import DocumentAddress, is_linkable, quote_segment
from txcouchdl.gateway.description import SAFETY, Description
from txcouchdl.gateway.plan import DeliveryPlan
from txcouchdl.page import html
from txcouchdl.page.listing import Entry, Listing, as_json

_JSON: Final = "application/json"
_HTML: Final = "text/html"
_NUMBER: Final = re.compile("([0-9]+)")


@frozen
class PageFacts:
    """
    What a client asked for that wants a document's page.

    :ivar token: as :class:`~txcouchdl.gateway.plan.RequestFacts` has it; so ``rev``.
    :ivar token_in_address: the token, if it was shown there.
    :ivar is_pinning: whether links are to lead to these bytes or to none.
    :ivar wants_html: whether a page for people is wanted, rather than data.
    """

    token: bytes | None = field(default=None, repr=False)
    token_in_address: bytes | None = field(default=None, repr=False)
    rev: str | None = None
    is_pinning: bool = False
    wants_html: bool = False


def wants_html(accept: str | None) -> bool:
    """
    Whether an Accept field (RFC 9110, section 12.5.1) prefers HTML to JSON. Who does not care gets JSON.
    """
    return parse_accept_header(accept, MIMEAccept).best_match([_JSON, _HTML], _JSON) == _HTML


def plan_page(
    facts: PageFacts, address: DocumentAddress, document: Document, stubs: Iterable[AttachmentStub], base: str
) -> DeliveryPlan:
    """
    :param facts: of a GET or HEAD whose token is right.
    :param stubs: the document's attachments.
    :param base: the page's absolute URL, with a slash at its end; empty if it is not known.
    """
    entries = tuple(_entry(stub, facts) for stub in sorted(stubs, key=lambda stub: _natural_order(stub.name)))
    listing = Listing(address.database, address.document_id, document.rev, entries)
    if facts.wants_html:
        return _plan(f"{_HTML}; charset=utf-8", html.render(listing), ("Content-Security-Policy", html.POLICY))
    return _plan(_JSON, as_json(listing, base))


def _plan(content_type: str, body: bytes, *more: tuple[str, str]) -> DeliveryPlan:
    fields = (
        ("Content-Type", content_type),
        # It is made anew each time, and one address has two forms.
        ("Cache-Control", "private, no-cache"),
        ("Vary", "Accept, Origin"),
        ("X-Robots-Tag", "noindex"),
        *more,
        *SAFETY,
    )
    return DeliveryPlan(200, fields, len(body), trailer=body)


def _entry(stub: AttachmentStub, facts: PageFacts) -> Entry:
    description = Description(stub)
    content_type = description.content_type
    parameters = _parameters(facts, description)
    return Entry(
        name=stub.name,
        # In a header field it stands for its bytes.
        content_type=None if content_type is None else content_type.encode("latin-1").decode("utf-8", "replace"),
        length=stub.length,
        digest=stub.digest.text,
        revpos=stub.revpos,
        link=_link(stub.name, parameters),
        download=_link(stub.name, [*parameters, "download"]),
    )


def _link(name: str, parameters: list[str]) -> str | None:
    """Relative to the page's address."""
    return "?".join(filter(None, (quote_segment(name), "&".join(parameters)))) if is_linkable(name) else None


def _parameters(facts: PageFacts, description: Description) -> list[str]:
    carried: list[tuple[str, str | bytes | None]] = [
        ("token", facts.token_in_address),
        ("rev", facts.rev),
        ("digest", description.pin if facts.is_pinning else None),
    ]
    return [f"{name}={quote(value, safe='')}" for name, value in carried if value is not None]


def _natural_order(name: str) -> tuple[list[str | tuple[int, str]], str]:
    """As people sort: ``track 9`` before ``track 10``, whatever the case."""
    # Text and digits take turns, text first: like is compared with like.
    pieces = _NUMBER.split(name.casefold())
    numbers = [piece.lstrip("0") for piece in pieces[1::2]]
    order: list[str | tuple[int, str]] = list(pieces)
    order[1::2] = [(len(number), number) for number in numbers]
    return order, name
