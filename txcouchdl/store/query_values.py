"""Values of query parameters, parsed and refused as CouchDB does (pure)."""

import re

from txcouchdl.store.answers import Refusal, bad_request
from txcouchdl.store.json_text import parse_json

#: The syntax of Erlang's ``list_to_integer``, up to a length that Python converts quickly.
_INTEGER = re.compile("[+-]?[0-9]{1,4000}", re.ASCII)

#: The largest of Erlang's small integers: CouchDB's highest limit.
MAX_LIMIT = (1 << 59) - 1

_MAX_UUIDS = 1000


def parse_key(value: str) -> bytes:
    """
    Parse a key that names are compared with.

    :returns: bytes; none for JSON that is not a string, since CouchDB sorts it before all strings.
    :raises Refusal: 400.
    """
    key = parse_json(value.encode("utf-8"))
    return key.encode("utf-8") if isinstance(key, str) else b""


def parse_boolean(value: str) -> bool:
    """
    :raises Refusal: 400.
    """
    if value.lower() not in {"true", "false"}:
        raise _unusable(f"Invalid boolean parameter: {_quoted(value)}")
    return value.lower() == "true"


def parse_natural_number(value: str) -> int:
    """
    :raises Refusal: 400.
    """
    if not _INTEGER.fullmatch(value):
        raise _unusable(f"Invalid value for integer: {_quoted(value)}")
    if int(value) < 0:
        raise _unusable(f"Invalid value for positive integer: {_quoted(value)}")
    return int(value)


def parse_limit(value: str) -> int:
    """
    :raises Refusal: 400.
    """
    limit = parse_natural_number(value)
    if limit > MAX_LIMIT:
        raise _unusable(f"Limit is too large, must not exceed {MAX_LIMIT}")
    return limit


def parse_uuid_count(value: str) -> int:
    """
    Parse the number of ids that ``_uuids`` makes.

    :raises Refusal: 400.
    """
    count = int(value) if _INTEGER.fullmatch(value) else -1
    if count < 0:
        raise bad_request("count must be a positive integer")
    if count > _MAX_UUIDS:
        raise bad_request("count parameter too large")
    return count


def _unusable(reason: str) -> Refusal:
    return Refusal(400, "query_parse_error", reason)


def _quoted(value: str) -> str:
    """Write a text as Erlang prints a list of characters."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if value else "[]"
