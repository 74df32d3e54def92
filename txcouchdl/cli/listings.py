"""
What a gateway tells of a document: the pages of its listing, joined.

Of the addresses in them only the queries are used, which is where the secrets are. Where things are is known from the
address that the user gave: no page can lead to another server, or elsewhere on this one.
"""

import json
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from attrs import field, frozen

from txcouchdl.cli.asking import Means, Source, dropped_on_error
from txcouchdl.cli.locations import LONGEST, Location
from txcouchdl.cli.outcomes import Passing, Unusable
from txcouchdl.cli.versions import Promise, require_success
from txcouchdl.protocol.digests import SIZES

#: Bytes of one page.
LONGEST_PAGE: Final = 2**24
#: Bytes of all pages of one document, and attachments of it.
LONGEST_LISTING: Final = 2**26
MOST_ATTACHMENTS: Final = 100_000
#: Pages of one document; each has 500 attachments at this gateway.
MOST_PAGES: Final = 2000
#: How often the pages are begun anew because the document is not what it was at the first of them.
_MOST_CHANGES: Final = 3

#: What is told of an attachment, but its address: there is a secret in that.
_TOLD: Final = ("name", "content_type", "length", "digest", "repr_digest", "revpos")
_TOLD_OF_DOCUMENT: Final = ("database", "id", "rev", "total")


@frozen
class Listed:
    """
    One attachment.

    :ivar name: any text at all.
    :ivar location: ``None`` if no address can lead to it.
    :ivar told: what is told of it, by the listing's names; values of any type that JSON has.
    """

    name: str
    location: Location | None = field(repr=False)
    told: Mapping[str, Any]

    def text(self, name: str) -> str | None:
        """What is told under a name, if it is text."""
        value = self.told.get(name)
        return value if isinstance(value, str) else None

    @property
    def promise(self) -> Promise:
        """What the attachment has to be; what is told in a way that cannot be is not told."""
        told = self.told.get("repr_digest")
        decoded = {name: _digest(told.get(name)) for name in SIZES} if isinstance(told, dict) else {}
        digests = {name: each for name, each in decoded.items() if each is not None and len(each) == SIZES[name]}
        return Promise(self.length, digests)

    @property
    def length(self) -> int | None:
        """Bytes; ``None`` if not known."""
        value = self.told.get("length")
        return value if type(value) is int and value >= 0 else None


@frozen
class Listing:
    """
    Attachments of one revision of a document.

    :ivar told: what is told of the document.
    :ivar next: where the attachments behind these are; ``None`` if there are none.
    """

    told: Mapping[str, Any]
    attachments: tuple[Listed, ...]
    next: Location | None = field(default=None, repr=False)


async def listing_of(means: Means, document: Location) -> Listing:
    """
    All of a document's attachments.

    :raises Trouble: if they cannot be had, or what comes is no listing.
    """
    for _ in range(_MOST_CHANGES + 1):
        pages = await _pages(means, document)
        if all(page.told["rev"] == pages[0].told["rev"] for page in pages):
            return Listing(pages[0].told, tuple(each for page in pages for each in page.attachments))
    raise Unusable("the document changes faster than its listing can be read")


async def _pages(means: Means, document: Location) -> list[Listing]:
    pages: list[Listing] = []
    following: Location | None = document
    length = count = 0
    while following is not None:
        if len(pages) == MOST_PAGES:
            raise Unusable(f"the listing has more than {MOST_PAGES} pages")
        body = await _page(means, following)
        length += len(body)
        if length > LONGEST_LISTING:
            raise Unusable(f"the listing is longer than {LONGEST_LISTING} bytes")
        pages.append(read_page(body, document))
        count += len(pages[-1].attachments)
        if count > MOST_ATTACHMENTS:
            raise Unusable(f"the listing has more than {MOST_ATTACHMENTS} attachments")
        following = pages[-1].next
    return pages


async def _page(means: Means, location: Location) -> bytes:
    source = Source(means, location)
    attempts = source.patience.attempts()
    while True:
        try:
            answer = await source.ask("GET", {"Accept": "application/json"})
            with dropped_on_error(answer):
                require_success(answer.head)
                return await answer.read(LONGEST_PAGE)
        except Passing as trouble:
            await source.pause(attempts, trouble)


def read_page(body: bytes, document: Location) -> Listing:
    """
    :raises Unusable: if it is no page of a listing.
    """
    try:
        data = json.loads(body)
        return Listing(
            {name: data[name] for name in _TOLD_OF_DOCUMENT},
            tuple(_listed(each, document) for each in data["attachments"]),
            None if data["next"] is None else document.with_query(_query(data["next"])),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Unusable("what comes is no document's listing; only a document's address ends with a slash") from None


def _listed(data: dict[str, Any], document: Location) -> Listed:
    name, url = data["name"], data["url"]
    if not isinstance(name, str):
        raise TypeError("a name is text")
    if url is not None and not isinstance(url, str):
        raise TypeError("an address is text")
    return Listed(name, _location(name, url, document), {each: data[each] for each in _TOLD if each in data})


def _location(name: str, url: str | None, document: Location) -> Location | None:
    """One that cannot be said does not keep anybody from the others."""
    try:
        return None if url is None else document.attachment(name, _query(url))
    except ValueError:
        return None


def _digest(text: Any) -> bytes | None:
    try:
        return b64decode(text, validate=True) if isinstance(text, str) else None
    except ValueError:
        return None


def _query(url: Any) -> str:
    if not isinstance(url, str):
        raise TypeError("an address is text")
    # Python keeps the last addresses that it has split, whatever their lengths.
    if len(url) > LONGEST:
        raise ValueError("an address is too long")
    return urlsplit(url).query
