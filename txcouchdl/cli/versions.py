"""Whether what a server answers is of one version of one file, and the bytes of it that were asked for. Pure."""

from collections.abc import Mapping
from typing import Final, NoReturn

from attrs import field, frozen

from txcouchdl.cli.heads import Head
from txcouchdl.cli.outcomes import BadRanges, Changed, Passing, RangesIgnored, Refused, Unusable
from txcouchdl.protocol.ranges import ByteRange

# What may be otherwise at the next try.
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_SENTENCES: Final[Mapping[int, str]] = {
    401: "the server wants a name and a password",
    403: "the token is not right, or there is no such document",
    404: "there is no such file",
    410: "the file is no longer there",
    412: "the file is no longer the version that the address names",
    416: "the file has no such bytes",
    429: "the server has too many requests",
    503: "the server is too busy, or has nothing to answer from",
    504: "what is behind the server does not answer in time",
}


@frozen
class Version:
    """
    What is known of one.

    :ivar validator: its strong entity-tag, as on the wire; ``None`` if it has none.
    :ivar length: ``None`` if not known.
    :ivar digests: of all of it, by algorithm.
    """

    validator: str | None
    length: int | None
    digests: Mapping[str, bytes] = field(factory=dict)

    @property
    def resumable(self) -> "Resumable | None":
        """The same, if ranges of it can be told from those of others."""
        if self.validator is None or self.length is None:
            return None
        return Resumable(self.validator, self.length, self.digests)


@frozen
class Resumable:
    """A version that can be had in parts; as :class:`Version`, but that all is known."""

    validator: str
    length: int
    digests: Mapping[str, bytes] = field(factory=dict)

    def require(self, other: Version) -> None:
        """
        :raises Changed: unless the other one is this.
        :raises Unusable: if it is none of this file.
        """
        if (self.validator, self.length) != (other.validator, other.length):
            require_no_less(self, other)
            raise Changed("the file has changed on the server")
        if any(other.digests.get(name, digest) != digest for name, digest in self.digests.items()):
            raise Changed("the server says two things of what should be the same file")


@frozen
class Promise:
    """
    What a file has to be, by what was told of it before it was asked for.

    :ivar length: ``None`` if nothing was told.
    :ivar digests: of all of it, by algorithm.
    :ivar tag: of its entity-tag, what stands between the quotes; ``None`` for any.
    """

    length: int | None = None
    digests: Mapping[str, bytes] = field(factory=dict)
    tag: str | None = None

    def require(self, version: Version) -> None:
        """
        Compare as far as both are known.

        :raises Unusable: if it is another.
        """
        if self.tag is not None and version.validator != f'"{self.tag}"':
            raise Unusable("what answers has not the version that the address names")
        if version.length not in {None, self.length} and self.length is not None:
            raise Unusable("what answers has another length than the listing says; a new listing may say more")
        if any(version.digests.get(name, digest) != digest for name, digest in self.digests.items()):
            raise Unusable("what answers has another digest than the listing says; a new listing may say more")


def require_no_less(before: Version | Resumable, now: Version) -> None:
    """
    Tell a file that has changed from a server that is another one: a login page, say, that is in the way of everything.

    :raises Unusable: if now there is nothing to tell versions by, or to verify them with, where there was before.
    """
    if now.validator is not None and now.validator == before.validator:
        return
    if (before.validator is not None and now.validator is None) or (before.digests and not now.digests):
        raise Unusable(
            "what answers now is not what answered before; if it is to be had all the same, remove what there is of it"
        )


def whole_version(head: Head) -> Version:
    """Of what a 200 brings, or a HEAD tells."""
    return Version(head.validator, head.length, head.digests)


def part_version(head: Head, asked: ByteRange) -> Version:
    """
    Of what a 206 brings a range of.

    :raises BadRanges: if it is not the range that was asked for.
    """
    found = head.content_range
    if found is None:
        raise BadRanges("the server sends a part of the file, and does not say which")
    end = asked.last if found.complete_length is None else min(asked.last, found.complete_length - 1)
    if (found.range.first, found.range.last) != (asked.first, end):
        raise BadRanges("the server sends another part of the file than was asked for")
    if head.length not in {None, found.range.length}:
        raise BadRanges("the server sends more or less of the file than it says")
    return Version(head.validator, found.complete_length, head.digests)


def raise_for_whole(version: Resumable, head: Head) -> NoReturn:
    """
    :param head: of a 200 where a range was asked for on condition of a version.
    :raises RangesIgnored: if it is of that version.
    :raises Changed: if it is of another.
    :raises Unusable: if it is none of this file.
    """
    if head.validator == version.validator:
        raise RangesIgnored("the server sends all of the file, and not the part that was asked for")
    require_no_less(version, whole_version(head))
    raise Changed("the file has changed on the server")


def require_success(head: Head, only_passing: bool = False) -> None:
    """
    :param only_passing: whether a plain no is for somebody else to see.
    :raises Passing: if the status is one that may pass.
    :raises Refused: if the server says no.
    :raises Unusable: if it says what cannot be understood.
    """
    if head.status in _PASSING:
        sentence = _SENTENCES.get(head.status, "something is wrong with the server")
        raise Passing(f"{head.status}: {sentence}", head.retry_after)
    if head.status in {200, 206} or only_passing:
        return
    sentence = f"{head.status}: {_SENTENCES.get(head.status, 'the server does not do that')}"
    raise Refused(sentence) if 400 <= head.status < 500 else Unusable(sentence)
