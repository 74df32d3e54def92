"""Content-Disposition: what is offered is read back by other parsers, and is harmless."""

import email.message
import re
import unicodedata
from typing import Literal
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from werkzeug.http import parse_options_header

from tests import strategies
from txcouchdl.protocol.disposition import MAX_NAME_BYTES, content_disposition

# The grammar of RFC 6266 section 4.1 and RFC 8187 section 3.2.1, without escapes in the quoted-string, which
# not every client undoes.
_VALUE = re.compile(
    r"""(inline|attachment);\ filename="([^"\\\x00-\x1f\x7f]*)"
        (?:;\ filename\*=UTF-8''((?:[A-Za-z0-9!#$&+.^_`|~-]|%[0-9A-F]{2})+))?""",
    re.VERBOSE,
)


def _read(value: str) -> tuple[str, str, str | None]:
    """The disposition type, the plain filename, and the exact one where there is one."""
    found = _VALUE.fullmatch(value)
    assert found, value
    exact = None if found[3] is None else unquote(found[3], errors="strict")
    return found[1], found[2], exact


def _offered(filename: str) -> str:
    _, plain, exact = _read(content_disposition("attachment", filename))
    return plain if exact is None else exact


@given(strategies.hostile_names)
def test_any_name_gives_a_safe_value(filename: str) -> None:
    value = content_disposition("attachment", filename)
    kind, plain, exact = _read(value)
    assert kind == "attachment"
    assert value.isascii()
    assert value.isprintable()
    assert len(value) < 1024
    assert exact != plain
    # Nothing that any client would decode.
    assert not re.search(r"%[0-9A-Fa-f]{2}|=\?", plain)


@given(strategies.hostile_names)
@example("../../etc/passwd")
@example("..\\..\\boot.ini")
@example("evil\u202etxt.exe")
def test_any_name_offered_is_one_harmless_segment(filename: str) -> None:
    _, plain, exact = _read(content_disposition("inline", filename))
    for name in (plain, plain if exact is None else exact):
        assert name not in ("", ".", "..")
        assert not set(name) & set("/\\")
        assert name == name.strip()
        assert len(name.encode()) <= MAX_NAME_BYTES
        categories = {unicodedata.category(character) for character in name if character not in "\u200c\u200d"}
        assert not categories & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(strategies.friendly_names)
@example("naïve € rates.pdf")
@example("100% sure.txt")
@example("%41.txt")
@example("it's.txt")
@example("a; filename=b.txt")
@example("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.txt")  # Persian
@example("👩\u200d👧.png")
def test_a_harmless_name_is_offered_as_it_is(filename: str) -> None:
    assert _offered(filename) == filename.strip()


@given(strategies.friendly_names | strategies.hostile_names)
def test_werkzeug_reads_the_name(filename: str) -> None:
    kind, options = parse_options_header(content_disposition("attachment", filename))
    assert kind == "attachment"
    assert options == {"filename": _offered(filename)}


@given(strategies.friendly_names | strategies.hostile_names)
def test_a_mail_parser_reads_the_plain_name(filename: str) -> None:
    value = content_disposition("attachment", filename)
    message = email.message.Message()
    message["Content-Disposition"] = value
    assert message.get_content_disposition() == "attachment"
    assert message.get_filename() == _read(value)[1]


@pytest.mark.parametrize("kind", ["inline", "attachment"])
def test_an_easy_name_is_written_once(kind: Literal["inline", "attachment"]) -> None:
    assert content_disposition(kind, "report 1.pdf") == f'{kind}; filename="report 1.pdf"'


@pytest.mark.parametrize(
    ("filename", "value"),
    [
        ("€.txt", "filename=\"_.txt\"; filename*=UTF-8''%E2%82%AC.txt"),
        ('a"b.txt', "filename=\"a_b.txt\"; filename*=UTF-8''a%22b.txt"),
        ("%41.txt", "filename=\"_41.txt\"; filename*=UTF-8''%2541.txt"),
        ("%4.txt", 'filename="%4.txt"'),
        ("100%.txt", 'filename="100%.txt"'),
        ("=?x?=", "filename=\"_?x?=\"; filename*=UTF-8''%3D%3Fx%3F%3D"),
        ("é'()*~!.x", "filename=\"_'()*~!.x\"; filename*=UTF-8''%C3%A9%27%28%29%2A~!.x"),
        ("é#$&+-.^_`|~", "filename=\"_#$&+-.^_`|~\"; filename*=UTF-8''%C3%A9#$&+-.^_`|~"),
        ("a\r\nSet-Cookie: b", 'filename="a__Set-Cookie: b"'),
        ("a\ud800b", 'filename="a_b"'),
        ("a\u2028b\u200bc", 'filename="a_b_c"'),
        ("dir/sub\\file.bin", 'filename="file.bin"'),
        (" padded ", 'filename="padded"'),
        (".profile", 'filename=".profile"'),
        ("...", 'filename="..."'),
    ],
)
def test_values(filename: str, value: str) -> None:
    assert content_disposition("attachment", filename) == f"attachment; {value}"


@pytest.mark.parametrize("filename", ["", ".", "..", " ", " .. ", "a/", "a/..", "a\\.", "/", "\u3000", " " * 300])
def test_no_name_is_download(filename: str) -> None:
    assert _offered(filename) == "download"


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("a" * 240, "a" * 240),
        ("a" * 241, "a" * 240),
        ("a" * 236 + ".txt", "a" * 236 + ".txt"),
        ("a" * 300 + ".txt", "a" * 236 + ".txt"),
        ("é" * 300 + ".txt", "é" * 118 + ".txt"),
        ("x" + "é" * 300 + ".txt", "x" + "é" * 117 + ".txt"),
        ("a" * 300 + "." + "b" * 31, "a" * 208 + "." + "b" * 31),
        ("a" * 300 + "." + "b" * 32, "a" * 240),
        ("." + "a" * 300, "." + "a" * 239),
        ("a" + " " * 300 + "b", "a"),
    ],
)
def test_a_long_name_is_cut_before_its_extension(filename: str, expected: str) -> None:
    assert _offered(filename) == expected
