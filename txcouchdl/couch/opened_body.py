"""
A body that a node has begun to send: with its place at the node, and the way to the same bytes at another one.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol

from txcouchdl.couch.client import BodyHead
from txcouchdl.couch.cluster import Cluster
from txcouchdl.couch.documents import Digest
from txcouchdl.couch.errors import UpstreamFailure, UpstreamTimeout
from txcouchdl.couch.hedging import Hedge, Race
from txcouchdl.couch.places import Member, Place
from txcouchdl.couch.reading import Request
from txcouchdl.couch.tally import HedgeKind, Tally


@frozen
class Origin:
    """
    Where bodies of one attachment come from.

    :ivar leave: has the route go on at another node than this one, which failed so.
    :ivar open_at: asks a node for the body of a request.
    """

    cluster: Cluster
    leave: Callable[[Member, UpstreamFailure], object]
    open_at: Callable[[Member, Request], Coroutine[Deferred[Any], Any, BodyHead]]


@frozen
class Body:
    """
    A body that was opened, and holds a place at its node until it is vacated.

    :ivar request: the request that it answers: one for all bytes if the node ignores ranges.
    """

    _head: BodyHead
    _place: Place
    request: Request
    _origin: Origin

    @property
    def node(self) -> str:
        """Where it comes from, for the log."""
        return str(self._place.member.client)

    @property
    def are_ranges_ignored(self) -> bool:
        """Whether no node serves ranges, so that another body begins at the first byte."""
        return self._origin.cluster.ranges.is_lost

    @property
    def tally(self) -> Tally:
        """Who counts what becomes of it."""
        return self._origin.cluster.tally

    async def collect(self, count: int, digest: Digest | None, wanted: int | None = None) -> bytes:
        """
        Collect a short body; that of a second node, if this one takes long.

        See :meth:`BodyHead.collect <txcouchdl.couch.client.BodyHead.collect>`.
        """
        hedges = self._origin.cluster.hedges
        if hedges is None:
            return await self._head.collect(count, digest, wanted)

        async def collect_at(place: Place) -> bytes:
            if place is self._place:
                return await self._head.collect(count, digest, wanted)
            head = await self._origin.open_at(place.member, self.request)
            try:
                return await head.collect(count, digest, wanted)
            except UpstreamFailure as error:
                place.member.note_failure(error)
                raise

        race = Race(
            collect_at,
            self._place_elsewhere,
            lambda _: self._overtaken(),
            lambda _, error: isinstance(error, UpstreamFailure),
        )
        stored, place = await race.run(self._place, hedges, HedgeKind.BODY)
        place.vacate()
        return stored

    def _place_elsewhere(self) -> Place | None:
        return self._origin.cluster.spare_place((self._place.member,))

    def _overtaken(self) -> None:
        self._origin.leave(self._place.member, UpstreamTimeout("no byte before another node's, which was asked later"))

    def deliver(self, protocol: IProtocol) -> None:
        """Let it flow into the protocol."""
        self._head.deliver(protocol)

    def hedge(self, start: Callable[[], bool]) -> Hedge | None:
        """
        The hedge of this body; ``None`` if there are none.

        :param start: opens a second body, see :meth:`open_elsewhere`, and returns whether there was a place for it.
        """
        hedges = self._origin.cluster.hedges
        return None if hedges is None else Hedge(hedges, HedgeKind.BODY, start)

    def open_elsewhere(self, request: Request) -> "Deferred[Body] | None":
        """
        Ask another node for some bytes of the same attachment, or for all of them, if nodes ignore ranges.

        :return: ``None`` if there is no place for it now. Fails with an UpstreamFailure.
        """
        place = self._place_elsewhere()
        asked = request.whole if self.are_ranges_ignored and request.byte_range is not None else request
        return None if place is None else Deferred.fromCoroutine(self._open_at(place, asked))

    async def _open_at(self, place: Place, request: Request) -> "Body":
        try:
            head = await self._origin.open_at(place.member, request)
        except BaseException:
            place.vacate()
            raise
        return Body(head, place, request, self._origin)

    def rest(self, give_up: Callable[[], object]) -> None:
        """Nobody wants it just now: see :meth:`.Place.rest`."""
        self._place.rest(give_up)

    def wake(self) -> None:
        """Somebody does."""
        self._place.wake()

    def abandon(self) -> None:
        """Drop the body, which nobody has begun to read, and give back the place."""
        self._head.abandon()
        self._place.vacate()

    def vacate(self) -> None:
        """Give back the place: the body is over."""
        self._place.vacate()

    def lost(self, error: UpstreamFailure) -> None:
        """Give back the place: the body was lost. The route goes on at another node, if there is one."""
        self._origin.leave(self._place.member, error)
        self.vacate()
