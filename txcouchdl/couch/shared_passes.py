"""
Passes over gzip that requests share.

A few bytes out of gzip cost a pass over all that stands before them, from CouchDB through the inflater. A request joins
the newest pass over its attachment if that has not come to its first byte yet. If it cannot join, it begins a pass,
which those that still wait for a slot join at once.

Only few bytes are read this way, and only before anything is sent to their client: they are collected. So no client can
hold up a pass for others. A long range could: a pass is faster than most clients, and who falls behind has to begin
anew at the first byte.
"""

from collections.abc import Callable, Hashable
from typing import TypeVar

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from txcouchdl.couch.errors import UpstreamFailure
from txcouchdl.couch.inflation_slots import InflationSlot, InflationSlots
from txcouchdl.couch.reader import AttachmentReader
from txcouchdl.couch.shared_decoding import Listener, SharedDecoder

_L = TypeVar("_L", bound=Listener)


@frozen
class PassTraits:
    """
    What a pass does, or has to do for a request.

    :ivar is_learning: whether it finds out the identity of the whole.
    :ivar has_slot: whether it holds a slot, and may inflate any number of bytes for nobody.
    """

    is_learning: bool
    has_slot: bool

    def covers(self, needed: "PassTraits") -> bool:
        """Whether a request that needs those can join a pass that has these."""
        return self.is_learning >= needed.is_learning and self.has_slot >= needed.has_slot


@frozen
class PassRequest:
    """
    A request for a pass.

    :ivar key: of the attachment: the same for the same bytes, revision and rules, and for nothing else.
    :ivar length: bytes of the identity representation; ``None`` if not known.
    :ivar needed: what the pass has to do.
    :ivar address: of the client, for its slot: see :meth:`.InflationSlots.slot`.
    :ivar make_reader: makes what feeds the decoder of a pass that this request begins.
    """

    key: Hashable
    length: int | None
    needed: PassTraits
    address: str | None
    make_reader: Callable[[SharedDecoder], AttachmentReader]


class _Pass:
    """
    One pass. It lasts until its last listener is satisfied or gone.

    :param slot: held, if the pass has one.
    :param ended: called once, at the end.
    :ivar request: that has begun it.
    """

    def __init__(self, request: PassRequest, slot: InflationSlot | None, ended: Callable[["_Pass"], object]) -> None:
        self.request = request
        self._slot = slot
        self._ended = ended
        self._decoder = SharedDecoder(request.length, self._satisfied, is_learning=request.needed.is_learning)
        self._reader = request.make_reader(self._decoder)
        self._waiting: dict[Listener, Deferred[None]] = {}

    def begin(self) -> None:
        """Read. To be called once, after a listener has joined."""
        self._reader.open(is_committed=False).addBoth(self._finish)

    def admits(self, listener: Listener, needed: PassTraits) -> bool:
        """Whether a listener may still join."""
        return self._decoder.position <= listener.position and self.request.needed.covers(needed)

    def join(self, listener: Listener) -> "Deferred[None]":
        """
        :return: fires when the listener is satisfied, or there are no more bytes. Cancelling it makes the listener
            leave.
        """
        waiting: Deferred[None] = Deferred(lambda _: self._leave(listener))
        self._waiting[listener] = waiting
        self._decoder.add(listener)
        return waiting

    def _leave(self, listener: Listener) -> None:
        del self._waiting[listener]
        self._decoder.remove(listener)
        if not self._waiting:
            self._reader.stopProducing()
            self._finish(None)

    def _satisfied(self, listener: Listener) -> None:
        self._waiting.pop(listener).callback(None)

    def _finish(self, failure: Failure | None) -> None:
        if self._slot is not None:
            self._slot.release()
        self._ended(self)
        waiting, self._waiting = self._waiting, {}
        for each in waiting.values():
            if failure is None:
                each.callback(None)
            else:
                each.errback(failure)


class _Waiting:
    """
    A listener that waits for a slot.

    :ivar joined: what it waits for instead, once it has joined another request's pass.
    """

    def __init__(self, listener: Listener, needed: PassTraits, slot: InflationSlot) -> None:
        self.listener = listener
        self.needed = needed
        self.slot = slot
        self.joined: Deferred[None] | None = None


class SharedPasses:
    """
    The passes of one process.

    :param slots: for passes that need one.
    """

    def __init__(self, slots: InflationSlots) -> None:
        self._slots = slots
        # By what requests are for.
        self._newest: dict[Hashable, _Pass] = {}
        self._waiting: dict[Hashable, list[_Waiting]] = {}

    async def listen(self, request: PassRequest, make_listener: Callable[[], _L]) -> _L:
        """
        Let a listener take its bytes out of a pass.

        :param make_listener: is called again if a pass fails that another request had begun before.
        :return: the listener, satisfied or at the end of the bytes.
        :raises UpstreamFailure: as the reader; Overloaded if there was no slot in time.
        """
        listener = make_listener()
        joined = self._join(request, listener)
        if joined is not None:
            try:
                await joined
            except UpstreamFailure:
                # That request's time may have been over when this one's had begun.
                listener = make_listener()
            else:
                return listener
        await (self._join(request, listener) or await self._begin(request, listener))
        return listener

    def _join(self, request: PassRequest, listener: Listener) -> "Deferred[None] | None":
        newest = self._newest.get(request.key)
        return newest.join(listener) if newest is not None and newest.admits(listener, request.needed) else None

    async def _begin(self, request: PassRequest, listener: Listener) -> "Deferred[None]":
        """
        Begin a pass, as soon as it may have a slot; or join another that begins before.

        :return: fires as that of :meth:`_Pass.join`.
        """
        slot = None
        if request.needed.has_slot:
            slot = self._slots.slot(request.address)
            joined = await self._wait(request, _Waiting(listener, request.needed, slot))
            if joined is not None:
                return joined
        begun = _Pass(request, slot, self._ended)
        self._newest[request.key] = begun
        joined = begun.join(listener)
        self._let_others_join(begun)
        begun.begin()
        return joined

    async def _wait(self, request: PassRequest, waiting: _Waiting) -> "Deferred[None] | None":
        self._waiting.setdefault(request.key, []).append(waiting)
        try:
            await waiting.slot.acquire(is_committed=False)
        except CancelledError:
            if waiting.joined is None:
                raise
        finally:
            self._waiting[request.key].remove(waiting)
            if not self._waiting[request.key]:
                del self._waiting[request.key]
        return waiting.joined

    def _let_others_join(self, begun: _Pass) -> None:
        """All listeners that wait for a slot to begin a pass over the same attachment."""
        for waiting in list(self._waiting.get(begun.request.key, ())):
            if begun.admits(waiting.listener, waiting.needed):
                waiting.joined = begun.join(waiting.listener)
                waiting.slot.release()

    def _ended(self, ended: _Pass) -> None:
        if self._newest.get(ended.request.key) is ended:
            del self._newest[ended.request.key]
