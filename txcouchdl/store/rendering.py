"""A stored revision -> the JSON a client reads (FINDINGS, section 1)."""

import json
from base64 import b64encode
from collections.abc import Sequence

from txcouchdl.store.values import Attachment, Encoding, Revision


def render_document(
    revision: Revision,
    attachments: Sequence[Attachment],
    encoding_info: bool = False,
    extra: Sequence[tuple[str, object]] = (),
) -> str:
    """
    The document as CouchDB writes it: special members around its own, attachments as stubs.

    :param revision: one with a body.
    :param encoding_info: whether stubs say how their bodies are stored (``att_encoding_info``); ours then say as well
        which SHA-256 the stored bytes have, which CouchDB does not know.
    :param extra: further special members.
    """
    special: list[tuple[str, object]] = [("_id", revision.document_id), ("_rev", str(revision.rev))]
    if revision.deleted:
        special.append(("_deleted", True))
    last = [*extra]
    if attachments:
        last.append(("_attachments", {a.name: _stub(a, encoding_info) for a in attachments}))
    # The body is JSON text already, and stays as it was checked when it came in.
    own = revision.text[1:-1]
    members = [*map(_member, special), *([own] if own else []), *map(_member, last)]
    return "{" + ",".join(members) + "}"


def revisions_member(history: Sequence[Revision]) -> tuple[str, object]:
    """
    What ``?revs=true`` adds.

    :param history: newest first.
    """
    return "_revisions", {
        "start": history[0].rev.generation,
        "ids": [revision.rev.hash for revision in history],
    }


def revs_info_member(history: Sequence[Revision]) -> tuple[str, object]:
    """What ``?revs_info=true`` adds."""
    return "_revs_info", [{"rev": str(revision.rev), "status": _status(revision)} for revision in history]


def _status(revision: Revision) -> str:
    if revision.body is None:
        return "missing"
    return "deleted" if revision.deleted else "available"


def _stub(attachment: Attachment, encoding_info: bool) -> dict[str, object]:
    body = attachment.body
    stub: dict[str, object] = {
        "content_type": attachment.content_type,
        "revpos": attachment.revpos,
        "digest": body.digest.text,
        "length": body.length,
        "stub": True,
    }
    if encoding_info and body.encoding is not Encoding.IDENTITY:
        stub |= {"encoding": body.encoding, "encoded_length": body.stored_length}
    if encoding_info:
        stub["sha256"] = b64encode(bytes.fromhex(body.blob)).decode("ascii")
    return stub


def _member(member: tuple[str, object]) -> str:
    name, value = member
    return f"{json.dumps(name)}:{json.dumps(value, ensure_ascii=False, separators=(',', ':'))}"
