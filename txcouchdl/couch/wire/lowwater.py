"""
Low-water marks: how much is to be there before we are woken for it.

CouchDB sends attachments in pieces of 4 KiB, and each wakes us. With ``SO_RCVLOWAT`` the kernel wakes us when there is
as much as makes it worth while. A mark above what is still to come would wait for ever, so it is never higher than
that; and a slow node would be waited for, so who has been waited for since the last tick is content with anything.
"""

import socket
from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Seconds that what has come may wait for more.
TICK: Final = 0.02
#: Bytes of the first mark. It is doubled whenever so much came in time.
FIRST_MARK: Final = 4 * 2**10


class HasMark(Protocol):
    """A socket, as far as we need one."""

    def setsockopt(self, level: int, name: int, value: int, /) -> None: ...


class Ticker:
    """Ticks as long as somebody waits."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: set[LowWater] = set()
        self._next: IDelayedCall | None = None

    def add(self, waiting: "LowWater") -> None:
        self._waiting.add(waiting)
        if self._next is None:
            self._next = self._clock.callLater(TICK, self._tick)

    def remove(self, waiting: "LowWater") -> None:
        """One that does not wait is none."""
        self._waiting.discard(waiting)

    def _tick(self) -> None:
        self._next = self._clock.callLater(TICK, self._tick) if self._waiting else None
        for each in list(self._waiting):
            each.tick()


class LowWater:
    """
    The mark of one socket, while a body comes in.

    :param most: bytes that it is never above.
    """

    def __init__(self, plain: HasMark, ticker: Ticker, most: int) -> None:
        self._plain = plain
        self._ticker = ticker
        self._most = most
        self._aim = FIRST_MARK
        self._mark = 1
        self._has_ticked = False

    def expect(self, missing: int) -> None:
        """
        So many bytes are still to come, and are waited for. To be told whenever that has changed: some have been read
        then, and how many at once tells how many to wait for.

        :param missing: not yet read, wherever they are; 0 if what comes is of no known length.
        """
        if not self._has_ticked:
            self._aim = min(2 * self._aim, self._most)
        self._has_ticked = False
        self._set(max(1, min(missing, self._aim)))
        if self._mark > 1:
            self._ticker.add(self)
        else:
            self._ticker.remove(self)

    def widen(self, most: int) -> None:
        """Raise the most."""
        self._most = most

    def rest(self) -> None:
        """Nothing is waited for."""
        self._ticker.remove(self)

    def end(self) -> None:
        """The body is over; the socket is as it was."""
        self._ticker.remove(self)
        self._set(1)

    def tick(self) -> None:
        """Nothing was read since the last tick, or what was, was read then: do not wait any longer."""
        if self._has_ticked:
            self._aim = max(self._aim // 4, FIRST_MARK)
            self._set(1)
            self._ticker.remove(self)
        self._has_ticked = True

    def _set(self, mark: int) -> None:
        if mark != self._mark:
            self._mark = mark
            # Whatever is there and enough now, the kernel tells of.
            self._plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, mark)
