"""
The stored bytes of one reading, as if they came in one transfer. They may come in many:

*Healing.* A transfer that is lost, stalls, or is not what it should be is followed by another, which begins at the
first byte that has not been released yet, at another node if there is one, as long as there is time. Before something
has been told to the client (:meth:`StoredBytes.commit`) only a few attempts are made: see
:mod:`~txcouchdl.couch.attempts`.

*Parking.* When nobody wants bytes for a while, the transfer is dropped, and its connection and place with it; another
one goes on when somebody does.

*Verifying.* The digest is computed over the released bytes, whichever transfer brought them. The last bytes are
released only if it is right. If it is wrong, they are read once more: an error text of the right length may stand in
their place (FINDINGS, section 0, point 1). A range to the end of an attachment has no digest. If an error text could
stand in its last bytes, they are read again until two reads agree: see :mod:`~txcouchdl.couch.tail_proof`.
"""

import hashlib
from collections.abc import Callable, Coroutine
from typing import Any
from typing import Protocol as Interface

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txcouchdl.couch.attempts import Attempts
from txcouchdl.couch.errors import CorruptAttachment, UnprovenEnd, UpstreamFailure
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.opened_body import Body
from txcouchdl.couch.patience import Patience
from txcouchdl.couch.reading import Reading, Request
from txcouchdl.couch.relay import Outlet
from txcouchdl.couch.tail_proof import TailProof
from txcouchdl.couch.tally import UNCOUNTED, Tally
from txcouchdl.couch.transfer import Transfer

_log = Logger()

#: Opens the body of a request, for somebody who waits so long. Raises UpstreamFailures.
OpenBody = Callable[[Request, Patience], Coroutine[Deferred[Any], Any, Body]]


class Receiver(Interface):
    """Who is told of stored bytes: the first two any number of times, then one of the others, once."""

    def released(self, stored: bytes) -> None:
        """The next stored bytes. Where there is a digest, it is not yet known to be right."""

    def passed(self, count: int) -> None:
        """The next so many have left by the outlet."""

    def completed(self, tail: bytes) -> None:
        """The last ones. What could be checked is right."""

    def failed(self, failure: Failure) -> None:
        """There will be no more. An UpstreamFailure, unless it is our own fault."""


class StoredBytes:
    """
    See the module. Tells its receiver nothing after :meth:`drop`.

    :ivar is_committed: whether the client has been told something.
    :param what: the attachment, for the log.
    """

    def __init__(
        self,
        what: str,
        reading: Reading,
        open_body: OpenBody,
        limits: UpstreamLimits,
        clock: IReactorTime,
        receiver: Receiver,
    ) -> None:
        self._what = what
        self._reading = reading
        self._open_body = open_body
        self._limits = limits
        self._clock = clock
        self._receiver = receiver
        self._hash = hashlib.md5(usedforsecurity=False)
        # Stored bytes released so far, and those of them that the current transfer has still to bring again.
        self._known = 0
        self._skip = 0
        # Whether nothing but the close ends the current body.
        self._is_closing = False
        self._tail_proof = TailProof()
        self.is_committed = False
        self._is_paused = False
        self._paused_at = 0.0
        # Whether the pause is one that may take long.
        self._is_resting = False
        self._is_over = False
        # At most one of these three; none while parked.
        self._opening: Deferred[Body] | None = None
        self._next_attempt: IDelayedCall | None = None
        self._transfer: Transfer | None = None
        # What the transfer came from, and when it will be parked.
        self._body: Body | None = None
        self._parking: IDelayedCall | None = None
        # Why the last transfer was lost, if it was.
        self._loss: UpstreamFailure | None = None
        self._attempts = Attempts(limits.give_up, clock)
        self._healings = 0
        # The last body's.
        self._tally: Tally = UNCOUNTED
        self._is_parked = False

    def start(self) -> None:
        """Open the first transfer. To be called once."""
        self._open()

    def commit(self) -> None:
        """The client has been told something: from now on what is lost is healed for as long as there is time."""
        self.is_committed = True

    def pause(self, *, is_brief: bool = False) -> None:
        """
        Stop reading, and after a while let go of the transfer. Some bytes may still come.

        :param is_brief: whether somebody goes on, or drops it, before any time has passed.
        """
        if self._is_over:
            return
        if not self._is_paused:
            self._is_paused, self._is_resting = True, False
            self._paused_at = self._clock.seconds()
            if self._transfer is not None:
                self._transfer.pause()
        if is_brief or self._is_resting:
            return
        self._is_resting = True
        if self._body is not None:
            self._body.rest(self._park)
        self._parking = self._clock.callLater(self._limits.park_after, self._park_in_time)

    def resume(self) -> None:
        """Read on, if paused."""
        if self._is_over or not self._is_paused:
            return
        self._is_paused = False
        self._note_parked(False)
        # The time of a pause is none without a byte.
        self._attempts.waited(self._clock.seconds() - self._paused_at)
        self._stop_waiting()
        if self._body is not None:
            self._body.wake()
        if self._transfer is not None:
            self._transfer.resume()
        elif self._loss is not None and self._opening is None:
            self._try_again_in_time(self._loss)
        elif self._opening is None:
            self._open()

    def bypass(self, outlet: Outlet) -> None:
        """
        Let bytes leave by an outlet, past this process, where that can be. Whatever was released has been written.
        """
        if self._transfer is not None and self._reading.may_bypass(self._transfer.missing, self._limits):
            self._transfer.bypass(outlet, None if self._reading.digest is None else self._hash.update)

    def drop(self) -> None:
        """Let go of everything, at once."""
        if self._is_over:
            return
        self._is_over = True
        self._note_parked(False)
        self._let_go()

    # Opening transfers.

    def _open(self) -> None:
        self._next_attempt = None
        request = self._reading.request(self._known)
        opening = Deferred.fromCoroutine(self._open_body(request, self))
        self._opening = opening
        opening.addCallbacks(self._opened, self._not_opened, callbackArgs=(request,))
        # What is left is a fault of ours.
        opening.addErrback(self._fail)

    def _opened(self, body: Body, request: Request) -> None:
        self._opening = None
        self._body = body
        self._tally = body.tally
        self._skip = request.skip
        self._is_closing = request.is_closing
        self._attempts.begun()
        self._note_healing(body)
        self._loss = None
        transfer = Transfer(request.count, request.is_closing, self._limits.stall_timeout, self._clock, self)
        self._transfer = transfer
        body.deliver(transfer)
        if self._is_paused:
            transfer.pause()
            body.rest(self._park)

    def _note_healing(self, body: Body) -> None:
        """Count and log a body that continues a lost one. A second read of a tail heals nothing."""
        if self._loss is None or isinstance(self._loss, UnprovenEnd) or not self.is_committed:
            return
        self._healings += 1
        self._tally.healed(self._loss)
        _log.info(
            "healed {what}: goes on from stored byte {known} at {node} (healing {healings})",
            what=self._what,
            known=self._known,
            node=body.node,
            healings=self._healings,
        )

    def _not_opened(self, failure: Failure) -> None:
        self._opening = None
        if failure.check(CancelledError):
            return
        error = failure.value
        if not isinstance(error, UpstreamFailure) or not self.is_committed:
            self._fail(failure)
        else:
            self._lost(error)

    # Losing them.

    def _lost(self, error: UpstreamFailure) -> None:
        """Try again, if that may help, if somebody wants bytes, and if there is time."""
        self._loss = error
        if not self._attempts.may_help(error):
            self._fail(Failure(error))
        elif self._is_paused:
            # Opened again when it is resumed.
            self._stop_waiting()
            self._note_parked(True)
        elif self.is_committed or self._attempts.are_few:
            self._try_again_in_time(error)
        else:
            self._fail(Failure(error))

    def _try_again_in_time(self, error: UpstreamFailure) -> None:
        delay = self._attempts.next_delay()
        if delay is None:
            self._fail(Failure(error))
        else:
            self._next_attempt = self._clock.callLater(delay, self._open)

    # How long it waits: see Patience.

    @property
    def time_left(self) -> float | None:
        """Once something has been told to the client, until it is given up."""
        return self._attempts.time_left if self.is_committed else None

    def waited(self, seconds: float) -> None:
        """For a place; and as little as the time of a pause is this one without a byte."""
        self._attempts.waited(seconds)

    # What the transfer tells.

    def released(self, stored: bytes) -> None:
        """See :class:`~txcouchdl.couch.transfer.Receiver`."""
        new = self._without_known(stored)
        if not new:
            return
        if self._reading.digest is not None:
            self._hash.update(new)
        self._known += len(new)
        self._attempts.progress(len(new))
        self._receiver.released(new)

    def passed(self, count: int) -> None:
        """See :class:`~txcouchdl.couch.transfer.Receiver`. Whatever is known was skipped before."""
        self._known += count
        self._attempts.progress(count)
        self._receiver.passed(count)

    def completed(self, tail: bytes) -> None:
        """See :class:`~txcouchdl.couch.transfer.Receiver`."""
        transfer, self._transfer = self._transfer, None
        new = self._without_known(tail)
        problem = self._problem(new)
        if problem is None:
            self._complete(new)
            return
        if transfer is not None:
            transfer.distrust()
        self.failed(problem)

    def _problem(self, tail: bytes) -> UpstreamFailure | None:
        """Say why these cannot be released as the last bytes yet; ``None`` if they can."""
        digest = self._reading.digest
        if digest is not None:
            computed = self._hash.copy()
            computed.update(tail)
            return None if computed.digest() == digest.md5 else CorruptAttachment("has another digest than its stub")
        if self._is_closing and not self._tail_proof.accepts(tail):
            return UnprovenEnd("the last bytes could be an error text")
        return None

    def failed(self, error: UpstreamFailure) -> None:
        """See :class:`~txcouchdl.couch.transfer.Receiver`."""
        self._transfer = None
        body, self._body = self._body, None
        if body is not None:
            body.lost(error)
        self._lost(error)

    def _without_known(self, stored: bytes) -> bytes:
        """What is new of a transfer's next bytes."""
        known = min(self._skip, len(stored))
        self._skip -= known
        return stored[known:] if known else stored

    # Ends.

    def _complete(self, tail: bytes) -> None:
        self.drop()
        self._receiver.completed(tail)

    def _fail(self, failure: Failure) -> None:
        if not self._is_over:
            self.drop()
            self._receiver.failed(failure)

    def _park_in_time(self) -> None:
        self._parking = None
        self._park()

    def _park(self) -> None:
        """Let go of the transfer; another is opened when somebody wants bytes."""
        self._let_go()
        self._note_parked(True)

    def _note_parked(self, is_parked: bool) -> None:
        if is_parked is not self._is_parked:
            self._is_parked = is_parked
            self._tally.parked(1 if is_parked else -1)

    def _let_go(self) -> None:
        self._stop_waiting()
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
        transfer, self._transfer = self._transfer, None
        if transfer is not None:
            transfer.drop()
        body, self._body = self._body, None
        if body is not None:
            body.vacate()

    def _stop_waiting(self) -> None:
        for call in self._parking, self._next_attempt:
            if call is not None:
                call.cancel()
        self._parking = self._next_attempt = None
