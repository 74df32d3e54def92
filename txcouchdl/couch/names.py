"""
Request targets and CouchDB names: the way there and the way back.

A target is parsed **raw**: cut at its slashes first, percent-decoded after, segment by segment, because
``%2F`` is part of a name and ``/`` is not. Whoever decodes first (twisted.web's ``request.path``, a router)
can no longer tell the two apart.

    /{db}/{docid}/{attachment name}          the name may have slashes of its own, raw or as %2F
    /{db}/{docid}/                           the document
    /{db}/_design/{name}/{attachment name}   design documents keep their one raw slash, or come as _design%2F

Here ``+`` is a plus sign, as RFC 3986 has it. CouchDB itself reads a raw ``+`` in a path as a space
(FINDINGS, section 5): what we send upstream therefore never holds one, and whoever parses targets in CouchDB's
dialect says so (``plus_is_space``).
"""

import re
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from attrs import field, frozen

from txcouchdl.short_cache import LONGEST_KEY, short_cache

_DESIGN = "_design/"
_ABSOLUTE_FORM = re.compile(rb"https?://([^/?]*)", re.IGNORECASE)
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_SURROGATE = re.compile("[\ud800-\udfff]")
_DATABASE_NAME = re.compile(r"[a-z][a-z0-9_$()+/-]*", re.ASCII)

#: Bytes of a path whose address is kept.
_LONGEST_KEPT: Final = 512


class BadAddress(ValueError):
    """
    A request target that cannot be an address.

    :ivar reason: one sentence fit for a client: it repeats nothing that the client sent.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TooShort(BadAddress):
    """A well-formed target that names neither a document nor an attachment: ``/``, ``/db``, ``/db/``, ``/db/doc``."""


@frozen
class DocumentAddress:
    """
    Where a document is: decoded names, exactly as the client meant them.

    Nothing says that any of it exists, or that it may be asked for: see :attr:`is_addressable`.
    """

    database: str
    document_id: str
    _is_addressable: bool = field(init=False, eq=False, repr=False)

    @_is_addressable.default
    def _(self) -> bool:
        return is_legal_database_name(self.database) and _is_addressable_id(self.document_id)

    @property
    def is_addressable(self) -> bool:
        """
        Whether the gateway may ask CouchDB for the document at all.

        Databases and documents that begin with an underscore are CouchDB's own (``_users``, ``_local/...``,
        ``_all_docs``), except design documents. A database name that CouchDB would not allow exists nowhere,
        and could only serve to lead a proxy in front of CouchDB astray (``..``).
        """
        return self._is_addressable


@frozen
class AttachmentAddress:
    """
    Where an attachment is, in the same sense.

    :ivar document: where the document is that it belongs to.
    """

    database: str
    document_id: str
    attachment: str
    document: DocumentAddress = field(init=False, eq=False, repr=False)

    @document.default
    def _(self) -> DocumentAddress:
        return DocumentAddress(self.database, self.document_id)


def _is_addressable_id(document_id: str) -> bool:
    if document_id.startswith(_DESIGN):
        return document_id != _DESIGN
    return document_id != "" and not document_id.startswith("_")


def is_legal_database_name(name: str) -> bool:
    """Whether CouchDB would let a user create a database of this name."""
    return _DATABASE_NAME.fullmatch(name) is not None


def split_target(raw: bytes) -> tuple[bytes, bytes]:
    """
    Cut a raw request target into its path and its query (without the ``?``; empty if there is none).

    Takes the origin-form and the absolute-form (RFC 9112, section 3.2).
    """
    path, _, query = raw.partition(b"?")
    if _ABSOLUTE_FORM.match(path):
        # One without a path is about the root (RFC 9110, section 4.2.3).
        path = _ABSOLUTE_FORM.sub(b"", path, count=1) or b"/"
    return path, query


def authority(raw: bytes) -> str | None:
    """The authority in a raw request target in absolute-form, which goes before a Host field; ``None`` in others."""
    found = _ABSOLUTE_FORM.match(raw)
    return None if found is None else found[1].decode("latin-1")


def decode_segment(segment: bytes, plus_is_space: bool = False) -> str:
    """
    Decode one segment of a path.

    :param plus_is_space: read a raw ``+`` as CouchDB does.
    :raises BadAddress: for a ``%`` without two hexadecimal digits, and for bytes that are not UTF-8.
    """
    if plus_is_space:
        segment = segment.replace(b"+", b" ")
    if b"%" in segment:
        if _BAD_ESCAPE.search(segment):
            raise BadAddress("Invalid percent-encoding in the path.")
        segment = unquote_to_bytes(segment)
    try:
        return segment.decode("utf-8")
    except UnicodeDecodeError:
        raise BadAddress("The path is not UTF-8.") from None


# Most requests are for the address of a request just before.
@short_cache(1024, _LONGEST_KEPT)
def parse_address(path: bytes) -> AttachmentAddress | DocumentAddress:
    """
    Parse the raw path of a request target. A document's ends with the slash behind its id.

    :raises TooShort: if the path names neither an attachment nor a document.
    :raises BadAddress: as :func:`decode_segment`, and if the path does not begin with a slash.
    """
    if not path.startswith(b"/"):
        raise BadAddress("The path must begin with a slash.")
    if b"%" in path:
        segments = [decode_segment(segment) for segment in path[1:].split(b"/")]
    else:
        segments = decode_segment(path[1:]).split("/")
    is_design = len(segments) > 1 and segments[1] == "_design"
    name_at = 3 if is_design else 2
    if len(segments) <= name_at:
        raise TooShort("An attachment's address is /{db}/{docid}/{attachment name}, a document's /{db}/{docid}/.")
    document = DocumentAddress(segments[0], "/".join(segments[1:name_at]))
    name = "/".join(segments[name_at:])
    return AttachmentAddress(document.database, document.document_id, name) if name else document


def is_linkable(address: AttachmentAddress) -> bool:
    """
    Whether a URL can lead to an attachment: CouchDB's paths cannot express empty segments in its name (FINDINGS,
    section 5), browsers resolve lone dots away, however they are quoted, and half a surrogate pair, which JSON can
    express, has no UTF-8.
    """
    is_resolved_away = {address.document_id, address.attachment} & {".", ".."}
    return not is_resolved_away and all(address.attachment.split("/")) and not _SURROGATE.search(address.attachment)


@short_cache(1024)
def quote_segment(text: str) -> str:
    """
    Percent-encode a name so that it is one segment of a path, in every reader's eyes.

    Everything but RFC 3986's unreserved characters is encoded, and so are the dots of ``.`` and ``..``, which
    anything between us and CouchDB might resolve away.
    """
    return "%2E" * len(text) if text in {".", ".."} else quote(text, safe="")


@short_cache(256)
def document_path(database: str, document_id: str) -> str:
    """The path of a document on a CouchDB node. A design document's slash stays raw: CouchDB redirects otherwise."""
    prefix, bare_id = (_DESIGN, document_id[len(_DESIGN) :]) if document_id.startswith(_DESIGN) else ("", document_id)
    return f"/{quote_segment(database)}/{prefix}{quote_segment(bare_id)}"


def attachment_path(address: AttachmentAddress) -> str:
    """The path of an attachment on a CouchDB node; slashes in the name are encoded, as in CouchDB's own links."""
    length = len(address.database) + len(address.document_id) + len(address.attachment)
    return (_kept_attachment_path if length <= LONGEST_KEY else _attachment_path)(address)


def _attachment_path(address: AttachmentAddress) -> str:
    return f"{document_path(address.database, address.document_id)}/{quote_segment(address.attachment)}"


_kept_attachment_path = lru_cache(256)(_attachment_path)
