"""Schedules, and the strategies of faults; and a gateway behind them."""

from hypothesis import given
from hypothesis import strategies as st

from tests.faults import (
    AnswerStatus,
    Corrupt,
    Cut,
    Delay,
    Duplicate,
    DyingWords,
    EndlessBody,
    EndlessChunkSize,
    EndlessHead,
    EndlessInterim,
    Fault,
    NoFault,
    Schedule,
    Slow,
    Stall,
    Surplus,
    Truncate,
)
from tests.faults.bench import BODY, HEAD, WHOLE, Bench, ending, gateway_behind
from tests.gateway.house import TOKEN, read_answer
from tests.scripted import Asked, Stored, answer
from tests.strategies import fault_schedules, faults


def test_a_schedule_that_looks_at_the_request() -> None:
    def decide(asked: Asked) -> Fault:
        return Cut(1) if asked.headers.get("range") else NoFault()

    bench = Bench(schedule=Schedule(decide))
    client = bench.ask(bench.ask(), "Range: bytes=0-")
    assert client.received == WHOLE + HEAD + BODY[:1]
    assert [(each.asked.target, each.took_effect) for each in bench.schedule.applied] == [
        ("/db/doc/f", False),
        ("/db/doc/f", True),
    ]


def test_a_seeded_schedule_is_always_the_same() -> None:
    def drawn(seed: int, rate: float) -> list[Fault]:
        schedule = Schedule.seeded(seed, rate)
        return [schedule.next(Asked("GET", "/", {})).fault for _ in range(200)]

    assert drawn(1, 0.5) == drawn(1, 0.5) != drawn(2, 0.5)
    assert set(drawn(1, 0.0)) == {NoFault()}
    assert NoFault() not in drawn(1, 1.0)
    assert 60 < drawn(3, 0.5).count(NoFault()) < 140


#: What each kind of fault needs.
UNDETECTABLE = (Corrupt, Duplicate)
ENDLESS = (EndlessBody, EndlessHead, EndlessInterim, EndlessChunkSize)
TIMED = (Stall, Delay, Slow)


@given(st.data(), st.booleans(), st.booleans(), st.booleans())
def test_faults_are_of_the_kinds_asked_for(data: st.DataObject, detectable: bool, endless: bool, timed: bool) -> None:
    fault = data.draw(faults(500, detectable=detectable, endless=endless, timed=timed))
    if detectable:
        assert not isinstance(fault, UNDETECTABLE)
        assert not (isinstance(fault, Truncate) and fault.lies)
        assert not (isinstance(fault, DyingWords) and fault.fill)
        assert not (isinstance(fault, AnswerStatus) and fault.status < 500)
    assert endless or not isinstance(fault, ENDLESS)
    assert timed or not isinstance(fault, TIMED)
    assert timed or not (isinstance(fault, Surplus) and fault.later)


@given(st.data(), st.integers(0, 2000))
def test_whatever_is_drawn_shows_or_does_nothing(data: st.DataObject, length: int) -> None:
    whole = answer(200, (bytes(range(256)) * 8)[:length])
    fault = data.draw(faults(length, timed=True))
    bench = Bench(fault, script=[whole])
    client = bench.ask()
    at_once, end = client.received, ending(client)
    bench.network.pass_time(300.0)
    if not bench.schedule.struck:
        assert (client.received, ending(client)) == (whole, None)
    elif not isinstance(fault, Delay | Slow):
        assert (client.received, ending(client)) != (whole, None) or isinstance(fault, Stall)
    else:
        assert (at_once, end, client.received) == (b"", None, whole)
    if not client.is_closed:
        bench.leave(client)
    bench.proxy.assert_at_rest()


# Before a gateway


@given(st.data())
def test_a_gateway_behind_it_never_says_a_wrong_byte(data: st.DataObject) -> None:
    first = data.draw(st.sampled_from([0, 1, 50_000, 99_999]))
    schedule = data.draw(fault_schedules(len(BODY) - first, detectable=True))
    house, proxy = gateway_behind(schedule, {"f": Stored(BODY)})
    client = house.send(f"/db/doc/f?token={TOKEN}", {"Range": f"bytes={first}-", "Connection": "close"})
    house.network.run()
    house.network.pass_time(60.0)
    response = read_answer(client.received, "GET", client.is_closed)
    if response.status in (200, 206):
        assert BODY[first:].startswith(response.body)
        assert not response.is_whole or response.body == BODY[first:]
    else:
        assert response.status in (502, 503, 504), response.status
    assert not proxy.failures
