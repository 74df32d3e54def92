"""
Raw request target -> address and query, in CouchDB's dialect (FINDINGS, section 5).

A raw ``+`` in the path is a space; repeated, leading and trailing raw slashes vanish; ``.`` and ``..`` are
ordinary names; ``_design/x`` comes with a raw slash or an encoded one. What is CouchDB's own business and not
covered here is recognised, so that it can be refused as such and is never taken for a document.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from urllib.parse import parse_qsl

from attrs import frozen

from txcouchdl.couch.names import BadAddress, decode_segment, split_target
from txcouchdl.store.answers import bad_request


class Kind(StrEnum):
    """The kinds of address. The values are the paths that the app's router sees."""

    SERVER = "server"
    UP = "up"
    ALL_DATABASES = "all-databases"
    SESSION = "session"
    UUIDS = "uuids"
    DATABASE = "database"
    COMPACTION = "compaction"
    INDEX_COMPACTION = "index-compaction"
    DOCUMENT = "document"
    ATTACHMENT = "attachment"
    LOCAL = "local"
    LOCAL_ATTACHMENT = "local-attachment"
    NOT_COVERED = "not-covered"


@frozen
class Address:
    """
    What a request is about. Names are decoded; nothing says that any of it exists or could.

    :ivar attachment: the name of an attachment, or for ``NOT_COVERED`` the CouchDB feature that was asked
        for.
    """

    kind: Kind
    database: str = ""
    document_id: str = ""
    attachment: str = ""

    @property
    def is_public(self) -> bool:
        """Whether it is open to those without credentials."""
        return self.kind in {Kind.SERVER, Kind.UP, Kind.SESSION, Kind.UUIDS}


_SERVER_KINDS = {
    "_up": Kind.UP,
    "_all_dbs": Kind.ALL_DATABASES,
    "_session": Kind.SESSION,
    "_uuids": Kind.UUIDS,
}

#: CouchDB's own, where they stand alone: ``/db/_all_docs/x`` is attachment x of a document that cannot be.
_SERVER_FEATURE = re.compile(
    "_(active_tasks|cluster_setup|config|db_updates|dbs_info|global_changes|membership|metadata|node|nodes"
    "|prometheus|replicate|replicator|reshard|scheduler|search_analyze|session|stats|system|users|utils|uuids)"
)
_DATABASE_FEATURE = re.compile(
    "_(all_docs|auto_purge|bulk_docs|bulk_get|changes|design_docs|ensure_full_commit|explain|find|index"
    "|local_docs|missing_revs|partition|purge|purged_infos_limit|revs_diff|revs_limit|security|shards"
    "|sync_shards|view_cleanup)"
)
_DESIGN_FEATURE = re.compile(
    "_(info|list|nouveau|nouveau_info|rewrite|search|search_disk_size|search_info|show|update|view)"
)


def parse_target(raw: bytes) -> tuple[Address, Mapping[str, str]]:
    """
    :param raw: the request target as it was on the wire.
    :returns: the address, and the query: of a parameter given twice the first counts.
    :raises Refusal: 400 if the path cannot be decoded.
    """
    path, query = split_target(raw)
    try:
        segments = [decode_segment(segment, plus_is_space=True) for segment in path.split(b"/") if segment]
    except BadAddress as error:
        raise bad_request(error.reason) from None
    return _address(segments), dict(reversed(parse_query(query)))


def parse_query(query: bytes) -> list[tuple[str, str]]:
    """All parameters of a query, in their order."""
    return parse_qsl(query.decode("utf-8", "replace"), keep_blank_values=True)


def _address(segments: list[str]) -> Address:
    if not segments:
        return Address(Kind.SERVER)
    database, *rest = segments
    if not rest and database in _SERVER_KINDS:
        return Address(_SERVER_KINDS[database])
    if _SERVER_FEATURE.fullmatch(database):
        return Address(Kind.NOT_COVERED, attachment=database)
    if not rest:
        return Address(Kind.DATABASE, database)
    return _below_database(database, rest)


def _below_database(database: str, rest: list[str]) -> Address:
    if rest == ["_compact"]:
        return Address(Kind.COMPACTION, database)
    if rest[0] == "_compact":
        return Address(Kind.INDEX_COMPACTION, database, f"_design/{rest[1]}")
    if rest == ["_local"] or rest == ["_local/"]:
        return Address(Kind.LOCAL, database)
    if len(rest) == 1 and _DATABASE_FEATURE.fullmatch(rest[0]):
        return Address(Kind.NOT_COVERED, database, attachment=rest[0])
    if rest[0] in {"_design", "_local"} and len(rest) > 1:
        rest = [f"{rest[0]}/{rest[1]}", *rest[2:]]
    document_id, *names = rest
    if document_id.startswith("_design/") and names and _DESIGN_FEATURE.fullmatch(names[0]):
        return Address(Kind.NOT_COVERED, database, attachment=names[0])
    if document_id.startswith("_local/"):
        return _local(database, names)
    kind = Kind.ATTACHMENT if names else Kind.DOCUMENT
    return Address(kind, database, document_id, "/".join(names))


def _local(database: str, names: list[str]) -> Address:
    if names:
        return Address(Kind.LOCAL_ATTACHMENT, database)
    return Address(Kind.NOT_COVERED, database, attachment="_local documents")
