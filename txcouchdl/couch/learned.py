"""
What only a full pass can tell of attachments that are stored as gzip: the SHA-256 of their identity representations,
and the lengths of those that were uploaded compressed. Pure.
"""

import hashlib
from collections import OrderedDict
from typing import Final

import attrs

from txcouchdl.couch.decoding import Identity
from txcouchdl.couch.documents import AttachmentStub, Storage
from txcouchdl.couch.names import DocumentAddress, document_path

#: Identities remembered; the least recently used goes first.
_REMEMBERED: Final = 4096

_Key = tuple[bytes, bytes, int]


class LearnedIdentities:
    """
    The identities of what is stored in a document under a digest. Bounded.

    An MD5 names what is stored, and whoever chooses the bytes can make it name two things. So nothing that was learned
    of one document is told of another: who could profit may write to the document, and so replace its attachments.
    """

    def __init__(self, capacity: int = _REMEMBERED) -> None:
        self._capacity = capacity
        self._identities: OrderedDict[_Key, Identity] = OrderedDict()

    def completed(self, where: DocumentAddress, stub: AttachmentStub) -> AttachmentStub:
        """
        The stub, with what is remembered of its attachment.

        :param where: the document that it is from.
        """
        if stub.storage is Storage.IDENTITY or stub.sha256 is not None:
            return stub
        key = _key(where, stub)
        identity = self._identities.get(key)
        if identity is None or stub.length not in (None, identity.length):
            return stub
        self._identities.move_to_end(key)
        return attrs.evolve(stub, length=identity.length, sha256=identity.sha256)

    def learn(self, where: DocumentAddress, stub: AttachmentStub, identity: Identity) -> None:
        """
        :param identity: of a whole body, whose digest was right.
        """
        key = _key(where, stub)
        self._identities[key] = identity
        self._identities.move_to_end(key)
        if len(self._identities) > self._capacity:
            self._identities.popitem(last=False)


def _key(where: DocumentAddress, stub: AttachmentStub) -> _Key:
    # Names may be long, and there may be many.
    named = hashlib.sha256(document_path(where.database, where.document_id).encode("ascii")).digest()
    return named, stub.digest.md5, stub.stored_length
