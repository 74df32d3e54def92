"""Short bodies that are collected: what is returned of them."""

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.interfaces import IProtocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone

from txcouchdl.couch.short_bodies import gather


@given(chunks=st.lists(st.binary(max_size=5)), wanted=st.none() | st.integers(0, 30))
@example(chunks=[b"ab", b"c", b""], wanted=2)
@example(chunks=[b"ab", b"cd"], wanted=0)
def test_the_wanted_bytes_are_returned(chunks: list[bytes], wanted: int | None) -> None:
    def deliver(protocol: IProtocol) -> None:
        protocol.makeConnection(StringTransport())
        for chunk in chunks:
            protocol.dataReceived(chunk)
        protocol.connectionLost(Failure(ResponseDone()))

    results: list[bytes] = []
    gather(deliver, 1000, wanted=wanted).addCallback(results.append)
    assert results == [b"".join(chunks)[:wanted]]
