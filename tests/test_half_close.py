"""
Clients that close their half of the connection behind a request, over real sockets: they get the whole response.

What takes time is in ``tests/gateway/test_half_close.py``, on a clock.
"""

import gzip
import random
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from tests.certificates import certify
from tests.clients.served import Served, sha, target
from tests.nodes import descriptors, needs_proc
from tests.running import ANY_PORT, PATIENCE, connect, read_to_end, running
from tests.store.serving import Response, parse_response
from txcouchdl.gateway.errors import NoSuchAttachment, answer_for

#: More than the buffers on the way hold.
LARGE = random.Random(5).randbytes(20 * 2**20)
TEXT = LARGE[: 2**20].hex("\n", 32).encode()
BODIES = {"one.bin": b"1", "large.bin": LARGE, "text.txt": TEXT, "upload.txt": TEXT}

#: Name and Range field; the status, and the bytes that come.
CASES: dict[str, tuple[str, str | None, int, bytes]] = {
    "one byte": ("one.bin", None, 200, b"1"),
    "a range": ("large.bin", "bytes=1000000-1065535", 206, LARGE[1_000_000:1_065_536]),
    "all": ("large.bin", None, 200, LARGE),
    "gzip": ("text.txt", None, 200, TEXT),
    "a range of gzip": ("text.txt", "bytes=1000-", 206, TEXT[1000:]),
    "uploaded as gzip": ("upload.txt", None, 200, TEXT),
    "nothing there": ("none.bin", None, 404, answer_for(NoSuchAttachment()).body),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway behind TCP, TLS and the PROXY protocol. Only a client that takes nothing is cut off soon."""
    directory = tmp_path_factory.mktemp("gateway")
    certify(directory)
    secure = "ssl:0:privateKey=key.pem:certKey=cert.pem:interface=127.0.0.1"
    listen = [each for endpoint in (ANY_PORT, secure, f"haproxy:{ANY_PORT}") for each in ("-l", endpoint)]
    limits = ("--half-close-timeout", "1", "--idle-timeout", "86400", "--park-after", "86400")
    with running(directory, "--store", "store", "--store-listen", ANY_PORT, *listen, *limits) as process:
        served = Served(process, directory / "store")
        for name, body in BODIES.items():
            is_text = name.endswith(".txt")
            fields = {"Content_Encoding": "gzip"} if name == "upload.txt" else {}
            content = gzip.compress(body, 1) if fields else body
            served.put("doc", name, content, "text/plain" if is_text else "application/octet-stream", **fields)
        yield served
        assert process.stop() == 0
        assert "Traceback" not in process.text()


def request(name: str, *fields: str, version: str = "1.1", log_as: str = "") -> bytes:
    """
    Write a request whose connection would be kept.

    :param log_as: a user agent, to find its line in the access log.
    """
    lines = [f"GET {target('doc', name)} HTTP/{version}", "Host: h", f"User-Agent: {log_as}", *fields, "", ""]
    return "\r\n".join(lines).encode()


# Half-closing clients, by carrier. Each sends all, closes its half, and reads until the gateway closes the other.


def over_tcp(served: Served, raw: bytes) -> bytes:
    with connect(served.port) as connection:
        return _send_and_half_close(connection, raw)


def over_proxy_protocol(served: Served, raw: bytes) -> bytes:
    [port] = served.log.wait_for(r"GatewaySite \(PROXY\) starting on (\d+)")
    with connect(int(port[1])) as connection:
        return _send_and_half_close(connection, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + raw)


def _send_and_half_close(connection: socket.socket, raw: bytes) -> bytes:
    connection.sendall(raw)
    connection.shutdown(socket.SHUT_WR)
    return read_to_end(connection)


def over_tls(served: Served, raw: bytes, *, says_goodbye: bool = True, shuts_down: bool = False) -> bytes:
    """
    :param says_goodbye: whether it sends close_notify.
    :param shuts_down: whether it sends a FIN.
    """
    [port] = served.log.wait_for(r"GatewaySite \(TLS\) starting on (\d+)")
    context = ssl.create_default_context(cafile=str(served.directory.parent / "cert.pem"))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with connect(int(port[1])) as connection:
        drive = partial(_drive, connection, incoming, outgoing)
        drive(client.do_handshake)
        client.write(raw)
        if says_goodbye:
            with pytest.raises(ssl.SSLWantReadError):
                client.unwrap()
        connection.sendall(outgoing.read())
        if shuts_down:
            connection.shutdown(socket.SHUT_WR)
        received = bytearray()
        while data := drive(partial(client.read, 2**16)):
            received += data
        return bytes(received)


def _drive(
    connection: socket.socket, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, step: Callable[[], bytes | None]
) -> bytes | None:
    """Repeat a step of TLS until it needs no more bytes. A connection must not end without a close_notify."""
    while True:
        try:
            return step()
        except ssl.SSLWantReadError:
            if outgoing.pending:
                connection.sendall(outgoing.read())
            data = connection.recv(2**16)
            assert data, "the connection ended without a close_notify"
            incoming.write(data)
        except ssl.SSLZeroReturnError:
            return b""


CARRIERS: dict[str, Callable[[Served, bytes], bytes]] = {
    "TCP": over_tcp,
    "PROXY protocol": over_proxy_protocol,
    "TLS with close_notify": over_tls,
    "TLS with close_notify and FIN": partial(over_tls, shuts_down=True),
    "TLS with FIN alone": partial(over_tls, says_goodbye=False, shuts_down=True),
}
every_carrier = pytest.mark.parametrize("carrier", CARRIERS)


def read(received: bytes) -> Response:
    response = parse_response(received, is_head=False)
    assert response is not None, received[:200]
    return response


@every_carrier
@pytest.mark.parametrize("case", CASES)
def test_the_whole_response_comes(served: Served, carrier: str, case: str) -> None:
    """The access log has its status, not 499."""
    name, range_, status, body = CASES[case]
    log_as = f"{carrier}, {case}"
    raw = request(name, *([] if range_ is None else [f"Range: {range_}"]), log_as=log_as)
    response = read(CARRIERS[carrier](served, raw))
    assert (response.status, sha(response.body)) == (status, sha(body))
    assert served.log.wait_for(rf'" (\d+) \S+ "[^"]*" "{log_as}"')[0][1] == str(status)


@every_carrier
def test_several_ranges_come(served: Served, carrier: str) -> None:
    raw = request("large.bin", "Range: bytes=0-9,5000000-15000000", log_as=f"ranges by {carrier}")
    response = read(CARRIERS[carrier](served, raw))
    assert response.status == 206
    assert len(response.body) == int(response.headers["content-length"])
    assert LARGE[5_000_000:15_000_001] in response.body


@every_carrier
def test_http_1_0(served: Served, carrier: str) -> None:
    response = read(CARRIERS[carrier](served, request("large.bin", version="1.0")))
    assert (response.status, sha(response.body)) == (200, sha(LARGE))


@every_carrier
def test_requests_before_the_end_are_answered_and_part_of_one_is_not(served: Served, carrier: str) -> None:
    """A part of a request gets no response: the rest of it does not come."""
    fields = "Range: bytes=0-99"
    raw = request("large.bin") + request("one.bin") + request("text.txt", fields)
    received = CARRIERS[carrier](served, raw + request("one.bin")[:-10])
    for body, status in ((LARGE, 200), (b"1", 200), (TEXT[:100], 206)):
        response = read(received[: received.index(b"\r\n\r\n") + 4 + len(body)])
        assert (response.status, sha(response.body)) == (status, sha(body))
        received = received[received.index(b"\r\n\r\n") + 4 + len(body) :]
    assert received == b""


#: Requests that are answered at once, without a read.
QUICK = {
    "/_up": b"GET /_up HTTP/1.1\r\nHost: x\r\n\r\n",
    "robots.txt": b"GET /robots.txt HTTP/1.1\r\nHost: x\r\n\r\n",
    "404": b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n",
    "400": b"GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n",
    "405": b"DELETE /x HTTP/1.1\r\nHost: x\r\n\r\n",
}


@every_carrier
@pytest.mark.parametrize("quick", QUICK)
def test_requests_behind_one_that_is_answered_at_once_are_answered_too(
    served: Served, carrier: str, quick: str
) -> None:
    for requests in (
        [request("one.bin"), QUICK[quick], request("one.bin")],
        [request("one.bin"), *3 * [QUICK[quick]], request("one.bin"), request("one.bin"), QUICK[quick]],
        [QUICK[quick], request("one.bin"), QUICK[quick]],
        [QUICK[quick]] * 5,
    ):
        received = CARRIERS[carrier](served, b"".join(requests))
        assert received.count(b"HTTP/1.1 ") == len(requests)


@every_carrier
@pytest.mark.parametrize("raw", [b"", b"GET /db/doc/one.bin HT", request("one.bin")[:-2]], ids=["none", "line", "head"])
def test_a_connection_without_a_request_is_closed(served: Served, carrier: str, raw: bytes) -> None:
    """At once, without an answer: the idle limit is a day."""
    assert CARRIERS[carrier](served, raw) == b""


@every_carrier
def test_a_refusal_is_the_last_response(served: Served, carrier: str) -> None:
    received = CARRIERS[carrier](served, b"NONSENSE\r\n\r\n" + request("one.bin"))
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"HTTP/1.1 ") == 1


def test_a_kept_connection_is_closed(served: Served) -> None:
    with connect(served.port) as connection:
        connection.sendall(request("one.bin"))
        received = b""
        while not received.endswith(b"\r\n\r\n1"):
            received += connection.recv(2**16)
        connection.shutdown(socket.SHUT_WR)
        assert read_to_end(connection) == b""


@pytest.mark.parametrize("carrier", ["TCP", "TLS"])
def test_a_client_that_takes_nothing_is_cut_off(served: Served, carrier: str) -> None:
    """After ``--half-close-timeout``: ``--client-timeout`` is an hour. The line in the log tells how much was sent."""
    log_as = f"takes nothing by {carrier}"
    raw = request("large.bin", log_as=log_as)
    pattern = rf'" 200 (\d+) "[^"]*" "{log_as}"'
    if carrier == "TCP":
        with connect(served.port) as connection:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            [line] = served.log.wait_for(pattern)
            assert len(read_to_end(connection)) < len(LARGE)
    else:
        [port] = served.log.wait_for(r"GatewaySite \(TLS\) starting on (\d+)")
        context = ssl.create_default_context(cafile=str(served.directory.parent / "cert.pem"))
        with context.wrap_socket(connect(int(port[1])), server_hostname="127.0.0.1") as secured:
            secured.sendall(raw)
            secured.settimeout(0)
            with pytest.raises(ssl.SSLError):
                secured.unwrap()
            [line] = served.log.wait_for(pattern)
    assert int(line[1]) < len(LARGE)


@needs_proc
@ensureDeferred
async def test_nothing_is_left_behind(served: Served) -> None:
    """No descriptor: of connections that ended well, were cut off, or were reset behind the end of the request."""
    before = descriptors(served.pid)
    for _ in range(10):
        for half_close in CARRIERS.values():
            await deferToThread(half_close, served, request("one.bin"))
        with connect(served.port) as connection:
            connection.sendall(request("large.bin"))
            connection.shutdown(socket.SHUT_WR)
            await deferToThread(connection.recv, 1)
    await served.rest(before)


@pytest.mark.skipif(shutil.which("nc") is None, reason="nc is not installed")
@pytest.mark.parametrize("case", ["one byte", "all", "gzip"])
def test_netcat(served: Served, case: str) -> None:
    """``nc -N`` closes its half at the end of its input."""
    if "-N" not in subprocess.run(["nc", "-h"], capture_output=True, text=True, check=False).stderr:
        pytest.skip("nc has no -N: it is not OpenBSD's")
    name, _, status, body = CASES[case]
    command = ["nc", "-N", "127.0.0.1", str(served.port)]
    ended = subprocess.run(command, input=request(name), capture_output=True, timeout=PATIENCE, check=True)
    response = read(ended.stdout)
    assert (response.status, sha(response.body)) == (status, sha(body))


@pytest.mark.skipif(shutil.which("gnutls-cli") is None, reason="gnutls-cli is not installed")
@pytest.mark.parametrize("case", ["one byte", "gzip"])
def test_gnutls(served: Served, case: str) -> None:
    """``gnutls-cli`` sends close_notify at the end of its input, and reads on."""
    [port] = served.log.wait_for(r"GatewaySite \(TLS\) starting on (\d+)")
    name, _, status, body = CASES[case]
    command = ["gnutls-cli", "--logfile=/dev/null", "--x509cafile=cert.pem", "-p", port[1], "127.0.0.1"]
    directory = served.directory.parent
    ended = subprocess.run(
        command, input=request(name), cwd=directory, capture_output=True, timeout=PATIENCE, check=True
    )
    response = read(ended.stdout[ended.stdout.index(b"HTTP/1.1 ") :])
    assert (response.status, sha(response.body)) == (status, sha(body))
