"""
What a document's page tells: its attachments, each with its address. Pure.
"""

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from txcouchdl.protocol.media_types import Kind, kind_of


@frozen
class Entry:
    """
    One attachment.

    :ivar name: any text at all.
    :ivar content_type: as it is sent; ``None`` if nothing is known of it.
    :ivar length: bytes of the identity representation; ``None`` if not known.
    :ivar digest: of the stored bytes, ``md5-<base64>``.
    :ivar representation_digests: of the identity representation, as far as they are known, by the algorithms' keys in
        Repr-Digest.
    :ivar revpos: number of the revision that brought it; ``None`` if the document does not tell.
    :ivar link: its address, relative to the page's, ASCII; with whatever secret opens it. ``None`` if none can
        lead to it.
    :ivar player: the same for a player, which asks for the attachment in pieces. It leads to the bytes that are listed
        here, or to none.
    :ivar download: as ``player``, to save the attachment instead of showing it.
    """

    name: str
    content_type: str | None
    length: int | None
    digest: str
    revpos: int | None
    link: str | None = field(repr=False)
    player: str | None = field(repr=False)
    download: str | None = field(repr=False)
    representation_digests: Mapping[str, bytes] = field(factory=dict)

    @property
    def kind(self) -> Kind:
        return kind_of(self.content_type)


@frozen
class Listing:
    """
    Attachments of one revision of a document, in the order in which they are to be shown.

    :ivar rev: the revision.
    :ivar total: how many there are.
    :ivar skipped: how many of them come before these.
    :ivar last: how many come before the first that is behind these. Of those between some may be left out, because
        nothing can be made of them.
    :ivar next: the address of the listing that goes on behind these, relative to this one's; ``None`` if none does.
    :ivar previous: the same, of those before.
    """

    database: str
    document_id: str
    rev: str
    entries: tuple[Entry, ...]
    total: int
    last: int
    skipped: int = 0
    next: str | None = field(default=None, repr=False)
    previous: str | None = field(default=None, repr=False)


def as_json(listing: Listing, base: str) -> bytes:
    """
    The page as data: an object with ``database``, ``id``, ``rev``, ``total``, ``next`` (the URL of the listing that
    goes on behind this one, or ``null``) and ``attachments``, each of them with ``name``, ``url``, ``content_type``,
    ``length`` (``null`` if not known), ``digest``, ``repr_digest`` and ``revpos``. ``digest`` is CouchDB's, of the
    stored bytes; ``repr_digest`` is an object with what is known of the bytes that are sent: ``sha-256`` and ``md5``,
    in base64, perhaps neither.

    :param base: the absolute URL of the page, with a slash at its end.
    """
    data = {
        "database": listing.database,
        "id": listing.document_id,
        "rev": listing.rev,
        "total": listing.total,
        "next": None if listing.next is None else base + listing.next,
        "attachments": [_as_data(entry, base) for entry in listing.entries],
    }
    return json.dumps(data, indent=1).encode("ascii") + b"\n"


def _as_data(entry: Entry, base: str) -> dict[str, Any]:
    return {
        "name": entry.name,
        "url": None if entry.link is None else base + entry.link,
        "content_type": entry.content_type,
        "length": entry.length,
        "digest": entry.digest,
        "repr_digest": {name: b64encode(each).decode("ascii") for name, each in entry.representation_digests.items()},
        "revpos": entry.revpos,
    }
