"""
Whether a body that was lost is begun again: after what, how often, after how long, and until when.

One attempt follows the other ever more slowly, until one has gone well; and they end when no new byte has come for too
long. Time in which none could come, because nobody wanted any or there was no place, does not count.
"""

from typing import Final

from twisted.internet.interfaces import IReactorTime

from txcouchdl.couch.errors import (
    BadUpstream,
    CorruptAttachment,
    Overloaded,
    UpstreamFailure,
    UpstreamTimeout,
    UpstreamUnavailable,
)

#: How often a body is begun, as long as nothing has been told to the client.
_UNCOMMITTED_ATTEMPTS: Final = 3
#: Seconds to wait before the second attempt in succession; the first is made at once. Doubled each time.
_FIRST_DELAY: Final = 0.1
#: The longest that it becomes.
_LONGEST_DELAY: Final = 2.0
#: Bytes after which a transfer counts as one that went well, and the next attempt as a first one.
_WENT_WELL: Final = 64 * 2**10
# What may be otherwise at the next attempt.
_PASSING: Final = (UpstreamUnavailable, UpstreamTimeout, BadUpstream, Overloaded)


class Attempts:
    """
    Those of one reading to go on, each with a transfer of its own.

    :param give_up: seconds without one new byte after which there are no more.
    """

    def __init__(self, give_up: float, clock: IReactorTime) -> None:
        self._give_up = give_up
        self._clock = clock
        # Since a transfer went well.
        self._in_a_row = 0
        self._brought = 0
        self._last_progress = clock.seconds()
        self._has_doubted_end = False

    def begun(self) -> None:
        """A transfer has been opened."""
        self._brought = 0

    def progress(self, count: int) -> None:
        """It has brought so many new bytes."""
        self._last_progress = self._clock.seconds()
        self._brought += count
        if self._brought > _WENT_WELL:
            self._in_a_row = 0

    def waited(self, seconds: float) -> None:
        """So long no byte could come, and no node is to blame for it."""
        self._last_progress += seconds

    @property
    def time_left(self) -> float:
        """Seconds until it is given up; below 0 afterwards."""
        return self._last_progress + self._give_up - self._clock.seconds()

    @property
    def are_few(self) -> bool:
        """Whether the next is one of those that are made before something has been told to the client."""
        return self._in_a_row + 1 < _UNCOMMITTED_ATTEMPTS

    def may_help(self, error: UpstreamFailure) -> bool:
        """Whether another may go better, after this loss. What is not what its digest says is read again once."""
        if isinstance(error, CorruptAttachment):
            is_first, self._has_doubted_end = not self._has_doubted_end, True
            return is_first
        return isinstance(error, _PASSING)

    def next_delay(self) -> float | None:
        """
        Another is to be made, if there is time.

        :return: seconds until then; ``None`` if that is too late.
        """
        delay = min(_FIRST_DELAY * 2.0 ** (min(self._in_a_row, 10) - 1), _LONGEST_DELAY) if self._in_a_row else 0.0
        if delay >= self.time_left:
            return None
        self._in_a_row += 1
        return delay
