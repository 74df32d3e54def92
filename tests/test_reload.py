"""
SIGHUP: logs are opened again, and certificates and secret files read again, in one process and in several, while
downloads go on.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import IO, Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from twisted.logger import LogLevel, globalLogPublisher, textFileLogObserver
from twisted.python.logfile import LogFile

from tests.gateway.house import logged
from tests.nodes import needs_proc
from tests.running import ANY_PORT, PATIENCE, Running, curl, exchange, needs_curl, running
from tests.test_service import Served, served
from tests.test_tls import (
    KINDS,
    LARGE,
    NAME,
    Authority,
    begin_download,
    endpoint,
    endpoints,
    ports,
    secured,
    serial_number,
)
from tests.test_workers import TWO, children, take, workers
from txcouchdl.links import Link, signing_key
from txcouchdl.listening import check_endpoint
from txcouchdl.log_files import reopen_log_files
from txcouchdl.settings import StartError

pytestmark = [needs_curl, needs_proc]

either = pytest.mark.parametrize("more", [(), (TWO,)], ids=["alone", "workers"])
RELOADED = "SIGHUP: logs are reopened, certificates and secret files have been read again"
FORMER = "goes on with its former certificates, the files are not in order"
REQUEST = b"GET /%b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
SECRETS = ("a-secret-of-the-links-of-this-gateway", "another-secret-of-the-links-of-this-gateway")
LINK = Link(database="db", document_id="doc", attachment="file.bin", expires=4_000_000_000)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def couch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A store with ``/db/doc/file.bin``, which is LARGE."""
    with served(tmp_path_factory.mktemp("couch")) as it:
        it.upload({"download_token": "t"}, LARGE)
        yield it


@contextmanager
def gateway(couch: Served, *arguments: str) -> Iterator[Running]:
    url = f"http://{couch.admin}@127.0.0.1:{couch.process.port('Store')}"
    with running(couch.directory.parent, *arguments, COUCHDB_URL=url) as process:
        if TWO in arguments:
            workers(process)
        yield process


def reload(process: Running, time: int = 1) -> None:
    """:param time: how often that has been done then."""
    process.send_signal(signal.SIGHUP)
    process.out.wait_for(RELOADED, time)
    process.out.wait_for(r"worker \d has reloaded", time * len(children(process.pid)))


def shown(authority: Authority, port: int) -> int:
    """The serial number of the certificate that a new connection is shown."""
    with secured(authority, port) as connection:
        return serial_number(connection)


def shown_to_openssl(port: int) -> int:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", NAME]
    said = subprocess.run(command, input=b"", capture_output=True, timeout=PATIENCE, check=True).stdout
    return x509.load_pem_x509_certificate(said).serial_number


# Certificates.


@either
def test_a_renewed_certificate(more: tuple[str, ...], couch: Served, authority: Authority, tmp_path: Path) -> None:
    """A download that has begun goes on; a worker that comes later shows what the others do."""
    live = tmp_path / "live"
    before = authority.issue(live)
    with gateway(couch, *endpoints(live), *more) as process, ExitStack() as open_:
        places = ports(process.out)
        downloads = [open_.enter_context(secured(authority, port)) for port in places]
        for each in downloads:
            begin_download(each)
        after = authority.issue(live)
        assert [shown(authority, port) for port in places] == [before, before] != [after, after]
        reload(process)
        for _ in range(4):
            assert [shown(authority, port) for port in places] == [after, after]
        assert [take(each, len(LARGE)) == LARGE for each in downloads] == [True, True]
        pids = children(process.pid)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        workers(process, 2 * len(pids)) if pids else None
        assert [shown(authority, port) for port in places] == [after, after]
        assert process.stop() == 0
        assert "Traceback" not in process.text()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("kind", KINDS)
def test_what_openssl_is_shown(kind: str, couch: Served, authority: Authority, tmp_path: Path) -> None:
    live = tmp_path / "live"
    authority.issue(live)
    with gateway(couch, "-l", endpoint(kind, live)) as process:
        port = int(process.out.wait_for(r"GatewaySite \(TLS\) starting on (\d+)")[0][1])
        after = authority.issue(live)
        reload(process)
        assert shown_to_openssl(port) == after


def weak() -> dict[str, bytes]:
    """A key that can be read, and is too short for OpenSSL to use it; with its certificate."""
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return {"privkey.pem": secret, "cert.pem": certificate, "fullchain.pem": certificate}


@either
def test_files_that_are_not_in_order(
    more: tuple[str, ...], couch: Served, authority: Authority, tmp_path: Path
) -> None:
    """The former certificates stay, whatever is wrong with the new ones; then new ones are taken."""
    live = tmp_path / "live"
    before = authority.issue(live)
    files = {each.name: each.read_bytes() for each in live.iterdir()}
    key = load_pem_private_key(files["privkey.pem"], None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase"))
    other = tmp_path / "other"
    authority.issue(other)
    nonsense = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    spoiled: Sequence[dict[str, bytes]] = [
        dict.fromkeys(files, b""),
        dict.fromkeys(files, nonsense),
        {"privkey.pem": (other / "privkey.pem").read_bytes()},
        {"privkey.pem": locked},
        weak(),
    ]
    with gateway(couch, *endpoints(live), *more) as process:
        places = ports(process.out)
        for time, contents in enumerate(spoiled, 1):
            for name, content in (files | contents).items():
                (live / name).unlink()
                (live / name).write_bytes(content)
            reload(process, time)
            assert [shown(authority, port) for port in places] == [before, before]
            process.out.wait_for(FORMER, 2 * time)
        after = authority.issue(live)
        reload(process, len(spoiled) + 1)
        assert [shown(authority, port) for port in places] == [after, after]
        assert process.stop() == 0
        text = process.text()
        assert text.count(FORMER) == 2 * len(spoiled)
        assert "Traceback" not in text


def test_the_endpoints_of_operators_and_of_the_store(authority: Authority, tmp_path: Path) -> None:
    live = tmp_path / "live"
    authority.issue(live)
    options = ["-l", ANY_PORT, "--admin-listen", endpoint("ssl", live), "--store-listen", endpoint("tls", live)]
    with running(tmp_path, "--store=store", *options) as process:
        places = [
            int(process.out.wait_for(rf"{kind}Site \(TLS\) starting on (\d+)")[0][1]) for kind in ("Admin", "Store")
        ]
        after = authority.issue(live)
        reload(process)
        assert [shown(authority, port) for port in places] == [after, after]


def test_a_name_that_nobody_has_costs_no_reading(couch: Served, authority: Authority, tmp_path: Path) -> None:
    """A stranger may ask for any names. The directory is not there any more, and nothing is said of that."""
    live = tmp_path / "live"
    before = authority.issue(live)
    with gateway(couch, "-l", endpoint("tls", live)) as process:
        [port] = [int(process.out.wait_for(r"GatewaySite \(TLS\) starting on (\d+)")[0][1])]
        shutil.rmtree(live)
        context = authority.context()
        context.check_hostname = False
        with context.wrap_socket(
            socket.create_connection(("127.0.0.1", port)), server_hostname="nobody.example"
        ) as connection:
            assert serial_number(connection) == before
        assert process.stop() == 0
        assert "re-loading" not in process.text()


def test_a_root_in_the_directory(couch: Served, authority: Authority, tmp_path: Path) -> None:
    """Twisted's own way would follow it to itself for ever. Who trusts it needs nothing but what is between."""
    live = tmp_path / "live"
    authority.issue(live)
    shutil.copy(authority.root, live / "root.pem")
    with gateway(couch, "-l", endpoint("tls", live)) as process:
        port = int(process.out.wait_for(r"GatewaySite \(TLS\) starting on (\d+)")[0][1])
        command = ["openssl", "s_client", "-showcerts", "-connect", f"127.0.0.1:{port}", "-servername", NAME]
        said = subprocess.run(command, input=b"", capture_output=True, timeout=PATIENCE, check=True).stdout
        assert said.count(b"BEGIN CERTIFICATE") == 2
        assert shown(authority, port)


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_with_a_passphrase(kind: str, authority: Authority, tmp_path: Path) -> None:
    """OpenSSL would ask at the terminal, and the gateway wait for an answer."""
    authority.issue(tmp_path / "live")
    file = tmp_path / "live" / "privkey.pem"
    key = load_pem_private_key(file.read_bytes(), None)
    for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        file.write_bytes(key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"passphrase")))
        with pytest.raises(StartError, match="is no endpoint: a private key has a passphrase"):
            check_endpoint(endpoint(kind, tmp_path / "live"))


@pytest.mark.parametrize("content", ["", "nonsense", None])
def test_a_directory_without_a_certificate(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "cert.pem").write_text(content)
    path = tmp_path if content is not None else tmp_path / "missing"
    with pytest.raises(StartError, match="has no certificate for a name, with its key"):
        check_endpoint(f"tls:{path}:0")


def test_the_later_of_two_certificates_for_a_name(couch: Served, authority: Authority, tmp_path: Path) -> None:
    """In whichever order they lie there."""
    live = tmp_path / "live"
    for name, days in (("a", 3), ("b", 90), ("c", 30)):
        authority.issue(live / name, days=days)
    with gateway(couch, "-l", endpoint("tls", live)) as process:
        port = int(process.out.wait_for(r"GatewaySite \(TLS\) starting on (\d+)")[0][1])
        latest = x509.load_pem_x509_certificate((live / "b" / "cert.pem").read_bytes())
        assert shown(authority, port) == latest.serial_number


# Secrets.


@either
def test_a_changed_link_secret(more: tuple[str, ...], couch: Served, tmp_path: Path) -> None:
    """A file that is not in order changes nothing. A relative name stays what it was, wherever twistd goes."""
    file = tmp_path / "secret"
    file.write_text(SECRETS[0])
    path = os.path.relpath(file, couch.directory.parent)
    with gateway(couch, "-l", ANY_PORT, f"--link-secret-file={path}", *more) as process:
        links = [
            f"http://127.0.0.1:{process.port()}/db/doc/file.bin?{LINK.query(signing_key(b't', each.encode()))}"
            for each in SECRETS
        ]

        def statuses() -> list[int]:
            return [curl("-r", "0-0", each).status for each in links for _ in range(3)]

        assert statuses() == [206] * 3 + [403] * 3
        file.write_text("short")
        reload(process)
        assert statuses() == [206] * 3 + [403] * 3
        file.write_text(SECRETS[1])
        reload(process, 2)
        assert statuses() == [403] * 3 + [206] * 3
        pids = children(process.pid)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        if pids:
            workers(process, 4)
        assert statuses() == [403] * 3 + [206] * 3
        assert process.stop() == 0
        text = process.text()
        assert text.count("the former link secret stays in use") == 1
        assert not [each for each in SECRETS if each in text]


# Logs.


def wait_for_lines(file: Path, count: int) -> None:
    """A line is written behind the end of its response, which its client may see before."""
    deadline = monotonic() + PATIENCE
    while not file.exists() or file.read_text().count("\n") < count:
        assert monotonic() < deadline, file.read_text()


@either
def test_the_access_log(more: tuple[str, ...], couch: Served, tmp_path: Path) -> None:
    """Behind the signal no line goes to the former file, not even for a moment."""
    file = tmp_path / "access.log"
    with gateway(couch, "-l", ANY_PORT, f"--access-log={file}", *more) as process:
        port = process.port()
        for time in range(1, 4):
            for _ in range(3):
                exchange(port, REQUEST % b"before")
            wait_for_lines(file, 3 if time == 1 else 6)
            file.rename(tmp_path / "former")
            reload(process, time)
            for _ in range(3):
                exchange(port, REQUEST % b"behind")
            wait_for_lines(file, 3)
            assert file.read_text().count("GET /before") == 0
            assert (tmp_path / "former").read_text().count("GET /behind") == (3 if time > 1 else 0)
        assert process.stop() == 0


def test_a_log_that_cannot_be_opened_again(tmp_path: Path) -> None:
    """It goes on in the former file, and has an error."""
    (tmp_path / "logs").mkdir()
    file = LogFile("twistd.log", str(tmp_path / "logs"))
    observer = textFileLogObserver(cast(IO[Any], file))
    globalLogPublisher.addObserver(observer)
    try:
        (tmp_path / "logs").rename(tmp_path / "moved")
        with logged() as events:
            reopen_log_files()
            assert [event["log_level"] for event in events] == [LogLevel.error]
        (tmp_path / "logs").mkdir()
        reopen_log_files()
        globalLogPublisher({"log_format": "later", "log_level": LogLevel.info, "log_namespace": "test"})
    finally:
        globalLogPublisher.removeObserver(observer)
        file.close()
    assert "cannot be opened again: No such file" in (tmp_path / "moved" / "twistd.log").read_text()
    assert "later" in (tmp_path / "logs" / "twistd.log").read_text()
    assert not re.search("later", (tmp_path / "moved" / "twistd.log").read_text())
