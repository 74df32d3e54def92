"""
What browsers and players say, byte for byte as they were heard to, without them: the conditions that they send with a
range, and HTTP/1.0.
"""

import gzip

import pytest

from tests.clients.files import DOCUMENT, FILES, LENGTH, NOISE, TEXT
from tests.clients.served import Served, sha, target
from tests.running import exchange
from tests.store.serving import Response

HALF = LENGTH // 2


@pytest.fixture(scope="module")
def etag(served: Served) -> str:
    """Of ``noise.bin``."""
    return ask(served, "noise.bin", method="HEAD").headers["etag"]


def ask(served: Served, name: str, *fields: str, method: str = "GET", version: str = "1.1") -> Response:
    closing = ["Connection: close"] if version == "1.1" else []
    lines = [f"{method} {target(DOCUMENT, name)} HTTP/{version}", "Host: gateway", *closing, *fields]
    return exchange(served.port, ("\r\n".join(lines) + "\r\n\r\n").encode())


#: How each goes on from a place, ``TAG`` being what it takes for the file's ETag.
DIALECTS: dict[str, tuple[str, ...]] = {
    "Firefox download": (
        "Accept-Encoding: gzip, deflate",
        f"Range: bytes={HALF}-",
        "If-Match: TAG",
        "If-Unmodified-Since: Sun, 22 Nov 2026 00:00:00 GMT",
    ),
    "VLC": (f"Range: bytes={HALF}-", "If-Match: TAG"),
    "VLC without an ETag": (f"Range: bytes={HALF}-", "If-Unmodified-Since: Sun, 22 Nov 2026 00:00:00 GMT"),
    "Chromium": ("Accept-Encoding: identity;q=1, *;q=0", f"Range: bytes={HALF}-", "If-Range: TAG"),
    "Firefox media": ("Accept-Encoding: identity", f"Range: bytes={HALF}-"),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_who_has_the_beginning_gets_the_rest(served: Served, etag: str, dialect: str) -> None:
    response = ask(served, "noise.bin", *(each.replace("TAG", etag) for each in DIALECTS[dialect]))
    assert (response.status, sha(response.body)) == (206, sha(NOISE[HALF:]))
    assert response.headers["content-range"] == f"bytes {HALF}-{LENGTH - 1}/{LENGTH}"
    assert response.headers["etag"] == etag


@pytest.mark.parametrize(("dialect", "status"), [("Firefox download", 412), ("VLC", 412), ("Chromium", 200)])
def test_who_has_the_beginning_of_another_file_does_not(served: Served, dialect: str, status: int) -> None:
    response = ask(served, "noise.bin", *(each.replace("TAG", '"another"') for each in DIALECTS[dialect]))
    assert response.status == status
    assert (sha(response.body) == sha(NOISE)) == (status == 200)


def test_vlc_asks_for_what_is_behind_the_end(served: Served, etag: str) -> None:
    """To see whether there is more."""
    response = ask(served, "noise.bin", f"Range: bytes={LENGTH}-", f"If-Match: {etag}")
    assert (response.status, response.headers["content-range"]) == (416, f"bytes */{LENGTH}")


def test_chromium_asks_for_all_as_a_range(served: Served) -> None:
    """And takes the answer for one that it cannot seek in if it is no 206."""
    response = ask(served, "noise.bin", "Range: bytes=0-")
    assert (response.status, sha(response.body)) == (206, sha(NOISE))
    assert response.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("range_", [None, f"bytes={2**20}-"])
def test_http_1_0(served: Served, name: str, range_: str | None) -> None:
    """Axel, and old programs: no chunks, the length said, and the connection closed, however the file is stored."""
    content = FILES[name][0 if range_ is None else 2**20 :]
    response = ask(served, name, *([] if range_ is None else [f"Range: {range_}"]), version="1.0")
    assert (response.status, sha(response.body)) == (200 if range_ is None else 206, sha(content))
    assert "transfer-encoding" not in response.headers
    assert response.headers["content-length"] == f"{len(content)}"
    assert response.is_whole


def test_http_1_0_of_unknown_length(served: Served) -> None:
    """Nobody has read it yet: it is read once before it is sent."""
    content = TEXT[:100_000]
    served.put("unread", "upload.txt", gzip.compress(content), "text/plain", Content_Encoding="gzip")
    lines = [f"GET {target('unread', 'upload.txt')} HTTP/1.0", "Range: bytes=1000-"]
    response = exchange(served.port, ("\r\n".join(lines) + "\r\n\r\n").encode())
    assert (response.status, sha(response.body)) == (206, sha(content[1000:]))
    assert "transfer-encoding" not in response.headers
    assert response.headers["content-length"] == f"{len(content) - 1000}"
