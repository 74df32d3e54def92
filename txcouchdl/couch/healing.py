"""
The stored bytes of one reading, as if they came in one transfer. They may come in many:

*Healing.* A transfer that is lost, stalls, or is not what it should be is followed by another, which begins at the
first byte that has not been released yet, at another node if there is one, as long as there is time. Before something
has been told to the client (:meth:`StoredBytes.commit`) only a few attempts are made: see
:mod:`~txcouchdl.couch.attempts`.

*Parking.* When nobody wants bytes for a while, the transfer is dropped, and its connection and place with it; another
one goes on when somebody does. A transfer that is dear to begin anew is dropped only for a request that waits.

*Hedging.* When no byte comes for ``--hedge-after``, the same bytes are asked for at a second node as well
(:mod:`~txcouchdl.couch.hedging`). The first of the two streams to bring a new byte goes on, and the other is dropped
with all that it may still bring. If the first one is lost meanwhile, the second one goes on in its place.

*Verifying.* The last bytes are released only if they prove to be the attachment's (:mod:`~txcouchdl.couch.verifying`).
If they do not, they are read again.
"""

from collections.abc import Callable, Coroutine
from typing import Any
from typing import Protocol as Interface

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txcouchdl.couch.attempts import Attempts
from txcouchdl.couch.body_stream import BodyStream
from txcouchdl.couch.errors import UnprovenEnd, UpstreamFailure, UpstreamTimeout
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.opened_body import Body
from txcouchdl.couch.patience import Patience
from txcouchdl.couch.reading import Reading, Request
from txcouchdl.couch.relay import Outlet
from txcouchdl.couch.second_stream import SecondStream
from txcouchdl.couch.tally import UNCOUNTED, HedgeKind, Tally
from txcouchdl.couch.verifying import Tail, Verifier

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
        self._verifier = Verifier(reading)
        # Stored bytes released so far.
        self._known = 0
        self.is_committed = False
        self._is_paused = False
        self._paused_at = 0.0
        # Whether the pause is one that may take long.
        self._is_resting = False
        self._is_over = False
        # At most one of these two; none while parked.
        self._stream: BodyStream | None = None
        self._next_attempt: IDelayedCall | None = None
        # Opened while the stream is silent.
        self._second = SecondStream(self._new_stream)
        # When the stream will be parked.
        self._parking: IDelayedCall | None = None
        # Why the last transfer was lost, if it was.
        self._loss: UpstreamFailure | None = None
        self._attempts = Attempts(limits.give_up, clock)
        self._healings = 0
        self._tally: Tally = UNCOUNTED  # The last body's.
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
            self._second.drop()
            if self._stream is not None:
                self._stream.pause()
        if is_brief or self._is_resting:
            return
        self._is_resting = True
        if self._stream is not None:
            self._stream.rest(self._park)
        if self._stream is None or not self._stream.is_dear:
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
        if self._stream is not None:
            self._stream.resume()
        elif self._loss is not None:
            self._try_again_in_time(self._loss)
        else:
            self._open()

    def bypass(self, outlet: Outlet) -> None:
        """Let bytes leave by an outlet, past this process, where that can be. What was released has been written."""
        if self._stream is not None and self._reading.may_bypass(self._stream.missing, self._limits):
            self._stream.bypass(outlet, self._verifier.tap)

    def drop(self) -> None:
        """Let go of everything, at once."""
        if self._is_over:
            return
        self._is_over = True
        self._note_parked(False)
        self._let_go()

    # Opening streams.

    def _open(self) -> None:
        self._next_attempt = None
        self._stream = self._new_stream()
        self._stream.open(Deferred.fromCoroutine(self._open_body(self._stream.request, self)))

    def _new_stream(self) -> BodyStream:
        return BodyStream(self._reading.request(self._known), self._verifier, self._limits, self._clock, self)

    def opened(self, stream: BodyStream, body: Body) -> None:
        """See :class:`~txcouchdl.couch.body_stream.StreamOwner`; so the others."""
        if stream is self._stream:
            self._goes_on(body)
        if self._is_paused:
            stream.pause()
            body.rest(self._park)

    def _goes_on(self, body: Body) -> None:
        """From now on the bytes of this one are released."""
        self._tally = body.tally
        self._attempts.begun()
        self._note_healing(body)
        self._loss = None

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

    def not_opened(self, stream: BodyStream, failure: Failure) -> None:
        error, may_go_on = failure.value, self.is_committed or stream is self._second.stream
        if isinstance(error, UpstreamFailure) and may_go_on:
            self.lost(stream, error)
        else:
            self._fail(failure)

    def broken(self, failure: Failure) -> None:
        self._fail(failure)

    # A second stream beside a silent one.

    def silent(self, stream: BodyStream, body: Body) -> None:
        if stream is self._stream:
            self._second.request(body)

    def woke(self, stream: BodyStream) -> None:
        if stream is self._stream:
            self._second.drop()

    def _take_over(self) -> None:
        """The second stream has brought something new: it goes on, and the silent one is dropped."""
        self._tally.hedge_won(HedgeKind.BODY)
        error = UpstreamTimeout("no byte before those of another node, which was asked later")
        if self._stream is not None:
            self._stream.lose(error)
        self._promote(error)

    def _promote(self, loss: UpstreamFailure) -> None:
        """The second stream, if there is one, is the only one from now on."""
        self._stream = self._second.take()
        if self._stream is not None:
            self._loss = loss
            if self._stream.body is not None:
                self._goes_on(self._stream.body)

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

    # What streams tell.

    def released(self, stream: BodyStream, new: bytes) -> None:
        if stream is self._second.stream:
            self._take_over()
        self._verifier.update(new)
        self._known += len(new)
        self._attempts.progress(len(new))
        self._receiver.released(new)

    def satisfied(self, stream: BodyStream) -> None:
        self._complete(b"")

    def passed(self, stream: BodyStream, count: int) -> None:
        self._known += count
        self._attempts.progress(count)
        self._receiver.passed(count)

    def completed(self, stream: BodyStream, tail: Tail) -> None:
        if stream is self._second.stream:
            self._take_over()
        problem = self._verifier.problem(stream.request, tail)
        if problem is None:
            self._complete(tail.new)
            return
        stream.distrust()
        stream.lose(problem)
        self.lost(stream, problem)

    def lost(self, stream: BodyStream, error: UpstreamFailure) -> None:
        if stream is self._second.stream:
            self._second.drop()
            return
        self._promote(error)
        if self._stream is None:
            self._lost(error)

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
        self._second.drop()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.drop()

    def _stop_waiting(self) -> None:
        for call in self._parking, self._next_attempt:
            if call is not None:
                call.cancel()
        self._parking = self._next_attempt = None
