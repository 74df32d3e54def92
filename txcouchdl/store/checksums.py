"""
Whether a stored revision is what was written.

SQLite itself does not see it when a page was replaced by one that is well-formed, or when a text changes within its
cell. So each revision's row has a checksum of itself, of its parent's name and of its attachments' rows.

Schema 1 had no checksums: its revisions have ids of another kind than CouchDB's, from which damage can be seen as well.
They keep these ids.
"""

import hashlib
import json
from collections.abc import Sequence

from txcouchdl.store.values import Attachment, Rev, Revision


def checksum(revision: Revision, parent: Rev | None, attachments: Sequence[Attachment]) -> str:
    """
    The checksum that belongs into a revision's row.

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
    Whether a revision and its attachments are as they were written.

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
