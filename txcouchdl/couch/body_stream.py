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
from txcouchdl.couch.intake import Intake
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.opened_body import Body
from txcouchdl.couch.reading import Request
from txcouchdl.couch.relay import Outlet
from txcouchdl.couch.transfer import Transfer
from txcouchdl.couch.verifying import Tail, Verifier
from txcouchdl.couch.wire.pipes import Tap


class StreamOwner(Interface):
    """The owner of one or two streams, each of which says that it is it."""

    def opened(self, stream: "BodyStream", body: Body) -> None:
        """Take note of the node's answer. The bytes come next."""

    def not_opened(self, stream: "BodyStream", failure: Failure) -> None:
        """No node has answered as it should. What is no UpstreamFailure is a fault of ours."""

    def released(self, stream: "BodyStream", new: bytes) -> None:
        """Take the next bytes that were not known."""

    def satisfied(self, stream: "BodyStream") -> None:
        """All wanted bytes were released, and only others follow."""

    def passed(self, stream: "BodyStream", count: int) -> None:
        """Count bytes that have left by the outlet."""

    def completed(self, stream: "BodyStream", tail: Tail) -> None:
        """Judge the last bytes: see :class:`~txcouchdl.couch.transfer.Receiver`."""

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

    :ivar request: that the body is to answer, and then the one that it answers.
    :param verifier: of all streams of the owner.
    :ivar body: while it flows.
    """

    def __init__(
        self, request: Request, verifier: Verifier, limits: UpstreamLimits, clock: IReactorTime, owner: StreamOwner
    ) -> None:
        self.request = request
        self._verifier = verifier
        self._limits = limits
        self._clock = clock
        self._owner = owner
        self._intake = Intake(request)
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
        limits, request = self._limits, body.request
        self.request, self._intake = request, Intake(request)
        self._verifier.begin(request)
        self._owner.opened(self, body)
        self._transfer = transfer = Transfer(
            request.count,
            request.is_closing,
            limits.stall_timeout,
            limits.hedge_after,
            self._clock,
            self,
            is_counted=request.is_counted,
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
        """
        Bytes that have not come yet, and may pass this process by; 0 while it is being opened, and if some of them are
        not new, or have to be verified here.
        """
        has_to_see = self._intake.drops_bytes or self._verifier.has_to_see_all
        return 0 if self._transfer is None or has_to_see else self._transfer.missing

    @property
    def is_dear(self) -> bool:
        """Whether it is kept however long its reader pauses: another one would bring too much again."""
        is_far = self._intake.position > self._limits.most_skipped
        return is_far and self.body is not None and self.body.are_ranges_ignored

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
        self._verifier.feed(self._intake.position, stored)
        new = self._intake.take(stored)
        if new:
            self._owner.released(self, new)
            if self._intake.is_satisfied and self._transfer is not None:
                self._owner.satisfied(self)

    def passed(self, count: int) -> None:
        # Whatever is known was skipped before.
        self._intake.passed(count)
        self._owner.passed(self, count)

    def completed(self, tail: bytes) -> None:
        position = self._intake.position
        self._owner.completed(self, Tail(position, tail, self._intake.take(tail)))

    def failed(self, error: UpstreamFailure) -> None:
        self.lose(error)
        self._owner.lost(self, error)

    def silent(self) -> None:
        if self.body is not None:
            self._owner.silent(self, self.body)

    def woke(self) -> None:
        self._owner.woke(self)
