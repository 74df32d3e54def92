"""
The signals of the service: SIGTERM and SIGINT end it, SIGHUP reloads it, and others end nothing.

With Twisted's own handlers, twistd ends by the signal even where all has ended well, and a second signal is an error in
the log. With these, the first stops the reactor, and with it the service; a second means: at once.
"""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

_ENDING: Final = (signal.SIGTERM, signal.SIGINT)
#: Nothing is to be done for these, and by themselves they would end the process.
_IDLE: Final = (signal.SIGUSR1, signal.SIGUSR2)

_log = Logger()


def heed_reload(reactor: Any, reload: Callable[[], object]) -> None:
    """
    Let SIGHUP reload. To be called as early as possible; what comes before the reactor runs waits for it.

    :param reload: is called once for all signals that have come since the last call.
    """
    signal.signal(signal.SIGHUP, _once(reactor, reload))
    # twistd has a use for the other one, if its log is a file, and looks for a handler later than this.
    signal.signal(signal.SIGUSR2, _once(reactor, lambda: _tell_idle("SIGUSR2")))


def heed_signals(reactor: Any, hurry: Callable[[], object]) -> None:
    """
    Let SIGTERM and SIGINT stop a reactor. To be called when it has installed its own handlers.

    :param hurry: is called when a signal comes while the reactor is stopping already.
    """

    heeded: list[int] = []

    def heed(number: int, _frame: FrameType | None) -> None:
        # Between any two instructions of whatever is running, this function included: somebody may send many, faster
        # than they are ignored.
        if len(heeded) > 1:
            return
        heeded.append(number)
        if len(heeded) > 1:
            ignore(*_ENDING)
        reactor.callFromThread(stop, signal.Signals(number).name)

    def stop(name: str) -> None:
        try:
            reactor.stop()
            _log.info("{name}: ending", name=name)
        except ReactorNotRunning:
            _log.info("{name} again: ending at once", name=name)
            hurry()

    def ignore(*numbers: signal.Signals) -> None:
        # After the second, there is nothing more to say. And when all has ended well, Python would let go of our
        # handlers before it exits, and be killed.
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)

    for each in _ENDING:
        signal.signal(each, heed)
    if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
        signal.signal(signal.SIGUSR1, _once(reactor, lambda: _tell_idle("SIGUSR1")))
    reactor.addSystemEventTrigger("after", "shutdown", ignore, *_ENDING, *_IDLE, signal.SIGHUP)


def _once(reactor: Any, action: Callable[[], object]) -> Callable[[int, FrameType | None], None]:
    """A handler that has the reactor act once for all signals that have come since it last did."""
    waiting: list[int] = []

    def act() -> None:
        waiting.clear()
        action()

    def heed(number: int, _frame: FrameType | None) -> None:
        # A signal that comes between these two lines is heeded twice.
        if not waiting:
            waiting.append(number)
            reactor.callFromThread(act)

    return heed


def _tell_idle(name: str) -> None:
    _log.info("{name} does nothing: SIGHUP reopens logs, and reads certificates and secret files again", name=name)
