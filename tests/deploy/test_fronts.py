"""
nginx and Caddy with the files of ``deploy/``: whatever a gateway answers, they bring it as it is, to whoever asked,
at the pace at which he reads; and what is secret in a link they write nowhere.
"""

import json
import re
import socket
import subprocess
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from hashlib import md5
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import quote

import pytest
from attrs import field, frozen

from tests.clients.served import TOKEN, sha, sha_of
from tests.deploy.fronts import FRONTS, Front, Fronting, caddy, installed, whole
from tests.deploy.upstreams import DOCUMENT, HUGE, LARGE, Gateway, gateway, recorder
from tests.running import PATIENCE, curl_command, needs_curl
from txcouchdl.gateway.guess_queue import LONGEST_QUEUE

pytestmark = needs_curl

#: What no log may have.
SECRET = "5e5ame-0pen-y0ur5elf"
ETAG = f'"{b64encode(md5(LARGE).digest()).decode()}"'
#: A client's address that is not the others'.
SOMEBODY = "127.0.0.9"


def target(name: str, **query: str) -> str:
    more = "".join(f"&{key}={value}" for key, value in query.items())
    return f"/db/{DOCUMENT}/{name}?token={TOKEN}&secret={SECRET}{more}"


# What is brought.


@pytest.mark.parametrize(("name", "content"), [("large.bin", LARGE), ("unknown.txt", HUGE)], ids=["known", "unknown"])
def test_all_of_it(front: Front, name: str, content: bytes) -> None:
    """Whoever asks for gzip gets none, or he could not resume."""
    answer = front.curl("-H", "Accept-Encoding: gzip", front.url(target(name)))
    assert (answer.exit_status, answer.status, sha(answer.body)) == (0, 200, sha(content))
    assert "content-encoding" not in answer.headers


def test_how_it_is_described(front: Front) -> None:
    answer = front.curl("-I", "-H", "Accept-Encoding: gzip", front.url(target("large.bin")))
    assert answer.status == 200
    assert answer.headers["content-length"] == str(len(LARGE))
    assert answer.headers["etag"] == ETAG
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(("name", "content"), [("large.bin", LARGE), ("huge.txt", HUGE)], ids=["plain", "gzip"])
def test_a_range(front: Front, name: str, content: bytes) -> None:
    answer = front.curl("-r", "100000-100099", "-H", "Accept-Encoding: gzip", front.url(target(name)))
    assert (answer.status, answer.body) == (206, content[100_000:100_100])
    assert answer.headers["content-range"] == f"bytes 100000-100099/{len(content)}"


def test_several_ranges(front: Front) -> None:
    answer = front.curl("-r", "0-9,-10", front.url(target("large.bin")))
    assert answer.status == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges")
    assert answer.headers["content-length"] == str(len(answer.body))
    assert LARGE[:10] in answer.body
    assert LARGE[-10:] in answer.body


@pytest.mark.parametrize(
    ("condition", "status", "length"),
    [
        (f"If-Range: {ETAG}", 206, 2),
        ('If-Range: "another"', 200, len(LARGE)),
        (f"If-Match: {ETAG}", 206, 2),
        ('If-Match: "another"', 412, None),
        (f"If-None-Match: {ETAG}", 304, 0),
        ('If-None-Match: "another"', 206, 2),
    ],
)
def test_conditions(front: Front, condition: str, status: int, length: int | None) -> None:
    answer = front.curl("-H", "Range: bytes=5-6", "-H", condition, front.url(target("large.bin")))
    assert answer.status == status
    assert length in {None, len(answer.body)}


def test_a_range_behind_the_end(front: Front) -> None:
    answer = front.curl("-r", f"{len(LARGE)}-", front.url(target("large.bin")))
    assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{len(LARGE)}")


def test_a_refusal_is_nobody_elses(front: Front, lasting: Gateway) -> None:
    """Not even the next one's: each is the gateway's own."""
    name = "refused.bin"
    for _ in range(2):
        answer = front.curl(front.url(f"/db/{DOCUMENT}/{name}?token=wrong"))
        assert (answer.status, json.loads(answer.body)["error"]) == (403, "forbidden")
    lasting.log.wait_for(rf'"GET /db/{DOCUMENT}/{name}\S* HTTP/1.1" 403 ', 2)


def test_a_long_head(front: Front) -> None:
    """As long as the gateway takes one."""
    assert front.curl("-I", "-H", f"Cookie: {'c' * 12_000}", front.url(target("large.bin"))).status == 200
    assert front.curl("-I", front.url(target("large.bin", x="x" * 12_000))).status == 200


# Whom it is for.


def get(connection: HTTPConnection, path: str, **headers: str) -> tuple[HTTPResponse, bytes]:
    connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    return response, response.read()


def test_the_client_is_who_asked_the_front(front: Front, lasting: Gateway) -> None:
    """Whatever he says of himself."""
    with front.connection(SOMEBODY) as connection:
        name = f"whose-{front.port}.bin"
        get(connection, target(name), X_Forwarded_For="203.0.113.5", Forwarded="for=203.0.113.5")
    assert lasting.log.wait_for(rf'(\S+) - - \[\S+ \S+\] "GET /db/doc/{name}')[0][1] == SOMEBODY


def test_links_lead_to_the_front(front: Front) -> None:
    with front.connection() as connection:
        path = f"/db/{DOCUMENT}/?token={TOKEN}"
        _, listing = get(connection, path, X_Forwarded_Host="evil.example", X_Forwarded_Proto="http")
    urls = [each["url"] for each in json.loads(listing)["attachments"]]
    assert len(urls) == 3
    assert all(url.startswith(front.url(f"/db/{DOCUMENT}/")) for url in urls)


def test_who_guesses_is_slowed_down_and_nobody_else(front: Front) -> None:
    """Each front's clients are others', for the gateway counts by address."""
    network = f"127.{front.port // 256}.{front.port % 256}"
    path = f"/db/{DOCUMENT}/large.bin?token=guess"
    with front.connection(f"{network}.7") as guesser, front.connection(f"{network}.8") as other, ExitStack() as stack:
        assert {get(guesser, path)[0].status for _ in range(60)} == {403}
        crowd = [stack.enter_context(front.connection(f"{network}.7")) for _ in range(3 * LONGEST_QUEUE)]
        pool = stack.enter_context(ThreadPoolExecutor(len(crowd)))
        answers = (asking.result()[0] for asking in as_completed([pool.submit(get, each, path) for each in crowd]))
        refused = next(answer for answer in answers if answer.status == 429)
        assert refused.headers["Retry-After"]
        assert get(other, path)[0].status == 403
        for each in crowd:
            each.sock.shutdown(socket.SHUT_RDWR)


# How it is passed on.


@pytest.mark.parametrize("fronting", FRONTS)
def test_what_the_gateway_is_asked(fronting: Fronting, tmp_path: Path) -> None:
    """Names as they are written; ranges and conditions; nothing that would change the answer."""
    paths = [
        "/db/a%2Fb/f.bin",
        "/db/a%2fb/f.bin",
        "/db/doc/a/b/c.bin",
        "/db/doc/%C3%A9%20+%2B.bin",
        "/db/doc/100%25.bin",
        "/db/doc/%2e%2e%2fsecret",
        "/db/doc/a;b=c,d:e@f.bin",
        "/db/doc/f.bin?token=a%26b&x=1;y=2",
        "/db/doc/f.bin?digest=md5-a%2Fb%2B%3D%3D&download=%22x%22",
    ]
    fields = {"Range": "bytes=0-1", "If_Range": '"e"', "Authorization": "Bearer b", "Origin": "https://a.example"}
    lies = {"X_Forwarded_For": "203.0.113.5", "X_Forwarded_Host": "evil.example", "X_Forwarded_Proto": "ftp"}
    with recorder() as behind, fronting(tmp_path / "front", behind.port) as front:
        with front.connection() as connection:
            for path in paths:
                assert get(connection, path, **fields)[1] == b"ok"
        with front.connection(SOMEBODY) as connection:
            get(connection, paths[0], **lies)
    assert [each.line for each in behind.asked] == [f"GET {path} HTTP/1.1" for path in [*paths, paths[0]]]
    host = f"127.0.0.1:{front.port}"
    for each in behind.asked[:-1]:
        assert each.headers["range"] == "bytes=0-1"
        assert each.headers["if-range"] == '"e"'
        assert each.headers["authorization"] == "Bearer b"
        assert each.headers["origin"] == "https://a.example"
        assert each.headers["host"] == host
        assert each.headers.get("connection", "keep-alive") != "close"
    last = behind.asked[-1].headers
    assert "range" not in last
    assert (last["x-forwarded-for"], last["x-forwarded-host"], last["x-forwarded-proto"]) == (SOMEBODY, host, "https")
    # Python's client asks for identity; what it did not ask for is not asked for on its behalf.
    assert last["accept-encoding"] == "identity"
    assert len({each.client for each in behind.asked}) == 1, "connections are kept"


@pytest.mark.parametrize("fronting", FRONTS)
def test_no_coding_is_asked_for(fronting: Fronting, tmp_path: Path) -> None:
    """On behalf of who asks for none."""
    asking = b"GET /a HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    with (
        recorder() as behind,
        fronting(tmp_path / "front", behind.port) as front,
        front.ask(asking) as connection,
    ):
        assert whole(connection).endswith(b"ok")
    assert "accept-encoding" not in behind.asked[0].headers


def request(name: str) -> bytes:
    return f"GET {target(name)} HTTP/1.1\r\nHost: 127.0.0.1\r\nReferer: https://a.example/?{SECRET}\r\n\r\n".encode()


def test_nothing_waits_on_its_disk(front: Front, lasting: Gateway) -> None:
    """For a client that reads slowly; and when he leaves, the gateway learns of it."""
    agent = f"agent-{front.port}"
    with front.ask(request("huge.txt").replace(b"\r\n\r\n", f"\r\nUser-Agent: {agent}\r\n\r\n".encode())) as stalled:
        assert stalled.recv(1000).startswith(b"HTTP/1.1 200 ")
        # Meanwhile somebody else has as much.
        assert sha(front.curl(front.url(target("unknown.txt"))).body) == sha(HUGE)
        assert not [each for each in (front.directory / "temp").rglob("*") if each.is_file()]
    sent = lasting.log.wait_for(rf'"GET /db/doc/huge.txt\S* HTTP/1.[01]" 200 (\d+) .*"{agent}"')
    assert int(sent[0][1]) < len(HUGE)


# What breaks.


class Downloading:
    """A curl that has begun, and waits until somebody reads on. Over HTTP/2, where there is that."""

    def __init__(self, front: Front, name: str) -> None:
        command = curl_command("--cacert", str(front.directory / "cert.pem"), front.url(target(name)))
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)
        assert self._process.stdout is not None
        self._begin = self._process.stdout.read(1000)

    def finish(self) -> tuple[int, bytes]:
        """:return: the exit status, and all that came."""
        rest, _ = self._process.communicate(timeout=PATIENCE)
        return self._process.returncode, self._begin + rest


@frozen
class Lost:
    """
    What came of downloads through a front, when the gateway behind it was killed.

    :ivar statuses: curl's, where the length was known and where it was not.
    :ivar plain: all that came of the latter over HTTP/1.1.
    :ivar down: the status for who asked when nobody was there, and waited a moment; 0 for none.
    :ivar resumed: of what had come, once the gateway was back: curl's status, HTTP's, and the file's digest.
    :ivar written: by the front, in all that time.
    """

    statuses: tuple[int, int]
    received: int
    plain: bytes = field(repr=False)
    down: int
    resumed: tuple[int, int, str]
    written: str = field(repr=False)


class Losing:
    """Downloads through one front."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._curls = [Downloading(front, name) for name in ("huge.txt", "unknown.txt")]
        self._plain = front.ask(request("unknown.txt"))
        assert self._plain.recv(1000)

    def lose(self) -> None:
        """The gateway is gone."""
        with self._plain:
            self._rest = whole(self._plain)
        self._ended = [each.finish() for each in self._curls]
        # What a front says to that may have the request in it.
        self._down = self._front.curl("--max-time", "2", self._front.url(target("large.bin"))).status

    def resume(self) -> Lost:
        """It is back."""
        (status, received), (other_status, _) = self._ended
        part = self._front.directory / "part"
        part.write_bytes(received)
        answer = self._front.curl("-C", "-", "-o", part, self._front.url(target("huge.txt")))
        resumed = answer.exit_status, answer.status, sha_of(part)
        return Lost((status, other_status), len(received), self._rest, self._down, resumed, self._front.written())


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> dict[Fronting, Lost]:
    """What came of each front that there is: behind all of them is one gateway, which dies and comes back."""
    place = tmp_path_factory.mktemp("lost")
    with gateway(place / "gateway") as it, ExitStack() as stack:
        fronts = {each: stack.enter_context(each(place / each.__name__, it.port)) for each in installed()}
        losing = {each: Losing(front) for each, front in fronts.items()}
        it.kill()
        for each in losing.values():
            each.lose()
        it.start()
        return {fronting: each.resume() for fronting, each in losing.items()}


@pytest.mark.parametrize("fronting", FRONTS)
def test_a_body_that_is_lost_breaks_visibly(lost: dict[Fronting, Lost], fronting: Fronting) -> None:
    """Whether its length is known or not, and over HTTP/2 too: it never ends as if it were whole."""
    found = lost[fronting]
    assert 0 not in found.statuses
    assert 0 < found.received < len(HUGE)
    assert not found.plain.endswith(b"0\r\n\r\n"), "the last chunk"


@pytest.mark.parametrize("fronting", FRONTS)
def test_while_nobody_is_there(lost: dict[Fronting, Lost], fronting: Fronting) -> None:
    """nginx says so; Caddy waits for the next gateway, longer than who asked here."""
    assert lost[fronting].down == (0 if fronting is caddy else 502)


@pytest.mark.parametrize("fronting", FRONTS)
def test_it_is_resumed(lost: dict[Fronting, Lost], fronting: Fronting) -> None:
    assert lost[fronting].resumed == (0, 206, sha(HUGE))


@pytest.mark.parametrize("fronting", FRONTS)
def test_who_complains_tells_no_secret(lost: dict[Fronting, Lost], fronting: Fronting) -> None:
    """Of what was lost, and of what nobody answered."""
    assert f"/db/{DOCUMENT}/huge.txt" in lost[fronting].written
    assert SECRET not in lost[fronting].written


# What is written down.


def test_the_access_log(front: Front) -> None:
    """Who asked for what, with which status, and no secret: neither of a query nor of a Referer nor of a field."""
    fields = {"Referer": f"https://a.example/?token={SECRET}", "Authorization": f"Bearer {SECRET}"}
    asked = [("GET", target("log.bin")), ("HEAD", target("large.bin")), ("GET", f"/{quote('é')}?{SECRET}")]
    with front.connection(SOMEBODY) as connection:
        for method, path in asked:
            connection.request(method, path, headers=fields)
            connection.getresponse().read()
    assert re.search(rf"{SOMEBODY}\b.*/db/{DOCUMENT}/log\.bin.*\b404\b", front.access_log)
    assert SECRET not in front.written()
