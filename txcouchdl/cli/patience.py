"""Whether it is tried again, and after how long. Pure, but for the clock."""

from random import Random
from typing import Final

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from txcouchdl.cli.outcomes import Passing

#: Seconds before the second try; doubled each time, and each time only a part of it, so that not all come at once.
_FIRST_DELAY: Final = 0.5
_LONGEST_DELAY: Final = 30.0
#: The longest that a server may have us wait.
LONGEST_RETRY_AFTER: Final = 120.0


@frozen
class Limits:
    """
    :ivar retries: how often in succession it is tried again without one new byte.
    :ivar give_up: seconds without one after which it is not.
    :ivar timeout: seconds without one after which a connection counts as lost.
    """

    retries: int = 10
    give_up: float = 300.0
    timeout: float = 90.0


class Patience:
    """That with one download, over all its connections."""

    def __init__(self, limits: Limits, clock: IReactorTime, random: Random) -> None:
        self._limits = limits
        self._clock = clock
        self._random = random
        self._last_progress = clock.seconds()
        self._brought = 0

    def progress(self, count: int) -> None:
        """So many new bytes have come."""
        self._brought += count
        self._last_progress = self._clock.seconds()

    def attempts(self) -> "Attempts":
        """Those of one connection."""
        return Attempts(self)

    @property
    def brought(self) -> int:
        return self._brought

    def allows(self, fruitless: int, delay: float) -> bool:
        """Whether there may be another try, after so many and so many seconds."""
        idle = self._clock.seconds() + delay - self._last_progress
        return fruitless <= self._limits.retries and idle < self._limits.give_up

    def jittered(self, delay: float) -> float:
        return delay * self._random.uniform(0.5, 1.0)


class Attempts:
    """One connection's. It becomes slower by itself, but gives up only when no other brings anything either."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._in_a_row = 0
        self._fruitless = 0
        self._brought = patience.brought

    def went_well(self) -> None:
        """It has brought something itself."""
        self._in_a_row = 0

    def next_delay(self, trouble: Passing) -> float | None:
        """:return: seconds to wait before the next one; ``None`` if there is to be none."""
        if self._patience.brought != self._brought:
            self._brought, self._fruitless = self._patience.brought, 0
        self._fruitless += 1
        longest = min(_FIRST_DELAY * 2.0 ** min(self._in_a_row, 10), _LONGEST_DELAY)
        self._in_a_row += 1
        asked_for = min(trouble.retry_after or 0.0, LONGEST_RETRY_AFTER)
        delay = max(self._patience.jittered(longest), asked_for)
        return delay if self._patience.allows(self._fruitless, delay) else None
