"""
(Request, stored attachment) -> what to send: the decision about one GET or HEAD, before anything is read.

As CouchDB decides (FINDINGS, sections 2 to 4), but for ranges, where RFC 9110 is followed: suffix ranges are
right, If-Range counts, 416 says how long the attachment is, and Range means nothing to a body that is sent in
gzip or decoded on the way, or to HEAD. Several ranges that do not join into one are answered with the whole.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO

from attrs import frozen

from txcouchdl.protocol.ranges import ByteRange, parse_range, resolve, unsatisfied_range
from txcouchdl.store import bodies
from txcouchdl.store.answers import Headers, Refusal
from txcouchdl.store.values import Attachment, Encoding, StoredBody

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")
_WEIGHT = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE | re.ASCII)


@frozen
class Asked:
    """The header fields that matter, each joined over its lines; ``None`` if absent."""

    if_none_match: str | None = None
    if_range: str | None = None
    range: str | None = None
    accept_encoding: str | None = None


@frozen
class Selection:
    """
    A 200 or 206.

    :ivar headers: all of them but Content-Length, Date and Server.
    :ivar length: of the body to send in bytes; ``None`` if that is not known before it has been decoded.
    :ivar span: the part of the stored bytes to send; ``None`` for all of them.
    :ivar is_decoded: whether the stored bytes are to be decoded.
    """

    status: int
    headers: Headers
    length: int | None
    span: ByteRange | None = None
    is_decoded: bool = False

    def pieces(self, file: BinaryIO, body: StoredBody) -> Iterator[bytes]:
        """
        The bytes to send.

        :param file: the stored bytes of the body this was selected from.
        """
        if self.is_decoded:
            return bodies.decoded(file, body)
        # A range of all bytes is verified like all bytes.
        if self.span is None or self.span.length == body.stored_length:
            return bodies.whole(file, body)
        return bodies.part(file, self.span)


def names_etag(if_none_match: str | None, etag: str) -> bool:
    """
    Whether the field names this entity-tag, weakly or strongly. ``*`` does not, in CouchDB (FINDINGS, section
    4).

    :param etag: quoted; without commas, which neither revisions nor digests have.
    """
    named = (if_none_match or "").split(",")
    return any(tag.strip() in {etag, f"W/{etag}"} for tag in named)


def accepts_gzip(accept_encoding: str | None) -> bool:
    """
    Whether gzip may be sent, as CouchDB understands it (FINDINGS, section 2): yes if it is listed with any
    weight but 0, even where identity is preferred. Members that make no sense are overlooked.
    """
    weights: dict[str, float] = {}
    for member in (accept_encoding or "").split(","):
        coding, _, parameter = member.partition(";")
        weight = _WEIGHT.fullmatch(parameter.strip()) if parameter else None
        if weight or not parameter:
            weights[coding.strip().lower()] = float(weight[1]) if weight else 1.0
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def select(asked: Asked, attachment: Attachment) -> Selection | None:
    """
    :returns: ``None`` if the client has it already (304).
    :raises Refusal: 416.
    """
    if names_etag(asked.if_none_match, attachment.etag):
        return None
    if attachment.body.encoding is Encoding.GZIP:
        return _select_coding(asked, attachment)
    return _select_range(asked, attachment)


def _select_coding(asked: Asked, attachment: Attachment) -> Selection:
    headers = _headers(attachment, b"none")
    if accepts_gzip(asked.accept_encoding):
        return Selection(200, (*headers, (b"Content-Encoding", b"gzip")), attachment.body.stored_length)
    return Selection(200, headers, attachment.body.decoded_length, is_decoded=True)


def _select_range(asked: Asked, attachment: Attachment) -> Selection:
    length = attachment.body.stored_length
    headers = _headers(attachment, b"bytes")
    specs = parse_range(asked.range) if asked.if_range in {None, attachment.etag} else None
    spans = None if specs is None else resolve(specs, length)
    if spans == ():
        raise _unsatisfiable(length)
    if spans is None or len(spans) > 1:
        return Selection(200, headers, length)
    content_range = (b"Content-Range", spans[0].content_range(length).encode("ascii"))
    return Selection(206, (*headers, content_range), spans[0].length, spans[0])


def _unsatisfiable(length: int) -> Refusal:
    headers = ((b"Content-Range", unsatisfied_range(length).encode("ascii")),)
    reason = "Requested range not satisfiable"
    return Refusal(416, "requested_range_not_satisfiable", reason, headers)


def _headers(attachment: Attachment, accept_ranges: bytes) -> Headers:
    # Verbatim, but for what would end the header line.
    content_type = _CONTROLS.sub(" ", attachment.content_type).encode("utf-8")
    return (
        (b"Cache-Control", b"must-revalidate"),
        (b"Content-Type", content_type),
        (b"Accept-Ranges", accept_ranges),
        (b"ETag", attachment.etag.encode("ascii")),
        # Uploaded HTML must not run as our origin.
        (b"Content-Security-Policy", b"sandbox"),
    )
