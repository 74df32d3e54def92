"""A document's page: what is told, to whom, and where its links lead."""

import json
import re
import tracemalloc
from html import unescape
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import strategies
from tests.gateway.house import TOKEN, Answer, House
from tests.scripted import Doc, Stored
from txcouchdl.couch.documents import Document
from txcouchdl.couch.names import AttachmentAddress, DocumentAddress, parse_address
from txcouchdl.couch.steps import at_once
from txcouchdl.gateway import pages
from txcouchdl.gateway.facts import parse_query
from txcouchdl.gateway.pages import PageFacts, plan_page, wants_html
from txcouchdl.gateway.plan import DeliveryPlan
from txcouchdl.links import Link
from txcouchdl.page import html

FILM = Stored(b"film" * 10, "video/mp4")
#: The parameter that pins an address to it.
PIN = f"digest={quote(FILM.stub['digest'], safe='')}"
TEXT = Stored.compressed(b"text" * 100)
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}


@pytest.fixture
def house() -> House:
    return House({"film.mp4": FILM, "text.txt": TEXT})


def listed(answer: Answer) -> dict[str, Any]:
    assert (answer.status, answer["Content-Type"]) == (200, "application/json")
    data: dict[str, Any] = json.loads(answer.body)
    return data


def page(house: House, query: str = f"token={TOKEN}", headers: dict[str, str] | None = None) -> Answer:
    return house.ask(f"/db/doc/?{query}", headers)


# --- as data ------------------------------------------------------------------------------------------------


def test_the_attachments_as_data(house: House) -> None:
    assert listed(page(house, headers={"Accept": "application/json"})) == {
        "database": "db",
        "id": "doc",
        "rev": house.doc.rev,
        "total": 2,
        "next": None,
        "attachments": [
            {
                "name": "film.mp4",
                "url": f"http://test/db/doc/film.mp4?token={TOKEN}",
                "content_type": "video/mp4",
                "length": 40,
                "digest": FILM.stub["digest"],
                "repr_digest": {"md5": FILM.stub["digest"].removeprefix("md5-")},
                "revpos": 1,
            },
            {
                "name": "text.txt",
                "url": f"http://test/db/doc/text.txt?token={TOKEN}",
                "content_type": "text/plain",
                "length": 400,
                "digest": TEXT.stub["digest"],
                "repr_digest": {},
                "revpos": 1,
            },
        ],
    }


def test_a_listed_address_leads_there(house: House) -> None:
    for each in listed(page(house))["attachments"]:
        answer = house.ask(each["url"])
        assert (answer.status, len(answer.body)) == (200, each["length"])


def test_a_length_that_is_not_known_is_null_until_it_is() -> None:
    house = House({"upload.txt": Stored.encoded(TEXT.stored)})
    assert listed(page(house))["attachments"][0]["length"] is None
    assert house.get("upload.txt").status == 200
    assert listed(page(house))["attachments"][0]["length"] == 400


def test_a_document_without_attachments() -> None:
    house = House()
    assert listed(page(house))["attachments"] == []
    assert page(house, headers=BROWSER).status == 200


def test_types_are_those_that_are_sent() -> None:
    house = House({"a.flac": Stored(b"1", None), "b": Stored(b"2", None), "c": Stored(b"3", "text/€")})
    types = [each["content_type"] for each in listed(page(house))["attachments"]]
    assert types == ["audio/flac", None, "text/€"]


def test_a_stub_that_makes_no_sense_spoils_nothing(house: House) -> None:
    house.doc.attachments["film.mp4"] = Stored(b"", "video/mp4", "br")
    data = listed(page(house))
    assert ([each["name"] for each in data["attachments"]], data["total"]) == (["text.txt"], 2)


def test_in_the_order_of_people() -> None:
    names = ["Track 1", "track 2", "track 02", "track 10", "Track 10b", "Track ²", "übung", "_hidden"]
    house = House(dict.fromkeys(sorted(names, reverse=True), FILM))
    told = [each["name"] for each in listed(page(house))["attachments"]]
    assert told == ["Track 1", "track 02", "track 2", "track 10", "Track 10b", "Track ²", "übung"]
    assert listed(page(house))["total"] == len(told)


@given(st.lists(strategies.names | st.text("a1 0²٣", max_size=8)))
def test_any_names_have_an_order(names: list[str]) -> None:
    assert _data(names)["attachments"] == _data(names[::-1])["attachments"]


# --- page by page -------------------------------------------------------------------------------------------


def test_a_document_with_many_attachments_is_told_page_by_page() -> None:
    house = House({f"{number}.mp4": FILM for number in range(1203)})
    target: str | None = f"http://test/db/doc/?token={TOKEN}&pin"
    names, pages = [], 0
    while target is not None:
        data = listed(house.ask(target))
        assert data["total"] == 1203
        assert all("&digest=" in each["url"] for each in data["attachments"])
        names += [each["name"] for each in data["attachments"]]
        target, pages = data["next"], pages + 1
    assert (names, pages) == ([f"{number}.mp4" for number in range(1203)], 3)


@pytest.mark.parametrize("count", [0, 1, 499, 500])
def test_one_page_is_all(count: int) -> None:
    data = _data([f"{number}" for number in range(count)])
    assert (len(data["attachments"]), data["total"], data["next"]) == (count, count, None)


def test_a_page_of_many_says_which(house: House) -> None:
    house = House({f"{number}.mp4": FILM for number in range(1001)})
    house.doc.attachments["600.mp4"] = Stored(b"", "video/mp4", "br")
    answer = page(house, f"token={TOKEN}&skip=500", BROWSER)
    assert b"501 to 1,000 of 1,001 attachments" in answer.body
    answer = page(house, f"token={TOKEN}&skip=900", BROWSER)
    assert b"901 to 1,001 of 1,001 attachments" in answer.body


def test_pages_for_people_lead_to_each_other() -> None:
    house = House({f"{number}.mp4": FILM for number in range(1001)})

    def links(skip: int) -> set[str]:
        answer = page(house, f"token={TOKEN}&skip={skip}", BROWSER)
        assert answer.status == 200
        return set(re.findall(r'href="(\?[^"]*)"', answer.body.decode().replace("&amp;", "&")))

    assert links(0) == {f"?token={TOKEN}&skip=500"}
    assert links(500) == {f"?token={TOKEN}&skip={skip}" for skip in (0, 1000)}
    assert links(300) == {f"?token={TOKEN}&skip={skip}" for skip in (0, 800)}
    assert links(1000) == {f"?token={TOKEN}&skip=500"}
    assert links(999999999) == {f"?token={TOKEN}&skip=501"}


def test_behind_the_last_one_is_nothing(house: House) -> None:
    data = listed(page(house, f"token={TOKEN}&skip=999999999"))
    assert (data["attachments"], data["total"], data["next"]) == ([], 2, None)


@pytest.mark.parametrize("skip", ["", "-1", "+1", "1.0", "x", "1,1", "%D9%A1", "9" * 10])
def test_what_is_no_number_to_skip(house: House, skip: str) -> None:
    answer = page(house, f"token={TOKEN}&skip={skip}")
    assert (answer.status, json.loads(answer.body)["error"]) == (400, "query_parse_error")


# --- where links lead ---------------------------------------------------------------------------------------


def _data(names: list[str], facts: PageFacts | None = None, base: str = "") -> dict[str, Any]:
    data: dict[str, Any] = json.loads(_plan(names, facts, base).trailer)
    return data


def _plan(names: list[str], facts: PageFacts | None = None, base: str = "") -> DeliveryPlan:
    document = Document("doc", "1-abc", {}, dict.fromkeys(names, FILM.stub))
    plan = at_once(plan_page(facts or PageFacts(), DocumentAddress("db", "doc"), document, base))
    assert plan.content_length == len(plan.trailer)
    return plan


@given(
    (strategies.names | strategies.utf8_text).filter(lambda name: not name.startswith("_")),
    st.binary(min_size=1),
    st.none() | st.just("1-abc"),
    st.booleans(),
)
def test_a_link_leads_to_its_attachment_with_all_that_it_needs(
    name: str, token: bytes, rev: str | None, is_pinning: bool
) -> None:
    facts = PageFacts(token, token, rev=rev, is_pinning=is_pinning)
    (told,) = _data([name], facts, "https://h/db/doc/")["attachments"]
    if told["url"] is None:
        assert name in {"", ".", ".."} or "" in name.split("/")
        return
    # As a browser reads it, relative or not.
    url = urlsplit(urljoin("https://h/db/doc/?token=x", told["url"]))
    assert (url.scheme, url.netloc, url.fragment) == ("https", "h", "")
    assert parse_address(url.path.encode("ascii")) == AttachmentAddress("db", "doc", name)
    expected = {b"token": [token], b"rev": [b"1-abc"], b"digest": [FILM.stub["digest"].encode()]}
    assert parse_query(url.query.encode("ascii")) == {
        name: value
        for name, value in expected.items()
        if {b"token": True, b"rev": rev is not None, b"digest": is_pinning}[name]
    }


@pytest.mark.parametrize("name", ["a//b", "/a", "a/", "..", ".", "\ud800"])
def test_what_cannot_be_addressed_has_no_address(name: str) -> None:
    house = House({name: FILM, "film.mp4": FILM})
    addresses = {each["name"]: each["url"] for each in listed(page(house))["attachments"]}
    assert addresses == {name: None, "film.mp4": f"http://test/db/doc/film.mp4?token={TOKEN}"}
    assert page(house, headers=BROWSER).status == 200


def test_a_token_from_a_field_stays_out_of_addresses(house: House) -> None:
    answer = house.ask("/db/doc/", {"Authorization": f"Bearer {TOKEN}"})
    assert listed(answer)["attachments"][0]["url"] == "http://test/db/doc/film.mp4"
    assert TOKEN.encode() not in answer.body
    answer = house.ask("/db/doc/", {"Authorization": f"Bearer {TOKEN}", **BROWSER})
    assert answer.status == 200
    assert TOKEN.encode() not in answer.body
    assert f'"film.mp4?{PIN}&amp;download"'.encode() in answer.body


@pytest.mark.parametrize("document_id", [".", ".."])
def test_a_document_that_browsers_resolve_away_has_no_links(house: House, document_id: str) -> None:
    house.node.docs[f"/db/{'%2E' * len(document_id)}"] = Doc({"download_token": TOKEN}, {"film.mp4": FILM})
    answer = house.ask(f"/db/{document_id}/?token={TOKEN}")
    assert [each["url"] for each in listed(answer)["attachments"]] == [None]


@pytest.mark.parametrize(("length", "is_linked"), [(7990, True), (7992, True), (7993, False), (8001, False)])
def test_a_link_that_no_server_would_take_is_none(length: int, is_linked: bool) -> None:
    (told,) = _data(["x" * length], PageFacts(b"t", b"t"))["attachments"]
    assert (told["url"] is not None) == is_linked


@pytest.mark.parametrize(
    "ordered",
    [
        ["a1c", "a2b", "a10a"],
        ["a2", "a10", "a010b", "a11"],
        # Numbers as long as these are in order still; and no more than sixteen of a name.
        [f"{'9' * 30}", f"1{'0' * 30}"],
        [f"{'a1' * 15}a2", f"{'a1' * 15}a10"],
    ],
)
def test_numbers_are_ordered_as_numbers(ordered: list[str]) -> None:
    assert [each["name"] for each in _data(ordered[::-1])["attachments"]] == ordered


@given(st.lists(strategies.names, unique=True), st.integers(1, 4))
def test_the_order_is_that_of_all_names(names: list[str], at_once_: int) -> None:
    """However many are put in order in one step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "_NAMES_AT_ONCE", at_once_)
        told = [each["name"] for each in _data(names)["attachments"]]
    assert told == sorted((name for name in names if not name.startswith("_")), key=pages._natural_order)


def test_names_of_megabytes_take_no_more_than_their_like() -> None:
    """A turn of digits and letters; and a character that would be three in each of four links."""
    names = ["1a" * 1_000_000, "é" * 1_000_000]
    tracemalloc.start()
    try:
        for facts in (PageFacts(b"t", b"t"), PageFacts(b"t", b"t", wants_html=True)):
            _plan(names, facts)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The names, in lower case, as sorted, in JSON and in UTF-8.
    assert peak < 16 * sum(map(len, names))


def test_pins(house: House) -> None:
    url = listed(page(house, f"token={TOKEN}&pin"))["attachments"][0]["url"]
    digest = FILM.stub["digest"]
    assert unquote(url) == f"http://test/db/doc/film.mp4?token={TOKEN}&digest={digest}"
    assert house.ask(url).body == FILM.stored
    house.doc.attachments["film.mp4"] = Stored(b"another", "video/mp4")
    assert house.ask(url).status == 412


def links(answer: Answer) -> dict[str, list[str]]:
    """The links of a page for people to its first attachment: by the element that has them."""
    found: dict[str, list[str]] = {}
    for tag, link in re.findall(r'<(a|audio|video|img)[^>]* (?:href|src)="([^"]*)"', answer.body.decode()):
        found.setdefault(tag, []).append(unescape(link))
    return found


@pytest.mark.parametrize("query", ["", "&pin", "&rev="])
@pytest.mark.parametrize("opened_by", ["token", "link", "field"])
def test_players_and_downloads_are_pinned(house: House, opened_by: str, query: str) -> None:
    """They get what the page listed, whatever opened it; and once it was replaced, nothing of the new one."""
    expires = int(house.network.seconds()) + 1000
    link = Link(database="db", document_id="doc", attachment=None, expires=expires)
    opening = {"token": f"token={TOKEN}", "link": link.query(TOKEN.encode()), "field": ""}[opened_by]
    fields = {"Authorization": f"Bearer {TOKEN}"} if opened_by == "field" else {}
    if query == "&rev=":
        # The link of a document is for no revision.
        query = "" if opened_by == "link" else f"&rev={house.doc.rev}"
    house.node.old_docs["/db/doc", house.doc.rev] = house.doc
    shown = links(house.ask(f"/db/doc/?{opening}{query}", {**BROWSER, **fields}))
    (player,), (name, download, *_) = shown["video"], shown["a"]
    base = "http://test/db/doc/"
    for each in (player, download):
        assert PIN in each
        assert house.ask(base + each, {"Range": "bytes=2-5", **fields}).body == FILM.stored[2:6]
    assert "download" in download
    assert (PIN in name) == (query == "&pin")
    house.node.docs["/db/doc"] = Doc({"download_token": TOKEN}, {"film.mp4": Stored(b"another", "video/mp4")}, "2-abc")
    status = 206 if query.startswith("&rev=") else 412
    for each in (player, download):
        assert house.ask(base + each, {"Range": "bytes=2-5", **fields}).status == status


def test_the_longest_link_has_a_player_and_a_download() -> None:
    """Though these are longer."""
    name = "n" * (8000 - len(f"?token={TOKEN}"))
    house = House({name: FILM})
    shown = links(page(house, headers=BROWSER))
    assert [len(each) for each in shown["a"]] == [8000, 8000 + len(f"&{PIN}&download")]
    assert [len(each) for each in shown["video"]] == [8000 + len(f"&{PIN}")]


def test_pins_of_what_was_uploaded_compressed() -> None:
    house = House({"upload.txt": Stored.encoded(TEXT.stored)})
    (told,) = listed(page(house, f"token={TOKEN}&pin"))["attachments"]
    assert house.ask(told["url"]).body == b"text" * 100
    house.doc.attachments["upload.txt"] = Stored(TEXT.stored, "application/gzip")
    assert house.ask(told["url"]).status == 412, "the same digest, and other bytes"


def test_an_old_revision_is_told_as_it_was() -> None:
    old, new = Stored(b"old", "video/mp4"), Stored(b"another", "video/mp4")
    house = House({"film.mp4": old})
    rev = house.doc.rev
    house.node.old_docs["/db/doc", rev] = house.doc
    house.node.docs["/db/doc"] = Doc({"download_token": TOKEN}, {"film.mp4": new}, "2-abc")
    told = [listed(page(house, f"token={TOKEN}{query}"))["attachments"][0] for query in (f"&rev={rev}", "")]
    assert [each["digest"] for each in told] == [old.stub["digest"], new.stub["digest"]]


def test_a_revision_is_kept(house: House) -> None:
    rev = house.doc.rev
    data = listed(page(house, f"token={TOKEN}&rev={rev}"))
    assert data["rev"] == rev
    assert data["attachments"][0]["url"] == f"http://test/db/doc/film.mp4?token={TOKEN}&rev={rev}"
    assert page(house, f"token={TOKEN}&rev=nonsense").status == 400
    assert page(house, f"token={TOKEN}&rev=9-{'0' * 32}").status == 404


def test_a_design_document() -> None:
    house = House()
    house.node.docs["/db/_design/app"] = Doc({"download_token": TOKEN}, {"i.png": Stored(b"png", "image/png")})
    answer = house.ask(f"/db/_design/app/?token={TOKEN}")
    assert listed(answer)["attachments"][0]["url"] == f"http://test/db/_design/app/i.png?token={TOKEN}"


# --- who is told, and as what -------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, BROWSER])
@pytest.mark.parametrize(
    "target",
    [
        *(
            "/db/doc/",
            "/db/doc/?token=",
            "/db/doc/?token=guess",
            "/db/doc/?token=s3cret&token=s3cret",
            "/db/nope/?token=x",
        ),
        *("/nope/doc/?token=s3cret", "/_users/doc/?token=s3cret", "/db/_local/?token=s3cret", "/db//?token=s3cret"),
        *("/db/_design//?token=s3cret", "/db/doc/?token=guess&rev=1-abc", "/db/doc/?token=guess&rev=nonsense"),
    ],
)
def test_without_the_right_token_it_is_the_same_403(house: House, target: str, headers: dict[str, str]) -> None:
    answer, other = house.ask(target, headers), house.ask("/db/doc/film.mp4?token=guess")
    assert answer.status == 403
    assert (answer.headers | {"date": ""}, answer.body) == (other.headers | {"date": ""}, other.body)


def test_wrong_tokens_are_counted(house: House) -> None:
    known = house.ask("/db/doc/?token=s3cret").status
    assert {house.ask("/db/doc/?token=guess").status for _ in range(60)} == {403}
    waiting = house.send("/db/doc/?token=guess")
    house.network.run()
    assert (known, waiting.received) == (200, b"")
    assert page(house).status == 200


@pytest.mark.parametrize(
    ("accept", "is_html"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/html", False),
        ("text/html", True),
        ("text/*", True),
        (BROWSER["Accept"], True),
        ("text/html;q=0.5, application/json;q=0.4", True),
        ("text/html;q=0.4, application/json;q=0.5", False),
        ("text/html;q=0", False),
        ("image/png", False),
        (";;;,q=", False),
        ("text/html" + "," * 1015, True),
        ("text/html" + "," * 1016, False),
    ],
)
def test_people_and_programs(accept: str | None, is_html: bool) -> None:
    assert wants_html(accept) == is_html


@given(st.text(st.characters(max_codepoint=255)))
def test_any_accept_field_is_answered(accept: str) -> None:
    wants_html(accept)


def test_a_page_for_people(house: House) -> None:
    answer = page(house, headers=BROWSER)
    assert (answer.status, answer["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"film.mp4" in answer.body
    assert f'"film.mp4?token={TOKEN}&amp;{PIN}&amp;download"'.encode() in answer.body
    assert answer["Content-Security-Policy"] == html.POLICY
    assert "script" not in html.POLICY
    assert answer["Referrer-Policy"] == "no-referrer"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Cache-Control"] == "private, no-cache"
    assert "Accept" in answer["Vary"]
    assert answer["X-Robots-Tag"] == "noindex"


@pytest.mark.parametrize("headers", [{}, BROWSER])
def test_head(house: House, headers: dict[str, str]) -> None:
    whole = page(house, headers=headers)
    answer = house.ask(f"/db/doc/?token={TOKEN}", headers, "HEAD")
    assert answer.body == b""
    assert answer.headers | {"date": ""} == whole.headers | {"date": ""}


def test_a_page_has_no_ranges(house: House) -> None:
    answer = page(house, headers={"Range": "bytes=0-1", "If-Range": '"x"'})
    assert answer.status == 200
    assert "accept-ranges" not in answer.headers


def test_a_page_reads_the_document_and_nothing_else(house: House) -> None:
    page(house, headers=BROWSER)
    assert [each.path for each in house.node.asked] == ["/db/doc"]
    house.assert_at_rest()


def test_caches_know_that_there_are_two_pages_and_many_sites() -> None:
    house = House({"film.mp4": FILM}, origins=["https://a.example"])
    answer = page(house, headers={"Origin": "https://a.example"})
    assert answer["Vary"] == "Accept, Authorization, Origin"
    assert answer["Access-Control-Allow-Origin"] == "https://a.example"


# --- which site it is ---------------------------------------------------------------------------------------


def url(house: House, **headers: str) -> str:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    first: str = listed(page(house, headers=fields))["attachments"][0]["url"]
    return first.removesuffix(f"?token={TOKEN}")


def test_addresses_are_the_clients_own(house: House) -> None:
    assert url(house) == "http://test/db/doc/film.mp4"


def test_nobody_is_believed_who_is_not_trusted(house: House) -> None:
    assert url(house, X_Forwarded_Proto="https", X_Forwarded_Host="evil.example") == "http://test/db/doc/film.mp4"


def test_behind_a_proxy() -> None:
    house = House({"film.mp4": FILM}, trusted_proxies=["127.0.0.1"])
    assert url(house) == "http://test/db/doc/film.mp4"
    assert url(house, X_Forwarded_Proto="https") == "https://test/db/doc/film.mp4"
    assert url(house, X_Forwarded_Host="files.example:8443") == "http://files.example:8443/db/doc/film.mp4"
    told = url(house, X_Forwarded_Proto="https", X_Forwarded_Host="files.example")
    assert told == "https://files.example/db/doc/film.mp4"


def test_a_target_in_absolute_form_names_its_host_itself(house: House) -> None:
    answer = house.ask(f"http://files.example:81/db/doc/?token={TOKEN}")
    assert listed(answer)["attachments"][0]["url"] == f"http://files.example:81/db/doc/film.mp4?token={TOKEN}"


def test_a_client_that_names_no_host(house: House) -> None:
    client = house.connect()
    client.transport.write(f"GET /db/doc/?token={TOKEN} HTTP/1.0\r\n\r\n".encode())
    house.network.run()
    data = json.loads(client.received.partition(b"\r\n\r\n")[2])
    assert data["attachments"][0]["url"] == f"/db/doc/film.mp4?token={TOKEN}"
