"""
Digest fields: Repr-Digest, written and read (RFC 9530, as a structured field of RFC 9651).

A digest of the *representation* is one of all its bytes, whatever range of them a message carries (RFC 9530,
section 3): it is the same in a 200, a 206 and the answer to a HEAD.
"""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final, cast

from http_sf import parse

#: The algorithms that are known here, by their keys in the field. Whoever can choose the bytes can make two bodies of
#: one MD5 (RFC 9530, section 5, calls it deprecated): it shows damage, not malice.
SHA_256: Final = "sha-256"
MD5: Final = "md5"

#: How many bytes a digest has, by algorithm.
SIZES: Final = {SHA_256: 32, MD5: 16}

#: The longest field that is looked at, in characters.
MAX_FIELD_LENGTH: Final = 8192


def digest_field(digests: Mapping[str, bytes]) -> str:
    """
    The value of a Repr-Digest field.

    :param digests: by algorithm, in the order in which they are to be told; at least one.
    """
    return ", ".join(f"{algorithm}=:{b64encode(digest).decode('ascii')}:" for algorithm, digest in digests.items())


def parse_digest_field(text: str | None) -> dict[str, bytes]:
    """
    Read a Repr-Digest field. Never raises, whatever the text; linear in its length.

    :param text: the field value, repeated field lines joined with ``", "``; None if it was not sent.
    :return: the digests of algorithms that are known here, each of the right size. Other algorithms are left out; a
        malformed field yields none (RFC 9651, section 4.2), and so does one with a member that is no byte sequence.
    """
    members = {} if text is None or len(text) > MAX_FIELD_LENGTH else _members(text)
    digests = {algorithm: value for algorithm, (value, _parameters) in members.items()}
    if not all(isinstance(value, bytes) for value in digests.values()):
        return {}
    return {algorithm: value for algorithm, value in digests.items() if len(value) == SIZES.get(algorithm)}


def _members(text: str) -> dict[str, Any]:
    """Parse a dictionary: by its keys, of which the last counts, pairs of a value and its parameters."""
    try:
        return cast(dict[str, Any], parse(text.encode("ascii"), tltype="dictionary"))
    except ValueError:
        return {}
