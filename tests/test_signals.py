"""Signals, one inside the other. How they end a process is in ``test_shutdown``."""

import signal
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.error import ReactorNotRunning

from txcouchdl import signals


class Loop:
    """What a reactor is to signals."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        self.is_stopping = False

    def callFromThread(self, function: Callable[..., object], *arguments: object) -> None:
        self.calls.append((function, arguments))

    def addSystemEventTrigger(self, *_: object) -> None: ...

    def stop(self) -> None:
        if self.is_stopping:
            raise ReactorNotRunning
        self.is_stopping = True

    def run(self) -> None:
        for function, arguments in self.calls:
            function(*arguments)


def test_signals_that_come_faster_than_they_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call of Python's may be the place where the next one is heeded."""
    handlers: dict[int, Any] = {}

    def install(number: int, handler: Any) -> None:
        if handler is signal.SIG_IGN and handlers[signal.SIGTERM] is not signal.SIG_IGN:
            handlers[signal.SIGTERM](signal.SIGTERM, None)
        handlers[number] = handler

    monkeypatch.setattr(signal, "signal", install)
    loop, hurried = Loop(), [0]

    def hurry() -> None:
        hurried[0] += 1

    signals.heed_signals(loop, hurry)
    for _ in range(2):
        handlers[signal.SIGTERM](signal.SIGTERM, None)
    loop.run()
    assert loop.is_stopping
    assert hurried == [1]
    assert set(handlers.values()) == {signal.SIG_IGN}
