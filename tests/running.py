"""
Real processes: ``twistd couchdl`` as an operator starts it, curl as a user calls it, and bare sockets.

Nobody waits for a time to pass. One waits for a line of a process' output, for its end, for the end of a
connection; :data:`PATIENCE` is when such a wait counts as failed.
"""

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Condition, Thread
from time import monotonic
from typing import IO

import pytest
from attrs import field, frozen

from tests.store.serving import Response, parse_response

#: Seconds until a wait is given up and its test fails.
PATIENCE = 30.0
#: A free port of this machine.
ANY_PORT = "tcp:0:interface=127.0.0.1"

_TWISTD = Path(sys.executable).with_name("twistd")
_OURS = {"COUCHDB_URL", "COUCHDB_URLS", "DOWNLOAD_TOKEN_KEY_NAME"}
#: What a run that goes well writes, and what one writes until it finds that it cannot.
_ROUTINE = re.compile(r"\S+ \[(?:\S+#info|-)\] ")
_LOGGED_STDERR = re.compile(r"^\S+ \[stderr#error\] ")

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def twistd(*arguments: str) -> list[str]:
    """A command line; the installed script, so that the plugin is found as an operator's twistd finds it."""
    return [sys.executable, str(_TWISTD), *arguments]


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process' environment, with nothing in it that is meant for us but what is given."""
    return {name: value for name, value in os.environ.items() if name not in _OURS} | dict(more)


class Lines:
    """The lines of a stream, collected as they come, so that its writer never waits."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._news = Condition()
        self._lines: list[str] = []
        self._is_ended = False
        self._reader = Thread(target=self._collect, daemon=True)
        self._reader.start()

    def _collect(self) -> None:
        for line in self._stream:
            with self._news:
                self._lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._is_ended = True
            self._news.notify_all()

    def wait_for(self, pattern: str, count: int = 1) -> list[re.Match[str]]:
        """
        Wait until some lines match a pattern.

        :return: the first matches, in order.
        """
        matches: list[re.Match[str]] = []

        def are_there() -> bool:
            found = (re.search(pattern, line) for line in self._lines)
            matches[:] = [match for match in found if match is not None]
            return len(matches) >= count or self._is_ended

        with self._news:
            self._news.wait_for(are_there, PATIENCE)
            assert len(matches) >= count, f"{pattern!r} is not among the lines:\n" + "\n".join(self._lines)
        return matches[:count]

    def all(self) -> list[str]:
        """Every line; waits for the stream's end."""
        self._reader.join(PATIENCE)
        assert not self._reader.is_alive(), "the stream does not end"
        self._stream.close()
        return self._lines


class Running:
    """
    A ``twistd -n couchdl`` that was started. Use :func:`running`.

    :ivar out: its standard output: the log, and what the demo prints.
    :ivar err: its standard error. twistd sends what comes there to the log, once there is a log.
    """

    def __init__(
        self,
        directory: Path,
        arguments: tuple[str, ...],
        more_environment: Mapping[str, str],
        starter: Sequence[str] = (),
        passed: Sequence[int] = (),
    ) -> None:
        """
        :param starter: a command that becomes the command behind it.
        :param passed: descriptors that it inherits.
        """
        self._process = subprocess.Popen(
            [*starter, *twistd("-n", "--pidfile=", "couchdl", *arguments)],
            pass_fds=passed,
            cwd=directory,
            env=environment(more_environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="backslashreplace",
        )
        self.pid = self._process.pid
        self.out = Lines(self._process.stdout)  # type: ignore[arg-type]
        self.err = Lines(self._process.stderr)  # type: ignore[arg-type]

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def port(self, kind: str = "Gateway") -> int:
        """The port of its first gateway, or of its ``Store``; waits until it listens."""
        return int(self.out.wait_for(rf"{kind}Site starting on (\d+)")[0][1])

    def page(self) -> str:
        """The first address that a demo prints: its document's page."""
        return self.out.wait_for(r"^ +(https?://\S+\?token=\S+)$")[0][1]

    def links(self) -> dict[str, str]:
        """The addresses that a demo prints, by attachment name; waits for them."""
        return {match[1]: match[0] for match in self.out.wait_for(r"\bhttps?://\S+/([^/\s]+)\?token=\S+", 3)}

    def end(self) -> int:
        """Wait for its end. :return: its exit status; a signal's number negated."""
        return self._process.wait(PATIENCE)

    def send_signal(self, number: signal.Signals) -> None:
        """As :meth:`stop`, without waiting."""
        self._process.send_signal(number)

    def stop(self, by: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, and :meth:`end`."""
        self.send_signal(by)
        return self.end()

    def text(self) -> str:
        """All that it wrote; it has ended."""
        return "\n".join([*self.out.all(), *self.err.all()])


@contextmanager
def running(directory: Path, *arguments: str, **more_environment: str) -> Iterator[Running]:
    """A ``twistd -n couchdl`` in a directory, for as long as it is needed."""
    with needed(Running(directory, arguments, more_environment)) as process:
        yield process


@contextmanager
def needed(process: Running) -> Iterator[Running]:
    """A process, until it is not needed any more."""
    try:
        yield process
    finally:
        if process.is_alive:
            process.stop(signal.SIGKILL)
        process.text()


def complaints(directory: Path, *arguments: str, **more_environment: str) -> list[str]:
    """
    Run a ``twistd -n couchdl`` that cannot start.

    :return: what it says to that; the routine lines of the log are left out.
    """
    with running(directory, *arguments, **more_environment) as process:
        assert process.end() in {1, 2}
        text = process.text()
    assert "Traceback" not in text
    return [_LOGGED_STDERR.sub("", line) for line in text.splitlines() if line and not _ROUTINE.match(line)]


@frozen
class Fetched:
    """
    What curl brought.

    :ivar exit_status: curl's.
    :ivar status: of the last answer; 0 if there was none.
    :ivar headers: of the last answer, by name in lower case.
    :ivar body: what curl wrote to its standard output.
    """

    exit_status: int
    status: int
    version: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    complaint: str


def curl_command(*arguments: str) -> list[str]:
    """A command line that depends on nothing of this machine."""
    return ["curl", "-q", "-sS", "--noproxy", "*", "--max-time", str(PATIENCE), *arguments]


def curl(*arguments: str | Path) -> Fetched:
    """Run curl to its end."""
    with tempfile.TemporaryDirectory() as directory:
        head = Path(directory) / "head"
        command = curl_command("-D", str(head), *map(str, arguments))
        ended = subprocess.run(command, capture_output=True, timeout=2 * PATIENCE, check=False)
        # One block of lines for each answer: 100 Continue has one too.
        blocks = head.read_text("latin-1").strip().split("\n\n") if head.exists() else [""]
    status_line, *lines = blocks[-1].splitlines() or [""]
    version, _, rest = status_line.partition(" ")
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return Fetched(ended.returncode, int(rest[:3] or 0), version, headers, ended.stdout, ended.stderr.decode())


def connect(port: int) -> socket.socket:
    """A connection that takes little at a time, so that what is sent to it soon has to wait."""
    connection = socket.socket()
    connection.settimeout(PATIENCE)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    connection.connect(("127.0.0.1", port))
    return connection


def read_to_end(connection: socket.socket) -> bytes:
    """All that still comes, until the other side closes the connection or breaks it."""
    received = bytearray()
    try:
        while data := connection.recv(2**16):
            received += data
    except ConnectionResetError:
        pass
    return bytes(received)


def exchange(port: int, raw: bytes) -> Response:
    """Send bytes on a connection of their own; the answer that came until its end."""
    with connect(port) as connection:
        connection.sendall(raw)
        received = read_to_end(connection)
    response = parse_response(received, is_head=raw.startswith(b"HEAD "))
    assert response is not None, f"no answer, but {received!r}"
    return response


def beat(port: int) -> None:
    """By the time that this is answered, the gateway has looked at what it was told before."""
    assert exchange(port, b"HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").status == 404


@contextmanager
def nobody() -> Iterator[int]:
    """A port where nobody listens, and nobody can while this lasts."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


@contextmanager
def somebody() -> Iterator[int]:
    """A port where somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


class Daemon:
    """
    A ``twistd couchdl`` without ``-n``. Use :func:`daemon`.

    :ivar started: the command that started it, and has ended.
    :ivar pidfile: where it says who it is, as long as it runs.
    """

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.pidfile = directory / "couchdl.pid"
        self._logfile = directory / "couchdl.log"
        # The daemon keeps our pipe open, for as long as it lives.
        self._life, death = os.pipe()
        try:
            self.started = subprocess.run(
                twistd(f"--pidfile={self.pidfile}", f"--logfile={self._logfile}", "couchdl", *arguments),
                cwd=directory,
                env=environment({}),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                pass_fds=(death,),
                timeout=PATIENCE,
                check=False,
            )
        finally:
            os.close(death)

    @property
    def log(self) -> str:
        return self._logfile.read_text("utf-8")

    def wait_for_log(self, pattern: str) -> None:
        """Wait until its log, by its name, has a line that matches."""
        deadline = monotonic() + PATIENCE
        while not (self._logfile.exists() and re.search(pattern, self.log)):
            assert monotonic() < deadline, f"{pattern!r} is not in the log"
            # By then something may have been written.
            select.select([self._life], [], [], 0.01)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, by its pidfile."""
        os.kill(int(self.pidfile.read_text("ascii")), number)

    def wait_for_end(self) -> None:
        ended, _, _ = select.select([self._life], [], [], PATIENCE)
        assert ended, "the daemon does not end"

    def close(self) -> None:
        """End it, if it still runs."""
        if self.pidfile.exists():
            self.signal(signal.SIGKILL)
        self.wait_for_end()
        os.close(self._life)


@contextmanager
def daemon(directory: Path, *arguments: str) -> Iterator[Daemon]:
    """A ``twistd couchdl`` that leaves its terminal, for as long as it is needed."""
    process = Daemon(directory, *arguments)
    try:
        yield process
    finally:
        process.close()
