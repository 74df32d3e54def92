"""
What a gateway tells of a document: the pages of its listing, joined.

Of the addresses in them only the queries are used, which is where the secrets are. Where things are is known from the
address that the user gave: no page can lead to another server, or elsewhere on this one.
"""

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from attrs import field, frozen

from txcouchdl.cli.asking import Means, Source, dropped_on_error
from txcouchdl.cli.locations import Location
from txcouchdl.cli.outcomes import Passing, Unusable
from txcouchdl.cli.versions import require_success

#: Bytes of one page.
LONGEST_PAGE: Final = 2**24
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
    pages = [await _page(means, document, document)]
    while pages[-1].next is not None:
        if len(pages) == MOST_PAGES:
            raise Unusable(f"the listing has more than {MOST_PAGES} pages")
        pages.append(await _page(means, pages[-1].next, document))
    return pages


async def _page(means: Means, location: Location, document: Location) -> Listing:
    source = Source(means, location)
    attempts = source.patience.attempts()
    while True:
        try:
            answer = await source.ask("GET", {"Accept": "application/json"})
            with dropped_on_error(answer):
                require_success(answer.head)
                return read_page(await answer.read(LONGEST_PAGE), document)
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
    location = None if url is None else document.attachment(name, _query(url))
    return Listed(name, location, {each: data[each] for each in _TOLD if each in data})


def _query(url: Any) -> str:
    if not isinstance(url, str):
        raise TypeError("an address is text")
    return urlsplit(url).query
