"""From a command's function to a process: the reactor, signals, and the exit status."""

import os
import signal
import sys
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, Final, NoReturn

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import react

#: A command at work; returns its exit status.
_Work = Coroutine["Deferred[Any]", Any, int]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def run(work: Callable[[Any], _Work]) -> NoReturn:
    """
    Run a command in a reactor, and exit with the status that it returns. SIGINT and SIGTERM cancel it, and it ends in
    its own time; a second one ends the process at once.

    :param work: takes the reactor.
    """
    react(_main, (work,))
    sys.exit(0)


def _main(reactor: Any, work: Callable[[Any], _Work]) -> "Deferred[None]":
    async def main() -> None:
        working: Deferred[int] = Deferred.fromCoroutine(work(reactor))
        received = _heed_signals(reactor, working)
        try:
            status = await working
        except CancelledError:
            status = 128 + received[0] if received else 1
        raise SystemExit(status)

    return Deferred.fromCoroutine(main())


def _heed_signals(reactor: Any, working: "Deferred[int]") -> list[int]:
    """:return: which have come, from then on."""
    received: list[int] = []

    def heed(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            os._exit(128 + number)
        reactor.callFromThread(working.cancel)

    def install() -> None:
        for each in _SIGNALS:
            signal.signal(each, heed)

    # Behind the reactor's own.
    reactor.callWhenRunning(install)
    return received
