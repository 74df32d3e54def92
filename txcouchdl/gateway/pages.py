"""
A document's page: what is told of its attachments to whom the token is right, and with which links. Pure.

What a link carries is what the page itself was asked for with: whoever showed the token in the address gets addresses
with the token in them; whoever showed it in a header field shows it there again.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import quote

from attrs import field, frozen
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from txcouchdl.couch.documents import AttachmentStub, BadDocument, Document
from txcouchdl.couch.names import AttachmentAddress, DocumentAddress, is_linkable, quote_segment
from txcouchdl.couch.steps import Steps
from txcouchdl.gateway.credentials import Place
from txcouchdl.gateway.description import SAFETY, Description, representation_digests
from txcouchdl.gateway.errors import ErrorAnswer
from txcouchdl.gateway.links import SignedLink
from txcouchdl.gateway.plan import DeliveryPlan, plan_error
from txcouchdl.page import html
from txcouchdl.page.listing import Entry, Listing, as_json

_JSON: Final = "application/json"
_HTML: Final = "text/html"
_LONGEST_ACCEPT: Final = 1024
#: Characters of a link: CouchDB's own web server takes no more, and ours not much more.
_LONGEST_LINK: Final = 8000

_NUMBER: Final = re.compile("[0-9]+")
# A name may be all digits and letters in turn, for megabytes.
_MOST_NUMBERS: Final = 16
# Digits beyond which numbers are in the order of text. The length is written as a character, before all printable ones.
_LONGEST_NUMBER: Final = 31
_SKIP: Final = re.compile("[0-9]{1,9}")
_BAD_SKIP: Final = ErrorAnswer(400, "query_parse_error", "skip takes a whole number.")

#: Attachments on one page: a document may have a hundred thousand, and others wait while a page is made.
PAGE: Final = 500
#: Names that are put in order in one step.
_NAMES_AT_ONCE: Final = 5000


@frozen
class PageFacts:
    """
    What a client asked for that wants a document's page.

    :ivar token: as :class:`~txcouchdl.gateway.plan.RequestFacts` has it; so ``place`` and ``rev``.
    :ivar token_in_address: the token, if it was shown there.
    :ivar skip: ``?skip=``, how many attachments to leave out at the beginning; ``None`` if not given.
    :ivar is_pinning: whether links are to lead to these bytes or to none.
    :ivar wants_html: whether a page for people is wanted, rather than data.
    :ivar link: as :class:`~txcouchdl.gateway.plan.RequestFacts` has it.
    """

    token: bytes | None = field(default=None, repr=False)
    token_in_address: bytes | None = field(default=None, repr=False)
    place: Place = Place.NOWHERE
    rev: str | None = None
    skip: str | None = None
    is_pinning: bool = False
    wants_html: bool = False
    link: SignedLink | None = None


def wants_html(accept: str | None) -> bool:
    """
    Whether an Accept field (RFC 9110, section 12.5.1) prefers HTML to JSON. Who does not care gets JSON.
    """
    # Browsers send some 150 characters. Of more, each costs us, before a token was shown.
    if accept is None or len(accept) > _LONGEST_ACCEPT:
        return False
    return parse_accept_header(accept, MIMEAccept).best_match([_JSON, _HTML]) == _HTML


def plan_page(
    facts: PageFacts,
    address: DocumentAddress,
    document: Document,
    base: str,
    completed: Callable[[AttachmentStub], AttachmentStub] = lambda stub: stub,
) -> Steps[DeliveryPlan]:
    """
    Plan the page, in steps.

    :param facts: of a GET or HEAD whose token is right.
    :param base: the page's URL, with a slash at its end; absolute, as far as it is known which site it is on.
    :param completed: gives a stub what it does not tell, a length, a SHA-256, if that is known.
    :raises BadDocument: if the document's attachments are not what CouchDB would write.
    """
    if facts.skip is not None and not _SKIP.fullmatch(facts.skip):
        return plan_error(_BAD_SKIP)
    document = document.indexed()
    yield
    names = yield from _names_in_order(document)
    listing = _listing(facts, address, document, names, completed)
    if facts.wants_html:
        return _plan(f"{_HTML}; charset=utf-8", html.render(listing), ("Content-Security-Policy", html.POLICY))
    return _plan(_JSON, as_json(listing, base))


def _listing(
    facts: PageFacts,
    address: DocumentAddress,
    document: Document,
    names: Sequence[str],
    completed: Callable[[AttachmentStub], AttachmentStub],
) -> Listing:
    skipped = min(int(facts.skip or 0), len(names))
    last = min(skipped + PAGE, len(names))
    stubs = filter(None, (_stub(document, name) for name in names[skipped:last]))
    return Listing(
        address.database,
        address.document_id,
        document.rev,
        tuple(_entry(address, completed(stub), facts) for stub in stubs),
        total=len(names),
        skipped=skipped,
        last=last,
        next=_page_link(facts, last) if last < len(names) else None,
        previous=_page_link(facts, max(0, skipped - PAGE)) if skipped else None,
    )


def _stub(document: Document, name: str) -> AttachmentStub | None:
    """One bad stub does not spoil its neighbours."""
    try:
        return document.attachment(name)
    except BadDocument:
        return None


def _plan(content_type: str, body: bytes, *more: tuple[str, str]) -> DeliveryPlan:
    fields = (
        ("Content-Type", content_type),
        # It is made anew each time, and one address has two forms.
        ("Cache-Control", "private, no-cache"),
        ("Vary", "Accept, Authorization, Origin"),
        *more,
        *SAFETY,
    )
    return DeliveryPlan(200, fields, len(body), trailer=body)


def _entry(document: DocumentAddress, stub: AttachmentStub, facts: PageFacts) -> Entry:
    description = Description(stub)
    content_type = description.content_type
    address = AttachmentAddress(document.database, document.document_id, stub.name)
    carried = _carried(facts)
    pinned = [*carried, f"digest={quote(description.pin, safe='')}"]
    link = _link(address, pinned if facts.is_pinning else carried)
    return Entry(
        name=stub.name,
        # In a header field it stands for its bytes.
        content_type=None if content_type is None else content_type.encode("latin-1").decode("utf-8", "replace"),
        length=stub.length,
        digest=stub.digest.text,
        representation_digests=representation_digests(stub),
        revpos=stub.revpos,
        link=link,
        # What a browser asks for piece by piece must not become another attachment meanwhile.
        player=None if link is None else _relative(address, pinned),
        download=None if link is None else _relative(address, [*pinned, "download"]),
    )


def _link(address: AttachmentAddress, parameters: list[str]) -> str | None:
    """:return: ``None`` if no link can lead to the attachment, or one that is too long."""
    if len(address.attachment) > _LONGEST_LINK or not is_linkable(address):
        return None
    link = _relative(address, parameters)
    return link if len(link) <= _LONGEST_LINK else None


def _relative(address: AttachmentAddress, parameters: list[str]) -> str:
    """Relative to the page's address."""
    return "?".join(filter(None, (quote_segment(address.attachment), "&".join(parameters))))


def _page_link(facts: PageFacts, skip: int) -> str:
    carried = [*_carried(facts), *(["pin"] if facts.is_pinning else [])]
    return f"?{'&'.join([*carried, f'skip={skip}'])}"


def _carried(facts: PageFacts) -> list[str]:
    """What every link needs to be opened."""
    carried: list[tuple[str, str | bytes | None]] = [("token", facts.token_in_address), ("rev", facts.rev)]
    # Only the one of them that opened the page opens its attachments.
    if facts.token is None and facts.link is not None:
        carried[:1] = facts.link.carried
    return [f"{name}={quote(value, safe='')}" for name, value in carried if value is not None]


def _names_in_order(document: Document) -> Steps[list[str]]:
    names, ordered = document.attachment_names(), list[tuple[str, str]]()
    for begin in range(0, len(names), _NAMES_AT_ONCE):
        ordered += sorted(map(_natural_order, names[begin : begin + _NAMES_AT_ONCE]))
        yield
    # It is in order in parts: to merge these takes little.
    ordered.sort()
    return [name for _, name in ordered]


def _natural_order(name: str) -> tuple[str, str]:
    """As people sort: ``track 9`` before ``track 10``, whatever the case. Behind that, the name itself."""
    # In place of a number stands how long it is, and then the number: so they are ordered as text.
    return _NUMBER.sub(_ordered, name.casefold(), count=_MOST_NUMBERS), name


def _ordered(found: re.Match[str]) -> str:
    digits = found[0].lstrip("0")
    return f"{chr(min(len(digits), _LONGEST_NUMBER))}{digits}"
