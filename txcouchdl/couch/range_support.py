"""
Which nodes ignore ranges. Pure.

CouchDB serves ranges. Some that speak its protocol do not: express-pouchdb, and old proxies before a CouchDB answer a
range with the whole attachment (RFC 9110, section 14.2, allows that). Only the answer to a range shows it. So a node
serves ranges until it has ignored one, and ignores them from then on until it has served one.
"""

from collections.abc import Callable, Collection
from typing import Final, Generic, TypeVar

_Node = TypeVar("_Node")

#: Seconds for which the last answer of a node that ignores ranges is relied on without asking it again.
_RELIABLE: Final = 60.0


class RangeSupport(Generic[_Node]):
    """
    :param size: how many nodes there are.
    :param seconds: tells the time.
    :ivar ignoring: the nodes that ignore ranges.
    """

    def __init__(self, size: int, seconds: Callable[[], float]) -> None:
        self._size = size
        self._seconds = seconds
        # When each of them last ignored a range.
        self._ignored_at: dict[_Node, float] = {}
        self.ignoring: Collection[_Node] = self._ignored_at.keys()

    def ignored(self, node: _Node) -> bool:
        """Note that a node has ignored a range. Return whether that is news."""
        is_news = node not in self._ignored_at
        self._ignored_at[node] = self._seconds()
        return is_news

    def served(self, node: _Node) -> bool:
        """Note that a node has served a range. Return whether that is news."""
        return self._ignored_at.pop(node, None) is not None

    @property
    def is_lost(self) -> bool:
        """Whether all nodes ignore ranges."""
        return len(self._ignored_at) == self._size

    @property
    def is_surely_lost(self) -> bool:
        """Whether all nodes ignore ranges, and one has done so a short while ago."""
        return self.is_lost and max(self._ignored_at.values()) + _RELIABLE > self._seconds()
