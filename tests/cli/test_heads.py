"""What is read of the heads of answers, and what is not believed of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txcouchdl.cli.heads import ContentRange, Head
from txcouchdl.cli.outcomes import BadRanges, Changed, Passing, Refused, Trouble, Unusable
from txcouchdl.cli.versions import (
    Promise,
    Resumable,
    Version,
    part_version,
    require_no_less,
    require_success,
    whole_version,
)
from txcouchdl.protocol.ranges import ByteRange

NAMES = ["content-length", "content-range", "etag", "repr-digest", "content-encoding", "retry-after", "date"]


def head(status_: int = 206, /, **fields: str) -> Head:
    return Head(status_, {name.replace("_", "-"): value for name, value in fields.items()})


@given(st.dictionaries(st.sampled_from(NAMES), st.text() | st.text('bytes 0123456789-/*,:=W"GMT', max_size=30)))
def test_any_fields(fields: dict[str, str]) -> None:
    """Nothing raises; and what is told can be."""
    read = Head(206, fields)
    _ = read.length, read.digests, read.is_encoded, read.unsatisfied_length
    found = read.content_range
    assert found is None or found.complete_length is None or found.range.last < found.complete_length
    assert read.retry_after is None or read.retry_after >= 0
    assert read.validator is None or read.validator.startswith('"')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes 0-9/10", ContentRange(ByteRange(0, 9), 10)),
        ("Bytes 5-5/*", ContentRange(ByteRange(5, 5), None)),
        ("bytes 0-10/10", None),
        ("bytes 5-4/10", None),
        ("bytes */10", None),
        ("bytes 0-9/10, bytes 0-9/10", None),
        ("bytes=0-9/10", None),
        ("bytes 0-9/+10", None),
        ("bytes 0-\u0669/10", None),
        ("bytes 0-9/" + "9" * 5000, None),
        ("", None),
    ],
)
def test_content_range(text: str, expected: ContentRange | None) -> None:
    assert head(content_range=text).content_range == expected


@pytest.mark.parametrize(
    ("text", "validator"),
    [('"x"', '"x"'), ('""', '""'), ('W/"x"', None), ("x", None), ('"x", "y"', None), ("*", None), ('"x', None)],
)
def test_validators(text: str, validator: str | None) -> None:
    assert head(etag=text).validator == validator


@pytest.mark.parametrize(
    ("text", "is_encoded"),
    [("gzip", True), ("identity", False), ("", False), ("Identity, br", True), ("aes128gcm", True)],
)
def test_codings(text: str, is_encoded: bool) -> None:
    assert head(content_encoding=text).is_encoded is is_encoded


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "-7"}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "Sun, 22 Nov 2026 12:00:30 GMT", "date": "Sun, 22 Nov 2026 12:00:00 GMT"}, 30.0),
        ({"retry_after": "Sun, 22 Nov 2026 12:00:00 GMT", "date": "Sun, 22 Nov 2026 12:00:30 GMT"}, 0.0),
        ({"retry_after": "Sun, 22 Nov 2026 12:00:30 GMT"}, None),
        ({"retry_after": "Sun, 22 Nov 2026 12:00:30", "date": "Sun, 22 Nov 2026 12:00:00 GMT"}, None),
        ({}, None),
    ],
)
def test_retry_after(fields: dict[str, str], seconds: float | None) -> None:
    assert head(503, **fields).retry_after == seconds


def test_lengths() -> None:
    assert head(content_length="10").length == 10
    assert head(content_length="+10").length is None
    assert head(416, content_range="bytes */7").unsatisfied_length == 7


ASKED = ByteRange(10, 19)


@pytest.mark.parametrize(
    ("content_range", "length", "complete"),
    [("bytes 10-19/100", "10", 100), ("bytes 10-14/15", "5", 15), ("bytes 10-19/*", None, None)],
)
def test_a_part_that_was_asked_for(content_range: str, length: str | None, complete: int | None) -> None:
    fields = {"content_range": content_range, "etag": '"x"'} | ({} if length is None else {"content_length": length})
    assert part_version(head(**fields), ASKED) == Version('"x"', complete)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"content_range": "bytes 11-19/100"},
        {"content_range": "bytes 10-18/100"},
        {"content_range": "bytes 10-20/100"},
        {"content_range": "bytes 0-9/100"},
        {"content_range": "bytes 0-4/5"},
        {"content_range": "bytes 10-18/*"},
        {"content_range": "bytes 10-19/100", "content_length": "9"},
        {"content_range": "bytes 10-19/100", "content_length": "11"},
    ],
)
def test_a_part_that_was_not(fields: dict[str, str]) -> None:
    with pytest.raises(BadRanges):
        part_version(head(**fields), ASKED)


VERSION = Resumable('"x"', 100, {"md5": b"1", "sha-256": b"2"})


@pytest.mark.parametrize("digests", [{}, {"md5": b"1"}, {"sha-256": b"2", "sha-512": b"3"}])
def test_the_same_version(digests: dict[str, bytes]) -> None:
    VERSION.require(Version('"x"', 100, digests))


@pytest.mark.parametrize(
    "other",
    [
        Version('"y"', 100, {"md5": b"1"}),
        Version('"x"', 101),
        Version('"x"', None),
        Version('"x"', 100, {"md5": b"2"}),
    ],
)
def test_another_version(other: Version) -> None:
    with pytest.raises(Changed):
        VERSION.require(other)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (Version('"x"', 100), Version(None, 100)),
        (Version('"x"', 100), Version(None, 100, {"md5": b"1"})),
        (Version('"x"', 100, {"md5": b"1"}), Version('"y"', 100)),
        (Version(None, 100, {"md5": b"1"}), Version(None, 100)),
    ],
)
def test_less_than_before(before: Version, now: Version) -> None:
    """Nobody's file is another one because somebody else answers."""
    with pytest.raises(Unusable, match="not what answered before"):
        require_no_less(before, now)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (Version('"x"', 100, {"md5": b"1"}), Version('"y"', 90, {"sha-256": b"2"})),
        (Version('"x"', 100, {"md5": b"1"}), Version('"x"', 90)),
        (Version('"x"', 100), Version('"y"', 90)),
        (Version(None, 100), Version(None, None)),
    ],
)
def test_as_much_as_before(before: Version, now: Version) -> None:
    require_no_less(before, now)


PROMISE = Promise(100, {"md5": b"1"}, "x")


@pytest.mark.parametrize(
    "version",
    [
        Version('"y"', 100, {"md5": b"1"}),
        Version(None, 100, {"md5": b"1"}),
        Version('"x"', 0, {"md5": b"1"}),
        Version('"x"', 100, {"md5": b"2"}),
    ],
)
def test_what_was_not_promised(version: Version) -> None:
    with pytest.raises(Unusable):
        PROMISE.require(version)


@pytest.mark.parametrize(
    "version", [Version('"x"', 100, {"md5": b"1"}), Version('"x"', None), Version('"x"', 100, {"sha-256": b"2"})]
)
def test_what_was_promised(version: Version) -> None:
    PROMISE.require(version)
    Promise().require(version)


def test_what_can_be_resumed() -> None:
    assert Version('"x"', 1).resumable == Resumable('"x"', 1)
    assert Version(None, 1).resumable is None
    assert Version('"x"', None).resumable is None
    assert whole_version(head(200, etag='W/"x"', content_length="3")) == Version(None, 3)


@pytest.mark.parametrize(
    ("statuses", "kind"),
    [
        ([408, 425, 429, 500, 502, 503, 504], Passing),
        ([400, 401, 403, 404, 405, 410, 412, 416], Refused),
        ([204, 300, 304, 501, 505], Unusable),
    ],
)
def test_statuses(statuses: list[int], kind: type[Trouble]) -> None:
    for status in statuses:
        with pytest.raises(kind) as raised:
            require_success(head(status))
        assert type(raised.value) is kind
        assert raised.value.sentence.startswith(f"{status}: ")


def test_success() -> None:
    require_success(head(200))
    require_success(head(206))
    require_success(head(404), only_passing=True)


def test_a_busy_server_says_how_long() -> None:
    with pytest.raises(Passing) as raised:
        require_success(head(503, retry_after="9"), only_passing=True)
    assert raised.value.retry_after == 9
