"""
Documents and attachment stubs: values that can be relied on.

Nothing in a document is trusted: its authors choose these values. A document is checked when it is decoded, a stub only
when its attachment is wanted, so that one bad stub does not spoil its neighbours. All other fields stay JSON, and are
dropped with it: they cost time and memory, which their authors choose too (see :mod:`.json_members`).
"""

import binascii
import hashlib
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, Final

from attrs import evolve, field, frozen
from attrs.validators import matches_re
from msgspec import Raw

from txcouchdl.couch.errors import BadUpstream
from txcouchdl.couch.json_members import Members, all_members, plain_value, scalar_of
from txcouchdl.short_cache import short_cache

#: Bytes of a document up to which it is read and decoded at once: to read it takes less than a millisecond.
SMALL_DOCUMENT: Final = 64 * 2**10

#: Lengths are 64-bit in CouchDB's files; anything beyond is not a length.
_LONGEST = 2**63 - 1
#: 32 bytes in base64: of the last character before the padding, four bits count, and the others are 0.
_SHA256 = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=", re.ASCII)
_SHA256_OF_NOTHING = hashlib.sha256().digest()
#: Bytes of a stub of which all fields are decoded: they are few.
_SMALL_STUB: Final = 4 * 2**10
_STUB = Members(("content_type", "digest", "length", "encoding", "encoded_length", "revpos", "sha256"))
_REVISION = re.compile(r"[1-9][0-9]{0,18}-[\x21\x23-\x7e]{1,128}", re.ASCII)


class BadDocument(BadUpstream):
    """JSON that is no document, or a stub that describes no attachment. The message names no content."""


@frozen
class Digest:
    """
    The digest of an attachment's **stored** bytes, which are the gzip bytes where CouchDB stores gzip
    (FINDINGS, section 2).

    :ivar md5: 16 bytes.
    """

    md5: bytes = field()

    @md5.validator
    def _is_md5(self, _attribute: object, value: bytes) -> None:
        if len(value) != 16:
            raise ValueError("an MD5 has 16 bytes")

    @classmethod
    def parse(cls, text: object) -> "Digest":
        """
        :param text: ``md5-<base64>``, as stubs have it.
        :raises ValueError: for anything else.
        """
        if not isinstance(text, str) or not text.startswith("md5-"):
            raise ValueError("not an MD5 digest")
        return _parse_digest(text)

    def is_of(self, stored: bytes) -> bool:
        """Whether some bytes have it."""
        return hashlib.md5(stored, usedforsecurity=False).digest() == self.md5

    @property
    def base64(self) -> str:
        """The MD5 in base64, with padding; in quotes it is CouchDB's ETag."""
        return b64encode(self.md5).decode("ascii")

    @property
    def text(self) -> str:
        """As stubs have it: ``md5-<base64>``."""
        return f"md5-{self.base64}"


# A digest's every request has it parsed. Only those that are digests are kept.
@lru_cache(1024)
def _parse_digest(text: str) -> Digest:
    try:
        digest = Digest(b64decode(text.removeprefix("md5-").encode("ascii"), validate=True))
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError("not base64") from None
    if digest.text != text:
        raise ValueError("not base64 as CouchDB writes it")
    return digest


def _parse_sha256(text: object) -> bytes | None:
    """In base64, as our own store tells it. What is none is as good as absent: nothing depends on it."""
    return _decode_sha256(text) if isinstance(text, str) and _SHA256.fullmatch(text) else None


@lru_cache(1024)
def _decode_sha256(text: str) -> bytes:
    return b64decode(text)


class Storage(Enum):
    """How CouchDB keeps an attachment's bytes, as ``att_encoding_info`` tells it."""

    IDENTITY = "as they are"
    COMPRESSED = "compressed by CouchDB; the length of the identity bytes is known"
    ENCODED = "uploaded compressed; the length of the identity bytes is not known"


@frozen
class AttachmentStub:
    """
    What a document says of one attachment.

    :ivar name: as in the document.
    :ivar content_type: verbatim, as somebody once uploaded it: any text at all. ``None`` if absent.
    :ivar digest: of the stored bytes.
    :ivar storage: how to read it.
    :ivar stored_length: bytes that CouchDB keeps, and that the digest is of.
    :ivar length: bytes of the identity representation, or ``None`` where the stub does not tell.
    :ivar revpos: number of the document's revision that brought it, or ``None`` where the stub does not tell.
    :ivar sha256: of the identity representation, 32 bytes, or ``None`` if not known. CouchDB's stubs do not tell it;
        the embedded store's do, of the stored bytes.
    """

    name: str
    content_type: str | None
    digest: Digest
    storage: Storage
    stored_length: int
    length: int | None
    revpos: int | None = None
    sha256: bytes | None = None

    def is_same_attachment(self, other: "AttachmentStub") -> bool:
        """
        Whether the other stub promises the same bytes in the same storage: a read may go on with it. What the document
        does not tell, a length, a SHA-256, may be known of one of them and not of the other.
        """
        is_same_stored = (self.digest, self.storage, self.stored_length) == (
            other.digest,
            other.storage,
            other.stored_length,
        )
        is_same_length = self.storage is Storage.ENCODED or self.length == other.length
        # An MD5 may be that of two attachments: somebody made them so.
        is_another = None not in (self.sha256, other.sha256) and self.sha256 != other.sha256
        return is_same_stored and is_same_length and not is_another


class Absence(Enum):
    """Why a node answers that it has no document to read."""

    UNKNOWN = "the node has never seen a revision of it"
    GONE = "it is deleted, its database does not exist or is closed to us, or its name cannot be one"


@frozen
class Document:
    """
    One revision of a document, without the fields that nobody needs.

    It may hold 16 MiB: a coroutine drops it before it waits for something else.

    :ivar id: as asked for.
    :ivar rev: its revision.
    :ivar fields: of the JSON object, the :class:`KeptField`, unchecked.
    :ivar stubs: ``_attachments``, unchecked: JSON, or a dict whose values may be JSON.
    """

    id: str
    rev: str = field(validator=matches_re(_REVISION))
    fields: Mapping[str, Any] = field(repr=False)
    stubs: object = field(factory=dict, repr=False)

    @property
    def is_large(self) -> bool:
        """Whether to find an attachment takes milliseconds."""
        return isinstance(self.stubs, Raw) and len(self.stubs) > SMALL_DOCUMENT

    @property
    def generation(self) -> int:
        """The number before the dash of its revision: how many edits led to it."""
        return int(self.rev.partition("-")[0])

    def has(self, name: str) -> bool:
        """
        Whether the document has an attachment of this name, whatever its stub is like.

        :raises BadDocument: if ``_attachments`` is not what CouchDB would write.
        """
        return name in self._stubs(name) and not _is_reserved(name)

    def attachment(self, name: str) -> AttachmentStub | None:
        """
        The stub of one attachment, or ``None`` if the document has no attachment of this name.

        :raises BadDocument: if ``_attachments`` or this stub is not what CouchDB would write.
        """
        stubs = self._stubs(name)
        return parse_stub(name, stubs[name]) if name in stubs and not _is_reserved(name) else None

    def attachment_names(self) -> list[str]:
        """
        The names of all attachments, whatever their stubs are like.

        :raises BadDocument: if ``_attachments`` is not what CouchDB would write.
        """
        return [name for name in self._stubs() if not _is_reserved(name)]

    def only(self, name: str) -> "Document":
        """
        The same document with this one of its attachments, if it has it. It takes little memory.

        :raises BadDocument: if ``_attachments`` is not what CouchDB would write.
        """
        stub = self._stubs(name).get(name)
        return evolve(self, stubs={} if stub is None else {name: stub.copy() if isinstance(stub, Raw) else stub})

    def indexed(self) -> "Document":
        """
        The same document, in which each further attachment is found at once.

        :raises BadDocument: if ``_attachments`` is not what CouchDB would write.
        """
        return evolve(self, stubs=self._stubs())

    def _stubs(self, name: str | None = None) -> Mapping[str, object]:
        """:param name: of the only attachment that is wanted; by default all are."""
        stubs = self.stubs
        if isinstance(stubs, Raw):
            stubs = _members(stubs, name)
        if not isinstance(stubs, dict):
            raise BadDocument("_attachments is not an object")
        return stubs


def _members(value: Raw, name: str | None) -> Mapping[str, Raw] | None:
    """
    The members of an object, or, if there may be many, the one with the name.

    :return: ``None`` if it is no object, or nested too deep for the stack as it is now.
    """
    try:
        if name is None or len(value) <= SMALL_DOCUMENT:
            return all_members(value)
        return Members([name]).of(value)
    except (ValueError, RecursionError):
        return None


def _is_reserved(name: str) -> bool:
    """Such names cannot be created, and below a design document they are CouchDB's handlers, not attachments."""
    return name.startswith("_")


def is_revision(text: str) -> bool:
    """Whether the text has the form of a revision, ``N-suffix``; whether there is one is CouchDB's to say."""
    return _REVISION.fullmatch(text) is not None


def parse_stub(name: str, stub: object) -> AttachmentStub:
    """
    :param stub: the value in ``_attachments``, read with ``att_encoding_info=true``; it may be JSON.
    :raises BadDocument: if it has no digest or no sensible length, or an encoding that CouchDB does not have.
    """
    if not isinstance(stub, Raw):
        return _parse_stub(name, stub)
    if len(stub) > _SMALL_STUB:
        return _parse_stub(name, _stub_fields(stub))
    return _parse_small_stub(name, bytes(stub))


# Requests for one attachment find the same stub in its document, over and over.
@short_cache(1024, 512)
def _parse_small_stub(name: str, stub: bytes) -> AttachmentStub:
    return _parse_stub(name, _stub_fields(Raw(stub)))


def _parse_stub(name: str, stub: object) -> AttachmentStub:
    if not isinstance(stub, dict):
        raise BadDocument("a stub is not an object")
    content_type = stub.get("content_type")
    if content_type is not None and not isinstance(content_type, str):
        raise BadDocument("a stub's content_type is not a string")
    try:
        digest = Digest.parse(stub.get("digest"))
    except ValueError:
        raise BadDocument("a stub without a usable digest") from None
    storage, stored_length, length = _storage(stub)
    revpos = stub.get("revpos")
    number = revpos if isinstance(revpos, int) and not isinstance(revpos, bool) else None
    return AttachmentStub(
        name, content_type, digest, storage, stored_length, length, number, _identity_sha256(stub, storage, length)
    )


def _stub_fields(stub: Raw) -> object:
    """The fields of a stub, all of them or those that count; anything else if it is not an object."""
    try:
        if len(stub) <= _SMALL_STUB and (value := plain_value(stub)) is not None:
            return value
        return {name: scalar_of(value) for name, value in _STUB.of(stub).items()}
    except (ValueError, RecursionError):
        return None


def _identity_sha256(stub: Mapping[str, object], storage: Storage, length: int | None) -> bytes | None:
    if length == 0:
        return _SHA256_OF_NOTHING
    return _parse_sha256(stub.get("sha256")) if storage is Storage.IDENTITY else None


def _storage(stub: Mapping[str, object]) -> tuple[Storage, int, int | None]:
    """Storage, stored length and identity length (FINDINGS, sections 1 and 2)."""
    length = _length(stub, "length")
    encoding = stub.get("encoding", "identity")
    if encoding == "identity":
        return Storage.IDENTITY, length, length
    if encoding != "gzip":
        raise BadDocument("a stub's encoding is unknown")
    encoded_length = _length(stub, "encoded_length")
    if encoded_length == length:
        # Of nothing at all, the length is known after all.
        return Storage.ENCODED, encoded_length, None if length else 0
    return Storage.COMPRESSED, encoded_length, length


def _length(stub: Mapping[str, object], key: str) -> int:
    value = stub.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LONGEST:
        raise BadDocument(f"a stub without a usable {key}")
    return value
