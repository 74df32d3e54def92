"""
TLS by Twisted's own endpoints, as ``docs/serving.rst`` has it: ``ssl:``, which is given files, and ``tls:``, which is
given a directory of them.

The certificates are issued by an intermediate authority and lie there as certbot lays them, so that whoever trusts the
root alone is served only if the whole chain is sent.
"""

import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import ssl
import stat
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from time import monotonic

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.running import (
    ANY_PORT,
    PATIENCE,
    Fetched,
    Lines,
    Running,
    connect,
    curl,
    environment,
    needs_curl,
    read_to_end,
    running,
    twistd,
)
from tests.test_service import Served, served

pytestmark = needs_curl

NAME = "files.example"
SERVING = (Path(__file__).parent.parent / "docs" / "serving.rst").read_text("utf-8")
#: More than sockets and TLS buffer, so that no download ends before its client wants it to.
LARGE = os.urandom(8 * 2**20)
REQUEST = b"GET /db/doc/file.bin?token=t HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
KINDS = ("ssl", "tls")
both = pytest.mark.parametrize("kind", KINDS)


# Certificates.


class Authority:
    """
    A root, which clients trust, and an intermediate authority, which issues the certificates.

    :ivar root: the root's certificate, a file.
    """

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root.pem"
        root_key = ec.generate_private_key(ec.SECP256R1())
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.root.write_bytes(
            _pem(_builder("root", root_key, "root", is_authority=True).sign(root_key, hashes.SHA256()))
        )
        intermediate = _builder("intermediate", self._key, "root", is_authority=True)
        self._chain = _pem(intermediate.sign(root_key, hashes.SHA256()))

    def issue(self, live: Path, days: int = 1) -> int:
        """
        A certificate for NAME and for this machine's addresses, in the files that certbot keeps in a directory.

        :param days: for which it is good.
        :return: its serial number.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        addresses = [x509.IPAddress(ip_address(each)) for each in ("127.0.0.1", "::1")]
        names = x509.SubjectAlternativeName([x509.DNSName(NAME), *addresses])
        builder = _builder(NAME, key, "intermediate", is_authority=False, days=days).add_extension(
            names, critical=False
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        archive = live.parent / "archive" / str(certificate.serial_number)
        for directory in (live, archive):
            directory.mkdir(parents=True, exist_ok=True)
        contents = {
            "privkey.pem": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "cert.pem": _pem(certificate),
            "chain.pem": self._chain,
            "fullchain.pem": _pem(certificate) + self._chain,
        }
        for name, content in contents.items():
            (archive / name).write_bytes(content)
            (archive / name).chmod(0o600 if name == "privkey.pem" else 0o644)
            (live / name).unlink(missing_ok=True)
            (live / name).symlink_to(os.path.relpath(archive / name, live))
        return certificate.serial_number

    def context(self) -> ssl.SSLContext:
        """A client's that trusts the root alone."""
        return ssl.create_default_context(cafile=str(self.root))


def _builder(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, *, is_authority: bool, days: int = 1
) -> x509.CertificateBuilder:
    subject, issued_by = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, issuer))
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(issued_by, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def endpoint(kind: str, live: Path, port: int = 0, interface: str = "127.0.0.1") -> str:
    """As in the manual, for a directory of certbot's."""
    files = f"privateKey={live}/privkey.pem:certKey={live}/cert.pem:extraCertChain={live}/chain.pem"
    source = f"ssl:{port}:{files}" if kind == "ssl" else f"tls:{live}:{port}"
    return f"{source}:interface={interface}"


def endpoints(live: Path, ports: Sequence[int] = (0, 0)) -> list[str]:
    """One of each kind, as arguments."""
    return [each for kind, port in zip(KINDS, ports, strict=True) for each in ("-l", endpoint(kind, live, port))]


def ports(log: Lines) -> list[int]:
    """Where a gateway of both kinds answers, in their order; waits until it does."""
    return [int(match[1]) for match in log.wait_for(r"GatewaySite \(TLS\) starting on (\d+)", len(KINDS))]


# Gateways that answer over both.


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def live(authority: Authority) -> Path:
    """The directory with the certificate in use."""
    directory = authority.root.parent / "live"
    authority.issue(directory)
    return directory


@pytest.fixture(scope="module")
def couch(live: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A store with a gateway, behind plain HTTP and both kinds; ``/db/doc/file.bin`` is LARGE. It never parks."""
    with served(tmp_path_factory.mktemp("couch"), *endpoints(live), "--park-after=86400") as it:
        it.upload({"download_token": "t"}, LARGE)
        yield it


@contextmanager
def gateway(couch: Served, *arguments: str) -> Iterator[Running]:
    """Another one in front of the same store."""
    url = f"http://{couch.admin}@127.0.0.1:{couch.process.port('Store')}"
    with running(couch.directory.parent, *arguments, COUCHDB_URL=url) as process:
        yield process


@pytest.fixture(scope="module")
def port(couch: Served) -> dict[str, int]:
    """By kind."""
    return dict(zip(KINDS, ports(couch.process.out), strict=True))


def fetch(root: Path, port: int, *arguments: str | Path) -> Fetched:
    """By the name in the certificate, from somebody who trusts a root alone."""
    url = f"https://{NAME}:{port}/db/doc/file.bin?token=t"
    return curl("--cacert", root, "--resolve", f"{NAME}:{port}:127.0.0.1", *arguments, url)


def secured(authority: Authority, port: int, name: str = NAME) -> ssl.SSLSocket:
    """A connection behind its handshake."""
    return authority.context().wrap_socket(connect(port), server_hostname=name)


def serial_number(connection: ssl.SSLSocket) -> int:
    """Of the certificate that was shown."""
    shown = connection.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


def begin_download(connection: socket.socket) -> None:
    """Ask for LARGE, and take the head of the answer."""
    connection.sendall(REQUEST)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        assert byte, head
        head += byte
    assert head.startswith(b"HTTP/1.1 200 ")


# What is served.


@both
def test_a_whole_download(kind: str, port: dict[str, int], couch: Served, authority: Authority) -> None:
    answer = fetch(authority.root, port[kind])
    assert (answer.exit_status, answer.status, answer.version) == (0, 200, "HTTP/1.1"), answer.complaint
    assert answer.body == LARGE


@both
def test_a_head_and_a_range(kind: str, port: dict[str, int], authority: Authority) -> None:
    head = fetch(authority.root, port[kind], "-I")
    assert (head.status, head.headers["content-length"]) == (200, str(len(LARGE)))
    part = fetch(authority.root, port[kind], "-r", "5000000-6000000")
    assert (part.exit_status, part.status) == (0, 206)
    assert part.body == LARGE[5_000_000:6_000_001]


@both
def test_a_download_is_resumed(kind: str, port: dict[str, int], authority: Authority, tmp_path: Path) -> None:
    file = tmp_path / "file.bin"
    file.write_bytes(LARGE[:3_000_000])
    answer = fetch(authority.root, port[kind], "-C", "-", "-o", file)
    assert (answer.exit_status, answer.status) == (0, 206)
    assert file.read_bytes() == LARGE


@both
def test_a_client_that_asks_for_no_name(kind: str, port: dict[str, int], authority: Authority) -> None:
    """An address is no name, and is not sent as one."""
    with secured(authority, port[kind], "127.0.0.1") as connection:
        begin_download(connection)
        assert read_to_end(connection) == LARGE


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="there is no IPv6 here")
def test_the_links_of_a_demo(live: Path, authority: Authority, tmp_path: Path) -> None:
    listen = endpoint("tls", live, interface=r"\:\:1")
    with running(tmp_path, "--demo", "-l", listen, "--store-listen", ANY_PORT) as process:
        link = process.links()["melody.mp3"]
        assert link.startswith("https://[::1]:")
        answer = curl("--globoff", "--cacert", authority.root, "-I", link)
        assert (answer.exit_status, answer.status) == (0, 200), answer.complaint


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_self_signed_certificate(tmp_path: Path) -> None:
    """Made by the manual's command."""
    [command] = re.findall("^    (openssl req .*)$", SERVING, re.MULTILINE)
    subprocess.run(shlex.split(command.replace("NAME", NAME)), cwd=tmp_path, check=True, capture_output=True)
    sources = ("ssl:0:privateKey=key.pem:certKey=cert.pem", "tls:.:0")
    listen = [each for source in sources for each in ("-l", f"{source}:interface=127.0.0.1")]
    with running(tmp_path, *listen) as process:
        for port in ports(process.out):
            # There is no CouchDB behind it; who asks for nothing of it is answered all the same.
            answer = fetch(tmp_path / "cert.pem", port, "-X", "OPTIONS")
            assert (answer.exit_status, answer.status // 100) == (0, 2), answer.complaint


# Clients that leave, are too many, or too slow.


@both
@pytest.mark.parametrize("says_goodbye", [True, False])
def test_a_client_that_leaves_takes_everything_with_it(
    kind: str, says_goodbye: bool, port: dict[str, int], couch: Served, authority: Authority
) -> None:
    """Its connection, and the transfer from CouchDB, of which the store in the same process has the other end."""
    table = f"/proc/{couch.process.pid}/fd"
    if not os.path.isdir(table):
        pytest.skip("there is no /proc here")
    assert fetch(authority.root, port[kind]).body == LARGE
    before = len(os.listdir(table))
    for _ in range(20):
        with secured(authority, port[kind]) as connection:
            begin_download(connection)
            if says_goodbye:
                # The gateway's own goodbye is behind what it has sent, and is not waited for.
                connection.settimeout(0)
                with pytest.raises(ssl.SSLError):
                    connection.unwrap()
    deadline = monotonic() + PATIENCE
    while len(os.listdir(table)) > before and monotonic() < deadline:
        # By the time that this is answered, the process has looked at what it was told before.
        assert fetch(authority.root, port[kind], "-I").status == 200
    assert len(os.listdir(table)) <= before


def test_one_connection_too_many(couch: Served, live: Path, authority: Authority) -> None:
    """Whoever comes is told so, behind a handshake; the place is one of both endpoints together."""
    with gateway(couch, *endpoints(live), "--max-connections=1") as process:
        first, second = ports(process.out)
        with secured(authority, first) as busy:
            begin_download(busy)
            for port in (first, second):
                refused = fetch(authority.root, port)
                assert (refused.exit_status, refused.status) == (0, 503)
                assert refused.headers["retry-after"] == "5"
            assert read_to_end(busy) == LARGE
        assert process.stop() == 0
        assert "Traceback" not in process.text()


def test_clients_that_take_nothing_and_clients_that_do_not_ask(couch: Served, live: Path, authority: Authority) -> None:
    with gateway(couch, *endpoints(live), "--client-timeout=1", "--header-timeout=1") as process:
        places = ports(process.out)
        with ExitStack() as open_:
            slow, silent = ([open_.enter_context(secured(authority, port)) for port in places] for _ in range(2))
            for each in slow:
                begin_download(each)
            for each in silent:
                each.sendall(REQUEST[:20])
            assert all(read_to_end(each).startswith(b"HTTP/1.1 408 ") for each in silent)
            process.out.wait_for('"GET /db/doc/file.bin', len(slow))
            assert all(len(read_to_end(each)) < len(LARGE) for each in slow)
        assert process.stop() == 0
        assert "Traceback" not in process.text()


# Stopping, and renewed certificates.


def test_a_renewed_certificate(couch: Served, authority: Authority, tmp_path: Path) -> None:
    """A new gateway shows it, on the same ports, while the old one sends what it has begun to send."""
    live = tmp_path / "live"
    before = authority.issue(live)
    with gateway(couch, *endpoints(live), "--drain=86400") as old, ExitStack() as open_:
        places = ports(old.out)
        downloads = [open_.enter_context(secured(authority, port)) for port in places]
        for each in downloads:
            begin_download(each)
        after = authority.issue(live)
        assert [serial_number(each) for each in downloads] == [before, before] != [after, after]
        old.send_signal(signal.SIGTERM)
        old.out.wait_for("waiting for 2 downloads")
        with gateway(couch, *endpoints(live, places)) as new:
            assert ports(new.out) == places
            for port in places:
                with secured(authority, port) as another:
                    assert serial_number(another) == after
            assert old.is_alive
            assert [read_to_end(each) == LARGE for each in downloads] == [True, True]
            assert old.end() == 0
            assert "0 were broken off" in old.text()
            assert new.stop() == 0
        assert "Traceback" not in old.text() + new.text()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_the_key_is_roots_alone(live: Path, authority: Authority, tmp_path: Path) -> None:
    """It is read before twistd becomes somebody else, and no more after that."""
    nobody = pwd.getpwnam("nobody")
    assert stat.S_IMODE((live / "privkey.pem").stat().st_mode) == 0o600
    arguments = ("-n", "--pidfile=", f"--uid={nobody.pw_uid}", f"--gid={nobody.pw_gid}", "couchdl")
    process = subprocess.Popen(
        twistd(*arguments, *endpoints(live)),
        cwd=tmp_path,
        env=environment({}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    assert process.stdout is not None
    log = Lines(process.stdout)
    try:
        log.wait_for("set uid/gid")
        for port in ports(log):
            # What is answered is not asked for: that user may not be able to read the Python of these tests.
            with secured(authority, port):
                assert os.stat(f"/proc/{process.pid}").st_uid == nobody.pw_uid
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        log.all()
