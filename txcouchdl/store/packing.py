"""
Uploaded bytes -> stored bytes.

CouchDB compresses what is worth it with zlib at level 8 and calls the MD5 of the result the attachment's
digest (FINDINGS, section 2). Here the same zlib is asked in the same way, so that an attachment has the
digest, and therefore the ETag, that it would have in CouchDB.
"""

import zlib

from attrs import frozen

from txcouchdl.store.answers import Refusal
from txcouchdl.store.blobs import Blobs, Spool
from txcouchdl.store.bodies import GZIP_CONTAINER
from txcouchdl.store.values import Encoding, StoredBody

_LEVEL = 8

#: CouchDB's default configuration: ``[attachments] compressible_types``.
_COMPRESSIBLE = frozenset({"application/javascript", "application/json", "application/xml"})


@frozen
class PackedBody:
    """
    A body ready to be stored.

    :ivar body: what will be stored.
    :ivar spool: its bytes, settled. The holder discards it.
    """

    body: StoredBody
    spool: Spool


def is_compressible(content_type: str) -> bool:
    """Whether CouchDB's default configuration compresses attachments of this type."""
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type.startswith("text/") or media_type in _COMPRESSIBLE


def parse_encoding(content_encoding: str | None) -> Encoding:
    """
    :param content_encoding: the header of an upload.
    :raises Refusal: 415 for all but gzip and identity (FINDINGS, section 6).
    """
    try:
        return Encoding((content_encoding or Encoding.IDENTITY).strip().lower())
    except ValueError:
        reason = "Only gzip and identity content-encodings are supported"
        raise Refusal(415, "bad_content_type", reason) from None


def pack(spool: Spool, blobs: Blobs, content_type: str, encoding: Encoding) -> PackedBody:
    """
    Bring an upload into the form in which it is stored, and make that durable. Blocks: not for the reactor's
    thread.

    :param spool: the upload; consumed, also when this fails.
    :param encoding: the content coding that the client says it has.
    :raises OSError: if the disk does not take it.
    """
    length = spool.length
    if encoding is Encoding.IDENTITY and is_compressible(content_type):
        spool, encoding = _compressed(spool, blobs), Encoding.GZIP
    try:
        spool.settle()
    except BaseException:
        spool.discard()
        raise
    return PackedBody(StoredBody(spool.name, spool.digest, encoding, spool.length, length), spool)


def _compressed(spool: Spool, blobs: Blobs) -> Spool:
    target = blobs.spool()
    try:
        compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, GZIP_CONTAINER)
        for piece in spool.pieces():
            target.write(compressor.compress(piece))
        target.write(compressor.flush())
    except BaseException:
        target.discard()
        raise
    finally:
        spool.discard()
    return target
