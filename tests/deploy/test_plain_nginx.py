"""An nginx as it is installed, with nothing but ``proxy_pass``, in front of a gateway."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.served import Served, sha, target
from tests.deploy.fronts import needs_nginx, nginx_running
from tests.nodes import free_port
from tests.running import ANY_PORT, curl, needs_curl, running

pytestmark = [needs_nginx, needs_curl]

#: More than nginx's file and the sockets' buffers hold together.
LARGE = random.Random(9).randbytes(64 * 2**20)

#: nginx spools a response into a file of this size, and then reads nothing until its client has taken the file.
#: The default is 1 GiB, and ``--client-timeout`` an hour.
_CONFIGURATION = """
access_log off;
proxy_max_temp_file_size 32m;
server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://127.0.0.1:{upstream}; }}
}}
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Where nginx listens. The gateway behind it waits two seconds for a client that takes nothing."""
    options = ("--store", "store", "--store-listen", ANY_PORT, "-l", ANY_PORT, "--client-timeout", "2")
    with running(tmp_path, *options) as process:
        served = Served(process, tmp_path / "store")
        served.put("doc", "large.bin", LARGE, "application/octet-stream")
        front, port = tmp_path / "front", free_port()
        (front / "logs").mkdir(parents=True)
        http = _CONFIGURATION.format(port=port, upstream=served.port)
        with nginx_running(front, http):
            yield f"http://127.0.0.1:{port}"


def test_a_slow_client_of_a_large_file_is_not_cut_off(address: str) -> None:
    """It takes 8 MiB a second: four seconds for the file into which nginx would read, were it not told otherwise."""
    answer = curl("--limit-rate", "8M", address + target("doc", "large.bin"))
    assert (answer.exit_status, answer.status, sha(answer.body)) == (0, 200, sha(LARGE))


def test_nginx_keeps_the_field_to_itself(address: str) -> None:
    assert "x-accel-buffering" not in curl("-I", address + target("doc", "large.bin")).headers
