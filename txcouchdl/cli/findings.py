"""What a server's answers mean to who downloads from it. Pure."""

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final

from attrs import frozen

from txcouchdl.cli.heads import ContentRange
from txcouchdl.cli.probes import Known, Replies, Reply
from txcouchdl.protocol.ranges import ByteRange


class Verdict(Enum):
    """How it is, on one count."""

    GOOD = "pass"
    #: Something is missing, but nothing goes wrong.
    WARN = "warn"
    #: Resuming or seeking does not work, or what comes of it may be wrong.
    FAIL = "fail"


@frozen
class Finding:
    """
    One count.

    :ivar subject: what was looked at.
    :ivar meaning: what that means, to people.
    """

    subject: str
    verdict: Verdict
    meaning: str


def is_right(findings: list[Finding]) -> bool:
    """Whether downloads from there can be resumed, and are right then."""
    return all(each.verdict is not Verdict.FAIL for each in findings)


def findings_of(replies: Replies, known: Known | None, opens_itself: bool) -> list[Finding]:
    """
    All of them, in the order in which they are to be told.

    :param known: ``None`` if only the first probes were made.
    :param opens_itself: whether the address has a secret in it.
    """
    found = [_length(replies), _entity_tag(replies), _digest(replies), _caches(replies, opens_itself)]
    if known is None:
        return [*found, Finding("ranges", Verdict.FAIL, "the length is not told, or 0: nothing can be resumed")]
    found += [_range(known, key, replies[key]) for key in _RANGE_MEANINGS]
    return [*found, *(count(replies, known) for count in _COUNTS), *_conditions(replies, known)]


def _length(replies: Replies) -> Finding:
    head = replies["head"].head
    if head.status != 200:
        return Finding("HEAD", Verdict.WARN, f"answered with {head.status}: programs that look before they load do not")
    if head.length is None:
        return Finding("HEAD", Verdict.WARN, "tells no length: no progress can be shown")
    told = replies["first"].head.content_range
    if told is not None and told.complete_length not in {None, head.length}:
        meaning = (
            f"tells {head.length} bytes, and the ranges are of {told.complete_length}: downloads end too early or never"
        )
        return Finding("HEAD", Verdict.FAIL, meaning)
    return Finding("HEAD", Verdict.GOOD, f"tells the length: {head.length} bytes")


def _entity_tag(replies: Replies) -> Finding:
    heads = [reply.head for reply in replies.values() if reply.head.status in {200, 206}]
    # A coding has to have another.
    tags = {str(head.etag) for head in heads if not head.is_encoded}
    etag = replies["first"].head.etag or replies["head"].head.etag
    if etag is None:
        return Finding("ETag", Verdict.FAIL, "there is none: two versions may be joined when a download is resumed")
    if etag.weak:
        return Finding("ETag", Verdict.FAIL, "a weak one: browsers do not resume with it, or join two versions")
    if len(tags) > 1:
        return Finding("ETag", Verdict.FAIL, "not the same in all answers: downloads begin anew, again and again")
    return Finding("ETag", Verdict.GOOD, "a strong one, the same in all answers: versions can be told apart")


def _digest(replies: Replies) -> Finding:
    told = {**replies["head"].head.digests, **replies["first"].head.digests}
    if not told:
        return Finding("Repr-Digest", Verdict.WARN, "there is none: what was loaded cannot be verified")
    return Finding("Repr-Digest", Verdict.GOOD, f"{' and '.join(sorted(told))}: what was loaded can be verified")


def _caches(replies: Replies, opens_itself: bool) -> Finding:
    control = replies["first"].head.fields.get("cache-control", "").lower()
    if {"private", "no-store"} & {each.strip() for each in control.split(",")}:
        return Finding("Cache-Control", Verdict.GOOD, "no cache on the way keeps it for others")
    if opens_itself:
        return Finding("Cache-Control", Verdict.WARN, "not private: caches on the way may keep what takes a secret")
    return Finding("Cache-Control", Verdict.GOOD, "the address has no secret; caches on the way may keep it")


# Ranges.

_RANGE_MEANINGS: Final = {
    "first": "the beginning",
    "middle": "from the middle",
    "last": "the end",
    "open": "from some place to the end, as downloads are resumed",
    "suffix": "the last bytes, as players look for an index",
}


def _range(known: Known, key: str, reply: Reply) -> Finding:
    """Whether a range came as it was asked for."""
    wanted = known.ranges.get(key, known.ranges["last"])
    subject = f"range: {_RANGE_MEANINGS[key]}"
    if reply.head.status == 200:
        return Finding(subject, Verdict.FAIL, "all of the file comes: players cannot seek, nothing can be resumed")
    if reply.head.status != 206:
        return Finding(subject, Verdict.FAIL, f"answered with {reply.head.status}: nothing can be resumed")
    if not _came(reply, wanted, known):
        return Finding(subject, Verdict.FAIL, "other bytes come than were asked for: resumed downloads are wrong")
    return Finding(subject, Verdict.GOOD, "comes as it was asked for")


def _agreement(replies: Replies, known: Known) -> Finding:
    middle, overlap = known.ranges["middle"], known.ranges["overlap"]
    if not (_came(replies["middle"], middle, known) and _came(replies["overlap"], overlap, known)):
        return Finding("overlapping ranges", Verdict.FAIL, "cannot be compared")
    shared = replies["overlap"].body[middle.first - overlap.first :]
    is_same = replies["middle"].body.startswith(shared) or shared.startswith(replies["middle"].body)
    is_same_end = replies["last"].body == replies["open"].body == replies["suffix"].body
    if not (is_same and is_same_end):
        return Finding("overlapping ranges", Verdict.FAIL, "do not agree: what is put together of ranges is wrong")
    return Finding("overlapping ranges", Verdict.GOOD, "agree")


def _came(reply: Reply, wanted: ByteRange, known: Known) -> bool:
    is_it = reply.head.content_range == ContentRange(wanted, known.length)
    return reply.head.status == 206 and is_it and len(reply.body) == wanted.length


def _several(replies: Replies, known: Known) -> Finding:
    head = replies["several"].head
    content_type = head.fields.get("content-type", "").lower()
    if head.status == 206 and content_type.startswith("multipart/byteranges"):
        return Finding("several ranges", Verdict.GOOD, "come as multipart/byteranges")
    if head.status == 206 and head.content_range is not None:
        return Finding("several ranges", Verdict.WARN, "only one of them comes, which not all programs notice")
    if head.status == 200:
        return Finding("several ranges", Verdict.WARN, "all of the file comes: more than was asked for, but right")
    if head.status == 206:
        return Finding("several ranges", Verdict.FAIL, "what comes does not say which ranges it has")
    return Finding("several ranges", Verdict.WARN, f"answered with {head.status}")


def _beyond(replies: Replies, known: Known) -> Finding:
    head = replies["beyond"].head
    if head.status == 416 and head.unsatisfied_length == known.length:
        return Finding("range: behind the end", Verdict.GOOD, "416, and the length: who has all learns so")
    if head.status == 416:
        return Finding("range: behind the end", Verdict.WARN, "416, without the length")
    if head.status == 206:
        return Finding("range: behind the end", Verdict.FAIL, "bytes come that are not in the file")
    meaning = f"answered with {head.status}: who has all of it already may load it again"
    return Finding("range: behind the end", Verdict.WARN, meaning)


def _gzip(replies: Replies, known: Known) -> Finding:
    subject = "Accept-Encoding: gzip"
    ranged, whole = replies["gzip"], replies["gzip-head"]
    plain = replies["middle"].head.validator
    encoded = [each.head for each in (ranged, whole) if each.head.is_encoded]
    if any(each.validator is not None and each.validator == plain for each in encoded):
        return Finding(subject, Verdict.FAIL, "a coding comes, with the same ETag: resumed downloads are wrong")
    if encoded:
        return Finding(subject, Verdict.WARN, "a coding comes, as another version: who asks so may not resume")
    if ranged.head.status == 206 and ranged.body != replies["middle"].body:
        return Finding(subject, Verdict.FAIL, "other bytes come: resumed downloads are wrong")
    return Finding(subject, Verdict.GOOD, "changes no byte")


def _whole(replies: Replies, known: Known) -> Finding:
    """Judge the request with which a browser begins a download. Behind some proxies it alone is compressed."""
    subject, reply, first = "GET of all, as a browser begins", replies["whole"], replies["first"]
    if reply.head.status != 200:
        return Finding(subject, Verdict.FAIL, f"answered with {reply.head.status}: browsers load nothing")
    if reply.head.is_encoded:
        return Finding(subject, Verdict.FAIL, "comes compressed, perhaps by a proxy: browsers cannot resume it")
    if reply.head.etag != first.head.etag:
        return Finding(subject, Verdict.FAIL, "comes with another ETag than the ranges: browsers cannot resume it")
    begins = reply.body[: len(first.body)] == first.body[: len(reply.body)]
    if reply.head.length not in {None, known.length} or (first.head.status == 206 and not begins):
        return Finding(subject, Verdict.FAIL, "other bytes come than by ranges: resumed downloads are wrong")
    if reply.head.length is None:
        return Finding(subject, Verdict.WARN, "tells no length: no progress can be shown")
    return Finding(subject, Verdict.GOOD, "the file's own bytes come, with the ETag of the ranges")


# Conditions.


def _conditions(replies: Replies, known: Known) -> Iterator[Finding]:
    yield _if_range_other(replies, known)
    if "if-range" in replies:
        yield _if_range(replies, known)
        yield _if_none_match(replies)
    yield _if_match_other(replies)


def _if_range(replies: Replies, known: Known) -> Finding:
    subject, reply = "If-Range: the same version", replies["if-range"]
    if _came(reply, known.ranges["middle"], known) and reply.body == replies["middle"].body:
        return Finding(subject, Verdict.GOOD, "the range comes: careful programs can resume")
    return Finding(subject, Verdict.FAIL, "the range does not come: careful programs begin anew")


def _if_range_other(replies: Replies, known: Known) -> Finding:
    subject, status = "If-Range: another version", replies["if-range-other"].head.status
    if status == 200:
        return Finding(subject, Verdict.GOOD, "all of the file comes: no two versions are joined")
    if status == 206:
        return Finding(subject, Verdict.FAIL, "is ignored: two versions are joined if the file changes meanwhile")
    return Finding(subject, Verdict.FAIL, f"answered with {status}: who resumes after a change gets nothing")


def _if_match_other(replies: Replies) -> Finding:
    subject, status = "If-Match: another version", replies["if-match-other"].head.status
    if status == 412:
        return Finding(subject, Verdict.GOOD, "412: no two versions are joined")
    return Finding(subject, Verdict.WARN, f"answered with {status}: programs that trust in it may join two versions")


def _if_none_match(replies: Replies) -> Finding:
    subject, status = "If-None-Match", replies["if-none-match"].head.status
    if status == 304:
        return Finding(subject, Verdict.GOOD, "304: who has it does not load it again")
    return Finding(subject, Verdict.WARN, f"answered with {status}: who has it loads it again")


_COUNTS: Final[tuple[Callable[[Replies, Known], Finding], ...]] = (_agreement, _several, _beyond, _gzip, _whole)
