"""Endpoints that listen: how many connections may wait there."""

import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.tcp import Port

from tests.certificates import certify
from tests.running import somebody
from tests.servers import reactor
from txcouchdl.listening import BACKLOG, close, listen
from txcouchdl.settings import StartError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells the backlog of a socket")

#: Where in a TCP_INFO a listening socket has its backlog: tcpi_sacked.
_SACKED = struct.Struct("=28xI")


@asynccontextmanager
async def listening(description: str) -> AsyncIterator[Any]:
    ports: list[IListeningPort] = []
    try:
        listen(reactor, description, Factory(), ports)
        (port,) = ports
        assert isinstance(port, Port)
        # Nobody is accepted.
        port.stopReading()
        yield port.socket
    finally:
        await close(ports)


def backlog(listener: socket.socket) -> int:
    (number,) = _SACKED.unpack(listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SACKED.size))
    assert isinstance(number, int)
    return number


def many_wait(path: str, many: int) -> int:
    """How many of many connections to a Unix socket may wait: the system refuses the next one at once."""
    clients = [socket.socket(socket.AF_UNIX) for _ in range(many)]
    count = 0
    try:
        with suppress(BlockingIOError):
            for client in clients:
                client.setblocking(False)
                client.connect(path)
                count += 1
    finally:
        for client in clients:
            client.close()
    return count


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certify(tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("description", "number"),
    [
        ("tcp:0", BACKLOG),
        ("tcp6:0", BACKLOG),
        ("tls:.:0:interface=127.0.0.1", BACKLOG),
        ("tcp:0:interface=127.0.0.1", BACKLOG),
        ("tcp:0:interface=\\:\\:1", BACKLOG),
        ("tcp:port=0:interface=127.0.0.1", BACKLOG),
        ("ssl:0:interface=127.0.0.1:privateKey=key.pem:certKey=cert.pem", BACKLOG),
        ("haproxy:tcp:0:interface=127.0.0.1", BACKLOG),
        ("tcp:0:interface=127.0.0.1:backlog=7", 7),
        ("tcp:0:backlog=50", 50),
        ("ssl:0:interface=127.0.0.1:backlog=7:privateKey=key.pem:certKey=cert.pem", 7),
    ],
)
@pytest.mark.filterwarnings("ignore:X509:DeprecationWarning", "ignore:Passing pyOpenSSL :DeprecationWarning")
@ensureDeferred
async def test_connections_that_may_wait(certificate: None, description: str, number: int) -> None:
    async with listening(description) as listener:
        # The system has a limit of its own.
        assert backlog(listener) == min(number, int(Path("/proc/sys/net/core/somaxconn").read_text()))


@ensureDeferred
async def test_a_free_port_instead_of_one_that_is_taken() -> None:
    """And instead of nothing else: an address that this machine does not have remains an error."""
    free = "tcp:0:interface=127.0.0.1"
    ports: list[IListeningPort] = []
    with somebody() as taken:
        try:
            found = listen(reactor, f"tcp:{taken}:interface=127.0.0.1", Factory(), ports, free)
            assert found.url == f"http://127.0.0.1:{ports[0].getHost().port}"  # type: ignore[attr-defined]
            assert not found.url.endswith(f":{taken}")
            with pytest.raises(StartError, match=r"cannot listen on 'tcp:0:interface=192\.0\.2\.1'"):
                listen(reactor, "tcp:0:interface=192.0.2.1", Factory(), ports, free)
        finally:
            await close(ports)


@pytest.mark.parametrize(("ending", "number"), [("", 200), (":backlog=7", 8), (":mode=600:backlog=7", 8)])
@ensureDeferred
async def test_connections_that_may_wait_at_a_unix_socket(tmp_path: Path, ending: str, number: int) -> None:
    """One more than the backlog, on Linux."""
    path = str(tmp_path / "s")
    async with listening(f"unix:{path}{ending}"):
        assert many_wait(path, 200) == number
