"""
Where a request shows its secret. Pure.

The token in the address comes first, then a Bearer token (RFC 6750), then a link, and HTTP Basic (RFC 7617) last. Basic
is for programs that can send nothing else: its password is the secret, and the user name may be any. A request that
shows its secret in another place may have Basic credentials too, which a proxy in front has asked for. They are not
read then, and are no guess.
"""

from base64 import b64decode
from binascii import Error
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

from txcouchdl.couch.names import DocumentAddress, document_path

_BEARER: Final = b"bearer "
_BASIC: Final = b"basic "
#: Characters of a realm.
_LONGEST_REALM: Final = 512

#: The fields of a request, each with the values of its lines, by names in lower case.
Fields = Mapping[bytes, Sequence[bytes]]


class Place(Enum):
    """Where a secret is shown."""

    NOWHERE = "not at all"
    ADDRESS = "in the query: a token, or a link"
    BEARER = "Authorization: Bearer"
    BASIC = "Authorization: Basic"


#: Where it is a header field: the answer depends on that field.
IN_FIELDS: Final = frozenset({Place.BEARER, Place.BASIC})
#: Where a password may be asked for: there is no secret, or it is such a password.
WITHOUT_TOKEN: Final = frozenset({Place.NOWHERE, Place.BASIC})
# Members of an enumeration are found slowly.
_IN_ADDRESS: Final = Place.ADDRESS


def token_of(parameters: Mapping[bytes, Sequence[bytes]], fields: Fields) -> tuple[Place, bytes | None]:
    """
    Return the place of a request's secret, and the secret if it is a token: one, or it is none.

    :param parameters: of the query, decoded, each with all its values.
    """
    tokens = parameters.get(b"token")
    if tokens is not None:
        return _IN_ADDRESS, tokens[0] if len(tokens) == 1 else None
    credentials = fields.get(b"authorization", ())
    if bearers := _credentials(credentials, _BEARER):
        return Place.BEARER, _only(bearers)
    if b"signature" in parameters:
        return _IN_ADDRESS, None
    if basics := _credentials(credentials, _BASIC):
        return Place.BASIC, _password(_only(basics))
    return Place.NOWHERE, None


def realm_of(address: DocumentAddress) -> str:
    """Return the document's path, so that browsers keep a password for each document, if it is not too long."""
    path = document_path(address.database, address.document_id)
    return path if len(path) <= _LONGEST_REALM else "/"


def _credentials(lines: Sequence[bytes], scheme: bytes) -> list[bytes]:
    """
    :param scheme: in lower case, with a space behind it.
    """
    return [line[len(scheme) :].strip() for line in lines if line[: len(scheme)].lower() == scheme]


def _only(values: Sequence[bytes]) -> bytes | None:
    return values[0] if len(values) == 1 else None


def _password(credentials: bytes | None) -> bytes | None:
    """The password, which may have colons in it; ``None`` if it cannot be read."""
    try:
        _, colon, password = b64decode(credentials or b"", validate=True).partition(b":")
    except Error:
        return None
    return password if colon else None
