"""Expiring links in a browser: what plays when its link ends plays on."""

from time import monotonic, time

import pytest

from tests.browser.gateway import Served, path_of
from tests.browser.media import DURATION, MP4_INDEX_FIRST, WEBM, Medium
from tests.browser.pages import Page
from tests.browser.player import Player
from tests.browser.relay import BLANK, Relay
from tests.browser.test_playing_on import FAST
from tests.faults import Hangup
from tests.nodes import DATABASE, TOKEN
from tests.running import PATIENCE, curl
from txcouchdl.links import Link

pytestmark = pytest.mark.browser

#: Seconds that a link lasts: a player has to begin in them.
_LASTS = 8


def link_to(medium: Medium, expires: float) -> str:
    link = Link(database=DATABASE, document_id="media", attachment=medium.name, expires=int(expires))
    return f"{path_of('media', medium.name)}?{link.query(TOKEN.encode())}"


@pytest.mark.parametrize("medium", [MP4_INDEX_FIRST, WEBM], ids=lambda medium: medium.name)
def test_a_cut_behind_the_end_of_the_link(page: Page, network: Relay, gateway: Served, medium: Medium) -> None:
    """The player asks for the rest by If-Range, as it has the entity-tag: the link lets it have that."""
    network.hold(len(medium.data) // 2)
    page.navigate(network.origin + BLANK)
    link = link_to(medium, time() + _LASTS)
    player = Player.made(page, medium, network.origin + link)
    player.play(FAST)
    network.wait_for(lambda: any(each.was_cut for each in network.exchanges))
    deadline = monotonic() + PATIENCE
    while curl("-r", "0-0", gateway.origin + link).status != 403:
        assert monotonic() < deadline
    network.cut(Hangup.FIN)
    end = player.play_to_end()
    assert end.time == end.duration == pytest.approx(DURATION, abs=0.1)
    rest = network.exchanges[-1]
    assert (rest.status, rest.end) == (206, len(medium.data))
    assert rest.if_range is not None
