"""Expiring links in a browser: what plays when its link ends plays on."""

from time import monotonic, time

import pytest

from tests.browser.gateway import Served, path_of
from tests.browser.media import FLAC, MP4_INDEX_LAST, WEBM, Medium
from tests.browser.pages import Page
from tests.browser.player import Player
from tests.browser.relay import BLANK, Relay
from tests.browser.test_seeking import SOUGHT, assert_content, assert_fetched, assert_is_there
from tests.nodes import DATABASE, TOKEN
from tests.running import PATIENCE, curl
from txcouchdl.links import Link

pytestmark = pytest.mark.browser

#: Seconds that a link lasts: a player has to begin in them.
_LASTS = 6


def link_to(medium: Medium, expires: float) -> str:
    link = Link(database=DATABASE, document_id="media", attachment=medium.name, expires=int(expires))
    return f"{path_of('media', medium.name)}?{link.query(TOKEN.encode())}"


@pytest.mark.parametrize("medium", [MP4_INDEX_LAST, WEBM, FLAC], ids=lambda medium: medium.name)
def test_a_seek_behind_the_end_of_the_link(page: Page, network: Relay, gateway: Served, medium: Medium) -> None:
    network.begin(medium.rate)
    page.navigate(network.origin + BLANK)
    link = link_to(medium, time() + _LASTS)
    player = Player.made(page, medium, network.origin + link)
    deadline = monotonic() + PATIENCE
    while curl("-r", "0-0", gateway.origin + link).status != 403:
        assert monotonic() < deadline
    count = len(network.exchanges)
    assert_is_there(player.seek(SOUGHT + 0.2), SOUGHT)
    assert_fetched(network, count)
    assert_content(player, medium, SOUGHT)
