"""How bytes are divided among connections: each is brought once, and none is forgotten."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from txcouchdl.cli.segments import Segment, Work
from txcouchdl.cli.spans import Spans
from txcouchdl.protocol.ranges import ByteRange


def _bring(segment: Segment, count: int) -> set[int]:
    first = segment.next
    segment.next += min(count, segment.missing)
    return set(range(first, segment.next))


@given(
    st.integers(1, 400),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 50)), max_size=3),
    st.integers(1, 20),
    st.integers(1, 5),
    st.integers(0, 2**32).map(Random),
)
def test_each_byte_once(length: int, done: list[tuple[int, int]], least: int, connections: int, random: Random) -> None:
    """However fast each connection is, and however often it breaks off."""
    there = Spans(ByteRange(first, min(first + more, length - 1)) for first, more in done if first < length)
    work = Work(length, there, least)
    brought = {position for each in there for position in range(each.first, each.last + 1)}
    at_work: list[Segment] = []
    for _ in range(10_000):
        while len(at_work) < connections and (segment := work.take(connections - len(at_work))) is not None:
            at_work.append(segment)
        if not at_work:
            break
        segment = random.choice(at_work)
        new = _bring(segment, random.randrange(60))
        assert not brought & new
        brought |= new
        assert {position for each in work.done for position in range(each.first, each.last + 1)} == brought
        if not segment.missing or random.random() < 0.5:
            at_work.remove(segment)
            work.give_back(segment)
    assert brought == set(range(length))
    assert work.missing == 0


def test_a_gap_is_shared() -> None:
    work = Work(100, Spans(), 10)
    taken = [work.take(idle) for idle in (4, 3, 2, 1)]
    assert [each.rest for each in taken if each] == [ByteRange(first, first + 24) for first in (0, 25, 50, 75)]


def test_a_small_gap_is_not() -> None:
    work = Work(15, Spans(), 10)
    assert [each and each.missing for each in (work.take(4), work.take(3), work.take(2))] == [10, 5, None]


def test_who_is_idle_takes_the_second_half_of_the_most() -> None:
    work = Work(100, Spans(), 10)
    slow, fast = work.take(2), work.take(1)
    assert slow is not None
    assert fast is not None
    _bring(fast, 50)
    work.give_back(fast)
    _bring(slow, 10)
    taken = work.take(1)
    assert taken is not None
    assert slow.rest == ByteRange(10, 29)
    assert taken.rest == ByteRange(30, 49)
    assert work.take(1) is not None
    assert work.take(1) is not None
    assert work.take(1) is None, "there are fewer than twice the least of each"


def test_what_was_given_back_may_be_taken() -> None:
    work = Work(100, Spans([ByteRange(0, 9)]), 10)
    segment = work.take(1)
    assert segment is not None
    _bring(segment, 30)
    work.give_back(segment)
    assert work.done == Spans([ByteRange(0, 39)])
    again = work.take(1)
    assert again is not None
    assert again.rest == ByteRange(40, 99)
