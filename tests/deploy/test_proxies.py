"""
Apache, Varnish, Squid and nginx with the examples of ``docs/serving.rst``: they bring what the gateway answers, as it
is. And what becomes of it where a proxy compresses or cuts it.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import run
from tests.clients.served import TOKEN, sha
from tests.deploy.fronts import needs_nginx
from tests.deploy.proxies import PROXIES, Proxy, compressing_apache, needs_apache, slicing_nginx
from tests.deploy.test_fronts import ETAG
from tests.deploy.upstreams import DOCUMENT, HUGE, LARGE, Gateway
from tests.running import needs_curl

pytestmark = needs_curl

ACCEPT = ("-H", "Accept-Encoding: gzip, deflate, br, zstd")


def target(name: str) -> str:
    return f"/db/{DOCUMENT}/{name}?token={TOKEN}"


@pytest.fixture(scope="module", params=PROXIES)
def proxy(
    request: pytest.FixtureRequest, lasting: Gateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    with request.param(tmp_path_factory.mktemp("proxy") / "proxy", lasting.port) as it:
        yield it


@pytest.mark.parametrize(("name", "content"), [("large.bin", LARGE), ("huge.txt", HUGE)])
def test_all_of_it_as_a_browser_asks(proxy: Proxy, name: str, content: bytes) -> None:
    answer = proxy.curl(*ACCEPT, proxy.url(target(name)))
    assert (answer.exit_status, answer.status, sha(answer.body)) == (0, 200, sha(content))
    assert "content-encoding" not in answer.headers
    assert answer.headers["content-length"] == str(len(content))
    assert answer.headers["cache-control"] == "private, no-transform"
    if name == "large.bin":
        assert answer.headers["etag"] == ETAG


def test_ranges(proxy: Proxy) -> None:
    part = proxy.curl("-r", "100000-100099", *ACCEPT, proxy.url(target("huge.txt")))
    assert (part.status, part.body) == (206, HUGE[100_000:100_100])
    several = proxy.curl("-r", "0-9,-10", proxy.url(target("large.bin")))
    assert (several.status, several.headers["content-type"].partition(";")[0]) == (206, "multipart/byteranges")
    many = ",".join(f"{first}-{first}" for first in range(0, 9000, 9))
    assert proxy.curl("-H", f"Range: bytes={many}", proxy.url(target("large.bin"))).status == 206


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        (f"If-Range: {ETAG}", 206),
        ('If-Range: "another"', 200),
        (f"If-Match: {ETAG}", 206),
        ('If-Match: "another"', 412),
        (f"If-None-Match: {ETAG}", 304),
    ],
)
def test_conditions(proxy: Proxy, condition: str, status: int) -> None:
    answer = proxy.curl("-H", "Range: bytes=5-6", "-H", condition, proxy.url(target("large.bin")))
    assert answer.status == status


def test_secrets_in_fields_come_through(proxy: Proxy) -> None:
    path = f"/db/{DOCUMENT}/large.bin"
    opened = proxy.curl("-H", f"Authorization: Bearer {TOKEN}", "-r", "0-9", proxy.url(path))
    assert (opened.status, opened.body, opened.headers["vary"]) == (206, LARGE[:10], "Authorization")
    assert proxy.curl("-u", f"anybody:{TOKEN}", "-r", "0-9", proxy.url(path)).status == 206
    # What a secret has opened is for nobody else.
    assert proxy.curl("-r", "0-9", proxy.url(path)).status == 403


def test_names_come_as_they_are_written(proxy: Proxy, lasting: Gateway) -> None:
    name = f"a%2Fb%20%C3%A9-{proxy.port}.bin"
    assert proxy.curl(proxy.url(f"/db/{DOCUMENT}/{name}?token={TOKEN}")).status == 404
    lasting.log.wait_for(rf'"GET /db/{DOCUMENT}/{name}\?token=\S* HTTP/1.[01]" 404 ')


@pytest.mark.parametrize("name", ["large.bin", "huge.txt"])
def test_the_check_finds_nothing(proxy: Proxy, tmp_path: Path, name: str) -> None:
    ended = run(tmp_path, "check", proxy.url(target(name)))
    assert (ended.status, [line for line in ended.out.splitlines() if line.startswith("fail")]) == (0, [])


@needs_apache
def test_the_check_finds_a_proxy_that_compresses(lasting: Gateway, tmp_path: Path) -> None:
    """It changes nothing but the GET with which a browser begins: no range, no HEAD."""
    with compressing_apache(tmp_path / "proxy", lasting.port) as proxy:
        ended = run(tmp_path, "check", proxy.url(target("huge.txt")))
        begun = proxy.curl(*ACCEPT, proxy.url(target("large.bin")))
    assert begun.headers["content-encoding"] == "gzip"
    assert begun.headers["etag"] == f'{ETAG[:-1]}-gzip"'
    assert ended.status == 1
    (failed,) = [line for line in ended.out.splitlines() if line.startswith("fail")]
    assert failed.startswith("fail  GET of all, as a browser begins: comes compressed")


@needs_nginx
def test_what_slices_lose(lasting: Gateway, tmp_path: Path) -> None:
    """As docs/serving.rst says."""
    with slicing_nginx(tmp_path / "proxy", lasting.port) as proxy:
        name = f"large.bin?token={TOKEN}&slices={proxy.port}"
        for count in (1, 2):
            assert sha(proxy.curl(proxy.url(f"/db/{DOCUMENT}/{name}")).body) == sha(LARGE)
            # Four pieces of 1 MiB each time: none is kept.
            lasting.log.wait_for(r"&slices=\S* HTTP/1.[01]\" 206 ", 4 * count)
        several = proxy.curl("-r", "0-9,-10", proxy.url(target("large.bin")))
    assert (several.status, sha(several.body)) == (200, sha(LARGE))
