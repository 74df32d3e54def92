"""
A network in memory: real protocols on both sides, no sockets, no threads, no time but its own.

Unlike Twisted's in-memory transports this one has flow control in both directions, which is what is under test:
a paused reader stops the flow, a full send buffer pauses the producer behind it, and bytes wait in between.

Nothing moves by itself: :meth:`Network.run` moves everything until nothing moves any more.
"""

from collections.abc import Callable, Iterable
from socket import MSG_PEEK
from typing import Any

from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IPushProducer, IStreamClientEndpoint, ITCPTransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from txcouchdl.couch.wire.connection import Means
from txcouchdl.couch.wire.line import Lines
from txcouchdl.couch.wire.pipes import Conduit

#: As twisted.internet.abstract.FileDescriptor.bufferSize.
SEND_BUFFER = 2**16
#: Bytes that one delivery carries at most, as one read of a socket does.
READ_SIZE = 2**16


@implementer(ITCPTransport, IPushProducer)
class End:
    """One end of a connection: the transport of one protocol."""

    disconnecting = False

    def __init__(self, network: "Network", address: IPv4Address | IPv6Address) -> None:
        self.network = network
        self.address = address
        self.peer: End
        self.protocol: Any = None
        self.sent = bytearray()
        # How many bytes the peer has been given.
        self.delivered = 0
        self.is_connected = True
        self.is_paused = False
        self.loss: BaseException | None = None
        # As TLS does; TCP says it again at every write.
        self.pauses_once = False
        # What the peer sees when this end closes.
        self.farewell: BaseException = ConnectionDone()
        # Why this end was lost, once it is.
        self.reason: BaseException | None = None
        self._producer: Any = None
        self._is_streaming = True
        self._producer_is_paused = False
        # Whether this end sends nothing more, and the peer has not been told.
        self._is_half_closing = False
        # Called when something comes, by who empties it past the transport.
        self.wake: Callable[[], object] | None = None

    # ITransport and IConsumer

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        if not self.is_connected:
            return
        self.sent += data
        if self._producer is None:
            return
        if not self._is_streaming:
            self._producer_is_paused = True
        # At every write beyond, as real transports do.
        elif len(self.sent) > SEND_BUFFER and not (self.pauses_once and self._producer_is_paused):
            self._producer_is_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self._producer is None
        if not self.is_connected:
            producer.stopProducing()
            return
        self._producer, self._producer_is_paused, self._is_streaming = producer, False, streaming
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self._producer = None

    def loseConnection(self) -> None:
        if self.is_connected:
            self.disconnecting = True
            # As a socket's: nothing more is read.
            self.is_paused = True

    def reset_when_sent(self) -> None:
        """As a node that is killed: what it has sent arrives, and then a reset."""
        self.farewell = ConnectionLost()
        self.loseConnection()

    def abortConnection(self) -> None:
        if self.is_connected and self.loss is None:
            self.sent.clear()
            self.loss = ConnectionAborted()

    def loseWriteConnection(self) -> None:
        self.loseConnection()

    def half_close(self) -> None:
        """As a client's ``shutdown(SHUT_WR)``: the peer is told behind what was sent; this end still receives."""
        self._is_half_closing = True

    def getPeer(self) -> IPv4Address | IPv6Address:
        return self.peer.address

    def getHost(self) -> IPv4Address | IPv6Address:
        return self.address

    def startWriting(self) -> None:
        """As FileDescriptor: a producer that is pulled is asked for more when all has been sent."""
        self._producer_is_paused = True

    # As a socket.

    @property
    def dataBuffer(self) -> bytes:
        return bytes(self.sent)

    def doWrite(self) -> None:
        """What there is to send is sent by a turn of the network's."""

    def setsockopt(self, level: int, name: int, value: int, /) -> None: ...

    def send(self, data: bytes) -> int:
        room = SEND_BUFFER - len(self.sent)
        if room <= 0 or not self.is_connected:
            raise BlockingIOError if self.is_connected else BrokenPipeError
        self.sent += data[:room]
        return min(room, len(data))

    def sendmsg(self, buffers: Iterable[bytes]) -> int:
        return self.send(b"".join(buffers))

    def recv(self, most: int, flags: int = 0) -> bytes:
        """What has been sent to it, by no turn of the network's."""
        if self.loss is not None or self.reason is not None:
            raise ConnectionResetError
        data = bytes(self.peer.sent[:most])
        if not data and not self.peer.disconnecting:
            raise BlockingIOError
        if not flags & MSG_PEEK:
            del self.peer.sent[:most]
            self.peer.delivered += len(data)
        return data

    # IPushProducer

    def pauseProducing(self) -> None:
        self.is_paused = True

    def resumeProducing(self) -> None:
        if self.is_connected and not self.disconnecting:
            self.is_paused = False

    def stopProducing(self) -> None:
        self.loseConnection()

    # ITCPTransport's rest

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        pass

    # What the network does.

    def step(self) -> bool:
        """Move what can be moved from here; whether anything did."""
        if not self.is_connected:
            return False
        if self.loss is not None:
            self._lose(self.loss)
            self.peer._hang_up(ConnectionLost())
            return True
        if self.sent and not self.peer.is_paused:
            self._deliver()
            return True
        if self.sent and self.peer.wake is not None:
            waiting = len(self.sent)
            self.peer.wake()
            return len(self.sent) != waiting
        if self._is_half_closing and not self.sent and not self.peer.is_paused and self.peer.is_connected:
            self._is_half_closing = False
            self.peer.protocol.readConnectionLost()
            return True
        # Whoever does not read does not hear of the end either, unless he has closed himself.
        if self.disconnecting and not self.sent and (self.peer.disconnecting or not self.peer.is_paused):
            self._lose(ConnectionDone())
            self.peer._hang_up(self.farewell)
            return True
        return self._wake_producer()

    def _deliver(self) -> None:
        data = bytes(self.sent[:READ_SIZE])
        del self.sent[:READ_SIZE]
        if self.peer.is_connected:
            self.delivered += len(data)
            self.peer.protocol.dataReceived(data)

    def _wake_producer(self) -> bool:
        if self._producer is None or not self._producer_is_paused or self.sent:
            return False
        self._producer_is_paused = False
        self._producer.resumeProducing()
        return True

    def _hang_up(self, loss: BaseException) -> None:
        """The peer is gone. What it sent before has been delivered, or is lost with it."""
        if self.is_connected:
            self._lose(loss)

    def _lose(self, loss: BaseException) -> None:
        self.is_connected = False
        self.reason = loss
        self.sent.clear()
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        self.protocol.connectionLost(Failure(loss))


class Network(Clock):
    """
    A reactor for those who need one, with servers by port.

    :ivar connections: all that were made, pairs of (client's end, server's end).
    """

    def __init__(self) -> None:
        super().__init__()
        self.connections: list[tuple[End, End]] = []
        # Those of them that have an end that is up.
        self._open: list[tuple[End, End]] = []
        self._servers: dict[int, IProtocolFactory | None] = {}
        self._next_port = 40000

    def listen(self, port: int, factory: IProtocolFactory | None) -> None:
        """Let a factory answer on a port; ``None`` refuses again."""
        self._servers[port] = factory

    def endpoint(self, port: int) -> IStreamClientEndpoint:
        """For those who connect to a port by an endpoint."""
        return _Endpoint(self, port)

    def connect(self, port: int, protocol: IProtocol, host: str = "127.0.0.1") -> End:
        """
        Connect a protocol to a port at once.

        :param host: the address that the connection comes from.
        :raises error.ConnectionRefusedError: if nobody listens.
        """
        factory = self._servers.get(port)
        if factory is None:
            raise error.ConnectionRefusedError
        self._next_port += 1
        kind = IPv6Address if ":" in host else IPv4Address
        near = End(self, kind("TCP", host, self._next_port))
        far = End(self, IPv4Address("TCP", "127.0.0.1", port))
        near.peer, far.peer = far, near
        near.protocol, far.protocol = protocol, factory.buildProtocol(near.address)
        self.connections.append((near, far))
        self._open.append((near, far))
        far.protocol.makeConnection(far)
        near.protocol.makeConnection(near)
        return near

    def run(self, until: Callable[[], object] = lambda: False) -> None:
        """Move bytes, and do what is due at once, until nothing moves any more or the condition holds."""
        for _ in range(1_000_000):
            if until():
                return
            self._open = [pair for pair in self._open if pair[0].is_connected or pair[1].is_connected]
            ends = [end for pair in self._open for end in pair]
            moved = [end.step() for end in ends]
            if not self._turn() and not any(moved):
                return
        raise AssertionError("the network does not come to rest")

    def _turn(self) -> bool:
        """
        Run what is due, as one turn of a reactor does; whether anything was. ``Clock.advance`` would also run what
        that schedules for the next turn.
        """
        due = [call for call in self.calls if call.getTime() <= self.seconds()]
        for call in due:
            if call.active():
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)
        return bool(due)

    def getWriters(self) -> list[End]:
        """The transports that have something to send, as IReactorFDSet has it."""
        return [end for pair in self._open for end in pair if end.is_connected and end.sent]

    def pass_time(self, seconds: float, step: float = 1.0) -> None:
        """Let time go by, everything moving meanwhile."""
        while seconds > 0:
            self.advance(min(step, seconds))
            seconds -= step
            self.run()

    def elapse(self, seconds: float) -> None:
        """The same in as few steps as there are things due meanwhile, each at its very time."""
        end = self.seconds() + seconds
        self.run()
        while (left := end - self.seconds()) > 0:
            due = min((call.getTime() for call in self.calls), default=end) - self.seconds()
            # A sum of floats may fall short of what is due.
            self.advance(min(left, max(due, 1e-6)))
            self.run()

    def open_connections(self, port: int) -> int:
        """How many connections to a port are up."""
        return sum(far.is_connected and far.address.port == port for _, far in self._open)


@implementer(IStreamClientEndpoint)
class _Endpoint:
    def __init__(self, network: Network, port: int) -> None:
        self._network = network
        self._port = port

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[IProtocol]":  # noqa: N803 (the interface's)
        protocol = protocolFactory.buildProtocol(IPv4Address("TCP", "127.0.0.1", self._port))
        assert protocol is not None
        try:
            self._network.connect(self._port, protocol)
        except error.ConnectionRefusedError as refusal:
            return fail(refusal)
        return succeed(protocol)


class MemoryConduit:
    """As a :class:`~txcouchdl.couch.wire.pipes.SocketConduit`, without sockets."""

    size = 100_000

    def __init__(self, end: End, missing: int, wake: Callable[[], object]) -> None:
        self._end = end
        self._wake = wake
        self._pipe = bytearray()
        self.missing = missing
        self.inside = 0

    def put(self, data: bytes) -> None:
        self._pipe += data
        self.inside += len(data)

    def fill(self) -> int:
        data = self._end.recv(min(self.missing, self.size - self.inside))
        self.put(data)
        self.missing -= len(data)
        return len(data)

    def drain(self, outlet: Any, most: int, tap: Callable[[memoryview], object] | None) -> int:
        count: int = outlet.plain.send(bytes(self._pipe[:most]))
        if tap is not None:
            tap(memoryview(bytes(self._pipe[:count])))
        del self._pipe[:count]
        self.inside -= count
        return count

    def take(self) -> bytes:
        taken = bytes(self._pipe)
        self._pipe.clear()
        self.inside = 0
        return taken

    def watch(self) -> None:
        self._end.wake = self._wake

    def rest(self) -> None:
        self._end.wake = None

    def close(self) -> None:
        self.rest()


class MemoryMeans(Means):
    """Every end is a plain socket; or none is."""

    def __init__(self, network: Network, is_plain: bool) -> None:
        super().__init__(network)
        self._is_plain = is_plain

    def plain(self, transport: object) -> Any:
        return transport if self._is_plain else None

    def conduit(self, plain: Any, low_water: object, missing: int, wake: Callable[[], object]) -> Conduit:
        return MemoryConduit(plain, missing, wake)


class MemoryLines(Lines):
    """
    Lines over a network in memory.

    :param is_plain: whether bytes can pass us by.
    """

    def __init__(self, network: Network, is_plain: bool = False) -> None:
        super().__init__(network, MemoryMeans(network, is_plain))
        self._network = network

    def endpoint(self, host: str, port: int) -> IStreamClientEndpoint:
        return self._network.endpoint(port)
