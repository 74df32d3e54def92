"""
The running service: ``twistd couchdl`` as a process, curl and bare sockets as its clients.

What a request is answered is told by the tests of the gateway; here is what only a process can show: starting,
failing to start, ending, dying; its log; its file descriptors; and that it all fits together.
"""

import json
import os
import re
import signal
import socket
import stat
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from time import monotonic

import pytest
from attrs import frozen
from pytest_twisted import ensureDeferred
from twisted.application.service import IService, IServiceMaker
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.plugin import getPlugins

from tests.certificates import certify
from tests.nodes import needs_proc
from tests.running import (
    ANY_PORT,
    PATIENCE,
    Fetched,
    Running,
    beat,
    complaints,
    connect,
    curl,
    daemon,
    environment,
    exchange,
    needs_curl,
    nobody,
    running,
    somebody,
    twistd,
)
from txcouchdl import demo
from txcouchdl.options import Options
from txcouchdl.service import GatewayService, makeService
from txcouchdl.settings import StartError

pytestmark = needs_curl

MEDIA = {name: (files(demo) / "media" / name).read_bytes() for name in ("story.txt", "melody.mp3", "countdown.mp4")}
MIDDLE = 30_000
#: More than sockets buffer, so that a slow reader holds the stream up.
LARGE = os.urandom(16 * 2**20)

DEMO = ("--demo", "--listen", ANY_PORT, "--store-listen", ANY_PORT)


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def assert_error(answer: Fetched, status: int, error: str) -> None:
    assert (answer.status, json.loads(answer.body)["error"]) == (status, error)
    assert answer.headers["content-type"] == "application/json"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A demo that runs."""
    with running(tmp_path_factory.mktemp("demo"), *DEMO) as process:
        process.links()
        yield process


@frozen
class Served:
    """
    An embedded store with its gateway.

    :ivar admin: ``name:password``.
    """

    process: Running
    directory: Path
    admin: str

    @property
    def couchdb(self) -> str:
        return f"http://127.0.0.1:{self.process.port('Store')}"

    @property
    def gateway(self) -> str:
        return f"http://127.0.0.1:{self.process.port()}"

    def put(self, target: str, *arguments: str | Path) -> dict[str, str]:
        """Put something with curl, as CouchDB's manual does."""
        answer = curl("-u", self.admin, "-X", "PUT", self.couchdb + target, *arguments)
        assert answer.status == 201, answer.body
        fields: dict[str, str] = json.loads(answer.body)
        return fields

    def upload(self, document: object, content: bytes) -> None:
        """``/db/doc``, with one attachment, ``file.bin``."""
        self.put("/db")
        rev = self.put("/db/doc", "-d", json.dumps(document))["rev"]
        file = self.directory.with_name("file.bin")
        file.write_bytes(content)
        self.put(f"/db/doc/file.bin?rev={rev}", "-T", file, "-H", "Content-Type: application/octet-stream")


@contextmanager
def served(directory: Path, *arguments: str, listen: str = ANY_PORT) -> Iterator[Served]:
    store = directory / "store"
    with running(directory, "--store", "store", "--store-listen", listen, "--listen", ANY_PORT, *arguments) as process:
        process.port()
        yield Served(process, store, (store / "admin").read_text().strip())


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """``/db/doc/file.bin`` is LARGE; its secret is ``s3cret``, in ``data.token``."""
    with served(tmp_path_factory.mktemp("large"), "--token-key", "data.token") as it:
        it.upload({"data": {"token": "s3cret"}}, LARGE)
        yield it


# The demo, by curl.


def test_the_first_printed_link_is_the_page(shown: Running) -> None:
    page = shown.page()
    assert page.endswith("/demo/tour/?token=open-sesame")
    for_people = curl("-H", "Accept: text/html", page)
    assert (for_people.status, for_people.headers["content-type"]) == (200, "text/html; charset=utf-8")
    data = json.loads(curl(page).body)
    assert [each["name"] for each in data["attachments"]] == sorted(MEDIA)
    for each in data["attachments"]:
        assert digest(curl(each["url"]).body) == digest(MEDIA[each["name"]])


@pytest.mark.parametrize("name", MEDIA)
def test_a_printed_link(shown: Running, name: str) -> None:
    answer = curl(shown.links()[name])
    assert (answer.exit_status, answer.status) == (0, 200)
    assert digest(answer.body) == digest(MEDIA[name])


@pytest.mark.parametrize("name", MEDIA)
def test_a_download_is_resumed(shown: Running, name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(MEDIA[name][:MIDDLE])
    answer = curl("-C", "-", "-o", file, shown.links()[name])
    assert (answer.exit_status, answer.status) == (0, 206)
    assert int(answer.headers["content-length"]) == len(MEDIA[name]) - MIDDLE
    assert digest(file.read_bytes()) == digest(MEDIA[name])


@pytest.mark.parametrize("name", MEDIA)
def test_a_complete_download_is_resumed(shown: Running, name: str, tmp_path: Path) -> None:
    """curl asks for what comes after the end, takes the 416 for an answer, and is content."""
    file = tmp_path / name
    file.write_bytes(MEDIA[name])
    answer = curl("-C", "-", "-o", file, shown.links()[name])
    assert (answer.exit_status, answer.status) == (0, 416)
    assert answer.headers["content-range"] == f"bytes */{len(MEDIA[name])}"
    assert digest(file.read_bytes()) == digest(MEDIA[name])


@pytest.mark.parametrize("name", MEDIA)
@pytest.mark.parametrize(("range_", "part"), [("100-199", slice(100, 200)), ("-100", slice(-100, None))])
def test_a_range(shown: Running, name: str, range_: str, part: slice) -> None:
    answer = curl("-r", range_, shown.links()[name])
    assert (answer.exit_status, answer.status) == (0, 206)
    assert answer.body == MEDIA[name][part]


def test_a_head(shown: Running) -> None:
    answer = curl("-I", shown.links()["melody.mp3"])
    assert (answer.exit_status, answer.status) == (0, 200)
    assert int(answer.headers["content-length"]) == len(MEDIA["melody.mp3"])
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize("name", MEDIA)
def test_http_1_0(shown: Running, name: str) -> None:
    answer = curl("--http1.0", shown.links()[name])
    assert (answer.exit_status, answer.status) == (0, 200)
    assert "transfer-encoding" not in answer.headers
    assert digest(answer.body) == digest(MEDIA[name])


@pytest.mark.parametrize("spoil", [lambda link: link + "x", lambda link: link.partition("?")[0]])
def test_without_the_right_token(shown: Running, spoil: Callable[[str], str]) -> None:
    assert_error(curl(spoil(shown.links()["melody.mp3"])), 403, "forbidden")
    assert_error(curl(spoil(shown.links()["melody.mp3"].replace("/tour/", "/nope/"))), 403, "forbidden")


# Limits.


def test_a_range_field_that_is_too_long_is_ignored(shown: Running) -> None:
    ranges = ",".join(["0-0"] * 2100)
    assert len(ranges) > 2**13
    answer = curl("-H", f"Range: bytes={ranges}", shown.links()["melody.mp3"])
    assert (answer.exit_status, answer.status) == (0, 200)
    assert digest(answer.body) == digest(MEDIA["melody.mp3"])


@pytest.mark.parametrize(
    ("head", "status"),
    [
        pytest.param(f"GET /{'x' * 40 * 2**10} HTTP/1.1\r\n", 414, id="a path of 40 KiB"),
        pytest.param("GET /demo/tour/story.txt HTTP/1.1\r\n" + "X-Many: 1\r\n" * 600, 431, id="600 fields"),
        pytest.param(f"GET /demo/tour/story.txt HTTP/1.1\r\nX: {'x' * 40 * 2**10}\r\n", 431, id="a field of 40 KiB"),
    ],
)
def test_a_head_that_is_too_long(shown: Running, head: str, status: int) -> None:
    answer = exchange(shown.port(), f"{head}Host: h\r\nConnection: close\r\n\r\n".encode())
    assert (answer.status, answer.is_whole) == (status, True)
    assert answer.headers["content-type"] == "application/json"
    names = {414: "uri_too_long", 431: "request_header_fields_too_large"}
    assert answer.json["error"] == names[status]
    assert shown.is_alive


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_a_body_of_100_mb_is_refused_when_it_is_announced(shown: Running, method: str) -> None:
    raw = f"{method} /demo/tour/story.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n".encode()
    answer = exchange(shown.port(), raw)
    assert (answer.status, answer.is_whole, answer.json["error"]) == (413, True, "too_large")


def test_an_upload_of_100_mb(shown: Running, tmp_path: Path) -> None:
    file = tmp_path / "large"
    with file.open("wb") as sparse:
        sparse.truncate(100_000_000)
    answer = curl("-H", "Expect: 100-continue", "-T", file, shown.links()["story.txt"])
    assert_error(answer, 413, "too_large")


# The embedded store.


def test_an_upload_with_the_admins_credentials_comes_back_through_the_gateway(large: Served) -> None:
    answer = curl(f"{large.gateway}/db/doc/file.bin?token=s3cret")
    assert (answer.exit_status, answer.status) == (0, 200)
    assert digest(answer.body) == digest(LARGE)
    assert_error(curl(f"{large.gateway}/db/doc/file.bin?token=admin"), 403, "forbidden")


def test_the_store_takes_nothing_from_anybody_else(large: Served) -> None:
    for credentials in ([], ["-u", "admin:guess"], ["-u", ":"]):
        answer = curl(*credentials, "-X", "PUT", f"{large.couchdb}/other")
        assert_error(answer, 401, "unauthorized")


def test_the_admins_password_is_for_its_owners_eyes(large: Served) -> None:
    assert stat.S_IMODE((large.directory / "admin").stat().st_mode) == 0o600
    assert stat.S_IMODE(large.directory.stat().st_mode) == 0o700


def test_what_is_stored_outlives_the_process(tmp_path: Path) -> None:
    with served(tmp_path) as first:
        first.upload({"download_token": "t"}, b"content")
        assert first.process.stop() == 0
    with served(tmp_path) as second:
        assert second.admin == first.admin
        assert curl(f"{second.gateway}/db/doc/file.bin?token=t").body == b"content"


def test_descriptors_after_aborted_downloads(large: Served) -> None:
    """Two hundred clients that leave in the middle of a download, as players do when they seek."""
    table = f"/proc/{large.process.pid}/fd"
    if not os.path.isdir(table):
        pytest.skip("there is no /proc here")
    request = b"GET /db/doc/file.bin?token=s3cret HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    assert digest(exchange(large.process.port(), request).body) == digest(LARGE)
    before = len(os.listdir(table))
    for _ in range(200):
        with connect(large.process.port()) as connection:
            connection.sendall(request)
            assert connection.recv(2**16).startswith(b"HTTP/1.1 200 ")
    deadline = monotonic() + PATIENCE
    while len(os.listdir(table)) > before and monotonic() < deadline:
        # By the time that this is answered, the process has looked at what it was told before.
        assert exchange(large.process.port(), b"HEAD" + request[3:]).status == 200
    assert len(os.listdir(table)) <= before


# Other endpoints.


def test_several_endpoints(tmp_path: Path) -> None:
    """TLS and a Unix socket; the link that is printed is the first endpoint's."""
    certify(tmp_path)
    secure = "ssl:0:interface=127.0.0.1:privateKey=key.pem:certKey=cert.pem"
    with running(tmp_path, "--demo", "-l", secure, "-l", "unix:socket", "--store-listen", ANY_PORT) as process:
        link = process.links()["melody.mp3"]
        assert link.startswith("https://127.0.0.1:")
        answers = [curl("--cacert", tmp_path / "cert.pem", link), curl("--insecure", link)]
        answers += [curl("--unix-socket", tmp_path / "socket", link.replace("https://", "http://"))]
        for answer in answers:
            assert (answer.exit_status, answer.status, answer.version) == (0, 200, "HTTP/1.1")
            assert digest(answer.body) == digest(MEDIA["melody.mp3"])


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="there is no IPv6 here")
def test_ipv6(tmp_path: Path) -> None:
    endpoint = r"tcp6:0:interface=\:\:1"
    with running(tmp_path, "--demo", "-l", endpoint, "--store-listen", endpoint) as process:
        [match] = process.out.wait_for("The demo is ready|could not be filled")
        assert "ready" in match[0]
        link = process.links()["melody.mp3"]
        assert link.startswith("http://[::1]:")
        answer = curl("--globoff", link)
        assert (answer.exit_status, digest(answer.body)) == (0, digest(MEDIA["melody.mp3"]))


# Dying and ending.


def revision(process: Running, directory: Path) -> str:
    """Of the demo's document."""
    admin = (directory / "couchdl-demo" / "admin").read_text().strip()
    document = json.loads(curl("-u", admin, f"http://127.0.0.1:{process.port('Store')}/demo/tour").body)
    assert set(document["_attachments"]) == set(MEDIA)
    return str(document["_rev"])


def test_a_demo_that_is_killed_and_started_again(tmp_path: Path) -> None:
    with running(tmp_path, *DEMO) as first:
        links, before = first.links(), revision(first, tmp_path)
        endpoint = f"tcp:{first.port()}:interface=127.0.0.1"
        assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    with running(tmp_path, "--demo", "--listen", endpoint, "--store-listen", ANY_PORT) as second:
        assert second.links() == links
        assert {name: digest(curl(link).body) for name, link in links.items()} == {
            name: digest(content) for name, content in MEDIA.items()
        }
        assert revision(second, tmp_path) == before, "filled twice"


def test_a_demo_that_is_killed_while_it_is_filled(tmp_path: Path) -> None:
    with running(tmp_path, *DEMO) as first:
        first.out.wait_for("PUT /demo/tour/story.txt")
        first.stop(signal.SIGKILL)
    with running(tmp_path, *DEMO) as second:
        for name, link in second.links().items():
            assert digest(curl(link).body) == digest(MEDIA[name])
        # The document, and three media: nothing was put twice.
        assert revision(second, tmp_path).startswith("4-")


# A CouchDB that is not there yet, and secrets in logs.


def test_a_gateway_outlives_its_couchdb_and_logs_no_secret(tmp_path: Path) -> None:
    password, token, wrong = "pa55word-of-couch", "t0ken-of-doc", "wr0ng-token"
    directory = tmp_path / "couch"
    (directory / "store").mkdir(parents=True)
    (directory / "store" / "admin").write_text(f"adm:{password}\n")
    with nobody() as port:
        url = f"http://adm:{password}@127.0.0.1:{port}"
        gateway = Running(tmp_path, ("--listen", ANY_PORT), {"COUCHDB_URL": url, "DOWNLOAD_TOKEN_KEY_NAME": "a.b"})
    try:
        link = f"http://127.0.0.1:{gateway.port()}/db/doc/file.bin"
        for _ in range(2):
            assert_error(curl(f"{link}?token={token}"), 503, "service_unavailable")
        with served(directory, listen=f"tcp:{port}:interface=127.0.0.1") as couch:
            couch.upload({"a": {"b": token}}, b"content")
            # The node may have been asked how it does a moment ago, and is asked once a second at most.
            assert curl(f"{link}?token={token}", "-f", "--retry", "3").body == b"content"
            assert curl(link, "-H", f"Authorization: Bearer {token}").body == b"content"
            assert curl(f"{link}?%74oken={token}", "-e", f"{link}?token={token}").body == b"content"
            for odd in (f"{link}?token={wrong}", f"{link}?{wrong}", f"{link}?x={wrong}&token={wrong}", link):
                assert_error(curl(odd, "-H", f"Authorization: Bearer {wrong}"), 403, "forbidden")
            couch.process.stop()
            assert_error(curl(f"{link}?token={token}"), 503, "service_unavailable")
            log_of_couch = couch.process.text()
    finally:
        if gateway.is_alive:
            gateway.stop()
    for log in (gateway.text(), log_of_couch):
        assert "/db/doc" in log, "it is a log"
        assert "Traceback" not in log
        for secret in (password, token, wrong, b64encode(f"adm:{password}".encode()).decode()):
            assert secret not in log


def test_each_client_of_a_proxy_has_its_limit(tmp_path: Path) -> None:
    """And the proxy has none, which is this test: here is the one that is trusted."""
    options = ("-l", ANY_PORT, "--trusted-proxy=127.0.0.1", "--max-connections-per-address=1", "--drain=0")
    with somebody() as couch, running(tmp_path, "-c", f"http://127.0.0.1:{couch}", *options) as process:

        def head(method: str, client: str) -> bytes:
            fields = f"Host: h\r\nX-Forwarded-For: {client}\r\nConnection: close\r\n"
            return f"{method} /db/doc/f?token=x HTTP/1.1\r\n{fields}\r\n".encode()

        with connect(process.port()) as waiting:
            waiting.sendall(head("GET", "192.0.2.1"))
            # It waits for a CouchDB that says nothing.
            beat(process.port())
            statuses = [exchange(process.port(), head("OPTIONS", f"192.0.2.{last}")).status for last in (1, 2, 2)]
        assert statuses == [429, 204, 204]
        assert process.stop() == 0


# The access log in a file of its own.


def test_an_access_log_that_is_rotated(tmp_path: Path) -> None:
    """Each request is a line in the file, and none in the log; from one second to the next it is another file."""
    written, moved = tmp_path / "access.log", tmp_path / "access.log.1"
    with (
        nobody() as port,
        running(tmp_path, "-c", f"http://127.0.0.1:{port}", "-l", ANY_PORT, "--access-log", "access.log") as process,
    ):
        gateway = process.port()

        def ask(name: bytes) -> None:
            target = b"/db/doc/%b?token=s3cret" % name
            answer = exchange(gateway, b"GET %b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" % target)
            assert answer.status == 503

        ask(b"before")
        [line] = written.read_text().splitlines()
        assert re.fullmatch(r'127\.0\.0\.1 - - \[.*\] "GET /db/doc/before\?token=\*{3} HTTP/1\.1" 503 .*', line)
        written.rename(moved)
        deadline = monotonic() + PATIENCE
        while not written.exists() and monotonic() < deadline:
            ask(b"behind")
        assert "/behind?token=*** " in written.read_text()
        os.truncate(written, 0)
        ask(b"late")
        [line] = written.read_text().splitlines()
        assert "/late?token=*** " in line
        assert process.stop() == 0
        assert "s3cret" not in moved.read_text()
        assert "/db/doc/" not in process.text()


@pytest.mark.parametrize("workers", [(), ("--workers=2",)], ids=["alone", "two workers"])
def test_an_access_log_on_standard_output(workers: tuple[str, ...], tmp_path: Path) -> None:
    """As it is, without the log's own timestamps."""
    with running(tmp_path, "-l", ANY_PORT, "--access-log", "-", *workers) as process:
        exchange(process.port(), b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        process.out.wait_for(r'^127\.0\.0\.1 - - \[.*\] "GET / HTTP/1\.1" 404 ')
        assert process.stop() == 0


@pytest.mark.parametrize("workers", [(), ("--workers=2",)], ids=["alone", "two workers"])
@pytest.mark.parametrize("file", ["no/such/access.log", ".", ""])
def test_an_access_log_that_cannot_be_written(file: str, workers: tuple[str, ...], tmp_path: Path) -> None:
    why = "Is a directory" if file == "." else "No such file or directory"
    with running(tmp_path, "-l", ANY_PORT, "--access-log", file, *workers) as process:
        assert process.end() == 1
        assert process.err.all() == [f"twistd couchdl: cannot write the access log '{file}': {why}"]
        assert "Traceback" not in process.text()


def test_a_daemon_that_cannot_write_its_access_log(tmp_path: Path) -> None:
    with daemon(tmp_path, "--listen", ANY_PORT, "--access-log", "no/such/access.log") as process:
        assert process.started.returncode != 0
        assert "cannot write the access log 'no/such/access.log'" in process.started.stderr
        assert "'no/such/access.log': No such file or directory" in process.log
        assert "Traceback" not in process.started.stderr + process.log
        process.wait_for_end()
        assert not process.pidfile.exists()


# What cannot start.


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--couchdbs=ftp://adm:pa55word@h",), "--couchdbs"),
        (("--couchdb", "ftp://adm:pa55word@h"), "--couchdb"),
        (("--listen", "nonsense"), "'nonsense'"),
        (("--listen", "tcp:70000"), "'tcp:70000'"),
        (("--store", "file"), "file"),
        (("--store", "dir", "--store-listen", "unix:socket"), "--store-listen"),
    ],
)
def test_what_cannot_start_says_why_in_one_line(arguments: tuple[str, ...], named: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    [line] = complaints(tmp_path, *arguments)
    assert line.startswith("twistd couchdl: ")
    assert named in line
    assert "pa55word" not in line


@pytest.mark.parametrize("arguments", [("--listen", ANY_PORT, "--listen", "{}"), ("--demo", "--store-listen", "{}")])
def test_an_endpoint_in_use(arguments: tuple[str, ...], tmp_path: Path) -> None:
    with somebody() as port:
        endpoint = f"tcp:{port}:interface=127.0.0.1"
        [line] = complaints(tmp_path, *(each.format(endpoint) for each in arguments))
    assert line.startswith(f"twistd couchdl: cannot listen on '{endpoint}': ")
    assert "in use" in line


@contextmanager
def taken(*numbers: int) -> Iterator[None]:
    """Listen on these ports of this machine, unless another process does."""
    with ExitStack() as stack:
        for number in numbers:
            with suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", number)))
        yield


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_demo_beside_a_couchdb(workers: str, tmp_path: Path) -> None:
    """Its usual ports are taken; its links lead to those that it found."""
    with taken(5984, 8000), running(tmp_path, "--demo", COUCHDL_WORKERS=workers) as process:
        links = process.links()
        for number in (5984, 8000):
            process.out.wait_for(rf"cannot listen on 'tcp:{number}:.* listening on a free port instead")
        assert process.page().startswith(f"http://127.0.0.1:{process.port()}/demo/")
        assert curl(links["story.txt"]).body == MEDIA["story.txt"]
        assert process.stop() == 0
        assert "quiescentCallback" not in process.text(), "Twisted's lines bury the links"


def test_a_store_that_another_process_has_open(large: Served, tmp_path: Path) -> None:
    arguments = ("--store", str(large.directory), "--store-listen", ANY_PORT, "--listen", ANY_PORT)
    [line] = complaints(tmp_path, *arguments)
    assert line == f"twistd couchdl: {large.directory} is in use by another process"
    assert curl("-I", f"{large.gateway}/db/doc/file.bin?token=s3cret").status == 200


def test_a_damaged_admin_file(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir(mode=0o700)
    (tmp_path / "dir" / "admin").write_text("no-colon-but-a-pa55word\n")
    (tmp_path / "dir" / "admin").chmod(0o600)
    [line] = complaints(tmp_path, "--store", "dir", "--store-listen", ANY_PORT, "--listen", ANY_PORT)
    assert line.startswith("twistd couchdl: dir/admin ")
    assert "pa55word" not in line


def test_a_damaged_store(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "store.sqlite3").write_bytes(b"no database" * 1000)
    [line] = complaints(tmp_path, "--store", "dir", "--store-listen", ANY_PORT, "--listen", ANY_PORT)
    assert line.startswith("twistd couchdl: dir/store.sqlite3 ")


# The command.


def test_twistd_knows_the_command_and_its_help(tmp_path: Path) -> None:
    for arguments, named in ((["--help"], "couchdl"), (["couchdl", "--help"], "--token-key")):
        ended = subprocess.run(
            twistd(*arguments), cwd=tmp_path, env=environment({}), capture_output=True, text=True, check=True
        )
        assert named in ended.stdout
        assert ended.stderr == ""


# A daemon.


def test_a_daemon_starts_and_ends_by_its_pidfile(tmp_path: Path) -> None:
    with daemon(tmp_path, "--store", "dir", "--store-listen", ANY_PORT, "--listen", ANY_PORT) as process:
        assert (process.started.returncode, process.started.stderr) == (0, "")
        port = int(process.log.partition("GatewaySite starting on ")[2].split()[0])
        assert_error(curl(f"http://127.0.0.1:{port}/db/doc/file?token=t"), 403, "forbidden")
        process.signal(signal.SIGTERM)
        process.wait_for_end()
        assert not process.pidfile.exists()
        assert "Traceback" not in process.log


def test_a_daemon_that_cannot_start_tells_it_to_who_started_it(tmp_path: Path) -> None:
    with somebody() as port, daemon(tmp_path, "--listen", f"tcp:{port}:interface=127.0.0.1") as process:
        assert process.started.returncode != 0
        assert f"cannot listen on 'tcp:{port}:" in process.started.stderr
        assert "Traceback" not in process.started.stderr
        assert "in use" in process.log, "twistd cuts what a daemon says; its log has all of it"
        assert "Traceback" not in process.log
        process.wait_for_end()
        assert not process.pidfile.exists()


def test_a_daemon_with_a_bad_option(tmp_path: Path) -> None:
    with daemon(tmp_path, "--nope") as process:
        assert process.started.returncode != 0
        [line] = process.started.stderr.splitlines()
        assert line.startswith("twistd couchdl: ")


# The same service in this process: what needs no process to be shown.


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, and nothing of ours in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("COUCHDB_URL", "DOWNLOAD_TOKEN_KEY_NAME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def options(*arguments: str) -> Options:
    parsed = Options()
    parsed.parseOptions(list(arguments))
    return parsed


async def refusal(*arguments: str) -> str:
    """The line with which a service refuses to start; it has let go of everything."""
    service = makeService(options(*arguments))
    with pytest.raises(StartError) as caught:
        service.privilegedStartService()
    await maybeDeferred(service.stopService)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("endpoint", ["", "8000", "nonsense", "tcp", "tcp:http", "tcp:1:nonsense=2", "a\nb", "ssl:0"])
@ensureDeferred
async def test_what_is_no_endpoint(here: Path, endpoint: str) -> None:
    assert (await refusal("-l", endpoint)).startswith(f"twistd couchdl: {endpoint!r} is no endpoint: ")


@pytest.mark.parametrize("endpoint", ["unix:no/such/directory", "tcp:0:interface=192.0.2.1"])
@ensureDeferred
async def test_where_nobody_can_listen(here: Path, endpoint: str) -> None:
    assert (await refusal("-l", endpoint)).startswith(f"twistd couchdl: cannot listen on {endpoint!r}: ")


@ensureDeferred
async def test_an_endpoint_that_is_not_ready_at_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that learned of the failure later would run without listening."""

    class Slow:
        def listen(self, _factory: object) -> Deferred[None]:
            return Deferred()

    monkeypatch.setattr("txcouchdl.listening.serverFromString", lambda *_: Slow())
    assert (await refusal("-l", "slow:")).endswith("it takes too long")


@ensureDeferred
async def test_a_refusal_lets_go_of_the_store(here: Path) -> None:
    for _ in range(2):
        assert "is no endpoint" in await refusal("--store", "dir", "--store-listen", "nonsense")


@ensureDeferred
async def test_started_and_stopped_and_started_again(here: Path) -> None:
    from twisted.internet import reactor

    for _ in range(2):
        printed: Deferred[str] = Deferred()
        service: IService = GatewayService(options(*DEMO, "-k", "data.token").settings, reactor, printed.callback)
        service.privilegedStartService()
        service.startService()
        try:
            assert (await printed).count("?token=") == 4
        finally:
            await maybeDeferred(service.stopService)


def is_open(file: Path) -> bool:
    """Whether this process has it open."""
    own = Path("/proc/self/fd")
    return any(os.path.lexists(each) and os.readlink(each) == str(file) for each in list(own.iterdir()))


@needs_proc
@ensureDeferred
async def test_a_service_that_is_stopped_has_closed_its_access_log(here: Path) -> None:
    from twisted.internet import reactor

    file = here / "access.log"
    for _ in range(2):
        service: IService = GatewayService(
            options("-l", ANY_PORT, "--access-log", str(file)).settings, reactor, lambda _line: None
        )
        service.privilegedStartService()
        assert not file.exists(), "root's rights are not gone yet"
        service.startService()
        assert is_open(file)
        await maybeDeferred(service.stopService)
        assert not is_open(file)
        file.unlink()


def test_the_plugin_names_it() -> None:
    [plugin] = [each for each in getPlugins(IServiceMaker) if each.tapname == "couchdl"]
    assert plugin.options is Options
    assert plugin.makeService is makeService
