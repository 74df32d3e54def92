"""Requests of every kind: what they are made of, right, nearly right and not at all."""

from base64 import b64encode
from typing import Any, Final
from urllib.parse import quote

from attrs import evolve
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy, composite

from tests import strategies
from tests.fuzz.watched import END, LINK, NOW, OTHER, STORED
from tests.gateway.house import TOKEN
from txcouchdl.links import signing_key

_REV: Final = "1-0123456789abcdef0123456789abcdef"
_ETAG: Final = f'"{STORED["f"].etag}"'
_PIN: Final = quote(f"md5-{STORED['f'].etag}", safe="")
_KEY: Final = signing_key(TOKEN.encode(), None)

# --- addresses ------------------------------------------------------------------------------------------------

_SEGMENTS: Final = st.sampled_from(
    [
        *("", "db", "doc", "f", "a%2Fb%20c.txt", "a", "b%20c.txt", "up.txt", "empty", "%C3%A9.html"),
        *("_design", "d", "_design%2Fd", "_up", "_users", "_all_docs", "DB", "%64b", "d%6Fc"),
        *(".", "..", "%2E%2E", "%2F", "%00", "%0D%0A", "%", "%z", "%f", "%ff", "%ED%A0%80", "%F0%9F%98%80", "+", "~"),
        *("x" * 300, "x" * 9_000, "!" * 3_000, "%C3%A9" * 500, ":", "@", "a:b@c", "*", ";", "\x7f", "\x80", "\xb0"),
    ]
)
_SPELT: Final = strategies.names.flatmap(strategies.spellings).map(lambda spelt: spelt.decode("latin-1"))
#: Where something is, so often that it is found.
_PLACES: Final = st.sampled_from(
    [
        *("/db/doc/a/b%20c.txt", "/db/doc/up.txt", "/db/doc/empty", "/db/doc/%C3%A9.html", "/db/doc/"),
        *("/db/doc/none", "/db/none/f", "/none/doc/f", "/db/_design/d/f", "/db/_design/d/", "/_up"),
    ]
)
_PATHS: Final = st.one_of(
    _PLACES,
    st.lists(_SEGMENTS | _SPELT, min_size=1, max_size=6).map(lambda segments: "/" + "/".join(segments)),
    st.sampled_from(
        ["*", "/", "//", "///", "/db", "db/doc/f", "", "?", "/%", "#", "/db/doc/f#x", "h:80", "://", "\x7f"]
    ),
)
_FORMS: Final = st.sampled_from(
    ["", "", "", "", "http://h", "HTTPS://h:80", "http://", f"http://u:{OTHER}@h", "http://[", "ftp://h", "http:/"]
)

# --- queries --------------------------------------------------------------------------------------------------


def _link(**changes: Any) -> str:
    return evolve(LINK, **changes).query(_KEY)


#: Links that are right, for some address and some time.
_LINKS: Final = st.sampled_from(
    [
        _link(),
        _link(attachment=None),
        _link(attachment=None, grace=0),
        _link(expires=NOW - 60),
        _link(expires=NOW - 60, grace=10),
        _link(expires=NOW - 10**6),
        _link(digest=f"md5-{STORED['f'].etag}"),
        _link(download="n.bin", rev=_REV),
        evolve(LINK, document_id="other").query(_KEY),
    ]
)
_NUMBERS: Final = st.sampled_from(
    ["0", "1", f"{END}", "9999999999", "999999999999", "9999999999999", "-1", "+1", "01", "1e3", "1.0", "x", "%D9%A3"]
)
_TEXTS: Final = st.one_of(
    st.sampled_from(
        ["", "%", "%zz", "%ff", "%ED%A0%80", "%00", "%0D%0AX:y", "+", "a" * 5_000, "%C3%A9", "=", "?", "\xb0"]
    ),
    strategies.hostile_names.flatmap(strategies.spellings).map(lambda spelt: spelt.decode("latin-1")),
)
_REVS: Final = st.sampled_from([_REV, "1-a", "2-ffff", "0-0", "1-", "-a", "1-Z", "9" * 30 + "-a", _REV.upper()])
_PINS: Final = st.sampled_from(
    [_PIN, f"{_PIN}%2Bgunzip", "md5-", "md5-AAAAAAAAAAAAAAAAAAAAAA%3D%3D", "sha-256-x", "md5-%ff"]
)

#: Of each parameter, what it may say.
_VALUES: Final[dict[str, SearchStrategy[str]]] = {
    "token": st.sampled_from([TOKEN, TOKEN, OTHER, f"{OTHER}x", "", "a"]) | _TEXTS,
    "expires": _NUMBERS | _TEXTS,
    "grace": _NUMBERS | _TEXTS,
    "signature": st.sampled_from(["A", "x" * 43, "%2B%2F", OTHER]) | _TEXTS,
    "digest": _PINS | _TEXTS,
    "download": _TEXTS,
    "rev": _REVS | _TEXTS,
    "skip": _NUMBERS | _TEXTS,
    "pin": _TEXTS,
    "ready": _TEXTS,
    "x": _TEXTS,
    "": _TEXTS,
}


@composite
def _parameters(draw: DrawFn) -> str:
    name = draw(st.sampled_from([*_VALUES]))
    spelt = draw(st.just(name) | strategies.spellings(name).map(bytes.decode))
    return f"{spelt}={draw(_VALUES[name])}" if draw(st.integers(0, 9)) else spelt


#: What opens, and what is asked besides.
_OPENING: Final = st.tuples(
    st.sampled_from([f"token={TOKEN}", f"token={quote(OTHER)}", _link(attachment=None)]),
    st.sampled_from(
        ["", "", "&download", f"&digest={_PIN}", f"&rev={_REV}", "&rev=1-a", "&digest=x", "&skip=1", "&pin"]
    ),
).map("".join)
_QUERIES: Final = st.one_of(
    st.just(f"?token={TOKEN}"),
    _LINKS.map(lambda link: f"?{link}"),
    st.lists(st.one_of(st.just(f"token={TOKEN}"), _LINKS, _parameters()), max_size=5).map(
        lambda parts: f"?{'&'.join(parts)}"
    ),
    st.sampled_from(["", "?", "?&", "??", "?&&=&=", "?%26"]),
)

# --- heads ----------------------------------------------------------------------------------------------------

_METHODS: Final = st.sampled_from(["GET"] * 8 + ["HEAD"] * 2 + ["OPTIONS", "POST", "PUT", "get", "PRI", "X" * 300])
_READING: Final = st.sampled_from(["GET"] * 4 + ["HEAD"])
_VERSIONS: Final = st.sampled_from(["HTTP/1.1"] * 8 + ["HTTP/1.0"])
_HOSTS: Final = st.sampled_from(["test"] * 8 + ["", "a" * 300, "[::1", "%ff", "a:b:c", "a b", "\xff"])
#: What may stand in a field, read by nobody or by everybody.
_FIELD_TEXTS: Final = st.one_of(
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\x00"), max_size=20),
    st.sampled_from(["", '"' * 9_000, "\xff" * 300, "," * 3_000, "\x0b\x1c\x85", "*", "close", "keep-alive, close"]),
)


def _often(plain: list[str], others: SearchStrategy[str | None]) -> SearchStrategy[str]:
    """A field that is plainly right, every other time; or else as much of another as can be sent in one line."""
    sent = others.map(lambda text: "".join(each for each in text or "" if each <= "\xff" and each not in "\r\n\x00"))
    return st.booleans().flatmap(lambda is_plain: st.sampled_from(plain) if is_plain else sent)


def _basic(password: str) -> str:
    return f"Basic {b64encode(f'anybody:{password}'.encode()).decode()}"


_FIELDS: Final[dict[str, SearchStrategy[str]]] = {
    "Range": _often(
        ["bytes=0-1", "bytes=-1", "bytes=1-2,5-6", "bytes=9-,0-0", "bytes=99999-"], strategies.any_range_fields
    ),
    "If-Range": _often([_ETAG], strategies.condition_fields(_ETAG)),
    "If-Match": _often([_ETAG, _REV, f'"{_REV}"', "*"], strategies.condition_fields(_ETAG)),
    "If-None-Match": _often([_ETAG, "*"], strategies.condition_fields(_ETAG)),
    "Authorization": st.sampled_from(
        [
            *(f"Bearer {TOKEN}", f"bearer  {OTHER}", f"Bearer {OTHER}x", "Bearer", "Bearer ", f"Basic {OTHER}", "\xff"),
            *(_basic(OTHER), _basic(f"{OTHER}x"), _basic(""), "Basic eA==", "Basic ====", "Basic"),
        ]
    ),
    "Accept": st.sampled_from(["text/html", "text/html;q=0.1, */*", "q=,;", "*/*;q=x", "application/json", ",,,"]),
    "Origin": st.sampled_from(["https://www.example.org", "null", "https://evil.example", "\xff"]),
    "Referer": st.sampled_from([f"http://h/p?token={OTHER}", f"http://h/#{OTHER}", "http://h", "\xff"]),
    "X-Forwarded-For": st.sampled_from(
        ["192.0.2.1", "::1", "2001:db8::1", "x", ",", "unknown", "1.2.3.4:", "[", "\xff"]
    ),
    "X-Forwarded-Host": st.sampled_from(["files.example", "a/b", "", "\xff", "x" * 300]),
    "X-Forwarded-Proto": st.sampled_from(["https", "x", "", "http,https"]),
    "Content-Length": st.sampled_from(["0", "1", "x", "-1", "9" * 30, "100000"]),
    "Transfer-Encoding": st.sampled_from(["chunked", "gzip", "identity", ""]),
    "Expect": st.sampled_from(["100-continue", "x"]),
    "Connection": st.sampled_from(["close", "keep-alive", "upgrade", ","]),
    "Upgrade": st.just("h2c"),
}
_OTHER_FIELDS: Final = st.tuples(
    st.sampled_from([*_FIELDS, "User-Agent", "Cookie", "X", "n" * 256, "n" * 257, "n" * 9_000]), _FIELD_TEXTS
)


#: Those that say what is wanted of an attachment, more often than others.
_NAMES: Final = st.sampled_from([*_FIELDS, *["Range", "If-Range", "If-None-Match", "If-Match"] * 4])


@composite
def _field_lines(draw: DrawFn) -> str:
    if draw(st.integers(0, 3)):
        name = draw(_NAMES)
        return f"{name}: {draw(_FIELDS[name])}\r\n"
    return ": ".join(draw(_OTHER_FIELDS)) + "\r\n"


@composite
def requests(draw: DrawFn) -> bytes:
    """
    One request of which the gateway knows all when it has come. The secrets are where secrets are shown: in the query,
    in a Bearer token, in the query of a Referer, and in the place of a password.
    """
    if is_let_in := draw(st.booleans()):
        # So that what stands in its fields is looked at.
        path = draw(st.just("/db/doc/f") if draw(st.booleans()) else _PLACES)
        line = f"{draw(_READING)} {path}?{draw(_OPENING)} HTTP/1.1\r\nHost: test\r\n"
    else:
        target = draw(_FORMS) + draw(_PATHS) + draw(_QUERIES)
        line = f"{draw(_METHODS)} {target} {draw(_VERSIONS)}\r\nHost: {draw(_HOSTS)}\r\n"
    fields = "".join(draw(st.lists(_field_lines(), min_size=int(is_let_in), max_size=4)))
    return f"{line}{fields}\r\n".encode("latin-1", "replace")


# --- anything else --------------------------------------------------------------------------------------------

_PIECES: Final = st.sampled_from(
    [
        b"",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b":",
        b"\x00",
        b"\xff",
        b"/",
        b"%",
        b"?",
        b"HTTP/1.1",
        b"GET ",
        b"0\r\n\r\n",
    ]
)


@composite
def mutated(draw: DrawFn, material: SearchStrategy[bytes] | None = None) -> bytes:
    """Something that was right, with pieces cut out, put in, doubled or replaced."""
    data = draw(requests() if material is None else material)
    for _ in range(draw(st.integers(1, 4))):
        first, last = sorted(draw(st.tuples(st.integers(0, len(data)), st.integers(0, len(data)))))
        last = min(last, first + draw(st.sampled_from([0, 1, 2, 20, 20_000])))
        piece = draw(_PIECES | st.binary(max_size=4) | st.just(data[first:last] * 2))
        data = data[:first] + piece + data[last:]
    return data


#: What may come on one connection.
streams: Final = st.one_of(
    requests(),
    mutated(),
    st.lists(requests() | mutated(), min_size=2, max_size=3).map(b"".join),
    st.binary(max_size=60),
)
