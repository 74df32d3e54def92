"""Status lines: each status has the reason phrase that RFC 9110 or RFC 6585 gives it."""

import pytest

from tests.gateway.house import House
from tests.scripted import Stored
from txcouchdl.gateway import errors, refusals
from txcouchdl.gateway.errors import ErrorAnswer
from txcouchdl.gateway.refusals import refusal
from txcouchdl.metrics.layout import STATUSES
from txcouchdl.protocol.statuses import REASON_PHRASES

#: nginx's, which stands in logs only.
_CLIENT_GONE = 499
_REFUSALS = [each for each in vars(refusals).values() if isinstance(each, ErrorAnswer)]


def test_every_status_has_a_phrase() -> None:
    """The metrics count all statuses that there may be."""
    answered = {each.status for each in (*errors._TABLE.values(), *_REFUSALS)}
    assert answered <= {*STATUSES}
    assert {*STATUSES} - {_CLIENT_GONE} <= REASON_PHRASES.keys()
    assert REASON_PHRASES[431] == b"Request Header Fields Too Large"


def test_too_many_requests() -> None:
    house = House({"f": Stored(b"bytes")}, guess_limit=1, trusted_proxies=["127.0.0.1"])
    somebody = {"X-Forwarded-For": "198.51.100.7"}
    clients = []
    for number in range(8):
        clients.append(house.send(f"/db/doc/f?token=wrong{number}", somebody))
        house.network.run()
    lines = [each.received.partition(b"\r\n")[0] for each in clients if each.received]
    assert {*lines} == {b"HTTP/1.1 403 Forbidden", b"HTTP/1.1 429 Too Many Requests"}


@pytest.mark.parametrize("answer", _REFUSALS)
def test_refusals(answer: ErrorAnswer) -> None:
    line = refusal(answer, "server", "date").partition(b"\r\n")[0]
    assert line == b"HTTP/1.1 %d %b" % (answer.status, REASON_PHRASES[answer.status])
