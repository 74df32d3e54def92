"""
What is known of a file that is not complete, as it is kept beside it. Pure.

A line of JSON, and a line with its SHA-256: what is torn, cut short or of somebody else's making is no record. It has
no secrets in it: of the address there is a digest, made without those.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from attrs import field, frozen
from attrs.validators import ge, matches_re, optional

from txcouchdl.cli.spans import Spans
from txcouchdl.protocol.ranges import MAX_LENGTH, ByteRange

#: Bytes that a record may have: more than ten thousand ranges.
LONGEST: Final = 2**19

_FORMAT: Final = "couchdl-part-1"
_ETAG: Final = r'"[\x21\x23-\x7e\x80-\xff]*"'


@frozen(kw_only=True)
class Record:
    """
    :ivar address: the file's, as :attr:`~txcouchdl.cli.locations.Location.identity` has it.
    :ivar etag: the strong entity-tag of its version, as on the wire; ``None`` if there is none, and so nothing of it
        can be gone on with.
    :ivar length: of that version; ``None`` if not known.
    :ivar digests: of that version, as far as they were told.
    :ivar inode: of the file on disk.
    :ivar done: what of it is on disk, surely.
    """

    address: str = field(validator=matches_re("[0-9a-f]{64}"))
    etag: str | None = field(validator=optional(matches_re(_ETAG)))
    length: int | None = field(validator=optional(ge(0)))
    inode: int = field(validator=ge(0))
    digests: Mapping[str, bytes] = field(factory=dict)
    done: Spans = field(factory=Spans)

    def __attrs_post_init__(self) -> None:
        end = max((each.last + 1 for each in self.done), default=0)
        if end > (self.length or 0) or (end and self.etag is None):
            raise ValueError("there are bytes of what is not known")

    def write(self) -> bytes:
        """:return: ASCII."""
        members = {
            "format": _FORMAT,
            "address": self.address,
            "etag": self.etag,
            "length": self.length,
            "inode": self.inode,
            "digests": {name: digest.hex() for name, digest in self.digests.items()},
            "done": [[each.first, each.last] for each in self.done],
        }
        line = json.dumps(members).encode("ascii")
        return b"%b\n%b\n" % (line, _sum(line))


def read_record(data: bytes) -> Record | None:
    """The record that was written; ``None`` if these bytes are not one. Never raises."""
    line, _, rest = data.partition(b"\n")
    if len(data) > LONGEST or rest != _sum(line) + b"\n":
        return None
    try:
        members: dict[str, Any] = json.loads(line)
        if members.pop("format") != _FORMAT:
            return None
        done = Spans(ByteRange(_position(first), _position(last)) for first, last in members.pop("done"))
        digests = {name: bytes.fromhex(digest) for name, digest in members.pop("digests", {}).items()}
        return Record(done=done, digests=digests, **members)
    # Whoever can write a right sum can write anything before it.
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _position(value: object) -> int:
    if type(value) is not int or not 0 <= value < MAX_LENGTH:
        raise ValueError("not a position")
    return value


def _sum(line: bytes) -> bytes:
    return hashlib.sha256(line).hexdigest().encode("ascii")
