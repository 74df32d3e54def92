"""The page for people: what it shows, and that what it shows is never more than text."""

import re
import unicodedata
from base64 import b64encode
from collections.abc import Iterator
from decimal import Decimal
from hashlib import sha256
from html.parser import HTMLParser
from typing import Final

import pytest
from attrs import define, evolve, field
from hypothesis import example, given
from hypothesis import strategies as st

from tests.strategies import hostile_names
from txcouchdl.page.html import POLICY, render
from txcouchdl.page.listing import Entry, Listing
from txcouchdl.protocol.media_types import kind_of

# --- reading a page -------------------------------------------------------------------------------------------

_VOID: Final = frozenset({"link", "meta", "img"})


@define
class Element:
    """An element of a page, and what is within it."""

    tag: str
    attributes: dict[str, str | None]
    children: "list[Element | str]" = field(factory=list)

    def walk(self) -> "Iterator[Element]":
        """This one and all within it, in the order of the page."""
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child.walk()

    def all(self, *tags: str) -> "list[Element]":
        return [element for element in self.walk() if element.tag in tags]

    def one(self, tag: str) -> "Element":
        (found,) = self.all(tag)
        return found

    def of_class(self, name: str) -> "list[Element]":
        return [element for element in self.walk() if element["class"] == name]

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def __getitem__(self, name: str) -> str | None:
        return self.attributes.get(name)


class _Reader(HTMLParser):
    """Reads a page whose elements are all closed where they have to be."""

    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("", {})]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.open[-1].children.append(Element(tag, dict(attrs)))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        begun = self.open[-1].children[-1]
        if tag not in _VOID and isinstance(begun, Element):
            self.open.append(begun)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


def read(page: bytes) -> Element:
    reader = _Reader()
    reader.feed(page.decode("utf-8"))
    reader.close()
    (root,) = reader.open
    return root


def shown(*entries: Entry, document_id: str = "tour", database: str = "demo") -> Element:
    return read(render(Listing(database, document_id, "1-a", entries, total=len(entries), last=len(entries))))


def shown_entries(*entries: Entry) -> list[Element]:
    return shown(*entries).all("li")


def shape_of(element: Element) -> list[tuple[str, dict[str, str | None]]]:
    """All that is in a page but its text."""
    return [(each.tag, each.attributes) for each in element.walk()]


def accessible_name(element: Element, page: Element) -> str:
    """What a screen reader calls it (of accname-1.2, the parts that the page makes use of)."""
    by_id = {each["id"]: each for each in page.walk() if each["id"] is not None}
    labels = [by_id[id_] for id_ in (element["aria-labelledby"] or "").split()] or [element]
    return " ".join(label.text for label in labels)


# --- entries ----------------------------------------------------------------------------------------------------


def an_entry(
    name: str = "a.bin", content_type: str | None = None, length: int | None = 5, link: str = "a.bin"
) -> Entry:
    return Entry(
        name,
        content_type,
        length,
        "md5-AAAA",
        1,
        f"{link}?token=t&rev=1-a",
        f"{link}?token=t&rev=1-a&digest=md5-AAAA",
        f"{link}?token=t&rev=1-a&digest=md5-AAAA&download",
    )


def without_address(entry: Entry) -> Entry:
    return evolve(entry, link=None, player=None, download=None)


AUDIO: Final = an_entry("melody.mp3", "audio/mpeg", link="melody.mp3")
VIDEO: Final = an_entry("countdown.mp4", "video/mp4; codecs=avc1", link="countdown.mp4")
IMAGE: Final = an_entry("harbour.png", "image/png", link="harbour.png")
OTHER: Final = an_entry("story.txt", "text/plain", link="story.txt")
UNADDRESSABLE: Final = without_address(an_entry("a//b.mp4", "video/mp4"))
ONE_OF_EACH: Final = (AUDIO, VIDEO, IMAGE, OTHER, UNADDRESSABLE)

_JOINERS: Final = "\u200c\u200d"


def is_seen(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}


def as_seen(text: str) -> str:
    return "".join(character if is_seen(character) else "\ufffd" for character in text)


def is_blank(text: str) -> bool:
    return not text.replace("\u200c", "").replace("\u200d", "").strip()


#: Text in which somebody hides something, of which something is seen.
hostile_text: Final = st.one_of(hostile_names, st.text("<>&'\"/=`!-{}%# abonstyle", max_size=30)).filter(
    lambda text: not is_blank(text)
)

#: A media type, and one that browsers take for the same, with anything in it.
hostile_types: Final = (
    st.tuples(st.sampled_from(["audio/mpeg", "video/mp4", "image/png", "text/plain"]), hostile_text)
    .map(lambda drawn: (drawn[0], f"{drawn[0]};{drawn[1]}"))
    .filter(lambda drawn: kind_of(drawn[0]) is kind_of(drawn[1]))
)

MARKUP: Final = (
    "</bdi></title></style><script>alert(1)</script><img src=x onerror=alert(1)>\" onload='alert(1)' <!-- &lt;"
)
DECEIT: Final = "\u202egpj.exe\u2066\u200b\ufeff\u00ad\u2028\u2029\r\n\t\x00\x1b\x7f\x85\ud800\udfff\U000e0041"
TEMPLATE: Final = "{{ 7 * 7 }}{% raw %}{# #}${7}"
LONG: Final = "W" * 1000
SPELT: Final = (
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f469\u200d\U0001f52c Zu\u0308rich\u0300\u0300\u0300 \ue000"
)
PINNED: Final = (MARKUP, DECEIT, TEMPLATE, LONG, SPELT)


# --- text is text -------------------------------------------------------------------------------------------------


@given(hostile_text, hostile_text, hostile_text, hostile_types)
def test_no_text_changes_the_shape_of_the_page(
    name: str, document_id: str, database: str, types: tuple[str, str]
) -> None:
    plain, hostile = an_entry("a", types[0]), an_entry(name, types[1])
    page = shown(hostile, without_address(hostile), document_id=document_id, database=database)
    assert shape_of(page) == shape_of(shown(plain, without_address(plain)))


@pytest.mark.parametrize("text", PINNED)
def test_pinned_text_does_not_change_it_either(text: str) -> None:
    hostile = [evolve(entry, name=text) for entry in ONE_OF_EACH]
    assert shape_of(shown(*hostile, document_id=text, database=text)) == shape_of(shown(*ONE_OF_EACH))


@given(hostile_text, hostile_text, hostile_text, hostile_text)
@example(*[MARKUP] * 4)
@example(*[DECEIT] * 4)
@example(*[TEMPLATE] * 4)
@example(*[LONG] * 4)
@example(*[SPELT] * 4)
def test_text_is_shown_letter_by_letter_and_by_itself(
    name: str, document_id: str, database: str, content_type: str
) -> None:
    entry = an_entry(name, content_type)
    page = shown(entry, without_address(entry), document_id=document_id, database=database)
    texts = (database, document_id, name, content_type, name, content_type)
    assert [isolated.text for isolated in page.all("bdi")] == [as_seen(text) for text in texts]
    assert page.one("title").text.startswith(as_seen(document_id))


@given(hostile_text)
@example(MARKUP + DECEIT)
def test_every_character_of_the_page_is_one_that_is_seen(text: str) -> None:
    page = render(Listing(text, text, "1-a", (an_entry(text, text),), total=1, last=1)).decode("utf-8")
    assert all(is_seen(character) for character in page.replace("\n", ""))


@pytest.mark.parametrize("blank", ["", " ", "\u00a0\u2003", "\u200d", " \u200c\n"])
def test_what_would_show_nothing_has_words_instead(blank: str) -> None:
    page = shown(an_entry(blank, blank), document_id=blank, database=blank)
    assert [each.text for each in page.all("em")] == ["blank name", "blank id", "blank name", "unknown type"]
    assert accessible_name(page.of_class("download")[0], page) == "Download blank name"


# --- the browser is asked for nothing else ----------------------------------------------------------------------

_TAGS: Final = {
    *("", "html", "head", "meta", "link", "title", "style", "body", "header", "main", "h1", "h2", "p", "ul", "li", "a"),
    *("bdi", "em", "data", "div", "audio", "video", "img", "svg", "path"),
}
_ATTRIBUTES: Final = {
    *("lang", "charset", "name", "content", "role", "class", "id", "aria-labelledby", "aria-hidden", "tabindex"),
    *("href", "src", "value", "title", "controls", "playsinline", "preload", "alt", "loading", "decoding"),
    *("viewbox", "d", "rel"),
}


def test_the_page_is_made_of_nothing_that_runs() -> None:
    page = shown(*ONE_OF_EACH)
    assert {element.tag for element in page.walk()} == _TAGS - {"em"}
    assert {name for element in page.walk() for name in element.attributes} == _ATTRIBUTES


def test_every_address_is_an_entry_s_own() -> None:
    page = shown(*ONE_OF_EACH)
    of_lists = [
        [each[name] for each in item.walk() for name in ("href", "src") if each[name]] for item in page.all("li")
    ]
    assert of_lists == [
        [AUDIO.link, AUDIO.player, AUDIO.download],
        [VIDEO.link, VIDEO.player, VIDEO.download],
        [IMAGE.link, IMAGE.link, IMAGE.link, IMAGE.download],
        [OTHER.link, OTHER.download],
        [],
    ]
    assert page.one("link").attributes == {"rel": "icon", "href": "data:,"}
    everywhere = [each[name] for each in page.one("body").walk() for name in ("href", "src") if each[name]]
    assert everywhere == [address for addresses in of_lists for address in addresses]


def test_the_stylesheet_knows_the_page_s_classes() -> None:
    page = shown(*ONE_OF_EACH)
    classes = {name for each in page.walk() for name in (each["class"] or "").split()}
    assert set(re.findall(r"\.([a-z]+)[ ,:{]", page.one("style").text)) == classes


def test_the_stylesheet_asks_for_nothing() -> None:
    style = shown().one("style").text
    assert not any(asking in style for asking in ("url(", "@import", "image-set(", "src:", "//", "<"))


def test_the_policy_lets_in_what_the_page_has_and_nothing_else() -> None:
    page = render(Listing("demo", "tour", "1-a", ONE_OF_EACH, total=5, last=5))
    stylesheet = page.partition(b"<style>")[2].partition(b"</style>")[0]
    digest = b64encode(sha256(stylesheet).digest()).decode("ascii")
    assert stylesheet.strip()
    assert POLICY.split("; ") == [
        "default-src 'none'",
        "img-src 'self' data:",
        "media-src 'self'",
        f"style-src 'sha256-{digest}'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]


def test_the_head_tells_browsers_and_robots_what_they_need() -> None:
    page = shown()
    assert page.one("html")["lang"] == "en"
    assert [meta.attributes for meta in page.all("meta")] == [
        {"charset": "utf-8"},
        {"name": "viewport", "content": "width=device-width, initial-scale=1"},
        {"name": "color-scheme", "content": "light dark"},
        {"name": "referrer", "content": "no-referrer"},
        {"name": "robots", "content": "noindex"},
    ]


# --- players and previews -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "tags"),
    [(AUDIO, ["audio"]), (VIDEO, ["video"]), (IMAGE, ["img"]), (OTHER, []), (UNADDRESSABLE, [])],
    ids=lambda value: value.name if isinstance(value, Entry) else "",
)
def test_what_can_be_played_has_a_player_and_what_can_be_seen_a_preview(entry: Entry, tags: list[str]) -> None:
    assert [element.tag for element in shown(entry).all("audio", "video", "img")] == tags


def test_players_are_the_browser_s_and_films_play_where_they_are() -> None:
    page = shown(AUDIO, VIDEO)
    assert "controls" in page.one("audio").attributes
    assert {"controls", "playsinline"} <= set(page.one("video").attributes)


def test_pictures_load_when_they_come_into_view_and_lead_to_themselves() -> None:
    (preview,) = shown(IMAGE).of_class("preview")
    assert preview["href"] == IMAGE.link
    assert preview.one("img").attributes == {"src": IMAGE.link, "alt": "", "loading": "lazy", "decoding": "async"}


@given(st.lists(st.sampled_from(ONE_OF_EACH), max_size=40))
@example([AUDIO, VIDEO] * 8)
@example([UNADDRESSABLE, IMAGE] * 8 + [AUDIO, VIDEO] * 8)
def test_only_the_first_players_load_before_they_are_started(entries: list[Entry]) -> None:
    loading = [player["preload"] for player in shown(*entries).all("audio", "video")]
    assert loading == (["metadata"] * 8 + ["none"] * len(loading))[: len(loading)]


# --- for keyboards and screen readers ------------------------------------------------------------------------------


def test_one_goes_from_the_name_to_the_player_to_the_download() -> None:
    stops = [
        [(each.tag, each["class"]) for each in item.all("a", "audio", "video") if each["tabindex"] is None]
        for item in shown_entries(*ONE_OF_EACH)
    ]
    name, download = ("a", None), ("a", "download")
    assert stops == [
        [name, ("audio", None), download],
        [name, ("video", None), download],
        [name, download],
        [name, download],
        [],
    ]


def test_everything_that_can_be_used_is_called_by_its_attachment_s_name() -> None:
    page = shown(AUDIO, IMAGE, evolve(AUDIO, name="melody <2>.mp3"))
    usable = [each for each in page.all("a", "audio") if each["aria-hidden"] is None]
    assert [(each.tag, accessible_name(each, page)) for each in usable] == [
        ("a", "melody.mp3"),
        ("audio", "melody.mp3"),
        ("a", "Download melody.mp3"),
        ("a", "harbour.png"),
        ("a", "Download harbour.png"),
        ("a", "melody <2>.mp3"),
        ("audio", "melody <2>.mp3"),
        ("a", "Download melody <2>.mp3"),
    ]


def test_a_preview_does_not_repeat_the_name_s_link_to_those_who_do_not_see_it() -> None:
    (preview,) = shown(IMAGE).of_class("preview")
    assert (preview["aria-hidden"], preview["tabindex"]) == ("true", "-1")


def test_ids_are_unique() -> None:
    ids = [each["id"] for each in shown(*ONE_OF_EACH, *ONE_OF_EACH).walk() if each["id"] is not None]
    assert len(ids) == len(set(ids)) == 16


def test_the_page_has_landmarks_headings_and_a_list() -> None:
    page = shown(*ONE_OF_EACH)
    assert [each.tag for each in page.all("header", "main", "h1", "ul", "li", "h2")] == [
        *("header", "h1", "main", "ul"),
        *("li", "h2") * len(ONE_OF_EACH),
    ]
    assert page.one("ul")["role"] == "list"


# --- sizes and numbers ---------------------------------------------------------------------------------------------

_BYTES: Final = {
    unit: 1000**power
    for power, units in enumerate([("byte", "bytes"), ("kB",), ("MB",), ("GB",), ("TB",), ("PB",), ("EB",)])
    for unit in units
}
lengths: Final = st.integers(0, 2_000_000) | st.integers(0, 30).flatmap(lambda power: st.integers(0, 10**power))


def shown_size(length: int) -> str:
    return shown(an_entry(length=length)).one("data").text


def told_by(size: str) -> tuple[Decimal, int]:
    """The number and the unit of a size, as bytes."""
    number, unit = size.split(" ")
    return Decimal(number.replace(",", "")) * _BYTES[unit], _BYTES[unit]


@pytest.mark.parametrize(
    ("length", "size"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (1049, "1.0 kB"),
        (1050, "1.1 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (34_213_331, "34.2 MB"),
        (2**63, "9.2 EB"),
        (10**22, "10,000.0 EB"),
    ],
)
def test_sizes_as_people_read_them(length: int, size: str) -> None:
    assert shown_size(length) == size


@given(lengths)
@example(999_950)
@example(10**30)
def test_a_size_is_right_to_a_twentieth_of_its_unit(length: int) -> None:
    told, unit = told_by(shown_size(length))
    assert abs(told - length) <= (Decimal(unit) / 20 if unit > 1 else 0)
    assert told < 1000 * unit or unit == _BYTES["EB"]


@given(lengths, lengths)
@example(999_949, 999_950)
def test_more_bytes_are_never_shown_as_less(one: int, other: int) -> None:
    assert told_by(shown_size(min(one, other)))[0] <= told_by(shown_size(max(one, other)))[0]


@given(lengths)
def test_the_exact_number_of_bytes_is_there_too(length: int) -> None:
    data = shown(an_entry(length=length)).one("data")
    assert data["value"] == str(length)
    assert (data["title"] or "").replace(",", "") == f"{length} byte{'' if length == 1 else 's'}"


def test_what_is_not_known_is_said_to_be_unknown() -> None:
    (item,) = shown_entries(an_entry(length=None, content_type=None))
    assert item.of_class("facts")[0].text == "size unknown · unknown type"
    assert not item.all("data")


@pytest.mark.parametrize(
    ("known", "summary"),
    [
        ([5], "1 attachment · 5 bytes"),
        ([700, 800], "2 attachments · 1.5 kB"),
        ([700, None, 800], "3 attachments · at least 1.5 kB"),
        ([None, None], "2 attachments · size unknown"),
        ([0] * 1234, "1,234 attachments · 0 bytes"),
    ],
)
def test_the_header_sums_up(known: list[int | None], summary: str) -> None:
    header = shown(*(an_entry(length=length) for length in known)).one("header")
    assert [each.text for each in header.all("p", "h1")] == ["Database demo", "tour", summary]


# --- documents of other sizes ---------------------------------------------------------------------------------------


def test_entries_are_shown_in_their_order() -> None:
    names = [item.one("h2").text for item in shown_entries(*reversed(ONE_OF_EACH))]
    assert names == [entry.name for entry in reversed(ONE_OF_EACH)]


def test_a_document_without_attachments_says_so() -> None:
    page = shown()
    assert page.one("main").text.strip() == "This document has no attachments."
    assert [each.text for each in page.one("header").all("p", "h1")] == ["Database demo", "tour"]
    assert not page.all("ul", "a")


PART: Final = Listing("demo", "tour", "1-a", (AUDIO, VIDEO), total=1234, last=1002, skipped=1000)


@pytest.mark.parametrize(
    ("previous", "following", "links"),
    [
        ("?token=t&skip=998", None, [("Previous", "prev", "?token=t&skip=998")]),
        (None, "?token=t&skip=2", [("Next", "next", "?token=t&skip=2")]),
        ("?skip=998", "?skip=1002", [("Previous", "prev", "?skip=998"), ("Next", "next", "?skip=1002")]),
    ],
)
def test_a_part_of_many_attachments_says_which_and_leads_to_the_others(
    previous: str | None, following: str | None, links: list[tuple[str, str, str]]
) -> None:
    page = read(render(evolve(PART, previous=previous, next=following)))
    assert page.one("header").all("p")[-1].text == "1,001 to 1,002 of 1,234 attachments"
    assert [(each.text, each["rel"], each["href"]) for each in page.one("nav").all("a")] == links
    assert page.one("nav")["aria-label"] == "More attachments"


def test_all_attachments_lead_to_no_others() -> None:
    assert not shown(*ONE_OF_EACH).all("nav")


def test_what_is_left_out_of_a_part_is_counted_all_the_same() -> None:
    page = read(render(evolve(PART, entries=(AUDIO,), next="?skip=1002")))
    assert page.one("header").all("p")[-1].text == "1,001 to 1,002 of 1,234 attachments"


def test_a_name_of_megabytes_is_shown_in_part() -> None:
    name = "W" * 2_000_000
    page = render(Listing(name, name, "1-a", (an_entry(name, name),), total=1, last=1))
    assert len(page) < 40_000
    assert {each.text for each in read(page).all("bdi")} == {f"{'W' * 1000}…"}


def test_past_the_last_attachment_there_is_a_way_back() -> None:
    page = read(render(evolve(PART, entries=(), skipped=1234, last=1234, previous="?skip=500")))
    assert page.one("main").text.strip() == "There are none here."
    assert page.one("header").all("p")[-1].text == "1,234 attachments"
    assert page.one("nav").one("a")["href"] == "?skip=500"


def test_what_is_left_out_may_have_any_size() -> None:
    page = read(render(Listing("demo", "tour", "1-a", (AUDIO,), total=2, last=2)))
    assert page.one("header").all("p")[-1].text == "2 attachments · at least 5 bytes"


def test_what_has_no_address_says_why_it_has_no_link() -> None:
    (item,) = shown_entries(UNADDRESSABLE)
    assert item.one("h2").text == UNADDRESSABLE.name
    assert item.of_class("obstacle")[0].text == "No link can lead to this name: it cannot be downloaded here."
    assert not item.all("a", "video")


def test_a_document_with_many_attachments_has_a_page_of_bearable_size() -> None:
    entries = [evolve(ONE_OF_EACH[number % 4], name=f"{number}") for number in range(500)]
    page = render(Listing("demo", "tour", "1-a", tuple(entries), total=500, last=500))
    assert len(read(page).all("li")) == 500
    assert len(page) < 500 * 700
