"""
Documents to read in the place of those that must not be read. Pure.

A name that the gateway may not address, and a database that it may not read, get the same 403 as a document that is not
there. They have to cost the same too, or the time would tell them apart. So a document is read for them, along the same
way: one in a database that does not exist.

The decoy of a document is always the same one, and no other document has it: requests for one document share a read
where requests for another one would. Its names are as long as those of the document, or nearly, and nobody can foresee
its database, and make one of that name.
"""

import secrets
from hashlib import blake2b
from typing import Final

from txcouchdl.couch.names import DocumentAddress

_PREFIX: Final = "couchdl-decoy-"
_KEY_LENGTH: Final = 32
_DIGEST_LENGTH: Final = 8


class Decoys:
    """Decoys with names made from a random key."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(_KEY_LENGTH)

    def of(self, address: DocumentAddress) -> DocumentAddress:
        """Return where to read instead of an address: a legal database's name, and an addressable document's id."""
        digest = blake2b(address.database.encode(), key=self._key, digest_size=_DIGEST_LENGTH).hexdigest()
        database = f"{_PREFIX}{digest}".ljust(len(address.database), "-")
        return DocumentAddress(database, f"-{address.document_id}")
