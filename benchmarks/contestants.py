"""
The gateways that are compared, each started as its operator would, with one core's worth of threads.

All of them write a line for each request into a file. What each does less than this gateway, its ``remark`` says.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from attrs import field, frozen

from benchmarks.load import Address, Request, WrongAnswer, run_load
from benchmarks.peers import configurations
from benchmarks.processes import Program, Room, StartFailed, free_port
from benchmarks.upstreams import DOCUMENT, TOKEN, Upstream, document_of, nginx_command, nginx_user

#: The one that all others are compared with.
OURS = "txcouchdl"
TWO_WORKERS = "txcouchdl-2"

_PEERS = Path(configurations.__file__).parent
#: Threads and processes of one core.
_ONE_CORE = {"GOMAXPROCS": "1"}


@frozen
class Gateway:
    """
    A gateway that runs, or an upstream that is asked directly.

    :ivar program: ``None`` for an upstream.
    :ivar path: of the attachment, with its token where one is wanted.
    :ivar fields: header fields of every request.
    :ivar documents: how many there are that have it.
    """

    address: Address
    program: Program | None
    path: str
    fields: Mapping[str, str] = field(factory=dict)
    documents: int = 1

    def request(
        self,
        status: int,
        length: int | None,
        more: Mapping[str, str] | None = None,
        first_pos: int | None = None,
        token: str = TOKEN,
        document: int = 0,
    ) -> Request:
        """
        A GET of the attachment.

        :param document: the number of the one that it is asked for by.
        :param more: header fields of this request.
        :param token: what to send in place of the right one.
        """
        host, port = self.address
        fields = {"Host": f"{host}:{port}", **self.fields, **(more or {})}
        path = self.path.replace(TOKEN, token).replace(f"/{DOCUMENT}/", f"/{document_of(document % self.documents)}/")
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {fields[name]}" for name in fields)]
        return Request(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"), status, length, first_pos)

    def range(self, first_pos: int, length: int, is_checked: bool = False, document: int = 0) -> Request:
        """A GET of a range; its bytes are compared if they are to be checked."""
        field = {"Range": f"bytes={first_pos}-{first_pos + length - 1}"}
        return self.request(206, length, field, first_pos if is_checked else None, document=document)


#: What starts a gateway: its command, with the directory it may write to, its port and its upstream.
_Command = Callable[[Path, int, Upstream], list[str]]


@frozen
class Contestant:
    """
    A kind of gateway.

    :ivar remark: what it does not do, or other than one would think.
    :ivar missing: why it cannot run here; ``None`` if it can.
    :ivar is_gateway: whether it reads the document, checks the token and answers conditions, as this gateway does.
    """

    name: str
    remark: str
    missing: Callable[[], str | None]
    command: _Command | None
    is_gateway: bool = True

    @contextmanager
    def running(self, room: Room, upstream: Upstream) -> Iterator[Gateway]:
        """
        Start one that answers.

        :raise StartFailed: it does not.
        """
        if self.command is None:
            fields = {} if upstream.authorization is None else {"Authorization": upstream.authorization}
            yield Gateway(upstream.address, None, upstream.path, fields, upstream.documents)
            return
        place = room.place(self.name)
        port = free_port()
        command = self.command(place, port, upstream)
        program = room.start(command, place, {"COUCHDB_URL": upstream.url, **_ONE_CORE})
        path = f"{upstream.path}?token={TOKEN}"
        gateway = Gateway(("127.0.0.1", port), program, path, documents=upstream.documents)
        try:
            program.wait_for(lambda: _answers(gateway))
            yield gateway
        finally:
            room.stop(program)


def _answers(gateway: Gateway) -> bool:
    try:
        run_load(gateway.address, [gateway.range(3, 4096, is_checked=True)], 1, 0)
    except (OSError, WrongAnswer):
        return False
    return True


def _nowhere_missing() -> None:
    return None


def _twistd() -> list[str]:
    return [sys.executable, str(Path(sys.executable).with_name("twistd"))]


def _our_command(*more: str) -> _Command:
    def command(place: Path, port: int, upstream: Upstream) -> list[str]:
        listen = f"tcp:{port}:interface=127.0.0.1:backlog=4096"
        # All clients are one address here, and there may be more of them than it lets in unless told.
        limits = ["--guess-limit", "0", "--max-connections", "16384"]
        log = ["--access-log", str(place / "access.log")]
        return [*_twistd(), "-n", "--pidfile=", "couchdl", "-l", listen, *limits, *log, "--drain", "1", *more]

    return command


def _missing_workers() -> str | None:
    return None if "--workers" in _our_help() else "this gateway has no option --workers"


@cache
def _our_help() -> str:
    # Its status is 1 where the help is what was wanted.
    return subprocess.run([*_twistd(), "couchdl", "--help"], capture_output=True, text=True, check=False).stdout


def _missing_nginx() -> str | None:
    return None if nginx_command() else "nginx is not installed"


def _nginx(place: Path, port: int, upstream: Upstream) -> list[str]:
    command = nginx_command()
    assert command is not None
    configuration = place / "nginx.conf"
    text = configurations.NGINX.format(
        user=nginx_user(),
        place=place,
        port=port,
        upstream="{}:{}".format(*upstream.address),
        authorization="" if upstream.authorization is None else upstream.authorization,
    )
    configuration.write_text(text, "ascii")
    return [command, "-p", str(place), "-c", str(configuration), "-e", str(place / "error.log")]


def haproxy_command() -> str | None:
    """Where haproxy is."""
    return shutil.which("haproxy", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin")


def _missing_haproxy() -> str | None:
    return None if haproxy_command() else "haproxy is not installed"


def _haproxy(place: Path, port: int, upstream: Upstream) -> list[str]:
    command = haproxy_command()
    assert command is not None
    authorization = f"http-request set-header Authorization '{upstream.authorization}'"
    configuration = place / "haproxy.cfg"
    text = configurations.HAPROXY.format(
        port=port,
        upstream="{}:{}".format(*upstream.address),
        authorization="" if upstream.authorization is None else authorization,
    )
    configuration.write_text(text, "ascii")
    return [command, "-db", "-f", str(configuration)]


def _aiohttp(place: Path, port: int, upstream: Upstream) -> list[str]:
    return [sys.executable, str(_PEERS / "aiohttp_gateway.py"), str(port)]


def _missing_go() -> str | None:
    return None if shutil.which("go") else "Go is not installed"


@cache
def _go_binary(room: Path) -> Path:
    """The Go gateway, built once in a room."""
    binary = room / "go-gateway"
    environment = os.environ | {"CGO_ENABLED": "0", "GOPROXY": "off", "GOTOOLCHAIN": "local"}
    if not {"HOME", "GOCACHE", "XDG_CACHE_HOME"} & set(os.environ):
        environment["GOCACHE"] = str(room / "go-cache")
    built = subprocess.run(
        ["go", "build", "-o", str(binary), str(_PEERS / "gateway.go")],
        cwd=room,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        raise StartFailed(f"go build: {built.stderr}")
    return binary


def _go(place: Path, port: int, upstream: Upstream) -> list[str]:
    return [str(_go_binary(place.parent)), str(port)]


CONTESTANTS = {
    each.name: each
    for each in (
        Contestant(OURS, "", _nowhere_missing, _our_command()),
        Contestant(TWO_WORKERS, "two worker processes", _missing_workers, _our_command("--workers", "2")),
        Contestant(
            "nginx",
            "auth_request: asks for the document each time (HEAD), but cannot look into it: no token, no stub, no 304",
            _missing_nginx,
            _nginx,
            is_gateway=False,
        ),
        Contestant(
            "haproxy",
            "splices: does not even ask for the document",
            _missing_haproxy,
            _haproxy,
            is_gateway=False,
        ),
        Contestant("aiohttp", "document, token, stub, 304, one range", _nowhere_missing, _aiohttp),
        Contestant("go", "document, token, stub, 304, one range; GOMAXPROCS=1", _missing_go, _go),
        Contestant("direct", "the upstream itself, without a gateway", _nowhere_missing, None, is_gateway=False),
    )
}
