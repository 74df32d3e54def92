"""One process' row of numbers, and who writes them down as they are told."""

from typing import Final

from txcouchdl.couch.errors import BadUpstream, CorruptAttachment, UpstreamFailure, UpstreamTimeout
from txcouchdl.couch.tally import HedgeKind, NodeTally
from txcouchdl.couch.tally import Tally as CouchTally
from txcouchdl.gateway.tally import End
from txcouchdl.gateway.tally import Tally as ClientTally
from txcouchdl.metrics.layout import (
    BROKEN_OFF,
    CORRUPT,
    LEFT,
    LOST,
    OTHER,
    STALLED,
    STATUSES,
    WRONG,
    NodePlaces,
)
from txcouchdl.metrics.table import Table

#: The first that fits.
_LOSSES: Final = (
    (CorruptAttachment, CORRUPT),
    (UpstreamTimeout, STALLED),
    (BadUpstream, WRONG),
    (UpstreamFailure, LOST),
)


class Counts(CouchTally, ClientTally):
    """
    :param number: of the process, from 0 on: its row's.
    """

    def __init__(self, table: Table, number: int = 0) -> None:
        self._numbers = numbers = table.row(number)
        self._layout = layout = table.layout
        self._statuses = {status: layout.outcomes[str(status)] for status in STATUSES}
        self._other = layout.outcomes[OTHER]
        self._sent = layout.sent
        self._nodes = [_NodeCounts(places, numbers) for places in layout.nodes]

    # The process itself.

    def answers(self) -> None:
        """It answers clients from now on."""
        self._numbers[self._layout.workers] = 1

    def moves(self, now: float) -> None:
        """It does not hang: to be said every second, from the first time on. By itself a process need not."""
        self._numbers[self._layout.moved] = int(now)

    def vacate(self) -> None:
        """It has ended, and whatever it had is gone. For another one: of a process that has ended nobody hears."""
        for gauge in range(self._layout.gauges, self._layout.length):
            self._numbers[gauge] = 0

    def died(self) -> None:
        """It ended, and should not have."""
        self._numbers[self._layout.deaths] += 1

    # Clients.

    def answered(self, status: int) -> None:
        self._numbers[self._statuses.get(status, self._other)] += 1

    def cut_short(self, end: End) -> None:
        self._numbers[self._layout.outcomes[LEFT if end is End.LEFT else BROKEN_OFF]] += 1

    def sent(self, count: int) -> None:
        self._numbers[self._sent] += count

    def wrong_token(self) -> None:
        self._numbers[self._layout.wrong_tokens] += 1

    def guess_delayed(self) -> None:
        self._numbers[self._layout.guesses_delayed] += 1

    def guess_refused(self) -> None:
        self._numbers[self._layout.guesses_refused] += 1

    def connections(self, count: int) -> None:
        self._numbers[self._layout.connections] = count

    # CouchDB.

    def node(self, number: int) -> NodeTally:
        return self._nodes[number]

    def queue(self, length: int) -> None:
        self._numbers[self._layout.queue] = length

    def waited(self, seconds: float) -> None:
        self._layout.waits.observe(self._numbers, seconds)

    def overloaded(self) -> None:
        self._numbers[self._layout.overloaded] += 1

    def healed(self, loss: UpstreamFailure) -> None:
        kind = next(name for kind, name in _LOSSES if isinstance(loss, kind))
        self._numbers[self._layout.losses[kind]] += 1

    def hedged(self, kind: HedgeKind) -> None:
        self._numbers[self._layout.hedges[kind.value]] += 1

    def hedge_won(self, kind: HedgeKind) -> None:
        self._numbers[self._layout.hedges_won[kind.value]] += 1

    def parked(self, more: int) -> None:
        self._numbers[self._layout.parked] += more


class _NodeCounts(NodeTally):
    def __init__(self, places: NodePlaces, numbers: memoryview) -> None:
        self._places = places
        self._numbers = numbers
        self._answers = places.answers

    def answered(self, seconds: float) -> None:
        self._answers.observe(self._numbers, seconds)

    def failed(self) -> None:
        self._numbers[self._places.failures] += 1

    def is_down(self, is_down: bool) -> None:
        self._numbers[self._places.down] = is_down

    def is_aside(self, is_aside: bool) -> None:
        self._numbers[self._places.aside] = is_aside
