"""One browser, one gateway and one relay for all tests; for each test a page of its own."""

from collections.abc import Iterator

import pytest

from tests.browser.devtools import Chromium, chromium
from tests.browser.gateway import Served, Upload, serving
from tests.browser.media import MEDIA
from tests.browser.pages import Page, new_page
from tests.browser.relay import Relay, relay


@pytest.fixture(scope="session")
def _browser() -> Iterator[Chromium]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def _relay() -> Iterator[Relay]:
    with relay() as it:
        yield it


@pytest.fixture(scope="session")
def gateway(_relay: Relay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Its document ``media`` has them all."""
    with serving(tmp_path_factory.mktemp("gateway"), "--cors-origin", _relay.trusted_origin) as served:
        served.upload("media", {medium.name: Upload(medium.content_type, medium.data) for medium in MEDIA})
        _relay.start(served.port)
        yield served


@pytest.fixture
def network(_relay: Relay, gateway: Served) -> Relay:
    """The relay before the gateway; nothing has passed it."""
    _relay.begin(rate=2**20)
    return _relay


@pytest.fixture
def page(_browser: Chromium) -> Iterator[Page]:
    """An empty page of its own."""
    with new_page(_browser) as it:
        yield it
