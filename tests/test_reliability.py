"""``docs/reliability.rst`` promises that each of its rows is a test."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
TABLES = (TESTS.parent / "docs" / "reliability.rst").read_text("utf-8")


def test_each_row_is_a_test() -> None:
    rows = re.findall(r"^   \* - (.*)\n     - (.*)\n     - (.*)$", TABLES, re.MULTILINE)
    assert len(rows) == TABLES.count("   * - ")
    named = [shown_by for _, _, shown_by in rows if shown_by != "Shown by"]
    assert len(named) > 40
    assert not [each for each in named if not is_test(each)]


def is_test(name: str) -> bool:
    path, _, function = name.partition("::")
    nodes = ast.parse((TESTS / path).read_text("utf-8")).body
    return function in {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
