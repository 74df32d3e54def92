"""
The nodes of a cluster, and which of them is asked.

Every exchange with a node takes a place there, and a node has so many. It is a node that works, of these the one with
the fewest exchanges under way, and of these each in turn. Where all places are taken, one waits in a queue for the
first that becomes free: a request not for ever, a download that has begun as long as it takes, and before the requests.

A place may *rest*: its holder's client takes nothing just now. Where somebody waits, who has rested longest, and for a
while at least, gives up his place.

CouchDB's own cluster does the rest: any of its nodes answers for all of them.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from txcouchdl.couch.client import CouchClient
from txcouchdl.couch.document_decoder import DocumentDecoder, KeptField
from txcouchdl.couch.document_reader import DocumentReader
from txcouchdl.couch.documents import Absence, Document
from txcouchdl.couch.errors import NoNodeAvailable, Overloaded
from txcouchdl.couch.gathering import Gathering
from txcouchdl.couch.health import USABLE, State
from txcouchdl.couch.health_checks import HealthChecks
from txcouchdl.couch.hedging import Hedges
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.nodes import Node
from txcouchdl.couch.places import Member, Place, Wish
from txcouchdl.couch.range_support import RangeSupport
from txcouchdl.couch.tally import UNCOUNTED, Tally
from txcouchdl.couch.wire.line import Lines

#: Seconds after which a client that was refused for want of a place may well find one.
_RETRY_OVERLOADED: Final = 5.0
#: The least number of seconds to tell a client to wait for a node.
_RETRY_SOONEST: Final = 1.0


_Queue = OrderedDict[Deferred[Place], Wish]


class Cluster:
    """
    :param clients: of the nodes, at least one.
    :param reader: of documents, that of the clients.
    :ivar size: how many nodes there are.
    :ivar limits: what there is of everything.
    :ivar clock: of all waits.
    :ivar documents: reads of documents that are under way.
    :ivar second_reads: those of documents that another node does not have, or not as they are wanted.
    :ivar clients: of the nodes.
    :ivar ranges: which nodes ignore ranges.
    :ivar tally: is told what may be counted.
    :ivar checks: of the nodes, as long as exchanges with them begin.
    :ivar hedges: of exchanges; ``None`` if there are none: with a single node, or by the limits.
    :ivar turns: for work on large documents.
    """

    def __init__(
        self,
        clients: Sequence[CouchClient],
        clock: IReactorTime,
        limits: UpstreamLimits,
        tally: Tally = UNCOUNTED,
        reader: DocumentReader | None = None,
    ) -> None:
        self.clients = tuple(clients)
        self.tally = tally
        self.size = len(clients)
        self.clock = clock
        self.limits = limits
        self._reader = reader or DocumentReader(DocumentDecoder(), limits, clock, tally)
        self.turns = self._reader.turns
        self.ranges: RangeSupport[Member] = RangeSupport(self.size, clock.seconds)
        self.documents: Gathering[tuple[Document | Absence, Member]] = Gathering(clock)
        self.second_reads: Gathering[tuple[Document | None, Member | None]] = Gathering(clock)
        # The first of them is next in turn.
        self._members = [Member(client, clock, self._seat, tally.node(number)) for number, client in enumerate(clients)]
        self._only = self._members[0] if self.size == 1 else None
        self.checks = HealthChecks(tuple(self._members), clock)
        is_hedged = self.size > 1 and limits.hedge_after > 0
        self.hedges = Hedges(limits.hedge_after, self._exchanges, clock, tally) if is_hedged else None
        # Those who are committed first, in the order in which they came; so the others.
        self._committed: _Queue = OrderedDict()
        self._waiting: _Queue = OrderedDict()
        self._is_seating = False
        # In the order in which they came to rest; since when, and whom to tell.
        self._resting: OrderedDict[Place, tuple[float, Callable[[], object]]] = OrderedDict()
        self._next_reclaim: IDelayedCall | None = None

    @classmethod
    def of(
        cls,
        nodes: Sequence[Node],
        lines: Lines,
        clock: IReactorTime,
        limits: UpstreamLimits,
        tally: Tally = UNCOUNTED,
        kept: KeptField | None = None,
    ) -> "Cluster":
        """
        A cluster of these nodes, at least one.

        :param kept: the field that documents keep; by default they keep none.
        """
        reader = DocumentReader(DocumentDecoder(kept), limits, clock, tally)
        clients = [
            CouchClient(node, lines, clock, limits.stall_timeout, tally.node(number), reader)
            for number, node in enumerate(nodes)
        ]
        return cls(clients, clock, limits, tally, reader)

    def likely_place(self, preferred: Member | None, tried: Collection[Member]) -> Place | None:
        """
        A place at once, where there can be no better one: where it is preferred, or at the only node. ``None`` if there
        may be. What is preferred and tried :class:`Wish` says.
        """
        member = preferred or self._only
        if member is None or self._committed or self._waiting or not self._is_best(member, tried):
            return None
        return Place(member, self)

    def spare_place(self, avoided: Collection[Member | None]) -> Place | None:
        """
        Take a place at once for an exchange that could be left out: at a node that is UP, if nobody waits for one, and
        no document waits for memory.

        :param avoided: nodes where it must not be.
        """
        if self._committed or self._waiting or self._reader.is_crowded:
            return None
        others = [each for each in self._members if each not in avoided and self._is_best(each, ())]
        # The turns of the nodes stay as they are.
        return Place(min(others, key=lambda member: member.busy), self) if others else None

    async def place(self, wish: Wish) -> Place:
        """
        A place at a node, as soon as there is one. To be vacated by whoever gets it.

        :raises NoNodeAvailable: if no node works.
        :raises Overloaded: if none was free in time.
        """
        if not self._usable(wish.tried):
            for member in self._members:
                member.health.knock()
        is_first = not (self._committed or (self._waiting and not wish.is_committed))
        place = self._place_now(wish) if is_first else None
        if place is not None:
            return place
        waiting: Deferred[Place] = Deferred(self._forget)
        if wish.is_committed:
            self._committed[waiting] = wish
        else:
            self._waiting[waiting] = wish
        self._tell_queue()
        began = self.clock.seconds()
        self._reclaim()
        try:
            if wish.is_committed:
                return await waiting
            return await waiting.addTimeout(self.limits.queue_timeout, self.clock)
        except defer.TimeoutError:
            self.tally.overloaded()
            raise Overloaded(
                "no node had a free slot in time (--max-upstream, --queue-timeout)", _RETRY_OVERLOADED
            ) from None
        finally:
            self.tally.waited(self.clock.seconds() - began)

    def stop(self) -> None:
        """Ask no node any more how it does."""
        self.checks.stop()
        if self.hedges is not None:
            self.hedges.stop()
        for member in self._members:
            member.health.stop()
        self._expect_no_rest()

    def _exchanges(self) -> int:
        return sum(member.busy for member in self._members)

    # Places at rest.

    def rest(self, place: Place, give_up: Callable[[], object]) -> None:
        """See :meth:`Place.rest`."""
        self._resting[place] = (self.clock.seconds(), give_up)
        if self._committed or self._waiting:
            self._expect_rest()

    def wake(self, place: Place) -> None:
        """See :meth:`Place.wake`."""
        self._resting.pop(place, None)

    def vacated(self, place: Place) -> None:
        """A place is free."""
        self._resting.pop(place, None)
        self._seat()

    def _reclaim(self) -> None:
        """Take the places that have rested long enough, as long as somebody waits."""
        self._expect_no_rest()
        while self._resting and (self._committed or self._waiting):
            place, (since, give_up) = next(iter(self._resting.items()))
            if since + self.limits.give_way_after > self.clock.seconds():
                self._expect_rest()
                return
            # Who gives up vacates, and somebody is seated.
            del self._resting[place]
            give_up()

    def _expect_rest(self) -> None:
        if self._next_reclaim is None:
            since, _ = next(iter(self._resting.values()))
            left = max(0.0, since + self.limits.give_way_after - self.clock.seconds())
            self._next_reclaim = self.clock.callLater(left, self._reclaim_in_time)

    def _expect_no_rest(self) -> None:
        if self._next_reclaim is not None:
            self._next_reclaim.cancel()
            self._next_reclaim = None

    def _reclaim_in_time(self) -> None:
        self._next_reclaim = None
        self._reclaim()

    # Those who wait.

    def _forget(self, waiting: "Deferred[Place]") -> None:
        self._committed.pop(waiting, None)
        self._waiting.pop(waiting, None)
        self._tell_queue()
        if not (self._committed or self._waiting):
            self._expect_no_rest()

    def _seat(self) -> None:
        """Give what is free to those who wait, in the order in which they came."""
        # Who gets a place may vacate it at once.
        if self._is_seating:
            return
        self._is_seating = True
        try:
            while (queue := self._committed or self._waiting) and self._seat_first(queue):
                pass
        finally:
            self._is_seating = False
        if not (self._committed or self._waiting):
            self._expect_no_rest()

    def _seat_first(self, queue: "_Queue") -> bool:
        """Whether there was a place, or none to be hoped for, for the one who waits first."""
        waiting, wish = next(iter(queue.items()))
        try:
            place = self._place_now(wish)
        except NoNodeAvailable as error:
            self._leave_queue(queue, waiting)
            waiting.errback(error)
            return True
        if place is None:
            return False
        self._leave_queue(queue, waiting)
        waiting.callback(place)
        return True

    def _leave_queue(self, queue: "_Queue", waiting: "Deferred[Place]") -> None:
        del queue[waiting]
        self._tell_queue()

    def _tell_queue(self) -> None:
        self.tally.queue(len(self._committed) + len(self._waiting))

    def _place_now(self, wish: Wish) -> Place | None:
        """
        A place, if one is free. Where no node works, there may be one as soon as they have been asked again.

        :raises NoNodeAvailable: if no node works.
        """
        usable = self._usable(wish.tried)
        if not usable and not any(member.health.is_asked for member in self._members):
            raise self._none_available()
        # Who cannot be had where it is best goes where it has not worked before, rather than to hold up all others.
        member = self._free(usable, wish.preferred) or self._free(self._usable(()), wish.preferred)
        return Place(member, self) if member is not None else None

    def _usable(self, tried: Collection[Member]) -> list[Member]:
        """Nodes that are equally good, of the best there are; none if all are down."""
        return next((group for group in self._groups(tried) if group), [])

    def _groups(self, tried: Collection[Member]) -> Iterator[list[Member]]:
        untried = [member for member in self._members if member not in tried]
        for members in untried, self._members:
            for state in USABLE:
                yield [member for member in members if member.health.state is state]

    def _is_best(self, member: Member, tried: Collection[Member]) -> bool:
        """Whether there can be no better one than this, which is preferred or the only one."""
        is_free = member.busy < self.limits.max_upstream
        return is_free and member.health.state is State.UP and member not in tried

    def _free(self, usable: list[Member], preferred: Member | None) -> Member | None:
        free = [member for member in usable if member.busy < self.limits.max_upstream]
        if not free:
            return None
        if preferred in free:
            return preferred
        chosen = min(free, key=lambda member: member.busy)
        # Whoever was chosen is the last to be chosen again among equals.
        self._members.remove(chosen)
        self._members.append(chosen)
        return chosen

    def _none_available(self) -> NoNodeAvailable:
        wait = min(member.health.retry_after for member in self._members)
        return NoNodeAvailable("no node works", max(wait, _RETRY_SOONEST))
