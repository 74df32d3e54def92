"""
What is told of clients and their requests, to whoever counts it. By itself, this counts nothing.

Who counts does it in next to no time: of every request something is told.
"""

from enum import Enum
from typing import Final


class End(Enum):
    """How an answer has ended that was not sent to its end."""

    LEFT = "its connection was lost"
    BROKEN_OFF = "it could not be completed"


class Tally:
    """What is told."""

    def answered(self, status: int) -> None:
        """
        A request has been, to the end.

        :param status: of the answer; 499 if the client left before there was one.
        """

    def cut_short(self, end: End) -> None:
        """An answer has been."""

    def sent(self, count: int) -> None:
        """So many bytes of bodies more have been sent."""

    def wrong_token(self) -> None:
        """Count a token, or a link's signature, that was compared and is wrong."""

    def guess_delayed(self) -> None:
        """Count a request whose secret has to wait until it is compared."""

    def guess_refused(self) -> None:
        """Count a request whose secret is not compared: a 429."""

    def connections(self, count: int) -> None:
        """So many are served from now on."""


#: For what need not be counted.
UNCOUNTED: Final = Tally()
