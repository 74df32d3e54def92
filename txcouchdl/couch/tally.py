"""
What is told of our dealings with CouchDB, to whoever counts it. By themselves, these count nothing.

Who counts does it in next to no time: of every exchange something is told.
"""

from enum import Enum
from typing import Final

from txcouchdl.couch.errors import UpstreamFailure


class HedgeKind(Enum):
    """What a second exchange with a node is begun for."""

    DOCUMENT = "document"
    HEAD = "head"
    BODY = "body"


class NodeTally:
    """What is told of one node."""

    def answered(self, seconds: float) -> None:
        """The head of an answer has come, so long after it was asked for. Below 0 where the clock was set back."""

    def failed(self) -> None:
        """It has refused or lost a connection, or has answered with a 5xx or not in time."""

    def is_down(self, is_down: bool) -> None:
        """Whether it counts as down from now on."""

    def is_aside(self, is_aside: bool) -> None:
        """Note whether health checks have set the node aside from now on."""


class Tally:
    """What is told of all of them."""

    def node(self, number: int) -> NodeTally:
        """:param number: of a node, from 0 on, in the order of the settings."""
        return NodeTally()

    def queue(self, length: int) -> None:
        """So many wait for a place from now on."""

    def waited(self, seconds: float) -> None:
        """Somebody has waited so long for a place, and got it or not. Below 0 where the clock was set back."""

    def overloaded(self) -> None:
        """A request got no place in time."""

    def healed(self, loss: UpstreamFailure) -> None:
        """A download goes on behind a loss."""

    def hedged(self, kind: HedgeKind) -> None:
        """Count an exchange that was begun at a second node as well."""

    def hedge_won(self, kind: HedgeKind) -> None:
        """Count one where the second node was faster."""

    def parked(self, more: int) -> None:
        """So many streams more, or, below 0, less, are parked."""


#: For what need not be counted.
UNCOUNTED: Final = Tally()
