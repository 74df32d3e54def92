"""
CouchDB's revision ids (pure): the same edit has the same id here and there.

The id is the MD5 of the term ``[Deleted, ParentGeneration, ParentId, Body, Attachments]``. Members of the body count in
the order in which the client sent them, and ``1`` differs from ``1.0``. Attachments are ``{Name, Type, Digest}``, the
last one first. Neither the document's name nor revpos counts.

When a document follows a tombstone, CouchDB computes the id after it has converted the attachments to their form on the
disk, in which it does not find these three (``couch_db_updater:merge_rev_tree/4``): only their number counts.
"""

import hashlib
import re
from collections.abc import Sequence

from txcouchdl.store.external_terms import (
    atom_term,
    binary_term,
    external_term,
    integer_term,
    json_term,
    list_term,
    scalar_term,
    triple_term,
)
from txcouchdl.store.values import Attachment, Rev, Revision

_HEXADECIMAL = re.compile("[0-9a-fA-F]{32}")

_NOT_FOUND = triple_term(*[atom_term("undefined")] * 3)


def next_rev(parent: Revision | None, deleted: bool, body: str, attachments: Sequence[Attachment]) -> Rev:
    """
    Name the revision with this content and this parent.

    :param body: the members that are not special, as a JSON object's text without white space between its tokens.
    """
    generation = 0 if parent is None else parent.rev.generation
    is_anew = parent is not None and parent.deleted
    term = external_term(
        scalar_term(deleted),
        integer_term(generation),
        integer_term(0) if parent is None else _id_term(parent.rev.hash),
        json_term(body),
        list_term([_NOT_FOUND if is_anew else _attachment_term(a) for a in reversed(attachments)]),
    )
    # MD5 names revisions in CouchDB; it protects nothing.
    return Rev(generation + 1, hashlib.md5(term, usedforsecurity=False).hexdigest())


def _id_term(text: str) -> bytes:
    """CouchDB keeps an id of 32 hexadecimal digits as 16 bytes, and any other one as its text."""
    return binary_term(bytes.fromhex(text) if _HEXADECIMAL.fullmatch(text) else text.encode("ascii"))


def _attachment_term(attachment: Attachment) -> bytes:
    name, content_type = attachment.name.encode("utf-8"), attachment.content_type.encode("utf-8")
    return triple_term(binary_term(name), binary_term(content_type), binary_term(attachment.body.digest.md5))
