"""
One answer of a node: its head, and its body on its way to whoever wants it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse
from zope.interface import implementer

from txcouchdl.couch.wire.chunks import BadChunks, ChunkDecoder
from txcouchdl.couch.wire.heads import AnswerHead, Framing
from txcouchdl.couch.wire.lowwater import LowWater
from txcouchdl.couch.wire.pipes import Conduit

if TYPE_CHECKING:
    from txcouchdl.couch.wire.connection import Connection

#: Bytes that a transport reads at once.
ONE_READ: Final = 64 * 2**10
#: Bytes that a conduit is woken for at the most.
_MANY_READS: Final = 512 * 2**10
#: Bytes that are not worth a mark: two system calls, to be woken a few times less.
_FEW: Final = 16 * 2**10

_DONE: Final = Failure(ResponseDone())
_BROKEN: Final = Failure(ResponseFailed([Failure(BadChunks())]))


@implementer(IResponse)
class Answer:
    """
    :ivar head: as it came.
    :ivar length: bytes of the body, or UNKNOWN_LENGTH.
    """

    request = None
    phrase = b""
    version = (b"HTTP", 1, 1)
    previousResponse = None  # noqa: N815 (IResponse's)

    def __init__(self, head: AnswerHead, body: "Body") -> None:
        self.head = head
        self.code = head.status
        self.length: Any = UNKNOWN_LENGTH if head.length is None else head.length
        self._body = body

    @property
    def headers(self) -> Headers:
        return Headers({name: [value] for name, value in self.head.fields.items()})

    def deliverBody(self, protocol: IProtocol) -> None:
        """
        Let the body flow into a protocol. To be called once. The protocol's transport is the :class:`Body`; its
        connection is lost with ResponseDone where the body is complete.
        """
        self._body.deliver(protocol)

    def setPreviousResponse(self, response: IResponse) -> None:
        raise NotImplementedError("no redirect is followed")


@implementer(IPushProducer)
class Body:
    """
    The body of an answer, as a transport. It counts what comes, and gives its connection back behind the last byte.

    :param is_to_close: whether the body is everything up to the close, whatever length it claims.
    """

    def __init__(self, connection: "Connection", head: AnswerHead, is_to_close: bool) -> None:
        self._connection: Connection | None = connection
        self._framing = Framing.CLOSE if is_to_close else head.framing
        # Bytes still to come, as far as a length is claimed.
        self._missing = head.length or 0
        self._chunks = ChunkDecoder() if self._framing is Framing.CHUNKED else None
        self._protocol: IProtocol | None = None
        self._held: list[bytes] = []
        self._loss: Failure | None = None
        self._given_back: Connection | None = None
        self._is_paused = False
        self._is_held = False
        self._low_water: LowWater | None = None
        self._conduit: Conduit | None = None

    # From the connection.

    def received(self, data: bytes) -> None:
        """The next bytes of the connection. Until somebody wants them they are kept as they are."""
        if self._protocol is None:
            self._held.append(data)
        elif self._chunks is not None:
            self._receive_chunks(self._protocol, self._chunks, data)
        elif self._framing is Framing.LENGTH:
            self._receive_counted(self._protocol, data)
        else:
            self._missing = max(0, self._missing - len(data))
            self._protocol.dataReceived(data)
        self._await_more()

    def _receive_counted(self, protocol: IProtocol, data: bytes) -> None:
        surplus = len(data) - self._missing
        if surplus > 0:
            data = data[: self._missing]
        self._missing -= len(data)
        if data:
            protocol.dataReceived(data)
        if not self._missing:
            self._finish(_DONE, is_clean=surplus <= 0)

    def _receive_chunks(self, protocol: IProtocol, chunks: ChunkDecoder, data: bytes) -> None:
        try:
            body = chunks.feed(data)
        except BadChunks:
            self._finish(_BROKEN, is_clean=False)
            return
        if body:
            protocol.dataReceived(body)
        if chunks.is_complete:
            self._finish(_DONE, is_clean=not chunks.surplus)

    def lost(self, reason: Failure) -> None:
        """The connection has ended."""
        self._connection = None
        if self._low_water is not None:
            # Its socket is closed.
            self._low_water.rest()
            self._low_water = None
        self._forget_socket()
        self._loss = Failure(ResponseFailed([reason]))
        if self._protocol is not None:
            self._tell_end(self._loss)

    def _finish(self, end: Failure, *, is_clean: bool) -> None:
        """The body is over, unless whoever has it has dropped it meanwhile."""
        connection, self._connection = self._connection, None
        self._forget_socket()
        if connection is not None:
            connection.answered(is_clean=is_clean, is_paused=self._is_paused or self._is_held)
            self._given_back = connection
        self._tell_end(end)
        self._given_back = None

    def _tell_end(self, end: Failure) -> None:
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connectionLost(end)

    def distrust(self) -> None:
        """The body is not what it should be. While its end is told: there may be more of that behind it."""
        if self._given_back is not None:
            self._given_back.abort()

    def _await_more(self) -> None:
        if self._low_water is not None and not self._is_paused and self._conduit is None:
            self._low_water.expect(self._missing)

    @property
    def is_flowing(self) -> bool:
        """Whether somebody wants more of it, from the connection."""
        return self._protocol is not None and not self._is_paused and self._conduit is None

    # To the protocol.

    def hold(self) -> None:
        """Nobody wants it yet: let no more come in."""
        if self._protocol is None and self._connection is not None:
            self._is_held = True
            self._transport.pauseProducing()

    def deliver(self, protocol: IProtocol) -> None:
        self._protocol = protocol
        protocol.makeConnection(self)  # type: ignore[arg-type]
        held, self._held = b"".join(self._held), []
        self.received(held)
        if self._loss is not None:
            self._tell_end(self._loss)
        elif self._connection is not None and self._conduit is None:
            if self._is_held and not self._is_paused:
                self._transport.resumeProducing()
            self._is_held = False
            if self._connection.plain is not None and self._missing > _FEW:
                self._low_water = self._connection.low_water(ONE_READ)
            self._await_more()

    # For the protocol.

    def pauseProducing(self) -> None:
        self._is_paused = True
        if self._low_water is not None:
            self._low_water.rest()
        if self._connection is not None and self._conduit is None:
            self._transport.pauseProducing()

    def resumeProducing(self) -> None:
        self._is_paused = False
        if self._connection is not None and self._conduit is None:
            if not self._is_held:
                self._transport.resumeProducing()
            self._await_more()

    def stopProducing(self) -> None:
        """Drop the connection, if the body is not over."""
        connection, self._connection = self._connection, None
        self._forget_socket()
        self._protocol = None
        if connection is not None:
            connection.abort()

    # The direct way.

    def conduit(self, wake: Callable[[], object]) -> Conduit | None:
        """
        The rest of the body past this process; ``None`` where that cannot be. Nothing more comes to the protocol until
        it is closed.

        :param wake: called when there may be something to fill it with.
        """
        connection = self._connection
        if connection is None or connection.plain is None or self._chunks is not None or not self._missing:
            return None
        self._is_held = False
        self._transport.pauseProducing()
        self._low_water = self._low_water or connection.low_water(ONE_READ)
        self._low_water.widen(_MANY_READS)
        try:
            self._conduit = connection.conduit(self._low_water, self._missing, wake)
        except OSError:
            # No descriptors for a pipe.
            if not self._is_paused:
                self._transport.resumeProducing()
        return self._conduit

    def conducted(self) -> None:
        """The conduit has taken what it will: the rest is the protocol's again."""
        conduit, self._conduit = self._conduit, None
        if conduit is None:
            return
        self._missing = conduit.missing
        conduit.close()
        if self._framing is Framing.LENGTH and not self._missing:
            self._is_paused = True
            self._finish(_DONE, is_clean=True)
        elif not self._is_paused:
            self._transport.resumeProducing()
            self._await_more()

    @property
    def _transport(self) -> IPushProducer:
        """The connection's, while there is one."""
        return cast(IPushProducer, cast("Connection", self._connection).transport)

    def _forget_socket(self) -> None:
        if self._low_water is not None:
            self._low_water.end()
            self._low_water = None
        conduit, self._conduit = self._conduit, None
        if conduit is not None:
            conduit.close()
