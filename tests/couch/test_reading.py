"""What a reading finds out of an identity representation: nothing that is known, or that it will not see the end of."""

import gzip
import hashlib

import attrs
import pytest

from txcouchdl.couch.decoding import Identity
from txcouchdl.couch.documents import AttachmentStub, Digest, Storage
from txcouchdl.couch.reading import plan_reading
from txcouchdl.protocol.ranges import ByteRange

_PLAIN = b"Never a wrong byte. " * 10
_GZIP = gzip.compress(_PLAIN)
_STUB = AttachmentStub("f", None, Digest(bytes(16)), Storage.COMPRESSED, len(_GZIP), len(_PLAIN))
_END = len(_PLAIN) - 1


def found_out(stub: AttachmentStub, byte_range: ByteRange | None) -> Identity | None:
    """With all bytes inflated, whatever is wanted."""
    decoder = plan_reading(stub, None if byte_range is None else (byte_range,)).decoder()
    decoder.feed(_GZIP)
    while decoder.read() is not None:
        pass
    decoder.finish()
    return decoder.identity()


@pytest.mark.parametrize("byte_range", [None, ByteRange(0, _END), ByteRange(5, _END), ByteRange(_END, _END)])
def test_what_passes_whole_is_hashed_once(byte_range: ByteRange | None) -> None:
    """Hashing may take as long as inflating: nobody pays for it who learns nothing."""
    sha256 = hashlib.sha256(_PLAIN).digest()
    assert found_out(_STUB, byte_range) == Identity(len(_PLAIN), sha256)
    assert found_out(attrs.evolve(_STUB, sha256=sha256), byte_range) is None


def test_what_was_uploaded_compressed_is_hashed() -> None:
    encoded = attrs.evolve(_STUB, storage=Storage.ENCODED, length=None)
    assert found_out(encoded, None) == Identity(len(_PLAIN), hashlib.sha256(_PLAIN).digest())


def test_what_stops_early_is_not_hashed() -> None:
    """Even if the document is wrong, and there is no more."""
    longer = attrs.evolve(_STUB, length=len(_PLAIN) + 1)
    assert found_out(longer, ByteRange(5, _END)) is None
