"""
One body on its way from a node: counted, its end held back until it is proven, lost when it stalls. Most of it may pass
this process by.

CouchDB writes its error messages **into** a dying body, where they come before it is known that the connection
was lost (FINDINGS, section 0, points 1 to 3). So the last 4 KiB received are held back until more arrive or the body is
complete, and are thrown away when the connection breaks. What is released is what CouchDB meant to send.
"""

from typing import Protocol as Interface
from typing import cast

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone

from txcouchdl.couch.errors import BadUpstream, UpstreamFailure, UpstreamTimeout, UpstreamUnavailable
from txcouchdl.couch.relay import Outlet, Relay
from txcouchdl.couch.wire.answers import Body
from txcouchdl.couch.wire.pipes import Tap

#: Bytes held back: the longest error text that a dying body may end in. Those seen have 370 to 534 bytes (CouchDB 3.5.0
#: and 3.5.2). The reason in them may hold the path of the database's file, and a proxy's header fields may come on top.
HELD_BACK = 4096
#: Seconds for a node to close the connection behind a complete body.
CLOSE_TIMEOUT = 5.0


class Receiver(Interface):
    """Who is told of a body: the first two any number of times, then one of the others, once."""

    def released(self, stored: bytes) -> None:
        """Bytes that are surely the node's, in order."""

    def passed(self, count: int) -> None:
        """The next so many of them have left by the outlet."""

    def completed(self, tail: bytes) -> None:
        """Take the last bytes. As many have come as were promised; judge whether they are the attachment's."""

    def failed(self, error: UpstreamFailure) -> None:
        """The body is lost, with what was not released of it."""

    def silent(self) -> None:
        """No byte has come for as long as a second node is to be asked after. Called once for each silence."""

    def woke(self) -> None:
        """A byte has come behind such a silence."""


class Transfer(Protocol):
    """
    One upstream body, as the protocol that it is delivered to. Tells its receiver nothing after :meth:`drop`.

    :param count: bytes that were promised, at least one.
    :param is_closing: whether only the close of the connection ends the body. The receiver has to judge its tail then
        (:mod:`~txcouchdl.couch.tail_proof`). Otherwise the framing ends it, and the wanted bytes among them were
        released before, or have a digest.
    :param stall_timeout: seconds without a byte, while it is read, after which it counts as lost.
    :param hedge_after: seconds without a byte, while it is read, after which that is told; 0 for never.
    :param is_counted: whether the last promised byte ends the body, whatever comes behind it. The receiver has to judge
        its tail by a digest then.
    """

    def __init__(
        self,
        count: int,
        is_closing: bool,
        stall_timeout: float,
        hedge_after: float,
        clock: IReactorTime,
        receiver: Receiver,
        *,
        is_counted: bool = False,
    ) -> None:
        self._count = count
        self._is_closing = is_closing
        self._is_counted = is_counted
        self._stall_timeout = stall_timeout
        self._hedge_after = hedge_after if hedge_after < stall_timeout else 0.0
        # Whether it was told that no byte comes.
        self._is_silent = False
        self._clock = clock
        self._receiver = receiver
        self._received = 0
        self._held_back = b""
        self._is_over = False
        self._is_paused = False
        self._watchdog: IDelayedCall | None = None
        self._relay: Relay | None = None

    def connectionMade(self) -> None:
        self._watch()

    def dataReceived(self, data: bytes) -> None:
        if self._is_over:
            return
        self._received += len(data)
        if self._received > self._count:
            self._fail(BadUpstream(f"a body of more than {self._count} bytes"))
            return
        self._heard()
        received = self._held_back + data
        self._held_back = received[-HELD_BACK:]
        if len(received) > HELD_BACK:
            self._receiver.released(received[:-HELD_BACK])
        if self._is_counted and self._received == self._count and not self._is_over:
            self._complete()

    def connectionLost(self, reason: Failure | None = None) -> None:
        if self._is_over:
            return
        is_framed = reason is not None and reason.check(ResponseDone)
        if self._received == self._count and (is_framed or self._is_closing):
            self._complete()
        else:
            self._fail(UpstreamUnavailable(f"lost a body after {self._received} of {self._count} bytes"))

    # Past this process.

    @property
    def missing(self) -> int:
        """Bytes that have not come yet, while there is no relay."""
        return self._count - self._received

    def bypass(self, outlet: Outlet, tap: Tap | None) -> None:
        """
        From now on let bytes leave by an outlet, if that can be: all but the last ones, which come the other way.

        :param tap: is shown what leaves.
        """
        conduit = None if self._is_over or self._relay is not None else self._body.conduit(self._wake)
        if conduit is None:
            return
        held_back, self._held_back = self._held_back, b""
        self._relay = Relay(conduit, outlet, held_back, HELD_BACK, tap, self._clock, self)
        self._relay.begin()

    @property
    def _body(self) -> Body:
        return cast(Body, self.transport)

    def _wake(self) -> None:
        if self._relay is not None:
            self._relay.pump()

    def moved(self, count: int) -> None:
        """See :class:`~txcouchdl.couch.relay.RelayReceiver`; so the others."""
        self._heard()
        if count:
            self._receiver.passed(count)

    def ended(self, tail: bytes) -> None:
        self._relay = None
        self._received = self._count
        self._held_back = tail
        self._heard()
        self._body.conducted()

    def broke(self) -> None:
        self._relay = None
        self._fail(UpstreamUnavailable(f"lost a body of {self._count} bytes"))

    # Ends.

    def _complete(self) -> None:
        """All bytes are there."""
        tail = self._held_back
        self.drop()
        self._receiver.completed(tail)

    def distrust(self) -> None:
        """While it is completed: its last bytes are not what they should be, nor what may come behind them."""
        self._body.distrust()

    def _fail(self, error: UpstreamFailure) -> None:
        self.drop()
        self._receiver.failed(error)

    def pause(self) -> None:
        """Stop reading. Some bytes may still come."""
        if self._is_over:
            return
        self._is_paused = True
        self._stop_watching()
        self._body.pauseProducing()
        if self._relay is not None:
            self._relay.pause()

    def resume(self) -> None:
        """Read on, if paused."""
        if self._is_over or not self._is_paused:
            return
        self._is_paused = False
        self._watch()
        self._body.resumeProducing()
        if self._relay is not None:
            self._relay.resume()

    def drop(self) -> None:
        """Close the connection, if the body is not at its end."""
        if self._is_over:
            return
        self._is_over = True
        self._stop_watching()
        self._held_back = b""
        relay, self._relay = self._relay, None
        if relay is not None:
            relay.drop()
        self._body.stopProducing()

    def _heard(self) -> None:
        """Something has come: wait anew."""
        if self._is_silent:
            self._is_silent = False
            self._receiver.woke()
        if self._watchdog is not None:
            self._watchdog.reset(self._patience())

    def _patience(self) -> float:
        """
        Seconds to wait for what comes next, until silence is told, or the body counts as lost. A node that has sent all
        and does not close has nothing more to say.
        """
        if self._received == self._count:
            return CLOSE_TIMEOUT
        if self._is_silent:
            return self._stall_timeout - self._hedge_after
        return self._hedge_after or self._stall_timeout

    def _watch(self) -> None:
        self._watchdog = self._clock.callLater(self._patience(), self._waited)

    def _stop_watching(self) -> None:
        self._is_silent = False
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None

    def _waited(self) -> None:
        self._watchdog = None
        if self._received == self._count:
            self._complete()
        elif self._hedge_after and not self._is_silent:
            self._is_silent = True
            self._watch()
            self._receiver.silent()
        else:
            self._fail(UpstreamTimeout(f"no byte in {self._stall_timeout:g} s"))
