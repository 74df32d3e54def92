"""What the Pythons of distributions and their tools can do: users run these."""

import ast
import re
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

import pytest

from tests.test_architecture import MODULES

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
#: Python 3.11.2, which is Debian 12's, accepts with these what does not match (python/cpython#101955, #106052).
NEW = {_constants.POSSESSIVE_REPEAT, _constants.ATOMIC_GROUP}


def compiled(module: str) -> Iterator[re.Pattern[Any]]:
    """The expressions that a module keeps, by themselves or in a tuple, a list or a dictionary."""
    for value in vars(import_module(module)).values():
        values = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else (value,)
        yield from (each for each in values if isinstance(each, re.Pattern))


def written(module: str) -> Iterator[str | bytes]:
    """The expressions that stand in calls of ``re``."""
    for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            owner, first = node.func.value, node.args[0]
            if isinstance(owner, ast.Name) and owner.id == "re" and isinstance(first, ast.Constant):
                assert isinstance(first.value, str | bytes)
                yield first.value


def operations(parsed: Any) -> Iterator[Any]:
    """The names of all operations in a parsed expression."""
    if isinstance(parsed, _parser.SubPattern):
        parsed = parsed.data
    if isinstance(parsed, tuple | list):
        for each in parsed:
            yield from operations(each)
    else:
        yield parsed


@pytest.mark.parametrize("module", sorted(each for each in MODULES if not each.endswith("__main__")))
def test_regular_expressions_that_every_python_reads_alike(module: str) -> None:
    for pattern in (*(each.pattern for each in compiled(module)), *written(module)):
        assert not NEW & {each for each in operations(_parser.parse(pattern)) if each in NEW}, pattern


def test_such_expressions_would_be_found() -> None:
    for pattern in ("(?:a*+)?", "((?>a))", "a{2}+"):
        assert NEW & {each for each in operations(_parser.parse(pattern)) if each in NEW}


def test_modules_that_mypys_exceptions_name() -> None:
    """mypy says nothing of an exception for a module that does not exist."""
    named = [each for entry in PROJECT["tool"]["mypy"]["overrides"] for each in entry["module"]]
    ours = [each for each in named if each.partition(".")[0] in {"txcouchdl", "tests", "benchmarks"}]
    assert "txcouchdl.service" in ours
    for name in ours:
        path = ROOT.joinpath(*name.removesuffix(".*").split("."))
        assert path.is_dir() or path.with_suffix(".py").is_file(), name


#: The first releases without publicly known vulnerabilities: CVE-2026-69247 in cryptography, CVE-2025-27516 in jinja2,
#: CVE-2026-27199 in werkzeug.
SAFE = {"cryptography": (50,), "jinja2": (3, 1, 6), "werkzeug": (3, 1, 6)}


@pytest.mark.parametrize("name", SAFE)
def test_dependencies_have_no_known_vulnerability(name: str) -> None:
    [floor] = [each.partition(">=")[2] for each in PROJECT["project"]["dependencies"] if each.startswith(f"{name}>=")]
    assert tuple(map(int, floor.split("."))) >= SAFE[name]


def test_pip_is_upgraded_before_its_option_for_groups_is_used() -> None:
    """Python 3.11 comes with a pip without ``--group``, which pip 25.1 introduced."""
    commands = re.findall(r"^    (.*\bpip install .*)$", (ROOT / "CONTRIBUTING.rst").read_text("utf-8"), re.MULTILINE)
    first = next(each for each in commands if "--group" in each)
    assert any("--upgrade pip" in each or "'pip>=25.1'" in each for each in commands[: commands.index(first)])
