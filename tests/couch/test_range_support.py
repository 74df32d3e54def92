"""Which nodes ignore ranges, as far as their answers show."""

from hypothesis import given
from hypothesis import strategies as st

from txcouchdl.couch.range_support import RangeSupport


class Now:
    seconds = 1000.0


def support(size: int = 2) -> tuple[RangeSupport[str], Now]:
    now = Now()
    return RangeSupport(size, lambda: now.seconds), now


def test_until_shown_otherwise_ranges_are_served() -> None:
    ranges, _ = support()
    assert (list(ranges.ignoring), ranges.is_lost, ranges.is_surely_lost) == ([], False, False)
    assert not ranges.served("a")


def test_news_is_told_once() -> None:
    ranges, _ = support()
    assert [ranges.ignored("a"), ranges.ignored("a")] == [True, False]
    assert [ranges.served("a"), ranges.served("a")] == [True, False]
    assert ranges.ignored("a")


def test_all_of_them_have_to_ignore_ranges() -> None:
    ranges, _ = support()
    ranges.ignored("a")
    assert not ranges.is_lost
    ranges.ignored("b")
    assert (ranges.is_lost, sorted(ranges.ignoring)) == (True, ["a", "b"])
    ranges.served("a")
    assert (ranges.is_lost, sorted(ranges.ignoring)) == (False, ["b"])


def test_what_was_seen_is_relied_on_for_a_minute() -> None:
    """By whichever node it was seen at last."""
    ranges, now = support()
    ranges.ignored("a")
    now.seconds += 59
    ranges.ignored("b")
    now.seconds += 59.9
    assert ranges.is_surely_lost
    now.seconds += 0.1
    assert (ranges.is_lost, ranges.is_surely_lost) == (True, False)
    ranges.ignored("a")
    assert ranges.is_surely_lost


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans())))
def test_the_last_answer_of_each_node_counts(answers: list[tuple[str, bool]]) -> None:
    ranges, _ = support(3)
    for node, is_served in answers:
        (ranges.served if is_served else ranges.ignored)(node)
    last = dict(answers)
    assert set(ranges.ignoring) == {node for node, is_served in last.items() if not is_served}
    assert ranges.is_lost is ranges.is_surely_lost is (len(last) == 3 and not any(last.values()))
