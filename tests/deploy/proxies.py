"""Apache, Varnish, Squid and nginx with the examples of ``docs/serving.rst``, on a port, in front of another port."""

import os
import shutil
import socket
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from attrs import frozen

from tests.deploy import ROOT, replaced
from tests.deploy.fronts import harmful, needs_nginx, nginx_running
from tests.nodes import free_port
from tests.running import PATIENCE, Fetched, curl

_MANUAL = (ROOT / "docs" / "serving.rst").read_text("utf-8")
_APACHE_MODULES = Path("/usr/lib/apache2/modules")


def example(begin: str) -> str:
    """
    Return the block of the manual that follows some words.

    :param begin: the words before its ``::``.
    """
    block = _MANUAL.partition(f"\n{begin}::\n\n")[2]
    lines = []
    for line in block.splitlines():
        if line and not line.startswith("    "):
            break
        lines.append(line)
    assert lines
    return textwrap.dedent("\n".join(lines))


@frozen
class Proxy:
    """
    A proxy in front of a gateway.

    :ivar directory: of all that it writes.
    """

    port: int
    directory: Path

    def url(self, target: str) -> str:
        return f"http://127.0.0.1:{self.port}{target}"

    def curl(self, *arguments: str | Path) -> Fetched:
        return curl(*arguments)


Proxying = Callable[[Path, int], AbstractContextManager[Proxy]]


@contextmanager
def _process(directory: Path, port: int, *command: str | Path) -> Iterator[Proxy]:
    """A program that stays in the foreground, from when it answers."""
    with (directory / "said").open("wb") as said:
        process = subprocess.Popen(
            [str(each) for each in command],
            cwd=directory,
            env={"PATH": f"{os.environ['PATH']}:/usr/sbin", "HOME": str(directory)},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until_it_listens(process, port, directory)
        yield Proxy(port, directory)
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_listens(process: "subprocess.Popen[bytes]", port: int, directory: Path) -> None:
    deadline = monotonic() + PATIENCE
    while monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), PATIENCE):
            return
        # Until it listens, there is nothing to wait for but its end.
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
            break
    raise AssertionError((directory / "said").read_text("utf-8", "replace"))


def _prepare(directory: Path) -> int:
    directory.mkdir(parents=True)
    (directory / "logs").mkdir()
    # Some programs give up their rights.
    for each in (directory, directory / "logs"):
        each.chmod(0o777)
    return free_port()


def _apache(directory: Path, port: int, lines: str) -> AbstractContextManager[Proxy]:
    modules = ("mpm_event", "authz_core", "filter", "deflate", "env", "headers", "log_config", "proxy", "proxy_http")
    # Some are built in.
    loaded = "\n".join(
        f"<IfModule !{each}_module>\nLoadModule {each}_module {_APACHE_MODULES}/mod_{each}.so\n</IfModule>"
        for each in modules
    )
    user = "User www-data\nGroup www-data\n" if os.geteuid() == 0 else ""
    head = (
        f"ServerRoot {directory}\nPidFile {directory}/pid\nErrorLog {directory}/logs/error.log\nServerName localhost\n"
    )
    configuration = directory / "apache.conf"
    # The server around it compresses everything.
    around = f"{head}{user}Listen 127.0.0.1:{port}\n{loaded}\nSetOutputFilter DEFLATE\n"
    configuration.write_text(around + lines, "utf-8")
    return _process(directory, port, "apache2", "-f", configuration, "-D", "FOREGROUND")


@contextmanager
def apache(directory: Path, upstream: int) -> Iterator[Proxy]:
    """Apache, in a server that compresses all else."""
    port = _prepare(directory)
    lines = replaced(
        example("Apache, with the modules proxy_http and headers"),
        {"http://127.0.0.1:8000/": f"http://127.0.0.1:{upstream}/"},
    )
    with _apache(directory, port, lines) as proxy:
        yield proxy


@contextmanager
def compressing_apache(directory: Path, upstream: int) -> Iterator[Proxy]:
    """Apache that compresses what the gateway sends, too."""
    port = _prepare(directory)
    with _apache(directory, port, f"ProxyPass / http://127.0.0.1:{upstream}/\n") as proxy:
        yield proxy


@contextmanager
def varnish(directory: Path, upstream: int) -> Iterator[Proxy]:
    """Varnish."""
    port = _prepare(directory)
    vcl = directory / "couchdl.vcl"
    vcl.write_text(replaced(example("Varnish"), {'.port = "8000";': f'.port = "{upstream}";'}), "utf-8")
    options = ("-p", "http_req_size=64k", "-p", "http_req_hdr_len=32k")
    address = f"127.0.0.1:{port}"
    command = ("varnishd", "-F", "-n", directory / "work", "-a", address, "-f", vcl, "-s", "default,16m", "-j", "none")
    with _process(directory, port, *command, *options) as proxy:
        yield proxy


@contextmanager
def squid(directory: Path, upstream: int) -> Iterator[Proxy]:
    """Squid."""
    port = _prepare(directory)
    text = replaced(
        example("Squid"),
        {"http_port 8080 ": f"http_port 127.0.0.1:{port} ", " parent 8000 ": f" parent {upstream} "},
    )
    own = f"pid_filename {directory}/pid\ncache_log {directory}/logs/cache.log\naccess_log none\n"
    own += f"coredump_dir {directory}\nshutdown_lifetime 0 seconds\npinger_enable off\n"
    configuration = directory / "squid.conf"
    configuration.write_text(own + text, "utf-8")
    with _process(directory, port, "squid", "-N", "-f", configuration) as proxy:
        yield proxy


@contextmanager
def nginx(directory: Path, upstream: int) -> Iterator[Proxy]:
    """nginx, in a server that caches and compresses all else."""
    port = _prepare(directory)
    lines = example("nginx").splitlines()
    plain = "\n".join(line for line in lines if "ssl_certificate" not in line)
    server = replaced(
        plain, {"listen 443 ssl;": f"listen 127.0.0.1:{port};", "http://127.0.0.1:8000": f"http://127.0.0.1:{upstream}"}
    )
    with nginx_running(directory, f"access_log off;\n{harmful(directory)}\n{server}"):
        yield Proxy(port, directory)


@contextmanager
def slicing_nginx(directory: Path, upstream: int) -> Iterator[Proxy]:
    """nginx that asks for pieces of 1 MiB."""
    port = _prepare(directory)
    server = f"""
    server {{
        listen 127.0.0.1:{port};
        location / {{
            slice 1m;
            proxy_cache_key $uri$is_args$args$slice_range;
            proxy_set_header Range $slice_range;
            proxy_pass http://127.0.0.1:{upstream};
        }}
    }}
    """
    with nginx_running(directory, f"access_log off;\n{harmful(directory)}\n{server}"):
        yield Proxy(port, directory)


def _is_there(program: str) -> bool:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is not None


def _needs(program: str, is_there: bool) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not is_there, reason=f"{program} is not installed")


needs_apache = _needs("Apache", _is_there("apache2") and _APACHE_MODULES.is_dir())
PROXIES: list[Any] = [
    pytest.param(apache, id="apache", marks=needs_apache),
    pytest.param(varnish, id="varnish", marks=_needs("Varnish", _is_there("varnishd"))),
    pytest.param(squid, id="squid", marks=_needs("Squid", _is_there("squid"))),
    pytest.param(nginx, id="nginx", marks=needs_nginx),
]
