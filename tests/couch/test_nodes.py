"""Nodes: the forms of their URLs, and that a password in one is told to nobody."""

import traceback
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import strategies
from txcouchdl.couch.nodes import BadNodeURL, Node


def _credentials(node: Node) -> str:
    assert node.authorization is not None
    scheme, _, encoded = node.authorization.partition(" ")
    # FINDINGS, section 7: CouchDB takes ``basic`` for anonymous.
    assert scheme == "Basic"
    return b64decode(encoded, validate=True).decode("utf-8")


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://localhost:5984", "http://localhost:5984"),
        ("http://localhost:5984/", "http://localhost:5984"),
        ("http://localhost:5984//", "http://localhost:5984"),
        (" http://localhost:5984\n", "http://localhost:5984"),
        ("https://couch.example", "https://couch.example"),
        ("https://couch.example:6984/db/prefix/", "https://couch.example:6984/db/prefix"),
        ("https://couch.example/a%2Fb", "https://couch.example/a%2Fb"),
        ("http://192.0.2.1:80", "http://192.0.2.1:80"),
        ("https://192.0.2.1:443", "https://192.0.2.1:443"),
        ("http://192.0.2.1:443", "http://192.0.2.1:443"),
        ("http://b\u00fccher.example/%C3%BC", "http://xn--bcher-kva.example/%C3%BC"),
        ("http://localhost?", "http://localhost"),
    ],
)
def test_urls(url: str, base: str) -> None:
    node = Node.parse(url)
    assert (node.base, str(node), node.authorization) == (base, base, None)


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://[::1]:5984/", "http://[::1]:5984"),
        ("http://[2001:db8::7]", "http://[2001:db8::7]"),
        ("https://admin:pass@[2001:db8::7]:6984/prefix/", "https://[2001:db8::7]:6984/prefix"),
    ],
)
def test_ipv6(url: str, base: str) -> None:
    assert str(Node.parse(url)) == base


@pytest.mark.parametrize("host", ["couch_db", "couch_1.internal", "ab--c.example", "r1---x.example"])
def test_host_names_that_are_in_use_but_not_in_idna(host: str) -> None:
    """Docker Compose and Kubernetes make them; resolvers know no rules."""
    assert Node.parse(f"http://{host}:5984").base == f"http://{host}:5984"


def test_a_scheme_has_no_case() -> None:
    """RFC 3986 section 3.1."""
    assert Node.parse("HTTP://localhost:5984").base == "http://localhost:5984"


@pytest.mark.parametrize(
    ("userinfo", "credentials"),
    [
        ("admin:pass", "admin:pass"),
        ("admin", "admin:"),
        ("admin:", "admin:"),
        (":pass", ":pass"),
        ("admin:p:a:s:s", "admin:p:a:s:s"),
        ("admin:p%40s%2Fs%3A%23%3F", "admin:p@s/s:#?"),
        ("admin:p+s", "admin:p+s"),
        ("admin:100%25", "admin:100%"),
        ("a%64min:p%C3%A4ss", "admin:p\u00e4ss"),
        ("admin:p\u00e4ss", "admin:p\u00e4ss"),
        ("admin:%2540", "admin:%40"),
        ("admin:p%20s", "admin:p s"),
    ],
)
def test_credentials(userinfo: str, credentials: str) -> None:
    node = Node.parse(f"http://{userinfo}@localhost:5984/")
    assert node.base == "http://localhost:5984"
    assert _credentials(node) == credentials


def test_no_credentials() -> None:
    assert Node.parse("http://localhost").authorization is None
    assert Node.parse("http://@localhost").authorization is None


@given(st.data(), strategies.utf8_text.filter(lambda user: user and ":" not in user), strategies.utf8_text)
def test_any_credentials_in_any_spelling(data: st.DataObject, user: str, password: str) -> None:
    userinfo = b"%b:%b" % (
        data.draw(strategies.spellings(user, safe="-._~!$&'()*+,;=")),
        data.draw(strategies.spellings(password, safe="-._~!$&'()*+,;=:")),
    )
    node = Node.parse(f"http://{userinfo.decode('ascii')}@localhost:5984/p")
    assert node.base == "http://localhost:5984/p"
    assert _credentials(node) == f"{user}:{password}"
    assert node == Node.of("http://localhost:5984/p", user, password)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            " ",
            "localhost",
            "localhost:5984",
            "//localhost",
            "/",
            "http:",
            "http://",
            "http:///db",
            "http:localhost",
        ),
        *("ftp://localhost", "file:///etc/passwd", "httpx://localhost", "unix:/run/couch", "admin:pass@localhost:5984"),
        *("http://localhost:", "http://localhost:abc", "http://localhost:5984:1", "http://[::1", "http://::1:5984"),
        *("http://localhost?x", "http://localhost/?x=y", "http://localhost#x", "http://admin:pa#ss@localhost"),
        *("http://admin:pa?ss@localhost", "http://admin:pa/ss@localhost"),
        *("http://admin:%FF@localhost", "http://local\x00host", "http://:5984"),
    ],
)
def test_what_is_no_url_of_a_node(url: str) -> None:
    with pytest.raises(BadNodeURL):
        Node.parse(url)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://ex..ample",
            "http://" + "a" * 64 + ".example",
            "http://local host",
            "http://local\nhost",
            "http://xn--\u00e9",
        ),
        *("http://\ud800", "http://localhost/\ud800", "http://us\udcffer:pass@localhost"),
    ],
)
def test_what_is_no_host_name_or_no_text(url: str) -> None:
    """Bytes that are not UTF-8 come as lone surrogates, from the command line and the environment alike."""
    with pytest.raises(BadNodeURL):
        Node.parse(url)


@given(
    st.text(st.characters(), max_size=30)
    | st.text("htps:/@[]%?#\\ 0aF\u00e9\ud800.", max_size=12).map("http://".__add__)
)
def test_any_text_is_a_node_or_a_bad_one(text: str) -> None:
    try:
        node = Node.parse(text)
    except BadNodeURL:
        return
    assert node.base.isascii()
    assert node.base.isprintable()
    assert node.base.startswith(("http://", "https://"))
    assert not node.base.endswith("/")


_SHELLS = [
    "http://admin:{}@localhost:5984/",
    "http://{}:pass@localhost:5984/",
    "http://{}@localhost:5984/",
    "http://admin:{}@",
    "http://admin:{}@/x",
    "http://admin:{}@localhost:abc",
    "http://admin:{}@localhost?x",
    "http://admin:{}@localhost#x",
    "ftp://admin:{}@localhost",
    "admin:{}@localhost",
    "http://admin:{}#@localhost",
    "http://admin:{}/@localhost",
    "http://admin:{}?@localhost",
    "http://admin:{}@ss@localhost",
    "http://admin:{}\u00e4@localhost",
    # A slash that is not escaped ends the host and port, and what comes before it can pass for them.
    "http://admin:8/{}@localhost",
    "http://admin:8?{}@localhost",
    "http://admin:8#{}@localhost",
    "http://admin:{}%FF@localhost",
    "http://admin:{}%zz@localhost",
    "http://admin:{}\udcff@localhost",
    "http://admin:{}@ex..ample",
    "http://admin:{}@local host",
    "http://admin:{}@[::1",
    "http://admin:{}@\udcff",
    "http://admin:{}@localhost/\udcff",
]


@pytest.mark.parametrize("shell", _SHELLS)
def test_a_password_is_told_to_nobody(shell: str) -> None:
    """Not in ``repr`` and ``str``, which logs take; not in an error, nor in what a traceback prints with it."""
    secret = "QXZJQXZJ"
    try:
        node = Node.parse(shell.format(secret))
    except Exception as error:
        told = "".join(traceback.format_exception(error)) + repr(error) + repr(error.args)
    else:
        told = f"{node!r} {node} {node.base}"
        # Base64 is no veil.
        assert node.authorization is None or node.authorization.partition(" ")[2] not in told
    assert secret not in told
