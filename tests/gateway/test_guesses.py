"""Wrong tokens, in whole requests: past the limit they wait before anything is read, and nobody else is held up."""

import json
from collections.abc import Sequence
from itertools import count

import pytest
from twisted.internet.address import UNIXAddress

from tests.gateway.house import TOKEN, Answer, Client, House, read_answer
from tests.metrics.reading import counted
from tests.scripted import Doc, Mark, Stored, answer
from txcouchdl.couch.errors import DownloadError
from txcouchdl.gateway import errors
from txcouchdl.gateway.errors import ErrorAnswer, TooManyGuesses, answer_for
from txcouchdl.gateway.guess_queue import LONGEST_QUEUE, LONGEST_WAIT
from txcouchdl.links import Link

_SOMEBODY = {"X-Forwarded-For": "198.51.100.7"}
_SECRETIVE = {
    "/db/doc/f": 200,
    "/db/doc/none": 404,
    "/db/none/f": 403,
    "/none/doc/f": 403,
    "/closed/doc/f": 403,
    "/_users/a/f": 403,
    "/db/_local/f": 403,
    "/DB/doc/f": 403,
    "/db//f": 403,
}
_DECOY = "/couchdl-decoy-"


@pytest.fixture
def house() -> House:
    house = House({"f": Stored(b"bytes")}, trusted_proxies=["127.0.0.1"], databases=["db", "none"])
    house.node.docs["/closed/doc"] = house.doc
    return house


def _send(house: House, target: str = "/db/doc/f?token=wrong", method: str = "GET", **headers: str) -> Client:
    client = house.send(
        target, {**_SOMEBODY, **{name.replace("_", "-"): value for name, value in headers.items()}}, method
    )
    house.network.run()
    return client


def _answer(client: Client, method: str = "GET") -> Answer | None:
    """The answer that a client has received; ``None`` as long as it waits."""
    return read_answer(client.received, method, client.is_closed) if client.received else None


def _statuses(clients: Sequence[Client]) -> list[int | None]:
    """The statuses that clients have received; ``None`` for clients that wait."""
    return [None if answer is None else answer.status for answer in map(_answer, clients)]


def _body(client: Client) -> bytes:
    answer = _answer(client)
    assert answer is not None
    return answer.body


def _guess(house: House, forwarded_for: str = "198.51.100.7", target: str = "/db/doc/f", method: str = "GET") -> Answer:
    return house.ask(f"{target}?token=wrong", {"X-Forwarded-For": forwarded_for}, method)


def _use_up(house: House, forwarded_for: str = "198.51.100.7") -> None:
    assert [_guess(house, forwarded_for).status for _ in range(60)] == [403] * 60


def _fill_queue(house: House) -> list[Client]:
    return [_send(house) for _ in range(LONGEST_QUEUE)]


def test_past_the_limit_wrong_tokens_wait_and_cost_nothing_meanwhile(house: House) -> None:
    _use_up(house)
    asked = len(house.node.asked)
    waiting = _fill_queue(house)
    house.network.elapse(0.75)
    assert (_statuses(waiting), len(house.node.asked)) == ([None] * LONGEST_QUEUE, asked)
    for seconds, done in ((0.25, 1), (1.75, 1), (0.25, 2), (4, 3), (5, 4), (5, 5)):
        house.network.elapse(seconds)
        assert (_statuses(waiting), len(house.node.asked)) == (
            [403] * done + [None] * (LONGEST_QUEUE - done),
            asked + done,
        )
    house.assert_at_rest()


def test_beyond_the_queue_there_is_a_429_that_costs_nothing(house: House) -> None:
    _use_up(house)
    asked = len(house.node.asked)
    waiting = _fill_queue(house)
    refused = [_guess(house) for _ in range(100)]
    assert {each.status for each in refused} == {429}
    assert (refused[0]["Retry-After"], refused[0]["Cache-Control"]) == ("1", "no-store")
    told = json.loads(refused[0].body)
    assert (told["error"], told["reason"]) == (
        "too_many_requests",
        "Too many incorrect download tokens from this address.",
    )
    assert (_statuses(waiting), len(house.node.asked)) == ([None] * LONGEST_QUEUE, asked)
    house.network.elapse(17)
    waiting += _fill_queue(house)
    house.network.elapse(0.5)
    assert _guess(house)["Retry-After"] == "5"
    house.network.elapse(25)
    assert _statuses(waiting) == [403] * 2 * LONGEST_QUEUE
    house.assert_at_rest()


def test_after_a_minute_without_a_wrong_token_the_address_is_as_any_other(house: House) -> None:
    _use_up(house)
    waiting = _send(house)
    house.network.elapse(1)
    assert _statuses([waiting]) == [403]
    house.network.elapse(59)
    assert _guess(house).status == 403
    assert _statuses([_send(house)]) == [None]
    house.network.elapse(4 + 60)
    _use_up(house)


def test_a_flood_from_many_connections_gets_no_further(house: House) -> None:
    flood = [house.send("/db/doc/f?token=wrong", _SOMEBODY) for _ in range(200)]
    house.network.run()
    house.network.elapse(0.2)
    assert sorted(_statuses(flood), key=str) == [403] * 60 + [429] * (140 - LONGEST_QUEUE) + [None] * LONGEST_QUEUE
    assert counted(house.table)["wrong_tokens_total"] == 60


# Right tokens.


def test_a_right_token_waits_for_its_turn_and_for_no_longer(house: House) -> None:
    """It is behind as many as there may be."""
    _use_up(house)
    _fill_queue(house)
    house.network.elapse(12)
    guesses = [_send(house) for _ in range(LONGEST_QUEUE - 2)]
    right = _send(house, f"/db/doc/f?token={TOKEN}")
    asked = len(house.node.asked)
    house.network.elapse(5 * (LONGEST_QUEUE - 1) - 0.25)
    assert _answer(right) is None
    house.network.elapse(5.25)
    assert _body(right) == b"bytes"
    assert 5 * LONGEST_QUEUE <= LONGEST_WAIT
    assert len(house.node.asked) == asked + len(guesses) + 1 + 1 + 1
    house.assert_at_rest()


@pytest.mark.parametrize(
    "known",
    [
        f"/db/doc/f?token={TOKEN}",
        "/db/doc/f?" + Link(database="db", document_id="doc", attachment="f", expires=10**6).query(TOKEN.encode()),
        "/db/doc/?" + Link(database="db", document_id="doc", attachment=None, expires=10**6).query(TOKEN.encode()),
    ],
    ids=["token", "link", "link of a document"],
)
def test_what_has_been_right_never_waits(house: House, known: str) -> None:
    """A player that seeks, hour after hour, behind the same address as a guesser."""
    assert _answer(_send(house, known)).status == 200  # type: ignore[union-attr]
    for _ in range(20):
        _use_up(house)
        waiting = _fill_queue(house)
        assert _statuses([*waiting, _send(house)]) == [None] * LONGEST_QUEUE + [429]
        player = _send(house, known.replace("/?", "/f?"), Range="bytes=1-2")
        assert (_statuses([player]), player.received[-2:]) == ([206], b"yt")
        house.network.elapse(720)


def test_a_bearer_token_is_known_as_any_other(house: House) -> None:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert _statuses([_send(house, "/db/doc/f", **bearer)]) == [200]
    _use_up(house)
    for method in ("GET", "HEAD"):
        client = _send(house, "/db/doc/f", method, **bearer)
        assert read_answer(client.received, method, client.is_closed).status == 200
    assert _statuses([_send(house, f"/db/doc/f?token={TOKEN}")]) == [200]


def test_a_token_that_is_revoked_is_refused_at_once(house: House) -> None:
    known = f"/db/doc/f?token={TOKEN}"
    assert _statuses([_send(house, known)]) == [200]
    _use_up(house)
    house.doc.fields["download_token"] = "another"
    assert _statuses([_send(house, known)]) == [403]
    # It is one like any other now, and has been counted.
    assert _statuses([_send(house, known)]) == [None]
    assert counted(house.table)["wrong_tokens_total"] == 61


def test_a_token_is_known_for_its_document_alone(house: House) -> None:
    house.node.docs["/db/other"] = Doc({"download_token": TOKEN}, {"f": Stored(b"other")})
    assert _statuses([_send(house, f"/db/doc/f?token={TOKEN}")]) == [200]
    _use_up(house)
    assert _statuses([_send(house, f"/db/other/f?token={TOKEN}")]) == [None]


def test_right_tokens_are_no_guesses(house: House) -> None:
    for number in range(200):
        house.node.docs[f"/db/{number}"] = Doc({"download_token": TOKEN}, {"f": Stored(b"bytes")})
        assert _statuses([_send(house, f"/db/{number}/f?token={TOKEN}")]) == [200]
    _use_up(house)


def test_a_crowd_with_right_tokens_waits_for_no_turns(house: House) -> None:
    """As behind a proxy that is not named, behind a gateway that has just been started."""
    for number in range(200):
        house.node.docs[f"/db/{number}"] = Doc({"download_token": TOKEN}, {"f": Stored(b"bytes")})
    crowd = [house.send(f"/db/{number}/f?token={TOKEN}", _SOMEBODY) for number in range(200)]
    house.network.run()
    assert _statuses(crowd) == [200] * 200
    house.assert_at_rest()


# Clients that leave, and requests that fail.


def test_a_client_that_leaves_while_it_waits(house: House) -> None:
    _use_up(house)
    asked = len(house.node.asked)
    waiting = _fill_queue(house)
    for client in waiting[1:4]:
        client.transport.abortConnection()
    right = _send(house, f"/db/doc/f?token={TOKEN}")
    house.network.elapse(7)
    assert _body(right) == b"bytes"
    assert len(house.node.asked) == asked + 4
    for client in waiting:
        client.transport.abortConnection()
    house.network.run()
    house.assert_at_rest()


def test_leaving_before_the_answer_is_no_way_around_the_limit(house: House) -> None:
    house.node.faults = lambda asked: [Mark.SILENCE]
    for _ in range(60):
        _send(house).transport.abortConnection()
        house.network.run()
    house.node.faults = lambda asked: None
    assert _statuses([_send(house)]) == [None]
    assert "wrong_tokens_total" not in counted(house.table)


def test_what_cannot_be_checked_is_no_guess(house: House) -> None:
    house.node.faults = lambda asked: [answer(500, b"")]
    for _ in range(61):
        assert _guess(house).status >= 500
    assert _guess(house, target="/db/doc").status == 404
    house.node.faults = lambda asked: None
    house.network.pass_time(60)
    _use_up(house)


@pytest.mark.parametrize("query", ["", "?token=", "?token=wrong&token=wrong", "?rev=1-a", "?expires=9&signature="])
def test_who_shows_no_token_does_not_guess(house: House, query: str) -> None:
    """Nothing is read for it, and it never waits."""
    for _ in range(61):
        assert house.ask(f"/db/doc/f{query}", _SOMEBODY).status == 403
    assert house.node.asked == []
    _use_up(house)
    _fill_queue(house)
    assert house.ask(f"/db/doc/f{query}", _SOMEBODY).status == 403


def test_a_bearer_token_is_a_guess_too(house: House) -> None:
    clients = [_send(house, "/db/doc/f", Authorization="Bearer wrong") for _ in range(61)]
    assert _statuses(clients) == [403] * 60 + [None]


# What must not show.


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_it_tells_nothing_of_what_exists(house: House, method: str) -> None:
    """Each is answered as every other, at the same time and after the same work, and they all count."""
    targets = [f"{target}?token=wrong" for target in _SECRETIVE]
    answers = []
    for number in range(60):
        answers.append(house.ask(targets[number % len(targets)], _SOMEBODY, method))
        assert len(house.node.asked) == number + 1
    waits = []
    for target in targets:
        house.network.elapse(30)
        early = _send(house, targets[0], method)
        client, began = _send(house, target, method), house.network.seconds()
        while not client.received:
            house.network.elapse(0.25)
        waits.append(house.network.seconds() - began)
        answers += [read_answer(each.received, method, each.is_closed) for each in (early, client)]
    assert set(waits[2:]) == {5}
    assert {answer.status for answer in answers} == {403}
    assert len({(str({**each.headers, "date": ""}), each.body) for each in answers}) == 1
    assert len(house.node.asked) == len(answers)
    _fill_queue(house)
    refused = [house.ask(target, _SOMEBODY, method) for target in targets]
    assert {each.status for each in refused} == {429}
    assert len({(str({**each.headers, "date": ""}), each.body) for each in refused}) == 1
    assert len(house.node.asked) == len(answers)


def test_what_must_not_be_read_is_not_addressed(house: House) -> None:
    """A document that is not there is read instead, in a database that is not there."""
    for target, status in _SECRETIVE.items():
        is_decoy = target.startswith(("/closed", "/_users", "/db/_local", "/DB", "/db//"))
        for token in (TOKEN, "wrong"):
            before = len(house.node.asked)
            assert house.ask(f"{target}?token={token}").status == (status if token == TOKEN else 403)
            paths = [asked.path for asked in house.node.asked[before:]]
            assert [path.startswith(_DECOY) for path in paths] == ([True] if is_decoy else [False] * len(paths))
            assert not is_decoy or paths[0].split("/")[2].startswith("-")


def test_nothing_opens_a_decoy(house: House) -> None:
    """Not even a document that is there after all."""
    assert house.ask(f"/closed/doc/f?token={TOKEN}").status == 403
    [decoy] = [asked.path for asked in house.node.asked]
    house.node.docs[decoy] = house.doc
    house.node.faults = lambda asked: [answer(200, house.doc.json("-doc"))] if asked.path == decoy else None
    assert house.ask(f"/closed/doc/f?token={TOKEN}").status == 403
    assert [asked.path for asked in house.node.asked] == [decoy] * 2


def test_reads_of_decoys_are_shared_as_others_are(house: House) -> None:
    """By requests for the same document, and for no other."""
    reads: dict[int, set[int]] = {}
    for documents in (["/db/none", "/db/none2"], ["/closed/doc", "/closed/doc2"], ["/_users/a", "/_users/b"]):
        for names in (documents[:1] * 8, documents * 4):
            before = len(house.node.asked)
            clients = [house.send(f"{name}/f?token=wrong") for name in names]
            house.network.run()
            house.network.elapse(1)
            assert _statuses(clients) == [403] * 8
            reads.setdefault(len(set(names)), set()).add(len(house.node.asked) - before)
    assert {number: len(counts) for number, counts in reads.items()} == {1: 1, 2: 1}
    assert min(reads[1]) < 8


def test_decoys_are_read_at_a_second_node_as_others_are() -> None:
    house = House({"f": Stored(b"bytes")}, databases=["db"], nodes=2)
    house.node.docs["/closed/doc"] = house.doc
    for target in ("/db/doc/f", "/db/none/f", "/closed/doc/f", "/closed/none/f", "/_users/a/f"):
        before = [len(node.asked) for node in house.nodes]
        assert house.ask(f"{target}?token=wrong").status == 403
        assert [len(node.asked) for node in house.nodes] == [count + 1 for count in before]
    paths = {asked.path for node in house.nodes for asked in node.asked}
    assert len(paths) == 5
    assert sum(path.startswith(_DECOY) for path in paths) == 3
    assert house.ask(f"/closed/doc/f?token={TOKEN}").status == 403


def test_decoys_need_a_node_as_others_do() -> None:
    house = House({"f": Stored(b"bytes")}, databases=["db"])
    house.node.faults = lambda asked: [answer(500, b"")]
    answers = [house.ask(f"{target}?token=wrong") for target in ("/db/none/f", "/closed/doc/f", "/_users/a/f")]
    assert {each.status for each in answers} == {503}


@pytest.mark.parametrize("status", [302, 401, 403, 200, 418])
def test_whatever_answers_to_a_decoy_it_is_the_same_403(house: House, status: int) -> None:
    """Something in front of CouchDB may let through the databases that it knows, and no others."""
    house.node.faults = lambda asked: [answer(status, b"no")] if asked.path.startswith(_DECOY) else None
    assert house.ask(f"/closed/doc/f?token={TOKEN}").status == 403
    assert house.get("f").body == b"bytes"


# Addresses.


def test_another_address_is_not_held_up(house: House) -> None:
    _use_up(house)
    _use_up(house, "198.51.100.8")
    for forwarded_for in ("198.51.100.7", "198.51.100.8"):
        assert _statuses([_send(house, X_Forwarded_For=forwarded_for)]) == [None]
    assert house.ask("/db/doc/f?token=wrong").status == 403
    assert _guess(house, "198.51.100.9").status == 403


def test_nobody_is_another_by_saying_so(house: House) -> None:
    for number in range(60):
        assert _guess(house, f"203.0.113.{number}, 198.51.100.7:{number + 1000}").status == 403
    # Field lines are one list: a proxy may add its own.
    for field, status in (
        ("203.0.113.99, 198.51.100.7", None),
        ("203.0.113.99\r\nX-Forwarded-For: 198.51.100.7", None),
        ("198.51.100.7\r\nX-Forwarded-For: 127.0.0.1", None),
        ("198.51.100.7\r\nX-Forwarded-For: 203.0.113.99", 403),
    ):
        assert _statuses([_send(house, X_Forwarded_For=field)]) == [status]


def test_addresses_of_one_customer(house: House) -> None:
    """A /64 of IPv6; and an address of IPv4, however it is written."""
    for number in range(60):
        assert _guess(house, f"[2001:db8:0:7:{number:x}::1]:80").status == 403
    assert _statuses([_send(house, X_Forwarded_For="2001:db8:0:7::99")]) == [None]
    assert _statuses([_send(house, X_Forwarded_For="2001:db8:0:8::99")]) == [403]
    for number in range(60):
        assert _guess(house, f"::ffff:192.0.2.{1 + number % 2}").status == 403
    assert _statuses([_send(house, X_Forwarded_For="192.0.2.1")]) == [403]
    for _ in range(29):
        assert _guess(house, "192.0.2.1").status == 403
    assert _statuses([_send(house, X_Forwarded_For="::ffff:192.0.2.1")]) == [None]


def test_without_trusted_proxies_the_peer_is_the_client() -> None:
    house = House({"f": Stored(b"bytes")})
    for number in range(60):
        assert _guess(house, f"203.0.113.{number}").status == 403
    assert _statuses([_send(house, X_Forwarded_For="203.0.113.99")]) == [None]


def test_without_a_limit_nobody_waits() -> None:
    house = House({"f": Stored(b"bytes")}, guess_limit=0)
    assert {_guess(house).status for _ in range(200)} == {403}
    assert counted(house.table)["wrong_tokens_total"] == 200


# How much it leaves.


def test_guesses_that_reach_couchdb_in_an_hour(house: House) -> None:
    """From one address, with more requests than can wait there, at any time. See docs/security.rst."""
    _use_up(house)
    tokens, clients = count(), list[Client]()
    while house.network.seconds() < 3600:
        clients = [client for client in clients if not client.received]
        while len(clients) < LONGEST_QUEUE + 2:
            clients.append(_send(house, f"/db/doc/f?token={next(tokens)}", Connection="close"))
        house.network.elapse(1)
    assert len(house.node.asked) == counted(house.table)["wrong_tokens_total"] == 781
    assert counted(house.table)["guesses_refused_total"] > 3600


def test_a_share_of_the_connections_may_wait() -> None:
    """Of all addresses together. Nobody fills a gateway with guesses."""
    house = House({"f": Stored(b"bytes")}, trusted_proxies=["127.0.0.1"], guess_limit=1, max_waiting=10)
    addresses = [f"198.51.100.{number}" for number in range(8)]
    for address in addresses:
        assert _guess(house, address).status == 403
    waiting = [_send(house, X_Forwarded_For=address) for address in addresses * 2]
    assert _statuses(waiting) == [None] * 10 + [429] * 6
    assert _statuses([_send(house, f"/db/doc/f?token={TOKEN}", X_Forwarded_For="198.51.100.99")]) == [200]
    house.network.elapse(4)
    assert _statuses(waiting) == [403] * 10 + [429] * 6
    house.assert_at_rest()


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
