"""What is stored: revisions, and the attachments and bodies that belong to them."""

import re
from enum import StrEnum

from attrs import field, frozen
from attrs.validators import ge, instance_of, matches_re

from txcouchdl.couch.documents import Digest

#: ``1-zz`` is a revision that nobody has, ``bad`` is none (FINDINGS, section 1). Generations fit SQLite's
#: integers.
_REVISION = re.compile(r"([0-9]{1,18})-([\x21-\x7e]{1,128})", re.ASCII)

#: As many characters as an MD5 has hexadecimal digits: CouchDB reads them as such, in either case, or refuses them.
_DIGITS = 32
_HEXADECIMAL = re.compile("[0-9a-f]{32}")


@frozen
class Rev:
    """The name of one revision of one document: ``generation-hash``."""

    generation: int = field(validator=[instance_of(int), ge(0)])
    hash: str = field(validator=matches_re(r"[\x21-\x7e]+"))

    @classmethod
    def parse(cls, text: str) -> "Rev":
        """
        :raises ValueError: for what cannot be a revision.
        """
        matched = _REVISION.fullmatch(text)
        if matched is None:
            raise ValueError("not a revision")
        rev_hash = matched[2].lower() if len(matched[2]) == _DIGITS else matched[2]
        if len(rev_hash) == _DIGITS and not _HEXADECIMAL.fullmatch(rev_hash):
            raise ValueError("not hexadecimal")
        return cls(int(matched[1]), rev_hash)

    def __str__(self) -> str:
        return f"{self.generation}-{self.hash}"

    @property
    def etag(self) -> str:
        """A document's ETag."""
        return f'"{self}"'


class Encoding(StrEnum):
    """The content coding in which a body is stored."""

    IDENTITY = "identity"
    GZIP = "gzip"


@frozen
class StoredBody:
    """
    The bytes of an attachment, as they are kept.

    :ivar blob: the SHA-256 of the stored bytes in hexadecimal: the name of their file. Never the MD5, which
        anyone can make two bodies share.
    :ivar digest: CouchDB's digest, of the stored bytes too.
    :ivar encoding: what has been done to them.
    :ivar stored_length: how many stored bytes there are.
    :ivar length: the ``length`` of the stub: bytes before CouchDB's own compression, but of the stored bytes
        when the client had compressed them (FINDINGS, section 2).
    """

    blob: str = field(validator=matches_re(r"[0-9a-f]{64}"))
    digest: Digest
    encoding: Encoding
    stored_length: int = field(validator=[instance_of(int), ge(0)])
    length: int = field(validator=[instance_of(int), ge(0)])

    @property
    def decoded_length(self) -> int | None:
        """
        The length of the identity bytes, or ``None`` if it is unknown.

        Where both lengths are equal CouchDB takes the body for one that came compressed, and so do its
        clients (FINDINGS, section 2, eqlen.txt).
        """
        if self.encoding is Encoding.GZIP and self.stored_length == self.length:
            return None
        return self.length


@frozen
class Attachment:
    """
    An attachment of one revision.

    :ivar content_type: verbatim as uploaded: any text.
    :ivar revpos: the generation in which this body came; 1 if it made a document of a tombstone.
    """

    name: str
    content_type: str
    revpos: int
    body: StoredBody

    @property
    def etag(self) -> str:
        """Strong, and the same for both codings, as CouchDB's."""
        return f'"{self.body.digest.base64}"'


@frozen
class Written:
    """A document that was written."""

    document_id: str
    rev: Rev
    is_tombstone: bool


@frozen
class Revision:
    """
    One revision of a document.

    :ivar key: the store's own number for it; grows with every write.
    :ivar body: its members without the special ones, as a JSON object's text. ``None`` once compacted away.
    :ivar checksum: see :mod:`~txcouchdl.store.checksums`; ``None`` in a row that schema 1 wrote.
    """

    key: int
    document_id: str
    rev: Rev
    deleted: bool
    body: str | None = field(repr=False)
    checksum: str | None = field(default=None, repr=False)

    @property
    def text(self) -> str:
        """
        Its body.

        :raises LookupError: if that was compacted away.
        """
        if self.body is None:
            raise LookupError(f"revision {self.rev} was compacted away")
        return self.body
