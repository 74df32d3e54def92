"""Whatever stands on the command line, in the environment and in the file: settings, or one line that says why not."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from unittest.mock import patch

from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy, composite

from tests import strategies
from txcouchdl.options import Options
from txcouchdl.options.table import OPTIONS
from txcouchdl.settings import Settings, StartError

SECRET: Final = "QXZJ-pa55word-QXZJ"

#: What options take, and nearly.
_PLAIN: Final = [
    *("0", "1", "2", "8", "60", "4096", "1e3", "-1", "0.5", "1.", "٣", "9" * 30, "", " ", "true", "1 "),
    *(
        "tcp:8000",
        "tcp:0:interface=127.0.0.1",
        "unix:s",
        "ssl:1",
        "tcp:",
        "tcp:x",
        ":",
        "tcp:1:backlog=x",
        "systemd:x=y",
    ),
    *("http://couch:5984", "http://", "ftp://h", "http://h:99999", "http://[", "//h", "http://h/\n", "http://h:x"),
    *("10.0.0.0/8", "::1", "10.0.0.1/8", "unix", "fe80::1%eth0", "256.1.1.1", "::ffff:1.2.3.4/100", "0.0.0.0/0"),
    *("https://www.example.org", "*", "null", "http://h:80", "text/html", "application/pdf; q=1", "a/b/c", "image/*"),
    *("music", "media-*", "[", "**", "a.b.c", "a..b", ".", "download_token", "combined", "json", "-", "--", "=", ","),
    *("\x00", "\n", "\ud800", "\udcff", "é", "x" * 5_000, "%", "{", "}", "{0}", "%s", "/", ".", "..", "~"),
]
#: The same of the one option that has a secret in it.
_NODES: Final = [
    *(f"http://u:{SECRET}@couch", f"https://u:{SECRET}@[::1]:1/p", f"http://:{SECRET}@h:x", f"http://u:{SECRET}@h?q"),
    *(f"http://{SECRET}%@h", f"http://u:{SECRET}@", f"http://u:{SECRET}@h:99999", f"http://u:{SECRET}@[h"),
    *(f"http://u:{SECRET}@h,http://u:{SECRET}@h", f"http://u:{SECRET}\n@h", f"http://u:{SECRET}é@h", f"u:{SECRET}@h"),
]

_BY_NAME: Final = {option.name: option for option in OPTIONS}
# Of the others, one is tried by name below, and one looks for endpoints.
_NAMES: Final = st.sampled_from([name for name in _BY_NAME if name not in {"config", "check"}])


def _values_of(name: str) -> SearchStrategy[str]:
    values = st.sampled_from(_PLAIN) | st.text(max_size=12) | strategies.names
    return st.sampled_from(_NODES) | values if name == "couchdb" else values


@composite
def _arguments(draw: DrawFn) -> list[str]:
    name = draw(_NAMES)
    value, letter = draw(_values_of(name)), _BY_NAME[name].short or name[0]
    ways = [[f"--{name}={value}"], [f"--{name}", value], [f"--{name}"], [f"-{letter}", value], [f"-{letter}{value}"]]
    return draw(st.sampled_from(ways) | st.lists(st.text(max_size=5), max_size=2))


def _quoted(text: str) -> str:
    """As TOML has it, which knows no half of a surrogate pair."""
    return '"' + "".join(f"\\U{ord(each):08x}" if not 0xD800 <= ord(each) < 0xE000 else "?" for each in text) + '"'


@composite
def _lines(draw: DrawFn) -> str:
    """A line of a configuration file, or nearly."""
    if not draw(st.integers(0, 3)):
        return draw(
            st.sampled_from(["[table]", "config = 'x'", "check = true", "#", "=", "a.b = 1", "listen", '"" = 1'])
        )
    name = draw(_NAMES)
    literals = ["true", "false", "[]", "{}", "[1]", '["a", 1]', "1979-05-27", "inf", "nan", "0x10", "1_000", "[[]]"]
    numbers = st.integers().map(str) | st.floats().map(str)
    return f"{name} = {draw(_values_of(name).map(_quoted) | numbers | st.sampled_from(literals))}"


_FILES: Final = st.one_of(
    st.lists(_lines(), max_size=4).map(lambda lines: "\n".join(lines).encode("utf-8", "replace")),
    st.binary(max_size=30),
)


@composite
def _environments(draw: DrawFn) -> dict[str, str]:
    """Variables, as the environment of a process may have them."""
    names = draw(st.lists(_NAMES, max_size=3, unique=True))
    return {_BY_NAME[name].variable: draw(_values_of(name)).replace("\x00", "") for name in names}


@contextlib.contextmanager
def only(environment: dict[str, str]) -> Iterator[None]:
    """With these variables, and no others. They are not put into the process' own: not every text can be there."""
    with patch("txcouchdl.options.command_line.os.environ", environment):
        yield


def settled(arguments: list[str]) -> Settings | str:
    """:return: the settings, or the line that says why there are none."""
    options: Any = Options()
    try:
        options.parseOptions(arguments)
    except StartError as error:
        return str(error)
    settings: Settings = options.settings
    return settings


@given(
    st.lists(_arguments(), max_size=4).map(lambda parts: [each for part in parts for each in part]),
    _environments(),
    st.none() | _FILES,
)
@example([], {}, b"\xff")
@example([], {}, b"listen = " + b"[" * 5_000)
@example([], {}, b"couchdb = [[1]]\n")
@example([], {"COUCHDB_URL": f"http://u:{SECRET}@h, http://u:{SECRET}@h"}, None)
@example(["--no-such-option"], {}, None)
def test_whatever_is_said(arguments: list[str], environment: dict[str, str], file: bytes | None) -> None:
    with TemporaryDirectory() as directory, only(environment), contextlib.redirect_stdout(io.StringIO()):
        if file is not None:
            path = Path(directory, "couchdl.toml")
            path.write_bytes(file)
            arguments = [f"--config={path}", *arguments]
        # Two of twistd's own show something, and end the process.
        result = settled([each for each in arguments if each not in {"--help", "--version"}])
    if isinstance(result, str):
        assert len(result.splitlines()) == 1
        assert result.startswith("twistd couchdl: ")
        assert SECRET not in result
    else:
        assert SECRET not in repr(result)
