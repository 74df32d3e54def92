"""The tables of ``docs/reliability.rst`` and ``docs/clients.rst``: each row names a test, or says there is none."""

import ast
import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent
RELIABILITY = (TESTS.parent / "docs" / "reliability.rst").read_text("utf-8")
CLIENTS = (TESTS.parent / "docs" / "clients.rst").read_text("utf-8")

_ROW = re.compile(
    r"^   \* -(.*(?:\n       .*)*)\n     - (.*(?:\n       .*)*)\n     - (.*(?:\n       .*)*)$", re.MULTILINE
)
_TEST = re.compile(r"[\w/]+\.py::\w+")


def shown_by(table: str) -> list[str]:
    """The last column, without its head."""
    rows = _ROW.findall(table)
    assert len(rows) == table.count("   * -")
    return [last for _, _, last in rows if last != "Shown by"]


def test_each_fault_is_a_test() -> None:
    named = shown_by(RELIABILITY)
    assert len(named) > 40
    assert not [each for each in named if not is_test(each)]


def test_each_client_is_a_test() -> None:
    rows = shown_by(CLIENTS)
    assert len(rows) > 15
    assert not [row for row in rows if not _TEST.search(row) and not row.startswith("by hand")]
    assert not [each for row in rows for each in _TEST.findall(row) if not is_test(each)]


def is_test(name: str) -> bool:
    path, _, function = name.partition("::")
    return function in functions(path)


@cache
def functions(path: str) -> set[str]:
    nodes = ast.parse((TESTS / path).read_text("utf-8")).body
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
