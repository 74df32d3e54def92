"""Programs that are started and ended with the room they run in, and what they cost: CPU seconds and memory."""

import os
import resource
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

#: Seconds until a program that does not answer counts as failed, and until one that does not end is killed.
PATIENCE = 30.0
_GRACE = 3.0
_POLL = 0.02


class StartFailed(Exception):
    """A program ended, or does not answer."""


class Program:
    """
    A program, and the processes it starts.

    :ivar log: the file with all it writes.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str], directory: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            # A session of its own: Ctrl-C is for us, and we end it in our time.
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def pids(self) -> list[int]:
        """Its process and all below it."""
        try:
            return [self.pid, *(child.pid for child in psutil.Process(self.pid).children(recursive=True))]
        except psutil.NoSuchProcess:
            return []

    def wait_for(self, has_come: Callable[[], bool]) -> None:
        """
        Wait until something has come true.

        :raise StartFailed: the program ended before, or it took too long.
        """
        deadline = time.monotonic() + PATIENCE
        while not has_come():
            if self._process.poll() is not None:
                raise StartFailed(f"ended with status {self._process.returncode}: {self._last_words()}")
            if time.monotonic() > deadline:
                raise StartFailed(f"does not answer: {self._last_words()}")
            time.sleep(_POLL)

    def stop(self) -> None:
        """End it and all below it, by process id: politely, then not."""
        below = [psutil.Process(pid) for pid in self.pids() if pid != self.pid]
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for process in psutil.wait_procs(below, timeout=1.0)[1]:
            process.kill()

    def _last_words(self) -> str:
        return self.log.read_text("utf-8", "backslashreplace")[-2000:].strip()


class Room:
    """A private directory, and the programs that run in it: both are gone when it is left."""

    def __init__(self) -> None:
        self._leaving = ExitStack()
        self._programs: list[Program] = []
        self.directory = Path()

    def __enter__(self) -> Self:
        self.directory = Path(self._leaving.enter_context(tempfile.TemporaryDirectory(prefix="couchdl-benchmarks-")))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for program in reversed(self._programs):
                program.stop()
        finally:
            self._leaving.close()

    def place(self, name: str) -> Path:
        """A new directory in it."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.directory))

    def start(self, command: Sequence[str], directory: Path, environment: Mapping[str, str] | None = None) -> Program:
        """Start a program in a directory of this room, with what is to be added to our environment."""
        program = Program(command, directory / "output.log", os.environ | dict(environment or {}), directory)
        self._programs.append(program)
        return program

    def stop(self, program: Program) -> None:
        """End a program before its time."""
        program.stop()
        self._programs.remove(program)


def free_port() -> int:
    """A port of loopback that nobody listens to now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def allow_descriptors(wanted: int) -> int:
    """
    Let us and what we start have this many descriptors, or as many as we may.

    :return: how many these are.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in ((wanted, max(wanted, hard)), (min(wanted, hard), hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        except (ValueError, OSError):
            continue
        return limit[0]
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def cpu_seconds(pids: Sequence[int]) -> dict[int, float]:
    """User and system time of each process, with all its threads, to the nanosecond: its CPU clock."""
    # What clock_getcpuclockid(3) makes of a process id. /proc would tell hundredths of a second.
    return {pid: time.clock_gettime((~pid << 3) | 2) for pid in pids}


def resident_kib(pids: Sequence[int]) -> float:
    """Resident memory of some processes together, KiB; what they share counts once (PSS)."""
    return sum(float(psutil.Process(pid).memory_full_info().pss) for pid in pids) / 1024
