"""Programs that can send nothing but HTTP Basic: with a password at once, or once they are asked for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred

from tests.clients.files import DOCUMENT, NOISE
from tests.clients.programs import WGET, needs, run
from tests.clients.served import TOKEN, Served, sha, sha_of
from tests.nodes import UNMEASURED
from tests.running import ANY_PORT, curl, needs_curl, running

PATH = f"/db/{DOCUMENT}/noise.bin"


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway that asks for passwords."""
    directory = tmp_path_factory.mktemp("asking")
    options = ("--store", "store", "--store-listen", ANY_PORT, "-l", ANY_PORT, "--ask-password")
    with running(directory, *options, **UNMEASURED) as process:
        served = Served(process, directory / "store")
        served.put(DOCUMENT, "noise.bin", NOISE, "application/octet-stream")
        yield served


def url(served: Served, userinfo: str = "") -> str:
    return f"http://{userinfo}127.0.0.1:{served.port}{PATH}"


@needs_curl
def test_curl_with_a_password(served: Served) -> None:
    """It sends the password at once: the gateway need not ask."""
    assert sha(curl("-u", f"anybody:{TOKEN}", url(served)).body) == sha(NOISE)
    assert curl("-r", "0-9", url(served, f"anybody:{TOKEN}@")).body == NOISE[:10]
    refused = [curl("-u", "anybody:wrong", url(served)), curl("-u", "anybody:wrong", url(served) + "missing")]
    assert [each.status for each in refused] == [403, 403]
    assert "www-authenticate" not in refused[0].headers


@needs_curl
def test_curl_that_is_asked(asking: Served) -> None:
    """``--anyauth`` sends nothing before a 401."""
    assert sha(curl("--anyauth", "-u", f"anybody:{TOKEN}", url(asking)).body) == sha(NOISE)
    refused = [curl("-u", "anybody:wrong", url(asking)), curl("-u", "anybody:wrong", url(asking) + "missing")]
    assert [each.status for each in refused] == [401, 401]
    assert refused[0].headers["www-authenticate"] == f'Basic realm="/db/{DOCUMENT}", charset="UTF-8"'
    assert curl(f"{url(asking)}?token=wrong").status == 403


@needs("wget")
@ensureDeferred
async def test_wget_sends_a_password_once_it_is_asked(served: Served, asking: Served, tmp_path: Path) -> None:
    password = ("--user=anybody", f"--password={TOKEN}")
    assert await run(tmp_path, *WGET, *password, "-O", "file", url(asking)) == 0
    assert sha_of(tmp_path / "file") == sha(NOISE)
    assert await run(tmp_path, *WGET, *password, "-O", "none", url(served)) != 0
    assert await run(tmp_path, *WGET, *password, "--auth-no-challenge", "-O", "other", url(served)) == 0
    assert sha_of(tmp_path / "other") == sha(NOISE)
