"""``couchdl link`` and ``couchdl token``: what they print opens what it says, and shows no token."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import time
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from click.testing import CliRunner, Result

from tests.cli import vectors
from tests.cli.command import Ended, run
from tests.clients.served import DATABASE, Served, digest_of
from tests.nodes import UNMEASURED
from tests.running import ANY_PORT, curl, environment, nobody, running
from txcouchdl.cli.bearer import token_from
from txcouchdl.cli.main import cli

TOKEN = "token-that-nobody-is-to-see"
DOCUMENT = "linked"
CONTENT = bytes(range(256)) * 9
NAME = "a/b c%+é.bin"
SECRET = b"0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module", params=[None, SECRET], ids=["by the token", "with a secret"])
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Served, list[str]]]:
    """A gateway, and what its links need besides."""
    directory = tmp_path_factory.mktemp("gateway")
    options = ["--store", "store", "--store-listen", ANY_PORT, "-l", ANY_PORT]
    more = []
    if request.param is not None:
        (directory / "secret").write_bytes(request.param + b"\n")
        more = ["--link-secret-file", str(directory / "secret")]
    with running(directory, *options, *more, **UNMEASURED) as process:
        served = Served(process, directory / "store")
        created = served._call("PUT", f"/{DATABASE}/{DOCUMENT}", json.dumps({"download_token": TOKEN}).encode())
        served._revs[DOCUMENT] = created["rev"]
        served.put(DOCUMENT, NAME, CONTENT, "application/x-thing")
        yield served, more


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COUCHDL_TOKEN", raising=False)


def couchdl(*arguments: str, token: str | None = TOKEN, typed: str | None = None) -> Result:
    """In this process; what is printed shows no token, whatever happens."""
    variables = {} if token is None else {"COUCHDL_TOKEN": token}
    result = CliRunner().invoke(cli, list(arguments), env=variables, input=typed)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert TOKEN not in result.output
    return result


def process(*arguments: str, token: str = TOKEN) -> Ended:
    """In one of its own."""
    ended = run(Path.cwd(), *arguments, COUCHDL_TOKEN=token)
    assert TOKEN not in ended.out + ended.err
    return ended


def address(served: Served, name: str = NAME) -> str:
    return f"http://127.0.0.1:{served.port}/{DATABASE}/{DOCUMENT}/{quote(name, safe='')}"


def printed(result: Result) -> str:
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    assert not result.stderr
    return line


def test_a_link_opens(gateway: tuple[Served, list[str]]) -> None:
    served, more = gateway
    for url in (address(served), address(served, ""), address(served).replace("%2F", "/")):
        link = printed(couchdl("link", url, "--expires", "2h", *more))
        assert urlsplit(link).path == urlsplit(url).path
        fetched = curl(link)
        assert fetched.status == 200
    assert curl(printed(couchdl("link", address(served), "--expires", "2h", *more))).body == CONTENT
    wrong = printed(couchdl("link", address(served), "--expires", "2h", *more, token="wrong"))
    assert curl(wrong).status == 403


def test_everything_that_a_link_says(gateway: tuple[Served, list[str]]) -> None:
    served, more = gateway
    said = ["--grace", "1m", "--download", "mein name.bin", *more]
    before = time()
    link = printed(
        couchdl("link", f"{address(served)}?digest={quote(digest_of(CONTENT))}&x=1", "--expires", "2h", *said)
    )
    query = parse_qs(urlsplit(link).query)
    assert before + 7200 <= int(query["expires"][0]) <= time() + 7201
    assert query["grace"] == ["60"]
    assert query["x"] == ["1"]
    fetched = curl(link)
    assert fetched.status == 200
    assert fetched.headers["content-disposition"] == 'attachment; filename="mein name.bin"'


def test_a_pin(gateway: tuple[Served, list[str]]) -> None:
    served, more = gateway
    served.put(DOCUMENT, "pinned.bin", b"one", "application/x-thing")
    finished = process("link", address(served, "pinned.bin"), "--expires", "1h", "--pin", *more)
    assert (finished.status, finished.err) == (0, "")
    link = finished.out.strip()
    assert parse_qs(urlsplit(link).query)["digest"] == [digest_of(b"one")]
    assert curl(link).body == b"one"
    served.put(DOCUMENT, "pinned.bin", b"two", "application/x-thing")
    assert curl(link).status == 412


@pytest.mark.parametrize(("token", "name", "status"), [("wrong", NAME, 3), (TOKEN, "none", 3)])
def test_a_pin_of_what_does_not_open(gateway: tuple[Served, list[str]], token: str, name: str, status: int) -> None:
    served, more = gateway
    finished = process("link", address(served, name), "--expires", "1h", "--pin", *more, token=token)
    assert (finished.status, finished.out) == (status, "")
    assert finished.err.startswith("couchdl: ")


def test_a_pin_without_a_gateway() -> None:
    with nobody() as port:
        finished = process("link", f"http://127.0.0.1:{port}/db/doc/x", "--expires", "1h", "--pin", "--retries", "0")
    assert (finished.status, finished.out) == (1, "")


@pytest.mark.parametrize("vector", vectors.VECTORS, ids=lambda vector: str(vector["name"]))
def test_the_vectors_of_the_documentation(vector: dict[str, object], tmp_path: Path) -> None:
    path, arguments = vectors.command_line(vector, tmp_path)
    # A digest is the gateway's to tell, or stands in the address.
    digest = f"?digest={quote(str(vector['digest']), safe='')}" if "digest" in vector else ""
    link = printed(couchdl("link", f"https://files.example{path}{digest}", *arguments, token=None))
    assert link == f"https://files.example{path}?{vector['query']}"


# Where the token is from.


def query_of(result: Result) -> str:
    """Of the end is another one each time."""
    return printed(result).partition("?")[2]


ENDS = ("--expires", "2100-01-01T00:00Z")
URL = "http://files.example/db/doc/x"


def test_the_token_of_each_source(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    expected = query_of(couchdl("link", URL, *ENDS))
    from_file = ("--token-file", str(tmp_path / "token"))
    assert query_of(couchdl("link", URL, *ENDS, *from_file, token="other")) == expected
    assert query_of(couchdl("link", f"{URL}?token={TOKEN}", *ENDS, token="other")) == expected
    assert query_of(couchdl("link", f"{URL}?token=other", *ENDS, *from_file)) == expected
    asked = couchdl("link", URL, *ENDS, token=None, typed=f"{TOKEN}\n")
    assert asked.exit_code == 0
    assert asked.stdout.endswith(f"{expected}\n")
    assert "Token:" in asked.output


def test_a_token_beyond_ascii_on_a_machine_that_speaks_nothing_else() -> None:
    expected = query_of(couchdl("link", URL, *ENDS, token="пароль"))
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "COUCHDL_TOKEN": "пароль"}
    for url, variables in (
        (f"{URL}?token={quote('пароль')}", ascii_only | {"COUCHDL_TOKEN": "other"}),
        (URL, ascii_only),
    ):
        finished = subprocess.run(
            [str(Path(sys.executable).with_name("couchdl")), "link", url, *ENDS],
            capture_output=True,
            text=True,
            env=environment(variables),
            check=False,
            timeout=60,
        )
        assert (finished.returncode, finished.stdout) == (0, f"{URL}?{expected}\n"), finished.stderr


def test_a_files_token_is_the_same_for_all_commands(tmp_path: Path) -> None:
    """White space around it is not part of it, as for those that show it in a field."""
    (tmp_path / "token").write_text(f" {TOKEN}\r\n\n")
    from_file = query_of(couchdl("link", URL, *ENDS, "--token-file", str(tmp_path / "token"), token=None))
    assert from_file == query_of(couchdl("link", URL, *ENDS))
    found = token_from(tmp_path / "token", {})
    assert found is not None
    assert found.text == TOKEN


def test_no_token_at_all() -> None:
    assert couchdl("link", URL, *ENDS, token=None, typed="").exit_code == 1
    finished = subprocess.run(
        [str(Path(sys.executable).with_name("couchdl")), "link", URL, *ENDS],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={name: value for name, value in os.environ.items() if name != "COUCHDL_TOKEN"},
        check=False,
        timeout=60,
    )
    assert (finished.returncode, finished.stdout) == (1, b"")


def test_a_token_beyond_ascii(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes("пароль".encode())
    from_file = query_of(couchdl("link", URL, *ENDS, "--token-file", str(tmp_path / "token"), token=None))
    assert query_of(couchdl("link", URL, *ENDS, token="пароль")) == from_file
    assert query_of(couchdl("link", f"{URL}?token={quote('пароль')}", *ENDS, token=None)) == from_file


# What is refused.


@pytest.mark.parametrize(
    "arguments",
    [
        ("link", URL),
        ("link", "--expires", "1h"),
        ("link", URL, "--expires", "1"),
        ("link", URL, "--expires", "2020-01-01T00:00Z"),
        ("link", URL, *ENDS, "--grace", "x"),
        ("link", "http://files.example/db/doc", *ENDS),
        ("link", "http://files.example/", *ENDS),
        ("link", "http://files.example/db/%ff/x", *ENDS),
        ("link", "ftp://files.example/db/doc/x", *ENDS),
        ("link", f"http://user:{TOKEN}@files.example/db/doc/x", *ENDS),
        ("link", "http://files.example/db/doc/", *ENDS, "--pin"),
        ("link", "http://files.example/db/doc/", *ENDS, "--download", "x"),
        ("link", "http://files.example/db/doc/?digest=md5-x", *ENDS),
        ("link", URL, *ENDS, "--link-secret-file", "/nonexistent"),
        ("link", URL, *ENDS, "--link-secret-file", os.devnull),
        ("link", URL, *ENDS, "--token", TOKEN),
    ],
)
def test_what_is_no_order(arguments: tuple[str, ...]) -> None:
    result = couchdl(*(each for each in arguments))
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.mark.parametrize(("content", "status"), [(None, 5), (b"", 2), (b"\n", 2)])
def test_a_token_file_without_a_token(content: bytes | None, status: int, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    result = couchdl("link", URL, *ENDS, "--token-file", str(tmp_path / "token"))
    assert (result.exit_code, result.stdout) == (status, "")


# Other addresses.


def test_a_gateway_below_a_path() -> None:
    url = "https://files.example/couch/db/doc/x"
    plain = query_of(couchdl("link", URL, *ENDS))
    for prefix in ("/couch", "/couch/"):
        link = printed(couchdl("link", url, *ENDS, "--prefix", prefix))
        assert link == f"{url}?{plain}"
    assert query_of(couchdl("link", url, *ENDS)) != plain


def test_a_link_of_a_link() -> None:
    """What it said is said anew."""
    first = printed(couchdl("link", URL, "--expires", "1h", "--grace", "0", "--download", "n"))
    second = printed(couchdl("link", first, *ENDS))
    assert second == printed(couchdl("link", URL, *ENDS, "--download", "n"))


def test_a_token() -> None:
    tokens = {printed(couchdl("token")) for _ in range(20)}
    assert len(tokens) == 20
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", token) for token in tokens)
