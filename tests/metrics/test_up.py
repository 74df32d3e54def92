"""``/_up`` where everybody may ask: it tells no more than whether, and has us ask CouchDB once a second at most."""

import json

import pytest

from tests.gateway.house import TOKEN, Answer, House, read_answer
from tests.scripted import Mark, Stored, answer

FILE = f"/db/doc/f?token={TOKEN}"


def open_house(nodes: int = 1) -> House:
    return House({"f": Stored(b"0123456789")}, nodes=nodes)


def assert_told(told: Answer, status: int, word: str) -> None:
    """That, and nothing else."""
    assert (told.status, told.is_whole, json.loads(told.body or b'""')) == (status, True, {"status": word})
    assert told["Content-Type"] == "application/json"
    assert told["Cache-Control"] == "no-store"
    assert set(told.headers) == {
        *("server", "date", "x-robots-tag", "content-type", "cache-control", "content-length"),
        "x-content-type-options",
    }


@pytest.mark.parametrize("target", ["/_up", "/_up?", "/_up?x=ready", "http://h/_up", "HTTP://h:1/_up?already"])
def test_we_are_there(target: str) -> None:
    """Nobody else is asked for that."""
    house = open_house()
    house.node.up = [Mark.CLOSE]
    assert_told(house.ask(target), 200, "ok")
    assert (house.node.probes, house.node.asked) == ([], [])


@pytest.mark.parametrize("target", ["/_up?ready", "/_up?ready=1", "/_up?a&ready", "http://h/_up?ready"])
def test_couchdb_is(target: str) -> None:
    house = open_house(2)
    house.nodes[0].up = [answer(404, b'{"status":"maintenance_mode"}')]
    assert_told(house.ask(target), 200, "ok")
    assert [len(node.probes) for node in house.nodes] == [1, 1]


def test_couchdb_is_not() -> None:
    house = open_house(2)
    house.nodes[0].up = [answer(404, b'{"status":"maintenance_mode"}')]
    house.nodes[1].up = [Mark.CLOSE]
    assert_told(house.ask("/_up?ready"), 503, "unavailable")


def test_many_who_ask() -> None:
    """Together, and one after the other."""
    house = open_house()
    clients = [house.send("/_up?ready") for _ in range(200)]
    house.network.run()
    assert all(read_answer(each.received, "GET", False).status == 200 for each in clients)
    for _ in range(50):
        house.ask("/_up?ready")
    assert len(house.node.probes) == 1
    house.network.pass_time(2)
    house.node.up = [Mark.CLOSE]
    assert_told(house.ask("/_up?ready"), 503, "unavailable")


def test_who_leaves_before_it_is_told() -> None:
    house = open_house()
    house.node.up = [Mark.SILENCE]
    clients = [house.send("/_up?ready") for _ in range(2)]
    house.network.run()
    clients[0].transport.abortConnection()
    house.network.pass_time(10)
    assert_told(read_answer(clients[1].received, "GET", False), 503, "unavailable")
    assert len(house.node.probes) == 1
    house.assert_at_rest()
    assert house.log[0].split()[8] == "499"


def test_head() -> None:
    house = open_house()
    told = house.ask("/_up?ready", method="HEAD")
    assert (told.status, told.body, told["Content-Length"]) == (200, b"", "17")


def test_it_is_logged_as_all_requests_are() -> None:
    house = open_house()
    house.ask("/_up?ready&token=x")
    assert ['"GET /_up?***&token=*** HTTP/1.1" 200 17 ' in line for line in house.log] == [True]


@pytest.mark.parametrize(("method", "status"), [("POST", 405), ("PUT", 405), ("OPTIONS", 204)])
def test_other_methods_are_what_they_are_anywhere(method: str, status: int) -> None:
    assert open_house().ask("/_up", method=method).status == status


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/_upx", 404),
        ("/_up/", 404),
        ("/_up/x/y", 403),
        ("/%5fup", 404),
        ("//_up", 404),
        ("/_metrics", 404),
        ("/_metrics?ready", 404),
        ("/_metrics/", 404),
        ("/x/_up", 404),
        ("*", 404),
    ],
)
def test_what_else_is_asked_is_answered_as_before(target: str, status: int) -> None:
    house = open_house()
    told = house.ask(target)
    assert told.status == status
    assert b"couchdl_" not in told.body
    assert house.node.probes == []
    assert house.ask(FILE).status == 200
