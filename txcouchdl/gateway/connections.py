"""
The clients' connections, of all endpoints together: how many there may be, and how they end when the service does.

A connection is *served*, and holds one of the places, from its beginning to its end. Of those that are served, some
*rest*: no request is under way, before the first one or between two. When all places are taken, the one that has rested
longest gives its place up to a new one; if none rests, the new one is refused. Both *leave* for a moment, outside the
places, so that what they were sent arrives. They are few, and beyond that a new connection is dropped without a word.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from txcouchdl.gateway.errors import ErrorAnswer
from txcouchdl.gateway.limits import ClientLimits

if TYPE_CHECKING:
    from txcouchdl.gateway.channel import GatewayChannel

_OVERLOADED: Final = ErrorAnswer(
    503, "service_unavailable", "There are too many connections.", (("Retry-After", "10"),)
)
#: Connections that may leave at the same time: a share of the places, at least so many.
_LEAVING_SHARE: Final = 8
_LEAST_LEAVING: Final = 16

#: Seconds that a new connection has for its first request to arrive: it would get no answer if it had to give way.
_BENEFIT: Final = 5.0

_log = Logger()


class Connections:
    """
    :param reactor: tells the time, and which transports have something to send.
    :param tell: is told how many are served, whenever that changes.
    """

    def __init__(self, limits: ClientLimits, reactor: Any, tell: Callable[[int], object] = lambda _count: None) -> None:
        self.limits = limits
        self._reactor = reactor
        self._tell = tell
        self._served: set[GatewayChannel] = set()
        self._leaving: set[GatewayChannel] = set()
        # In the order in which they came to rest, with the time from which they may have to give way.
        self._resting: dict[GatewayChannel, float] = {}
        # What the end of all waits for, and who waits for it.
        self._owed: set[GatewayChannel] = set()
        self._broken_off = 0
        self._ended: Deferred[None] | None = None
        self._is_open = True

    # Places.

    def enter(self, channel: "GatewayChannel") -> None:
        """Give a new connection a place, or refuse it, or drop it."""
        if self._is_open and len(self._served) < self.limits.max_connections:
            self._serve(channel)
        elif not self._is_open or len(self._leaving) >= most_leaving(self.limits.max_connections):
            self._leaving.add(channel)
            channel.drop()
        elif (resting := self._longest_resting()) is not None:
            self._served.remove(resting)
            self._leaving.add(resting)
            self._serve(channel)
            resting.give_way()
        else:
            self._leaving.add(channel)
            channel.refuse(_OVERLOADED)

    def _serve(self, channel: "GatewayChannel") -> None:
        self._served.add(channel)
        self._resting[channel] = self._reactor.seconds() + _BENEFIT
        self._tell(len(self._served))

    def leave(self, channel: "GatewayChannel") -> None:
        """A connection has ended."""
        self.wake(channel)
        for each in (self._served, self._leaving, self._owed):
            each.discard(channel)
        self._tell(len(self._served))
        self._notice_end()

    def rest(self, channel: "GatewayChannel") -> None:
        """A connection that is served has no request under way any more."""
        self._resting[channel] = self._reactor.seconds()

    def wake(self, channel: "GatewayChannel") -> None:
        """A connection rests no longer."""
        self._resting.pop(channel, None)

    def _longest_resting(self) -> "GatewayChannel | None":
        """Of those that have nothing left to send."""
        senders, now = self._senders(), self._reactor.seconds()
        ready = (each for each, since in self._resting.items() if since <= now)
        return next((each for each in ready if each.lowest_transport not in senders), None)

    def _senders(self) -> set[object]:
        return set(self._reactor.getWriters())

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
        self._owed = {each for each in self._served if each.is_answering or each.lowest_transport in senders}
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
