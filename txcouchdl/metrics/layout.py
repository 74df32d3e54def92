"""
Which number is where: all that is counted, and whatever labels tell it apart, is known before anything happens. So no
client and no node adds a number, and a table of them has a fixed size.

A row of numbers begins with the counters, which only grow, and ends with the gauges, which belong to the process that
has the row now.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import Final

from attrs import field, frozen

from txcouchdl.couch.tally import HedgeKind

_CLIENT_ERRORS: Final = (400, 401, 403, 404, 405, 408, 412, 413, 414, 416, 429, 431)
#: The statuses of answers; 499 is that of a client that left before there was one.
STATUSES: Final = (200, 204, 206, 304, *_CLIENT_ERRORS, 499, 500, 502, 503, 504)
#: What became of a request, if it was not answered with one of these.
LEFT: Final = "left"
BROKEN_OFF: Final = "broken_off"
OTHER: Final = "other"
OUTCOMES: Final = (*map(str, STATUSES), LEFT, BROKEN_OFF, OTHER)

#: What was wrong with a transfer, so that another had to follow.
LOST: Final = "lost"
STALLED: Final = "stalled"
CORRUPT: Final = "corrupt"
WRONG: Final = "wrong"
LOSSES: Final = (LOST, STALLED, CORRUPT, WRONG)

#: What a second node was asked for because the first one took long.
HEDGES: Final = tuple(kind.value for kind in HedgeKind)

#: Seconds. Above the last bucket's there is another one.
BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_MICRO: Final = 1_000_000


@frozen
class Histogram:
    """
    The places of a number for each bucket, not cumulated, and of the sum in microseconds.

    :ivar first: the first bucket's.
    :ivar total: the sum's.
    """

    first: int
    total: int = field(init=False)

    @total.default
    def _behind_the_buckets(self) -> int:
        return self.first + len(BOUNDS) + 1

    def observe(self, numbers: memoryview, seconds: float) -> None:
        """Count a time. One below 0 is none: somebody has set the clock back."""
        numbers[self.first + bisect_left(BOUNDS, seconds)] += 1
        if seconds > 0:
            numbers[self.total] += int(seconds * _MICRO)

    def cumulated(self, numbers: Sequence[int]) -> list[int]:
        """For each bucket how many times are in it and in those before it; of the last one, how many there are."""
        counted = 0
        return [counted := counted + each for each in numbers[self.first : self.total]]

    def seconds(self, numbers: Sequence[int]) -> float:
        """The sum."""
        return numbers[self.total] / _MICRO


@frozen
class NodePlaces:
    """
    The places of one node's numbers.

    :ivar base: its URL, without credentials.
    """

    base: str
    answers: Histogram
    failures: int
    down: int
    aside: int


class Layout:
    """
    The places of all numbers in a row.

    :param nodes: the URLs of the nodes, without credentials, in the order of the settings.
    :ivar gauges: where they begin.
    :ivar length: of a row: whole lines of a processor's cache, so that two processes do not share one.
    """

    def __init__(self, nodes: Sequence[str]) -> None:
        places = count()
        self.outcomes = {outcome: next(places) for outcome in OUTCOMES}
        self.losses = {loss: next(places) for loss in LOSSES}
        self.hedges = {kind: next(places) for kind in HEDGES}
        self.hedges_won = {kind: next(places) for kind in HEDGES}
        self.sent = next(places)
        self.wrong_tokens = next(places)
        self.guesses_delayed = next(places)
        self.guesses_refused = next(places)
        self.overloaded = next(places)
        self.deaths = next(places)
        self.waits = _histogram(places)
        counters = [(_histogram(places), next(places)) for _ in nodes]
        self.gauges = next(places)
        self.workers = self.gauges
        self.moved = next(places)
        self.connections = next(places)
        self.parked = next(places)
        self.queue = next(places)
        self.nodes = tuple(
            NodePlaces(base, *each, next(places), next(places)) for base, each in zip(nodes, counters, strict=True)
        )
        self.length = -(-next(places) // 8) * 8


def _histogram(places: Iterator[int]) -> Histogram:
    first, *_ = islice(places, len(BOUNDS) + 2)
    return Histogram(first)
