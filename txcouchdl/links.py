"""
Expiring links: what one says, and its signature. Pure.

A link carries no token. It is signed with one (HMAC-SHA256, RFC 2104), so that whoever reads the document can verify
it, and it dies when the document's token changes. ``docs/links.rst`` has the format, for those who sign elsewhere.
"""

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote

from attrs import field, frozen
from attrs.validators import ge, le, min_len, optional
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

#: The greatest time, and the longest grace: 12 digits, which last for some 30,000 years.
LATEST: Final = 10**12 - 1

_VERSION: Final = "couchdl-link-1"
_NUMBER: Final = re.compile("0|[1-9][0-9]{0,11}")
_KEY_LENGTH: Final = 32

_in_bounds: Final = [ge(0), le(LATEST)]


@frozen(kw_only=True)
class Link:
    """
    What a link says. All of it is signed, and that what is ``None`` is not there.

    :ivar database: a decoded name, exactly as it is meant; so ``document_id`` and ``attachment``.
    :ivar attachment: ``None`` for the document's page and all its attachments.
    :raises ValueError: for an empty name, and a number out of bounds.
    :ivar expires: when it ends, in seconds since 1970.
    :ivar grace: seconds after that for which it lets a download that began go on; ``None`` for as many as the gateway
        has.
    :ivar digest: as ``?digest=`` has it; ``download`` and ``rev`` likewise.
    """

    database: str = field(validator=min_len(1))
    document_id: str = field(validator=min_len(1))
    attachment: str | None = field(validator=optional(min_len(1)))
    expires: int = field(validator=_in_bounds)
    grace: int | None = field(default=None, validator=optional(_in_bounds))
    digest: str | None = None
    download: str | None = None
    rev: str | None = None

    @property
    def parameters(self) -> tuple[tuple[str, str], ...]:
        """Those of its query that are signed, in the order in which they are."""
        return tuple(self._parameters())

    def _parameters(self) -> Iterator[tuple[str, str]]:
        for name in ("expires", "grace", "digest", "download", "rev"):
            value = getattr(self, name)
            if value is not None:
                yield name, str(value)

    @property
    def message(self) -> bytes:
        """
        What is signed. No two links have the same: each line is of one thing, and in what is quoted nothing is left
        that could end a line or a segment.
        """
        path = "/".join(map(_quoted, ("", self.database, self.document_id, self.attachment or "")))
        lines = (_VERSION, "GET", path, *(f"{name}={_quoted(value)}" for name, value in self.parameters))
        return "\n".join(lines).encode("ascii")

    def signature(self, key: bytes) -> str:
        """:param key: see :func:`signing_key`."""
        return signature_of(self.message, key).decode("ascii")

    def query(self, key: bytes) -> str:
        """The query of the signed link, without the ``?``."""
        signed = (*self.parameters, ("signature", self.signature(key)))
        return "&".join(f"{name}={_quoted(value)}" for name, value in signed)


def signature_of(message: bytes, key: bytes) -> bytes:
    """A signature as it stands in an address: base64url, without padding."""
    return urlsafe_b64encode(hmac.digest(key, message, hashlib.sha256)).rstrip(b"=")


def signing_key(token: bytes, secret: bytes | None) -> bytes:
    """
    :param token: the document's.
    :param secret: of ``--link-secret-file``, without which nobody else can sign; ``None`` if there is none. The key is
        derived from both by HKDF (RFC 5869) with SHA-256.
    """
    if secret is None:
        return token
    info = _VERSION.encode("ascii") + b"\n" + token
    return HKDF(algorithm=SHA256(), length=_KEY_LENGTH, salt=None, info=info).derive(secret)


def parse_number(text: str) -> int | None:
    """The number of a link's ``expires`` or ``grace``, if it is written as it has to be."""
    return int(text) if _NUMBER.fullmatch(text) else None


def _quoted(text: str) -> str:
    """
    Percent-encoded, all but RFC 3986's unreserved characters, in capitals.

    :raises UnicodeEncodeError: if it cannot be said in UTF-8.
    """
    return quote(text, safe="")
