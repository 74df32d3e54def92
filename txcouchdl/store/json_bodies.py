"""
The JSON body of a request, as it came or in gzip -> its text.

CouchDB inflates a body of any size. Here inflating stops at the limit for uncompressed bodies.
"""

from collections.abc import Iterable

from txcouchdl.store.answers import Refusal, bad_request
from txcouchdl.store.bodies import inflated
from txcouchdl.store.errors import DamagedBody
from txcouchdl.store.values import Encoding


def parse_json_coding(content_encoding: str | None) -> Encoding:
    """
    Read the content coding of a JSON body.

    :param content_encoding: the header. CouchDB takes it in lower case only.
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
    Collect a body, and inflate it if it is gzip.

    :param pieces: the body as it came.
    :param limit: how many bytes the text may have.
    :raises Refusal: ``too_long``, or 400 if the body is not gzip.
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
