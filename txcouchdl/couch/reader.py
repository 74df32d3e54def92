"""
Exactly the asked bytes of one pinned attachment, or a failure. The strategy:

*The head of every answer is checked before anything is believed*: status, length, Content-Range, coding and entity-tag
must be what the stub promises: see :mod:`~txcouchdl.couch.reading`. A node that answers otherwise is not read.

*The last 4 KiB received are held back* until it is clear that they are not an error message: see
:mod:`~txcouchdl.couch.transfer`.

*What is lost is asked for again*, and *what passes whole is verified*: see :mod:`~txcouchdl.couch.healing`.

*A range of an attachment that is stored as it is has no digest*; CouchDB does not check it either. Its end is proven
otherwise. If the attachment goes on behind the range, the read does too, by as many bytes as are held back: an error
text that fills the body to its length stands in these. If it does not, the body is read until the node closes the
connection. A text of the right length would look like its end, so a tail that could be one is read twice: see
:mod:`~txcouchdl.couch.tail_proof`.

*Everything is counted.* A body that is too short is a lost one, and one that is too long is none.

*Back-pressure*: a reader is a push producer. While its consumer is paused it does not read upstream.

*Inflating takes time*, so a reader does it in steps out of a budget that all readers share, and needs a slot for as
long as it skips bytes: see :mod:`~txcouchdl.couch.step_budget` and :mod:`~txcouchdl.couch.inflation_slots`.
"""

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from txcouchdl.couch.decoding import Decoder, Identity, IdentityDecoder
from txcouchdl.couch.errors import CorruptAttachment
from txcouchdl.couch.healing import OpenBody, StoredBytes
from txcouchdl.couch.inflation_slots import InflationSlot
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.reading import Reading
from txcouchdl.couch.relay import Outlet
from txcouchdl.couch.step_budget import StepBudget


@implementer(IPushProducer)
class AttachmentReader:
    """
    Reads the wanted bytes of a reading, and writes them to a consumer.

    It may be paused, resumed and stopped at any time, in its consumer's ``write`` too, and more than once.

    :param what: the attachment, for the log.
    :param budget: of steps; by default its own.
    :param slot: held while bytes are skipped, from now on if it is held now. It is released when nothing is skipped any
        more, or for as long as the consumer pauses. ``None`` if none is needed.
    :param decoder: makes the wanted bytes of the stored ones; by default the reading's.
    :param learn: called with what has been found out of the identity representation, once a whole body of gzip has been
        read, inflated and verified.
    """

    def __init__(
        self,
        what: str,
        reading: Reading,
        open_body: OpenBody,
        limits: UpstreamLimits,
        clock: IReactorTime,
        *,
        budget: StepBudget | None = None,
        slot: InflationSlot | None = None,
        decoder: Decoder | None = None,
        learn: Callable[[Identity], object] = lambda _: None,
    ) -> None:
        self._stored = StoredBytes(what, reading, open_body, limits, clock, self)
        self._budget = budget or StepBudget(clock)
        self._slot = slot
        self._decoder = decoder or reading.decoder()
        self._learn = learn
        # Stored bytes not yet given to the decoder, once all are there and verified.
        self._tail: bytes | None = None
        self._is_complete = False
        self._is_over = False
        self._failure: Failure | None = None
        self._write: Callable[[bytes], object] | None = None
        self._outlet: Outlet | None = None
        self._primed_bytes: list[bytes] = []
        self._primed: Deferred[None] | None = None
        self._finished: Deferred[None] | None = None
        self._is_paused = False
        self._is_pumping = False
        self._is_wanted_again = False
        self._is_waiting_for_slot = False

    def open(self, *, is_committed: bool) -> "Deferred[None]":
        """
        Begin, and wait for the first wanted bytes, or for the end of all: a short attachment is here then, whole and
        verified. To be called once.

        :param is_committed: whether the client has been told something already. If not, a failure can be told in a
            clean answer, and comes soon; if so, it is put off for as long as there is hope.
        :return: fails with an UpstreamFailure. Cancelling it stops the reader.
        """
        self._primed = Deferred(lambda _: self.stopProducing())
        primed = self._primed
        if is_committed:
            self._stored.commit()
        self._stored.start()
        return primed

    def deliver(self, write: Callable[[bytes], object], outlet: Outlet | None = None) -> "Deferred[None]":
        """
        Write all wanted bytes, in order. The client has been told that they come.

        :param outlet: where they may leave instead, behind what was written before.
        :return: fires once all of them are written and all checks have passed. Fails with an UpstreamFailure if
            they cannot be, and then the last of them has not been written. Cancelling it stops the reader.
        """
        self._write = write
        self._outlet = outlet
        self._stored.commit()
        self._finished = Deferred(lambda _: self.stopProducing())
        finished = self._finished
        self._go_on()
        return finished

    def pauseProducing(self) -> None:
        self._is_paused = True
        self._stored.pause()
        if self._slot is not None:
            self._slot.release()

    def resumeProducing(self) -> None:
        self._is_paused = False
        self._go_on()

    def stopProducing(self) -> None:
        """Drop the upstream connection at once. Nothing is written any more, and nothing reported."""
        self._primed = self._finished = None
        self._primed_bytes.clear()
        self._end(None)

    # What the stored bytes tell.

    def released(self, stored: bytes) -> None:
        """See :class:`~txcouchdl.couch.healing.Receiver`; so the others."""
        self._decoder.feed(stored)
        self._pump()

    def passed(self, count: int) -> None:
        if isinstance(self._decoder, IdentityDecoder):
            self._decoder.passed(count)

    def completed(self, tail: bytes) -> None:
        self._tail = tail
        self._pump()

    def failed(self, failure: Failure) -> None:
        self._end(failure)

    # The pump.

    def _go_on(self) -> None:
        """With what came before there was a consumer, with what is in the decoder, then with upstream."""
        while self._primed_bytes and self._write is not None and not self._is_paused:
            self._write(self._primed_bytes.pop(0))
        self._report()
        self._pump()

    def _pump(self) -> None:
        """Move bytes through the decoder until it is empty, somebody says stop, or others should have their turn."""
        # A transport may hand over more at once when it is resumed, from within.
        self._is_wanted_again = True
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            while self._is_wanted_again:
                self._is_wanted_again = False
                self._pump_steps()
        except CorruptAttachment as error:
            self._end(Failure(error))
        finally:
            self._is_pumping = False

    def take_turn(self) -> None:
        """See :class:`~txcouchdl.couch.step_budget.Worker`."""
        self._pump()

    def _pump_steps(self) -> None:
        while not self._must_wait():
            has_work = self._decoder.has_work
            wanted = self._decoder.read()
            if wanted is None and not self._feed_tail():
                return
            if has_work:
                self._budget.spend()
            if wanted:
                self._emit(wanted)
            self._release_slot()
            if self._decoder.is_satisfied:
                if self._is_complete:
                    self._learn_from(self._decoder)
                self._end(None)
        # The consumer of the first bytes comes with them, and the budget's next turn is near.
        self._stored.pause(is_brief=not (self._is_paused or self._is_waiting_for_slot))

    def _must_wait(self) -> bool:
        """Whether bytes have nowhere to go now: until there is a consumer, only the first ones are wanted."""
        if self._is_over or self._is_paused or self._primed_bytes:
            return True
        return self._decoder.has_work and not (self._has_slot() and self._budget.allows(self))

    def _has_slot(self) -> bool:
        """Whether the next step may be done, as far as slots are concerned. If not, wait for one."""
        slot = self._slot
        if slot is None or slot.is_held or not self._decoder.has_gap_ahead:
            return True
        if not self._is_waiting_for_slot:
            self._is_waiting_for_slot = True
            slot.acquire(is_committed=True).addBoth(self._got_slot)
        return slot.is_held

    def _got_slot(self, result: Failure | None) -> None:
        self._is_waiting_for_slot = False
        if isinstance(result, Failure):
            # Nobody but this reader gives it up.
            result.trap(CancelledError)
        else:
            self._pump()

    def _release_slot(self) -> None:
        """Release the slot once there is nothing more to skip."""
        if self._slot is not None and not self._decoder.has_gap_ahead:
            self._slot.release()

    def _feed_tail(self) -> bool:
        """The decoder is empty: whether there was something left to feed it, else see to it that more comes."""
        if self._tail is not None:
            self._decoder.feed(self._tail)
            self._tail = None
            self._is_complete = True
            return True
        if self._is_complete:
            decoder = self._decoder
            self._emit(decoder.finish())
            self._learn_from(decoder)
            self._end(None)
        else:
            self._want_more()
        return False

    def _learn_from(self, decoder: Decoder) -> None:
        """All stored bytes are there, and their digest is right."""
        identity = decoder.identity()
        if identity is not None:
            self._learn(identity)

    def _want_more(self) -> None:
        if self._outlet is not None:
            # It is full at first, and pauses us.
            self._stored.bypass(self._outlet)
        if not self._is_paused:
            self._stored.resume()

    def _emit(self, wanted: bytes) -> None:
        if self._write is not None:
            self._write(wanted)
        elif wanted:
            self._primed_bytes.append(wanted)
            self._report()

    def _end(self, failure: Failure | None) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._failure = failure
        self._stored.drop()
        # With what it still holds. Klein keeps a request, and so us, until the garbage collector comes.
        self._decoder = IdentityDecoder(0)
        self._budget.leave(self)
        if self._slot is not None:
            self._slot.release()
        self._report()

    def _report(self) -> None:
        """Fire whichever Deferred is due. Whoever gets the first gets the second, if it asks."""
        primed, finished = self._primed, self._finished
        if primed is not None and self._primed_bytes:
            self._primed = None
            primed.callback(None)
        elif primed is not None and self._is_over:
            self._primed = None
            _fire(primed, self._failure)
        elif finished is not None and self._is_over and not self._primed_bytes:
            self._finished = None
            _fire(finished, self._failure)


def _fire(waiting: "Deferred[None]", failure: Failure | None) -> None:
    if failure is None:
        waiting.callback(None)
    else:
        waiting.errback(failure)
