"""
A worker's log, on its way to the log of its crew.

What is logged goes through the pipe in as few pieces as the reactor makes of it. Where the crew comes after with
reading, some lines wait here, and what does not fit is counted and lost: a slow log shall hold nobody up.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IPushProducer
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText, globalLogPublisher
from zope.interface import implementer

from txcouchdl.workers.messages import report

#: Characters of one event.
_LONGEST_EVENT: Final = 2**16
#: Bytes that wait for a crew that is slow.
_MOST_WAITING: Final = 2**20
_KIND: Final = "log"


@implementer(ILogObserver, IPushProducer)
class PipedLog:
    """
    The worker's end: takes its events, and is paused when the pipe is full.

    :param write: takes what is to go through the pipe.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._waiting: deque[bytes] = deque()
        self._length = 0
        self._lost = 0
        self._is_paused = False

    def __call__(self, event: LogEvent) -> None:
        if text := eventAsText(event, includeTimestamp=False, includeSystem=False):
            self._send(report(_KIND, _told(event, text[:_LONGEST_EVENT])))

    def _send(self, line: bytes) -> None:
        if not self._is_paused:
            self._write(line)
        elif self._length + len(line) <= _MOST_WAITING:
            self._waiting.append(line)
            self._length += len(line)
        else:
            self._lost += 1

    def pauseProducing(self) -> None:
        self._is_paused = True

    def resumeProducing(self) -> None:
        self._is_paused = False
        while self._waiting and not self._is_paused:
            line = self._waiting.popleft()
            self._length -= len(line)
            # May pause us.
            self._write(line)
        if self._lost and not self._is_paused:
            lost, self._lost = self._lost, 0
            event: LogEvent = {"log_level": LogLevel.warn, "log_namespace": __name__}
            self._write(report(_KIND, _told(event, f"{lost} lines are lost: the log is too slow")))

    def stopProducing(self) -> None:
        """Nobody reads it any more."""
        self._is_paused = True


def _told(event: LogEvent, text: str) -> dict[str, Any]:
    level = event.get("log_level")
    told = {
        "text": text,
        "time": event.get("log_time"),
        "level": None if level is None else level.name,
        "namespace": event.get("log_namespace"),
        "system": event.get("log_system"),
    }
    return {name: value for name, value in told.items() if value is not None}


def relog(told: dict[str, Any], worker: int) -> None:
    """
    The crew's end: log what a worker has logged, as if it had happened here, in its words and at its time.

    :param worker: its number, which the event gets.
    """
    event: LogEvent = {f"log_{name}": value for name, value in told.items() if name != "text"}
    event["log_level"] = LogLevel.lookupByName(told.get("level", "info"))
    event |= {"log_format": "{text}", "text": told["text"], "worker": worker}
    globalLogPublisher(event)
