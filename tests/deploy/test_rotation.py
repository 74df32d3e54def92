"""
Logs that are rotated while the gateway writes: by logrotate, with ``deploy/systemd/couchdl.logrotate`` and with what
the manual has for daemons, and by the gateway itself.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest

from tests.deploy import ROOT, replaced
from tests.deploy.units import SYSTEMD
from tests.running import ANY_PORT, PATIENCE, daemon, exchange, running

LOGROTATE = shutil.which("logrotate", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")

needs_logrotate = pytest.mark.skipif(LOGROTATE is None, reason="logrotate is not installed")
REQUEST = b"GET /%d HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


def rotate(directory: Path, *options: str, text: str | None = None) -> None:
    configuration = directory / "couchdl.logrotate"
    if text is None:
        text = (SYSTEMD / "couchdl.logrotate").read_text("utf-8")
    configuration.write_text(text.replace("/var/log/couchdl/", f"{directory}/"), "utf-8")
    configuration.chmod(0o644)
    command = [str(LOGROTATE), "--state", str(directory / "state"), *options, str(configuration)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@needs_logrotate
def test_no_line_is_lost(tmp_path: Path) -> None:
    """Without a signal; the second rotation compresses what the first one moved."""
    log = tmp_path / "access.log"
    with running(tmp_path, "-l", ANY_PORT, "--access-log", str(log)) as process:
        port = process.port()
        for number in range(3):
            exchange(port, REQUEST % number)
            rotate(tmp_path, "--force")
            assert not log.exists(), "nobody makes the new one but the gateway"
        # Until it is noticed, within a second, lines are still the old file's.
        for number in range(3, 200):
            exchange(port, REQUEST % number)
            if log.exists():
                break
        assert process.stop() == 0
    older = subprocess.run(
        ["zcat", "-f", *map(str, sorted(tmp_path.glob("access.log*")))], capture_output=True, check=True
    )
    written = [line.split()[6] for line in older.stdout.decode("ascii").splitlines()]
    assert sorted(written, key=lambda each: int(each[1:])) == [f"/{each}" for each in range(number + 1)]


@needs_logrotate
def test_nothing_to_rotate(tmp_path: Path) -> None:
    rotate(tmp_path)


def written(directory: Path, pattern: str) -> list[int]:
    """The numbers of the requests in some files, compressed ones among them, in order."""
    files = sorted(map(str, directory.glob(pattern)))
    text = subprocess.run(["zcat", "-f", *files], capture_output=True, check=True).stdout.decode("ascii")
    return sorted(int(each) for each in re.findall(r'"GET /(\d+)', text))


@needs_logrotate
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_daemon_with_both_logs_in_files(workers: str, tmp_path: Path) -> None:
    """As the manual has it. The signal opens both anew, and the files are compressed at once: nobody writes to them."""
    [section] = re.findall(
        r"``/etc/logrotate.d/couchdl`` of a daemon::\n\n((?:    .*\n|\n)+)", (ROOT / "docs" / "serving.rst").read_text()
    )
    pidfile = tmp_path / "couchdl.pid"
    text = replaced(dedent(section), {"/run/couchdl.pid": str(pidfile)}).replace("twistd.log", "couchdl.log")
    log, access = tmp_path / "couchdl.log", tmp_path / "access.log"
    arguments = ("-l", ANY_PORT, "--access-log", str(access), "--workers", workers)
    with daemon(tmp_path, *arguments) as process:
        assert process.started.returncode == 0
        if workers == "2":
            process.wait_for_log("(?s)is ready.*is ready")
        port = int(process.log.partition("GatewaySite starting on ")[2].split()[0])
        number = 0
        for times in range(1, 4):
            for _ in range(4):
                exchange(port, REQUEST % number)
                number += 1
            rotate(tmp_path, "--force", text=text)
            # What is said behind the signal is in the new file.
            process.wait_for_log("SIGHUP: logs are reopened")
            if workers == "2":
                process.wait_for_log("(?s)has reloaded.*has reloaded")
            assert len(list(tmp_path.glob("couchdl.log.*.gz"))) == times
            assert access.exists()
            assert log.exists()
        exchange(port, REQUEST % number)
        assert written(tmp_path, "access.log") == [number]
        assert written(tmp_path, "access.log*") == list(range(number + 1))
        assert process.pidfile.exists()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_gateway_rotates_its_access_log_itself(workers: str, tmp_path: Path) -> None:
    """At a megabyte, and no line is lost; several processes write to the same file."""
    access = tmp_path / "access.log"
    options = ("--access-log-max-size=1", "--access-log-keep=1000", "--workers", workers)
    with running(tmp_path, "-l", ANY_PORT, "--access-log", str(access), *options) as process:
        port, number = process.port(), 0
        while not (tmp_path / "access.log.2").exists():
            request = b"".join(
                b"GET /%d/%s HTTP/1.1\r\nHost: h\r\n\r\n" % (each, b"x" * 2000) for each in range(number, number + 50)
            )
            number += 50
            exchange(port, request + b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            assert number < 100_000
        assert process.stop() == 0
    assert written(tmp_path, "access.log*") == list(range(number))
    assert all(each.stat().st_size >= 10**6 for each in tmp_path.glob("access.log.*"))
