"""Scripts of other sites: what they may send and read, after a preflight, and what nobody's may."""

import pytest

from tests.browser.devtools import BrowserError
from tests.browser.gateway import Served, target_of
from tests.browser.media import MP3
from tests.browser.pages import Page
from tests.browser.relay import BLANK, Relay
from tests.nodes import TOKEN

pytestmark = pytest.mark.browser

TARGET, _, _ = target_of("media", MP3.name).partition("?")
#: A part, by a secret in a field: for both a browser asks whether it may.
FETCH = f"""
(async () => {{
  const headers = {{ Authorization: "Bearer {TOKEN}", Range: "bytes=5-9", "If-Range": '"other"' }};
  delete headers[%s];
  const response = await fetch("%s", {{ headers }});
  const told = ["Content-Range", "Content-Length", "Accept-Ranges", "ETag", "Content-Disposition"];
  const body = Array.from(new Uint8Array(await response.arrayBuffer()));
  return [response.status, body.slice(0, 10), told.map((name) => response.headers.get(name) !== null)];
}})()
"""


def test_a_script_of_an_allowed_site(page: Page, network: Relay) -> None:
    network.begin(2**24)
    page.navigate(network.trusted_origin + BLANK)
    url = network.origin + TARGET
    assert page.evaluate(FETCH % ('"If-Range"', url)) == [206, list(MP3.data[5:10]), [True] * 5]
    # The condition came through too: of another file there would be the whole.
    assert page.evaluate(FETCH % ('"nothing"', url)) == [200, list(MP3.data[:10]), [False, True, True, True, True]]
    # And what went wrong can be told from what did not.
    status, _, _ = page.evaluate(FETCH % ('"Authorization"', url))
    assert status == 403


#: Fields that libraries and tracing add, and a browser asks about.
FETCH_TRACED = f"""
(async () => {{
  const headers = {{ Authorization: "Bearer {TOKEN}", Range: "bytes=5-9", "Cache-Control": "no-cache",
    Pragma: "no-cache", traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "X-Anything": "1" }};
  const response = await fetch("%s", {{ headers }});
  return [response.status, Array.from(new Uint8Array(await response.arrayBuffer()))];
}})()
"""


def test_a_script_that_sends_any_field(page: Page, network: Relay) -> None:
    network.begin(2**24)
    page.navigate(network.trusted_origin + BLANK)
    assert page.evaluate(FETCH_TRACED % (network.origin + TARGET)) == [206, list(MP3.data[5:10])]


def test_a_script_reads_a_refusal_of_a_request_that_was_not_read(page: Page, network: Relay, gateway: Served) -> None:
    page.navigate(network.trusted_origin + BLANK)
    url = gateway.origin + TARGET
    sent = '{method: "POST", body: "x".repeat(70000)}'
    assert page.evaluate(f'fetch("{url}", {sent}).then((answer) => answer.status)') == 413


def test_a_script_that_nobody_named(page: Page, network: Relay) -> None:
    network.begin(2**24)
    page.navigate(network.strange_origin + BLANK)
    with pytest.raises(BrowserError, match="Failed to fetch"):
        page.evaluate(FETCH % ('"If-Range"', network.origin + TARGET))
