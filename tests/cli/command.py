"""
The command as a process.

Most of the time that a command takes is that of its imports. So most of these processes come from one that has made
them already: each has its own memory, its own end and its own status, as any other. A few are started as a user does.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import frozen

from tests.running import PATIENCE, environment
from txcouchdl.cli.main import cli

COMMAND = str(Path(sys.executable).with_name("couchdl"))

_server = get_context("forkserver")
_server.set_forkserver_preload(["txcouchdl.cli.main", "rich.progress", "pytest", __name__])


@frozen
class Ended:
    """
    A command that has ended.

    :ivar status: its exit status; a signal's number negated.
    """

    status: int
    out: str
    err: str


class Command:
    """One that was started."""

    def __init__(self, home: Path, arguments: tuple[str, ...], variables: Mapping[str, str]) -> None:
        self._directory = TemporaryDirectory()
        self._streams = [Path(self._directory.name, name) for name in ("out", "err")]
        given = (str(home), arguments, dict(variables), [str(each) for each in self._streams])
        self._process = _server.Process(target=_run, args=given, daemon=True)
        self._process.start()

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def end(self) -> Ended:
        """Wait for its end."""
        with self._directory:
            self._process.join(2 * PATIENCE)
            if self._process.is_alive():
                self._process.kill()
                self._process.join(PATIENCE)
            out, err = (each.read_text("utf-8", "backslashreplace") for each in self._streams)
            status = self._process.exitcode
            self._process.close()
        assert "Traceback" not in err, err
        assert status is not None
        return Ended(status, out, err)


def _run(home: str, arguments: tuple[str, ...], variables: dict[str, str], streams: list[str]) -> None:
    for number, name in enumerate(streams, 1):
        file = os.open(name, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    os.chdir(home)
    os.environ.clear()
    os.environ.update(variables)
    cli(arguments, prog_name="couchdl")


def start(home: Path, *arguments: str | Path, **more_environment: str) -> Command:
    variables = environment({"HOME": str(home), **more_environment})
    return Command(home, tuple(map(str, arguments)), variables)


def run(home: Path, *arguments: str | Path, **more_environment: str) -> Ended:
    return start(home, *arguments, **more_environment).end()


def installed(home: Path, *arguments: str | Path) -> Ended:
    """As a user starts it, and to its end."""
    finished = subprocess.run(
        [COMMAND, *map(str, arguments)],
        cwd=home,
        env=environment({"HOME": str(home)}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=2 * PATIENCE,
        check=False,
    )
    assert "Traceback" not in finished.stderr, finished.stderr
    return Ended(finished.returncode, finished.stdout, finished.stderr)
