"""Each fault, byte for byte, and that nothing of it stays behind."""

import pytest

from tests.faults import (
    AnotherDocument,
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
    Hangup,
    NoFault,
    Slow,
    Stall,
    Surplus,
    Truncate,
    WrongRange,
)
from tests.faults.bench import (
    BODY,
    CHUNKED,
    CHUNKS,
    FIN,
    JSON,
    ON_THE_WIRE,
    SENTENCE,
    WHOLE,
    Bench,
    ending,
    flipped,
    named,
)
from tests.gateway.house import NODE_PORT
from tests.network import SEND_BUFFER
from tests.scripted import answer


@pytest.mark.parametrize(("fault", "expected", "how"), ON_THE_WIRE, ids=named)
def test_a_fault_on_the_wire(fault: Fault, expected: bytes, how: Hangup | None) -> None:
    bench = Bench(NoFault(), fault)
    client = bench.ask()
    bench.ask(client)
    assert (client.received == WHOLE + expected, len(client.received), ending(client)) == (
        True,
        len(WHOLE + expected),
        how,
    )
    assert bench.schedule.struck == [fault]
    if how is None:
        if not isinstance(fault, Stall):
            # The connection is kept, and nothing of the answer is left in it.
            bench.ask(client)
            assert client.received == WHOLE + expected + WHOLE
        bench.leave(client)
    bench.proxy.assert_at_rest()
    assert bench.network.open_connections(NODE_PORT) == 0


@pytest.mark.parametrize(
    "fault",
    [
        Cut(len(BODY) + 1),
        Stall(len(BODY) + 1),
        Truncate(len(BODY) + 1),
        DyingWords(len(BODY) + 1),
        DyingWords(len(BODY) + 1, fill=True),
        Duplicate(len(BODY), 1),
        Corrupt(len(BODY)),
        WrongRange(1),
    ],
    ids=named,
)
def test_a_fault_that_finds_no_place(fault: Fault) -> None:
    bench = Bench(fault)
    client = bench.ask(bench.ask())
    assert client.received == WHOLE * 2
    assert bench.schedule.struck == []
    assert bench.schedule.applied[0].fault == fault
    bench.leave(client)


@pytest.mark.parametrize("fault", [Truncate(1), DyingWords(0, fill=True)], ids=named)
def test_a_fault_before_an_end_that_is_not_known(fault: Fault) -> None:
    bench = Bench(fault, script=[CHUNKED + CHUNKS])
    client = bench.ask()
    assert client.received == CHUNKED + CHUNKS
    assert bench.schedule.struck == []
    bench.leave(client)


def test_a_place_in_a_chunked_body_is_of_the_wire() -> None:
    bench = Bench(Corrupt(3), script=[CHUNKED + CHUNKS])
    assert bench.ask().received == CHUNKED + flipped(CHUNKS, 3, 0x20)


def test_other_answers_than_the_right_one() -> None:
    bench = Bench(WrongRange(5), AnotherDocument("/db/other"), AnswerStatus(500), WrongRange(5))
    client = bench.ask(None, "range: bytes=10-19", "Range-Not: x")
    bench.ask(client)
    bench.ask(client, "Connection: close")
    assert [(each.target, each.headers.get("range")) for each in bench.node.asked] == [
        ("/db/doc/f", "bytes=15-24"),
        ("/db/other", None),
    ]
    assert bench.node.asked[0].headers == {"host": "test", "range": "bytes=15-24", "range-not": "x"}
    assert client.received == WHOLE * 2 + answer(500, SENTENCE, {**JSON, "Connection": "close"})
    assert ending(client) is FIN
    bench.leave(bench.ask(None, "Range: bytes=10-"))
    assert bench.node.asked[-1].headers["range"] == "bytes=15-"


# Time


def test_a_late_answer() -> None:
    bench = Bench(Delay(5.0))
    client = bench.ask()
    bench.network.pass_time(4.0)
    assert (client.received, len(bench.node.asked)) == (b"", 1)
    bench.network.pass_time(1.0)
    assert client.received == WHOLE
    bench.leave(client)


def test_a_slow_answer() -> None:
    bench = Bench(Slow(30_000))
    client = bench.ask()
    for seconds in range(5):
        assert client.received == WHOLE[: seconds * 30_000]
        bench.network.pass_time(1.0)
    assert client.received == WHOLE
    bench.leave(client)


def test_a_late_surplus() -> None:
    bench = Bench(Surplus(b"surplus", later=3.0), Surplus(b"!", later=2.0))
    client = bench.ask()
    bench.network.pass_time(2.0)
    assert client.received == WHOLE
    bench.network.pass_time(1.0)
    assert client.received == WHOLE + b"surplus"
    # Or as the beginning of the next answer.
    bench.ask(bench.ask(client))
    bench.network.pass_time(2.0)
    assert client.received == WHOLE + b"surplus" + WHOLE + b"!" + WHOLE
    bench.leave(client)


@pytest.mark.parametrize("fault", [Delay(5.0), Slow(10), Surplus(b"x", later=5.0), Stall(3)], ids=named)
def test_a_client_that_does_not_wait(fault: Fault) -> None:
    bench = Bench(fault)
    client = bench.ask()
    bench.network.pass_time(2.0)
    bench.leave(client)


# Without an end


@pytest.mark.parametrize(
    ("fault", "begins", "goes_on"),
    [
        (EndlessBody(), WHOLE, b"\0" * 1000),
        (EndlessHead(), b"HTTP/1.1 200 OK\r\n", b"X-Filler: 0123456789abcdef\r\n"),
        (EndlessInterim(), b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
        (EndlessChunkSize(), b"HTTP/1.1 200 Scripted\r\nTransfer-Encoding: chunked\r\n\r\n", b"0" * 1000),
    ],
    ids=named,
)
def test_what_has_no_end_goes_at_the_pace_of_its_reader(fault: Fault, begins: bytes, goes_on: bytes) -> None:
    bench = Bench(fault)
    client = bench.connect()
    client.transport.write(b"GET / HTTP/1.1\r\n\r\n")
    bench.network.run(until=lambda: len(client.received) > 1_000_000)
    client.transport.pauseProducing()
    bench.network.run()
    assert len(client.transport.peer.sent) <= SEND_BUFFER
    expected = begins + goes_on * (len(client.received) // len(goes_on))
    assert expected.startswith(client.received[: len(expected)]), client.received[:200]
    bench.leave(client)
