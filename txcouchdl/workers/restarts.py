"""When a worker that has ended is started again."""

from typing import Final

#: Seconds of work after which an end is nothing but bad luck.
_WELL: Final = 60.0
#: Seconds to wait after the second end in a row; after each further one twice as many, and at most so many.
_FIRST: Final = 1.0
_MOST: Final = 32.0


class Restarts:
    """The ends of one worker."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def wait(self, worked: float) -> float:
        """
        A worker has ended that should not.

        :param worked: seconds since it was ready; 0 if it never was.
        :return: seconds until the next one is to start; 0 for the first in a row.
        """
        if worked >= _WELL:
            self._in_a_row = 0
        self._in_a_row += 1
        if self._in_a_row == 1:
            return 0.0
        # Nobody counts so far that the power would not fit into a float.
        return min(_MOST, _FIRST * 2.0 ** min(self._in_a_row - 2, 10))
