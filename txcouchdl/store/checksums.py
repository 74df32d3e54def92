"""
Find damage to stored revisions (pure).

SQLite does not notice a page that was replaced by another well-formed one, nor a text that has changed within its cell.
So each revision's row has a checksum of the row, of its parent's id and of its attachments' rows.

Schema 1 had no checksums. Its revision ids were hashes of the same content; its revisions keep them and are verified
by them.
"""

import hashlib
import json
from collections.abc import Sequence

from txcouchdl.store.values import Attachment, Rev, Revision


def checksum(revision: Revision, parent: Rev | None, attachments: Sequence[Attachment]) -> str:
    """
    Compute the checksum for a revision's row.

    :param revision: one with a body.
    :param parent: the revision before it; ``None`` for the first one.
    """
    described = [revision.document_id, str(revision.rev), revision.deleted, str(parent), *map(_row, attachments)]
    hashed = hashlib.sha256(json.dumps(described).encode("ascii"))
    hashed.update(revision.text.encode("utf-8"))
    return hashed.hexdigest()


def _row(attachment: Attachment) -> tuple[object, ...]:
    body = attachment.body
    described = (attachment.name, attachment.content_type, attachment.revpos)
    return (*described, body.blob, body.digest.text, body.encoding, body.stored_length, body.length)


def is_intact(revision: Revision, parent: Rev | None, attachments: Sequence[Attachment]) -> bool:
    """
    Tell whether a revision and its attachments are as they were written.

    :param revision: one with a body.
    """
    if revision.checksum is None:
        return _schema_1_hash(revision, parent, attachments) == revision.rev.hash
    return checksum(revision, parent, attachments) == revision.checksum


def _schema_1_hash(revision: Revision, parent: Rev | None, attachments: Sequence[Attachment]) -> str:
    content = [
        str(parent),
        revision.deleted,
        revision.text,
        [(a.name, a.content_type, a.body.blob) for a in attachments],
    ]
    return hashlib.md5(json.dumps(content).encode("ascii"), usedforsecurity=False).hexdigest()
