"""
The units of ``deploy/systemd``: systemd takes them, the service runs as its line says, the sandbox forbids nothing that
it needs, and it can be replaced without anybody noticing.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import certify
from tests.clients.served import sha
from tests.deploy import replaced
from tests.deploy.units import (
    SYSTEMD,
    TWISTD,
    Unit,
    needs_seccomp,
    needs_systemd,
    permitted_calls,
    sandbox,
    service,
    sockets,
)
from tests.nodes import DATABASE, DOCUMENT, NAME, TOKEN, UNMEASURED, Node, fill, free_port, node
from tests.running import PATIENCE, Running, connect, curl, environment, needed, needs_curl, nobody, read_to_end, twistd
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.gateway.limits import ClientLimits
from txcouchdl.settings import Settings

SERVICE, SOCKET = Unit.read("couchdl.service"), Unit.read("couchdl.socket")
#: More than sockets hold, where nobody reads.
CONTENT = os.urandom(4 * 2**20)
TARGET = f"/{DATABASE}/{DOCUMENT}/{NAME}?token={TOKEN}"
DIGEST = sha(CONTENT)


@pytest.fixture(scope="module")
def couchdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A CouchDB on this machine, with one large attachment."""
    place = tmp_path_factory.mktemp("couchdb")
    (place / "file").write_bytes(CONTENT)
    with node(place / "node") as it:
        fill(it.url, place / "file", "application/octet-stream")
        yield it


@pytest.fixture
def arguments(couchdb: Node, tmp_path: Path) -> tuple[str, ...]:
    """Of the service's command line, with the directories that systemd would make, and the example's options."""
    credentials, logs = tmp_path / "credentials", tmp_path / "logs"
    credentials.mkdir()
    logs.mkdir()
    example = (SYSTEMD / "couchdl.toml").read_text("utf-8")
    # By its name, so that names are looked up in the sandbox too.
    node = couchdb.url.replace("@127.0.0.1:", "@localhost:")
    text = replaced(example, {"http://gateway:PASSWORD@127.0.0.1:5984": node})
    (credentials / "couchdl.toml").write_text(text, "utf-8")
    return SERVICE.arguments(credentials, logs)


def url(listening: socket.socket, target: str = TARGET) -> str:
    return f"http://127.0.0.1:{listening.getsockname()[1]}{target}"


# The files.


@needs_systemd
def test_systemd_takes_them(tmp_path: Path) -> None:
    for name in ("couchdl.service", "couchdl.socket"):
        text = (SYSTEMD / name).read_text("utf-8")
        (tmp_path / name).write_text(text.replace(TWISTD[0], sys.executable), "utf-8")
    ended = _analyze("verify", "--man=no", str(tmp_path / "couchdl.service"), str(tmp_path / "couchdl.socket"))
    assert (ended.returncode, [line for line in ended.stderr.splitlines() if "couchdl" in line]) == (0, [])


@needs_systemd
def test_how_much_it_is_exposed() -> None:
    """By systemd's own reckoning, from 0 to 10: what remains is that it has to do with a network."""
    assert _analyze("security", "--offline=yes", "--threshold=11", str(SYSTEMD / "couchdl.service")).returncode == 0


def _analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = ["systemd-analyze", "--no-pager", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_what_must_not_be_missing() -> None:
    expected = {
        "CapabilityBoundingSet": "",
        "DynamicUser": "yes",
        "ExecReload": "/bin/kill -HUP $MAINPID",
        "KillMode": "mixed",
        "LoadCredential": "couchdl.toml:/etc/couchdl/couchdl.toml",
        "LogsDirectory": "couchdl",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "Restart": "on-failure",
        "Sockets": "couchdl.socket",
    }
    assert {name: SERVICE.one(name) for name in expected} == expected
    assert "EnvironmentFile" not in dict(SERVICE.settings)
    assert [each.rpartition(":")[0] for each in SOCKET.all("ListenStream")] == ["127.0.0.1"] * 2


def test_the_numbers_agree_with_the_gateways() -> None:
    drain: Any = Settings.__attrs_attrs__.drain.default
    assert float(SERVICE.one("TimeoutStopSec")) > drain + 10
    clients, upstream = ClientLimits(), UpstreamLimits()
    gigabytes = int(SERVICE.one("MemoryMax").removesuffix("G"))
    # What a paused download takes at most: test_many_clients.
    assert gigabytes * 2**30 > clients.max_connections * 360 * 2**10
    assert int(SERVICE.one("LimitNOFILE")) > 4 * clients.max_connections + 3 * upstream.max_upstream


@pytest.mark.parametrize("is_all", [False, True], ids=["as it is", "with what is commented out"])
def test_the_example_is_in_order(is_all: bool, tmp_path: Path) -> None:
    text = (SYSTEMD / "couchdl.toml").read_text("utf-8")
    file = tmp_path / "couchdl.toml"
    text = re.sub("^#(?=[a-z])", "", text, flags=re.MULTILINE) if is_all else text
    with nobody() as port:
        file.write_text(replaced(text, {"127.0.0.1:5984": f"127.0.0.1:{port}"}), "utf-8")
        file.chmod(0o600)
        command = twistd("couchdl", "--config", str(file), "--check")
        ended = subprocess.run(
            command, cwd=tmp_path, env=environment({}), capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    assert (ended.returncode, ended.stdout) == (0, "twistd couchdl: all is in order\n")
    assert "cannot be reached" in ended.stderr


# The service.


@needs_curl
@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="systemd is not installed")
def test_its_line_runs(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """With sockets of systemd's; the first client starts it. Its lines are where LogsDirectory is."""
    ports = [free_port(), free_port()]
    listen = [f"--listen=127.0.0.1:{port}" for port in ports]
    # Which names there are does not matter, but without any Twisted takes none of the sockets.
    starter = ["systemd-socket-activate", *listen, "--fdname=couchdl.socket:couchdl.socket"]
    with needed(Running(tmp_path, arguments, UNMEASURED, starter)) as process:
        process.err.wait_for(f"Listening on 127.0.0.1:{ports[1]}")
        answer = curl("-H", "X-Forwarded-For: 203.0.113.9", f"http://127.0.0.1:{ports[0]}{TARGET}")
        assert (answer.status, sha(answer.body)) == (200, DIGEST)
        assert curl(f"http://127.0.0.1:{ports[1]}/_up").status == 200
        assert curl(f"http://127.0.0.1:{ports[1]}/_metrics").status == 200
        assert curl(f"http://127.0.0.1:{ports[0]}/_metrics").status in {403, 404}
        assert process.stop() == 0
        assert "Traceback" not in process.text()
    line = (tmp_path / "logs" / "access.log").read_text("ascii").splitlines()[0]
    assert line.startswith("203.0.113.9 - - [")
    assert f'"GET /{DATABASE}/{DOCUMENT}/{NAME}' in line
    assert TARGET not in line


@needs_curl
@needs_systemd
@needs_seccomp
@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_sandbox_forbids_nothing_that_it_needs(arguments: tuple[str, ...], tmp_path: Path, workers: str) -> None:
    """Downloads past the process and through it, TLS, workers, both logs, the end."""
    certify(tmp_path)
    port = free_port()
    secure = f"ssl:{port}:privateKey={tmp_path}/key.pem:certKey={tmp_path}/cert.pem:interface=127.0.0.1"
    with (
        sockets() as (public, admin),
        service(
            tmp_path, (public, admin), (*arguments, "--listen", secure), sandbox(SERVICE), COUCHDL_WORKERS=workers
        ) as process,
    ):
        whole = curl(url(public))
        assert (whole.status, sha(whole.body)) == (200, DIGEST)
        assert curl("-r", "-100", url(public)).body == CONTENT[-100:]
        assert curl(url(public, TARGET + "wrong")).status == 403
        whole = curl("--cacert", tmp_path / "cert.pem", f"https://127.0.0.1:{port}{TARGET}")
        assert (whole.status, sha(whole.body)) == (200, DIGEST)
        assert curl(url(admin, "/_up?ready")).status == 200
        assert curl(url(admin, "/_metrics")).status == 200
        assert process.stop() == 0
        assert "Traceback" not in process.text()
    assert (tmp_path / "logs" / "access.log").read_text("ascii").count(" 200 ") == 2


@needs_systemd
@needs_seccomp
@pytest.mark.parametrize(
    "forbidden",
    [
        "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
        "import os; os.chown('.', 1, 1)",
        "import os; os.setuid(1)",
        "import os; os.chroot('.')",
    ],
)
def test_the_sandbox_forbids(forbidden: str, tmp_path: Path) -> None:
    """So that the test before shows something."""
    command = [*sandbox(SERVICE), sys.executable, "-c", forbidden]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=PATIENCE, check=False)
    assert ended.returncode == -signal.SIGSYS


@needs_systemd
def test_calls_that_are_not_permitted() -> None:
    calls = permitted_calls(SERVICE)
    assert {"read", "splice", "tee", "memfd_create", "prlimit64"} <= set(calls)
    assert not {
        "chown",
        "setuid",
        "chroot",
        "mount",
        "ptrace",
        "bpf",
        "reboot",
        "init_module",
        "perf_event_open",
    } & set(calls)


@needs_curl
def test_it_is_replaced_and_nobody_notices(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """
    As ``docs/deploying.rst`` has it: the next gateway stands beside the old one, on the same sockets; the old one ends
    behind its downloads, and meanwhile the next one answers.
    """
    with sockets() as listening, service(tmp_path, listening, (*arguments, "--drain", "3600")) as old:
        old.port()
        downloading = connect(listening[0].getsockname()[1])
        with downloading:
            downloading.sendall(f"GET {TARGET} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
            begin = downloading.recv(1000)
            with service(tmp_path, listening, arguments) as new:
                new.port()
                old.send_signal(signal.SIGTERM)
                old.out.wait_for(r"Port \d+ Closed", 2)
                assert sha(curl(url(listening[0])).body) == DIGEST
                assert curl(url(listening[1], "/_up?ready")).status == 200
                assert old.is_alive
                downloading.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
                body = (begin + read_to_end(downloading)).partition(b"\r\n\r\n")[2]
                assert sha(body) == DIGEST
                assert old.end() == 0
                assert new.stop() == 0
