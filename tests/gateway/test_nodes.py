"""What ``/_up`` says of a node, and what follows from it for the requests of clients."""

import pytest

from tests.gateway.house import NODE_PORT, House
from tests.scripted import Mark, Script, Stored, answer
from txcouchdl.couch.health import State

DATA = b"0123456789" * 100

#: Answers to ``/_up``, and what they say of a node that has failed before.
VERDICTS: dict[str, tuple[Script, State]] = {
    "ok": ([answer(200, b'{"status":"ok"}')], State.UP),
    "200, whatever it says": ([answer(200, b'{"status":"maintenance_mode"}')], State.UP),
    "maintenance": ([answer(404, b'{"status":"maintenance_mode"}')], State.DOWN),
    "seeding": ([answer(404, b'{"status":"seeding"}')], State.DOWN),
    "a proxy that keeps it to itself": ([answer(404, b"<html>not here</html>")], State.UP),
    "require_valid_user, and we are nobody": ([answer(401, b'{"error":"unauthorized"}')], State.UP),
    "500": ([answer(500, b"{}")], State.DOWN),
    "503": ([answer(503, b"")], State.DOWN),
    "hangs up": ([Mark.CLOSE], State.DOWN),
    "garbage": ([b"what?\r\n\r\n", Mark.CLOSE], State.DOWN),
    "an endless head": ([b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100_000, Mark.SILENCE], State.DOWN),
}


def failed(up: Script) -> House:
    """A house whose only node has failed once, and is asked how it does."""
    house = House({"f": Stored(DATA)})
    house.node.up = up
    house.node.faults = lambda _: [answer(500, b"{}")]
    assert house.get("f").status == 503
    house.node.faults = lambda _: None
    return house


def state(house: House) -> State:
    return house.cluster._members[0].health.state


@pytest.mark.parametrize(("up", "verdict"), VERDICTS.values(), ids=VERDICTS)
def test_what_a_node_says_of_itself(up: Script, verdict: State) -> None:
    house = failed(up)
    assert state(house) is verdict
    got = house.get("f")
    if verdict is State.UP:
        assert got.body == DATA
    else:
        assert (got.status, got["Retry-After"]) == (503, "1")
    house.assert_at_rest()


@pytest.mark.parametrize("up", [[Mark.SILENCE], [answer(200, b"{", length=9), Mark.SILENCE]])
def test_a_node_that_does_not_say_is_doubted_and_then_down(up: Script) -> None:
    house = failed(up)
    house.network.pass_time(4.5)
    assert state(house) is State.DOUBTED
    house.network.pass_time(1)
    assert state(house) is State.DOWN
    house.network.pass_time(0.5)
    assert len(house.node.probes) == 2


def test_an_answer_ends_the_doubt() -> None:
    house = failed([Mark.SILENCE])
    assert house.get("f").body == DATA
    assert state(house) is State.UP
    house.assert_at_rest()
    assert house.network.open_connections(NODE_PORT) == 1, "nobody waits for what it says any more"


def test_so_does_an_answer_that_says_no() -> None:
    house = failed([Mark.SILENCE])
    assert house.ask("/db/nothing/f?token=s3cret").status == 403
    assert state(house) is State.UP


def test_the_credentials_go_with_the_question() -> None:
    house = failed([answer(200, b"{}")])
    [probe] = house.node.probes
    assert probe.headers["authorization"] == house.node.asked[0].headers["authorization"]


@pytest.mark.parametrize("script", [[Mark.CLOSE], [answer(500, b"{}")], [answer(200, b"garbage")]])
def test_what_fails_once_is_tried_again(script: Script) -> None:
    """Though there is but one node: the connection may have been one that was about to end."""
    house = House({"f": Stored(DATA)})
    scripts = iter([script])
    house.node.faults = lambda _: next(scripts, None)
    assert house.get("f").body == DATA
    house.assert_at_rest()


def test_credentials_that_are_refused_are_not_shown_again_at_once() -> None:
    """CouchDB locks an account after some wrong passwords (FINDINGS, section 7)."""
    house = House({"f": Stored(DATA)})
    house.node.faults = lambda _: [answer(401, b'{"error":"unauthorized","reason":"Name or password is incorrect."}')]
    assert house.get("f").status == 502
    assert len(house.node.asked) == 1
    assert not house.node.probes
