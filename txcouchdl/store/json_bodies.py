"""
The JSON body of a request, as it came or in gzip -> its text.

CouchDB inflates such a body whatever becomes of it. Here it grows to what may be sent uncompressed, and no further.
"""

from collections.abc import Iterable

from txcouchdl.store.answers import Refusal, bad_request
from txcouchdl.store.bodies import inflated
from txcouchdl.store.errors import DamagedBody
from txcouchdl.store.values import Encoding


def parse_json_coding(content_encoding: str | None) -> Encoding:
    """
    :param content_encoding: the header of a request with a JSON body. CouchDB takes it in lower case only.
    :raises Refusal: 415 for all but gzip and identity.
    """
    if content_encoding is None:
        return Encoding.IDENTITY
    try:
        return Encoding(content_encoding)
    except ValueError:
        reason = f"{content_encoding} is not a supported content encoding."
        raise Refusal(415, "bad_content_type", reason) from None


def read_text(pieces: Iterable[bytes], coding: Encoding, limit: int, too_long: Refusal) -> bytes:
    """
    :param pieces: the body as it came.
    :param limit: how many bytes the text may have.
    :raises Refusal: ``too_long``, or 400 for what is not gzip.
    """
    text = bytearray()
    try:
        for piece in pieces if coding is Encoding.IDENTITY else inflated(pieces):
            text += piece
            if len(text) > limit:
                raise too_long
    except DamagedBody:
        raise bad_request("Request body is not properly gzipped.") from None
    return bytes(text)
