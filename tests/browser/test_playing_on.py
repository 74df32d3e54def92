"""What is playing plays on when its connection breaks."""

import pytest

from tests.browser.gateway import target_of
from tests.browser.media import DURATION, MP4_INDEX_FIRST, WEBM, Medium
from tests.browser.pages import Page
from tests.browser.player import Player
from tests.browser.relay import BLANK, BURST, Relay
from tests.faults import Hangup

pytestmark = pytest.mark.browser

#: How many times faster than it should be a medium is played to its end.
FAST = 16


@pytest.mark.parametrize(
    ("medium", "how"),
    [(MP4_INDEX_FIRST, Hangup.FIN), (MP4_INDEX_FIRST, Hangup.RST), (WEBM, Hangup.RST)],
    ids=lambda each: getattr(each, "name", None),
)
def test_a_cut(page: Page, network: Relay, medium: Medium, how: Hangup) -> None:
    """The player asks for the rest of what it has a part of, as long as it is the same, and plays to the end."""
    middle = len(medium.data) // 2
    network.hold(middle)
    page.navigate(network.origin + BLANK)
    player = Player.made(page, medium, network.origin + target_of("media", medium.name))
    player.play(FAST)
    player.play_past(0.3 * DURATION)
    network.wait_for(lambda: any(each.was_cut for each in network.exchanges))
    network.cut(how)
    end = player.play_to_end()
    assert end.time == end.duration == pytest.approx(DURATION, abs=0.1)
    (cut,) = (each for each in network.exchanges if each.was_cut)
    rest = network.exchanges[-1]
    assert (cut.status, rest.status) == (206, 206)
    # What is not yet a whole block of its cache it fetches again.
    assert BURST < rest.first <= middle
    assert rest.if_range is not None
    assert rest.end == len(medium.data)
