"""
How an attachment is described to a client: its type, its name, its entity-tag, its digests, and what a browser may do
with it. Pure.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from attrs import frozen

from txcouchdl.couch.documents import AttachmentStub, Digest, Storage
from txcouchdl.protocol.conditions import EntityTag
from txcouchdl.protocol.digests import MD5, SHA_256, digest_field
from txcouchdl.protocol.disposition import content_disposition
from txcouchdl.protocol.media_types import OCTET_STREAM, essence, guessed_type, kind_of, may_have_links
from txcouchdl.short_cache import short_cache

Headers = tuple[tuple[str, str], ...]

#: What every answer about an attachment carries.
SAFETY: Final[Headers] = (
    ("X-Content-Type-Options", "nosniff"),
    # The address holds the token.
    ("Referrer-Policy", "no-referrer"),
)
#: What every response carries: an address that opens something is not for search engines.
ROBOTS: Final = ("X-Robots-Tag", "noindex")
# An attachment may be looked at, but it loads nothing and runs nothing; and what could be a page is of no origin.
_POLICY: Final = (
    "default-src 'none'; form-action 'none'; img-src 'self' data:; media-src 'self'; style-src 'unsafe-inline'"
)
_SANDBOXED: Final = f"sandbox; {_POLICY}"
# May be kept by the client, for no longer than it is still the same: there is no date to guess an age from.
_CACHING: Final = ("Cache-Control", "private, no-transform")

# Or nginx takes all that it can, into a file, and then nothing until its client has taken that: the gateway would wait
# in vain (CLIENTS, point 21).
_PACE: Final = ("X-Accel-Buffering", "no")

_GUNZIP: Final = "+gunzip"
_LONGEST_TYPE: Final = 1024
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@frozen
class Presentation:
    """
    How browsers are to show what we send.

    The authors of the database decide what a browser gets that follows a link. A document of theirs could act in the
    name of the gateway's site. It could also override Referrer-Policy, so that a click on a link in it hands the token
    to another site: Firefox does that from within a sandbox too. So everything that may have links is saved rather than
    shown, and all that is not played is in a sandbox besides.

    :ivar inline: media types of which everything is shown all the same, without a sandbox.
    """

    inline: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, texts: Sequence[str]) -> "Presentation":
        """
        :param texts: media types without parameters, such as ``application/pdf``.
        :raises ValueError: with a sentence for whoever wrote them.
        """
        for text in texts:
            if essence(text) != text.lower():
                raise ValueError(f"{text!r} is no media type such as application/pdf")
        return cls(frozenset(text.lower() for text in texts))

    def is_shown(self, content_type: str | None) -> bool:
        """Whether a browser is to show what is of this type, rather than save it."""
        return essence(content_type) in self.inline or not may_have_links(content_type)

    def policy(self, content_type: str | None) -> Headers:
        """
        The Content-Security-Policy field, or none.

        :param content_type: as it is sent. With ``nosniff``, what is said to be sound or film is never taken for a
            page.
        """
        if essence(content_type) in self.inline:
            return ()
        # A player reads the address again; from within a sandbox it is not let in.
        return (("Content-Security-Policy", _POLICY if kind_of(content_type).is_played else _SANDBOXED),)


@frozen
class Description:
    """
    What is said of one attachment.

    :ivar presentation: how it is to be shown.
    :ivar download: the name under which to save it, empty for its own; ``None`` if it is to be shown.
    """

    stub: AttachmentStub
    presentation: Presentation = Presentation()
    download: str | None = None

    @property
    def etag(self) -> EntityTag:
        """See :func:`entity_tag`."""
        return entity_tag(self.stub)

    @property
    def pin(self) -> str:
        """
        What ``?digest=`` has to say so that no other bytes are ever sent for an address: the digest, and what was done
        to the bytes that it is of, as the entity-tag has it.
        """
        return f"md5-{self.etag.opaque}"

    @property
    def tagged(self) -> Headers:
        """The fields that tell one state of the attachment from another."""
        return (("ETag", str(self.etag)), _CACHING)

    @property
    def content_type(self) -> str | None:
        """As it is sent."""
        return sent_type(self.stub)

    def fields(self, accept_ranges: str, media_type: str | None = None) -> Headers:
        """
        The header fields of a 200 and a 206. Repr-Digest, where there is one, is not among those of a 304 (RFC 9110,
        section 15.4.5), and those of an error are not of the attachment.

        :param media_type: the body's, if it is not the attachment's own.
        """
        stated_type = safe_content_type(self.stub.content_type)
        typed, presented = _presented(self.stub.name, stated_type, self.presentation, self.download)
        if media_type is not None:
            typed = (("Content-Type", media_type),)
        digested = _digested(self.stub.sha256, _md5(self.stub))
        return (*typed, ("Accept-Ranges", accept_ranges), *self.tagged, *digested, *presented)


# Most requests are for the attachment of a request just before.
@short_cache(256, 512)
def _presented(
    name: str, stated_type: str | None, presentation: Presentation, download: str | None
) -> tuple[Headers, Headers]:
    """The Content-Type field, or none; and those that say what browsers and proxies are to do with the attachment."""
    content_type = _told_type(name, stated_type)
    is_shown = download is None and presentation.is_shown(content_type)
    disposition = content_disposition("inline" if is_shown else "attachment", download or name)
    return (
        (("Content-Type", content_type),) if content_type is not None else (),
        (("Content-Disposition", disposition), *presentation.policy(content_type), *SAFETY, _PACE),
    )


def representation_digests(stub: AttachmentStub) -> Mapping[str, bytes]:
    """
    What is known of all the bytes of the identity representation, by the algorithms' keys in Repr-Digest (RFC 9530):
    whatever range of them is sent. None, of one that is stored as gzip and has not passed whole yet.
    """
    return _digests(stub.sha256, _md5(stub))


def _md5(stub: AttachmentStub) -> bytes | None:
    """The stub's is of the stored bytes."""
    return stub.digest.md5 if stub.storage is Storage.IDENTITY else None


def _digests(sha256: bytes | None, md5: bytes | None) -> Mapping[str, bytes]:
    return {algorithm: digest for algorithm, digest in ((SHA_256, sha256), (MD5, md5)) if digest is not None}


@lru_cache(1024)
def _digested(sha256: bytes | None, md5: bytes | None) -> Headers:
    """The Repr-Digest field, or none."""
    digests = _digests(sha256, md5)
    return (("Repr-Digest", digest_field(digests)),) if digests else ()


def entity_tag(stub: AttachmentStub) -> EntityTag:
    """
    The digest, as CouchDB has it. Of an attachment that was uploaded compressed it is the digest of what we do not
    send: the very same bytes, uploaded again as what they are, would have the same. So that nobody takes one for
    the other, ours says what was done to them.
    """
    return _entity_tag(stub.digest, _GUNZIP if stub.storage is Storage.ENCODED else "")


@lru_cache(1024)
def _entity_tag(digest: Digest, suffix: str) -> EntityTag:
    return EntityTag(f"{digest.base64}{suffix}")


def is_pin(text: str) -> bool:
    """Whether this may be what ``?digest=`` says of some attachment."""
    try:
        Digest.parse(text.removesuffix(_GUNZIP))
    except ValueError:
        return False
    return True


def sent_type(stub: AttachmentStub) -> str | None:
    """
    The Content-Type of an attachment: the stub's, or what the name tells where that says nothing.

    :return: fit for a header field; ``None`` if nothing is known.
    """
    return _told_type(stub.name, safe_content_type(stub.content_type))


def _told_type(name: str, stated_type: str | None) -> str | None:
    says_nothing = stated_type is None or essence(stated_type) == OCTET_STREAM
    return (guessed_type(name) or stated_type) if says_nothing else stated_type


def safe_content_type(content_type: str | None) -> str | None:
    """
    A stub's content type, fit for a header field: verbatim as far as it can be, its UTF-8 bytes as ISO 8859-1
    characters. One with control characters was made to break out of the field, and is not used.

    :return: ``None`` if there is none.
    """
    if content_type is None or not content_type.strip():
        return None
    if len(content_type) > _LONGEST_TYPE or _CONTROL.search(content_type):
        return OCTET_STREAM
    return content_type.strip().encode("utf-8", "replace").decode("latin-1")
