"""
A token that does not open the document of one node, and another node that may have a newer one.

A node that is cut off from its cluster has documents as they were.
"""

from collections.abc import Callable

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.gateway.house import House, logged, read_answer
from tests.metrics.reading import counted
from tests.scripted import Asked, Doc, Mark, Script, Stored, answer, membership
from txcouchdl.couch.health import State
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.places import Place
from txcouchdl.couch.route import SECOND_READ_TIMEOUT
from txcouchdl.links import Link, signing_key

DATA = b"0123456789" * 100
OLD, NEW, WRONG = "old", "new", "wrong"
SUFFIX = "0123456789abcdef0123456789abcdef"

DELETED = answer(404, b'{"error":"not_found","reason":"deleted"}\n')
NO_DATABASE = answer(404, b'{"error":"not_found","reason":"Database does not exist."}\n')


def revision(token: str, generation: int) -> Doc:
    return Doc({"download_token": token}, {"f": Stored(DATA)}, f"{generation}-{SUFFIX}")


def split(*docs: Doc | Script | None, limits: UpstreamLimits | None = None) -> House:
    """A cluster whose nodes have the document as it is here: a revision, an answer, or nothing."""
    house = House(nodes=len(docs), limits=limits or UpstreamLimits())
    for node, doc in zip(house.nodes, docs, strict=True):
        node.docs = {"/db/doc": doc} if isinstance(doc, Doc) else {}
        if doc is not None and not isinstance(doc, Doc):
            node.faults = answers(doc)
    return house


def answers(script: Script) -> Callable[[Asked], Script | None]:
    return lambda asked: script if asked.path == "/db/doc" else None


def get(house: House, token: str, times: int = 1) -> list[int]:
    """The statuses of so many requests."""
    return [house.ask(f"/db/doc/f?token={token}").status for _ in range(times)]


def document_reads(house: House) -> list[int]:
    return [sum(asked.path == "/db/doc" and "&rev" not in asked.target for asked in node.asked) for node in house.nodes]


def test_a_new_token_is_not_refused_for_a_node_that_does_not_know_it() -> None:
    """A partition was seen to refuse it in 10 of 30 requests, and to count these as guesses."""
    house = split(revision(NEW, 2), revision(NEW, 2), revision(OLD, 1))
    with logged() as events:
        assert get(house, NEW, 30) == [200] * 30
    assert "wrong_tokens_total" not in counted(house.table)
    assert "requests_total 403" not in counted(house.table)
    assert sum("has an older revision" in str(event["log_format"]) for event in events) == 10
    house.assert_at_rest()


def test_the_bytes_come_from_the_node_that_has_the_newer_document() -> None:
    house = split(revision(NEW, 2), revision(OLD, 1))
    house.nodes[1].faults = lambda asked: None if asked.path == "/db/doc" else [answer(500, b"{}")]
    assert get(house, NEW, 4) == [200] * 4
    assert "node_failures_total http://127.0.0.1:5985" not in counted(house.table)


def test_a_revoked_token_opens_nothing_once_health_checks_have_found_the_node() -> None:
    """It was seen to open 10 of 30 requests."""
    house = split(revision(NEW, 2), revision(NEW, 2), revision(OLD, 1))
    for node, visible in zip(house.nodes, (2, 2, 1), strict=True):
        node.membership = [membership(visible, 3)]
    get(house, WRONG)
    assert get(house, OLD, 30) == [403] * 30
    assert get(house, NEW, 30) == [200] * 30


def test_what_remains_where_they_have_not() -> None:
    """As security.rst says: the node that is cut off opens what it would have opened before."""
    house = split(revision(NEW, 2), revision(NEW, 2), revision(OLD, 1))
    assert sorted(get(house, OLD, 30)) == [200] * 10 + [403] * 20


def test_a_new_document_is_found_where_a_node_has_never_seen_it() -> None:
    house = split(revision(NEW, 1), None)
    assert get(house, NEW, 4) == [200] * 4
    assert get(house, WRONG, 4) == [403] * 4


#: What a node has: a generation and a token; or no document, and why.
NO_DOCUMENTS: dict[str, Script | None] = {
    "unknown": None,
    "deleted": [DELETED],
    "no database": [NO_DATABASE],
    "a bad name": [answer(400, b'{"error":"illegal_docid","reason":"missing"}\n')],
    "closed to us": [answer(403, b'{"error":"forbidden","reason":"You are not allowed to access this db."}\n')],
    "garbage": [answer(200, b"garbage")],
    "an error": [answer(500, b"{}")],
    "lost": [Mark.CLOSE],
}
held = st.sampled_from(sorted(NO_DOCUMENTS)) | st.tuples(
    st.integers(1, 12) | st.integers(10**17, 10**19 - 1), st.sampled_from([OLD, NEW])
)


@given(held, held)
@example("deleted", (1, NEW))
@example("no database", (1, NEW))
@example("unknown", (1, NEW))
@example((9, OLD), (10, NEW))
@example((10, OLD), (9, NEW))
@example((5, OLD), (5, NEW))
def test_a_second_answer_counts_only_if_it_is_newer(
    first: str | tuple[int, str], second: str | tuple[int, str]
) -> None:
    """Whatever two nodes have, a token opens what the first of them opens, or a newer revision of the second."""
    docs = [NO_DOCUMENTS[each] if isinstance(each, str) else revision(each[1], each[0]) for each in (first, second)]
    house = split(*docs)
    # The second node is asked first where the first one fails.
    if first in {"garbage", "an error", "lost"}:
        first = second
    may_open = isinstance(first, tuple) and first[1] == NEW
    if isinstance(second, tuple) and second[1] == NEW and not may_open:
        known = first[0] if isinstance(first, tuple) else 0 if first == "unknown" else 10**20
        may_open = second[0] > known
    both_fail = first == second and first in {"garbage", "an error", "lost"}
    [status] = get(house, NEW)
    assert status == (200 if may_open else 403) or both_fail
    house.assert_at_rest()


@pytest.mark.parametrize("first", ["wrong token", *sorted({*NO_DOCUMENTS} - {"garbage", "an error", "lost"})])
def test_every_refusal_reads_the_same(first: str) -> None:
    """So the time that it takes tells nothing of what there is."""
    there = revision(NEW, 1) if first == "wrong token" else NO_DOCUMENTS[first]
    house = split(there, there)
    assert get(house, WRONG) == [403]
    assert document_reads(house) == [1, 1]
    assert house.nodes[0].asked[0].target == house.nodes[1].asked[0].target
    assert counted(house.table)["wrong_tokens_total"] == 1


def test_a_right_token_is_read_for_once() -> None:
    house = split(revision(NEW, 1), revision(NEW, 1))
    get(house, NEW)
    assert sorted(document_reads(house)) == [0, 1]


def test_of_several_other_nodes_one_is_asked() -> None:
    house = split(*[revision(NEW, 1)] * 5)
    get(house, WRONG)
    assert sorted(document_reads(house)) == [0, 0, 0, 1, 1]


def test_a_single_node_is_asked_once() -> None:
    house = split(revision(NEW, 1))
    get(house, WRONG)
    assert document_reads(house) == [1]


@pytest.mark.parametrize("state", ["aside", "doubted", "down"])
def test_nodes_that_are_not_well_are_not_asked(state: str) -> None:
    house = split(revision(OLD, 1), revision(NEW, 2))
    health = house.cluster._members[1].health
    if state == "aside":
        health.set_aside("of the test")
    else:
        house.nodes[1].up = [Mark.SILENCE] if state == "doubted" else [answer(500, b"{}")]
        health.failed(RuntimeError())
        house.network.run()
    assert health.state.name.lower() == state
    assert get(house, NEW) == [403]
    assert document_reads(house) == [1, 0]


def test_a_node_that_is_set_aside_is_not_believed_alone() -> None:
    """It is asked where the others are full or fail; its refusal is not the last word either."""
    house = split(revision(OLD, 1), revision(NEW, 2))
    first, second = house.cluster._members
    first.health.set_aside("of the test")
    house.nodes[1].faults = first_failure([answer(500, b"{}")])
    assert get(house, NEW) == [200]
    assert second.health.state is State.UP
    assert document_reads(house) == [1, 2]


def first_failure(script: Script) -> Callable[[Asked], Script | None]:
    scripts = iter([script])
    return lambda _: next(scripts, None)


def test_a_node_that_takes_long_is_not_waited_for() -> None:
    house = split(revision(OLD, 1), [Mark.SILENCE])
    client = house.send(f"/db/doc/f?token={NEW}")
    house.network.run()
    house.network.pass_time(SECOND_READ_TIMEOUT - 0.1, step=0.1)
    assert client.received == b""
    house.network.pass_time(0.2, step=0.1)
    assert read_answer(client.received, "GET", False).status == 403
    assert counted(house.table)["wrong_tokens_total"] == 1
    house.assert_at_rest()
    assert house.network.open_connections(5985) <= 1, "that of the health check"


def test_a_node_without_a_place_is_not_waited_for() -> None:
    """Wrong tokens take no place from those who wait for one."""
    house = split(revision(OLD, 1), revision(NEW, 2), limits=UpstreamLimits(max_upstream=1))
    place = house.cluster.spare_place([house.cluster._members[0]])
    assert place is not None
    assert get(house, NEW) == [403]
    place.vacate()
    assert get(house, NEW) == [200]
    house.assert_at_rest()


def test_nobody_who_waits_for_a_place_is_overtaken() -> None:
    house = split(revision(OLD, 1), revision(NEW, 2), limits=UpstreamLimits(max_upstream=1))
    first, second = (house.cluster.spare_place([member]) for member in house.cluster._members)
    assert first is not None
    assert second is not None
    waiting = house.send(f"/db/doc/f?token={NEW}")
    house.network.run()
    overtaking: list[Place | None] = []

    def vacated(place: Place) -> None:
        overtaking.append(house.cluster.spare_place(()))
        house.cluster.vacated = right  # type: ignore[method-assign]
        right(place)

    right, house.cluster.vacated = house.cluster.vacated, vacated  # type: ignore[method-assign]
    first.vacate()
    assert overtaking == [None]
    second.vacate()
    house.network.run()
    assert read_answer(waiting.received, "GET", False).status == 200


def test_many_wrong_tokens_at_once_share_their_second_reads() -> None:
    house = split(revision(OLD, 1), revision(OLD, 1))
    clients = [house.send(f"/db/doc/f?token={WRONG}{number}") for number in range(20)]
    house.network.run()
    assert {read_answer(client.received, "GET", False).status for client in clients} == {403}
    assert sum(document_reads(house)) <= 5
    house.assert_at_rest()


def test_a_client_that_leaves_meanwhile() -> None:
    house = split(revision(OLD, 1), [Mark.SILENCE])
    client = house.send(f"/db/doc/f?token={NEW}")
    house.network.run()
    client.transport.loseConnection()
    house.network.run()
    assert sum(member.busy for member in house.cluster._members) == 0
    house.assert_at_rest()


def test_the_revision_that_is_asked_for_is_read_where_the_newer_document_is() -> None:
    house = split(revision(OLD, 1), revision(NEW, 3))
    old = attrs.evolve(revision(OLD, 2), attachments={"f": Stored(b"as it was")})
    house.nodes[1].old_docs["/db/doc", old.rev] = old
    got = house.ask(f"/db/doc/f?token={NEW}&rev={old.rev}")
    assert (got.status, got.body) == (200, b"as it was")


def test_a_documents_page_is_opened_by_the_newer_document() -> None:
    house = split(revision(OLD, 1), revision(NEW, 2))
    assert house.ask(f"/db/doc/?token={NEW}").status == 200
    assert house.ask(f"/db/doc/?token={WRONG}").status == 403


def test_an_attachment_that_a_node_does_not_know_is_found_at_another() -> None:
    """A right token opens the older document, too."""
    old = attrs.evolve(revision(NEW, 1), attachments={"g": Stored(b"older")})
    house = split(revision(NEW, 2), revision(NEW, 2), old)
    assert get(house, NEW, 6) == [200] * 6
    house.nodes[2].docs["/db/doc"] = attrs.evolve(old, rev=f"3-{SUFFIX}")
    assert sorted(get(house, NEW, 6)) == [200, 200, 200, 200, 404, 404], "older ones do not count"


def test_an_attachment_that_is_not_there_is_nowhere() -> None:
    house = split(revision(NEW, 1), revision(NEW, 1))
    assert house.ask(f"/db/doc/nothing?token={NEW}").status == 404
    assert document_reads(house) == [1, 1]


def test_a_newer_document_without_the_attachment_that_revokes_the_token_too() -> None:
    old = attrs.evolve(revision(OLD, 1), attachments={})
    house = split(old, revision(NEW, 2))
    assert get(house, OLD) == [403]
    assert counted(house.table)["wrong_tokens_total"] == 1


def test_a_revision_that_a_node_does_not_know_is_found_at_another() -> None:
    house = split(revision(NEW, 2), revision(NEW, 2))
    old = attrs.evolve(revision(OLD, 1), attachments={"f": Stored(b"as it was")})
    house.nodes[1].old_docs["/db/doc", old.rev] = old
    for _ in range(4):
        got = house.ask(f"/db/doc/f?token={NEW}&rev={old.rev}")
        assert (got.status, got.body) == (200, b"as it was")
    assert house.ask(f"/db/doc/f?token={NEW}&rev=1-{'f' * 32}").status == 404


def test_a_second_read_of_a_revision_is_none_of_the_current_document() -> None:
    house = split(revision(NEW, 2), revision(NEW, 2))
    old = attrs.evolve(revision(OLD, 1), attachments={"f": Stored(b"as it was")})
    house.nodes[1].old_docs["/db/doc", old.rev] = old
    house.nodes[1].faults = first_failure([Mark.SILENCE])
    clients = []
    for query in (f"token={WRONG}", f"token={WRONG}", f"token={NEW}&rev={old.rev}"):
        clients.append(house.send(f"/db/doc/f?{query}"))
        house.network.run()
    house.network.pass_time(3)
    answers = [read_answer(client.received, "GET", False) for client in clients]
    assert [got.status for got in answers] == [403, 403, 200]
    assert answers[2].body == b"as it was"


def test_a_link_that_the_newer_documents_token_signed() -> None:
    house = split(revision(OLD, 1), revision(NEW, 2))
    link = Link(database="db", document_id="doc", attachment="f", expires=1_000_000)
    for token, status in ((NEW, 200), (WRONG, 403), (NEW, 200)):
        target = f"/db/doc/f?{link.query(signing_key(token.encode(), None))}"
        assert house.ask(target).status == status
