"""
The document that a secret opens, at whichever node has it as it is now.

A node that is cut off from its cluster answers like any other, with documents as they were. A secret that it refuses
may be right by now, so a second node is asked before a refusal is believed. Its answer counts only if it is newer: an
older document, one as old, or one whose deletion is known never opens anything.

A refusal costs the same work, whatever its reason: one read, and one more at a second node. For names that must not be
read both are of a decoy (:mod:`~txcouchdl.gateway.decoys`).
"""

from collections.abc import Callable

from twisted.logger import Logger

from txcouchdl.couch.documents import Absence, Document
from txcouchdl.couch.errors import BadUpstream, UnreadableDocument, UpstreamRefusedUs
from txcouchdl.couch.names import AttachmentAddress, DocumentAddress, document_path
from txcouchdl.couch.route import Route, generation_of
from txcouchdl.gateway.databases import AllowedDatabases
from txcouchdl.gateway.decoys import Decoys

#: Says whether a document is opened by the secret that the client sent. Called for a document that is not there, too.
Opens = Callable[[Document | None], bool]

_log = Logger()


class DocumentOpener:
    """
    Reads documents, and hands out those that a secret opens.

    :param databases: those that may be read.
    """

    def __init__(self, databases: AllowedDatabases) -> None:
        self._databases = databases
        self._decoys = Decoys()

    async def open(self, route: Route, address: AttachmentAddress | DocumentAddress, opens: Opens) -> Document | None:
        """
        Read the document of an address.

        The second node is asked if the document does not open, or is not there; and if it opens, but lacks the
        attachment.

        :return: ``None`` if there is none that opens.
        :raises BadDocument: if the document opens, and its attachments cannot be read.
        :raises UpstreamFailure: if no node answers as it should.
        """
        where = address.document if isinstance(address, AttachmentAddress) else address
        is_allowed = where.is_addressable and self._databases.allows(where.database)
        read = where if is_allowed else self._decoys.of(where)
        current = await _current(route, read, is_allowed)
        document = current if isinstance(current, Document) else None
        is_open = opens(document) and is_allowed
        generation = generation_of(current)
        # Documents may be large: none is kept while another is read.
        del current
        if document is None or not is_open:
            document = None
        elif isinstance(address, DocumentAddress):
            return document
        else:
            if document.is_large:
                # To look through it takes milliseconds.
                await route.turns.wait()
                document = document.only(address.attachment)
            if document.has(address.attachment):
                return document
        newer = await route.newer_document(read.database, read.document_id, generation)
        if newer is None:
            return document
        return newer if opens(newer) and is_allowed else None


async def _current(route: Route, read: DocumentAddress, is_allowed: bool) -> Document | Absence:
    try:
        return await route.current_document(read.database, read.document_id)
    except UnreadableDocument as error:
        # A document that nobody can read, its token included, is for clients like one that is not there.
        path = document_path(read.database, read.document_id)
        _log.warn("the document {path} cannot be read: {error}", path=path, error=error)
    except (BadUpstream, UpstreamRefusedUs):
        # Something in front of CouchDB may refuse a database that nobody knows.
        if is_allowed:
            raise
    return Absence.GONE
