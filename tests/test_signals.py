"""
Signals that come one inside the other, and those that end nothing. How a process ends by one is in ``test_shutdown``,
and what it reads again in ``test_reload``.
"""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import ReactorNotRunning

from tests.nodes import needs_proc
from tests.running import ANY_PORT, daemon
from tests.test_shutdown import LARGE, download, gateway, store  # noqa: F401
from tests.test_shutdown import arguments as in_front_of
from tests.test_workers import TWO, children, take, workers
from txcouchdl import signals
from txcouchdl.options import Options
from txcouchdl.service import makeService

ENDING = {signal.SIGTERM, signal.SIGINT}
IDLE = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
either = pytest.mark.parametrize("more", [(), (TWO,)], ids=["alone", "workers"])


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

    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_DFL)
    signals.heed_signals(loop, hurry)
    for _ in range(2):
        handlers[signal.SIGTERM](signal.SIGTERM, None)
    loop.run()
    assert loop.is_stopping
    assert hurried == [1]
    assert {handlers[each] for each in ENDING} == {signal.SIG_IGN}


def test_reloads_for_which_there_is_no_time_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop of signals does not keep the gateway from its work; the last of them is never lost."""
    handlers: dict[int, Any] = {}
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    loop, reloads = Loop(), []
    signals.heed_reload(loop, lambda: reloads.append(len(loop.calls)))
    for _ in range(1000):
        handlers[signal.SIGHUP](signal.SIGHUP, None)
    loop.run()
    assert reloads == [1]
    handlers[signal.SIGHUP](signal.SIGHUP, None)
    assert len(loop.calls) == 2


@pytest.fixture
def own_signals() -> Iterator[None]:
    """Signals as they are, again behind the test."""
    before = {each: signal.getsignal(each) for each in IDLE}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("own_signals")
def test_a_signal_during_the_start_ends_nothing() -> None:
    """systemd and logrotate may send one as soon as there is a process."""
    for each in (signal.SIGHUP, signal.SIGUSR2):
        signal.signal(each, signal.SIG_DFL)
    options = Options()
    options.parseOptions(["-l", ANY_PORT])
    makeService(options)
    for each in (signal.SIGHUP, signal.SIGUSR2):
        assert callable(signal.getsignal(each))


@needs_proc
@either
def test_signals_that_end_nothing(more: tuple[str, ...], store: Path) -> None:  # noqa: F811
    """A terminal or ``systemctl kill`` sends them to every process; a download notices nothing."""
    with gateway(store, *more) as process:
        pids = [process.pid, *(workers(process) if more else [])]
        with download(process.port()) as connection:
            for number in IDLE:
                for pid in pids:
                    os.kill(pid, number)
            process.out.wait_for("SIGHUP: logs are reopened, certificates and secret files have been read again")
            for name in ("SIGUSR1", "SIGUSR2"):
                process.out.wait_for(f"{name} does nothing: SIGHUP reopens logs")
            assert take(connection, len(LARGE)) == LARGE
        assert set(children(process.pid)) == set(pids[1:])
        assert process.stop() == 0
        assert "Traceback" not in process.text()


def test_a_daemon_rotates_its_log_by_one_of_them(store: Path) -> None:  # noqa: F811
    """As every daemon of twistd's. It keeps its pidfile, and the signal is not ours."""
    with daemon(store.parent, *in_front_of(store)) as process:
        assert process.started.returncode == 0
        pid = process.pidfile.read_text("ascii")
        process.signal(signal.SIGUSR1)
        # Until then, lines are still the former file's.
        process.wait_for_log(r"\A(?!.*starting up)")
        process.signal(signal.SIGUSR2)
        process.wait_for_log("SIGUSR2 does nothing")
        process.signal(signal.SIGHUP)
        process.wait_for_log("SIGHUP: logs are reopened")
        assert process.pidfile.read_text("ascii") == pid
        assert "starting up" in (store.parent / "couchdl.log.1").read_text("utf-8")
        process.signal(signal.SIGTERM)
        process.wait_for_end()
        assert not process.pidfile.exists()
        assert "Traceback" not in process.log
