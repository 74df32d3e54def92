"""Names of files: whatever somebody says, one that harms nothing."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txcouchdl.cli.locations import parse_location
from txcouchdl.cli.names import (
    LONGEST,
    MOST_SEGMENTS,
    NEW_STATE,
    PART,
    STATE,
    name_key,
    name_of,
    safe_name,
    safe_path,
    shown,
)
from txcouchdl.cli.outcomes import Unusable
from txcouchdl.protocol.disposition import is_invisible


@pytest.mark.parametrize(
    "name",
    ["film.mp4", "a b.txt", "Grüße.txt", "100%.txt", "a..b", "x.PARTS", "part", "console", "a'b", "-rf", "~", "x,v"],
)
def test_names_that_stay(name: str) -> None:
    assert safe_name(name) == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", "download"),
        (".", "download"),
        ("..", "download"),
        ("...", "download"),
        (" ", "download"),
        ("../../etc/passwd", "_._.._etc_passwd"),
        ("/etc/passwd", "_etc_passwd"),
        ("C:\\x", "C__x"),
        (".bashrc", "_bashrc"),
        ("a\nb", "a_b"),
        ("a\x1b[2Jb", "a_[2Jb"),
        ("exe\u202etxt", "exe_txt"),
        ("\udc80", "_"),
        ("x. ", "x"),
        ("NUL", "_NUL_"),
        ("con.txt", "_con.txt_"),
        ("x.part", "_x.part_"),
        ("x.part.state", "_x.part.state_"),
        ("x.Part.State.new", "_x.Part.State.new_"),
    ],
)
def test_names_that_do_not(name: str, expected: str) -> None:
    assert safe_name(name) == expected


@given(st.text() | st.text("./\\ .partsnewonul", max_size=300) | st.text("x", min_size=230, max_size=300))
def test_any_name(text: str) -> None:
    name = safe_name(text)
    assert name
    assert not set(name) & set('/\\:*?"<>|')
    assert not any(is_invisible(each) for each in name)
    assert not name.startswith(".")
    assert not name.endswith((".", " "))
    assert not name.casefold().endswith((PART, STATE, NEW_STATE))
    assert len(name.encode()) <= LONGEST
    assert len(f"{name}{NEW_STATE}".encode()) <= 255


@given(st.text(min_size=1, max_size=40))
def test_a_name_is_a_file(text: str) -> None:
    """Normalized, it is where it was said to be."""
    assert os.path.normpath(Path("/here", safe_name(text))).startswith("/here/")


def test_a_long_name_keeps_its_extension() -> None:
    name = safe_name("ü" * 300 + ".flac")
    assert name.endswith("ü.flac")
    assert len(name.encode()) in (LONGEST - 1, LONGEST)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a", ("a",)),
        ("a/b c/d", ("a", "b c", "d")),
        ("../../etc/passwd", ("download", "download", "etc", "passwd")),
        ("/a", ("download", "a")),
        ("a//b", ("a", "download", "b")),
    ],
)
def test_paths(name: str, path: tuple[str, ...]) -> None:
    assert safe_path(name) == path


@pytest.mark.parametrize("name", ["", "/" * MOST_SEGMENTS, "a/" * 10**6])
def test_what_is_no_path(name: str) -> None:
    with pytest.raises(Unusable):
        safe_path(name)
    assert len(safe_path("/" * (MOST_SEGMENTS - 1))) == MOST_SEGMENTS


@pytest.mark.parametrize(("name", "other"), [("A", "a"), ("caf\u00e9", "cafe\u0301"), ("CAF\u00c9", "cafe\u0301")])
def test_names_that_may_be_one(name: str, other: str) -> None:
    assert name_key(name) == name_key(other)
    assert name_key("a") != name_key("b")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/db/doc/film.mp4", "film.mp4"),
        ("/db/doc/a%20b", "a b"),
        ("/db/doc/a%2Fb", "b"),
        ("/db/doc/", "doc"),
        ("/db/a%2F..%2Fb/", "b"),
        ("/db/doc/..%2F..%2Fetc%2Fpasswd", "passwd"),
        ("/db/doc/%FF", "\N{REPLACEMENT CHARACTER}"),
        ("/db/doc/%2E%2E", "download"),
        ("/", "download"),
        ("", "download"),
    ],
)
def test_names_of_addresses(path: str, name: str) -> None:
    assert name_of(parse_location(f"http://h{path}?token=x")) == name


def test_what_is_shown_moves_no_cursor() -> None:
    assert shown("a\x1b]0;x\x07\r\n\u202eb") == "a\ufffd]0;x\ufffd\ufffd\ufffd\ufffdb"
