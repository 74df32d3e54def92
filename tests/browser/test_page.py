"""A document's page, as people meet it: with a mouse, with the keyboard, by its names, on a phone, in the dark."""

import os
import re
import struct
import zlib
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from tests.browser.devtools import BrowserError
from tests.browser.gateway import Served, Upload, target_of
from tests.browser.media import FLAC, MP3, MP4_INDEX_FIRST
from tests.browser.pages import Page, Screen
from tests.browser.player import Player

pytestmark = pytest.mark.browser

DOCUMENT = "tour"
#: What would run, if it were more than text; what is written from right to left; what needs no space for a line's end.
MARKUP = "<img src=x onerror=alert(1)>\"'&.txt"
OVERRIDE = "\N{RIGHT-TO-LEFT OVERRIDE}"
FROM_RIGHT = f"{OVERRIDE}gpj.exe"
LONG = f"{'long' * 50}.txt"

#: What the Tab key leads to.
FOCUSABLE = "a:not([tabindex='-1']), audio, video"
#: A player has fewer.
BUTTONS = 20


def picture(side: int) -> bytes:
    """A grey square, as PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = (b"\0" + b"\x80" * side) * side
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


UPLOADS = {
    "film.mp4": Upload("video/mp4", MP4_INDEX_FIRST.data),
    "song.mp3": Upload("audio/mpeg", MP3.data),
    "untyped.flac": Upload("application/octet-stream", FLAC.data),
    "picture.png": Upload("image/png", picture(64)),
    "read me.txt": Upload("text/plain", b"read me\n" * 100),
    "page.html": Upload("text/html", b"<script>alert(2)</script>"),
    MARKUP: Upload("text/plain", b"markup"),
    FROM_RIGHT: Upload("application/octet-stream", b"from right"),
    LONG: Upload("text/plain", b"long"),
}


@pytest.fixture(scope="module")
def _uploaded(gateway: Served) -> None:
    gateway.upload(DOCUMENT, UPLOADS)


@pytest.fixture
def tour(page: Page, gateway: Served, _uploaded: None) -> Iterator[Page]:
    """The document's page. Nothing is to go wrong in it, whatever is done."""
    page.navigate(gateway.origin + target_of(DOCUMENT))
    yield page
    assert page.complaints() == []
    assert page.events("Page.javascriptDialogOpening") == []


def shown(name: str) -> str:
    """What a name is on the page: a character that turns the others round is only told of."""
    return name.replace(OVERRIDE, "\N{REPLACEMENT CHARACTER}")


def saved(name: str) -> str:
    """The name of its file: what would not do as one is left out by Chromium."""
    return re.sub(f'[<>"{OVERRIDE}]', "_", name)


def test_every_name_is_text(tour: Page) -> None:
    assert {each.name for each in tour.elements("heading")} == {DOCUMENT, *map(shown, UPLOADS)}
    assert {each.do("return this.textContent.trim()") for each in tour.elements("heading")} >= set(map(shown, UPLOADS))


def test_every_download(tour: Page, tmp_path: Path) -> None:
    links = {each.name: each for each in tour.elements("link")}
    for number, (name, upload) in enumerate(UPLOADS.items()):
        directory = tmp_path / str(number)
        directory.mkdir()
        link = links[f"Download {shown(name)}"]
        file = tour.download(directory, partial(link.do, "this.click()"))
        assert file.name == saved(name)
        assert sha256(file.read_bytes()).digest() == sha256(upload.data).digest()


def test_every_player_plays(tour: Page) -> None:
    count = tour.evaluate("document.querySelectorAll('audio, video').length")
    assert count == 3
    for number in range(count):
        player = Player(tour, f"document.querySelectorAll('audio, video')[{number}]")
        player.play()
        assert player.play_past(0.3).time > 0.3


@pytest.mark.usefixtures("_uploaded")
@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("film.mp4", "video/mp4"),
        ("untyped.flac", "audio/flac"),
        ("picture.png", "image/png"),
        ("read me.txt", "text/plain"),
        (MARKUP, "text/plain"),
    ],
)
def test_a_name_leads_to_its_attachment(page: Page, gateway: Served, name: str, content_type: str) -> None:
    """It is shown, not saved."""
    page.navigate(gateway.origin + target_of(DOCUMENT))
    (link,) = (each for each in page.elements("link") if each.name == name)
    target = link.do("return this.href")
    page.navigate(target)
    assert page.evaluate("[location.href, document.contentType]") == [target, content_type]


@pytest.mark.usefixtures("_uploaded")
def test_an_attached_page_runs_nothing(page: Page, gateway: Served) -> None:
    with pytest.raises(BrowserError, match="ERR_ABORTED"):
        page.navigate(gateway.origin + target_of(DOCUMENT, "page.html"))
    assert page.evaluate("location.href") == "about:blank", "it is saved"
    assert page.events("Page.javascriptDialogOpening") == []


def test_with_the_keyboard(tour: Page) -> None:
    """From each name to its player, if it has one, and on to its download; each stop can be seen and has a name."""
    stops = tour.evaluate(f"[...document.querySelectorAll({FOCUSABLE!r})].length")
    assert stops == 2 * len(UPLOADS) + 3
    for number in range(stops):
        tour.press_tab()
        # Within a player are more stops: its buttons.
        for _ in range(BUTTONS):
            if not tour.evaluate("document.activeElement === globalThis.before"):
                break
            tour.press_tab()
        focused = tour.element("document.activeElement")
        assert focused.do(f"return [...document.querySelectorAll({FOCUSABLE!r})].indexOf(this)") == number
        assert focused.name
        assert focused.do("return this.matches(':focus-visible')")
        assert focused.do("const style = getComputedStyle(this); return style.outlineStyle !== 'none'")
        focused.do("globalThis.before = this")


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_scrolls_sideways(tour: Page, width: int) -> None:
    tour.show_on(Screen(width, 800, is_mobile=width < 1280))
    sizes = tour.evaluate("(({ scrollWidth, clientWidth }) => [scrollWidth, clientWidth])(document.documentElement)")
    # Where the screen is no mobile's, a bar for scrolling down takes some of it.
    assert sizes[0] == sizes[1] > width - 20
    # Nor is any text cut off at the side.
    for each in (*tour.elements("heading"), *tour.elements("link")):
        left, right = each.do(
            "const text = new Range(); text.selectNodeContents(this);"
            "const { left, right } = text.getBoundingClientRect(); return [left, right]"
        )
        assert 0 < left < right < sizes[1]


def test_light_and_dark(tour: Page) -> None:
    grounds = set()
    for is_dark in (False, True):
        tour.show_on(Screen(1280, 800, is_dark=is_dark))
        grounds.add(tour.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


@pytest.mark.parametrize(
    ("name", "screen"),
    [
        ("wide", Screen(1280, 800)),
        ("phone", Screen(390, 844, is_mobile=True)),
        ("dark", Screen(1280, 800, is_dark=True)),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_pictures(tour: Page, name: str, screen: Screen) -> None:
    """To be looked at by somebody, where BROWSER_PICTURES names a directory for them."""
    tour.show_on(screen)
    player = Player(tour, "document.querySelector('video')")
    player.load()
    player.seek_what_is_there(20.5)
    player.load()
    assert player.shown_second() == 20
    png = tour.picture()
    assert png.startswith(b"\x89PNG")
    assert len(png) > 10_000
    if "BROWSER_PICTURES" in os.environ:
        directory = Path(os.environ["BROWSER_PICTURES"])
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{name}.png").write_bytes(png)
