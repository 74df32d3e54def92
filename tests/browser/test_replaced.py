"""A document's page that stays open while its attachment is replaced."""

import json

import pytest

from tests.browser.devtools import BrowserError
from tests.browser.gateway import Served, Upload, path_of, target_of
from tests.browser.media import MP4_INDEX_FIRST, MP4_INDEX_LAST
from tests.browser.pages import Page
from tests.browser.player import Player
from tests.browser.relay import Relay
from tests.browser.test_seeking import SOUGHT
from tests.running import curl

pytestmark = pytest.mark.browser

DOCUMENT, NAME = "replaced", "film.mp4"


def replace(gateway: Served, upload: Upload) -> None:
    rev = json.loads(curl(gateway.origin + target_of(DOCUMENT)).body)["rev"]
    gateway._put(f"{path_of(DOCUMENT, NAME)}?rev={rev}", upload.content_type, upload.data)


def test_a_seek_joins_no_versions(page: Page, network: Relay, gateway: Served) -> None:
    """The new film has the same frames at other places. Of it, no byte comes to a player that has bytes of the old."""
    gateway.upload(DOCUMENT, {NAME: Upload("video/mp4", MP4_INDEX_FIRST.data)})
    network.begin(MP4_INDEX_FIRST.rate)
    page.navigate(network.origin + target_of(DOCUMENT))
    player = Player(page, "document.querySelector('video')")
    player.load()
    replace(gateway, Upload("video/mp4", MP4_INDEX_LAST.data))
    count = len(network.exchanges)
    with pytest.raises(BrowserError):
        player.seek(SOUGHT + 0.2)
    assert page.evaluate("document.querySelector('video').error.code") > 0
    assert {each.status for each in network.exchanges[count:]} == {412}
