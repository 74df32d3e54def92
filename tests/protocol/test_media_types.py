"""Media types: what a name tells of one, and what a browser makes of it."""

import mimetypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import strategies
from txcouchdl.protocol.media_types import Kind, essence, guessed_type, kind_of


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("film.mp4", "video/mp4"),
        ("film.m4v", "video/mp4"),
        ("film.webm", "video/webm"),
        ("film.ogv", "video/ogg"),
        ("film.mkv", "video/x-matroska"),
        ("song.mp3", "audio/mpeg"),
        ("song.MP3", "audio/mpeg"),
        ("song.m4a", "audio/mp4"),
        ("song.ogg", "audio/ogg"),
        ("song.opus", "audio/ogg"),
        # Chromium refuses audio/x-flac.
        ("song.flac", "audio/flac"),
        ("song.wav", "audio/wav"),
        ("words.vtt", "text/vtt"),
        ("film.mov", "video/quicktime"),
        ("film.3gp", "video/3gpp"),
        ("song.mka", "audio/x-matroska"),
        ("song.weba", "audio/webm"),
        ("song.aac", "audio/aac"),
        ("list.m3u8", "application/vnd.apple.mpegurl"),
        ("picture.webp", "image/webp"),
        ("picture.jxl", "image/jxl"),
        ("favicon.ico", "image/vnd.microsoft.icon"),
        ("table.parquet", "application/vnd.apache.parquet"),
        ("a.xz", "application/x-xz"),
        ("a.zst", "application/zstd"),
        ("picture.avif", "image/avif"),
        ("picture.jpeg", "image/jpeg"),
        ("page.html", "text/html"),
        ("paper.pdf", "application/pdf"),
        ("a.b.c.json", "application/json"),
        ("a/b.d/c.csv", "text/csv"),
        ("ü ½.txt", "text/plain"),
        # Sent is the outer one, not what is inside.
        ("a.tar.gz", "application/gzip"),
        ("a.tgz", "application/gzip"),
        ("a.svg.gz", "application/gzip"),
        ("a.svgz", None),
        ("a.bz2", None),
        # No URL.
        ("data:text/html,.txt", "text/plain"),
        ("", None),
        (".", None),
        (".mp4", None),
        ("mp4", None),
        ("film.", None),
        ("film.mp4 ", None),
        ("film.nothing-known", None),
        ("film.\uff2d\uff304", None),
    ],
)
def test_what_a_name_tells(name: str, expected: str | None) -> None:
    assert guessed_type(name) == expected


def test_the_machines_own_tables_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(mimetypes.types_map, ".mp3", "text/html")
    monkeypatch.setitem(mimetypes.types_map, ".nothing-known", "text/html")
    assert guessed_type("a.mp3") == "audio/mpeg"
    assert guessed_type("a.nothing-known") is None


@given(strategies.names | st.text(st.characters()))
def test_whatever_is_told_is_a_type(name: str) -> None:
    told = guessed_type(name)
    assert told is None or essence(told) == told


@pytest.mark.parametrize(
    ("content_type", "name", "kind"),
    [
        ("video/mp4", "video/mp4", Kind.VIDEO),
        ("Video/MP4; codecs=avc1", "video/mp4", Kind.VIDEO),
        (" audio/mpeg ", "audio/mpeg", Kind.AUDIO),
        ("application/ogg", "application/ogg", Kind.VIDEO),
        ("image/png", "image/png", Kind.IMAGE),
        ("image/svg+xml ;charset=utf-8", "image/svg+xml", Kind.IMAGE),
        ("image/x-icon", "image/x-icon", Kind.IMAGE),
        ("image/apng", "image/apng", Kind.IMAGE),
        ("image/vnd.microsoft.icon", "image/vnd.microsoft.icon", Kind.IMAGE),
        ("image/tiff", "image/tiff", Kind.OTHER),
        # A document, whatever is before the plus.
        ("video/x+xml", "video/x+xml", Kind.OTHER),
        ("audio/x+xml; y=z", "audio/x+xml", Kind.OTHER),
        ("text/plain", "text/plain", Kind.OTHER),
        # Of several, browsers take the last.
        ("video/mp4, text/html", None, Kind.OTHER),
        ('video/mp4; a="b", text/html', None, Kind.OTHER),
        ("video/", None, Kind.OTHER),
        ("video", None, Kind.OTHER),
        ("/mp4", None, Kind.OTHER),
        ("v\u0131deo/mp4", None, Kind.OTHER),
        ("video/mp4\n", None, Kind.OTHER),
        ("", None, Kind.OTHER),
        (None, None, Kind.OTHER),
    ],
)
def test_what_a_type_is(content_type: str | None, name: str | None, kind: Kind) -> None:
    assert (essence(content_type), kind_of(content_type)) == (name, kind)
