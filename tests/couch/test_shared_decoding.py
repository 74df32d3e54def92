"""One pass for several listeners: against Python's slices, whenever they come."""

import gzip
import hashlib
from collections.abc import Sequence
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import strategies
from txcouchdl.couch.decoding import STEP, Identity
from txcouchdl.couch.errors import CorruptAttachment
from txcouchdl.couch.shared_decoding import EndListener, Listener, RangesListener, SharedDecoder
from txcouchdl.protocol.ranges import ByteRange

#: Several steps, and no two pieces of it the same.
PLAIN: Final = b"".join(b"%07d\n" % number for number in range(50_000))
GZIP: Final = gzip.compress(PLAIN)


class Scene:
    """
    A decoder, and who has been satisfied.
    """

    def __init__(self, length: int | None = len(PLAIN), *, is_learning: bool = False) -> None:
        self.satisfied: list[Listener] = []
        self.decoder = SharedDecoder(length, self.satisfied.append, is_learning=is_learning)

    def listen(self, *ranges: tuple[int, int]) -> RangesListener:
        listener = RangesListener([ByteRange(first, last) for first, last in ranges])
        self.decoder.add(listener)
        return listener

    def feed(self, stored: bytes) -> None:
        self.decoder.feed(stored)
        while self.decoder.read() is not None:
            pass


def _cut(ranges: Sequence[ByteRange], plain: bytes) -> bytes:
    return b"".join(plain[each.first : each.last + 1] for each in ranges)


@given(
    st.data(), st.lists(strategies.gzip_members(), min_size=1, max_size=3).filter(lambda all_: any(m[1] for m in all_))
)
def test_each_listener_gets_its_bytes_whenever_it_comes(
    data: st.DataObject, members: list[tuple[bytes, bytes]]
) -> None:
    stored, plain = b"".join(member for member, _ in members), b"".join(content for _, content in members)
    scene = Scene(len(plain))
    expected: dict[Listener, bytes] = {}
    for piece in data.draw(strategies.cuts(stored)):
        position = scene.decoder.position
        for _ in range(data.draw(st.integers(0, 2)) if position < len(plain) else 0):
            left = data.draw(strategies.ascending_byte_ranges(len(plain) - position))
            ranges = data.draw(st.permutations([ByteRange(position + r.first, position + r.last) for r in left]))
            listener = RangesListener(ranges)
            assert listener.position >= position
            scene.decoder.add(listener)
            expected[listener] = _cut(ranges, plain)
        scene.feed(piece)
    assert {listener: listener.result() for listener in scene.satisfied} == expected  # type: ignore[attr-defined]
    assert scene.decoder.is_satisfied
    assert scene.decoder.finish() == b""


def test_the_order_is_that_of_the_ranges() -> None:
    scene = Scene()
    listener = scene.listen((300_000, 300_007), (0, 7), (100_000, 100_015))
    scene.feed(GZIP)
    assert listener.result() == PLAIN[300_000:300_008] + PLAIN[:8] + PLAIN[100_000:100_016]


def test_a_listener_is_satisfied_with_its_last_byte_and_no_later() -> None:
    scene = Scene()
    first, second = scene.listen((0, 0)), scene.listen((5, 5), (STEP, STEP))
    scene.decoder.feed(GZIP)
    assert scene.decoder.read() == b""
    assert scene.satisfied == [first]
    assert not scene.decoder.is_satisfied
    assert scene.decoder.read() == b""
    assert scene.satisfied == [first, second]
    assert scene.decoder.is_satisfied


def test_who_has_left_gets_nothing_more() -> None:
    scene = Scene()
    listeners = [scene.listen((at, at), (200_000 + at, 200_000 + at)) for at in range(0, 100, 10)]
    scene.decoder.feed(GZIP)
    scene.decoder.read()
    gone = listeners[3]
    scene.decoder.remove(gone)
    while scene.decoder.read() is not None:
        pass
    assert gone not in scene.satisfied
    assert set(scene.satisfied) == {*listeners} - {gone}
    assert all(listener.result() == _cut(listener._order, PLAIN) for listener in listeners if listener is not gone)


def test_those_that_stay_are_looked_at_in_time() -> None:
    """The one that wants its bytes first leaves, and they stand in no order."""
    scene = Scene()
    places = [STEP * number for number in (0, 4, 1, 5, 3, 2)]
    listeners = [scene.listen((at + 9, at + 9), (at + 30, at + 40)) for at in places]
    scene.decoder.remove(listeners[0])
    scene.feed(GZIP)
    assert len(scene.satisfied) == 5
    assert all(listener.result() == _cut(listener._order, PLAIN) for listener in listeners[1:])


def test_a_listener_that_misses_bytes_is_told() -> None:
    scene = Scene(len(PLAIN) + 1)
    scene.listen((5, 5))
    scene.listen((len(PLAIN) - 1, len(PLAIN)))
    scene.feed(GZIP)
    with pytest.raises(CorruptAttachment, match="less than its length"):
        scene.decoder.finish()


def test_a_pass_that_ends_within_a_member_is_no_end() -> None:
    scene = Scene(None)
    scene.decoder.add(EndListener(None))
    scene.feed(GZIP[:-1])
    with pytest.raises(CorruptAttachment, match="in the middle"):
        scene.decoder.finish()


@pytest.mark.parametrize(
    ("most", "gives_up"),
    [(len(PLAIN) - 1, True), (len(PLAIN), False), (len(PLAIN) + 1, False), (None, False), (0, True)],
)
def test_who_waits_for_the_end_waits_for_so_many_bytes(most: int | None, gives_up: bool) -> None:
    scene = Scene(None, is_learning=True)
    listener = EndListener(most)
    scene.decoder.add(listener)
    scene.feed(GZIP)
    assert (listener.is_satisfied, scene.satisfied) == (gives_up, [listener] if gives_up else [])
    assert scene.decoder.is_satisfied is gives_up
    assert scene.decoder.finish() == b""


@pytest.mark.parametrize("is_learning", [True, False])
@pytest.mark.parametrize("length", [None, len(PLAIN)])
def test_what_a_whole_pass_learns(length: int | None, is_learning: bool) -> None:
    expected = Identity(len(PLAIN), hashlib.sha256(PLAIN).digest()) if is_learning else None
    scene = Scene(length, is_learning=is_learning)
    scene.listen((len(PLAIN) - 1, len(PLAIN) - 1))
    scene.feed(GZIP)
    assert scene.decoder.identity() == expected
    scene = Scene(length, is_learning=is_learning)
    scene.decoder.add(EndListener(None))
    scene.feed(GZIP)
    scene.decoder.finish()
    assert scene.decoder.identity() == expected


def test_what_only_seemed_the_end_teaches_nothing() -> None:
    """A pass that stops early, one over more than the document says, and one over a member that does not end."""
    for stored, length, stop in (
        (GZIP, len(PLAIN), 5),
        (gzip.compress(PLAIN + b"!"), len(PLAIN), len(PLAIN) - 1),
        (gzip.compress(PLAIN), 2 * STEP, 2 * STEP - 1),
        (GZIP[:-1], len(PLAIN), len(PLAIN) - 1),
    ):
        scene = Scene(length, is_learning=True)
        scene.listen((stop, stop))
        scene.decoder.feed(stored)
        while not scene.decoder.is_satisfied:
            scene.decoder.read()
        assert scene.decoder.identity() is None


def test_what_is_no_gzip() -> None:
    scene = Scene()
    scene.listen((0, 0))
    with pytest.raises(CorruptAttachment, match="not gzip"):
        scene.feed(b"no gzip at all")


class _Counted(RangesListener):
    takes = 0

    def take(self, begin: int, inflated: bytes) -> None:
        type(self).takes += 1
        super().take(begin, inflated)


def test_who_wants_nothing_of_a_step_costs_nothing() -> None:
    """A thousand that want the last byte, in a pass of a hundred steps."""
    plain = bytes(100 * STEP)
    scene = Scene(len(plain))
    for _ in range(1000):
        scene.decoder.add(_Counted([ByteRange(5, 5), ByteRange(len(plain) - 1, len(plain) - 1)]))
    _Counted.takes = 0
    scene.feed(gzip.compress(plain))
    assert len(scene.satisfied) == 1000
    assert _Counted.takes == 2000
