"""The table of addresses and of secrets that were right: for one process, and for several that share it."""

import os
import re
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txcouchdl.couch.names import DocumentAddress
from txcouchdl.gateway import guess_table
from txcouchdl.gateway.guess_table import MAX_ADDRESSES, PERIOD, SIZE, GuessTable, RecentSuccesses, Windows
from txcouchdl.gateway.guess_windows import POLL, Ticket, Wait
from txcouchdl.workers.shared_minutes import new_table, shared_table

_NOW = 1.75e9
_DOCUMENT = DocumentAddress("db", "doc")


@pytest.fixture(params=["own", "shared"])
def tables(request: pytest.FixtureRequest) -> Iterator[tuple[GuessTable, GuessTable]]:
    """An empty table as two parts of the gateway see it: of one process, or of two processes."""
    if request.param == "own":
        table = GuessTable.own()
        yield table, table
        return
    descriptor = new_table()
    yield shared_table(descriptor), shared_table(descriptor)
    os.close(descriptor)


def _fill(windows: Windows, customer: str, limit: int = 1, now: float = _NOW) -> None:
    for _ in range(limit):
        ticket = windows.admit(windows.name(customer), limit, now)
        assert isinstance(ticket, Ticket)
        windows.count_wrong(windows.name(customer), ticket, limit, now)


def _is_full(windows: Windows, customer: str, limit: int = 1, now: float = _NOW) -> bool:
    verdict = windows.admit(windows.name(customer), limit, now)
    if isinstance(verdict, Ticket):
        windows.take_back(windows.name(customer), verdict, now)
    return isinstance(verdict, Wait) and verdict.is_full


# --- addresses ----------------------------------------------------------------------------------------------


def test_both_count_together(tables: tuple[GuessTable, GuessTable]) -> None:
    one, other = (table.windows for table in tables)
    tickets = [windows.admit(windows.name("192.0.2.1"), 3, _NOW) for windows in (one, other, one)]
    assert other.admit(other.name("192.0.2.1"), 3, _NOW) == Wait(POLL, is_full=False)
    for windows, ticket in zip((one, other, one), tickets, strict=True):
        assert isinstance(ticket, Ticket)
        windows.count_wrong(windows.name("192.0.2.1"), ticket, 3, _NOW)
    assert (
        one.admit(one.name("192.0.2.1"), 3, _NOW)
        == other.admit(other.name("192.0.2.1"), 3, _NOW)
        == Wait(1, is_full=True)
    )
    # One turn is one turn in both.
    assert isinstance(one.admit(one.name("192.0.2.1"), 3, _NOW + 1), Ticket)
    assert other.admit(other.name("192.0.2.1"), 3, _NOW + 1) == Wait(2, is_full=True)


def test_a_ticket_that_is_taken_back_leaves_nothing(
    tables: tuple[GuessTable, GuessTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients with right tokens take no place from addresses that are to be remembered."""
    monkeypatch.setattr(guess_table, "_BUCKETS", 1)
    one, other = (table.windows for table in tables)
    _fill(one, "192.0.2.1")
    for number in range(100):
        ticket = one.admit(one.name(f"10.0.0.{number}"), 1, _NOW)
        assert isinstance(ticket, Ticket)
        other.take_back(other.name(f"10.0.0.{number}"), ticket, _NOW)
    assert _is_full(other, "192.0.2.1")


def test_each_address_has_a_window_of_its_own(tables: tuple[GuessTable, GuessTable]) -> None:
    one, other = (table.windows for table in tables)
    _fill(one, "192.0.2.1")
    assert _is_full(other, "192.0.2.1")
    assert not _is_full(other, "192.0.2.2")


def test_no_address_of_so_many_is_forgotten(tables: tuple[GuessTable, GuessTable]) -> None:
    one, other = (table.windows for table in tables)
    addresses = [f"10.0.{number >> 8}.{number & 255}" for number in range(MAX_ADDRESSES)]
    for address in addresses:
        _fill(one, address)
    assert all(_is_full(other, address) for address in addresses)


def test_of_too_many_the_last_is_known(tables: tuple[GuessTable, GuessTable], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guess_table, "_BUCKETS", 8)
    one, other = (table.windows for table in tables)
    for number in range(400):
        address = f"10.0.{number >> 8}.{number & 255}"
        _fill(one, address, now=_NOW + number * 1e-4)
        assert _is_full(other, address, now=_NOW + number * 1e-4)


def test_the_window_that_ends_first_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is over first of all."""
    monkeypatch.setattr(guess_table, "_BUCKETS", 1)
    windows = GuessTable.own().windows
    for number in range(32):
        _fill(windows, f"a{number}", now=_NOW + number)
    _fill(windows, "a0", now=_NOW + 31.5)
    _fill(windows, "b", now=_NOW + 32)
    assert [number for number in range(32) if not _is_known(windows, f"a{number}")] == [1]
    # A ticket of an address that has been forgotten takes nobody's place.
    windows.take_back(windows.name("a1"), Ticket(_NOW + 1, None), _NOW + 32)
    assert [number for number in range(32) if not _is_known(windows, f"a{number}")] == [1]
    # Those of a2 and a3 are over by then.
    _fill(windows, "c", now=_NOW + 63.5)
    _fill(windows, "d", now=_NOW + 63.5)
    assert [number for number in range(32) if not _is_known(windows, f"a{number}")] == [1, 2, 3]
    assert all(_is_known(windows, address) for address in ("b", "c", "d"))


def _is_known(windows: Windows, customer: str) -> bool:
    return windows._memory.find(windows.name(customer)) >= 0


@pytest.mark.parametrize("junk", [b"\xff", b"\x7f", b"\x41", b"\x00\x01\xf0"])
def test_slots_of_nonsense(junk: bytes) -> None:
    """A process may be killed while it writes."""
    descriptor = new_table()
    windows = shared_table(descriptor).windows
    os.pwrite(descriptor, (junk * SIZE)[: SIZE - 32], 32)
    for number in range(200):
        _fill(windows, f"192.0.2.{number}")
        assert _is_full(windows, f"192.0.2.{number}")
    os.close(descriptor)


@given(st.lists(st.tuples(st.binary(min_size=40, max_size=40), st.floats(0, 100)), max_size=20))
def test_an_address_whose_slot_is_nonsense_waits_no_longer_than_others(tries: list[tuple[bytes, float]]) -> None:
    windows, now = GuessTable.own().windows, _NOW
    for junk, seconds in tries:
        _fill(windows, "192.0.2.1", 2, now)
        [place] = re.finditer(re.escape(struct.pack("d", now)), windows._memory)
        windows._memory[place.start() : place.start() + len(junk)] = junk
        now += seconds
        verdict = windows.admit(windows.name("192.0.2.1"), 2, now)
        assert isinstance(verdict, Ticket) or 0 < verdict.seconds <= 5
        now += 60
        assert isinstance(windows.admit(windows.name("192.0.2.1"), 2, now), Ticket)
        now += 60


@pytest.mark.parametrize("back", [10, 100, 3600, 10**7])
def test_a_clock_that_is_set_back_holds_nobody_off_for_longer(back: int) -> None:
    """Not even an address that has been guessing for two hours."""
    windows, now = GuessTable.own().windows, _NOW
    _fill(windows, "192.0.2.1", 2, now)
    for _ in range(1440):
        now += 5
        ticket = windows.admit(windows.name("192.0.2.1"), 2, now)
        assert isinstance(ticket, Ticket)
        windows.count_wrong(windows.name("192.0.2.1"), ticket, 2, now)
    now -= back
    verdict = windows.admit(windows.name("192.0.2.1"), 2, now)
    if isinstance(verdict, Wait):
        assert 0 < verdict.seconds <= 5
        assert isinstance(windows.admit(windows.name("192.0.2.1"), 2, now + verdict.seconds), Ticket)
    _fill(windows, "192.0.2.1", 2, now + 120)


# --- secrets ------------------------------------------------------------------------------------------------


def _successes(tables: tuple[GuessTable, GuessTable]) -> tuple[RecentSuccesses, RecentSuccesses]:
    return tables[0].successes, tables[1].successes


def test_a_success_is_remembered_by_all(tables: tuple[GuessTable, GuessTable]) -> None:
    one, other = _successes(tables)
    mark = one.mark(_DOCUMENT, b"secret")
    assert not other.includes(mark, _NOW)
    one.remember(mark, _NOW)
    assert other.includes(other.mark(_DOCUMENT, b"secret"), _NOW)
    other.forget(mark)
    assert not one.includes(mark, _NOW)
    other.forget(mark)


def test_a_success_is_one_of_a_secret_and_a_document() -> None:
    successes = GuessTable.own().successes
    places = {
        ("db", "doc", b"secret"),
        ("db", "doc", b"secre"),
        ("db", "docs", b"ecret"),
        ("d", "bdoc", b"secret"),
        ("db", "do", b"csecret"),
        ("dbd", "oc", b"secret"),
        ("", "db3 doc", b"secret"),
        ("1 1 db", "doc", b"secret"),
    }
    marks = {successes.mark(DocumentAddress(database, document), secret) for database, document, secret in places}
    assert len(marks) == len(places)
    assert GuessTable.own().successes.mark(_DOCUMENT, b"secret") not in marks, "the hash has a key"


@pytest.mark.parametrize("start", [0.0, PERIOD - 1, 100.5 * PERIOD, _NOW])
def test_a_success_is_remembered_for_one_to_two_periods(start: float) -> None:
    successes = GuessTable.own().successes
    mark = successes.mark(_DOCUMENT, b"secret")
    successes.remember(mark, start)
    # Each use within that time prolongs it.
    for number in range(5):
        assert successes.includes(mark, start + number * PERIOD)
    assert not successes.includes(mark, start + 6 * PERIOD)
    successes.remember(mark, start + 6 * PERIOD)
    assert successes.includes(mark, start + 6 * PERIOD)


def test_a_clock_that_is_set_back_over_the_end_of_a_period() -> None:
    successes = GuessTable.own().successes
    mark = successes.mark(_DOCUMENT, b"secret")
    successes.remember(mark, 10 * PERIOD)
    assert successes.includes(mark, 10 * PERIOD - 1)


def test_many_successes_take_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The latest are known, and most of those before. Here, of 512."""
    monkeypatch.setattr(guess_table, "_ROWS", 64)
    successes = GuessTable.own().successes
    marks = [successes.mark(_DOCUMENT, b"%d" % number) for number in range(512)]
    for mark in marks:
        successes.remember(mark, _NOW)
        assert successes.includes(mark, _NOW)
    assert sum(successes.includes(mark, _NOW) for mark in marks) > 380
    assert sum(successes.includes(mark, _NOW) for mark in marks[:150]) > 90
    # Secrets that have not been used for long give way first.
    later = [successes.mark(_DOCUMENT, b"later %d" % number) for number in range(100)]
    for mark in later:
        successes.remember(mark, _NOW + 5 * PERIOD)
    assert sum(successes.includes(mark, _NOW + 5 * PERIOD) for mark in later) > 95


def test_a_secret_is_nowhere_in_memory() -> None:
    table = GuessTable.own()
    mark = table.successes.mark(_DOCUMENT, b"a-secret-of-some-length")
    table.successes.remember(mark, _NOW)
    _fill(table.windows, "192.0.2.123")
    memory = table.windows._memory[:]
    assert b"a-secret" not in memory
    assert b"192.0.2" not in memory
