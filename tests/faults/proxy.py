"""
A TCP proxy that stands between the gateway and a node, and does them harm.

It runs on any reactor, the one in memory included. Between faults it changes no byte: what it does not understand goes
through as it is, and when one side hangs up, the other is hung up on in the same way.
"""

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure

from tests.faults.connections import Connection, Downstream, Hangup, HeadTooLong, Upstream, UpstreamLost
from tests.faults.exchange import PIECE, Exchange
from tests.faults.schedule import Schedule


class FaultyProxy(Factory):
    """
    The proxy, to be listened with.

    :param node: where the node is.
    :ivar schedule: may be exchanged for another at any time.
    """

    noisy = False

    def __init__(self, node: IStreamClientEndpoint, schedule: Schedule, clock: IReactorTime) -> None:
        self.node = node
        self.schedule = schedule
        self.clock = clock
        self.clients: set[Connection] = set()
        self.upstreams: set[Connection] = set()
        self.failures: list[Failure] = []
        self._resting: list[Deferred[None]] = []

    def buildProtocol(self, addr: IAddress | None) -> "_Client":
        return _Client(self)

    @property
    def open_connections(self) -> tuple[int, int]:
        """How many there are: from clients, and to the node."""
        return len(self.clients), len(self.upstreams)

    def assert_at_rest(self) -> None:
        """No connection is open, and nothing went wrong but what should."""
        assert not self.failures, self.failures
        assert self.open_connections == (0, 0)

    async def rest(self) -> None:
        """Wait until no connection is open: on a real network the last one's end takes a moment."""
        if self.open_connections != (0, 0):
            self._resting.append(Deferred())
            await self._resting[-1]
        self.assert_at_rest()

    def lost(self, connection: Connection) -> None:
        """One of them is gone."""
        self.clients.discard(connection)
        self.upstreams.discard(connection)
        if self.open_connections == (0, 0):
            resting, self._resting = self._resting, []
            for each in resting:
                each.callback(None)


class _Client(Downstream):
    """A client's connection, and with it its own to the node, from the first request that goes there."""

    def __init__(self, proxy: FaultyProxy) -> None:
        super().__init__()
        self._proxy = proxy
        self._upstream: Upstream | None = None
        self._serving: Deferred[None]
        self._relaying: Deferred[None]

    def connectionMade(self) -> None:
        super().connectionMade()
        self._proxy.clients.add(self)
        self._serving = Deferred.fromCoroutine(self._serve())
        self._serving.addErrback(self._failed)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._serving.cancel()
        self._relaying.cancel()
        if self._upstream is not None:
            self._upstream.hang_up(Hangup.of(reason))
        self._proxy.lost(self)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._proxy.failures.append(failure)
            self.hang_up(Hangup.RST)

    async def _serve(self) -> None:
        """One exchange after the other."""
        how: Hangup | None = None
        try:
            while how is None:
                how = await self._exchange()
        except UpstreamLost as loss:
            how = loss.how
        except ConnectError:
            how = Hangup.FIN
        except HeadTooLong:
            how = Hangup.RST
        self.hang_up(how)

    async def _exchange(self) -> Hangup | None:
        self._relaying = Deferred.fromCoroutine(self._relay_surplus())
        self._relaying.addErrback(self._failed)
        request = await self.request()
        self._relaying.cancel()
        proxy = self._proxy
        applied = proxy.schedule.next(request.asked)
        return await applied.fault.play(Exchange(request, self, self._connect, proxy.clock, applied.strike))

    async def _relay_surplus(self) -> None:
        """Pass on what the node says without having been asked, as long as nobody asks."""
        if self._upstream is None:
            return
        try:
            while True:
                await self.send(await self._upstream.read(PIECE))
        except UpstreamLost as loss:
            self.hang_up(loss.how)

    async def _connect(self) -> Upstream:
        if self._upstream is None:
            upstream = Upstream(self._proxy.lost)
            await self._proxy.node.connect(_Once(upstream))
            self._proxy.upstreams.add(upstream)
            self._upstream = upstream
        return self._upstream


class _Once(Factory):
    """Makes the one connection."""

    noisy = False

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def buildProtocol(self, addr: IAddress | None) -> Upstream:
        return self._upstream
