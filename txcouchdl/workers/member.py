"""One place in a crew: the worker that fills it, and the next one when that has died."""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IDelayedCall, IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from txcouchdl.metrics.counts import Counts
from txcouchdl.workers.loads import Load
from txcouchdl.workers.log_pipe import relog
from txcouchdl.workers.messages import (
    HURRY,
    ORDERS,
    REPORTS,
    STOP,
    STRAY,
    Refusals,
    Reload,
    Reports,
    Task,
    packed,
    packed_order,
)
from txcouchdl.workers.restarts import Restarts

#: Of the environment, what is not for workers: they have it from us, and it may be secret, or somebody else's.
_OURS: Final = ("COUCHDB_URL", "COUCHDL_", "DOWNLOAD_TOKEN_KEY_NAME", "LISTEN_")

_log = Logger()


class Member:
    """
    :param inherited: descriptors of ours, by their numbers there.
    :param load: its number of connections.
    :param counts: its row: whoever fills the place goes on in it.
    """

    def __init__(self, task: Task, inherited: Mapping[int, int], load: Load, counts: Counts, reactor: Any) -> None:
        self.number = task.number
        self._task = task
        self._descriptors = {ORDERS: "w", **dict.fromkeys((*STRAY, REPORTS), "r"), **inherited}
        self._load = load
        self._counts = counts
        self._reactor = reactor
        self._restarts = Restarts()
        self._process: IProcessTransport | None = None
        self._ready_since: float | None = None
        self._again: IDelayedCall | None = None
        self._is_stopping = False
        self._ended: Deferred[None] | None = None

    def start(self) -> None:
        """Start a worker."""
        self._again = self._ready_since = None
        if self._is_stopping:
            return
        command = [sys.executable, "-P", "-m", "txcouchdl.workers", str(self.number)]
        try:
            self._process = self._reactor.spawnProcess(
                _Hand(self), command[0], command, environment(os.environ), childFDs=self._descriptors
            )
        except OSError as error:
            self._start_again(f"cannot be started: {error}")
        else:
            self._tell(packed(self._task))

    def _tell(self, data: bytes) -> None:
        if self._process is not None:
            self._process.writeToChild(ORDERS, data)

    # What a worker's pipes bring.

    def heed(self, kind: str, value: Any) -> None:
        """Take a report."""
        if kind == "log":
            relog(value, self.number)
        elif kind == "ready" and self._process is not None:
            self._ready_since = self._reactor.seconds()
            _log.info("worker {number} is ready, its pid is {pid}", number=self.number, pid=self._process.pid)

    def ended(self, reason: Failure) -> None:
        """A worker has ended, and all that it reported has been read."""
        self._process = None
        self._load.leave()
        self._counts.vacate()
        if self._ended is not None:
            self._ended.callback(None)
        if self._is_stopping:
            if not reason.check(ProcessDone):
                _log.error("worker {number} {how}", number=self.number, how=how_it_ended(reason))
        else:
            self._counts.died()
            self._start_again(how_it_ended(reason))

    def _start_again(self, why: str) -> None:
        worked = 0.0 if self._ready_since is None else self._reactor.seconds() - self._ready_since
        wait = self._restarts.wait(worked)
        when = f"in {wait:g} s" if wait else "at once"
        _log.error("worker {number} {why}; the next one starts {when}", number=self.number, why=why, when=when)
        self._again = self._reactor.callLater(wait, self.start)

    def reload(self, order: Reload) -> None:
        """Give the worker what has been read again; the next worker starts with it."""
        pairs = zip(self._task.endpoints, order.certificates, strict=True)
        endpoints = tuple(evolve(endpoint, certificates=certificates) for endpoint, certificates in pairs)
        settings = evolve(self._task.settings, link_secret=order.link_secret)
        self._task = evolve(self._task, settings=settings, endpoints=endpoints)
        self._tell(packed_order(order))

    def refuse(self, news: Refusals) -> None:
        """Tell the worker, and the next one, which nodes refuse the gateway's user."""
        self._task = evolve(self._task, refusals=news)
        self._tell(packed_order(news))

    # The end.

    def stop(self) -> None:
        """Let it end when what is under way has, and start no other."""
        self._is_stopping = True
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self._tell(STOP)

    def hurry(self) -> None:
        """Let it break off what is under way. To be called behind :meth:`stop`."""
        self._tell(HURRY)

    def kill(self) -> None:
        """End it by force, if it is still there."""
        if self._process is not None:
            _log.error("worker {number} is killed", number=self.number)
            with suppress(ProcessExitedAlready):
                self._process.signalProcess("KILL")

    async def wait_for_end(self) -> None:
        """To be called once, behind :meth:`stop`."""
        if self._process is not None:
            self._ended = Deferred()
            await self._ended


class _Hand(ProcessProtocol):
    """Reads one worker's pipes."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._reports = Reports()

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N803 (Twisted's)
        if childFD != REPORTS:
            # A Python that cannot start, or one that crashes. Whatever it says, it is short.
            text = data.decode("utf-8", "backslashreplace").rstrip("\n")
            _log.error("worker {number}: {text}", number=self._member.number, text=text)
            return
        try:
            for kind, value in self._reports.feed(data):
                self._member.heed(kind, value)
        except Exception:
            _log.failure("worker {number} reports what nobody understands", number=self._member.number)
            self._member.kill()

    def processEnded(self, reason: Failure) -> None:
        self._member.ended(reason)


def how_it_ended(reason: Failure) -> str:
    error = reason.value
    if isinstance(error, ProcessTerminated) and error.signal is not None:
        return f"was killed by signal {error.signal}"
    return f"has ended with status {getattr(error, 'exitCode', None)}"


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """A worker's: ours, without what is meant for us alone, and with our way to the modules."""
    kept = {name: value for name, value in ours.items() if not name.startswith(_OURS)}
    return kept | {"PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
