"""
Socket activation: systemd holds the port, and hands it to the gateway, as ``docs/serving.rst`` has it.

The tests are systemd here: they listen, and pass the socket on as sd_listen_fds(3) describes it.
"""

import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.running import (
    ANY_PORT,
    PATIENCE,
    Running,
    connect,
    curl,
    needed,
    needs_curl,
    read_to_end,
)
from tests.store.serving import in_reactor
from tests.test_listening import backlog
from tests.test_service import refusal

SERVING = (Path(__file__).parent.parent / "docs" / "serving.rst").read_text("utf-8")
UNITS = {
    name: "\n".join(line[4:] for line in indented.splitlines())
    for name, indented in re.findall(r"^``/etc/systemd/system/(\S+)``::\n\n((?:    .*\n|\n)+)", SERVING, re.MULTILINE)
}
#: Where the units have the gateway.
MANUALS_TWISTD = "/opt/couchdl/bin/twistd"
SYSTEMD = "systemd:domain=INET:name=couchdl"
#: The first inherited descriptor, as systemd counts.
_FIRST = 3
#: Only the process itself knows the pid that it keeps when it becomes twistd.
_BECOME_TWISTD = f"""
import os, sys
os.dup2(int(sys.argv[1]), {_FIRST})
os.environ |= {{"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "couchdl"}}
os.execv(sys.argv[2], sys.argv[2:])
"""

REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


@contextmanager
def activated(directory: Path, listening: socket.socket, *arguments: str) -> Iterator[Running]:
    """A ``twistd -n couchdl`` that was given a socket."""
    descriptor = listening.fileno()
    starter = (sys.executable, "-c", _BECOME_TWISTD, str(descriptor))
    with needed(Running(directory, arguments, {}, starter, (descriptor,))) as process:
        yield process


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """Systemd's socket."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield server


def port_of(listening: socket.socket) -> int:
    port: int = listening.getsockname()[1]
    return port


def ask(port: int) -> socket.socket:
    """A client that has asked, and whose answer is still to come."""
    connection = connect(port)
    connection.sendall(REQUEST)
    return connection


def assert_answered(connection: socket.socket) -> None:
    with connection:
        assert read_to_end(connection).startswith(b"HTTP/1.1 404 ")


def test_who_came_before_it_was_up_is_answered(listening: socket.socket, tmp_path: Path) -> None:
    early = ask(port_of(listening))
    with activated(tmp_path, listening, "-l", SYSTEMD) as process:
        assert_answered(early)
        assert_answered(ask(port_of(listening)))
        assert backlog(listening) == 128, "as the unit has it"
        assert process.stop() == 0
        assert "Traceback" not in process.text()


def test_nobody_is_refused_while_it_is_restarted(listening: socket.socket, tmp_path: Path) -> None:
    """Neither while the old one ends, nor between the two."""
    port = port_of(listening)
    with activated(tmp_path, listening, "-l", SYSTEMD) as old:
        assert_answered(ask(port))
        old.send_signal(signal.SIGTERM)
        old.out.wait_for(rf"Port {port} Closed")
        while_it_ends = ask(port)
        assert old.end() == 0
    between = ask(port)
    with activated(tmp_path, listening, "-l", SYSTEMD) as new:
        assert_answered(while_it_ends)
        assert_answered(between)
        assert_answered(ask(port))
        assert new.stop() == 0


@needs_curl
def test_the_links_of_a_demo(listening: socket.socket, tmp_path: Path) -> None:
    with activated(tmp_path, listening, "--demo", "-l", SYSTEMD, "--store-listen", ANY_PORT) as process:
        link = process.links()["melody.mp3"]
        assert link.startswith(f"http://127.0.0.1:{port_of(listening)}/")
        assert curl("-I", link).status == 200


# What cannot start.


@pytest.mark.parametrize("endpoint", [SYSTEMD, "systemd:domain=INET:index=0"])
@in_reactor
async def test_without_systemd(endpoint: str) -> None:
    line = f"twistd couchdl: {endpoint!r} is no endpoint: systemd has passed no such socket"
    assert await refusal("-l", endpoint) == line


def test_a_socket_of_another_name(listening: socket.socket, tmp_path: Path) -> None:
    endpoint = "systemd:domain=INET:name=other"
    with activated(tmp_path, listening, "-l", endpoint) as process:
        assert process.end() == 1
        assert f"{endpoint!r} is no endpoint: systemd has passed no such socket" in process.text()


@pytest.mark.parametrize("endpoint", ["systemd:domain=INET:index=x", "tcp:x"])
@in_reactor
async def test_what_is_wrong_with_an_endpoint_is_no_fault_of_systemd_s(endpoint: str) -> None:
    assert "systemd has passed" not in await refusal("-l", endpoint)


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6(), reason="there is no IPv6 here")
def test_a_socket_of_another_domain(tmp_path: Path) -> None:
    """Taken for one of IPv4, a socket of IPv6 would tell random addresses of its clients, and no guesses be counted."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        endpoint = "systemd:domain=INET:index=0"
        with activated(tmp_path, listening, "-l", endpoint) as process:
            assert process.end() == 1
            assert f"{endpoint!r} is no endpoint: the socket is of another domain" in process.text()
            assert "Traceback" not in process.text()
        with activated(tmp_path, listening, "-l", "systemd:domain=INET6:index=0") as process:
            process.out.wait_for("GatewaySite starting on")


# The manual's units.


def test_the_manuals_endpoint() -> None:
    assert set(UNITS) == {"couchdl.socket", "couchdl.service", "couchdl-tls.service"}
    assert f"--listen {SYSTEMD}\n" in UNITS["couchdl.service"]
    assert "FileDescriptorName=couchdl\n" in UNITS["couchdl.socket"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_manuals_units(tmp_path: Path) -> None:
    for name, unit in UNITS.items():
        (tmp_path / name).write_text(unit.replace(MANUALS_TWISTD, sys.executable))
    ended = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in UNITS)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (ended.returncode, [line for line in ended.stderr.splitlines() if str(tmp_path) in line]) == (0, [])
