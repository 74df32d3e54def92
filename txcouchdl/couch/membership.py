"""
How much of its cluster a node sees, out of the JSON of ``/_membership``; and which nodes are cut off from it. Pure.

A node whose connections to the others are gone still answers ``/_up`` with 200, and serves the documents of its own
shards as they were. Its ``all_nodes`` then lists fewer nodes than its ``cluster_nodes``: at once where connections were
closed, after Erlang's ``net_ticktime`` where packets are lost (60 s in a CouchDB 3.5.0, measured).
"""

import json
from collections.abc import Mapping
from typing import Final, TypeVar

_Node = TypeVar("_Node")

#: The longest ``/_membership`` that we read: names of some five hundred nodes.
MAX_MEMBERSHIP: Final = 64 * 2**10


def count_visible_nodes(body: bytes) -> int | None:
    """
    Count the nodes of its cluster that a node is connected to, itself included.

    Erlang nodes that are not of the cluster, such as an operator's shell, do not count.

    :param body: a node's answer to ``GET /_membership``.
    :return: ``None`` if it is not what CouchDB answers.
    """
    try:
        membership = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(membership, dict):
        return None
    connected, members = _names(membership.get("all_nodes")), _names(membership.get("cluster_nodes"))
    return None if connected is None or members is None else len(connected & members)


def _names(nodes: object) -> set[str] | None:
    if not isinstance(nodes, list) or not all(isinstance(node, str) for node in nodes):
        return None
    return set(nodes)


def cut_off_nodes(visible: Mapping[_Node, int]) -> set[_Node]:
    """
    Select the nodes that see fewer nodes than another one does.

    :param visible: for each node, how many nodes it sees; all counted at about the same time.
    """
    most = max(visible.values(), default=0)
    return {node for node, count in visible.items() if count < most}
