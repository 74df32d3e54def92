"""
Seeking to what is not there yet. A seek is proven when its place was not buffered, the player says that it is there,
the relay saw a 206 for it that begins where nothing had passed, and what is shown or heard is of that second.
"""

import pytest

from tests.browser.devtools import BrowserError
from tests.browser.gateway import Served, target_of
from tests.browser.media import DURATION, FLAC, MEDIA, MP4_INDEX_FIRST, MP4_INDEX_LAST, WEBM, Medium
from tests.browser.pages import Page
from tests.browser.player import Player, State
from tests.browser.relay import BLANK, Relay

pytestmark = pytest.mark.browser

#: A second that is far from what is there: Chromium waits for what is only a few blocks of 32 KiB ahead. But what it
#: knows of the end, to tell the duration, does not reach that far back.
SOUGHT = 40


def opened(page: Page, network: Relay, medium: Medium, origin: str | None = None, *, cors: bool = False) -> Player:
    """The medium's player, in an empty page of the gateway's origin or of another one."""
    network.begin(medium.rate)
    page.navigate((origin or network.origin) + BLANK)
    return Player.made(page, medium, network.origin + target_of("media", medium.name), cors=cors)


def assert_fetched(network: Relay, count: int) -> None:
    """
    It was asked for, and a part alone was answered.

    :param count: how many requests there had been before.
    """
    answered = {each.status for each in network.exchanges if each.status is not None}
    # What Chromium has in its cache, it may ask about.
    assert answered <= {206, 304}
    assert any(each.status == 206 and each.is_ahead for each in network.exchanges[count:]), network.exchanges


def assert_is_there(state: State, second: int) -> None:
    assert int(state.time) == second
    assert state.seekable_to == state.duration == pytest.approx(DURATION, abs=0.1)


def assert_content(player: Player, medium: Medium, second: int) -> None:
    """That second is shown or heard."""
    if medium.is_film:
        assert player.shown_second() == second
    else:
        heard, playing = player.heard_second()
        assert heard == playing
        assert playing in (second, second + 1)


@pytest.mark.parametrize("medium", MEDIA, ids=lambda medium: medium.name)
def test_a_seek(page: Page, network: Relay, medium: Medium) -> None:
    player = opened(page, network, medium)
    count = len(network.exchanges)
    assert_is_there(player.seek(SOUGHT + 0.2), SOUGHT)
    assert_fetched(network, count)
    assert_content(player, medium, SOUGHT)
    assert page.complaints() == []


@pytest.mark.parametrize("medium", [MP4_INDEX_LAST, FLAC], ids=lambda medium: medium.name)
def test_a_seek_with_crossorigin(page: Page, network: Relay, medium: Medium) -> None:
    """Of a page that the operator named: it sees the pixels, and hears the sound."""
    player = opened(page, network, medium, network.trusted_origin, cors=True)
    count = len(network.exchanges)
    assert_is_there(player.seek(SOUGHT + 0.2), SOUGHT)
    assert_fetched(network, count)
    assert_content(player, medium, SOUGHT)
    assert page.complaints() == []


def test_a_page_that_nobody_named(page: Page, network: Relay) -> None:
    """It may not ask with crossorigin; without it may play, but not look at what it plays."""
    medium, origin = MP4_INDEX_FIRST, network.strange_origin
    with pytest.raises(BrowserError, match="before loadeddata"):
        opened(page, network, medium, origin, cors=True)
    player = opened(page, network, medium, origin)
    count = len(network.exchanges)
    assert_is_there(player.seek(SOUGHT + 0.2), SOUGHT)
    assert_fetched(network, count)
    with pytest.raises(BrowserError, match="tainted"):
        player.shown_second()


def test_forth_and_back(page: Page, network: Relay) -> None:
    player = opened(page, network, WEBM)
    for second in (36, 20, 0, 49, 25, 36):
        assert_is_there(player.seek_what_is_there(second + 0.5), second)
        assert_content(player, WEBM, second)
    assert page.complaints() == []


def test_a_storm_of_seeks(page: Page, network: Relay, gateway: Served) -> None:
    """The last one wins, and nothing of the others is left open."""
    player = opened(page, network, MP4_INDEX_FIRST)
    count = len(network.exchanges)
    seconds = [45, 15, 48, 20, 40, 25, 43, 18, 30, 36]
    assert_is_there(player.seek(*(second + 0.5 for second in seconds)), 36)
    assert_fetched(network, count)
    assert_content(player, MP4_INDEX_FIRST, 36)
    page.navigate("about:blank")
    network.wait_for(lambda: all(each.is_over for each in network.exchanges))
    gateway.wait_until_at_rest()
