"""
The running service, alone and with workers: one scrape tells of all processes together, whatever becomes of them.
"""

import json
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.metrics.reading import Numbers, change, numbers
from tests.nodes import needs_proc
from tests.running import (
    ANY_PORT,
    PATIENCE,
    Running,
    complaints,
    connect,
    curl,
    exchange,
    needs_curl,
    nobody,
    read_to_end,
    running,
    somebody,
)
from tests.test_shutdown import LARGE, REQUEST, admin_of, download, gateway, receive_head, store  # noqa: F401 (a fixture)
from tests.test_workers import ONCE, TWO, WRONG, children, one_on_each, open_files, take, workers

pytestmark = [needs_curl, needs_proc]

ADMIN = ("--admin-listen", ANY_PORT)
#: Takes longer than any test.
LONG = "--drain=86400"


def request(target: str, *fields: str, method: str = "GET", is_last: bool = True) -> bytes:
    last = ["Connection: close"] if is_last else []
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: h", *fields, *last, "", ""]).encode()


def admin_port(process: Running) -> int:
    return int(process.out.wait_for(r"AdminSite starting on (\d+)")[0][1])


def scrape(process: Running) -> Numbers:
    answer = exchange(admin_port(process), request("/_metrics"))
    assert answer.status == 200
    return numbers(answer.body.decode())


def scrape_until(process: Running, is_so: Callable[[Numbers], bool]) -> Numbers:
    """Scrape until something is told that is about to happen."""
    deadline = monotonic() + PATIENCE
    while not is_so(told := scrape(process)):
        assert monotonic() < deadline, "it does not happen"
    return told


def ready(process: Running) -> tuple[int, dict[str, Any]]:
    answer = exchange(admin_port(process), request("/_up?ready"))
    return answer.status, json.loads(answer.body)


def answer_on(connection: socket.socket) -> tuple[bytes, bytes]:
    """The head and the body of an answer on a kept connection."""
    head = receive_head(connection)
    length = re.search(rb"Content-Length: (\d+)", head)
    assert length is not None
    return head, take(connection, int(length[1]))


@pytest.fixture(scope="module")
def couch(store: Path) -> Iterator[str]:  # noqa: F811
    """The URL of a CouchDB with ``/db/doc/file.bin``, which is LARGE."""
    with gateway(store) as process:
        yield f"http://{admin_of(store)}@127.0.0.1:{process.port('Store')}"


@contextmanager
def working(couch: str, *more: str) -> Iterator[Running]:
    """A gateway that answers."""
    with running(Path.cwd(), "-l", ANY_PORT, *ADMIN, *more, COUCHDB_URL=couch) as process:
        process.port()
        if TWO in more:
            workers(process)
        yield process


@pytest.fixture(scope="module", params=[(), (TWO,)], ids=["alone", "two workers"])
def served(couch: str, request: pytest.FixtureRequest) -> Iterator[Running]:
    with working(couch, "--guess-limit=3", *request.param) as process:
        yield process


def test_what_happened_is_told(served: Running) -> None:
    """By whichever process it was done."""
    file, before = "/db/doc/file.bin?token=t", scrape(served)
    etag = curl("-I", f"http://127.0.0.1:{served.port()}{file}").headers["etag"]
    received = 0
    for raw, status in [
        (ONCE, 200),
        (request(file, "Range: bytes=5-1000004"), 206),
        (request(file, "Range: bytes=0-9,20-29"), 206),
        (request(file, f"If-None-Match: {etag}"), 304),
        (request(file, 'If-Match: "x"'), 412),
        (request(file, "Range: bytes=99999999999-"), 416),
        (request("/db/doc/other?token=t"), 404),
        (request("/_metrics"), 404),
        (request("/_up?ready"), 200),
        *[(request("/db/doc/file.bin?token=x"), 403)] * 4,
    ]:
        answer = exchange(served.port(), raw)
        assert answer.status == status
        received += len(answer.body)
    told = change(before, scrape(served))
    statuses = {200: 3, 206: 2, 304: 1, 403: 4, 404: 2, 412: 1, 416: 1}
    assert {name: told[name] for name in told if name.startswith("requests_total")} == {
        f"requests_total {status}": count for status, count in statuses.items()
    }
    assert told["sent_bytes_total"] == received
    # The last one had to wait for a second.
    assert (told["wrong_tokens_total"], told["guesses_delayed_total"]) == (4, 1)
    [answers] = [told[name] for name in told if name.startswith("upstream_seconds_count ")]
    # The documents, once more for the ETag, and the bodies.
    assert answers == 12 + 3


def test_ready(served: Running, couch: str) -> None:
    base = f"http://{couch.rpartition('@')[2]}"
    assert ready(served) == (
        200,
        {"status": "ok", "workers": scrape(served)["workers"], "nodes": {base: "up"}},
    )
    answer = exchange(served.port(), request("/_up?ready"))
    assert (answer.status, json.loads(answer.body)) == (200, {"status": "ok"})


def test_clients_that_leave_and_bytes_that_are_on_their_way(served: Running) -> None:
    before = scrape(served)
    with download(served.port()):
        now = change(before, scrape_until(served, lambda now: now["sent_bytes_total"] > before["sent_bytes_total"]))
        assert now["connections"] == 1
        assert "requests_total left" not in now
    left = before["requests_total left"]
    now = change(before, scrape_until(served, lambda now: now["requests_total left"] > left))
    assert 0 < now["sent_bytes_total"] < len(LARGE)
    assert "connections" not in now


def test_no_secret_is_told(served: Running, couch: str) -> None:
    user, _, password = couch.partition("//")[2].partition("@")[0].partition(":")
    with connect(admin_port(served)) as connection:
        for target in ("/_metrics", "/_up?ready", "/x"):
            connection.sendall(request(target, is_last=False))
            head, body = answer_on(connection)
            words = re.findall(r"\w+", (head + body).decode())
            assert words
            assert not {user, password, "doc"} & {*words}


def test_workers_that_are_killed_again_and_again(couch: str) -> None:
    """No counter ever goes back, and what the dead had is gone."""
    with working(couch, TWO, "--guess-limit=0") as process:
        seen = [scrape(process)]
        for deaths in (1, 2):
            pids = workers(process, 1 + deaths)
            survivors = [pid for pid in children(process.pid) if pid in pids]
            with one_on_each(process.port(), survivors) as connections:
                for each in connections.values():
                    for _ in range(3):
                        each.sendall(WRONG)
                        answer_on(each)
                    each.sendall(REQUEST)
                    assert receive_head(each).startswith(b"HTTP/1.1 200 ")
                seen.append(scrape(process))
                # Beside those that it took to find one of each.
                assert seen[-1]["connections"] >= 2
                victim, other = survivors
                os.kill(victim, signal.SIGKILL)
                process.out.wait_for("was killed by signal 9; the next one starts", deaths)
                read_to_end(connections[victim])
                seen.append(scrape(process))
                assert seen[-1]["connections"] < seen[-2]["connections"]
                take(connections[other], len(LARGE))
            workers(process, 2 + deaths)
            # In its turn: the one that was started in its place.
            now = scrape_until(process, lambda now: now["workers"] == 2 and not now["connections"])
            seen.append(now)
            assert now["worker_deaths_total"] == deaths
        counters = [name for name in seen[0] if re.match(r"\S+_(total|count|sum|bucket)( |$)", name)]
        assert len(counters) > 50
        for name in counters:
            values = [each[name] for each in seen]
            assert values == sorted(values), name
        assert seen[-1]["requests_total 403"] == 2 * 2 * 3
        assert seen[-1]["requests_total 200"] == 2


def test_workers_that_hang(couch: str) -> None:
    """Nobody else would notice: their sockets accept, and their processes are there."""
    with working(couch, TWO) as process:
        pids = workers(process, 2)
        assert scrape(process)["hung_workers"] == 0
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            scrape_until(process, lambda now: now["hung_workers"] == 2)
            assert exchange(admin_port(process), request("/_up")).status == 503
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        scrape_until(process, lambda now: now["hung_workers"] == 0)
        assert exchange(admin_port(process), request("/_up")).status == 200


# The end.


@pytest.mark.parametrize("more", [(), (TWO,)], ids=["alone", "two workers"])
def test_while_downloads_are_finished(couch: str, more: tuple[str, ...], tmp_path: Path) -> None:
    """
    Nobody new is taken, and the port is the next one's; who is connected sees how it ends, and holds nobody up. The log
    has nothing of all that.
    """
    with working(couch, LONG, *more) as process:
        port = admin_port(process)
        with connect(port) as scraper, connect(port) as slow, download(process.port()) as client:
            slow.sendall(b"GET /_metrics HTTP/1.1\r\n")
            scraper.sendall(request("/_up?ready", is_last=False))
            assert answer_on(scraper)[0].startswith(b"HTTP/1.1 200 ")
            process.send_signal(signal.SIGTERM)
            process.out.wait_for("waiting for 1 downloads")
            scraper.sendall(request("/_up?ready", is_last=False))
            head, body = answer_on(scraper)
            assert head.startswith(b"HTTP/1.1 503 ")
            assert json.loads(body)["status"] == "stopping"
            scraper.sendall(request("/_metrics", is_last=False))
            assert numbers(answer_on(scraper)[1].decode())["connections"] == 1
            again = f"tcp:{port}:interface=127.0.0.1"
            with running(tmp_path, "-l", ANY_PORT, "--admin-listen", again, COUCHDB_URL=couch) as next_one:
                assert admin_port(next_one) == port
                assert ready(next_one)[0] == 200
            assert read_to_end(client) == LARGE
            assert read_to_end(scraper) == read_to_end(slow) == b""
        assert process.end() == 0
        log = process.text()
        assert "Traceback" not in log
        assert not re.search("/_metrics|/_up", log)


# Endpoints.


def test_by_default_there_is_none(couch: str) -> None:
    with running(Path.cwd(), "-l", ANY_PORT, COUCHDB_URL=couch) as process:
        assert exchange(process.port(), request("/_up?ready")).status == 200
        assert process.stop() == 0
        log = process.text()
    assert "AdminSite" not in log
    assert '"GET /_up?*** HTTP/1.1" 200' in log


def test_several_and_a_unix_socket(couch: str, tmp_path: Path) -> None:
    path = tmp_path / "admin"
    more = ("--admin-listen", f"unix:{path}:mode=600", TWO)
    with working(couch, *more) as process:
        process.out.wait_for("AdminSite starting on '")
        answer = curl("--unix-socket", path, "http://h/_metrics")
        assert numbers(answer.body.decode())["workers"] == 2
        assert path.stat().st_mode & 0o777 == 0o600
        assert scrape(process)["workers"] == 2
        # No worker holds it open.
        inodes = re.findall(rf" (\d+) {path}$", Path("/proc/net/unix").read_text(), re.MULTILINE)
        for pid in children(process.pid):
            assert open_files(pid).isdisjoint(f"socket:[{inode}]" for inode in inodes)
        for pid in children(process.pid):
            os.kill(pid, signal.SIGSTOP)
        assert curl("--unix-socket", path, "http://h/_up").status == 200
        for pid in children(process.pid):
            os.kill(pid, signal.SIGCONT)
        assert process.stop() == 0
        assert not path.exists()


def test_an_endpoint_that_somebody_has(tmp_path: Path) -> None:
    with somebody() as port, nobody() as couchdb:
        taken = f"tcp:{port}:interface=127.0.0.1"
        [line] = complaints(tmp_path, "-c", f"http://127.0.0.1:{couchdb}", "-l", ANY_PORT, "--admin-listen", taken)
    assert line.startswith(f"twistd couchdl: cannot listen on '{taken}'")


def test_an_embedded_store(tmp_path: Path) -> None:
    """Is asked as any other node is."""
    with gateway(tmp_path / "store", *ADMIN) as process:
        status, told = ready(process)
        base = f"http://127.0.0.1:{process.port('Store')}"
        assert (status, told["nodes"]) == (200, {base: "up"})
        assert exchange(process.port(), ONCE).status == 403
        assert scrape(process)[f"upstream_seconds_count {base}"] == 1
