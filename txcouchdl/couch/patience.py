"""
How long an exchange with CouchDB is waited for, as the one who waits sees it.
"""

from typing import Final
from typing import Protocol as Interface


class Patience(Interface):
    """
    How long somebody waits.

    :ivar is_committed: whether a client has been told something already, and can be told nothing else.
    :ivar time_left: seconds for a node to answer; ``None`` for as many as there are for any answer.
    """

    @property
    def is_committed(self) -> bool: ...

    @property
    def time_left(self) -> float | None: ...

    def waited(self, seconds: float) -> None:
        """So long it took until there was a place: no node is to blame for it."""


class _Unhurried:
    """The patience of a request whose client has been told nothing."""

    is_committed = False
    time_left = None

    def waited(self, seconds: float) -> None: ...


#: Of who has told nobody anything.
UNHURRIED: Final = _Unhurried()
