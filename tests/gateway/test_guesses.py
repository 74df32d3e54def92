"""Wrong tokens: so many a minute from one address, and nobody else is held up."""

import gc
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import UNIXAddress
from twisted.internet.task import Clock

from tests.gateway.house import TOKEN, Answer, House, read_answer
from tests.scripted import Stored
from txcouchdl.couch.errors import DownloadError
from txcouchdl.gateway import errors
from txcouchdl.gateway.errors import ErrorAnswer, TooManyGuesses, answer_for
from txcouchdl.gateway.guesses import MAX_ADDRESSES, Guesses, Minute, Minutes, OwnMinutes
from txcouchdl.workers.shared_minutes import SharedMinutes, new_table

# A time at which floats are coarse.
_NOW = 1.75e9


def _clock() -> Clock:
    clock = Clock()
    clock.advance(_NOW)
    return clock


@contextmanager
def _minutes_of(kind: str) -> Iterator[Minutes]:
    """Shared ones as two processes would see them that count in turn."""
    if kind == "own":
        yield OwnMinutes()
        return
    table = new_table()
    yield _Both(SharedMinutes(table), SharedMinutes(table))
    os.close(table)


_KINDS = ["own", "shared"]


@pytest.fixture(params=_KINDS)
def minutes(request: pytest.FixtureRequest) -> Iterator[Minutes]:
    """Of which nobody has any yet."""
    with _minutes_of(request.param) as found:
        yield found


class _Both:
    """Two views of one table, used in turn."""

    def __init__(self, *views: Minutes) -> None:
        self._views = cycle(views)

    def count(self, customer: str, most: int, now: float) -> Minute:
        return next(self._views).count(customer, most, now)


# --- counting -----------------------------------------------------------------------------------------------


def test_a_minute_begins_with_the_first_wrong_token(minutes: Minutes) -> None:
    clock = _clock()
    guesses = Guesses(3, clock, minutes)
    assert guesses.wrong("192.0.2.1") is None
    clock.advance(10)
    assert [guesses.wrong("192.0.2.1") for _ in range(4)] == [None, None, 50, 50]
    clock.advance(49.75)
    assert guesses.wrong("192.0.2.1") == 0.25
    clock.advance(0.25)
    assert [guesses.wrong("192.0.2.1") for _ in range(4)] == [None, None, None, 60]


def test_no_limit(minutes: Minutes) -> None:
    guesses = Guesses(0, _clock(), minutes)
    assert {guesses.wrong("192.0.2.1") for _ in range(1000)} == {None}


@pytest.mark.parametrize(
    ("one", "other", "is_the_same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("unix", "unix", True),
        ("unix", "unknown", False),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("2001:db8:0:1::", "2001:db8::ffff:ffff:ffff:ffff", False),
        ("::1", "0.0.0.0", False),
    ],
)
def test_who_counts_as_one(minutes: Minutes, one: str, other: str, is_the_same: bool) -> None:
    guesses = Guesses(1, _clock(), minutes)
    assert guesses.wrong(one) is None
    assert (guesses.wrong(other) is not None) == is_the_same


_ADDRESSES = ["192.0.2.1", "192.0.2.2", "2001:db8::1"]
_steps = st.sampled_from([0.0, 0.0, 0.25, 1.0, 20.0, 59.75, 60.0, 60.25, 1000.0])


@given(
    st.sampled_from(_KINDS), st.integers(1, 4), st.lists(st.tuples(_steps, st.sampled_from(_ADDRESSES)), max_size=40)
)
def test_like_a_list_of_all_wrong_tokens(kind: str, limit: int, tries: list[tuple[float, str]]) -> None:
    with _minutes_of(kind) as minutes:
        clock = _clock()
        guesses = Guesses(limit, clock, minutes)
        shown: dict[str, list[float]] = defaultdict(list)
        for step, address in tries:
            clock.advance(step)
            if shown[address] and clock.seconds() - shown[address][0] >= 60:
                shown[address].clear()
            shown[address].append(clock.seconds())
            until = shown[address][0] + 60 if len(shown[address]) > limit else None
            assert guesses.wrong(address) == (None if until is None else until - clock.seconds())


@given(st.sampled_from(_KINDS), st.integers(1, 5), st.lists(st.floats(0, 120), min_size=1, max_size=60))
def test_what_the_limit_means(kind: str, limit: int, steps: list[float]) -> None:
    """Who keeps to it is never held off; who does not gets no further than twice as far, in any minute."""
    with _minutes_of(kind) as minutes:
        clock = _clock()
        guesses = Guesses(limit, clock, minutes)
        shown: list[float] = []
        allowed: list[float] = []
        for step in steps:
            clock.advance(step)
            now = clock.seconds()
            held_off = guesses.wrong("192.0.2.1")
            shown.append(now)
            if sum(now - each < 60 for each in shown) <= limit:
                assert held_off is None
            if held_off is None:
                allowed.append(now)
            else:
                assert 0 < held_off <= 60
            assert sum(now - each < 60 for each in allowed) <= 2 * limit


@given(st.sampled_from(_KINDS), st.lists(st.tuples(st.floats(-200, 200), st.sampled_from(_ADDRESSES)), max_size=60))
def test_a_clock_that_is_set_holds_nobody_off_for_longer(kind: str, tries: list[tuple[float, str]]) -> None:
    """The reactor's time is the time of day."""
    with _minutes_of(kind) as minutes:
        clock = _clock()
        guesses = Guesses(2, clock, minutes)
        for step, address in tries:
            clock.advance(step)
            held_off = guesses.wrong(address)
            assert held_off is None or 0 < held_off <= 60
        for address in _ADDRESSES:
            while (held_off := guesses.wrong(address)) is None:
                pass
            clock.advance(held_off + 1e-6)
            assert guesses.wrong(address) is None


# --- memory -------------------------------------------------------------------------------------------------


def _address(number: int) -> str:
    return (
        f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1"
        if number % 2
        else f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    )


def _bytes_of(root: object) -> int:
    """Of an object and all that it refers to."""
    sizes: dict[int, int] = {}
    waiting = [root]
    while waiting:
        each = waiting.pop()
        if id(each) not in sizes and not isinstance(each, type):
            sizes[id(each)] = sys.getsizeof(each)
            waiting += gc.get_referents(each)
    return sum(sizes.values())


def test_many_addresses_take_bounded_memory() -> None:
    guesses = Guesses(1, _clock())
    for number in range(100_000):
        assert guesses.wrong(_address(number)) is None
    assert 2**20 < _bytes_of(guesses) < 3 * 2**20
    # The latest are those that are known, and asking for them makes nobody forgotten.
    known = range(99_999, 99_999 - MAX_ADDRESSES - 5, -1)
    held_off = [guesses.wrong(_address(number)) is not None for number in known]
    assert held_off == [True] * MAX_ADDRESSES + [False] * 5


def test_room_is_made_of_minutes_that_are_over() -> None:
    clock = _clock()
    guesses = Guesses(1, clock)
    for number in range(MAX_ADDRESSES):
        guesses.wrong(_address(number))
    clock.advance(59)
    assert guesses.wrong("192.0.2.1") is None
    clock.advance(1)
    for number in range(MAX_ADDRESSES, 2 * MAX_ADDRESSES - 1):
        assert guesses.wrong(_address(number)) is None
    assert guesses.wrong("192.0.2.1") == 59


def test_a_minute_that_begins_anew_is_the_latest() -> None:
    clock = _clock()
    guesses = Guesses(1, clock)
    for number in range(MAX_ADDRESSES):
        guesses.wrong(_address(number))
    clock.advance(60)
    assert guesses.wrong(_address(1)) is None
    for number in range(MAX_ADDRESSES, 2 * MAX_ADDRESSES - 1):
        assert guesses.wrong(_address(number)) is None
    assert guesses.wrong(_address(1)) == 60


# --- whole requests -----------------------------------------------------------------------------------------

_SECRETIVE = {"/db/doc/f": 200, "/db/doc/none": 404, "/db/none/f": 403, "/none/doc/f": 403, "/_users/a/f": 403}


@pytest.fixture
def house() -> House:
    return House({"f": Stored(b"bytes")}, trusted_proxies=["127.0.0.1"])


def _guess(house: House, forwarded_for: str = "198.51.100.7", target: str = "/db/doc/f", method: str = "GET") -> Answer:
    return house.ask(f"{target}?token=wrong", {"X-Forwarded-For": forwarded_for}, method)


def _use_up(house: House, forwarded_for: str = "198.51.100.7") -> None:
    assert [_guess(house, forwarded_for).status for _ in range(60)] == [403] * 60


def test_too_many_wrong_tokens(house: House) -> None:
    _use_up(house)
    answer = _guess(house)
    assert (answer.status, answer["Retry-After"], answer["Cache-Control"]) == (429, "60", "no-store")
    told = json.loads(answer.body)
    assert (told["error"], told["reason"]) == (
        "too_many_requests",
        "Too many incorrect download tokens from this address.",
    )
    house.assert_at_rest()


def test_whoever_waits_as_told_is_let_in_again(house: House) -> None:
    _use_up(house)
    house.network.pass_time(20.5)
    answer = _guess(house)
    assert (answer.status, answer["Retry-After"]) == (429, "40")
    house.network.pass_time(39)
    assert (_guess(house).status, _guess(house)["Retry-After"]) == (429, "1")
    house.network.pass_time(1)
    _use_up(house)
    assert _guess(house).status == 429


def test_a_right_token_is_not_held_up(house: House) -> None:
    _use_up(house)
    for _ in range(2):
        assert house.get("f", X_Forwarded_For="198.51.100.7").body == b"bytes"
        assert _guess(house).status == 429
    bearer = {"Authorization": f"Bearer {TOKEN}", "X-Forwarded-For": "198.51.100.7"}
    assert house.ask("/db/doc/f", bearer).status == 200
    assert house.ask("/db/doc/f", bearer, "HEAD").status == 200


def test_right_tokens_are_no_guesses(house: House) -> None:
    for _ in range(61):
        assert house.get("f", X_Forwarded_For="198.51.100.7").status == 200
    _use_up(house)


@pytest.mark.parametrize("query", ["", "?token=", "?token=wrong&token=wrong", "?rev=1-a"])
def test_who_shows_no_token_does_not_guess(house: House, query: str) -> None:
    headers = {"X-Forwarded-For": "198.51.100.7"}
    for _ in range(61):
        assert house.ask(f"/db/doc/f{query}", headers).status == 403
    _use_up(house)
    assert house.ask(f"/db/doc/f{query}", headers).status == 403


def test_what_cannot_be_checked_is_no_guess(house: House) -> None:
    house.node.faults = lambda asked: [b"HTTP/1.1 500 E\r\nContent-Length: 0\r\n\r\n"]
    for _ in range(61):
        assert _guess(house).status >= 500
    assert _guess(house, target="/db/doc").status == 404
    house.node.faults = lambda asked: None
    house.network.pass_time(60)
    _use_up(house)


def test_a_bearer_token_is_a_guess_too(house: House) -> None:
    headers = {"X-Forwarded-For": "198.51.100.7", "Authorization": "Bearer wrong"}
    assert [house.ask("/db/doc/f", headers).status for _ in range(61)] == [403] * 60 + [429]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_it_tells_nothing_of_what_exists(house: House, method: str) -> None:
    """Each is answered as every other, below the limit and above, and they all count."""
    told = []
    for number in range(60 + len(_SECRETIVE)):
        answer = _guess(house, target=list(_SECRETIVE)[number % len(_SECRETIVE)], method=method)
        told.append((answer.status, {**answer.headers, "date": ""}, answer.body))
    below, above = told[:60], told[60:]
    assert [status for status, *_ in told] == [403] * 60 + [429] * len(_SECRETIVE)
    assert below == [below[0]] * len(below)
    assert above == [above[0]] * len(above)
    assert (above[0][2] == b"") == (method == "HEAD")
    house.network.pass_time(30)
    for target, status in _SECRETIVE.items():
        assert house.ask(f"{target}?token={TOKEN}", method=method).status == status
        assert _guess(house, target=target, method=method)["Retry-After"] == "30"


def test_another_address_is_not_held_off(house: House) -> None:
    _use_up(house)
    _use_up(house, "198.51.100.8")
    assert house.ask("/db/doc/f?token=wrong").status == 403
    assert {_guess(house, each).status for each in ("198.51.100.7", "198.51.100.8")} == {429}


def test_nobody_is_another_by_saying_so(house: House) -> None:
    for number in range(60):
        assert _guess(house, f"203.0.113.{number}, 198.51.100.7:{number + 1000}").status == 403
    assert _guess(house, "203.0.113.99, 198.51.100.7").status == 429
    # Field lines are one list: a proxy may add its own.
    assert _guess(house, "203.0.113.99\r\nX-Forwarded-For: 198.51.100.7").status == 429
    assert _guess(house, "198.51.100.7\r\nX-Forwarded-For: 127.0.0.1").status == 429
    assert _guess(house, "198.51.100.7\r\nX-Forwarded-For: 203.0.113.99").status == 403


def test_without_trusted_proxies_the_peer_is_the_client() -> None:
    house = House({"f": Stored(b"bytes")})
    for number in range(60):
        assert _guess(house, f"203.0.113.{number}").status == 403
    assert _guess(house, "203.0.113.99").status == 429
    assert house.ask("/db/doc/f?token=wrong").status == 429


# --- who is in the access log -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forwarded_for", "client"),
    [
        ("203.0.113.5, 198.51.100.7:80", "198.51.100.7"),
        ("[2001:DB8::7]:80, 127.0.0.1", "2001:db8::7"),
        ('x" 200, 198.51.100.7 - - "', "127.0.0.1"),
        ("198.51.100.7, \xff\x1b[2J", "127.0.0.1"),
    ],
)
def test_the_log_has_the_client_behind_trusted_proxies(house: House, forwarded_for: str, client: str) -> None:
    answers = [_guess(house, forwarded_for, method=method) for method in ("GET", "OPTIONS", "POST")]
    assert [answer.status for answer in answers] == [403, 204, 405]
    assert [line.split(" - - ")[0] for line in house.log] == [client] * 3


def test_the_log_believes_nobody_else() -> None:
    house = House({"f": Stored(b"bytes")})
    house.get("f", X_Forwarded_For="198.51.100.7")
    assert house.log[0].startswith("127.0.0.1 - - ")
    assert "198.51.100.7" not in house.log[0]


def test_the_log_has_the_peer_of_a_request_that_cannot_be_read(house: House) -> None:
    client = house.send("/db/doc/f", {"X-Forwarded-For": "198.51.100.7", "no colon\r\nX": ""})
    house.network.run()
    assert read_answer(client.received, "GET", client.is_closed).status == 400
    assert house.log[0].startswith("127.0.0.1 - - ")


@pytest.mark.parametrize(("trusted", "client"), [([], "unix"), (["unix"], "198.51.100.7")])
def test_a_unix_socket(trusted: list[str], client: str) -> None:
    house = House({"f": Stored(b"bytes")}, trusted_proxies=trusted)
    sender = house.send(f"/db/doc/f?token={TOKEN}", {"X-Forwarded-For": "198.51.100.7"})
    sender.transport.address = UNIXAddress(b"")  # type: ignore[assignment]
    house.network.run()
    assert read_answer(sender.received, "GET", sender.is_closed).body == b"bytes"
    assert house.log[0].startswith(f"{client} - - ")


# --- Retry-After --------------------------------------------------------------------------------------------


class _Busy(DownloadError):
    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after


@pytest.mark.parametrize(("seconds", "told"), [(0.0, "1"), (0.25, "1"), (1.0, "1"), (1.25, "2"), (60.0, "60")])
def test_an_error_that_knows_when_to_ask_again_tells_it(seconds: float, told: str) -> None:
    assert dict(answer_for(TooManyGuesses(retry_after=seconds)).headers) == {"Retry-After": told}
    assert dict(answer_for(_Busy(seconds)).headers) == {"Retry-After": told}
    assert "Retry-After" not in dict(answer_for(DownloadError()).headers)


def test_it_tells_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = (("Retry-After", "99"), ("Allow", "GET"))
    monkeypatch.setitem(errors._TABLE, _Busy, ErrorAnswer(503, "busy", "Busy.", fields))
    assert sorted(answer_for(_Busy(5)).headers) == [("Allow", "GET"), ("Retry-After", "5")]
