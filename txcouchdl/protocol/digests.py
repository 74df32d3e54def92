"""Digest fields: Repr-Digest, written and read (RFC 9530, as a structured field of RFC 8941).

A digest of the *representation* is one of all its bytes, whatever range of them a message carries (RFC 9530,
section 3): it is the same in a 200, a 206 and the answer to a HEAD.
"""

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Final

#: The algorithms that are known here, by their keys in the field. Whoever can choose the bytes can make two bodies of
#: one MD5 (RFC 9530, section 5, calls it deprecated): it shows damage, not malice.
SHA_256: Final = "sha-256"
MD5: Final = "md5"

#: How many bytes a digest has, by algorithm.
SIZES: Final = {SHA_256: 32, MD5: 16}

#: The longest field that is looked at, in characters.
MAX_FIELD_LENGTH: Final = 8192

_KEY: Final = r"[a-z*][a-z0-9_.*-]*+"
# Of parameters none is defined; they are passed over, with less care for what their values may be.
_PARAMETERS: Final = rf'(?:;[ ]*+{_KEY}(?:=(?:"(?:[ !#-\[\]-~]|\\["\\])*+"|[!#-+./-:<-~-]++))?+)*+'
# A value of another type is no digest, and the field no Repr-Digest.
_MEMBER: Final = re.compile(rf"({_KEY})=:([A-Za-z0-9+/=]*+):{_PARAMETERS}")
_COMMA: Final = re.compile(r"[ \t]*+,[ \t]*+")


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
    :return: the digests of algorithms that are known here, each of the size that it has to have. Others are left out;
        of a field that is malformed, all are (RFC 8941, section 4.2).
    """
    found = {} if text is None or len(text) > MAX_FIELD_LENGTH else _members(text.strip(" "))
    return {algorithm: digest for algorithm, digest in found.items() if len(digest) == SIZES.get(algorithm)}


def _members(text: str) -> dict[str, bytes]:
    """By their keys, of which the last counts; none at all if the text is no dictionary of byte sequences."""
    members: dict[str, bytes] = {}
    position = 0
    while (member := _MEMBER.match(text, position)) is not None:
        digest = _decode(member[2])
        if digest is None:
            return {}
        members[member[1]] = digest
        if member.end() == len(text):
            return members
        comma = _COMMA.match(text, member.end())
        if comma is None:
            return {}
        position = comma.end()
    return {}


def _decode(text: str) -> bytes | None:
    """Section 4.2.7: the padding may be missing; ``None`` for what is no base64."""
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return None
