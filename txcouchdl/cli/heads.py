"""What the head of an answer says, as far as downloads go by it. Pure."""

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

from attrs import field, frozen

from txcouchdl.protocol.conditions import EntityTag, parse_entity_tag_list
from txcouchdl.protocol.digests import parse_digest_field
from txcouchdl.protocol.ranges import ByteRange

_NUMBER: Final = re.compile("[0-9]{1,18}")
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.IGNORECASE)
_UNSATISFIED: Final = re.compile(r"bytes \*/([0-9]{1,18})", re.IGNORECASE)


@frozen
class ContentRange:
    """
    Of a 206 (RFC 9110, section 14.4).

    :ivar complete_length: ``None`` if it is not told.
    """

    range: ByteRange
    complete_length: int | None


@frozen
class Head:
    """
    :ivar fields: by names in lower case, the lines of each joined with ``", "``.
    """

    status: int
    fields: Mapping[str, str] = field(factory=dict, repr=False)

    @property
    def length(self) -> int | None:
        """Content-Length; ``None`` if it is missing or no number."""
        return _number(self.fields.get("content-length"))

    @property
    def etag(self) -> EntityTag | None:
        """The entity-tag, strong or weak; ``None`` for anything else."""
        listed = parse_entity_tag_list(self.fields.get("etag", ""))
        tag = listed[0] if isinstance(listed, tuple) and len(listed) == 1 else None
        return tag if isinstance(tag, EntityTag) else None

    @property
    def validator(self) -> str | None:
        """The entity-tag as on the wire, if it is a strong one: only this tells that two ranges are of one body."""
        return None if self.etag is None or self.etag.weak else str(self.etag)

    @property
    def content_range(self) -> ContentRange | None:
        """``None`` if it is missing, or cannot be."""
        found = _CONTENT_RANGE.fullmatch(self.fields.get("content-range", ""))
        if found is None or int(found[2]) < int(found[1]):
            return None
        complete = None if found[3] == "*" else int(found[3])
        if complete is not None and complete <= int(found[2]):
            return None
        return ContentRange(ByteRange(int(found[1]), int(found[2])), complete)

    @property
    def unsatisfied_length(self) -> int | None:
        """The complete length that a 416 tells."""
        found = _UNSATISFIED.fullmatch(self.fields.get("content-range", ""))
        return None if found is None else int(found[1])

    @property
    def digests(self) -> dict[str, bytes]:
        """Of the whole representation, by algorithm (Repr-Digest)."""
        return parse_digest_field(self.fields.get("repr-digest"))

    @property
    def is_encoded(self) -> bool:
        """Whether the body is not the representation's bytes, but a coding of them."""
        codings = self.fields.get("content-encoding", "").lower().split(",")
        return bool({each.strip() for each in codings} - {"", "identity"})

    @property
    def retry_after(self) -> float | None:
        """Seconds; a date is taken for what it is to the server's own clock."""
        text = self.fields.get("retry-after")
        if text is None or (seconds := _number(text)) is not None:
            return seconds if text is not None else None
        then, now = _date(text), _date(self.fields.get("date", ""))
        return None if then is None or now is None else max(0.0, (then - now).total_seconds())


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and _NUMBER.fullmatch(text) else None


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if found.tzinfo is not None else None
