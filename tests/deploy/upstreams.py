"""What fronts stand in front of: gateways that can die and come back, and somebody who writes down what he is asked."""

import gzip
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from attrs import field, frozen

from tests.clients.served import Served
from tests.nodes import UNMEASURED, free_port
from tests.running import ANY_PORT, Lines, Running

#: Stored as it is.
LARGE = random.Random(7).randbytes(4 * 2**20)
#: Stored as gzip. More than the sockets between two programs hold, and that may be 32 MiB.
HUGE = random.Random(8).randbytes(4096) * (64 * 2**20 // 4096)
DOCUMENT = "doc"


class Gateway:
    """
    A gateway behind a proxy, in front of a store of its own, on a port that it keeps. Use :func:`gateway`.

    :ivar port: of the gateway.
    """

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._directory = directory
        self._process: Running | None = None

    @property
    def log(self) -> Lines:
        """With a line for each request."""
        assert self._process is not None
        return self._process.out

    def start(self) -> None:
        listen = f"tcp:{self.port}:interface=127.0.0.1"
        options = ("--store", "store", "--store-listen", ANY_PORT, "-l", listen, "--behind-proxy")
        self._process = Running(self._directory, options, UNMEASURED)
        self._process.port()

    def fill(self) -> None:
        """Once, in a store that is new."""
        assert self._process is not None
        served = Served(self._process, self._directory / "store")
        served.put(DOCUMENT, "large.bin", LARGE, "application/octet-stream")
        served.put(DOCUMENT, "huge.txt", HUGE, "text/plain")
        served.put(DOCUMENT, "unknown.txt", gzip.compress(HUGE, 1), "text/plain", Content_Encoding="gzip")

    def kill(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.stop(signal.SIGKILL)
            process.text()


@contextmanager
def gateway(directory: Path) -> Iterator[Gateway]:
    """A gateway that was started, with ``large.bin``, ``huge.txt``, and ``unknown.txt``, whose length nobody knows."""
    directory.mkdir()
    it = Gateway(directory)
    try:
        it.start()
        it.fill()
        yield it
    finally:
        it.kill()


@frozen
class Asked:
    """
    A request as it came to whoever is behind the front.

    :ivar client: the port that its connection is from.
    """

    line: str
    headers: dict[str, str]
    client: int


@frozen
class Recorder:
    """
    A server that writes down what it is asked for, and whose every answer is ``b"ok"``.

    :ivar asked: one after the other.
    """

    port: int
    asked: list[Asked] = field(factory=list)


@contextmanager
def recorder() -> Iterator[Recorder]:
    asked: list[Asked] = []

    class _Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked.append(Asked(self.requestline, headers, self.client_address[1]))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            """Nowhere."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Recorder(server.server_address[1], asked)
    finally:
        server.shutdown()
        server.server_close()
