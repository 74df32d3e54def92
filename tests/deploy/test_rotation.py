"""logrotate with ``deploy/systemd/couchdl.logrotate``, while the gateway writes."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy import replaced
from tests.deploy.units import SYSTEMD
from tests.running import ANY_PORT, PATIENCE, exchange, running

LOGROTATE = shutil.which("logrotate", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")

pytestmark = pytest.mark.skipif(LOGROTATE is None, reason="logrotate is not installed")
REQUEST = b"GET /%d HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


def rotate(directory: Path, *options: str) -> None:
    configuration = directory / "couchdl.logrotate"
    text = (SYSTEMD / "couchdl.logrotate").read_text("utf-8")
    configuration.write_text(replaced(text, {"/var/log/couchdl/": f"{directory}/"}), "utf-8")
    configuration.chmod(0o644)
    command = [str(LOGROTATE), "--state", str(directory / "state"), *options, str(configuration)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


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


def test_nothing_to_rotate(tmp_path: Path) -> None:
    rotate(tmp_path)
