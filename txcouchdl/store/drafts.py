"""A document's JSON, as a client sends it -> what it asks to be written (FINDINGS, section 6)."""

import binascii
from base64 import b64decode

from attrs import field, frozen

from txcouchdl.store.answers import bad_member, bad_request, illegal_id, not_covered
from txcouchdl.store.json_text import parse_json, write_json
from txcouchdl.store.values import Rev

DEFAULT_CONTENT_TYPE = "application/octet-stream"

#: Special members that CouchDB itself puts into answers, and overlooks when a client sends them back.
_OVERLOOKED = frozenset({"_revisions", "_revs_info", "_conflicts", "_deleted_conflicts", "_local_seq"})
_UNDERSTOOD = frozenset({"_id", "_rev", "_deleted", "_attachments"})


@frozen
class KeptAttachment:
    """
    A stub: the attachment stays as it is.

    :ivar revpos: if the client repeats it, it must be right.
    """

    name: str
    revpos: int | None


@frozen
class InlineAttachment:
    """An attachment whose bytes came with the document."""

    name: str
    content_type: str
    data: bytes = field(repr=False)


@frozen
class Draft:
    """
    A document as a client wants it to be.

    :ivar id: its ``_id``, if it says one.
    :ivar rev: its ``_rev``, if it says one.
    :ivar body: the members that are not special, as a JSON object's text.
    :ivar attachments: in the order of the document; those that are not named are dropped.
    :ivar has_validation: whether it has the member by which a design document keeps others from being written.
    """

    id: str | None
    rev: Rev | None
    deleted: bool
    body: str = field(repr=False)
    attachments: tuple[KeptAttachment | InlineAttachment, ...]
    has_validation: bool = False


def parse_rev(text: object) -> Rev:
    """
    :raises Refusal: 400 for what cannot be a revision.
    """
    try:
        return Rev.parse(text if isinstance(text, str) else "")
    except ValueError:
        raise bad_request("Invalid rev format") from None


def check_document_id(document_id: object) -> str:
    """
    :raises Refusal: 400 if no document can have this id.
    """
    if not isinstance(document_id, str):
        raise illegal_id("Document id must be a string")
    if document_id == "":
        raise illegal_id("Document id must not be empty")
    if document_id in {"_design/", "_local/"}:
        raise illegal_id(f"Illegal document id `{document_id}`")
    if document_id.startswith("_local/"):
        raise not_covered("_local documents")
    if document_id.startswith("_") and not document_id.startswith("_design/"):
        raise illegal_id("Only reserved document ids may start with underscore.")
    return document_id


def check_attachment_name(name: str) -> None:
    """
    :raises Refusal: 400 if no attachment can have this name.
    """
    if name.startswith("_"):
        raise bad_request(f"Attachment name '{name}' starts with prohibited character '_'")


def parse_draft(text: bytes) -> Draft:
    """
    :raises Refusal: 400 for what is not a document, 501 for attachments sent in ways that are not covered.
    """
    document = parse_json(text)
    if not isinstance(document, dict):
        raise bad_request("Document must be a JSON object")
    special = {name: value for name, value in document.items() if name.startswith("_")}
    for name in special.keys() - _OVERLOOKED - _UNDERSTOOD:
        raise bad_member(name)
    deleted = special.get("_deleted", False)
    if not isinstance(deleted, bool):
        raise bad_member("_deleted")
    return Draft(
        check_document_id(special["_id"]) if "_id" in special else None,
        parse_rev(special["_rev"]) if "_rev" in special else None,
        deleted,
        write_json({name: value for name, value in document.items() if name not in special}),
        _parse_attachments(special.get("_attachments", {})),
        "validate_doc_update" in document,
    )


def _parse_attachments(attachments: object) -> tuple[KeptAttachment | InlineAttachment, ...]:
    if not isinstance(attachments, dict):
        raise bad_member("_attachments")
    return tuple(_parse_attachment(name, entry) for name, entry in attachments.items())


def _parse_attachment(name: str, entry: object) -> KeptAttachment | InlineAttachment:
    check_attachment_name(name)
    if not isinstance(entry, dict):
        raise bad_member("_attachments")
    if entry.get("stub") is True:
        revpos = entry.get("revpos")
        return KeptAttachment(name, revpos if isinstance(revpos, int) else None)
    if entry.get("follows") is True:
        raise not_covered("attachments in multipart/related")
    if entry.get("encoding", "identity") != "identity":
        raise not_covered("inline attachments that are compressed already")
    content_type = entry.get("content_type", DEFAULT_CONTENT_TYPE)
    if not isinstance(content_type, str):
        raise bad_member("_attachments")
    return InlineAttachment(name, content_type, _decode(name, entry.get("data")))


#: The white space that base64 may have in it.
_WHITE_SPACE = dict.fromkeys(map(ord, " \t\r\n"))


def _decode(name: str, data: object) -> bytes:
    """As CouchDB, which wants all the padding that there is to be, and no more."""
    try:
        if not isinstance(data, str):
            raise ValueError("no data")
        encoded = data.translate(_WHITE_SPACE)
        padding = len(encoded) - len(encoded.rstrip("="))
        if len(encoded) % 4 or padding > 2:
            raise ValueError("wrong padding")
        return b64decode(encoded.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise bad_request(f"Invalid attachment data for {name}") from None
