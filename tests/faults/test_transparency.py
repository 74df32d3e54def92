"""Without a fault the proxy is as if it were not there, also to nodes and clients that break every rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults import (
    NoFault,
    Stall,
)
from tests.faults.bench import CHUNKED, CHUNKS, FIN, RST, WHOLE, Bench, ending
from tests.faults.messages import Head, end_of_head
from tests.gateway.house import NODE_PORT
from tests.network import SEND_BUFFER
from tests.scripted import DYING_WORDS, Mark, Step, answer
from tests.strategies import cuts

FRAMED = {
    "by its length": answer(200, b"hello"),
    "of many bytes": WHOLE,
    "empty": answer(200, b""),
    "chunked": CHUNKED + CHUNKS,
    "without a body": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    "behind interim ones": b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + answer(404, b"no"),
}
#: What has no end, or is no HTTP.
UNFRAMED = {
    "to the close": b"HTTP/1.1 200 OK\r\n\r\nhello",
    "short": answer(200, b"hel", length=5),
    "surplus": answer(200, b"hello") + DYING_WORDS,
    "chunked, and broken": CHUNKED + b"5\r\nhello\r\nzz\r\n\r\n",
    "chunked, and negative": CHUNKED + b"-5\r\nhello\r\n",
    "an endless chunk size": CHUNKED + b"0" * 200_000,
    "half a head": WHOLE[:20],
    "nothing": b"",
    "an endless head": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 30_000,
    "no HTTP": b"\x00\xff" * 100 + b"\r\n\r\n" + b"hello",
}


@pytest.mark.parametrize("name", FRAMED)
def test_answers_on_a_kept_connection(name: str) -> None:
    bench = Bench(script=[FRAMED[name]])
    client = bench.connect()
    for times in range(1, 4):
        bench.ask(client)
        assert client.received == FRAMED[name] * times
    assert (len(bench.node.asked), bench.network.open_connections(NODE_PORT)) == (3, 1)
    assert bench.schedule.struck == []
    assert [each.fault for each in bench.schedule.applied] == [NoFault()] * 3
    bench.leave(client)


def test_requests_that_come_at_once() -> None:
    bench = Bench(script=[FRAMED["chunked"]])
    client = bench.connect()
    client.transport.write(b"".join(b"GET /%d HTTP/1.1\r\nX: y\r\n\r\n" % number for number in range(5)))
    bench.network.run()
    assert client.received == FRAMED["chunked"] * 5
    assert [asked.target for asked in bench.node.asked] == ["/0", "/1", "/2", "/3", "/4"]
    assert bench.node.asked[0].headers == {"x": "y"}
    bench.leave(client)


@pytest.mark.parametrize("end", [None, Mark.CLOSE, Mark.ABORT])
@pytest.mark.parametrize("name", [*FRAMED, *UNFRAMED])
def test_it_is_as_if_it_were_not_there(name: str, end: Mark | None) -> None:
    """Also where the node breaks every rule; and it ends as the node ends it."""
    script: list[Step] = [{**FRAMED, **UNFRAMED}[name], *([] if end is None else [end])]
    bench = Bench(script=script)
    direct, proxied = bench.ask(bench.connect(NODE_PORT)), bench.ask()
    # Of a head that has no end the beginning waits until something comes of it.
    if end is None and name == "half a head":
        assert proxied.received == b""
    else:
        assert proxied.received == direct.received
    assert ending(proxied) == ending(direct)
    if end is None:
        direct.transport.loseConnection()
        bench.leave(proxied)
    bench.proxy.assert_at_rest()


def test_bytes_that_nobody_asked_for() -> None:
    """What the node says between two answers goes on at once."""
    bench = Bench()
    client = bench.ask()
    bench.upstream.write(b"surplus")
    bench.network.run()
    assert client.received == WHOLE + b"surplus"
    bench.ask(client)
    assert client.received == WHOLE + b"surplus" + WHOLE
    bench.leave(client)


def test_a_node_that_closes_a_kept_connection() -> None:
    bench = Bench()
    client = bench.ask()
    bench.upstream.loseConnection()
    bench.network.run()
    assert ending(client) is FIN
    bench.proxy.assert_at_rest()


def test_a_node_that_is_not_there() -> None:
    bench = Bench()
    bench.network.listen(NODE_PORT, None)
    client = bench.ask()
    assert (client.received, ending(client)) == (b"", FIN)
    bench.proxy.assert_at_rest()


@given(st.data())
def test_bodies_end_where_they_end_in_any_pieces(data: st.DataObject) -> None:
    received = data.draw(st.sampled_from(sorted(FRAMED.values())))
    first = end_of_head(received)
    assert first is not None
    framing, body = Head(received[:first]).framing("GET"), received[first:]
    count = 0
    for piece in data.draw(cuts(body)):
        assert framing.accept(piece) == len(piece)
        count += len(piece)
        assert framing.is_complete == (count == len(body)) or not piece
    assert framing.is_complete
    assert framing.accept(b"more") == 0


# Back-pressure, and other bounds


def test_a_paused_client_pauses_the_node() -> None:
    body = bytes(5_000_000)
    bench = Bench(script=[answer(200, body)])
    client = bench.connect()
    client.transport.write(b"GET / HTTP/1.1\r\n\r\n")
    bench.network.run(until=lambda: len(client.received) > 1_000_000)
    client.transport.pauseProducing()
    bench.network.run()
    under_way = len(answer(200, body)) - len(client.received) - len(bench.upstream.sent)
    assert under_way <= 3 * SEND_BUFFER
    client.transport.resumeProducing()
    bench.network.run()
    assert client.received == answer(200, body)
    bench.leave(client)


def test_a_paused_client_that_leaves() -> None:
    bench = Bench(script=[answer(200, bytes(1_000_000))])
    client = bench.connect()
    client.transport.write(b"GET / HTTP/1.1\r\n\r\n")
    client.transport.pauseProducing()
    bench.network.run()
    assert bench.proxy.open_connections == (1, 1)
    bench.leave(client)


def test_a_client_that_asks_more_than_it_gets() -> None:
    bench = Bench(Stall(0))
    client = bench.ask()
    client.transport.write(b"GET / HTTP/1.1\r\n\r\n" * 100_000)
    bench.network.run()
    assert len(client.transport.sent) > 1_500_000
    client.transport.abortConnection()
    bench.network.run()
    bench.proxy.assert_at_rest()


def test_a_request_without_an_end() -> None:
    bench = Bench()
    client = bench.connect()
    client.transport.write(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000)
    bench.network.run()
    assert ending(client) is RST
    bench.proxy.assert_at_rest()
