"""The command line and the environment: what they come to, and what is refused."""

from pathlib import Path

import pytest

from txcouchdl.couch.nodes import Node
from txcouchdl.gateway.tokens import TokenRule
from txcouchdl.options import Options, Settings, StartError, StoreSettings

SECRET = "s3cret-of-couch"

DEFAULTS = Settings(
    listen=("tcp:8000:interface=127.0.0.1",),
    rule=TokenRule("download_token"),
    node=Node("http://localhost:5984"),
    store=None,
    is_demo=False,
)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COUCHDB_URL", "DOWNLOAD_TOKEN_KEY_NAME"):
        monkeypatch.delenv(name, raising=False)


def settings(*arguments: str) -> Settings:
    options = Options()
    options.parseOptions(list(arguments))
    return options.settings


def refusal(*arguments: str) -> str:
    """The one line with which a command line is refused."""
    with pytest.raises(StartError) as caught:
        settings(*arguments)
    sentence = str(caught.value)
    assert len(sentence.splitlines()) == 1
    assert sentence.startswith("twistd couchdl: ")
    assert SECRET not in sentence
    # What twistd prints of a SystemExit, and an exit status that is not 0.
    assert caught.value.code == sentence
    return sentence


def node(*arguments: str) -> Node:
    chosen = settings(*arguments).node
    assert chosen is not None
    return chosen


# What is understood.


def test_defaults() -> None:
    assert settings() == DEFAULTS


@pytest.mark.parametrize("option", ["-l", "--listen"])
def test_listen(option: str) -> None:
    assert settings(option, "unix:/run/couchdl").listen == ("unix:/run/couchdl",)


def test_several_endpoints_in_their_order() -> None:
    assert settings("-l", "tcp:1", "--listen=tcp:3", "-ltcp:2").listen == ("tcp:1", "tcp:3", "tcp:2")


@pytest.mark.parametrize("option", ["-c", "--couchdb"])
def test_couchdb(option: str) -> None:
    chosen = node(option, "https://adm:p%40ss@couch.example:6984/prefix/")
    assert chosen == Node.of("https://couch.example:6984/prefix", "adm", "p@ss")


@pytest.mark.parametrize("option", ["-k", "--token-key"])
@pytest.mark.parametrize("key", ["secret", "data.download_token", "a.b.c", "ключ", "with space"])
def test_token_key(option: str, key: str) -> None:
    assert settings(option, key).rule == TokenRule(key)


@pytest.mark.parametrize("option", ["-s", "--store"])
def test_store(option: str) -> None:
    chosen = settings(option, "some/dir")
    assert chosen.store == StoreSettings(Path("some/dir"), "tcp:5984:interface=127.0.0.1")
    assert (chosen.node, chosen.is_demo) == (None, False)


def test_store_listen() -> None:
    assert settings("--store", "dir", "--store-listen", "tcp:1").store == StoreSettings(Path("dir"), "tcp:1")


def test_demo() -> None:
    chosen = settings("--demo", "-l", "tcp:1", "-k", "a.b", "--store-listen", "tcp:2")
    store = StoreSettings(Path("couchdl-demo"), "tcp:2")
    assert chosen == Settings(("tcp:1",), TokenRule("a.b"), node=None, store=store, is_demo=True)


def test_the_last_of_two_that_are_not_repeatable() -> None:
    chosen = settings("-k", "one", "-k", "two", "-s", "one", "-s", "two")
    assert chosen.rule == TokenRule("two")
    assert chosen.store is not None
    assert chosen.store.directory == Path("two")


@pytest.mark.parametrize(
    ("url", "base"),
    [
        # Compose names its hosts like this.
        ("http://couch_db:5984", "http://couch_db:5984"),
        ("http://[::1]:5984", "http://[::1]:5984"),
        ("HTTP://couch:5984", "http://couch:5984"),
        ("http://127.0.0.1", "http://127.0.0.1"),
        (" http://couch:5984/ \n", "http://couch:5984"),
        ("http://bücher.example", "http://xn--bcher-kva.example"),
    ],
)
def test_hosts_that_people_have(url: str, base: str) -> None:
    assert node("-c", url).base == base


def test_help_names_every_option_and_its_default() -> None:
    text = Options().getUsage(width=120)
    for option in ("-l, --listen=", "-c, --couchdb=", "-k, --token-key=", "-s, --store=", "--store-listen=", "--demo"):
        assert option in text
    for default in (
        "tcp:8000:interface=127.0.0.1",
        "$COUCHDB_URL, then http://localhost:5984",
        "$DOWNLOAD_TOKEN_KEY_NAME, then download_token",
        "tcp:5984:interface=127.0.0.1",
    ):
        assert default in " ".join(text.split())


def test_help_is_evenly_spaced() -> None:
    """Docstrings of several lines leave their indentation in the middle of twistd's help."""
    for line in Options().getUsage(width=400).splitlines():
        description = line.partition("=")[2] if "=" in line else ""
        assert "  " not in description.strip()


def test_no_password_in_the_settings_own_words() -> None:
    chosen = settings("-c", f"http://adm:{SECRET}@couch")
    assert SECRET not in repr(chosen)
    assert "YWRt" not in repr(chosen), "base64 hides nothing"


# The environment.


def test_the_url_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUCHDB_URL", "http://adm:pass@couch:1234")
    assert node() == Node.of("http://couch:1234", "adm", "pass")


def test_an_option_beats_the_url_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUCHDB_URL", "http://environment")
    assert node("-c", "http://option").base == "http://option"


def test_the_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOWNLOAD_TOKEN_KEY_NAME", "data.secret")
    assert settings().rule == TokenRule("data.secret")


def test_an_option_beats_the_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOWNLOAD_TOKEN_KEY_NAME", "environment")
    assert settings("-k", "option").rule == TokenRule("option")


@pytest.mark.parametrize("url", ["", " ", ",", " , "])
def test_an_empty_environment_is_none(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``docker run -e COUCHDB_URL=`` leaves it."""
    monkeypatch.setenv("COUCHDB_URL", url)
    monkeypatch.setenv("DOWNLOAD_TOKEN_KEY_NAME", "")
    assert settings() == DEFAULTS


def test_a_comma_too_many_is_not_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUCHDB_URL", "http://couch,")
    assert node().base == "http://couch"


@pytest.mark.parametrize("embedded", [("--demo",), ("--store", "dir")])
@pytest.mark.parametrize("url", ["http://couch", "nonsense"])
def test_an_embedded_store_does_not_mind_the_url_of_the_environment(
    embedded: tuple[str, ...], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COUCHDB_URL", url)
    assert settings(*embedded).node is None


def test_a_bad_url_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUCHDB_URL", f"couch://adm:{SECRET}@host")
    assert "COUCHDB_URL" in refusal()


def test_a_bad_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOWNLOAD_TOKEN_KEY_NAME", "a..b")
    assert "DOWNLOAD_TOKEN_KEY_NAME" in refusal()


def test_several_nodes_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUCHDB_URL", f"http://a:{SECRET}@one,http://a:{SECRET}@two")
    assert "more than one" in refusal()


def test_an_option_beats_several_nodes_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUCHDB_URL", "http://one,http://two")
    assert node("-c", "http://option").base == "http://option"


# What is refused.


@pytest.mark.parametrize(
    "url",
    [
        "",
        "couch",
        "couch:5984",
        f"ftp://adm:{SECRET}@couch",
        f"//adm:{SECRET}@couch",
        f"adm:{SECRET}@couch:5984",
        f"http://adm:{SECRET}@",
        f"http://adm:{SECRET}@couch:port",
        f"http://adm:{SECRET}@couch:",
        f"http://adm:{SECRET}@couch:-1",
        f"http://adm:{SECRET}@couch:65536",
        f"http://adm:{SECRET}@couch?query",
        f"http://adm:{SECRET}@couch#fragment",
        f"http://adm:{SECRET}@[::1",
        f"http://adm:{SECRET}@[nonsense]",
        f"http://adm:{SECRET}@a b",
        f"http://adm:{SECRET}@a..b",
        f"http://adm:{SECRET}@{'a' * 64}",
        f"http://adm:{SECRET}@xn--",
        # A password that is not percent-encoded.
        f"http://adm:{SECRET}/x@couch",
        f"http://adm:{SECRET}#x@couch",
        # As sys.argv has bytes that are not UTF-8.
        f"http://adm:{SECRET}\udcff@couch",
        f"http://adm:{SECRET}@\udcff",
        f"http://adm:{SECRET}@couch/\udcff",
    ],
)
def test_a_bad_url(url: str) -> None:
    assert "--couchdb" in refusal("-c", url)


@pytest.mark.parametrize("key", ["", ".", "a.", ".a", "a..b"])
def test_a_bad_token_key(key: str) -> None:
    assert "--token-key" in refusal("-k", key)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--nope",),
        ("-x",),
        (f"--couchdbs=http://adm:{SECRET}@couch",),
        (f"--demo=http://adm:{SECRET}@couch",),
        (f"http://adm:{SECRET}@couch",),
        ("--demo", "stray"),
        ("-l",),
        ("--listen",),
        ("-c",),
        ("--couchdb",),
        ("-k",),
        ("--token-key",),
        ("-s",),
        ("--store",),
        ("--store", "dir", "--store-listen"),
    ],
)
def test_what_is_no_option(arguments: tuple[str, ...]) -> None:
    assert "--help" in refusal(*arguments)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--demo", "--store", "dir"), {"--demo", "--store"}),
        (("--demo", "--couchdb", f"http://adm:{SECRET}@couch"), {"--demo", "--couchdb"}),
        (("--demo", "-s", "dir", "-c", "http://couch"), {"--demo", "--store", "--couchdb"}),
        (("--store", "dir", "--couchdb", f"http://adm:{SECRET}@couch"), {"--store", "--couchdb"}),
        (("--store-listen", "tcp:1"), {"--store-listen", "--store", "--demo"}),
        (("--store-listen", "tcp:1", "-c", "http://couch"), {"--store-listen"}),
        (("-c", f"http://adm:{SECRET}@one", "-c", f"http://adm:{SECRET}@two"), {"more than one"}),
        (("-c", "http://same", "-c", "http://same"), {"more than one"}),
    ],
)
def test_options_that_conflict(arguments: tuple[str, ...], named: set[str]) -> None:
    sentence = refusal(*arguments)
    assert all(each in sentence for each in named)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--store=",),
        ("--demo", "--store="),
        ("--store-listen=",),
        ("--store", "dir", "--store-listen="),
    ],
)
def test_an_empty_value_is_not_an_absent_one(arguments: tuple[str, ...]) -> None:
    """As a shell leaves it where a variable is not set: ``--store "$STORE"``. The store was the working directory."""
    refusal(*arguments)
