"""
The token rule: who may read the attachments of a document. Pure.

A document carries its secret in a field; whoever shows the secret reads the attachments. Everything else, a
document that is not there included, is one and the same "no", and here takes the same time to say. (Reading a large
document takes longer than finding none: that is CouchDB's time, and not hidden.)
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import field, frozen

from txcouchdl.couch.document_decoder import KeptField

#: Of a list, so many count: each costs time, of everybody's, and who writes the document chooses how many there are.
MOST_SECRETS: Final = 256
#: Bytes of a secret in UTF-8. A longer one counts for none: each costs time.
LONGEST_SECRET: Final = 16 * 2**10
#: Bytes that JSON takes for one byte of a text at most, as \u0041 does.
_LONGEST_ESCAPE: Final = 6

# Compared against when there is nothing to compare against.
_NOBODYS_SECRET = secrets.token_bytes(32)


def _check_key(_instance: object, _attribute: object, key: str) -> None:
    if not all(key.split(".")):
        raise ValueError("a token key is one or more names joined by dots")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise ValueError("a token key is text in UTF-8") from None


@frozen
class TokenRule:
    """
    :ivar key: the field that holds the secret: the name of a field of the document, or a path of names through
        nested objects, joined by dots.
    :raises ValueError: if the key has an empty name in it, or is not text.
    """

    key: str = field(validator=_check_key)

    @property
    def kept(self) -> KeptField:
        """What documents have to keep for this rule."""
        return KeptField(self.key, MOST_SECRETS, _LONGEST_ESCAPE * LONGEST_SECRET + len('""'))

    def allows(self, fields: Mapping[str, Any] | None, token: bytes | None) -> bool:
        """
        Whether a token opens a document.

        :param fields: the current document's; ``None`` if there is no such document.
        :param token: as the client showed it, decoded; ``None`` if it showed none.
        """
        candidate, is_right = _fingerprint(token or b""), False
        # All of them, always: the time taken tells nothing of which one it was, or nearly was.
        for secret in self.secrets(fields):
            is_right |= hmac.compare_digest(candidate, _fingerprint(secret))
        return bool(token) and is_right

    def secrets(self, fields: Mapping[str, Any] | None) -> Sequence[bytes]:
        """
        The document's secrets: a non-empty string, or those among the first :data:`MOST_SECRETS` items of a list (for
        rotation), none of them longer than :data:`LONGEST_SECRET`. Nothing else is one.

        :param fields: the current document's; ``None`` if there is no such document.
        :return: where there is none, one that nobody knows: whatever is done with secrets takes its time.
        """
        return self._secrets(fields or {}) or (_NOBODYS_SECRET,)

    def _secrets(self, fields: Mapping[str, Any]) -> list[bytes]:
        value = fields[self.key] if self.key in fields else self._nested(fields)
        values = value[:MOST_SECRETS] if isinstance(value, list) else [value]
        texts = (value.encode("utf-8", "surrogatepass") for value in values if value and isinstance(value, str))
        return [secret for secret in texts if len(secret) <= LONGEST_SECRET]

    def _nested(self, fields: Mapping[str, Any]) -> object:
        value: object = fields
        for name in self.key.split("."):
            if not isinstance(value, dict):
                return None
            value = value.get(name)
        return value


def _fingerprint(secret: bytes) -> bytes:
    """Of one length for all secrets, so that comparing does not tell theirs."""
    return hashlib.sha256(secret).digest()
