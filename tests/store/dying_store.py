"""
Run as a process of its own by test_killed_writes.py: serves the stores that it is told of on its input, each until it
kills itself, with SIGKILL, at a given step of its writers' threads.

A step is a call from Python into C, or the return from one: of SQLite's, the operating system's, zlib's and hashlib's
functions, that is, among others. So the store can be killed before and after each thing that a write does. Each store
lives in a fork of this process, which has imported what it needs: many can die in little time.
"""

import os
import signal
import sys
import threading
from pathlib import Path

from twisted.internet.default import install

from tests.store.serving import ServedStore


def _serve(directory: Path, steps: int) -> None:
    """Serve until the writers have taken so many steps; say where."""
    # One of our own: the one that the imports made is the other forks', too.
    del sys.modules["twisted.internet.reactor"]
    install()
    from twisted.internet import reactor

    left = steps

    def die_in_time(_frame: object, event: str, _function: object) -> None:
        nonlocal left
        left -= event in {"c_call", "c_return"}
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(die_in_time)
    _say(ServedStore.start(directory, reactor).port)
    reactor.run()


def _say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    for line in sys.stdin:
        name, _, steps = line.rpartition(" ")
        if (child := os.fork()) == 0:
            _serve(Path(name), int(steps))
        os.waitpid(child, 0)
        _say("dead")
