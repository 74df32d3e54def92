"""Pages of other sites: which may read what is sent, and how a browser learns of it."""

import re
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.gateway.house import CLIENT_LIMITS, TOKEN, Answer, House, read_answer
from tests.scripted import Stored
from txcouchdl.gateway.cors import AllowedOrigins
from txcouchdl.gateway.limits import ClientLimits

SITE = "https://www.example.org"
EXPOSED = "Content-Range, Content-Length, Accept-Ranges, ETag, Repr-Digest, Content-Disposition, Retry-After"
#: ``*`` stands for all names but Authorization; browsers that do not know it know the others.
SENDABLE = ["*", "Authorization", "Range", "If-Range", "If-Match", "If-None-Match", "Cache-Control", "Pragma"]
FIELDS = {
    *("access-control-allow-origin", "access-control-expose-headers", "cross-origin-resource-policy", "vary"),
    *("access-control-allow-methods", "access-control-allow-headers", "access-control-max-age"),
}


def house(*origins: str) -> House:
    return House({"f": Stored(b"0123456789", "video/mp4")}, origins=origins)


def cors(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name in FIELDS}


#: A request of each kind, and the status of its answer.
REQUESTS: list[tuple[str, dict[str, str], str, int]] = [
    (f"/db/doc/f?token={TOKEN}", {}, "GET", 200),
    (f"/db/doc/f?token={TOKEN}", {}, "HEAD", 200),
    (f"/db/doc/f?token={TOKEN}", {"Range": "bytes=2-3"}, "GET", 206),
    (f"/db/doc/f?token={TOKEN}", {"If-None-Match": "*"}, "GET", 304),
    (f"/db/doc/f?token={TOKEN}", {"If-Match": '"x"'}, "GET", 412),
    (f"/db/doc/f?token={TOKEN}", {"Range": "bytes=10-"}, "GET", 416),
    (f"/db/doc/g?token={TOKEN}", {}, "GET", 404),
    (f"/db/doc/f?token={TOKEN}", {}, "POST", 405),
    ("/db/doc/f?token=guess", {}, "GET", 403),
    ("/db/%zz/f", {}, "GET", 400),
    (f"/db/doc/f?token={TOKEN}", {}, "OPTIONS", 204),
]


@pytest.mark.parametrize(("target", "headers", "method", "status"), REQUESTS)
@pytest.mark.parametrize("origin", [None, SITE, "null"])
def test_by_default_nobody_may_read(
    target: str, headers: dict[str, str], method: str, status: int, origin: str | None
) -> None:
    answer = house().ask(target, headers | ({} if origin is None else {"Origin": origin}), method)
    assert (answer.status, cors(answer)) == (status, {})


@pytest.mark.parametrize(("target", "headers", "method", "status"), REQUESTS)
def test_an_allowed_site_may_read_every_answer(target: str, headers: dict[str, str], method: str, status: int) -> None:
    told = house("https://a.example", SITE)
    answer = told.ask(target, headers | {"Origin": SITE}, method)
    assert answer.status == status
    assert (
        cors(answer).items()
        >= {
            "access-control-allow-origin": SITE,
            "access-control-expose-headers": EXPOSED,
            "cross-origin-resource-policy": "cross-origin",
            "vary": "Origin",
        }.items()
    )


@pytest.mark.parametrize(("target", "headers", "method", "status"), REQUESTS)
@pytest.mark.parametrize(
    "origin",
    [None, "", "null", "https://other.example", f"{SITE}.evil.example", f"{SITE}:8443", "http://www.example.org", "*"],
)
def test_another_site_may_not_and_caches_know_why(
    target: str, headers: dict[str, str], method: str, status: int, origin: str | None
) -> None:
    answer = house(SITE).ask(target, headers | ({} if origin is None else {"Origin": origin}), method)
    assert answer.status == status
    assert cors(answer) == {"cross-origin-resource-policy": "cross-origin", "vary": "Origin"}


@pytest.mark.parametrize(("target", "headers", "method", "status"), REQUESTS)
@pytest.mark.parametrize("origin", [None, SITE, "null"])
def test_all_sites(target: str, headers: dict[str, str], method: str, status: int, origin: str | None) -> None:
    answer = house("*").ask(target, headers | ({} if origin is None else {"Origin": origin}), method)
    assert answer.status == status
    readable = {name: value for name, value in cors(answer).items() if "-expose-" in name or "-origin" in name}
    assert readable == {
        "access-control-allow-origin": "*",
        "access-control-expose-headers": EXPOSED,
        "cross-origin-resource-policy": "cross-origin",
    }
    assert "vary" not in answer.headers, "it is the same for all"


def test_a_preflight_is_answered() -> None:
    told = house(SITE)
    answer = told.ask(
        "/db/doc/f",
        {
            "Origin": SITE,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "authorization,range",
        },
        "OPTIONS",
    )
    assert (answer.status, answer.body) == (204, b"")
    assert answer["Access-Control-Allow-Methods"] == "GET, HEAD"
    assert [each.strip() for each in answer["Access-Control-Allow-Headers"].split(",")] == SENDABLE
    assert answer["Access-Control-Max-Age"] == "86400"
    assert told.node.asked == []


@pytest.mark.parametrize("origins", [[SITE], ["*"], ["https://*.example.org"]])
@pytest.mark.parametrize("asked", [None, "traceparent", "cache-control,pragma,x-anything", "x" * 5000, "a\xffb;=@*"])
def test_a_preflight_allows_all_names_and_repeats_none(origins: list[str], asked: str | None) -> None:
    """No cookies are involved, so nothing that a page sends opens more than its secret does."""
    fields = {"Origin": SITE, "Access-Control-Request-Method": "GET"}
    more = {} if asked is None else {"Access-Control-Request-Headers": asked}
    answers = [house(*origins).ask("/db/doc/f", fields | others, "OPTIONS") for others in ({}, more)]
    assert cors(answers[0]) == cors(answers[1])
    assert [each.strip() for each in answers[1]["Access-Control-Allow-Headers"].split(",")] == SENDABLE


@pytest.mark.parametrize("origins", [[SITE], ["https://*.example.org"], ["null"]])
def test_a_preflight_of_another_site(origins: list[str]) -> None:
    told = house(*origins).ask("/db/doc/f", {"Origin": "https://evil.example"}, "OPTIONS")
    assert cors(told) == {"cross-origin-resource-policy": "cross-origin", "vary": "Origin"}


def test_a_script_with_its_token_in_a_field() -> None:
    answer = house(SITE).ask("/db/doc/f", {"Origin": SITE, "Authorization": f"Bearer {TOKEN}", "Range": "bytes=1-2"})
    assert (answer.status, answer.body, answer["Access-Control-Allow-Origin"]) == (206, b"12", SITE)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://www.example.org", "https://www.example.org"),
        ("https://www.example.org/", "https://www.example.org"),
        ("HTTPS://WWW.Example.ORG", "https://www.example.org"),
        ("https://www.example.org:443", "https://www.example.org"),
        ("http://www.example.org:80", "http://www.example.org"),
        ("http://www.example.org:443", "http://www.example.org:443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://localhost", "http://localhost"),
        ("http://a_b.example", "http://a_b.example"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
    ],
)
def test_origins_as_browsers_write_them(text: str, origin: str) -> None:
    allowed = AllowedOrigins.parse([text])
    assert allowed == AllowedOrigins(frozenset([origin]))
    assert dict(allowed.fields(origin))["Access-Control-Allow-Origin"] == origin


@pytest.mark.parametrize(
    "text",
    [
        *("", "www.example.org", "https://", "https://a.example/path", "//a.example", "https://*.", "https://*"),
        *("https://*example.org", "https://www.*.org", "https://*.*.org", "*.example.org", "*://*.example.org"),
        *(
            "https://*.example.org:*",
            "https://*.example.org/path",
            "https://*.[::1]",
            "https://*.a.example\n",
            "https://.*",
        ),
        *("https://a.example?x", "https://user@a.example", "https://a example", "https://a.example\n", "**"),
        *("https://bücher.example", "https://a.example:", "https://a.example:123456", "https://[::1"),
    ],
)
def test_what_is_no_origin(text: str) -> None:
    sentence = f"{text!r} is no origin such as https://www.example.org or https://*.example.org, nor *"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        AllowedOrigins.parse([text])


# All names below a domain.

HOSTILE = [
    *("https://example.org", "https://.example.org", "https://..example.org", "https://a..example.org"),
    *("https://example.org.evil.com", "https://a.example.org.evil.com", "https://evilexample.org"),
    *("https://a.example.org:8443", "https://a.example.org:443", "http://a.example.org", "wss://a.example.org"),
    *("https://a.exampleXorg", "https://a.example.org.", "https://a.example.org/", "https://a.example.org, x"),
    *("https://evil.com/.example.org", "https://evil.com#.example.org", "https://evil.com?.example.org"),
    *("https://evil.com@a.example.org", "https://a.example.org@evil.com", "https://evil.com\\.example.org"),
    *("https://a.example.org\n", "https://a.example.org\r\nX: y", " https://a.example.org", "https://A.example.org"),
    *("https://*.example.org", "https://é.example.org", "https://" + "a." * 200 + "example.org", "null", "", "*"),
    *("https://evil.com:80.example.org", "https://a%2eexample.org", "https:/a.example.org", "xhttps://a.example.org"),
]


@pytest.mark.parametrize(
    "origin",
    [
        "https://a.example.org",
        "https://a.b.c.example.org",
        "https://xn--bcher-kva.example.org",
        "https://a_1.example.org",
    ],
)
@pytest.mark.parametrize("text", ["https://*.example.org", "HTTPS://*.Example.org:443/"])
def test_names_below_a_domain(text: str, origin: str) -> None:
    answer = house(text).ask(f"/db/doc/f?token={TOKEN}", {"Origin": origin})
    assert (answer["Access-Control-Allow-Origin"], answer["Vary"]) == (origin, "Origin")


@pytest.mark.parametrize("origin", HOSTILE)
def test_origins_that_only_resemble_names_below_a_domain(origin: str) -> None:
    allowed = AllowedOrigins.parse(["https://*.example.org", SITE])
    assert not allowed.allows(origin)
    assert "Access-Control-Allow-Origin" not in dict(allowed.fields(origin))
    assert allowed.preflight_fields(origin) == ()


def test_a_port_of_names_below_a_domain() -> None:
    allowed = AllowedOrigins.parse(["http://*.example.org:8080", "http://*.localhost:80"])
    assert allowed.allows("http://a.example.org:8080")
    assert allowed.allows("http://a.localhost")
    assert not allowed.allows("http://a.example.org")
    assert not allowed.allows("http://a.example.org:80808")
    assert not allowed.allows("http://a.localhost:80")


LABELS = st.text("abcxyz019-_", min_size=1, max_size=20)


@given(st.lists(LABELS, min_size=1, max_size=5))
@example(["a"])
def test_all_depths_are_allowed(labels: list[str]) -> None:
    assert AllowedOrigins.parse(["https://*.example.org"]).allows(f"https://{'.'.join(labels)}.example.org")


@given(
    st.lists(st.sampled_from([*"aA.-_:/@#?*\\ \n\x00é", "example", "org", "https", "://", ".example.org"])).map("".join)
)
@example("https://evilexample.org")
def test_an_allowed_origin_is_an_origin_below_the_domain(origin: str) -> None:
    """By another parser: the host ends in the domain, and nothing else is in the origin."""
    if AllowedOrigins.parse(["https://*.example.org"]).allows(origin):
        parts = urlsplit(origin)
        assert parts.netloc == parts.hostname
        assert parts.geturl() == f"https://{parts.hostname}" == origin
        assert parts.hostname.endswith(".example.org")


def test_null_is_an_origin_like_others() -> None:
    """Of sandboxed frames and of files; see docs/clients.rst about who can make one."""
    told = house("null")
    answer = told.ask(f"/db/doc/f?token={TOKEN}", {"Origin": "null"})
    assert answer["Access-Control-Allow-Origin"] == "null"
    assert told.ask("/db/doc/f", {"Origin": "null"}, "OPTIONS")["Access-Control-Allow-Methods"] == "GET, HEAD"
    for other in ({}, {"Origin": SITE}):
        assert "access-control-allow-origin" not in told.ask(f"/db/doc/f?token={TOKEN}", other).headers


# Refusals of requests that are not read to their end.

TARGET = f"/db/doc/f?token={TOKEN}".encode()
BEGIN = b"GET " + TARGET + b" HTTP/1.1\r\nHost: x\r\nOrigin: " + SITE.encode() + b"\r\n"
UNREAD = [
    pytest.param(BEGIN + b"no colon\r\n\r\n", 400, id="no colon"),
    pytest.param(BEGIN + b"Host: x\r\n\r\n", 400, id="two hosts"),
    pytest.param(BEGIN.replace(b"Host: x\r\n", b"") + b"\r\n", 400, id="no host"),
    pytest.param(BEGIN + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, id="chunks"),
    pytest.param(BEGIN + b"Content-Length: 70000\r\n\r\n", 413, id="a body"),
    pytest.param(BEGIN + b"x" * 300 + b": y\r\n\r\n", 431, id="a name"),
    pytest.param(BEGIN + b"X: y\r\nZ", 408, id="too slow"),
]


@pytest.mark.parametrize(("raw", "status"), UNREAD)
@pytest.mark.parametrize("origins", [[SITE], ["https://*.example.org"], ["*"]])
def test_an_allowed_site_may_read_refusals(raw: bytes, status: int, origins: list[str]) -> None:
    """A script can tell them from a network that failed."""
    answer = refused(house(*origins), raw)
    allowed = "*" if origins == ["*"] else SITE
    assert (answer.status, answer["Access-Control-Allow-Origin"]) == (status, allowed)
    assert answer["Access-Control-Expose-Headers"] == EXPOSED
    assert answer.headers.get("vary") == (None if allowed == "*" else "Origin")


@pytest.mark.parametrize(("raw", "status"), UNREAD)
def test_another_site_may_not_read_refusals(raw: bytes, status: int) -> None:
    answer = refused(house("https://a.example"), raw)
    assert answer.status == status
    assert cors(answer) == {"cross-origin-resource-policy": "cross-origin", "vary": "Origin"}
    answer = refused(house(), raw)
    assert (answer.status, cors(answer)) == (status, {})


def test_before_the_origin_has_come_only_all_sites_are_allowed() -> None:
    raw = b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nOrigin: " + SITE.encode() + b"\r\n\r\n"
    assert "access-control-allow-origin" not in refused(house(SITE), raw).headers
    assert refused(house("*"), raw)["Access-Control-Allow-Origin"] == "*"


def test_one_connection_more_than_an_address_may_have() -> None:
    """It is refused before a byte of a request is read."""
    told = House(origins=["*"], client_limits=ClientLimits(max_connections=2, max_connections_per_address=1))
    busy = told.connect("192.0.2.7")
    busy.transport.write(BEGIN)
    told.network.run()
    client = told.connect("192.0.2.7")
    told.network.run()
    answer = read_answer(client.received, "GET", client.is_closed)
    assert (answer.status, answer["Access-Control-Allow-Origin"]) == (429, "*")


def refused(told: House, raw: bytes) -> Answer:
    client = told.connect()
    client.transport.write(raw)
    told.network.run()
    if not client.received:
        told.network.advance(CLIENT_LIMITS.header_timeout)
        told.network.run()
    assert told.node.asked == []
    return read_answer(client.received, "GET", client.is_closed)


def test_nobody_is_nobody() -> None:
    assert AllowedOrigins.parse([]) == AllowedOrigins()
    assert AllowedOrigins().fields(SITE) == AllowedOrigins().preflight_fields(SITE) == ()


@given(st.text(st.characters(max_codepoint=255)))
def test_an_origin_is_allowed_to_the_letter(origin: str) -> None:
    """Nothing of a request's gets into an answer but what was allowed."""
    fields = dict(AllowedOrigins.parse([SITE]).fields(origin))
    assert fields.get("Access-Control-Allow-Origin") == (SITE if origin == SITE else None)
