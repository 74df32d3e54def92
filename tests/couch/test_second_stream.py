"""Moments of a second stream beside a silent one that whole requests meet too seldom."""

from collections.abc import Callable
from typing import cast

import pytest
from twisted.internet.defer import Deferred

from tests.couch.test_hedging import Ledger
from tests.couch.test_stored_bytes import DATA, Reader, Upstream
from txcouchdl.couch.errors import UpstreamUnavailable
from txcouchdl.couch.hedging import Hedge, Hedges
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.opened_body import Body
from txcouchdl.couch.reading import Request
from txcouchdl.couch.tally import HedgeKind
from txcouchdl.couch.transfer import HELD_BACK
from txcouchdl.protocol.ranges import ByteRange

LIMITS = UpstreamLimits()


class Hedged(Upstream):
    """A body that has another node beside it, if the test says so."""

    def __init__(self, request: Request, reader: "HedgedReader") -> None:
        super().__init__(request)
        self._reader = reader
        self.tally = reader.ledger

    def hedge(self, start: Callable[[], bool]) -> Hedge:
        return Hedge(self._reader.hedges, HedgeKind.BODY, start)

    def open_elsewhere(self, request: Request) -> "Deferred[Body] | None":
        return self._reader.open_elsewhere(request)


class HedgedReader(Reader):
    """A reader of bodies that are hedged."""

    def __init__(self, *, is_committed: bool = True) -> None:
        super().__init__(is_committed=is_committed)
        self.ledger = Ledger()
        self.hedges = Hedges(LIMITS.hedge_after, lambda: 0, self.clock, self.ledger)
        self.has_place = True
        self.seconds: list[Request] = []
        self.second_opening: Deferred[Body] = Deferred()
        self.cancelled: list[object] = []

    def opened(self) -> Hedged:
        upstream = Hedged(self.asked[-1], self)
        self.opening.pop().callback(cast(Body, upstream))
        return upstream

    def open_elsewhere(self, request: Request) -> "Deferred[Body] | None":
        if not self.has_place:
            return None
        self.seconds.append(request)
        self.second_opening = Deferred(self.cancelled.append)
        return self.second_opening

    def second_opened(self) -> Hedged:
        """The other node answers."""
        upstream = Hedged(self.seconds[-1], self)
        self.second_opening.callback(cast(Body, upstream))
        return upstream

    def silence(self) -> None:
        self.clock.advance(LIMITS.hedge_after)

    @property
    def is_hedging(self) -> bool:
        """Whether a unit of the budget is in use."""
        return bool(self.hedges._running)


def silent(count: int = 10_000) -> tuple[HedgedReader, Hedged]:
    """A reader whose body has fallen silent after so many bytes."""
    reader = HedgedReader()
    upstream = reader.opened()
    upstream.send(DATA[:count])
    reader.silence()
    return reader, upstream


def finish(reader: HedgedReader, upstream: Hedged) -> None:
    upstream.send(DATA[len(DATA) - upstream.missing :])
    assert (reader.received, reader.is_complete) == (DATA, True)
    assert upstream.is_vacated
    assert not reader.is_hedging
    # The last look for what takes long.
    reader.silence()
    assert not reader.clock.getDelayedCalls()


def test_the_second_stream_takes_over() -> None:
    reader, first = silent()
    [request] = reader.seconds
    assert request.byte_range == ByteRange(10_000 - HELD_BACK, len(DATA) - 1)
    second = reader.second_opened()
    second.send(DATA[10_000 - HELD_BACK :][: HELD_BACK + 1])
    assert first.is_vacated
    assert not reader.is_hedging
    assert reader.received == DATA[: 10_000 - HELD_BACK + 1]
    finish(reader, second)
    assert reader.ledger.won == reader.ledger.begun == [HedgeKind.BODY]


@pytest.mark.parametrize("is_brief", [True, False])
@pytest.mark.parametrize("is_open", [True, False])
def test_a_pause_drops_the_second_stream(is_open: bool, is_brief: bool) -> None:
    """Nobody wants bytes. Who wants them again may have to wait, and is hedged again."""
    reader, first = silent()
    second = reader.second_opened() if is_open else None
    reader.stored.pause(is_brief=is_brief)
    assert not reader.is_hedging
    assert second.is_vacated if second is not None else len(reader.cancelled) == 1
    assert not first.is_vacated
    reader.clock.advance(5)
    assert len(reader.seconds) == 1
    reader.stored.resume()
    reader.silence()
    assert len(reader.seconds) == 2
    finish(reader, first)


def test_who_is_back_from_a_pause_has_its_place_to_itself() -> None:
    reader, first = silent()
    reader.stored.pause()
    assert first.give_up is not None
    reader.stored.resume()
    assert not hasattr(first, "give_up")


@pytest.mark.parametrize("is_committed", [True, False])
def test_a_second_stream_that_does_not_open_is_no_failure(is_committed: bool) -> None:
    """Also before something was told to the client, where a few failures end it."""
    reader = HedgedReader(is_committed=is_committed)
    first = reader.opened()
    reader.silence()
    reader.second_opening.errback(UpstreamUnavailable("no"))
    assert reader.failure is None
    assert not reader.is_hedging
    first.send(DATA)
    assert (reader.received, reader.is_complete) == (DATA, True)


def test_before_the_client_has_something_the_second_stream_takes_over_too() -> None:
    reader = HedgedReader(is_committed=False)
    first = reader.opened()
    reader.silence()
    second = reader.second_opened()
    second.send(DATA)
    assert (reader.received, reader.is_complete) == (DATA, True)
    assert first.is_vacated
    assert second.is_vacated


def test_a_second_stream_that_wakes_up_is_not_dropped() -> None:
    """What it brings at first is held back: there may be longer silences in it."""
    reader, first = silent()
    second = reader.second_opened()
    second.send(DATA[10_000 - HELD_BACK :][:10])
    reader.silence()
    second.send(DATA[10_000 - HELD_BACK :][10:20])
    assert not second.is_vacated
    assert reader.is_hedging
    finish(reader, first)
    assert second.is_vacated


def test_a_second_stream_that_is_silent_has_none_beside_it() -> None:
    reader, _ = silent()
    reader.second_opened()
    reader.silence()
    reader.silence()
    assert len(reader.seconds) == 1


def test_without_a_place_it_is_tried_again_later() -> None:
    reader = HedgedReader()
    reader.has_place = False
    first = reader.opened()
    first.send(DATA[:10_000])
    reader.silence()
    assert not reader.seconds
    assert not reader.is_hedging
    reader.has_place = True
    reader.silence()
    assert len(reader.seconds) == 1
    assert reader.ledger.begun == [HedgeKind.BODY]
    finish(reader, first)


def test_without_a_place_it_is_not_tried_once_a_byte_has_come() -> None:
    reader = HedgedReader()
    reader.has_place = False
    first = reader.opened()
    reader.silence()
    first.send(DATA[:10_000])
    reader.has_place = True
    reader.clock.advance(LIMITS.hedge_after - 0.1)
    assert not reader.seconds
    finish(reader, first)


def test_a_second_stream_that_is_promoted_has_a_second_one_in_its_time() -> None:
    reader, first = silent()
    second = reader.second_opened()
    first.lose(UpstreamUnavailable("reset"))
    assert not reader.is_hedging
    reader.silence()
    assert len(reader.seconds) == 2
    assert reader.is_hedging
    finish(reader, second)


def test_dropped_it_drops_both() -> None:
    reader, first = silent()
    second = reader.second_opened()
    reader.stored.drop()
    assert first.is_vacated
    assert second.is_vacated
    assert not reader.is_hedging
    assert not reader.clock.getDelayedCalls()
