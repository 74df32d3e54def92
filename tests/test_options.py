"""The command line and the environment: what they come to, and what is refused."""

import os
from operator import attrgetter
from pathlib import Path

import pytest
from attrs import evolve, frozen
from hypothesis import example, given
from hypothesis import strategies as st

from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.nodes import Node
from txcouchdl.gateway.cors import AllowedOrigins
from txcouchdl.gateway.description import Presentation
from txcouchdl.gateway.limits import ClientLimits
from txcouchdl.gateway.peers import TrustedProxies
from txcouchdl.gateway.tokens import TokenRule
from txcouchdl.options import Options
from txcouchdl.settings import Settings, StartError, StoreSettings

SECRET = "s3cret-of-couch"

DEFAULTS = Settings(
    listen=("tcp:8000:interface=127.0.0.1",),
    rule=TokenRule("download_token"),
    nodes=(Node("http://localhost:5984"),),
    store=None,
    is_demo=False,
    upstream=UpstreamLimits(),
    clients=ClientLimits(),
    guess_limit=60,
    proxies=TrustedProxies.parse([]),
    origins=AllowedOrigins(),
    presentation=Presentation(),
    access_log=None,
    drain=30.0,
    workers=1,
)


@frozen
class Number:
    """What is promised of an option that takes a number. ``company`` is what makes its bounds possible."""

    option: str
    field: str
    default: int
    least: float
    most: int
    company: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.option

    @property
    def variable(self) -> str:
        return f"COUCHDL_{self.option.replace('-', '_').upper()}"

    @property
    def is_whole(self) -> bool:
        return self.option.startswith(("max-", "access-log-")) or self.option in {
            "document-memory",
            "guess-limit",
            "workers",
        }

    def within(self, number: int) -> int:
        """A whole number within the bounds, another for each number up to 100."""
        return int(self.least) + number

    def of(self, *arguments: str) -> int | float:
        """What the settings have of it."""
        found = attrgetter(self.field)(settings(*self.company, *arguments))
        assert type(found) is (int if self.is_whole else float)
        return found


NUMBERS = [
    Number("stall-timeout", "upstream.stall_timeout", 30, 1, 3600, ("--give-up=86400",)),
    Number("hedge-after", "upstream.hedge_after", 3, 0, 3600),
    Number("give-up", "upstream.give_up", 60, 2, 86400, ("--stall-timeout=1",)),
    Number("park-after", "upstream.park_after", 10, 0.1, 86400),
    Number("max-upstream", "upstream.max_upstream", 256, 1, 65535),
    Number("max-inflations", "upstream.max_inflations", 16, 1, 65535),
    Number("max-inflations-per-address", "upstream.max_inflations_per_address", 4, 1, 65535),
    Number("queue-timeout", "upstream.queue_timeout", 15, 0, 3600),
    Number("max-document", "upstream.max_document", 16777216, 65536, 2**30, (f"--document-memory={2**30}",)),
    Number("document-memory", "upstream.document_memory", 67108864, 65536, 2**40, ("--max-document=65536",)),
    Number("max-connections", "clients.max_connections", 4096, 1, 1000000),
    Number("max-connections-per-address", "clients.max_connections_per_address", 0, 0, 1000000),
    Number("header-timeout", "clients.header_timeout", 60, 1, 3600),
    Number("idle-timeout", "clients.idle_timeout", 60, 1, 86400),
    Number("client-timeout", "clients.client_timeout", 3600, 1, 604800),
    Number("half-close-timeout", "clients.half_close_timeout", 10, 0.1, 3600),
    Number("guess-limit", "guess_limit", 60, 0, 1000000),
    Number("access-log-max-size", "access_log_max_size", 0, 0, 1000000, ("--access-log=file",)),
    Number("access-log-keep", "access_log_keep", 8, 1, 1000),
    Number("drain", "drain", 30, 0, 86400),
    Number("workers", "workers", 1, 0, 256),
]
SECONDS = [number for number in NUMBERS if not number.is_whole]
WHOLE = [number for number in NUMBERS if number.is_whole]

#: What int() or float() would take, or almost. Not even as seconds are they plainly a number.
NO_NUMBERS = [
    *(" ", "+1", "-1", "-0", "1e3", "1_0", "0x10", "inf", "nan", "Infinity", "True", "a", "1s"),
    *("1,5", ".", ".5", "5.", "1.2.3", "1. 5", " 5", "5 ", "5\n", "5\r", "5\n5", "5\u2028"),
    *("\u0665", "\uff15", "\u00b2", "5\u0665", "5.\uff15", "\udcff", "9" * 5000, f"5.{'9' * 5000}", f"{'0' * 5000}5"),
]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in os.environ if each.startswith(("COUCHDL_", "COUCHDB_URL", "DOWNLOAD_TOKEN"))]:
        monkeypatch.delenv(name)


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
    (chosen,) = settings(*arguments).nodes
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


def test_several_nodes_in_their_order() -> None:
    chosen = settings("-c", "http://b:2@two", "--couchdb=https://a:1@one/db", "-c", "http://two:5984")
    assert chosen.nodes == (
        Node.of("http://two", "b", "2"),
        Node.of("https://one/db", "a", "1"),
        Node("http://two:5984"),
    )


@pytest.mark.parametrize("option", ["-k", "--token-key"])
@pytest.mark.parametrize("key", ["secret", "data.download_token", "a.b.c", "ключ", "with space"])
def test_token_key(option: str, key: str) -> None:
    assert settings(option, key).rule == TokenRule(key)


@pytest.mark.parametrize("option", ["-s", "--store"])
def test_store(option: str) -> None:
    chosen = settings(option, "some/dir")
    assert chosen.store == StoreSettings(Path("some/dir"), "tcp:5984:interface=127.0.0.1")
    assert (chosen.nodes, chosen.is_demo) == ((), False)


def test_store_listen() -> None:
    assert settings("--store", "dir", "--store-listen", "tcp:1").store == StoreSettings(Path("dir"), "tcp:1")


@pytest.mark.parametrize("file", ["-", "access.log", "/var/log/couchdl/access.log", "", " a\udcff "])
def test_access_log(file: str) -> None:
    """Whatever can be the name of a file; that an empty one cannot is told when it is opened."""
    assert settings(f"--access-log={file}") == evolve(DEFAULTS, access_log=file)


def test_demo() -> None:
    chosen = settings("--demo", "-l", "tcp:1", "-k", "a.b", "--store-listen", "tcp:2")
    store = StoreSettings(Path("couchdl-demo"), "tcp:2")
    assert chosen == Settings(("tcp:1",), TokenRule("a.b"), nodes=(), store=store, is_demo=True)


@pytest.mark.parametrize("name", ["COUCHDL_LISTEN", "COUCHDL_STORE_LISTEN"])
def test_a_demo_moves_only_where_nobody_says_where_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def moves(*arguments: str) -> tuple[bool, bool]:
        chosen = settings(*arguments)
        assert chosen.store is not None
        return chosen.alternative is not None, chosen.store.alternative is not None

    assert moves("--demo") == (True, True)
    assert moves("--store=dir") == (False, False)
    monkeypatch.setenv(name, "tcp:1")
    assert moves("--demo") == (name != "COUCHDL_LISTEN", name != "COUCHDL_STORE_LISTEN")


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
    others = ("trusted-proxy=", "behind-proxy", "cors-origin=", "inline=", "access-log=")
    assert all(f"--{option}" in text for option in others)
    for number in NUMBERS:
        (entry,) = [each for each in text.split("\n  -") if f"-{number.option}= " in each]
        assert f"[default: {number.default}]" in " ".join(entry.split())
    assert "COUCHDL_STALL_TIMEOUT" in text


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
    assert settings(*embedded).nodes == ()


def test_a_bad_url_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUCHDB_URL", f"couch://adm:{SECRET}@host")
    assert "COUCHDB_URL" in refusal()


def test_a_bad_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOWNLOAD_TOKEN_KEY_NAME", "a..b")
    assert "DOWNLOAD_TOKEN_KEY_NAME" in refusal()


def test_several_nodes_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUCHDB_URL", "http://b:secret@two:1, http://a:se%2Ccret@one")
    assert settings().nodes == (Node.of("http://two:1", "b", "secret"), Node.of("http://one", "a", "se,cret"))


def test_an_option_beats_several_nodes_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUCHDB_URL", "http://one,http://two")
    assert node("-c", "http://option").base == "http://option"


def test_one_node_twice_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUCHDB_URL", f"http://a:{SECRET}@one,http://two,http://one/")
    assert "COUCHDB_URL" in refusal()


@pytest.mark.parametrize("password", [f"{SECRET},", f",{SECRET}", f"1,{SECRET}", f"{SECRET},1"])
def test_a_comma_in_a_password_that_is_not_encoded(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUCHDB_URL", f"http://adm:{password}@couch:5984")
    assert "COUCHDB_URL" in refusal()


# Numbers.


def each_of(numbers: list[Number]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("number", numbers, ids=str)


@each_of(NUMBERS)
def test_the_default_of_a_number(number: Number) -> None:
    assert number.of() == number.default


@each_of(NUMBERS)
def test_a_number(number: Number) -> None:
    some = number.within(77)
    assert number.of(f"--{number.option}", f"{some}") == number.of(f"--{number.option}=00{some}") == some


@each_of(SECONDS)
def test_a_fraction_of_a_second(number: Number) -> None:
    assert number.of(f"--{number.option}=2.25") == 2.25


@each_of(WHOLE)
@pytest.mark.parametrize("text", ["5.0", "5.5", "0.5"])
def test_a_fraction_of_what_has_none(number: Number, text: str) -> None:
    assert f"--{number.option}" in refusal(f"--{number.option}={text}")


@each_of(NUMBERS)
def test_a_number_changes_nothing_else(number: Number) -> None:
    some = number.within(77)
    changed = repr(settings(*number.company, f"--{number.option}={some}"))
    field = number.option.replace("-", "_")
    usual = f"{field}={number.default if number.is_whole else float(number.default)}"
    assert changed.replace(f"{field}={some if number.is_whole else float(some)}", usual) == repr(
        settings(*number.company)
    )


@each_of(NUMBERS)
def test_the_last_number_of_two(number: Number) -> None:
    first, last = number.within(44), number.within(55)
    assert number.of(f"--{number.option}={first}", f"--{number.option}={last}") == last


@each_of(NUMBERS)
def test_the_number_of_the_environment(number: Number, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(number.variable, f"{number.within(77)}")
    assert number.of() == number.within(77)
    assert number.of(f"--{number.option}={number.within(88)}") == number.within(88)


@each_of(NUMBERS)
def test_an_empty_number_in_the_environment_is_none(number: Number, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(number.variable, "")
    assert number.of() == number.default


@each_of(NUMBERS)
def test_a_bad_number_in_the_environment(number: Number, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line names where it is, and it does no harm behind an option."""
    for text in NO_NUMBERS:
        monkeypatch.setenv(number.variable, text)
        sentence = refusal()
        assert number.variable in sentence
        assert f"--{number.option} " not in sentence
        assert number.of(f"--{number.option}={number.within(88)}") == number.within(88)


@each_of(NUMBERS)
def test_bounds(number: Number) -> None:
    assert number.of(f"--{number.option}={number.least}") == number.least
    assert number.of(f"--{number.option}={number.most}") == number.most


@each_of(NUMBERS)
def test_out_of_bounds(number: Number, monkeypatch: pytest.MonkeyPatch) -> None:
    below = number.least - 1 if number.is_whole else round(number.least - 0.001, 3)
    above = number.most + 1 if number.is_whole else f"{number.most}.001"
    for text in (str(below), str(above), "9" * 20):
        sentence = refusal(*number.company, f"--{number.option}={text}")
        assert f" --{number.option} " in sentence
        assert f" from {number.least} to {number.most}," in sentence
        monkeypatch.setenv(number.variable, text)
        assert f" {number.variable} " in refusal(*number.company)
        monkeypatch.delenv(number.variable)


@each_of(NUMBERS)
@pytest.mark.parametrize("text", ["", *NO_NUMBERS])
def test_what_is_no_number(number: Number, text: str) -> None:
    assert f" --{number.option} " in refusal(f"--{number.option}={text}")


@given(text=st.text() | st.text("0123456789.") | st.text("0123456789.+-e_ ", max_size=8) | st.integers().map(str))
@example(text="1.5")
def test_any_text_is_plainly_a_number_or_refused(text: str) -> None:
    whole, point, fraction = text.partition(".")
    for number in NUMBERS:
        is_plain = is_digits(whole) and (not point or (is_digits(fraction) and not number.is_whole))
        if is_plain and number.least <= float(text) <= number.most:
            assert number.of(f"--{number.option}={text}") == float(text)
        else:
            assert f" --{number.option} " in refusal(*number.company, f"--{number.option}={text}")


def is_digits(text: str) -> bool:
    return 1 <= len(text) <= 20 and set(text) <= set("0123456789")


def test_what_no_process_can_rotate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUCHDL_ACCESS_LOG_MAX_SIZE", "0")
    assert settings("--access-log=-").access_log_max_size == 0
    monkeypatch.setenv("COUCHDL_ACCESS_LOG_MAX_SIZE", "1")
    assert settings("--access-log=file").access_log_max_size == 1
    for arguments in ((), ("--access-log=-",)):
        assert "--access-log-max-size needs --access-log FILE" in refusal(*arguments)


@pytest.mark.parametrize("environment", ["", "7.6"])
def test_giving_up_takes_longer_than_a_stall(environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUCHDL_GIVE_UP", environment)
    chosen = settings("--stall-timeout=7.5").upstream
    assert chosen.give_up > chosen.stall_timeout == 7.5
    assert settings("--stall-timeout=90", "--give-up=90.5").upstream.give_up == 90.5


@pytest.mark.parametrize(
    "arguments", [("--stall-timeout=60.5",), ("--give-up=29.9",), ("--stall-timeout=10", "--give-up=10")]
)
def test_giving_up_before_a_stall(arguments: tuple[str, ...]) -> None:
    sentence = refusal(*arguments)
    assert "--give-up" in sentence
    assert "--stall-timeout" in sentence


def test_giving_up_before_a_stall_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUCHDL_STALL_TIMEOUT", "61")
    assert "--stall-timeout (61)" in refusal()


@pytest.mark.parametrize("arguments", [("--max-document=67108865",), ("--document-memory=16777215",)])
def test_no_memory_for_one_document(arguments: tuple[str, ...]) -> None:
    sentence = refusal(*arguments)
    assert "--document-memory" in sentence
    assert "--max-document" in sentence
    assert settings("--max-document=70000", "--document-memory=70000").upstream.document_memory == 70000


@pytest.mark.parametrize("embedded", ["--demo", "--store=dir"])
def test_an_embedded_store_has_limits_too(embedded: str) -> None:
    assert settings(embedded, "--max-upstream=5").upstream == UpstreamLimits(max_upstream=5)


# Proxies.


#: A repeatable option, what it may take, and what comes of it.
REPEATABLE = [
    (
        "cors-origin",
        ["https://a.example", "http://b.example:8080"],
        "origins",
        AllowedOrigins(frozenset(["https://a.example", "http://b.example:8080"])),
    ),
    ("cors-origin", ["*"], "origins", AllowedOrigins(has_all=True)),
    (
        "inline",
        ["application/pdf", "Text/HTML"],
        "presentation",
        Presentation(frozenset(["application/pdf", "text/html"])),
    ),
]


@pytest.mark.parametrize(("option", "texts", "field", "expected"), REPEATABLE)
def test_what_may_be_repeated(
    option: str, texts: list[str], field: str, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert attrgetter(field)(settings(*(f"--{option}={text}" for text in texts))) == expected
    assert attrgetter(field)(settings()) == attrgetter(field)(DEFAULTS)
    monkeypatch.setenv(f"COUCHDL_{option.replace('-', '_').upper()}", " , ".join(texts))
    assert attrgetter(field)(settings()) == expected


def test_the_command_line_wins_over_origins_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUCHDL_CORS_ORIGIN", "*")
    assert settings("--cors-origin=https://a.example").origins == AllowedOrigins(frozenset(["https://a.example"]))


@pytest.mark.parametrize(("option", "text"), [("cors-origin", "a.example"), ("cors-origin", ""), ("inline", "pdf")])
def test_what_is_no_origin_and_no_type(option: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f" --{option}: " in refusal(f"--{option}={text}")
    variable = f"COUCHDL_{option.replace('-', '_').upper()}"
    monkeypatch.setenv(variable, "x y")
    assert f" {variable}: 'x y' is no " in refusal()


def test_passwords_are_asked_for_only_if_an_option_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not settings().asks_password
    assert settings("--ask-password").asks_password
    monkeypatch.setenv("COUCHDL_ASK_PASSWORD", "1")
    assert settings().asks_password


def test_behind_a_proxy_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    proxies = settings("--behind-proxy").proxies
    assert proxies == TrustedProxies.parse(["127.0.0.0/8", "::1", "unix"])
    assert not settings().proxies.trusts("127.0.0.1")
    both = settings("--behind-proxy", "--trusted-proxy=192.0.2.1").proxies
    assert all(both.trusts(peer) for peer in ("127.0.0.1", "::1", None, "192.0.2.1"))
    for value, is_behind in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv("COUCHDL_BEHIND_PROXY", value)
        assert settings().proxies.trusts("127.0.0.1") == is_behind
    monkeypatch.setenv("COUCHDL_BEHIND_PROXY", "yes")
    assert "COUCHDL_BEHIND_PROXY takes 1 or 0" in refusal()


def test_trusted_proxies() -> None:
    chosen = settings("--trusted-proxy", "10.0.0.0/8", "--trusted-proxy=::1", "--trusted-proxy", "unix")
    assert chosen.proxies == TrustedProxies.parse(["10.0.0.0/8", "::1", "unix"]) != DEFAULTS.proxies


def test_the_trusted_proxies_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUCHDL_TRUSTED_PROXY", "192.0.2.1,, 10.0.0.0/8 , unix,")
    assert settings().proxies == TrustedProxies.parse(["192.0.2.1", "10.0.0.0/8", "unix"])
    assert settings("--trusted-proxy=unix").proxies == TrustedProxies.parse(["unix"])


@pytest.mark.parametrize("variable", ["", " ", ",", " , "])
def test_no_trusted_proxies_in_the_environment(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUCHDL_TRUSTED_PROXY", variable)
    assert settings() == DEFAULTS


@pytest.mark.parametrize(
    "address", ["", " ", "nonsense", "10.0.0.0/33", "10.0.0.256", "10.0.0.1,10.0.0.2", "\udcff", "a\nb"]
)
def test_a_bad_proxy(address: str) -> None:
    assert "--trusted-proxy" in refusal(f"--trusted-proxy={address}")


def test_a_bad_proxy_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUCHDL_TRUSTED_PROXY", "10.0.0.1,proxy.example")
    assert "COUCHDL_TRUSTED_PROXY" in refusal()


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
        ("--drain",),
        ("--access-log",),
        ("--trusted-proxy",),
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
        (
            ("-c", "http://same", "-c", "http://other", "-c", "http://same"),
            {"--couchdb", "http://same", "more than once"},
        ),
        (
            ("-c", f"http://a:{SECRET}@same:1/", "-c", "HTTP://b@SAME:1"),
            {"--couchdb", "http://same:1", "more than once"},
        ),
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
