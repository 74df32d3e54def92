"""
The clients' connections, of all endpoints together: how many there may be, and how they end when the service does.

A connection is *served*, and holds one of the places, from its beginning to its end. One that is served is in one of
four states:

* *unproven*, until its first request has come, all of it;
* *answering*, while a response is under way;
* *resting*, between two requests;
* *begun*, while the next request is coming.

When all places are taken, a new connection gets the place of one that is not answering: of an unproven one, or else of
one that rests, or else of one that has begun; of several in one state, of that which has been in it for longest. For
five seconds a connection keeps its place that waits for its first request, or for the end of its next one: it would get
no answer. Where more than a quarter of all places are unproven, the oldest of these have no such time any more, lest
they drive out all that rest. When an address has as many connections as it may have, a new one gets the place of
another of that address, by the same rules.

If there is none to take the place of, the new connection is refused. That one, or the one whose place it took, *leaves*
for a moment, outside the places, so that what they were sent arrives. They are few. Beyond that, a new connection takes
the place of one that is unproven or has begun, and that one is cut off without an answer; one that rests keeps its
place, since it may still have bytes to take. If there is none, the new connection is cut off.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from txcouchdl.gateway.addresses import Addresses
from txcouchdl.gateway.errors import TOO_MANY_CONNECTIONS, ErrorAnswer
from txcouchdl.gateway.limits import ClientLimits
from txcouchdl.gateway.peers import TrustedProxies
from txcouchdl.gateway.refusals import OVERLOADED
from txcouchdl.gateway.transports import knows_peer, lowest_transport, peer_host

if TYPE_CHECKING:
    from txcouchdl.gateway.channel import GatewayChannel

#: Connections that may leave at the same time: a share of the places, at least so many.
_LEAVING_SHARE: Final = 8
_LEAST_LEAVING: Final = 16

#: Seconds that a connection has for a request to arrive: it would get no answer if it had to give way before.
_BENEFIT: Final = 5.0
#: The share of the places that may be unproven before that time counts for less than the rest of the others.
_UNPROVEN_SHARE: Final = 4

_log = Logger()


class Connections:
    """
    :param reactor: tells the time, and which transports have something to send.
    :param tell: is told how many are served, whenever that changes.
    :param proxies: those that are trusted; by default none.
    """

    def __init__(
        self,
        limits: ClientLimits,
        reactor: Any,
        tell: Callable[[int], object] = lambda _count: None,
        proxies: TrustedProxies | None = None,
    ) -> None:
        self.limits = limits
        self._reactor = reactor
        self._tell = tell
        self._proxies = proxies or TrustedProxies()
        self._addresses = Addresses(limits.connections_per_address, self._proxies, reactor)
        self._served: set[GatewayChannel] = set()
        self._leaving: set[GatewayChannel] = set()
        # Those of trusted proxies.
        self._proxied: set[GatewayChannel] = set()
        # Those that may have to give way, by state: in the order in which they came to it, with the time from which.
        self._unproven: dict[GatewayChannel, float] = {}
        self._resting: dict[GatewayChannel, float] = {}
        self._begun: dict[GatewayChannel, float] = {}
        # What the end of all waits for, and who waits for it.
        self._owed: set[GatewayChannel] = set()
        self._broken_off = 0
        self._ended: Deferred[None] | None = None
        self._is_open = True

    # Places.

    def enter(self, channel: "GatewayChannel") -> None:
        """Give a new connection a place, or refuse it, or drop it."""
        address = self._address_of(channel) if knows_peer(channel.transport) else None
        if not self._is_open:
            self._drop(channel)
        elif self._addresses.is_full(address):
            self._squeeze(channel, address, self._evictable_of(address), TOO_MANY_CONNECTIONS)
        elif len(self._served) < self.limits.max_connections:
            self._serve(channel, address)
        else:
            self._squeeze(channel, address, self._evictable(), OVERLOADED)

    def _address_of(self, channel: "GatewayChannel") -> str | None:
        """The address for which a connection counts, if it does."""
        peer = peer_host(channel.transport)
        if self._proxies.trusts(peer):
            self._proxied.add(channel)
        return self._addresses.of_peer(peer)

    def _squeeze(
        self,
        channel: "GatewayChannel",
        address: str | None,
        evictable: Iterable["GatewayChannel"],
        answer: ErrorAnswer,
    ) -> None:
        """
        Serve a new connection in the place of another, or refuse it, or drop it.

        :param evictable: those whose place it may have.
        :param answer: to the one that leaves, if it has a request or may have one.
        """
        most = most_leaving(self.limits.max_connections)
        is_room = len(self._leaving) < most
        # Clients that send half a request each, and stay when they are refused, would keep all others out.
        candidates = evictable if is_room else (each for each in evictable if each not in self._resting)
        if self._evict_one(candidates, answer if is_room else None):
            self._serve(channel, address)
        # What one crowded address is refused leaves half of these to the others.
        elif len(self._leaving) >= (most // 2 if answer is TOO_MANY_CONNECTIONS else most):
            self._drop(channel)
        else:
            self._leaving.add(channel)
            channel.refuse(answer)

    def _serve(self, channel: "GatewayChannel", address: str | None) -> None:
        self._served.add(channel)
        self._addresses.add(address, channel)
        self._unproven[channel] = self._reactor.seconds() + _BENEFIT
        self._tell(len(self._served))

    def _drop(self, channel: "GatewayChannel") -> None:
        self._leaving.add(channel)
        channel.drop()

    def introduce(self, channel: "GatewayChannel") -> bool:
        """
        The first bytes of a connection told its peer (PROXY protocol). It may be one too many of that address.

        :return: whether it is served.
        """
        address = self._address_of(channel)
        if channel in self._served and self._addresses.is_full(address):
            self._served.remove(channel)
            self.wake(channel)
            self._squeeze(channel, address, self._evictable_of(address), TOO_MANY_CONNECTIONS)
        elif channel in self._served:
            self._addresses.add(address, channel)
        return channel in self._served

    # Who gives way.

    def _evict_one(self, evictable: Iterable["GatewayChannel"], answer: ErrorAnswer | None) -> bool:
        """
        Close the first connection that has nothing left to send.

        :param answer: to a request of which a part has come; ``None`` to cut the connection off.
        :return: whether there was one.
        """
        senders: set[object] | None = None
        for channel in evictable:
            senders = self._senders() if senders is None else senders
            if lowest_transport(channel.transport) not in senders:
                self._served.discard(channel)
                self._addresses.remove(channel)
                self._leaving.add(channel)
                if answer is None:
                    channel.drop()
                else:
                    channel.give_way(answer)
                return True
        return False

    def _evictable(self) -> Iterator["GatewayChannel"]:
        """Those that may have to give way now, in that order."""
        now = self._reactor.seconds()
        is_crowded = len(self._unproven) > max(1, self.limits.max_connections // _UNPROVEN_SHARE)
        yield from takewhile(lambda each: is_crowded or self._unproven[each] <= now, self._unproven)
        yield from self._resting
        yield from takewhile(lambda each: self._begun[each] <= now, self._begun)

    def _evictable_of(self, address: str | None) -> Iterator["GatewayChannel"]:
        """The same of one address, whose unproven connections keep their time: they drive out none but its own."""
        now = self._reactor.seconds()
        oldest = () if address is None else tuple(self._addresses.oldest(address))
        for state in (self._unproven, self._resting, self._begun):
            waiting = {each: since for each in oldest if (since := state.get(each)) is not None and since <= now}
            yield from sorted(waiting, key=lambda each: waiting[each])

    def _senders(self) -> set[object]:
        return set(self._reactor.getWriters())

    # What happens to those that are served.

    def leave(self, channel: "GatewayChannel") -> None:
        """A connection has ended."""
        self.wake(channel)
        self._addresses.remove(channel)
        for each in (self._served, self._leaving, self._owed, self._proxied):
            each.discard(channel)
        self._tell(len(self._served))
        self._notice_end()

    def rest(self, channel: "GatewayChannel") -> None:
        """A connection that is served has no request under way any more."""
        self._resting[channel] = self._reactor.seconds()

    def begin(self, channel: "GatewayChannel") -> None:
        """The first bytes of a request have come, and not all of it."""
        self._resting.pop(channel, None)
        if channel not in self._unproven:
            self._begun[channel] = self._reactor.seconds() + _BENEFIT

    def wake(self, channel: "GatewayChannel") -> None:
        """A request has come, or the connection closes: it does not have to give way."""
        if self._resting.pop(channel, None) is None:
            self._unproven.pop(channel, None)
            self._begun.pop(channel, None)

    # Requests that come through proxies.

    def is_proxied(self, channel: "GatewayChannel") -> bool:
        """Whether a connection is a trusted proxy's."""
        return channel in self._proxied

    def admit(self, channel: "GatewayChannel", client: str) -> bool:
        """
        Count a trusted proxy's connection for the client that it names, until :meth:`release`.

        :param client: as :meth:`.TrustedProxies.client_of` has it.
        :return: whether the client may have another one.
        """
        address = self._addresses.of_client(client)
        if self._addresses.is_full(address):
            return False
        self._addresses.add(address, channel)
        return True

    def release(self, channel: "GatewayChannel") -> None:
        """A request that was admitted has ended."""
        self._addresses.remove(channel)

    # The end of all.

    async def drain(self, seconds: float) -> int:
        """
        End all connections: at once where nothing is owed, behind the response that is under way, and what is left
        after some seconds by force. To be called once, when no port listens any more. All have ended, and their lines
        are in the log, when this does.

        :return: how many responses were broken off.
        """
        self._is_open = False
        senders = self._senders()
        self._owed = {each for each in self._served if each.is_answering or lowest_transport(each.transport) in senders}
        count = len(self._owed)
        if count:
            _log.info("waiting for {count} downloads, at most {seconds:g} s", count=count, seconds=seconds)
        cut_off = self._reactor.callLater(seconds, self.abort)
        for channel in list(self._served):
            channel.wind_up()
        if self._served or self._leaving:
            self._ended = Deferred()
            await self._ended
        if cut_off.active():
            cut_off.cancel()
        if count:
            _log.info("no download is under way any more, {count} were broken off", count=self._broken_off)
        return self._broken_off

    def abort(self) -> None:
        """Break off all connections, and what a drain still waits for."""
        self._broken_off += len(self._owed)
        self._owed.clear()
        for channel in [*self._served, *self._leaving]:
            channel.drop()

    def _notice_end(self) -> None:
        """Perhaps that was the last one."""
        if self._ended is not None and not (self._served or self._leaving):
            ended, self._ended = self._ended, None
            ended.callback(None)


def most_leaving(places: int) -> int:
    """How many connections may be there beyond the places."""
    return max(_LEAST_LEAVING, places // _LEAVING_SHARE)
