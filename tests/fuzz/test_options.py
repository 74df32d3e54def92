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
from hypothesis.strategies import DrawFn, composite

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
    *(
        "http://couch:5984",
        f"http://u:{SECRET}@couch",
        f"https://u:{SECRET}@[::1]:1/p",
        f"http://:{SECRET}@h:x",
        "http://",
    ),
    *("ftp://h", f"http://u:{SECRET}@h?q", "http://h:99999", "http://[", f"http://{SECRET}%@h", "//h", "http://h/\n"),
    *("10.0.0.0/8", "::1", "10.0.0.1/8", "unix", "fe80::1%eth0", "256.1.1.1", "::ffff:1.2.3.4/100", "0.0.0.0/0"),
    *("https://www.example.org", "*", "null", "http://h:80", "text/html", "application/pdf; q=1", "a/b/c", "image/*"),
    *("music", "media-*", "[", "**", "a.b.c", "a..b", ".", "download_token", "combined", "json", "-", "--", "=", ","),
    *("\x00", "\n", "\ud800", "\udcff", "é", "x" * 5_000, "%", "{", "}", "{0}", "%s", "/", ".", "..", "~"),
]
_VALUES: Final = st.sampled_from(_PLAIN) | st.text(max_size=12) | strategies.names

# These would read files that are not there, or begin to check endpoints; both are tried by name below.
_NAMES: Final = st.sampled_from([option.name for option in OPTIONS if option.name not in {"config", "check"}])


@composite
def _arguments(draw: DrawFn) -> list[str]:
    name, value = draw(_NAMES), draw(_VALUES)
    return draw(
        st.sampled_from([[f"--{name}={value}"], [f"--{name}", value], [f"--{name}"], [value], [f"-{name[0]}", value]])
    )


#: What TOML can say, as Python has it; and what cannot be TOML.
_TOML_VALUES: Final = st.one_of(
    _VALUES.map(
        lambda text: '"' + "".join(f"\\u{ord(each):04x}" if ord(each) < 0xD800 else "?" for each in text) + '"'
    ),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(
        ["true", "false", "[]", "{}", "[1]", '["a", 1]', "1979-05-27", "inf", "nan", "0x10", "1_000", "[[]]"]
    ),
)
_LINES: Final = st.one_of(
    st.tuples(_NAMES, _TOML_VALUES).map(" = ".join),
    st.sampled_from(["[table]", "config = 'x'", "check = true", "", "#", "=", "a.b = 1", "listen", '"" = 1', "[[x]]"]),
)
_FILES: Final = st.lists(_LINES, max_size=4).map(lambda lines: "\n".join(lines).encode("utf-8", "replace")) | st.binary(
    max_size=30
)
# As the environment of a process may be.
_VARIABLES: Final = st.dictionaries(
    st.sampled_from([option.variable for option in OPTIONS if option.name not in {"config", "check"}]),
    _VALUES.map(lambda text: text.replace("\x00", "")),
    max_size=3,
)


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
    _VARIABLES,
    st.none() | _FILES,
)
@example([], {}, b"\xff")
@example([], {}, b"listen = " + b"[" * 5_000)
@example([], {"COUCHDB_URL": f"http://u:{SECRET}@h, http://u:{SECRET}@h"}, None)
@example(["--no-such-option"], {}, None)
def test_whatever_is_said(arguments: list[str], environment: dict[str, str], file: bytes | None) -> None:
    output = io.StringIO()
    with TemporaryDirectory() as directory, only(environment), contextlib.redirect_stdout(output):
        if file is not None:
            path = Path(directory, "couchdl.toml")
            path.write_bytes(file)
            arguments = [*arguments, f"--config={path}"]
        # twistd's own, which end the process by showing something.
        result = settled([each for each in arguments if each not in {"--help", "--version"}])
    if isinstance(result, str):
        assert len(result.splitlines()) == 1
        assert result.startswith("twistd couchdl: ")
        assert SECRET not in result
    else:
        assert SECRET not in repr(result)
