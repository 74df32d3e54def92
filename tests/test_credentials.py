"""
What a gateway says at its start of itself and of CouchDB, and what becomes of one whose user CouchDB refuses: real
processes, with embedded stores and a scripted node as CouchDB.
"""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.certificates import certify
from tests.running import ANY_PORT, PATIENCE, Running, curl, environment, exchange, needs_curl, nobody, running, twistd
from txcouchdl.couch.nodes import Node

pytestmark = needs_curl

PASSWORD = "pssst-the-password"
either = pytest.mark.parametrize("workers", ["1", "2"])
READY = b"GET /_up?ready HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


class Couch(ThreadingHTTPServer):
    """
    A node that knows one user, and counts who shows it a wrong password.

    :ivar password: the right one.
    """

    password = PASSWORD
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def url(self, password: str = PASSWORD) -> str:
        return f"http://gateway:{password}@127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Couch

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path == "/_up":
            self._answer(200, {"status": "ok"})
        elif self.headers["Authorization"] == Node.of("", "gateway", self.server.password).authorization:
            self._answer(200, {"ok": True, "userCtx": {"name": "gateway", "roles": []}})
        else:
            self._answer(401, {"error": "unauthorized", "reason": "Name or password is incorrect."})

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nowhere."""


@pytest.fixture
def couch() -> Iterator[Couch]:
    with Couch() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextmanager
def gateway(directory: Path, *urls: str, workers: str = "1") -> Iterator[Running]:
    options = ["-l", ANY_PORT, "--admin-listen", ANY_PORT, "--workers", workers]
    with running(directory, *options, COUCHDB_URL=",".join(urls)) as process:
        yield process


def wait_until_ready(process: Running, status: int, workers: str = "1") -> None:
    """Ask until it is so: each worker has to hear of it."""
    if workers != "1":
        process.out.wait_for(r"worker \d is ready", int(workers))
    for port in (process.port("Admin"), *[process.port()] * 8):
        for _ in range(1000):
            if (answer := exchange(port, READY)).status == status:
                break
        assert answer.status == status


# The start.


@either
def test_what_the_start_says(workers: str, couch: Couch, tmp_path: Path) -> None:
    certify(tmp_path)
    secure = f"ssl:0:interface=127.0.0.1:privateKey={tmp_path}/key.pem:certKey={tmp_path}/cert.pem"
    listen = ["-l", ANY_PORT, "-l", secure, "-l", f"unix:{tmp_path}/socket", "--admin-listen", ANY_PORT]
    with (
        nobody() as port,
        running(
            tmp_path, *listen, "--workers", workers, COUCHDB_URL=f"{couch.url()},http://127.0.0.1:{port}"
        ) as process,
    ):
        process.out.wait_for(rf"info\] CouchDB at {couch.base} accepts user 'gateway' \(/_session: 200\)$")
        process.out.wait_for(rf"warn\] CouchDB at http://127.0.0.1:{port} cannot be reached: Connection was refused")
        secured = process.out.wait_for(r"GatewaySite \(TLS\) starting on (\d+)")[0][1]
        plain, admin = process.port(), process.port("Admin")
        wait_until_ready(process, 200, workers)
        assert process.stop() == 0
        text = process.text()
    places = f"http://127.0.0.1:{plain}, https://127.0.0.1:{secured}, unix:{tmp_path}/socket"
    for line in (
        f"the gateway answers at {places}",
        f"metrics and probes for operators are at http://127.0.0.1:{admin}",
        f"CouchDB nodes: {couch.base}, http://127.0.0.1:{port}",
        "CouchDB is asked as user 'gateway', an anonymous user",
    ):
        assert len(re.findall(rf"info\] {re.escape(line)}$", text, re.MULTILINE)) == 1
    assert PASSWORD not in text
    assert couch.asked.count("/_session") == 1, "once, however many processes there are"


def test_an_embedded_store_is_not_asked(tmp_path: Path) -> None:
    """It has the gateway's password from the gateway."""
    with running(tmp_path, "--store=store", "--store-listen", ANY_PORT, "-l", ANY_PORT) as process:
        process.out.wait_for("the gateway answers at http")
        assert curl(f"http://127.0.0.1:{process.port()}/_up").status == 200
        assert process.stop() == 0
        assert "_session" not in process.text()


# A wrong password.


@either
def test_a_wrong_password(workers: str, couch: Couch, tmp_path: Path) -> None:
    """The gateway lives, is not ready, and says so; a reload finds out that it is right by now."""
    with gateway(tmp_path, couch.url("wrong"), workers=workers) as process:
        refusal = rf"warn\] CouchDB at {couch.base} refuses user 'gateway' \(/_session: 401\): no download can work$"
        process.out.wait_for(refusal)
        wait_until_ready(process, 503, workers)
        detail = json.loads(curl(f"http://127.0.0.1:{process.port('Admin')}/_up?ready").body)
        assert detail == {"status": "unavailable", "workers": int(workers), "nodes": {couch.base: "refused"}}
        assert curl(f"http://127.0.0.1:{process.port()}/_up").status == 200
        assert curl(f"http://127.0.0.1:{process.port()}/db/doc/file?token=t").status == 502
        assert couch.asked.count("/_session") == 1, "probes show no password"
        couch.password = "wrong"
        process.send_signal(signal.SIGHUP)
        process.out.wait_for(rf"info\] CouchDB at {couch.base} accepts user 'gateway'")
        wait_until_ready(process, 200)
        assert process.stop() == 0
        assert "Traceback" not in process.text()


def test_one_node_of_two_that_refuses(couch: Couch, tmp_path: Path) -> None:
    other = Couch()
    thread = Thread(target=other.serve_forever)
    thread.start()
    try:
        with gateway(tmp_path, couch.url("wrong"), other.url()) as process:
            process.out.wait_for(f"CouchDB at {couch.base} refuses")
            process.out.wait_for(f"CouchDB at {other.base} accepts")
            wait_until_ready(process, 200)
            detail = json.loads(curl(f"http://127.0.0.1:{process.port('Admin')}/_up?ready").body)
            assert detail["nodes"] == {couch.base: "refused", other.base: "up"}
    finally:
        other.shutdown()
        thread.join()
        other.server_close()


def test_a_worker_that_comes_later_knows(couch: Couch, tmp_path: Path) -> None:
    with gateway(tmp_path, couch.url("wrong"), workers="2") as process:
        pids = [int(each[1]) for each in process.out.wait_for(r"worker \d is ready, its pid is (\d+)", 2)]
        process.out.wait_for("refuses user 'gateway'")
        wait_until_ready(process, 503)
        for pid in pids:
            subprocess.run(["kill", "-KILL", str(pid)], check=True)
        process.out.wait_for(r"worker \d is ready", 4)
        assert {exchange(process.port(), READY).status for _ in range(20)} == {503}


# --check.


def check(directory: Path, *urls: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        twistd("couchdl", "--check"),
        cwd=directory,
        env=environment({"COUCHDB_URL": ",".join(urls)}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_a_check_with_a_right_password(couch: Couch, tmp_path: Path) -> None:
    ended = check(tmp_path, couch.url())
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "twistd couchdl: all is in order\n", "")
    assert couch.asked == ["/_session"]


def test_a_check_with_a_wrong_password(couch: Couch, tmp_path: Path) -> None:
    ended = check(tmp_path, couch.url("a-wrong-one"))
    sentence = f"CouchDB at {couch.base} refuses user 'gateway' (/_session: 401): no download can work"
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", f"twistd couchdl: {sentence}\n")
    assert couch.asked == ["/_session"], "once"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_check_without_a_couchdb(scheme: str, couch: Couch, tmp_path: Path) -> None:
    """A warning: the gateway would start, and wait for it. The other node is asked all the same."""
    with nobody() as port:
        ended = check(tmp_path, f"{scheme}://gateway:{PASSWORD}@127.0.0.1:{port}", couch.url())
    assert (ended.returncode, ended.stdout) == (0, "twistd couchdl: all is in order\n")
    warning = f"twistd couchdl: warning: CouchDB at {scheme}://127.0.0.1:{port} cannot be reached: "
    [line] = ended.stderr.splitlines()
    assert line.startswith(warning)
    assert "refused" in line
    assert couch.asked == ["/_session"]


def test_a_check_of_what_is_no_couchdb(tmp_path: Path, couch: Couch) -> None:
    """TLS where there is none, and the other way round, are told as what they are."""
    ended = check(tmp_path, couch.url().replace("http", "https"))
    assert ended.returncode == 0
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
