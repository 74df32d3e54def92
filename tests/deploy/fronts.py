"""nginx and Caddy with the files of ``deploy/``, on a port of this machine, in front of whoever listens on another."""

import os
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
from attrs import field, frozen

from benchmarks.upstreams import nginx_command, nginx_user
from tests.certificates import certify
from tests.deploy import DEPLOY, replaced
from tests.nodes import free_port
from tests.running import PATIENCE, Fetched, Lines, connect, curl


def _caddy_version() -> tuple[int, ...]:
    if shutil.which("caddy") is None:
        return ()
    said = subprocess.run(["caddy", "version"], capture_output=True, text=True, timeout=PATIENCE, check=False).stdout
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else ()


needs_nginx = pytest.mark.skipif(nginx_command() is None, reason="nginx is not installed")
needs_caddy = pytest.mark.skipif(_caddy_version() < (2, 11, 7), reason="Caddy 2.11.7 or later is not installed")

_NGINX = """
{user}
pid {place}/nginx.pid;
error_log {place}/logs/error.log;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/temp;
    fastcgi_temp_path {place}/fastcgi;
    scgi_temp_path {place}/scgi;
    uwsgi_temp_path {place}/uwsgi;
    {http}
}}
"""


def harmful(directory: Path) -> str:
    """Lines around a server that switch on compression and caching, which would do harm."""
    return f"""
    gzip on;
    gzip_types *;
    gzip_proxied any;
    gzip_min_length 0;
    proxy_cache_path {directory}/cache keys_zone=all:1m;
    proxy_cache all;
    proxy_cache_valid any 10m;
    """


@frozen
class Front:
    """
    A server in front.

    :ivar directory: where all that it writes is, with its certificate: ``cert.pem``.
    :ivar said: what else it says.
    """

    port: int
    directory: Path
    said: Callable[[], str] = field(repr=False)

    def url(self, target: str) -> str:
        return f"https://127.0.0.1:{self.port}{target}"

    def curl(self, *arguments: str | Path) -> Fetched:
        return curl("--cacert", self.directory / "cert.pem", *arguments)

    @contextmanager
    def connection(self, source: str = "127.0.0.1") -> Iterator[HTTPConnection]:
        """:param source: the client's address."""
        context = ssl.create_default_context(cafile=self.directory / "cert.pem")
        address = (source, 0)
        with closing(
            HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE, source_address=address, context=context)
        ) as connection:
            yield connection

    def ask(self, raw: bytes) -> ssl.SSLSocket:
        """A client that has asked, and takes little at a time of what comes."""
        context = ssl.create_default_context(cafile=self.directory / "cert.pem")
        connection = context.wrap_socket(connect(self.port), server_hostname="127.0.0.1")
        connection.sendall(raw)
        return connection

    def written(self) -> str:
        """All that it has written into its logs, and said."""
        logs = [each.read_text("utf-8", "replace") for each in sorted((self.directory / "logs").iterdir())]
        return "\n".join([*logs, self.said()])

    @property
    def access_log(self) -> str:
        return (self.directory / "logs" / "couchdl.access.log").read_text("utf-8")


class _Said(Lines):
    """Lines that one may look at meanwhile."""

    def so_far(self) -> str:
        with self._news:
            return "\n".join(self._lines)


Fronting = Callable[[Path, int], AbstractContextManager[Front]]


def _prepare(directory: Path) -> int:
    (directory / "logs").mkdir(parents=True)
    certify(directory)
    return free_port()


@contextmanager
def nginx(directory: Path, upstream: int, listen: str = "listen 127.0.0.1:{port} ssl;") -> Iterator[Front]:
    """nginx in a new directory. It listens before the command that starts it ends."""
    port = _prepare(directory)
    text = replaced(
        (DEPLOY / "nginx" / "couchdl.conf").read_text("utf-8"),
        {
            "server 127.0.0.1:8000;": f"server 127.0.0.1:{upstream};",
            "listen 443 ssl;\n": listen.format(port=port) + "\n",
            "listen [::]:443 ssl;\n": "\n",
            "/etc/letsencrypt/live/files.example.org/fullchain.pem": f"{directory}/cert.pem",
            "/etc/letsencrypt/live/files.example.org/privkey.pem": f"{directory}/key.pem",
            "/var/log/nginx/": f"{directory}/logs/",
        },
    )
    (directory / "couchdl.conf").write_text(text, "utf-8")
    included = f"proxy_ignore_headers Cache-Control Expires;\ninclude {directory}/couchdl.conf;"
    with nginx_running(directory, harmful(directory) + included):
        yield Front(port, directory, str)


@contextmanager
def nginx_running(directory: Path, http: str) -> Iterator[None]:
    """
    Run nginx. It listens already.

    :param directory: for all that it writes, with ``logs`` in it.
    :param http: the lines of its ``http`` block.
    """
    configuration = directory / "nginx.conf"
    configuration.write_text(_NGINX.format(user=nginx_user(), place=directory, http=http), "utf-8")
    log = f"{directory}/logs/start.log"
    command = [str(nginx_command()), "-p", str(directory), "-c", str(configuration), "-e", log]
    life, death = os.pipe()
    try:
        # It keeps our pipe open for as long as it lives.
        started = subprocess.run(command, pass_fds=(death,), capture_output=True, timeout=PATIENCE, check=False)
    finally:
        os.close(death)
    try:
        assert started.returncode == 0, started.stderr
        yield
    finally:
        if started.returncode == 0:
            os.kill(int((directory / "nginx.pid").read_text("ascii")), signal.SIGTERM)
        assert select.select([life], [], [], PATIENCE)[0], "nginx does not end"
        os.close(life)


@contextmanager
def nginx_2(directory: Path, upstream: int) -> Iterator[Front]:
    """The same with HTTP/2, as nginx before 1.25.1 is told of it, and as later ones still understand."""
    with nginx(directory, upstream, "listen 127.0.0.1:{port} ssl http2;") as front:
        yield front


@contextmanager
def caddy(directory: Path, upstream: int) -> Iterator[Front]:
    """Caddy in a new directory."""
    port = _prepare(directory)
    text = replaced(
        (DEPLOY / "caddy" / "Caddyfile").read_text("utf-8"),
        {
            "\n{\n": f"\n{{\n\tadmin off\n\tauto_https disable_redirects\n\thttp_port {free_port()}\n",
            "files.example.org {": f"https://127.0.0.1:{port} {{\n\tbind 127.0.0.1\n"
            f"\ttls {directory}/cert.pem {directory}/key.pem",
            "/var/log/caddy/": f"{directory}/logs/",
            "reverse_proxy 127.0.0.1:8000 {": f"reverse_proxy 127.0.0.1:{upstream} {{",
        },
    )
    configuration = directory / "Caddyfile"
    configuration.write_text(text, "utf-8")
    process: subprocess.Popen[str] = subprocess.Popen(
        ["caddy", "run", "--config", str(configuration), "--adapter", "caddyfile"],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "HOME": str(directory), "XDG_DATA_HOME": str(directory / "data")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )
    assert process.stderr is not None
    lines = _Said(process.stderr)
    try:
        lines.wait_for("serving initial configuration")
        yield Front(port, directory, lines.so_far)
    finally:
        process.terminate()
        process.wait(PATIENCE)
        lines.all()


FRONTS: list[Any] = [
    pytest.param(nginx, id="nginx", marks=needs_nginx),
    pytest.param(nginx_2, id="nginx-http2", marks=needs_nginx),
    pytest.param(caddy, id="caddy", marks=needs_caddy),
]


def installed() -> list[Fronting]:
    """Those of them that can be run here."""
    return [each.values[0] for each in FRONTS if not any(mark.args[0] for mark in each.marks)]


def whole(connection: socket.socket) -> bytes:
    """All that still comes, to the end of the connection, whichever it is."""
    received = bytearray()
    try:
        while data := connection.recv(2**16):
            received += data
    except (ConnectionResetError, ssl.SSLError):
        pass
    return bytes(received)
