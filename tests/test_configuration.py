"""Where options may stand: on the command line, in the environment, in a file; and which of these is heeded."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from tests.running import complaints, environment, twistd
from tests.test_options import DEFAULTS, bare_environment, refusal, settings
from txcouchdl.couch.nodes import Node
from txcouchdl.gateway.access_log import LineFormat
from txcouchdl.gateway.databases import AllowedDatabases
from txcouchdl.gateway.peers import TrustedProxies
from txcouchdl.gateway.tokens import TokenRule
from txcouchdl.options.sources import BadOption, in_file
from txcouchdl.options.table import NUMBERS, OPTIONS, Option
from txcouchdl.settings import Settings, StoreSettings

__all__ = ["bare_environment"]

SECRET = "s3cret-of-couch"
LINK_SECRET = "0123456789abcdef0123456789abcdef"

IN_FILE = [option for option in OPTIONS if option.is_in_file]
SWITCHES = [option for option in OPTIONS if option.is_switch]


def each_of(options: list[Option]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("option", options, ids=lambda option: str(option.name))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "couchdl.toml"


def by_file(file: Path, text: str, *arguments: str) -> Settings:
    file.write_text(text)
    return settings("--config", str(file), *arguments)


def refused_file(file: Path, text: str | bytes) -> str:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    sentence = refusal("--config", str(file))
    assert repr(str(file)) in sentence
    return sentence


def value_of(option: Option, number: int, directory: Path) -> str:
    """One of several values that an option may have."""
    if option.is_switch:
        return "01"[number]
    if option in NUMBERS:
        # Numbers of bytes have a least one.
        return str((70_000 if option.name in {"max-document", "document-memory"} else 44) + number)
    if option.name == "link-secret-file":
        path = directory / f"secret-{number}"
        path.write_text(LINK_SECRET + str(number))
        return str(path)
    one, other = {
        "listen": ("tcp:1", "tcp:2"),
        "couchdb": (f"http://a:{SECRET}@one", "http://two"),
        "token-key": ("one", "data.two"),
        "database": ("one", "two-*"),
        "store": ("one", "two"),
        "store-listen": ("tcp:3", "tcp:4"),
        "trusted-proxy": ("192.0.2.1", "unix"),
        "cors-origin": ("https://one.example", "*"),
        "inline": ("application/pdf", "text/html"),
        "admin-listen": ("tcp:5", "unix:/run/admin"),
        "access-log": ("one.log", "-"),
        "access-log-format": ("json", "combined"),
    }[option.name]
    return (one, other)[number]


def company(option: Option) -> list[str]:
    """What an option cannot do without."""
    others = {
        "store-listen": ["--store=x"],
        "stall-timeout": ["--give-up=86400"],
        "give-up": ["--stall-timeout=1"],
        "document-memory": ["--max-document=65536"],
        "access-log-max-size": ["--access-log=x"],
    }
    return others.get(option.name, [])


def in_toml(option: Option, text: str) -> str:
    switched = {"1": "true", "0": "false"}
    value = switched[text] if option.is_switch else text if option in NUMBERS else f'"{text}"'
    return f"{option.name} = {value}\n"


def on_the_line(option: Option, text: str) -> list[str]:
    if option.is_switch:
        return [f"--{option.name}"] if text == "1" else []
    return [f"--{option.name}={text}"]


@each_of(IN_FILE)
def test_a_variable_beats_a_file_and_an_option_beats_both(
    option: Option, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (value_of(option, number, tmp_path) for number in (0, 1))
    expected = {text: settings(*company(option), *on_the_line(option, text)) for text in (one, other)}
    assert expected[one] != expected[other]
    for said, else_said in ((one, other), (other, one)):
        assert by_file(file, in_toml(option, said), *company(option)) == expected[said]
        monkeypatch.setenv(option.variable, said)
        assert settings(*company(option)) == expected[said]
        assert by_file(file, in_toml(option, else_said), *company(option)) == expected[said]
        if not option.is_switch:
            line = on_the_line(option, else_said)
            assert by_file(file, in_toml(option, said), *company(option), *line) == expected[else_said]
        monkeypatch.setenv(option.variable, "")
        assert by_file(file, in_toml(option, said), *company(option)) == expected[said]
        monkeypatch.delenv(option.variable)


def test_an_empty_file_says_nothing(file: Path) -> None:
    assert by_file(file, "") == by_file(file, "# nothing\n") == DEFAULTS


def test_a_file_of_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file.write_text('token-key = "one"\n')
    monkeypatch.setenv("COUCHDL_CONFIG", str(file))
    assert settings().rule == TokenRule("one")
    other = tmp_path / "other.toml"
    other.write_text('token-key = "two"\n')
    assert settings("--config", str(other)).rule == TokenRule("two")


def test_a_whole_file(file: Path) -> None:
    chosen = by_file(
        file,
        """
        couchdb = ["http://a:p%40ss@one:5984", "http://two"]
        listen = "tcp:8000"
        admin-listen = ["tcp:9000:interface=127.0.0.1"]
        token-key = "data.secret"
        database = ["music", "media-*"]
        behind-proxy = true
        stall-timeout = 2.5
        drain = 0
        workers = 0
        access-log = "/var/log/couchdl/access.log"
        access-log-format = "json"
        """,
    )
    assert chosen == evolve(
        DEFAULTS,
        nodes=(Node.of("http://one:5984", "a", "p@ss"), Node("http://two")),
        listen=("tcp:8000",),
        admin_listen=("tcp:9000:interface=127.0.0.1",),
        rule=TokenRule("data.secret"),
        databases=AllowedDatabases(("music", "media-*")),
        proxies=TrustedProxies.parse(["127.0.0.0/8", "::1", "unix"]),
        upstream=evolve(DEFAULTS.upstream, stall_timeout=2.5),
        drain=0.0,
        workers=0,
        access_log="/var/log/couchdl/access.log",
        access_log_format=LineFormat.JSON,
    )


# Where the documents are: the strongest source has its way.


@pytest.mark.parametrize("strong", ["store", "demo", "couchdb"])
@pytest.mark.parametrize("weak", ["store", "demo", "couchdb"])
def test_where_the_documents_are(
    strong: str, weak: str, file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = {option.name: option for option in OPTIONS}
    if strong == weak:
        return
    stated = {name: value_of(options[name], 1, tmp_path) for name in (strong, weak)}
    alone = settings(*on_the_line(options[strong], stated[strong]))
    text = in_toml(options[weak], stated[weak])
    assert by_file(file, text, *on_the_line(options[strong], stated[strong])) == alone
    monkeypatch.setenv(options[strong].variable, stated[strong])
    assert by_file(file, text) == alone
    monkeypatch.delenv(options[strong].variable)
    monkeypatch.setenv(options[weak].variable, stated[weak])
    assert settings(*on_the_line(options[strong], stated[strong])) == alone
    assert "--" in refused_two(file, text + in_toml(options[strong], stated[strong]))


def refused_two(file: Path, text: str) -> str:
    for name in ("COUCHDB_URL", "COUCHDL_STORE", "COUCHDL_DEMO"):
        os.environ.pop(name, None)
    file.write_text(text)
    return refusal("--config", str(file))


def test_a_stores_endpoint_in_a_file_waits_for_a_store(file: Path) -> None:
    text = 'store = "x"\nstore-listen = "tcp:3"\n'
    assert by_file(file, text).store == StoreSettings(Path("x"), "tcp:3")
    assert by_file(file, text, "-c", "http://couch").store is None
    assert "--store-listen needs" in refused_two(file, 'store-listen = "tcp:3"\n')


def test_a_demo_that_is_switched_off(file: Path) -> None:
    assert by_file(file, "demo = false\n", "-c", "http://couch").nodes == (Node("http://couch"),)
    assert by_file(file, 'demo = false\nstore = "x"\n').store is not None


# What is refused.


@pytest.mark.parametrize(
    ("key", "near"),
    [("stall_timeout", "stall-timeout"), ("listn", "listen"), ("zzz", ""), ("config", ""), ("check", ""), ("l", "")],
)
def test_what_is_no_option(key: str, near: str, file: Path) -> None:
    sentence = refused_file(file, f'"{key}" = "{SECRET}"\n')
    assert f"{key!r}, which is no option" in sentence
    assert f"{near}?" in sentence or not near


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("COUCHDL_STALL_TIMOUT", "COUCHDL_STALL_TIMEOUT"),
        ("COUCHDL_DATABASES", "COUCHDL_DATABASE"),
        ("COUCHDL_TOKEN_KEY", ""),
        ("COUCHDL_LINK_SECRET", "COUCHDL_LINK_SECRET_FILE"),
        ("COUCHDL_PORT", ""),
        ("COUCHDL_STALL_TIMEOUT_", "COUCHDL_STALL_TIMEOUT"),
        ("COUCHDL_", ""),
    ],
)
def test_a_variable_of_no_option(variable: str, near: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, SECRET)
    sentence = refusal()
    assert f"{variable!r}, which is no option" in sentence
    assert f": {near}?" in sentence or not near
    monkeypatch.setenv(variable, "")
    assert settings() == DEFAULTS, "an empty variable counts as unset"


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("COUCHDL_TOKEN", "secret"),
        ("COUCHDLX", "1"),
        ("couchdl_listen", "1"),
        # Those that Kubernetes sets for its services couchdl and couchdl-admin.
        ("COUCHDL_SERVICE_HOST", "10.0.0.1"),
        ("COUCHDL_SERVICE_PORT", "8000"),
        ("COUCHDL_SERVICE_PORT_HTTP", "8000"),
        ("COUCHDL_PORT", "tcp://10.0.0.1:8000"),
        ("COUCHDL_PORT_8000_TCP", "tcp://10.0.0.1:8000"),
        ("COUCHDL_PORT_8000_TCP_PROTO", "tcp"),
        ("COUCHDL_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ("COUCHDL_ADMIN_SERVICE_HOST", "10.0.0.1"),
        ("COUCHDL_ADMIN_PORT_8001_TCP_PORT", "8001"),
    ],
)
def test_variables_that_are_others(variable: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, text)
    assert settings() == DEFAULTS


def test_files_that_are_read_again_have_absolute_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """twistd may be in another directory by then."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_text(LINK_SECRET)
    (tmp_path / "couchdl.toml").write_text('link-secret-file = "secret"\n')
    chosen = settings("--config=couchdl.toml")
    assert chosen.secret_files == (str(tmp_path / "couchdl.toml"), str(tmp_path / "secret"))


@each_of(IN_FILE)
def test_a_value_of_the_wrong_kind(option: Option, file: Path) -> None:
    wrong = ["{}", "[1]", "1979-05-27", "[[]]", f'["{SECRET}", 1]', "[true]"]
    wrong += ['"1"', "1", "[true]"] if option.is_switch else ["true"]
    wrong += [f'"{SECRET}"', '["1"]'] if option in NUMBERS else []
    wrong += ["1", "1.5"] if not option.is_switch and option not in NUMBERS else []
    wrong += [] if option.is_repeatable else [f'["{SECRET}"]']
    for value in wrong:
        assert f"{option.name} in " in refused_file(file, f"{option.name} = {value}\n")


@each_of([option for option in IN_FILE if option.is_repeatable])
def test_a_list_of_nothing_is_no_value(option: Option, file: Path) -> None:
    """An empty list of databases would be taken for none of them by one reader, and for all by another."""
    assert f"{option.name} in " in refused_file(file, f"{option.name} = []\n")


@pytest.mark.parametrize("value", ["-1", "1e400", "inf", "nan", "0x_", "3601", "1e-7", "99999999999999999999999"])
def test_a_number_that_is_none(value: str, file: Path) -> None:
    assert "couchdl.toml" in refused_file(file, f"stall-timeout = {value}\n")


@pytest.mark.parametrize("value", ["1.0", "1.5", "1e3"])
def test_a_whole_number_that_is_none(value: str, file: Path) -> None:
    assert "workers in " in refused_file(file, f"workers = {value}\n")


@pytest.mark.parametrize(
    "text",
    ["=", f'couchdb = "http://a:{SECRET}@x', "a = 1\na = 2", b"\xff", "[listen]", "x" * 9, "\x00", "a=" + "[" * 9999],
)
def test_what_is_no_toml(text: str | bytes, file: Path) -> None:
    refused_file(file, text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "No such file" in refusal("--config", str(tmp_path / "none.toml"))
    assert "Is a directory" in refusal("--config", str(tmp_path))
    assert "--config" in refusal("--config", "a\0b")


@given(text=st.text(max_size=60) | st.text('abl-=[]{}"\n1.', max_size=60))
def test_any_file_is_options_or_a_sentence(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text, newline="")
    try:
        said: Any = in_file(str(path))
    except BadOption as error:
        said = {}
        assert str(error)  # noqa: PT017
    assert set(said) <= {option.name for option in IN_FILE}


# Some options of their own.


@pytest.mark.parametrize("globs", [("music",), ("music", "media-*"), ("[ab]?",)])
def test_databases(globs: tuple[str, ...]) -> None:
    assert settings(*(f"--database={glob}" for glob in globs)).databases == AllowedDatabases(globs)
    assert settings().databases == AllowedDatabases()


@pytest.mark.parametrize("text", [",", " ", " , "])
def test_a_variable_that_allows_nothing_does_not_allow_all(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a template leaves it whose parts are missing."""
    monkeypatch.setenv("COUCHDL_DATABASE", text)
    assert "COUCHDL_DATABASE says nothing" in refusal()
    monkeypatch.setenv("COUCHDL_DATABASE", "")
    assert settings().databases == AllowedDatabases()


def test_an_empty_pattern() -> None:
    assert "--database" in refusal("--database=")


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_link_secret(end: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(f"{LINK_SECRET}{end}", newline="")
    chosen = settings("--link-secret-file", str(path))
    assert chosen.link_secret == LINK_SECRET.encode()
    assert LINK_SECRET not in repr(chosen)


@pytest.mark.parametrize(
    ("content", "is_one"),
    [
        *((each, True) for each in (b"x" * 31 + b"\r", b"x" * 32, b"\n" * 33, b"x" * 4096, b"x" * 4096 + b"\r\n")),
        *((each, False) for each in (b"", b"x" * 31, b"x" * 31 + b"\n", b"x" * 4097, b"x" * 5000)),
    ],
)
def test_a_link_secret_that_is_too_short_or_too_long(content: bytes, is_one: bool, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    if is_one:
        assert settings("--link-secret-file", str(path)).link_secret is not None
    else:
        sentence = refusal("--link-secret-file", str(path))
        assert "xxx" not in sentence
        assert "--link-secret-file" in sentence


def test_a_link_secret_that_cannot_be_read(tmp_path: Path) -> None:
    assert "No such file" in refusal("--link-secret-file", str(tmp_path / "none"))
    assert "Is a directory" in refusal("--link-secret-file", str(tmp_path))
    assert "--link-secret-file" in refusal("--link-secret-file=a\0b")


@pytest.mark.parametrize("text", ["", "JSON", "common"])
def test_a_format_that_is_none(text: str) -> None:
    assert "takes combined or json" in refusal(f"--access-log-format={text}")


# --check.


@pytest.mark.parametrize(
    "arguments", [(), ("--store=x",), ("-l", "systemd:domain=INET:index=0", "--admin-listen=unix:/run/x")]
)
def test_a_check_that_finds_nothing(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        settings("--check", *arguments)
    assert caught.value.code == 0
    assert capsys.readouterr().out == "twistd couchdl: all is in order\n"


@pytest.mark.parametrize("option", ["--listen", "--admin-listen"])
@pytest.mark.parametrize("endpoint", ["nonsense", "tcp", "tcp:x", "ssl:1:privateKey=/nonexistent", ""])
def test_a_check_of_endpoints(option: str, endpoint: str) -> None:
    assert "is no endpoint" in refusal("--check", option, endpoint)


def test_a_check_of_the_stores_endpoint() -> None:
    assert "is no endpoint" in refusal("--check", "--store=x", "--store-listen=nonsense")


def test_a_check_leaves_nothing_behind(tmp_path: Path) -> None:
    """As an operator runs it, in front of a restart."""
    command = twistd("couchdl", "--check", "--store", "store", "-l", "tcp:0", "--access-log", "access.log")
    run = subprocess.run(command, cwd=tmp_path, env=environment({}), capture_output=True, timeout=60, check=False)
    assert (run.returncode, run.stdout) == (0, b"twistd couchdl: all is in order\n")
    assert not [each for each in tmp_path.iterdir() if each.name != "dropin.cache"]
    (told,) = complaints(tmp_path, "--check", "--stall-timeout=0")
    assert "--stall-timeout takes" in told
