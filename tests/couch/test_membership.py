"""How much of its cluster a node sees, and which nodes are cut off."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import json_values
from txcouchdl.couch.membership import count_visible_nodes, cut_off_nodes

#: What a CouchDB 3.5.0 answers, seen: whole; cut off from both others; with an operator's shell connected.
SEEN = {
    3: b'{"all_nodes":["node1@127.0.0.1","node2@127.0.0.1","node3@127.0.0.1"],'
    b'"cluster_nodes":["node1@127.0.0.1","node2@127.0.0.1","node3@127.0.0.1"]}\n',
    1: b'{"all_nodes":["node3@127.0.0.1"],"cluster_nodes":["node1@127.0.0.1","node2@127.0.0.1","node3@127.0.0.1"]}\n',
    2: b'{"all_nodes":["node1@127.0.0.1","node2@127.0.0.1","rpc16507@127.0.0.1"],'
    b'"cluster_nodes":["node1@127.0.0.1","node2@127.0.0.1","node3@127.0.0.1"]}\n',
}

#: What something before CouchDB, or another program, may answer instead.
NO_ANSWERS: list[Any] = [
    {},
    [],
    None,
    3,
    {"all_nodes": ["a"]},
    {"cluster_nodes": ["a"]},
    {"all_nodes": "a", "cluster_nodes": ["a"]},
    {"all_nodes": ["a"], "cluster_nodes": {"a": 1}},
    {"all_nodes": [["a"]], "cluster_nodes": ["a"]},
    {"all_nodes": ["a", 1], "cluster_nodes": ["a"]},
]

names = st.sets(st.text(max_size=5), max_size=8)


@pytest.mark.parametrize(("count", "body"), SEEN.items())
def test_what_couchdb_answers(count: int, body: bytes) -> None:
    assert count_visible_nodes(body) == count


@given(names, names)
def test_only_nodes_of_the_cluster_count(connected: set[str], members: set[str]) -> None:
    body = json.dumps({"all_nodes": sorted(connected), "cluster_nodes": sorted(members)}).encode()
    assert count_visible_nodes(body) == sum(name in members for name in connected)


def test_a_name_that_stands_there_twice_counts_once() -> None:
    assert count_visible_nodes(b'{"all_nodes":["a","a"],"cluster_nodes":["a","a","b"]}') == 1


@pytest.mark.parametrize("answer", NO_ANSWERS)
def test_what_couchdb_does_not_answer(answer: Any) -> None:
    assert count_visible_nodes(json.dumps(answer).encode()) is None


@pytest.mark.parametrize("body", [b"", b"<html>", b"{", b"\xff", b"[" * 60_000])
def test_what_is_not_json(body: bytes) -> None:
    assert count_visible_nodes(body) is None


@given(json_values)
def test_any_json_is_a_count_or_nothing(value: Any) -> None:
    count = count_visible_nodes(json.dumps(value).encode())
    assert count is None or count >= 0


@given(st.dictionaries(st.integers(), st.integers(0, 9), max_size=6))
def test_a_node_is_cut_off_if_another_sees_more(visible: dict[int, int]) -> None:
    cut_off = cut_off_nodes(visible)
    assert cut_off == {node for node in visible if any(visible[node] < other for other in visible.values())}
    assert not visible or cut_off != set(visible), "one is always left"
