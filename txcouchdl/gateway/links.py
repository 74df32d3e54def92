"""
Which expiring links open what. Pure.

A link for one attachment is signed with everything that its address says. A link for a document opens its page and each
of its attachments, and who has it may add ``digest`` and ``download``, which take nothing from what was signed.
"""

import hmac
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Final

from attrs import field, frozen

from txcouchdl.couch.names import AttachmentAddress, DocumentAddress
from txcouchdl.links import Link, parse_number, signature_of, signing_key

#: Seconds for which a link lets a download go on that began in time.
LINK_GRACE: Final = 6 * 3600.0


class Phase(Enum):
    """What a link is good for."""

    OPEN = "whatever it was made for"
    RESUMING = "the rest of what began in time"
    OVER = "nothing"


@frozen
class SignedLink:
    """
    What a request says of its link, and the signature, which may be wrong.

    :ivar signature: as it was sent. The others are :class:`~txcouchdl.links.Link`'s.
    """

    signature: bytes = field(repr=False)
    expires: int
    grace: int | None = None
    digest: str | None = None
    download: str | None = None
    rev: str | None = None

    @property
    def carried(self) -> tuple[tuple[str, bytes], ...]:
        """The parameters, except the revision, by which a document's link opens its attachments too."""
        grace = () if self.grace is None else (("grace", b"%d" % self.grace),)
        return (("expires", b"%d" % self.expires), *grace, ("signature", self.signature))


def parse_link(parameters: Mapping[bytes, Sequence[bytes]]) -> SignedLink | None:
    """
    :param parameters: of a request's query, decoded, each with all its values.
    :return: ``None`` if there is no link in them, or one that nobody can have signed.
    """
    texts = {}
    for name in (b"expires", b"grace", b"digest", b"download", b"rev"):
        values = parameters.get(name, ())
        if len(values) > 1:
            return None
        try:
            texts[name] = values[0].decode() if values else None
        except UnicodeDecodeError:
            return None
    signatures, expires, grace = parameters.get(b"signature", ()), texts[b"expires"], texts[b"grace"]
    ends = None if expires is None else parse_number(expires)
    lasts = None if grace is None else parse_number(grace)
    if len(signatures) != 1 or ends is None or (grace is not None and lasts is None):
        return None
    return SignedLink(signatures[0], ends, lasts, texts[b"digest"], texts[b"download"], texts[b"rev"])


@frozen
class LinkRule:
    """
    :ivar secret: what it takes, beside a token, to sign; ``None`` if the token is enough.
    :ivar grace: seconds that links may have, and have if they do not say.
    """

    secret: bytes | None = field(default=None, repr=False)
    grace: float = LINK_GRACE

    def phase(self, link: SignedLink, now: float) -> Phase:
        """
        What a link is good for, if its signature is right.

        :param now: seconds since 1970.
        """
        if now < link.expires:
            return Phase.OPEN
        grace = self.grace if link.grace is None else min(link.grace, self.grace)
        return Phase.RESUMING if now < link.expires + grace else Phase.OVER

    def is_signed(
        self, link: SignedLink, address: AttachmentAddress | DocumentAddress, tokens: Sequence[bytes]
    ) -> bool:
        """
        Whether a link was made for an address.

        :param tokens: of the current document, any of which it may be signed with.
        """
        is_right = False
        messages = tuple(each.message for each in _links(link, address))
        # All of them, always: the time taken tells nothing of which one it was, or nearly was.
        for token in tokens:
            key = signing_key(token, self.secret)
            for each in messages:
                is_right |= hmac.compare_digest(signature_of(each, key), link.signature)
        return is_right


def _links(link: SignedLink, address: AttachmentAddress | DocumentAddress) -> Iterator[Link]:
    """List the links that may have been signed for an address. For an empty name there are none."""
    if not (address.database and address.document_id):
        return
    names = {"database": address.database, "document_id": address.document_id}
    yield Link(**names, attachment=None, expires=link.expires, grace=link.grace, rev=link.rev)
    if isinstance(address, AttachmentAddress):
        yield Link(
            **names,
            attachment=address.attachment,
            expires=link.expires,
            grace=link.grace,
            digest=link.digest,
            download=link.download,
            rev=link.rev,
        )
