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

#: Of a list, so many count: each costs time, of everybody's, and who writes the document chooses how many there are.
MOST_SECRETS: Final = 256

# Compared against when there is nothing to compare against.
_NOBODYS_SECRET = secrets.token_bytes(32)


def _check_key(_instance: object, _attribute: object, key: str) -> None:
    if not all(key.split(".")):
        raise ValueError("a token key is one or more names joined by dots")


@frozen
class TokenRule:
    """
    :ivar key: the field that holds the secret: the name of a field of the document, or a path of names through
        nested objects, joined by dots.
    :raises ValueError: if the key has an empty name in it.
    """

    key: str = field(validator=_check_key)

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
        The document's secrets: a non-empty string, or the first :data:`MOST_SECRETS` of a list (for rotation). Nothing
        else is one.

        :param fields: the current document's; ``None`` if there is no such document.
        :return: where there is none, one that nobody knows: whatever is done with secrets takes its time.
        """
        return self._secrets(fields or {}) or (_NOBODYS_SECRET,)

    def _secrets(self, fields: Mapping[str, Any]) -> list[bytes]:
        value = fields[self.key] if self.key in fields else self._nested(fields)
        values = value[:MOST_SECRETS] if isinstance(value, list) else [value]
        return [secret.encode("utf-8", "surrogatepass") for secret in values if secret and isinstance(secret, str)]

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
