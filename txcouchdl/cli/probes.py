"""What ``couchdl check`` asks a server: small requests, each of which tells one thing. Pure."""

from collections.abc import Iterator, Mapping
from typing import Final

from attrs import field, frozen

from txcouchdl.cli.heads import Head
from txcouchdl.protocol.ranges import ByteRange

#: Bytes of a range that is asked for.
PIECE: Final = 64
#: Bytes of a body that are looked at: more than any range that is asked for, with a multipart's frames.
MOST: Final = 4096
#: An entity-tag that no version has.
_OTHER_TAG: Final = '"couchdl-check-other-version"'


@frozen
class Probe:
    """
    One request.

    :ivar key: what it is called.
    """

    key: str
    method: str = "GET"
    fields: Mapping[str, str] = field(factory=dict)


@frozen
class Reply:
    """
    :ivar body: the first :data:`MOST` bytes of it.
    """

    head: Head
    body: bytes = b""


#: Every answer that was had, by the key of its probe.
Replies = Mapping[str, Reply]

#: What is asked first, of a file of which nothing is known.
FIRST: Final = (Probe("head", "HEAD"), Probe("first", fields={"Range": f"bytes=0-{PIECE - 1}"}))


@frozen
class Known:
    """
    What the first answers told.

    :ivar length: of the whole file; at least 1.
    :ivar etag: as on the wire; ``None`` if there is none, or a weak one.
    """

    length: int
    etag: str | None

    @property
    def piece(self) -> int:
        """How many bytes of it are asked for at a time."""
        return max(1, min(PIECE, self.length // 4))

    @property
    def ranges(self) -> dict[str, ByteRange]:
        """Those asked for by their positions, by the probes' keys."""
        middle = self.length // 2
        return {
            "first": ByteRange(0, min(PIECE, self.length) - 1),
            "middle": ByteRange(middle, min(middle + self.piece, self.length) - 1),
            "overlap": ByteRange(max(0, middle - self.piece // 2), min(middle + self.piece // 2, self.length - 1)),
            "last": ByteRange(self.length - self.piece, self.length - 1),
        }


def known_from(replies: Replies) -> Known | None:
    """``None`` if there are no bytes of which ranges could be asked for, or nobody knows how many."""
    head, first = replies["head"].head, replies["first"].head
    content_range = first.content_range
    lengths = [
        None if content_range is None else content_range.complete_length,
        head.length if head.status == 200 else None,
        first.length if first.status == 200 else None,
    ]
    length = next((each for each in lengths if each is not None), None)
    return Known(length, first.validator or head.validator) if length else None


def probes_for(known: Known) -> Iterator[Probe]:
    """All that is asked then."""
    ranges = {key: f"bytes={each.first}-{each.last}" for key, each in known.ranges.items()}
    middle = ranges["middle"]
    yield from (Probe(key, fields={"Range": ranges[key]}) for key in ("middle", "overlap", "last"))
    yield Probe("whole", fields={"Accept-Encoding": "gzip, deflate, br, zstd"})
    yield Probe("open", fields={"Range": f"bytes={known.length - known.piece}-"})
    yield Probe("suffix", fields={"Range": f"bytes=-{known.piece}"})
    yield Probe("several", fields={"Range": f"bytes=0-0,{known.length - 1}-{known.length - 1}"})
    yield Probe("beyond", fields={"Range": f"bytes={known.length}-"})
    yield Probe("gzip", fields={"Range": middle, "Accept-Encoding": "gzip, br"})
    yield Probe("gzip-head", "HEAD", {"Accept-Encoding": "gzip, br"})
    yield Probe("if-range-other", fields={"Range": middle, "If-Range": _OTHER_TAG})
    yield Probe("if-match-other", fields={"Range": middle, "If-Match": _OTHER_TAG})
    if known.etag is not None:
        yield Probe("if-range", fields={"Range": middle, "If-Range": known.etag})
        yield Probe("if-none-match", fields={"If-None-Match": known.etag})
