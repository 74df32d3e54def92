"""Pages of other sites: which may read what is sent, and how a browser learns of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gateway.house import TOKEN, Answer, House
from tests.scripted import Stored
from txcouchdl.gateway.cors import AllowedOrigins

SITE = "https://www.example.org"
EXPOSED = "Content-Range, Content-Length, Accept-Ranges, ETag, Repr-Digest, Content-Disposition, Retry-After"
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
    assert answer["Access-Control-Allow-Headers"] == "Range, If-Range, If-Match, If-None-Match, Authorization"
    assert answer["Access-Control-Max-Age"] == "86400"
    assert told.node.asked == []


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
        *("", "null", "www.example.org", "https://", "https://*.example.org", "https://a.example/path", "//a.example"),
        *("https://a.example?x", "https://user@a.example", "https://a example", "https://a.example\n", "**"),
        *("https://bücher.example", "https://a.example:", "https://a.example:123456", "https://[::1"),
    ],
)
def test_what_is_no_origin(text: str) -> None:
    with pytest.raises(ValueError, match=r"no origin such as https://www\.example\.org, nor \*"):
        AllowedOrigins.parse([text])


def test_nobody_is_nobody() -> None:
    assert AllowedOrigins.parse([]) == AllowedOrigins()
    assert AllowedOrigins().fields(SITE) == AllowedOrigins().preflight_fields(SITE) == ()


@given(st.text(st.characters(max_codepoint=255)))
def test_an_origin_is_allowed_to_the_letter(origin: str) -> None:
    """Nothing of a request's gets into an answer but what was allowed."""
    fields = dict(AllowedOrigins.parse([SITE]).fields(origin))
    assert fields.get("Access-Control-Allow-Origin") == (SITE if origin == SITE else None)
