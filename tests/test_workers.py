"""
Several workers, as processes: they share ports, limits and a log, die one by one, and end together.

Who answers a connection is told by the kernel: a worker has its other end.
"""

import os
import re
import select
import shutil
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.nodes import needs_proc
from tests.running import (
    ANY_PORT,
    PATIENCE,
    Running,
    complaints,
    connect,
    curl,
    daemon,
    exchange,
    needs_curl,
    read_to_end,
    running,
)
from tests.test_activation import SYSTEMD, activated, listening, port_of  # noqa: F401 (a fixture)
from tests.test_shutdown import LARGE, REQUEST, admin_of, download, gateway, receive_head, store  # noqa: F401
from tests.test_tls import NAME, Authority
from txcouchdl.gateway.guess_queue import LONGEST_QUEUE

pytestmark = [needs_curl, needs_proc]

TWO = "--workers=2"
ONCE = REQUEST.replace(b"Host", b"Connection: close\r\nHost")
WRONG = REQUEST.replace(b"token=t", b"token=wrong")


def workers(process: Running, count: int = 2) -> list[int]:
    """The pids of the workers that were ready so far, the latest ones last; waits until there were so many."""
    return [int(match[1]) for match in process.out.wait_for(r"worker \d+ is ready, its pid is (\d+)", count)]


def worker_of(connection: socket.socket, pids: Sequence[int]) -> int:
    """The pid of the worker that has accepted a connection."""
    # The table has their end first; an end that is nobody's any more has inode 0.
    theirs, ours = (f"0100007F:{each[1]:04X}" for each in (connection.getpeername(), connection.getsockname()))
    table = Path("/proc/net/tcp").read_text("ascii")
    [inode] = re.findall(rf": {theirs} {ours} \S+ \S+ \S+ \S+ +\d+ +\d+ ([1-9]\d*)", table)
    [pid] = [pid for pid in pids if f"socket:[{inode}]" in open_files(pid)]
    return pid


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def open_files(pid: int) -> set[str]:
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(os.readlink(descriptor))
    return found


def take(connection: socket.socket, length: int) -> bytes:
    """So many bytes."""
    taken = bytearray()
    while len(taken) < length:
        data = connection.recv(length - len(taken))
        assert data
        taken += data
    return bytes(taken)


def wait_for_death(*pids: int) -> None:
    """Wait until these processes, which are not our children, have ended."""
    for pid in pids:
        try:
            watch = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([watch], [], [], PATIENCE)[0], f"{pid} does not end"
        finally:
            os.close(watch)


@contextmanager
def one_on_each(port: int, pids: Sequence[int]) -> Iterator[dict[int, socket.socket]]:
    """A connection to each worker, which has been answered once."""
    found: dict[int, socket.socket] = {}
    with ExitStack() as stack:
        for _ in range(50):
            connection = stack.enter_context(connect(port))
            connection.sendall(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
            assert receive_head(connection)
            found.setdefault(worker_of(connection, pids), connection)
            if len(found) == len(pids):
                break
        assert set(found) == set(pids)
        yield found


@pytest.fixture(scope="module")
def couch(store: Path) -> Iterator[str]:  # noqa: F811
    """The URL of a CouchDB with ``/db/doc/file.bin``, which is LARGE."""
    with gateway(store) as process:
        yield f"http://{admin_of(store)}@127.0.0.1:{process.port('Store')}"


@contextmanager
def working(couch: str, *more: str) -> Iterator[Running]:
    """Two workers that answer."""
    with running(Path.cwd(), "-l", ANY_PORT, TWO, *more, COUCHDB_URL=couch) as process:
        workers(process)
        yield process


@pytest.fixture(scope="module")
def crew(couch: str) -> Iterator[Running]:
    with working(couch, "--guess-limit=9") as process:
        yield process


def test_a_worker_that_is_killed(crew: Running) -> None:
    """Nobody else's download notices; another worker takes its place."""
    port, pids = crew.port(), children(crew.pid)
    with one_on_each(port, pids) as connections:
        victim, survivor = pids
        for each in connections.values():
            each.sendall(REQUEST)
            assert receive_head(each).startswith(b"HTTP/1.1 200 ")
        os.kill(victim, signal.SIGKILL)
        crew.out.wait_for("was killed by signal 9; the next one starts at once")
        assert len(read_to_end(connections[victim])) < len(LARGE)
        assert exchange(port, ONCE).body == LARGE
        new = workers(crew, 3)[2]
        assert take(connections[survivor], len(LARGE)) == LARGE
    with one_on_each(port, [survivor, new]) as connections:
        for each in connections.values():
            each.sendall(ONCE)
            assert read_to_end(each).endswith(LARGE)


def test_wrong_tokens_are_counted_together(crew: Running) -> None:
    """Whichever worker they come to: more of them have to wait then than can wait at two."""
    with one_on_each(crew.port(), children(crew.pid)) as connections, ExitStack() as stack:
        for number in range(9):
            connection = list(connections.values())[number % 2]
            connection.sendall(WRONG)
            head = receive_head(connection)
            assert head.startswith(b"HTTP/1.1 403 ")
            take(connection, int(re.search(rb"Content-Length: (\d+)", head)[1]))  # type: ignore[index]
        crowd = [stack.enter_context(connect(crew.port())) for _ in range(4 * LONGEST_QUEUE)]
        for connection in crowd:
            connection.sendall(WRONG)
        told: list[int] = []
        while told.count(429) < 2 * LONGEST_QUEUE:
            ready, _, _ = select.select(crowd, [], [], PATIENCE)
            assert ready, told
            told += [int(receive_head(each)[9:12]) for each in ready]
            crowd = [each for each in crowd if each not in ready]
    assert set(told) <= {403, 429}


def test_secrets_go_through_pipes_alone(crew: Running, couch: str) -> None:
    """Nobody who may look at processes learns one of a worker."""
    password = couch.partition("@")[0].rpartition(":")[2].encode()
    assert password in Path(f"/proc/{crew.pid}/environ").read_bytes(), "it is the operator who put it there"
    for pid in children(crew.pid):
        for file in ("cmdline", "environ"):
            assert password not in Path(f"/proc/{pid}/{file}").read_bytes()


def test_the_log_has_what_workers_tell(crew: Running) -> None:
    assert exchange(crew.port(), ONCE.replace(b"file.bin", b"logged")).status == 404
    crew.out.wait_for(r'\[txcouchdl\.access#info\] 127\.0\.0\.1 .* "GET /db/doc/logged\?token=\*\*\* HTTP/1.1" 404 ')


def test_an_access_log_that_all_write(couch: str, tmp_path: Path) -> None:
    """At the same time, and each line is whole. What the crew would have to pass on, it never sees."""
    file = tmp_path / "access.log"
    with (
        working(couch, f"--access-log={file}") as process,
        one_on_each(process.port(), workers(process)) as connections,
    ):
        sent = []
        for which, each in enumerate(connections.values()):
            targets = [f"/{which}-{number}-{'x' * (number % 99)}" for number in range(300)]
            sent += targets
            each.sendall("".join(f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n" for target in targets).encode())
            each.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        for each in connections.values():
            assert read_to_end(each).count(b"HTTP/1.1 404 ") == 301
        lines = file.read_text().splitlines()
        found = [
            re.fullmatch(r'127\.0\.0\.1 - - \[[^]]+\] "(?:GET|HEAD) (\S+) HTTP/1\.1" 404 \S+ "-" "-"', line)
            for line in lines
        ]
        assert None not in found
        assert sorted(each[1] for each in found if each and each[1] != "/") == sorted(sent)
        # Nobody would tell the crew that the file has been moved, and removed.
        assert str(file) not in open_files(process.pid)
        assert process.stop() == 0
        assert "HTTP/1.1" not in process.text()


# The end.


def test_running_downloads_are_finished(couch: str) -> None:
    """Also where everybody gets the signal: systemd sends it to all processes of a service."""
    with working(couch, "--drain=86400") as process:
        pids = workers(process)
        with download(process.port()) as connection:
            for pid in (process.pid, *pids):
                os.kill(pid, signal.SIGTERM)
            process.out.wait_for("waiting for 1 downloads, at most 86400 s")
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", process.port()))
            assert read_to_end(connection) == LARGE
        assert process.end() == 0
        wait_for_death(*pids)
        log = process.text()
        assert "no download is under way any more, 0 were broken off" in log
        assert "Traceback" not in log
        assert "the next one" not in log


def test_a_second_signal_ends_all_at_once(couch: str) -> None:
    """Of a terminal's, everybody gets both."""
    with working(couch, "--drain=86400") as process:
        pids = workers(process)
        with download(process.port()) as connection:
            process.send_signal(signal.SIGTERM)
            process.out.wait_for("waiting for 1 downloads")
            for pid in (process.pid, *pids):
                os.kill(pid, signal.SIGINT)
            assert process.end() == 0
            assert len(read_to_end(connection)) < len(LARGE)
        wait_for_death(*pids)
        assert "no download is under way any more, 1 were broken off" in process.text()


def test_workers_whose_crew_is_killed(couch: str, tmp_path: Path) -> None:
    """They finish their downloads and end; the port is free meanwhile. And one gateway alone has no worker."""
    with working(couch) as process:
        port, pids = process.port(), workers(process)
        with download(port) as connection, one_on_each(port, pids) as idle:
            os.kill(process.pid, signal.SIGKILL)
            assert [read_to_end(each) for each in idle.values()] == [b"", b""]
            with running(tmp_path, "-c", couch, "-l", f"tcp:{port}:interface=127.0.0.1") as alone:
                assert alone.port() == port
                assert children(alone.pid) == []
                assert exchange(port, ONCE).body == LARGE
            assert read_to_end(connection) == LARGE
        wait_for_death(*pids)


# Endpoints.


def test_every_kind_of_endpoint(couch: str, tmp_path: Path) -> None:
    """
    The files of certificates are read once: workers may not be allowed to. A Unix socket stays as it is, and is removed
    in the end.
    """
    live, path = tmp_path / "live", tmp_path / "socket"
    authority = Authority(tmp_path)
    authority.issue(live)
    files = f"privateKey={live}/privkey.pem:certKey={live}/cert.pem:extraCertChain={live}/chain.pem"
    endpoints = [
        f"ssl:0:interface=127.0.0.1:{files}",
        f"tls:{live}:0:interface=\\:\\:",
        f"unix:{path}:mode=600",
    ]
    listen = [part for each in endpoints for part in ("-l", each)]
    with running(tmp_path, "-c", couch, *listen, "--workers=0") as process:
        process.out.wait_for("GatewaySite starting on '")
        shutil.rmtree(live)
        ports = [int(match[1]) for match in process.out.wait_for(r"GatewaySite \(TLS\) starting on (\d+)", 2)]
        pids = workers(process, len(os.sched_getaffinity(0)))
        for they_are_the_first in (True, False):
            for port in ports:
                url = f"https://{NAME}:{port}/db/doc/file.bin?token=t"
                answer = curl("--cacert", authority.root, "--connect-to", f"::127.0.0.1:{port}", "-r", "0-99", url)
                assert (answer.exit_status, answer.body) == (0, LARGE[:100]), answer.complaint
            answer = curl("--unix-socket", path, "-r", "0-99", "http://h/db/doc/file.bin?token=t")
            assert answer.body == LARGE[:100]
            if they_are_the_first:
                # Who comes in their places has never seen the files.
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
                workers(process, 2 * len(pids))
        assert path.stat().st_mode & 0o777 == 0o600
        assert process.stop() == 0
        assert not path.exists()
        assert "Traceback" not in process.text()


def test_a_socket_of_systemds(listening: socket.socket, tmp_path: Path) -> None:  # noqa: F811
    """It stays open when all have ended."""
    port = port_of(listening)
    with activated(tmp_path, listening, "-l", SYSTEMD, TWO) as process:
        pids = workers(process)
        with one_on_each(port, pids):
            assert process.stop() == 0
        assert "Traceback" not in process.text()
    # Who comes now waits for the next ones.
    connect(port).close()


def test_an_endpoint_that_cannot_be_shared(tmp_path: Path) -> None:
    [line] = complaints(tmp_path, "-l", "haproxy:tcp:0:interface=127.0.0.1", TWO)
    assert line.startswith(
        "twistd couchdl: 'haproxy:tcp:0:interface=127.0.0.1' is no endpoint that --workers can share"
    )


def test_a_daemon_with_a_store(tmp_path: Path) -> None:
    """Its pidfile is the crew's, and its log has everything."""
    with daemon(tmp_path, "--store=store", "--store-listen", ANY_PORT, "-l", ANY_PORT, TWO) as process:
        assert process.started.returncode == 0
        port = int(process.log.partition("GatewaySite starting on ")[2].split()[0])
        assert exchange(port, ONCE).status == 403
        pids = children(int(process.pidfile.read_text("ascii")))
        assert len(pids) == 2
        process.signal(signal.SIGTERM)
        process.wait_for_end()
        wait_for_death(*pids)
        assert not process.pidfile.exists()
        assert '"GET /db/doc/file.bin?token=*** HTTP/1.1" 403 ' in process.log
        assert "Traceback" not in process.log
