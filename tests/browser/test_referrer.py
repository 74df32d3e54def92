"""
The token in an address stays there: nothing that is uploaded takes a browser to another site with it.

Referrer-Policy alone does not do that: a document may override it for itself, by an element or an attribute.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread

import pytest
from attrs import field, frozen

from tests.browser.devtools import BrowserError
from tests.browser.gateway import Served, Upload, serving, target_of
from tests.browser.pages import Page
from tests.nodes import TOKEN
from tests.running import PATIENCE

pytestmark = pytest.mark.browser

DOCUMENT = "papers"
XHTML = 'xmlns="http://www.w3.org/1999/xhtml"'
#: All of the window.
COVER = 'style="position:fixed;inset:0;display:block"'


@frozen
class Other:
    """
    Another site.

    :ivar referers: of the requests that came to it; ``None`` for a request without.
    """

    port: int
    referers: "Queue[str | None]" = field(factory=Queue)

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}/"

    def next(self) -> str | None:
        return self.referers.get(timeout=PATIENCE)


@contextmanager
def other_site() -> Iterator[Other]:
    referers: Queue[str | None] = Queue()

    class _Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/":
                referers.put(self.headers.get("Referer"))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nowhere."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Other(server.server_address[1], referers)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE)


@pytest.fixture(scope="module")
def other() -> Iterator[Other]:
    with other_site() as it:
        yield it


def uploads(url: str) -> dict[str, Upload]:
    """Documents that override the policy, each with a link that fills the window."""
    link = f'<a {XHTML} referrerpolicy="unsafe-url" {COVER} href="{url}">x</a>'
    meta = f'<meta name="referrer" content="unsafe-url"/><a {COVER} href="{url}">x</a>'
    texts = {
        "element.html": ("text/html", meta),
        "attribute.html": ("text/html; charset=utf-8", link),
        "page.xhtml": ("application/xhtml+xml", f"<html {XHTML}><head/><body>{link}</body></html>"),
        "data.xml": ("application/xml", f"<r>{link}</r>"),
        "text.xml": ("text/xml", f"<r>{link}</r>"),
        "sheet": ("text/xsl", f"<r>{link}</r>"),
        "formula": ("application/mathml+xml", f"<r>{link}</r>"),
        "two": ("text/plain, text/html", link),
        "more": ("text/html bogus", link),
        "drawing.svg": (
            "image/svg+xml",
            f'<svg xmlns="http://www.w3.org/2000/svg"><foreignObject width="9999" height="9999">{link}'
            "</foreignObject></svg>",
        ),
    }
    return {name: Upload(content_type, text.encode()) for name, (content_type, text) in texts.items()}


NAMES = sorted(uploads(""))
INLINE = ("text/html", "image/svg+xml", "application/xml", "text/xml")


@pytest.fixture(scope="module")
def papers(gateway: Served, other: Other) -> Served:
    gateway.upload(DOCUMENT, uploads(other.url))
    return gateway


@pytest.fixture(scope="module")
def lenient(other: Other, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway that has browsers show them."""
    options = [each for name in INLINE for each in ("--inline", name)]
    with serving(tmp_path_factory.mktemp("lenient"), *options) as served:
        served.upload(DOCUMENT, uploads(other.url))
        yield served


def click(page: Page) -> None:
    for kind in ("mousePressed", "mouseReleased"):
        page.call("Input.dispatchMouseEvent", type=kind, x=100, y=100, button="left", clickCount=1)


@pytest.mark.parametrize("name", NAMES)
def test_what_may_have_links_is_saved(page: Page, papers: Served, name: str, tmp_path: Path) -> None:
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    with pytest.raises(BrowserError, match="ERR_ABORTED"):
        page.navigate(papers.origin + target_of(DOCUMENT, name))
    assert page.evaluate("location.href") == "about:blank"


@pytest.mark.parametrize("name", ["attribute.html", "data.xml", "drawing.svg", "element.html", "text.xml"])
def test_what_an_option_has_shown_may_hand_the_token_on(page: Page, lenient: Served, other: Other, name: str) -> None:
    """So docs/security.rst says. It also shows that the test above would notice."""
    page.navigate(lenient.origin + target_of(DOCUMENT, name))
    click(page)
    referer = other.next()
    assert referer is not None
    assert f"token={TOKEN}" in referer
