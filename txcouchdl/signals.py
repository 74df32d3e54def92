"""
The signals that end the service.

With Twisted's own handlers, twistd ends by the signal even where all has ended well, and a second signal is an error in
the log. With these, the first stops the reactor, and with it the service; a second means: at once.
"""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

_log = Logger()


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
            ignore()
        reactor.callFromThread(stop, signal.Signals(number).name)

    def stop(name: str) -> None:
        try:
            reactor.stop()
            _log.info("{name}: ending", name=name)
        except ReactorNotRunning:
            _log.info("{name} again: ending at once", name=name)
            hurry()

    def ignore() -> None:
        # After the second, there is nothing more to say. And when all has ended well, Python would let go of our
        # handlers before it exits, and be killed.
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)

    for each in _SIGNALS:
        signal.signal(each, heed)
    reactor.addSystemEventTrigger("after", "shutdown", ignore)
