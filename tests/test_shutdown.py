"""
How the service ends: what is under way goes on for a while, nothing is left running, the exit status is 0.

Nobody waits for a time to pass: a drain that is to be seen from inside has more time than any test, and ends by what
is under test; one that is to be over has next to none.
"""

import os
import signal
import socket
import ssl
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from twisted.application.service import IService
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.task import deferLater

from tests.certificates import certify
from tests.running import (
    ANY_PORT,
    PATIENCE,
    Running,
    connect,
    curl,
    curl_command,
    daemon,
    exchange,
    needs_curl,
    nobody,
    read_to_end,
    running,
)
from tests.servers import reactor
from tests.store.serving import Exchange, in_reactor
from txcouchdl.options import Options
from txcouchdl.service import GatewayService

pytestmark = needs_curl

#: More than sockets buffer, so that no download ends before its client wants it to.
LARGE = os.urandom(24 * 2**20)
REQUEST = b"GET /db/doc/file.bin?token=t HTTP/1.1\r\nHost: h\r\n\r\n"
NOT_FOUND = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
BOTH = pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
LONG = "--drain=86400"
SHORT = "--drain=0.1"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of an embedded store with ``/db/doc/file.bin``, which is LARGE."""
    directory = tmp_path_factory.mktemp("large") / "store"
    (directory.parent / "file.bin").write_bytes(LARGE)
    with gateway(directory) as process:
        url, admin = f"http://127.0.0.1:{process.port('Store')}", admin_of(directory)
        for target, data in (("/db", ""), ("/db/doc", '{"download_token": "t"}')):
            assert curl("-u", admin, "-X", "PUT", "-d", data, url + target).status == 201
        rev = curl("-u", admin, "-I", f"{url}/db/doc").headers["etag"].strip('"')
        file = f"{url}/db/doc/file.bin?rev={rev}"
        assert curl("-u", admin, "-T", directory.parent / "file.bin", file).status == 201
        assert process.stop() == 0
    return directory


def admin_of(store: Path) -> str:
    return (store / "admin").read_text().strip()


def arguments(store: Path, listen: str = ANY_PORT) -> tuple[str, ...]:
    return "--store", str(store), "--store-listen", ANY_PORT, "--listen", listen


@contextmanager
def gateway(store: Path, *more: str, listen: str = ANY_PORT) -> Iterator[Running]:
    """A store with its gateway, in one process that answers."""
    with running(store.parent, *arguments(store, listen), *more) as process:
        process.out.wait_for("GatewaySite .*starting on")
        yield process


@contextmanager
def download(port: int) -> Iterator[socket.socket]:
    """A download that has begun, and whose client has taken the head of its answer, and takes nothing for now."""
    with connect(port) as connection:
        connection.sendall(REQUEST)
        head = receive_head(connection)
        assert head.startswith(b"HTTP/1.1 200 ")
        yield connection


def receive_head(connection: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
        assert head
    return head


@contextmanager
def kept_alive(port: int) -> Iterator[socket.socket]:
    """A connection that has been answered, and waits for its next request."""
    with connect(port) as connection:
        connection.sendall(NOT_FOUND)
        head = receive_head(connection)
        assert head.startswith(b"HTTP/1.1 404 ")
        body = connection.recv(2**16)
        assert body.endswith(b"}\n")
        yield connection


def assert_a_clean_end(process: Running, broken_off: int | None = None) -> None:
    """:param broken_off: how many downloads, if any was waited for."""
    assert process.end() == 0
    log = process.text()
    assert "Traceback" not in log
    assert "ReactorNotRunning" not in log
    if broken_off is None:
        assert "waiting for" not in log
    else:
        assert f"no download is under way any more, {broken_off} were broken off" in log


@BOTH
def test_a_running_download_is_finished(by: signal.Signals, store: Path) -> None:
    """The store serves it meanwhile; nobody else is let in."""
    with gateway(store, LONG) as process, download(process.port()) as connection:
        process.send_signal(by)
        process.out.wait_for("waiting for 1 downloads, at most 86400 s")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", process.port()))
        assert read_to_end(connection) == LARGE
        assert_a_clean_end(process, broken_off=0)
        assert process.text().count("GET /db/doc/file.bin?token=*** ") == 1


@BOTH
def test_a_second_signal_ends_it_at_once(by: signal.Signals, store: Path) -> None:
    with gateway(store, LONG) as process, download(process.port()) as connection:
        process.send_signal(signal.SIGTERM)
        process.out.wait_for("waiting for 1 downloads")
        process.send_signal(by)
        assert_a_clean_end(process, broken_off=1)
        assert len(read_to_end(connection)) < len(LARGE)


def test_what_is_not_finished_in_time_is_broken_off(store: Path) -> None:
    """A client that takes nothing, and one that is too slow; each has its line in the access log."""
    with gateway(store, SHORT) as process, download(process.port()) as paused:
        url = f"http://127.0.0.1:{process.port()}/db/doc/file.bin?token=t"
        slow = subprocess.Popen(curl_command("-N", "--limit-rate", "100k", url), stdout=subprocess.PIPE)
        with slow:
            try:
                assert slow.stdout is not None
                assert slow.stdout.read(1) == LARGE[:1]
                process.send_signal(signal.SIGTERM)
                assert_a_clean_end(process, broken_off=2)
                assert slow.poll() is None, "it still reads what was sent to it"
            finally:
                slow.kill()
        assert len(read_to_end(paused)) < len(LARGE)
        assert process.text().count('"GET /db/doc/file.bin?token=*** HTTP/1.1" 200 ') >= 2


def test_without_a_drain_nothing_is_waited_for(store: Path) -> None:
    with gateway(store, "--drain=0") as process, download(process.port()) as connection:
        process.send_signal(signal.SIGTERM)
        assert_a_clean_end(process, broken_off=1)
        assert len(read_to_end(connection)) < len(LARGE)


@BOTH
def test_idle_connections_hold_nothing_up(by: signal.Signals, store: Path) -> None:
    """Silent ones, ones that are kept alive, ones that have begun to ask."""
    with gateway(store, LONG) as process, connect(process.port()) as silent, connect(process.port()) as begun:
        begun.sendall(REQUEST[:20])
        with kept_alive(process.port()) as kept:
            process.send_signal(by)
            assert_a_clean_end(process)
            assert [read_to_end(each) for each in (silent, begun, kept)] == [b"", b"", b""]


def test_signal_after_signal(store: Path) -> None:
    """The second may come before the first has been heeded, the last when all is done."""
    with gateway(store, LONG) as process, kept_alive(process.port()):
        while process.is_alive:
            process.send_signal(signal.SIGTERM)
        assert_a_clean_end(process)


def test_a_reload(store: Path, tmp_path: Path) -> None:
    """While the old one drains, a new one answers on its port."""
    with gateway(store) as couch:
        url = f"http://{admin_of(store)}@127.0.0.1:{couch.port('Store')}"
        with running(tmp_path, "-c", url, "-l", ANY_PORT, LONG) as old:
            port = old.port()
            with download(port) as connection:
                old.send_signal(signal.SIGTERM)
                old.out.wait_for("waiting for 1 downloads")
                with running(tmp_path, "-c", url, "-l", f"tcp:{port}:interface=127.0.0.1") as new:
                    assert new.port() == port
                    assert exchange(port, REQUEST.replace(b"Host", b"Connection: close\r\nHost")).body == LARGE
                    assert old.is_alive
                    assert read_to_end(connection) == LARGE
                    assert_a_clean_end(old, broken_off=0)
                    new.send_signal(signal.SIGTERM)
                    assert_a_clean_end(new)


def test_over_tls(store: Path, tmp_path: Path) -> None:
    """A client that says no goodbye holds nothing up, and a download is whole."""
    certify(tmp_path)
    endpoint = f"ssl:0:interface=127.0.0.1:privateKey={tmp_path / 'key.pem'}:certKey={tmp_path / 'cert.pem'}"
    context = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    with gateway(store, LONG, listen=endpoint) as process:
        port = int(process.out.wait_for(r"GatewaySite \(TLS\) starting on (\d+)")[0][1])
        secured = [context.wrap_socket(connect(port), server_hostname="127.0.0.1") for _ in range(2)]
        with secured[0] as idle, secured[1] as busy, connect(port) as silent:
            for each, request in ((idle, NOT_FOUND), (busy, REQUEST)):
                each.sendall(request)
                receive_head(each)
            process.send_signal(signal.SIGTERM)
            process.out.wait_for("waiting for 1 downloads")
            assert read_to_end(busy) == LARGE
            assert_a_clean_end(process, broken_off=0)
            assert read_to_end(silent) == b""


def test_who_uses_the_store_by_itself_is_cut_off(store: Path) -> None:
    """It is not what is drained; an upload that has begun leaves nothing behind."""
    with gateway(store, LONG) as process, connect(process.port("Store")) as connection:
        login = b64encode(admin_of(store).encode()).decode()
        head = f"PUT /db/new/file HTTP/1.1\r\nHost: h\r\nAuthorization: Basic {login}\r\nContent-Length: {2**30}\r\n"
        connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert receive_head(connection).startswith(b"HTTP/1.1 100 ")
        connection.sendall(LARGE)
        process.send_signal(signal.SIGTERM)
        assert_a_clean_end(process)
        assert read_to_end(connection) == b""
    assert sum(file.stat().st_size for file in store.rglob("*")) < 1.5 * len(LARGE)
    with gateway(store) as process:
        assert exchange(process.port(), REQUEST.replace(b"Host", b"Connection: close\r\nHost")).body == LARGE


@in_reactor
async def test_a_service_that_is_stopped_without_a_signal(tmp_path: Path) -> None:
    """When it has stopped, nobody is connected to it any more, or to its store."""
    with nobody() as here, nobody() as there:
        ports = here, there
    options = Options()
    endpoints = [f"tcp:{port}:interface=127.0.0.1" for port in ports]
    options.parseOptions(["-s", str(tmp_path / "store"), "-l", endpoints[0], "--store-listen", endpoints[1], LONG])
    service: IService = GatewayService(options.settings, reactor, print)
    service.privilegedStartService()
    service.startService()
    clients = [Exchange(NOT_FOUND), Exchange(NOT_FOUND)]
    for port, client in zip(ports, clients, strict=True):
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), client)
    while not all(client.received for client in clients):
        await deferLater(reactor, 0)
    await maybeDeferred(service.stopService)
    for client in clients:
        await client.ended.addTimeout(PATIENCE, reactor)


def test_a_daemon(store: Path) -> None:
    with daemon(store.parent, *arguments(store), LONG) as process:
        assert process.started.returncode == 0
        port = int(process.log.partition("GatewaySite starting on ")[2].split()[0])
        with download(port) as connection, kept_alive(port) as idle:
            process.signal(signal.SIGTERM)
            assert idle.recv(1) == b"", "it drains"
            assert process.pidfile.exists()
            assert read_to_end(connection) == LARGE
        process.wait_for_end()
        assert not process.pidfile.exists()
        assert "Traceback" not in process.log
        assert "no download is under way any more, 0 were broken off" in process.log
