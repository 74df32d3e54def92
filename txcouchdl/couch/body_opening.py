"""
The opening of an attachment's body at one node, whose answer must promise what was asked for.
"""

from collections.abc import Callable

from txcouchdl.couch.client import BodyHead, CouchClient
from txcouchdl.couch.documents import Document
from txcouchdl.couch.errors import BadUpstream, RevisionGone
from txcouchdl.couch.names import AttachmentAddress
from txcouchdl.couch.reading import Request

#: Says whether a later revision of a document has the same attachment; ``None`` if only the pinned revision will do.
Follows = Callable[[Document], bool] | None


async def open_body(
    client: CouchClient, address: AttachmentAddress, rev: str, request: Request, *, may_be_whole: bool = False
) -> tuple[BodyHead, Request]:
    """
    Open the body that a request is for.

    :param may_be_whole: whether the node may promise all bytes instead of a range.
    :return: what the node promises, and the request that this answers.
    :raises BadUpstream: if the node does not promise what was asked for.
    :raises RevisionGone: if the node does not have this revision with this attachment.
    """
    head = await client.attachment(address, rev, request.byte_range, gzip=request.is_gzip, closing=request.is_closing)
    answered = request.answered_by(head)
    if answered is None or not (may_be_whole or answered is request):
        head.abandon()
        raise BadUpstream(f"{client}: {request.problem(head)}")
    return head, answered


async def open_same_body(
    client: CouchClient, address: AttachmentAddress, rev: str, request: Request, follows: Follows
) -> BodyHead:
    """
    Open the body that a request is for, in the pinned revision or, if compaction has taken that, in the current one.

    :raises BadUpstream: if the node does not promise what was asked for.
    :raises RevisionGone: if the node has neither.
    """
    try:
        head, _ = await open_body(client, address, rev, request)
    except RevisionGone:
        if follows is None:
            raise
        rev = await _current_revision(client, address, follows)
        head, _ = await open_body(client, address, rev, request)
    return head


async def _current_revision(
    client: CouchClient, address: AttachmentAddress, follows: Callable[[Document], bool]
) -> str:
    document = await client.document(address.database, address.document_id)
    if document is None or not follows(document):
        raise RevisionGone(f"{client}: another attachment, or none")
    return document.rev
