"""Expiring links at the gateway: what opens, until when, and that nothing else does."""

import gzip
import json
from typing import Any
from urllib.parse import quote

import pytest
from attrs import evolve
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests import strategies
from tests.gateway.house import TOKEN, Answer, House, are_decoys, logged
from tests.scripted import Doc, Stored
from txcouchdl.couch.names import AttachmentAddress, DocumentAddress, parse_address, quote_segment
from txcouchdl.gateway.facts import parse_query
from txcouchdl.gateway.links import LINK_GRACE, LinkRule, Phase, SignedLink, parse_link
from txcouchdl.gateway.tokens import MOST_SECRETS
from txcouchdl.links import Link, signing_key

DATA = bytes(range(256)) * 40
SECRET = b"0123456789abcdef0123456789abcdef"
#: Seconds: when the clocks of houses begin, and when links of theirs end.
NOW, END = 1_800_000_000, 1_800_000_600
FORBIDDEN = 403

FILM = Link(database="db", document_id="doc", attachment="film.mp4", expires=END)
ALL = evolve(FILM, attachment=None)


def house_at(now: float = NOW, links: LinkRule | None = None, **more: Any) -> House:
    house = House(
        {"film.mp4": Stored(DATA, "video/mp4"), "text.txt": Stored.compressed(b"text " * 999), "a/b c%é": Stored(b"!")},
        links=links,
        **more,
    )
    house.network.rightNow = now
    return house


def signed(link: Link, token: str = TOKEN, secret: bytes | None = None) -> str:
    """The target of a link."""
    names = "/".join(map(quote_segment, (link.database, link.document_id)))
    return f"/{names}/{quote_segment(link.attachment or '')}?{link.query(signing_key(token.encode(), secret))}"


def ask(house: House, target: str, method: str = "GET", **headers: str) -> Answer:
    return house.ask(target, {name.replace("_", "-"): value for name, value in headers.items()}, method)


def etag(house: House, name: str = "film.mp4") -> str:
    return f'"{house.doc.attachments[name].etag}"'


def read_json(answer: Answer) -> Any:
    return json.loads(answer.body)


def same_as_a_wrong_token(answer: Answer) -> bool:
    wrong = house_at().ask("/db/doc/film.mp4?token=wrong")
    return (answer.status, answer.body) == (wrong.status, wrong.body) and wrong.status == FORBIDDEN


# What opens.


@pytest.mark.parametrize("name", ["film.mp4", "text.txt", "a/b c%é"])
@pytest.mark.parametrize("is_for_all", [False, True])
def test_a_link_opens(name: str, is_for_all: bool) -> None:
    house = house_at()
    target = signed(evolve(FILM, attachment=name))
    if is_for_all:
        target = f"/db/doc/{quote_segment(name)}?{signed(ALL).partition('?')[2]}"
    answer = ask(house, target)
    assert (answer.status, answer.body) == (200, house.get(quote_segment(name)).body)
    assert ask(house, target, "HEAD").status == 200
    assert ask(house, target, Range="bytes=0-0").body == answer.body[:1]
    house.assert_at_rest()


def test_in_which_way_the_address_is_written_plays_no_part() -> None:
    query = signed(evolve(FILM, attachment="a/b c%é")).partition("?")[2]
    for path in ("/db/doc/a/b%20c%25%c3%a9", "/d%62/%64oc/a%2Fb%20c%25%C3%A9"):
        assert ask(house_at(), f"{path}?{query}").status == 200
    backwards = "&".join(f"%{ord(each[0]):02x}{each[1:]}" for each in reversed(query.split("&")))
    assert ask(house_at(), f"/db/doc/a/b%20c%25%C3%A9?utm=1&{backwards}&").status == 200


def test_a_page_and_all_its_links() -> None:
    house = house_at()
    answer = ask(house, signed(ALL), Accept="application/json")
    assert answer.status == 200
    urls = [each["url"] for each in read_json(answer)["attachments"]]
    assert len(urls) == 3
    for url in urls:
        assert TOKEN not in url
        assert house.ask(url.removeprefix("http://test")).status == 200
    pinned = read_json(ask(house, f"{signed(ALL)}&pin", Accept="application/json"))["attachments"]
    assert all("digest=" in each["url"] for each in pinned)
    assert all(house.ask(each["url"].removeprefix("http://test")).status == 200 for each in pinned)
    html = ask(house, signed(ALL), Accept="text/html").body.decode()
    assert f"signature={ALL.signature(TOKEN.encode())}" in html
    assert TOKEN not in html


def test_a_page_of_a_revision_stays_with_it() -> None:
    house = house_at()
    link = evolve(ALL, rev="1-abc")
    house.node.old_docs["/db/doc", "1-abc"] = Doc({}, {"old.txt": Stored(b"old")}, rev="1-abc")
    listing = read_json(ask(house, signed(link)))
    (entry,) = listing["attachments"]
    assert "rev=1-abc" in entry["url"]
    assert house.ask(entry["url"].removeprefix("http://test")).body == b"old"
    # Without it, it is another link, and so with another one.
    assert house.ask(entry["url"].removeprefix("http://test").replace("&rev=1-abc", "")).status == FORBIDDEN
    assert ask(house, f"{signed(ALL)}&rev=1-abc").status == FORBIDDEN


def test_what_is_signed_is_done() -> None:
    house = house_at()
    digest = house.doc.attachments["film.mp4"].stub["digest"]
    answer = ask(house, signed(evolve(FILM, digest=digest, download="Mein Film.mp4")))
    assert answer.status == 200
    assert answer["Content-Disposition"] == 'attachment; filename="Mein Film.mp4"'
    other = "md5-" + "A" * 22 + "=="
    assert ask(house, signed(evolve(FILM, digest=other))).status == 412


def test_what_a_link_for_all_may_have_besides() -> None:
    house = house_at()
    query = signed(ALL).partition("?")[2]
    digest = quote(house.doc.attachments["film.mp4"].stub["digest"], safe="")
    answer = ask(house, f"/db/doc/film.mp4?{query}&digest={digest}&download=x.mp4")
    assert (answer.status, answer["Content-Disposition"]) == (200, 'attachment; filename="x.mp4"')


@pytest.mark.parametrize("token", ["old", "new"])
def test_any_of_several_tokens(token: str) -> None:
    house = house_at()
    house.doc.fields["download_token"] = ["old", "new"]
    assert ask(house, signed(FILM, token)).status == 200


def test_so_many_tokens_count_and_no_more() -> None:
    """Each costs time, of everybody's, and who writes a document chooses how many there are."""
    house = house_at()
    tokens: list[Any] = [f"token-{number}" for number in range(MOST_SECRETS + 1)]
    house.doc.fields["download_token"] = tokens
    for number, status in ((0, 200), (MOST_SECRETS - 1, 200), (MOST_SECRETS, FORBIDDEN)):
        assert ask(house, signed(FILM, tokens[number])).status == status
        assert house.ask(f"/db/doc/film.mp4?token={tokens[number]}").status == status
    # What is no token takes a place too.
    house.doc.fields["download_token"] = [None, "", *[7] * (MOST_SECRETS - 2), "last"]
    assert ask(house, signed(FILM, "last")).status == FORBIDDEN


def test_a_token_beside_a_link_counts() -> None:
    house = house_at()
    for token in ("token=wrong", "token=", "token", f"token={TOKEN}&token={TOKEN}", "%74oken=wrong"):
        assert ask(house, f"{signed(FILM)}&{token}").status == FORBIDDEN
    assert ask(house, signed(FILM), Authorization="Bearer wrong").status == FORBIDDEN
    assert ask(house, f"{signed(evolve(FILM, expires=1))}&token={TOKEN}").status == 200
    # The page's links have what opened it.
    listing = read_json(ask(house, f"{signed(ALL)}&token={TOKEN}"))
    assert all("token=" in each["url"] and "signature" not in each["url"] for each in listing["attachments"])


# What does not.


@pytest.mark.parametrize("link", [FILM, ALL, evolve(FILM, grace=60, digest="md5-x", download="n", rev="1-a")])
def test_another_signature(link: Link) -> None:
    house = house_at()
    right = link.signature(TOKEN.encode())
    wrong = [
        "",
        "A" * 43,
        right[:-1],
        f"{right}=",
        f"{right}A",
        right.swapcase(),
        link.signature(b"another"),
        f"{right}&signature={right}",
        # Other bits that base64 would drop.
        right[:-1] + chr(ord(right[-1]) ^ 1),
    ]
    for each in wrong:
        target = signed(link).replace(f"signature={right}", f"signature={each}")
        assert same_as_a_wrong_token(ask(house, target)), each
    assert not house.node.asked[-1].path.endswith("film.mp4")


def test_a_link_for_one_thing_opens_no_other() -> None:
    house = house_at()
    house.node.docs["/db/other"] = house.node.docs["/other/doc"] = house.doc
    query = signed(FILM).partition("?")[2]
    for path in ("/db/doc/text.txt", "/db/doc/", "/db/other/film.mp4", "/other/doc/film.mp4", "/db/doc/film.mp4/"):
        assert same_as_a_wrong_token(house.ask(f"{path}?{query}")), path
    for_all = signed(ALL).partition("?")[2]
    for path in ("/db/other/film.mp4", "/other/doc/film.mp4", "/db/other/"):
        assert same_as_a_wrong_token(house.ask(f"{path}?{for_all}")), path


@pytest.mark.parametrize(
    "more",
    ["grace=600", "digest=md5-x", "download", "download=x", "rev=1-a", "expires=1900000000", "grace=", "rev="],
)
def test_what_is_added(more: str) -> None:
    for target in (f"{signed(FILM)}&{more}", signed(FILM).replace("?", f"?{more}&")):
        assert same_as_a_wrong_token(ask(house_at(), target))


@pytest.mark.parametrize("name", ["grace", "digest", "download", "rev", "expires", "signature"])
def test_what_is_left_out_or_comes_twice(name: str) -> None:
    link = evolve(FILM, grace=60, digest="md5-x", download="x", rev="1-a")
    path, _, query = signed(link).partition("?")
    pairs = query.split("&")
    without = [pair for pair in pairs if not pair.startswith(f"{name}=")]
    assert len(without) == len(pairs) - 1
    assert same_as_a_wrong_token(ask(house_at(), f"{path}?{'&'.join(without)}"))
    (pair,) = set(pairs) - set(without)
    assert same_as_a_wrong_token(ask(house_at(), f"{path}?{query}&{pair}"))


@pytest.mark.parametrize("expires", ["", "x", "-1", "+1900000000", "01900000000", "1900000000.0", "9" * 13, "1e12"])
def test_an_end_that_is_none(expires: str) -> None:
    target = signed(FILM).replace(f"expires={END}", f"expires={quote(expires)}")
    assert same_as_a_wrong_token(ask(house_at(), target))


def test_it_dies_with_the_token() -> None:
    house = house_at()
    target = signed(FILM)
    assert ask(house, target).status == 200
    house.doc.fields["download_token"] = "another"
    assert same_as_a_wrong_token(ask(house, target))
    nothing: list[Any] = ["", None, [], 7]
    for each in nothing:
        house.doc.fields["download_token"] = each
        assert same_as_a_wrong_token(ask(house, target))


def test_nobody_signs_with_nothing() -> None:
    house = house_at()
    for token in ("", None, ["", None]):
        house.doc.fields["download_token"] = token
        for key in (b"", b"None", b"\0"):
            target = signed(FILM).replace(FILM.signature(TOKEN.encode()), FILM.signature(key))
            assert same_as_a_wrong_token(ask(house, target))
    missing = signed(evolve(FILM, document_id="none"), "")
    assert same_as_a_wrong_token(ask(house, missing))


def test_wrong_signatures_are_counted_as_wrong_tokens() -> None:
    house = house_at()
    wrong = signed(FILM, "guess")
    assert {ask(house, wrong).status for _ in range(60)} == {403}
    waiting = house.send(wrong)
    house.network.run()
    assert not waiting.received
    # What is over needs no guessing, and costs nothing.
    asked = len(house.node.asked)
    assert ask(house, signed(evolve(FILM, expires=1), "guess")).status == FORBIDDEN
    assert len(house.node.asked) == asked


@pytest.mark.parametrize("path", ["//b/", "/music//b", "///", "//doc/", "/music//", "//doc/b", "///b", "//_design//b"])
@pytest.mark.parametrize("secret", [None, SECRET])
def test_an_empty_name_has_no_link(path: str, secret: bytes | None) -> None:
    """It is a 403 like any other, and not a mistake of ours."""
    house = house_at(links=LinkRule(secret))
    with logged() as events:
        got = ask(house, f"{path}?expires=9999999999&signature=A")
    assert same_as_a_wrong_token(got)
    assert [event for event in events if "log_failure" in event] == []
    assert are_decoys(house)


def test_a_link_for_no_address() -> None:
    """Too short for one, with a link or without."""
    assert ask(house_at(), "//b?expires=9999999999&signature=A").status == 404


@given(strategies.utf8_text | st.just(""), strategies.utf8_text | st.just(""), st.none() | strategies.utf8_text)
@example("", "b", "c")
@example("db", "", None)
def test_whatever_the_address_a_signature_is_right_or_wrong(
    database: str, document_id: str, attachment: str | None
) -> None:
    link = SignedLink(b"A", 1)
    document = DocumentAddress(database, document_id)
    address = document if not attachment else AttachmentAddress(database, document_id, attachment)
    assert LinkRule().is_signed(link, address, [b"token"]) is False


@pytest.mark.parametrize("name", ["_users", "Legal", ".."])
def test_what_cannot_be_addressed_has_no_link(name: str) -> None:
    house = house_at()
    house.node.docs[f"/{name}/doc"] = house.doc
    assert same_as_a_wrong_token(ask(house, signed(evolve(FILM, database=name))))
    assert are_decoys(house)


# Until when.


@pytest.mark.parametrize(
    ("now", "grace", "phase"),
    [
        (END - 1, None, Phase.OPEN),
        (END - 0.001, None, Phase.OPEN),
        (END, None, Phase.RESUMING),
        (END + LINK_GRACE - 0.001, None, Phase.RESUMING),
        (END + LINK_GRACE, None, Phase.OVER),
        (END, 0, Phase.OVER),
        (END + 9.9, 10, Phase.RESUMING),
        (END + 10, 10, Phase.OVER),
        # No more than the gateway has.
        (END + LINK_GRACE, 10**9, Phase.OVER),
        (END + LINK_GRACE - 1, 10**9, Phase.RESUMING),
    ],
)
def test_phases(now: float, grace: int | None, phase: Phase) -> None:
    house = house_at(now)
    target = signed(evolve(FILM, grace=grace))
    assert ask(house, target).status == (200 if phase is Phase.OPEN else FORBIDDEN)
    assert ask(house, target, Range="bytes=1-").status == (FORBIDDEN if phase is Phase.OVER else 206)
    page = signed(evolve(ALL, grace=grace))
    assert ask(house, page).status == (200 if phase is Phase.OPEN else FORBIDDEN)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, FORBIDDEN),
        ({"Range": "bytes=100-"}, 206),
        ({"Range": "bytes=100-,5-6"}, 206),
        ({"Range": "bytes=-100"}, 206),
        ({"Range": f"bytes={len(DATA)}-"}, 416),
        ({"Range": "bytes=0-"}, FORBIDDEN),
        ({"Range": "bytes=5-6,0-0"}, FORBIDDEN),
        ({"Range": f"bytes=-{len(DATA)}"}, FORBIDDEN),
        ({"Range": "bytes=nonsense"}, FORBIDDEN),
        # So many would be answered with all of it.
        ({"Range": "bytes=1-,2-,3-"}, FORBIDDEN),
        ({"Range": "bytes=100-", "If-Range": '"other"'}, FORBIDDEN),
        ({"Range": "bytes=0-", "If-Range": "ETAG"}, 206),
        ({"If-Range": "ETAG"}, 200),
        ({"If-Match": "ETAG"}, 200),
        ({"If-Match": '"other", ETAG'}, 200),
        ({"If-Match": "*"}, FORBIDDEN),
        ({"If-Match": '"other"'}, 412),
        ({"If-Range": "W/ETAG"}, FORBIDDEN),
        ({"If-Range": "*"}, FORBIDDEN),
        ({"If-None-Match": "ETAG"}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"other"'}, FORBIDDEN),
    ],
)
def test_what_goes_on_in_the_grace(headers: dict[str, str], status: int) -> None:
    house = house_at(END + 60)
    fields = {name: value.replace("ETAG", etag(house)) for name, value in headers.items()}
    for target in (signed(FILM), f"/db/doc/film.mp4?{signed(ALL).partition('?')[2]}"):
        answer = house.ask(target, fields)
        assert answer.status == status
        if status == FORBIDDEN:
            assert same_as_a_wrong_token(answer)
    house.assert_at_rest()


@pytest.mark.parametrize("way", ["compressed", "encoded"])
def test_what_goes_on_of_what_is_stored_compressed(way: str) -> None:
    text = b"line\n" * 4000
    stored = Stored.compressed(text) if way == "compressed" else Stored.encoded(gzip.compress(text))
    house = House({"text.txt": stored})
    house.network.rightNow = END + 60
    target = signed(evolve(FILM, attachment="text.txt"))
    assert ask(house, target).status == FORBIDDEN
    assert ask(house, target, Range="bytes=0-").status == FORBIDDEN
    answer = ask(house, target, Range="bytes=7-")
    assert (answer.status, answer.body) == (206, text[7:])
    house.assert_at_rest()


def test_a_head_in_the_grace() -> None:
    """Some begin with it to go on; and it brings no byte."""
    house = house_at(END)
    assert (ask(house, signed(FILM), "HEAD").status, ask(house, signed(FILM)).status) == (200, FORBIDDEN)
    assert ask(house_at(END + LINK_GRACE), signed(FILM), "HEAD").status == FORBIDDEN


def test_what_is_not_there_in_the_grace() -> None:
    house = house_at(END)
    target = signed(evolve(FILM, attachment="none"))
    assert ask(house, target, Range="bytes=1-").status == 404


def test_a_response_that_began_in_time_goes_on_to_its_end() -> None:
    house = house_at(END - 1)
    client = house.send(signed(evolve(FILM, grace=0)))
    house.network.run(lambda: b"\r\n\r\n" in client.received)
    house.network.advance(5)
    house.network.run()
    assert client.received.endswith(DATA)


# The gateway's secret and its databases.


def test_with_a_secret_only_who_has_it_signs() -> None:
    house = house_at(links=LinkRule(SECRET))
    assert ask(house, signed(FILM, secret=SECRET)).status == 200
    assert ask(house, signed(ALL, secret=SECRET)).status == 200
    assert same_as_a_wrong_token(ask(house, signed(FILM)))
    assert same_as_a_wrong_token(ask(house, signed(FILM, secret=SECRET[::-1])))
    assert same_as_a_wrong_token(ask(house, signed(FILM, "another", SECRET)))
    # The token itself opens as ever.
    assert house.get("film.mp4").status == 200
    without = house_at()
    assert same_as_a_wrong_token(ask(without, signed(FILM, secret=SECRET)))


def test_a_gateway_without_grace() -> None:
    house = house_at(END, LinkRule(grace=0))
    assert ask(house, signed(evolve(FILM, grace=60)), Range="bytes=1-").status == FORBIDDEN


@pytest.mark.parametrize(
    ("globs", "is_open"),
    [
        *((globs, True) for globs in ((), ("db",), ("music", "d?"), ("*",), ("[a-d]*",))),
        *((globs, False) for globs in (("DB",), ("d",), ("db?",), ("[!d]*",), ("db/",))),
    ],
)
def test_databases_that_may_be_read(globs: tuple[str, ...], is_open: bool) -> None:
    house = house_at(databases=globs)
    status = 200 if is_open else FORBIDDEN
    assert [house.get("film.mp4").status, ask(house, signed(FILM)).status, house.get("").status] == [status] * 3
    if not is_open:
        assert same_as_a_wrong_token(house.get("film.mp4"))
        assert are_decoys(house)


# No secrets where they do not belong.


def test_no_log_has_a_signature() -> None:
    house = house_at()
    with logged() as events:
        for target in (signed(FILM), signed(ALL), signed(FILM, "wrong"), signed(evolve(FILM, expires=1))):
            house.ask(target)
    assert len(house.log) == 4
    written = "\n".join([*house.log, *map(repr, events)])
    signatures = {link.signature(key) for link in (FILM, ALL) for key in (TOKEN.encode(), b"wrong")}
    assert not [each for each in signatures if each in written]
    assert "signature=***" in written


def test_no_signature_in_the_own_words_of_what_has_it() -> None:
    assert "pssst" not in repr(SignedLink(b"pssst", 1))
    assert "pssst" not in repr(LinkRule(b"pssst" * 8))


# Any link at all.


@given(
    database=st.sampled_from(["db", "a_$()+/-z"]),
    document_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
    attachment=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
    values=st.fixed_dictionaries(
        {},
        optional={
            name: st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
            for name in ("digest", "download", "rev")
        },
    ),
    data=st.data(),
)
def test_signer_and_verifier_agree(
    database: str, document_id: str, attachment: str, values: dict[str, str], data: st.DataObject
) -> None:
    """However the address is written, and whatever the names are."""
    assume(not document_id.startswith("_design/"))
    link = Link(database=database, document_id=document_id, attachment=attachment, expires=END, **values)  # type: ignore[arg-type]
    path = b"/" + b"/".join(
        data.draw(strategies.spellings(name, encode_all="/" in name)) for name in (database, document_id, attachment)
    )
    address = parse_address(path)
    assume(isinstance(address, AttachmentAddress) and address.document_id == document_id)
    read = parse_link(parse_query(link.query(TOKEN.encode()).encode("ascii")))
    assert read is not None
    rule = LinkRule()
    assert rule.is_signed(read, address, [b"x", TOKEN.encode()])
    assert not rule.is_signed(read, address, [b"x"])
    name = data.draw(st.sampled_from(["expires", "grace", "digest", "download", "rev"]))
    value: Any = 7 if name in {"expires", "grace"} else "7"
    assume(getattr(read, name) != value)
    fields: dict[str, Any] = {name: value}
    assert not rule.is_signed(evolve(read, **fields), address, [TOKEN.encode()])


@given(query=st.binary(max_size=60) | st.text("expirsgnatuc=&019%", max_size=60).map(str.encode))
@example(query=b"expires=1&signature=\xff")
@example(query=b"expires=1&signature=%ff&download=%ff")
@example(query=b"signature=x")
def test_no_query_is_too_strange(query: bytes) -> None:
    link = parse_link(parse_query(query))
    assert link is None or LinkRule().phase(link, NOW) in Phase
    if link is not None:
        assert not LinkRule().is_signed(link, AttachmentAddress("db", "doc", "film.mp4"), [TOKEN.encode()])
