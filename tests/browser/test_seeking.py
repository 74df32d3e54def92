"""
Seeking to what is not there yet. A seek is proven when its place was not buffered, the player says that it is there,
the relay saw a 206 that begins where nothing had passed, and what is shown or heard is of that second.
"""

import pytest

from tests.browser.devtools import Page
from tests.browser.gateway import target_of
from tests.browser.media import DURATION, FLAC, MEDIA, MP3, MP4_INDEX_FIRST, OGG, WEBM, Medium
from tests.browser.player import Player
from tests.browser.relay import BLANK, Relay

pytestmark = pytest.mark.browser

#: A few times what the media need to be played.
SLOW = 30_000


def media_url(network: Relay, medium: Medium) -> str:
    return network.origin + target_of("media", medium.name)


def assert_is_at(player: Player, medium: Medium, second: int) -> None:
    """That second is shown or heard."""
    if medium.is_film:
        assert player.shown_second() == second
    else:
        heard, playing = player.heard_second()
        assert heard == playing
        assert playing in (second, second + 1)


def assert_sought(network: Relay, count: int) -> None:
    """
    Something was fetched for it that nothing had led to.

    :param count: how many requests there had been before.
    """
    fetched = [each for each in network.exchanges[count:] if each.status == 206 and each.is_ahead]
    assert fetched, network.exchanges
    assert {each.status for each in network.exchanges} == {206}


@pytest.mark.parametrize("medium", MEDIA, ids=lambda medium: medium.name)
def test_to_what_is_not_there_yet(page: Page, network: Relay, medium: Medium) -> None:
    network.begin(SLOW)
    page.navigate(network.origin + BLANK)
    player = Player(page, medium, media_url(network, medium))
    count = len(network.exchanges)
    state = player.seek(36.2)
    assert state.time == pytest.approx(36.2)
    assert state.seekable_to == state.duration == pytest.approx(DURATION, abs=0.2)
    assert_sought(network, count)
    assert_is_at(player, medium, 36)
    assert page.complaints() == []
