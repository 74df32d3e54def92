"""
A request that resumes a download waits while CouchDB cannot be read; all others fail as soon as they did.

What a node does here, it does until the test lets it answer again.
"""

import random
from collections.abc import Callable

import pytest
from attrs import evolve
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.logger import formatEvent

from tests.gateway.house import NODE_PORT, TOKEN, Answer, Client, House, logged, read_answer
from tests.metrics.reading import counted
from tests.scripted import Asked, Doc, Mark, Script, Stored, answer
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.gateway.limits import ClientLimits

LIMITS = UpstreamLimits(stall_timeout=5, give_up=50)
NOISE = random.Random(144).randbytes(400_000)
STORED = {"f": Stored(NOISE), "text": Stored.compressed(NOISE.hex().encode())}
ETAG = f'"{STORED["f"].etag}"'
TARGET = f"/db/doc/f?token={TOKEN}"
#: As Firefox resumes a download, and as Chromium does.
RESUMES = {
    "If-Match": {"Range": "bytes=100000-", "If-Match": ETAG},
    "If-Range": {"Range": "bytes=100000-", "If-Range": ETAG},
    "an inner range": {"Range": "bytes=100000-300000", "If-Range": ETAG},
    "a short one": {"Range": "bytes=100000-100999", "If-Range": ETAG},
}
#: Requests that resume nothing, or do not say so.
OTHERS: dict[str, dict[str, str]] = {
    "all": {},
    "a range": {"Range": "bytes=100000-"},
    "If-Match alone": {"If-Match": ETAG},
    "If-Range alone": {"If-Range": ETAG},
    "no range": {"Range": "lines=1-2", "If-Range": ETAG},
}

#: What a node does that is not there. ``None`` refuses connections.
OUTAGES: dict[str, Script | None] = {
    "refused": None,
    "closed": [Mark.CLOSE],
    "silent": [Mark.SILENCE],
    "500": [answer(500, b'{"error":"internal_server_error"}')],
    "503": [answer(503, b"", {"Retry-After": "100"})],
    "nonsense": [answer(200, b"<html>")],
}


def is_document(asked: Asked) -> bool:
    return asked.path == "/db/doc"


class Outage:
    """
    :param stage: whether documents fail, or bodies, or both.
    """

    def __init__(self, house: House, how: str, stage: str = "everything") -> None:
        self._house = house
        script = OUTAGES[how]
        for number, node in enumerate(house.nodes):
            if script is None and stage == "everything":
                house.network.listen(NODE_PORT + number, None)
            node.faults = self._faults(script or [Mark.CLOSE], stage)

    def _faults(self, script: Script, stage: str) -> Callable[[Asked], Script | None]:
        spared = {"everything": [], "documents": [False], "bodies": [True]}[stage]
        return lambda asked: None if is_document(asked) in spared else script

    def end(self) -> None:
        for number, node in enumerate(self._house.nodes):
            self._house.network.listen(NODE_PORT + number, node)
            node.faults = lambda _: None


def resume(house: House, fields: dict[str, str], target: str = TARGET) -> Client:
    client = house.send(target, fields)
    house.network.run()
    return client


def answer_to(client: Client) -> Answer:
    return read_answer(client.received, "GET", client.is_closed)


def right(fields: dict[str, str], content: bytes = NOISE) -> bytes:
    first, _, last = fields["Range"].removeprefix("bytes=").partition("-")
    return content[int(first) : int(last) + 1 if last else None]


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("fields", RESUMES.values(), ids=RESUMES)
@pytest.mark.parametrize("stage", ["everything", "documents", "bodies"])
@pytest.mark.parametrize("how", OUTAGES)
def test_a_resumed_download_waits_until_couchdb_is_back(
    how: str, stage: str, fields: dict[str, str], nodes: int
) -> None:
    house = House(dict(STORED), nodes=nodes, limits=LIMITS)
    outage = Outage(house, how, stage)
    client = resume(house, fields)
    house.network.pass_time(25)
    assert client.received == b""
    outage.end()
    house.network.pass_time(20)
    got = answer_to(client)
    assert (got.status, got.is_whole, got.body) == (206, True, right(fields))
    house.assert_at_rest()


@pytest.mark.parametrize("how", OUTAGES)
def test_of_what_is_inflated_too(how: str) -> None:
    text = STORED["text"]
    house = House(dict(STORED), limits=LIMITS)
    outage = Outage(house, how)
    fields = {"Range": "bytes=100000-", "If-Range": f'"{text.etag}"'}
    client = resume(house, fields, f"/db/doc/text?token={TOKEN}")
    house.network.pass_time(25)
    assert client.received == b""
    outage.end()
    house.network.pass_time(20)
    assert answer_to(client).body == right(fields, NOISE.hex().encode())
    house.assert_at_rest()


@pytest.mark.parametrize("stage", ["everything", "documents", "bodies"])
@pytest.mark.parametrize("how", OUTAGES)
def test_for_as_long_as_a_download_is_given(how: str, stage: str) -> None:
    """Then it fails as it would have failed at once."""
    house = House(dict(STORED), limits=LIMITS)
    Outage(house, how, stage)
    at_once = resume(house, OTHERS["a range"])
    house.network.pass_time(LIMITS.stall_timeout + 6)
    client = resume(house, RESUMES["If-Range"])
    house.network.pass_time(LIMITS.give_up - 3)
    assert client.received == b""
    house.network.pass_time(3 + 2 * LIMITS.stall_timeout)
    got = answer_to(client)
    assert got.status == answer_to(at_once).status
    assert got.is_whole
    if got.status in (503, 504):
        assert 1 <= int(got["Retry-After"]) <= 5
    house.assert_at_rest()


@pytest.mark.parametrize("fields", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("how", ["refused", "500", "nonsense"])
def test_what_resumes_nothing_fails_at_once(how: str, fields: dict[str, str]) -> None:
    house = House(dict(STORED), limits=LIMITS)
    Outage(house, how)
    assert answer_to(resume(house, fields)).status == (502 if how == "nonsense" else 503)
    house.assert_at_rest()


@pytest.mark.parametrize(
    "fields",
    [
        {"Range": "bytes=100000-", "If-Range": '"another"'},
        {"Range": "bytes=100000-", "If-Range": f"W/{ETAG}"},
        {"Range": "bytes=100000-", "If-Range": "Sat, 21 Nov 2026 19:24:00 GMT"},
    ],
)
def test_what_turns_out_to_resume_nothing_fails_then(fields: dict[str, str]) -> None:
    """The document tells: the answer is all of another version, and an error takes nothing from its client."""
    house = House(dict(STORED), limits=LIMITS)
    outage = Outage(house, "500")
    client = resume(house, fields)
    house.network.pass_time(20)
    assert client.received == b""
    outage.end()
    Outage(house, "500", "bodies")
    house.network.pass_time(5)
    assert answer_to(client).status == 503
    house.assert_at_rest()


@pytest.mark.parametrize("stage", ["everything", "documents", "bodies"])
def test_what_does_not_pass_is_not_waited_for(stage: str) -> None:
    """CouchDB refuses the gateway's credentials: that is the operator's to mend."""
    house = House(dict(STORED), limits=LIMITS)
    spared = {"everything": [], "documents": [False], "bodies": [True]}[stage]
    refusal = [answer(401, b'{"error":"unauthorized","reason":"Name or password is incorrect."}')]
    house.node.faults = lambda asked: None if is_document(asked) in spared else refusal
    assert answer_to(resume(house, RESUMES["If-Range"])).status == 502
    house.assert_at_rest()


def test_a_head_resumes_nothing() -> None:
    house = House(dict(STORED), limits=LIMITS)
    Outage(house, "refused")
    assert house.ask(TARGET, RESUMES["If-Match"], "HEAD").status == 503


def test_the_current_document_decides() -> None:
    """It has changed meanwhile: If-Match says so, and If-Range gets all of it."""
    house = House(dict(STORED), limits=LIMITS)
    outage = Outage(house, "refused")
    clients = [resume(house, RESUMES[name]) for name in ("If-Match", "If-Range")]
    house.network.pass_time(10)
    rev = "2-fedcba9876543210fedcba9876543210"
    house.node.docs["/db/doc"] = Doc({"download_token": TOKEN}, {"f": Stored(NOISE[::-1])}, rev)
    outage.end()
    house.network.pass_time(5)
    assert [answer_to(client).status for client in clients] == [412, 200]
    assert answer_to(clients[1]).body == NOISE[::-1]
    house.assert_at_rest()


# What a stranger can make of it.


@pytest.mark.parametrize("target", ["/db/doc/f?token=wrong", "/db/none/f?token=wrong", "/no/doc/f?token=wrong"])
@pytest.mark.parametrize("how", ["refused", "500"])
def test_a_wrong_token_waits_as_a_right_one_does(how: str, target: str) -> None:
    """Nothing is known of any of them. It counts as one guess, when it is compared."""
    house = House(dict(STORED), limits=LIMITS)
    outage = Outage(house, how)
    clients = [resume(house, RESUMES["If-Range"], each) for each in (TARGET, target)]
    house.network.pass_time(30)
    assert [client.received for client in clients] == [b"", b""]
    outage.end()
    house.network.pass_time(5)
    assert [answer_to(client).status for client in clients] == [206, 403]
    assert counted(house.table)["wrong_tokens_total"] == 1
    house.assert_at_rest()


@pytest.mark.parametrize("query", ["", "?expires=1&signature=" + "A" * 43])
def test_what_no_document_could_open_is_refused_at_once(query: str) -> None:
    """No token, or a link that is over: there is nothing to compare."""
    house = House(dict(STORED), limits=LIMITS)
    house.network.advance(1_000_000)
    Outage(house, "refused")
    assert answer_to(resume(house, RESUMES["If-Range"], f"/db/doc/f{query}")).status == 403


@pytest.mark.parametrize("how", OUTAGES)
@pytest.mark.parametrize("after", [0, 1, 7, 30, 59])
def test_a_client_that_leaves_ends_its_wait(after: int, how: str) -> None:
    house = House(dict(STORED), limits=LIMITS)
    Outage(house, how)
    client = resume(house, RESUMES["If-Match"])
    house.network.pass_time(after)
    client.transport.loseConnection()
    house.network.run()
    asked = len(house.node.asked)
    house.network.pass_time(30)
    assert len(house.node.asked) == asked
    assert not house.gateway._waits._waiting
    house.assert_at_rest()


def test_a_wait_holds_no_place() -> None:
    house = House(dict(STORED), limits=evolve(LIMITS, max_upstream=1))
    house.node.faults = lambda asked: [answer(500, b"{}")] if asked.path.endswith("/damaged") else None
    house.doc.attachments["damaged"] = damaged = Stored(b"damaged" * 100)
    fields = {"Range": "bytes=5-", "If-Range": f'"{damaged.etag}"'}
    clients = [resume(house, fields, f"/db/doc/damaged?token={TOKEN}") for _ in range(20)]
    for _ in range(10):
        assert house.get("f", "bytes=5-").status == 206
        house.network.pass_time(1)
        house.assert_no_place_taken()
    assert {client.received for client in clients} == {b""}
    for client in clients:
        client.transport.loseConnection()
    house.network.run()
    house.assert_at_rest()


def test_so_many_may_wait() -> None:
    house = House(dict(STORED), limits=LIMITS, client_limits=ClientLimits(max_connections=12))
    outage = Outage(house, "refused")
    clients = [resume(house, RESUMES["If-Match"]) for _ in range(3)]
    assert answer_to(resume(house, RESUMES["If-Match"])).status == 503
    clients.pop().transport.loseConnection()
    house.network.run()
    clients.append(resume(house, RESUMES["If-Match"]))
    assert {client.received for client in clients} == {b""}
    assert answer_to(resume(house, RESUMES["If-Match"])).status == 503
    house.network.pass_time(5)
    outage.end()
    house.network.pass_time(5)
    assert {answer_to(client).body for client in clients} == {right(RESUMES["If-Match"])}
    assert not house.gateway._waits._waiting


def test_who_has_waited_and_is_served_waits_no_more() -> None:
    """A response that has begun is no request that waits, however long it takes."""
    house = House(dict(STORED), limits=LIMITS, client_limits=ClientLimits(max_connections=4))
    outage = Outage(house, "refused")
    served = resume(house, RESUMES["If-Match"])
    house.network.pass_time(5)
    outage.end()
    served.transport.is_paused = True
    house.network.pass_time(5)
    assert served.transport.peer.sent
    Outage(house, "refused")
    assert resume(house, RESUMES["If-Match"]).received == b""


def test_a_wait_is_quiet() -> None:
    """It tries ever more seldom, up to once in 2 s, and says in the log once that it waits."""
    house = House(dict(STORED), limits=LIMITS)
    Outage(house, "500")
    with logged() as events:
        resume(house, RESUMES["If-Range"])
        house.network.pass_time(LIMITS.give_up + 10)
    # The document is read twice at each attempt.
    assert 2 * LIMITS.give_up / 2 <= len(house.node.asked) < 2 * (LIMITS.give_up / 2 + 7)
    lines = [formatEvent(event) for event in events]
    assert len([line for line in lines if "a resumed download waits: " in line]) == 1
    assert len([line for line in lines if "a request gets a 503: " in line]) == 1


# Places.


def test_a_resumed_download_waits_for_a_place() -> None:
    """Longer than ``--queue-timeout``, which others wait."""
    limits = UpstreamLimits(max_upstream=1, queue_timeout=8, park_after=500, give_way_after=500)
    house = House(dict(STORED), limits=limits)
    slow = house.send(TARGET)
    slow.transport.is_paused = True
    house.network.run()
    resumed, other = resume(house, RESUMES["If-Range"]), resume(house, OTHERS["a range"])
    house.network.pass_time(40)
    assert resumed.received == b""
    assert answer_to(other).status == 503
    slow.transport.is_paused = False
    house.network.pass_time(5)
    assert answer_to(slow).body == NOISE
    assert answer_to(resumed).body == right(RESUMES["If-Range"])
    house.assert_at_rest()


def test_it_is_given_up_there_too() -> None:
    limits = UpstreamLimits(max_upstream=1, queue_timeout=8, park_after=500, give_way_after=500)
    house = House(dict(STORED), limits=limits)
    slow = house.send(TARGET)
    slow.transport.is_paused = True
    house.network.run()
    resumed = resume(house, RESUMES["If-Range"])
    house.network.pass_time(limits.give_up + limits.queue_timeout)
    got = answer_to(resumed)
    assert (got.status, got["Retry-After"]) == (503, "5")


# Whatever happens.

_outages = st.lists(
    st.tuples(
        st.sampled_from(sorted(OUTAGES)),
        st.sampled_from(["everything", "documents", "bodies"]),
        st.sampled_from([0, 1, 3, 8, 20, 40]),
        st.sampled_from([0, 0, 1]),
    ),
    max_size=4,
)


@given(outages=_outages, fields=st.sampled_from(sorted(RESUMES)), nodes=st.integers(1, 2))
@example([("500", "everything", 8, 0), ("500", "everything", 40, 0)], "If-Match", 1)
@example([("silent", "everything", 40, 0), ("500", "bodies", 40, 0)], "If-Match", 1)
def test_any_outages_one_after_the_other(outages: list[tuple[str, str, int, int]], fields: str, nodes: int) -> None:
    """The bytes, or an error after ``--give-up`` and not before."""
    house = House(dict(STORED), nodes=nodes, limits=LIMITS)
    client, began = house.send(TARGET, RESUMES[fields]), house.network.seconds()
    failed_after: float | None = None
    for how, stage, seconds, pause in outages:
        outage = Outage(house, how, stage)
        house.network.run()
        house.network.pass_time(seconds)
        outage.end()
        house.network.pass_time(pause)
        if failed_after is None and client.received:
            failed_after = house.network.seconds() - began
    house.network.pass_time(150)
    got = answer_to(client)
    if got.status == 206:
        assert (got.is_whole, got.body) == (True, right(RESUMES[fields]))
    else:
        assert got.status in (502, 503, 504)
        assert failed_after is None or failed_after >= LIMITS.give_up - 2
    assert not house.gateway._waits._waiting
    house.assert_at_rest()
