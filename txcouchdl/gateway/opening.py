"""
The document that a token or a link opens, at whichever node has it as it is now.

A node that is cut off from its cluster answers like any other, with documents as they were. What it refuses may be
right by now, so a second node is asked before a refusal is believed. Its answer counts only if it is newer: an older
document, one as old, or one whose deletion is known never opens anything.
"""

from collections.abc import Callable

from txcouchdl.couch.documents import Absence, Document
from txcouchdl.couch.names import AttachmentAddress, DocumentAddress
from txcouchdl.couch.route import Route, generation_of


async def open_document(
    route: Route,
    address: AttachmentAddress | DocumentAddress,
    current: Document | Absence | None,
    opens: Callable[[Document | None], bool],
) -> Document | None:
    """
    Return the current document if it opens, or a newer one of another node.

    The other node is asked if the document does not open, or is not there, with the same work in both cases; and if it
    opens, but lacks the attachment.

    :param current: as the first node has it; ``None`` if no node is to be asked.
    :param opens: whether a document is opened by what the client sent. Called for what is not there, too.
    :raises BadDocument: if the document opens, and its attachments cannot be read.
    """
    document = current if isinstance(current, Document) else None
    is_open = opens(document)
    if current is None or (is_open and document is not None and _has(document, address)):
        return document
    generation = generation_of(current)
    # Documents may be large: one that does not open is let go before another is read.
    del current
    if not is_open:
        document = None
    where = address.document if isinstance(address, AttachmentAddress) else address
    newer = await route.newer_document(where.database, where.document_id, generation)
    if newer is None:
        return document
    return newer if opens(newer) else None


def _has(document: Document, address: AttachmentAddress | DocumentAddress) -> bool:
    return isinstance(address, DocumentAddress) or document.attachment(address.attachment) is not None
