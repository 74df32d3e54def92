"""
One attempt to read stored bytes: a body, from its opening to its end.

=========  ====================================================================
State      Meaning
=========  ====================================================================
OPENING    A node was asked, and has not answered.
FLOWING    The node has answered, and its body comes.
OVER       The body is complete, lost, or dropped.
=========  ====================================================================

OPENING -> FLOWING: a node promises what was asked for. OPENING -> OVER: none does, or the stream is dropped. FLOWING ->
OVER: the last byte has come, the body is lost, or the stream is dropped. A dropped stream tells its owner nothing more.
"""

from collections.abc import Callable
from typing import Protocol as Interface

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from txcouchdl.couch.errors import UpstreamFailure
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.opened_body import Body
from txcouchdl.couch.reading import Request
from txcouchdl.couch.relay import Outlet
from txcouchdl.couch.transfer import Transfer
from txcouchdl.couch.wire.pipes import Tap


class StreamOwner(Interface):
    """The owner of one or two streams, each of which says that it is it."""

    def opened(self, stream: "BodyStream", body: Body) -> None:
        """Take note of the node's answer. The bytes come next."""

    def not_opened(self, stream: "BodyStream", failure: Failure) -> None:
        """No node has answered as it should. What is no UpstreamFailure is a fault of ours."""

    def released(self, stream: "BodyStream", new: bytes) -> None:
        """Take the next bytes that were not known."""

    def passed(self, stream: "BodyStream", count: int) -> None:
        """Count bytes that have left by the outlet."""

    def completed(self, stream: "BodyStream", tail: bytes) -> None:
        """Judge the last bytes that were not known: see :class:`~txcouchdl.couch.transfer.Receiver`."""

    def lost(self, stream: "BodyStream", error: UpstreamFailure) -> None:
        """The body is lost, and its place given back."""

    def silent(self, stream: "BodyStream", body: Body) -> None:
        """No byte has come for ``--hedge-after``, although bytes are wanted."""

    def woke(self, stream: "BodyStream") -> None:
        """A byte has come after all."""

    def broken(self, failure: Failure) -> None:
        """Something failed that is a fault of ours."""


class BodyStream:
    """
    See the module.

    :param request: that the body answers.
    :ivar body: while it flows.
    """

    def __init__(self, request: Request, limits: UpstreamLimits, clock: IReactorTime, owner: StreamOwner) -> None:
        self.request = request
        self._limits = limits
        self._clock = clock
        self._owner = owner
        # Bytes that are known, and that the transfer has still to bring again.
        self._skip = request.skip
        self._is_paused = False
        self._opening: Deferred[Body] | None = None
        self.body: Body | None = None
        self._transfer: Transfer | None = None

    def open(self, opening: "Deferred[Body]") -> None:
        """
        Begin. To be called once, when the owner knows the stream.

        :param opening: of the body that the request is for.
        """
        self._opening = opening
        opening.addCallbacks(self._opened, self._not_opened)
        # What is left is a fault of ours.
        opening.addErrback(self._owner.broken)

    def _opened(self, body: Body) -> None:
        self._opening = None
        self.body = body
        self._owner.opened(self, body)
        limits, request = self._limits, self.request
        self._transfer = transfer = Transfer(
            request.count, request.is_closing, limits.stall_timeout, limits.hedge_after, self._clock, self
        )
        body.deliver(transfer)
        if self._is_paused:
            transfer.pause()

    def _not_opened(self, failure: Failure) -> None:
        self._opening = None
        if not failure.check(CancelledError):
            self._owner.not_opened(self, failure)

    def pause(self) -> None:
        """Stop reading. Some bytes may still come."""
        self._is_paused = True
        if self._transfer is not None:
            self._transfer.pause()

    def resume(self) -> None:
        """Read on."""
        self._is_paused = False
        if self.body is not None:
            self.body.wake()
        if self._transfer is not None:
            self._transfer.resume()

    def rest(self, give_up: Callable[[], object]) -> None:
        """Offer the place to others while the stream is paused: see :meth:`.Place.rest`."""
        if self.body is not None:
            self.body.rest(give_up)

    @property
    def missing(self) -> int:
        """Bytes that have not come yet; 0 while it is being opened."""
        return 0 if self._transfer is None else self._transfer.missing

    def bypass(self, outlet: Outlet, tap: Tap | None) -> None:
        """See :meth:`.Transfer.bypass`."""
        if self._transfer is not None:
            self._transfer.bypass(outlet, tap)

    def distrust(self) -> None:
        """See :meth:`.Transfer.distrust`: while it is completed."""
        if self._transfer is not None:
            self._transfer.distrust()

    def lose(self, error: UpstreamFailure) -> None:
        """End, and have the route go on at another node: what came is not what should have, or nothing did."""
        body, self.body = self.body, None
        self.drop()
        if body is not None:
            body.lost(error)

    def drop(self) -> None:
        """End at once."""
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
        transfer, self._transfer = self._transfer, None
        if transfer is not None:
            transfer.drop()
        body, self.body = self.body, None
        if body is not None:
            body.vacate()

    # What the transfer tells: see its Receiver.

    def released(self, stored: bytes) -> None:
        new = self._without_known(stored)
        if new:
            self._owner.released(self, new)

    def passed(self, count: int) -> None:
        # Whatever is known was skipped before.
        self._owner.passed(self, count)

    def completed(self, tail: bytes) -> None:
        self._owner.completed(self, self._without_known(tail))

    def failed(self, error: UpstreamFailure) -> None:
        self.lose(error)
        self._owner.lost(self, error)

    def silent(self) -> None:
        if self.body is not None:
            self._owner.silent(self, self.body)

    def woke(self) -> None:
        self._owner.woke(self)

    def _without_known(self, stored: bytes) -> bytes:
        known = min(self._skip, len(stored))
        self._skip -= known
        return stored[known:] if known else stored
