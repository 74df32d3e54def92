"""Whatever a client sends: no 5xx of our own making, no hanging connection, no secret where it does not belong."""

import re

import pytest
from hypothesis import HealthCheck, Phase, example, find, given, settings
from hypothesis import strategies as st

from tests.fuzz import grammar
from tests.fuzz.watched import OTHER, house_of, no_mistake, outcomes
from tests.gateway.house import TOKEN

#: All that the gateway answers with where CouchDB does as it should.
STATUSES = {200, 204, 206, 304, 400, 403, 404, 405, 408, 412, 413, 414, 416, 429, 431}
_CONTINUE = 100

# One example is several requests, and they are long.
patiently = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def raw(target: str, method: str = "GET", fields: str = "") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode("latin-1")


@patiently
@given(st.lists(grammar.requests(), min_size=1, max_size=4), st.booleans())
@example([raw("//b/c?expires=9999999999&signature=A"), raw("/music//b?expires=9999999999&signature=A")], False)
@example([raw("///?expires=9999999999&signature=A")], False)
@example([raw(f"/db/{'!' * 3000}/f?token=x"), raw(f"/db/{'x' * 9000}/f?token=x")], False)
@example([raw("/db/doc/f", fields=f"{'n' * 257}: x\r\n")], False)
def test_a_request_is_answered(sent: list[bytes], is_behind_proxy: bool) -> None:
    """Each one, with no 5xx, and neither log has a secret."""
    proxies = ["127.0.0.1"] if is_behind_proxy else []
    house = house_of(trusted_proxies=proxies, origins=["https://www.example.org"])
    with no_mistake(house, TOKEN, OTHER):
        ended = outcomes(house, sent)
    for outcome in ended:
        statuses = set(outcome.statuses) - {_CONTINUE}
        assert statuses, "no answer"
        assert statuses <= STATUSES, statuses


@patiently
@given(st.lists(grammar.streams, min_size=1, max_size=3))
@example([raw("/db/doc/f", fields="Content-Length: 9999\r\nExpect: 100-continue\r\n")])
@example([raw("/db/doc/f", fields=f"{'n' * 16_000}: x\r\n") * 3])
def test_whatever_comes(sent: list[bytes]) -> None:
    """It ends, in an answer or in a closed connection."""
    house = house_of()
    with no_mistake(house):
        ended = outcomes(house, sent)
    for outcome in ended:
        assert set(outcome.statuses) - {_CONTINUE} <= STATUSES


def without_dates(received: bytes) -> bytes:
    return re.sub(rb"\r\nDate: [^\r]*", b"", received)


@patiently
@given(st.lists(grammar.requests(), min_size=1, max_size=4), st.booleans())
@example([raw("/db/doc/f?token=x"), raw("/db/none/f?token=x"), raw("/db/doc/none?token=x")], False)
@example([raw("/db/doc/f"), raw("/db/doc/", "HEAD"), raw("/db/doc/f?expires=9999999999&signature=A")], False)
@example([raw("/db/doc/f"), raw("/db/doc/", fields="Authorization: Basic eDp5\r\n"), raw("/db/doc/f?token=x")], True)
def test_without_a_secret_nothing_is_told(sent: list[bytes], asks_password: bool) -> None:
    """Of a document that is there not a byte more than of one that is not."""
    full, empty = house_of(asks_password=asks_password), house_of(asks_password=asks_password)
    for house in (full, empty):
        # Two secrets that nobody knows.
        for doc in house.node.docs.values():
            doc.fields["download_token"] = ["unknown", "others"]
    empty.node.docs.clear()
    told = [[without_dates(each.received) for each in outcomes(house, sent)] for house in (full, empty)]
    assert told[0] == told[1]


@pytest.mark.parametrize("status", [200, 204, 206, 304, 400, 403, 404, 405, 412, 431])
def test_the_fuzzer_reaches_what_there_is(status: int) -> None:
    """It would be worth little if all that it sends were refused at the door."""
    searching = settings(patiently, max_examples=5_000, phases=[Phase.generate], derandomize=True, database=None)
    assert find(grammar.requests(), lambda sent: status in outcomes(house_of(), [sent])[0].statuses, settings=searching)
