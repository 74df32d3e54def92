"""
The rest of a body on its way past this process: from the node's socket through a pipe into the client's.

What holds for bytes that we see holds for those that we do not: the last 4 KiB stay in the pipe until more come behind
them, and only what has left counts as released. Where a digest is promised, what leaves is shown to it.

*The rule* which bodies go this way is :meth:`.Reading.may_bypass`, and that both ends are plain sockets. All others,
and the beginning and the end of these, go the portable way, through this process.
"""

from typing import Final
from typing import Protocol as Interface

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from txcouchdl.couch.wire.pipes import Conduit, Tap

#: Bytes that are moved at one turn of the reactor, about; and where a digest is computed meanwhile, which takes longer.
_BYTES_A_TURN: Final = 8 * 2**20
_TAPPED_BYTES_A_TURN: Final = 2**20


class Outlet(Interface):
    """
    A client's socket, for bytes that pass its transport by.

    While it is claimed, nothing is written to the transport.
    """

    def claim(self) -> None:
        """Begin. It is full at first, behind what was written to the transport before: see :meth:`full`."""

    def fileno(self) -> int:
        """The socket's."""

    def passed(self, count: int) -> None:
        """So many bytes have left by it."""

    def full(self) -> None:
        """There is no room. Its producer is paused, until there is."""

    def broken(self) -> None:
        """Nothing can leave by it any more."""

    def release(self) -> None:
        """End. If it is full, then its producer is still resumed when it no longer is."""


class RelayReceiver(Interface):
    """Who is told of a relay: ``moved`` any number of times, then one of the others, once."""

    def moved(self, count: int) -> None:
        """Something has come; so many bytes have left, perhaps none."""

    def ended(self, tail: bytes) -> None:
        """All have come, and all but the last ones have left."""

    def broke(self) -> None:
        """No more come."""


class Relay:
    """
    See the module. Tells its receiver nothing after :meth:`drop`.

    :param held_back: bytes of the body that have come already, and not been released.
    :param keep: bytes to hold back.
    :param tap: is shown what leaves, if somebody is to see it.
    """

    def __init__(
        self,
        conduit: Conduit,
        outlet: Outlet,
        held_back: bytes,
        keep: int,
        tap: Tap | None,
        clock: IReactorTime,
        receiver: RelayReceiver,
    ) -> None:
        self._conduit = conduit
        self._outlet = outlet
        self._keep = keep
        self._tap = tap
        self._clock = clock
        self._receiver = receiver
        self._is_paused = False
        self._is_over = False
        self._next_turn: IDelayedCall | None = None
        if held_back:
            conduit.put(held_back)

    def begin(self) -> None:
        """To be called once."""
        self._outlet.claim()

    def pause(self) -> None:
        """Move nothing."""
        self._is_paused = True
        self._conduit.rest()
        self._take_no_turn()

    def resume(self) -> None:
        """Go on."""
        self._is_paused = False
        self.pump()

    def drop(self) -> None:
        """Let go of the outlet. The conduit is its body's."""
        if not self._is_over:
            self._is_over = True
            self._take_no_turn()
            self._outlet.release()

    def pump(self) -> None:
        """Move what can be moved, until there is nothing, or no room, or others should have their turn."""
        self._take_no_turn()
        conduit = self._conduit
        last = conduit.missing - (_BYTES_A_TURN if self._tap is None else _TAPPED_BYTES_A_TURN)
        while conduit.missing > last:
            if self._is_paused or self._is_over or not self._drain():
                return
            if not conduit.missing:
                self._end()
                return
            if not self._fill():
                return
        if not self._is_over:
            self._conduit.rest()
            self._next_turn = self._clock.callLater(0, self._take_turn)

    def _drain(self) -> bool:
        """Let go what may. Whether there is room for more, and more is wanted."""
        conduit = self._conduit
        while (loose := conduit.inside - self._keep) > 0:
            try:
                count = conduit.drain(self._outlet, loose, self._tap)
            except BlockingIOError:
                self._outlet.full()
                return False
            except OSError:
                self._outlet.broken()
                return False
            self._outlet.passed(count)
            self._receiver.moved(count)
            if self._is_paused or self._is_over:
                return False
        return True

    def _fill(self) -> bool:
        """Whether something has come."""
        try:
            filled = self._conduit.fill()
        except BlockingIOError:
            self._conduit.watch()
            return False
        except OSError:
            filled = 0
        if not filled:
            self.drop()
            self._receiver.broke()
            return False
        if self._conduit.inside <= self._keep:
            self._receiver.moved(0)
        return True

    def _end(self) -> None:
        tail = self._conduit.take()
        self.drop()
        self._receiver.ended(tail)

    def _take_turn(self) -> None:
        self._next_turn = None
        self.pump()

    def _take_no_turn(self) -> None:
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None
