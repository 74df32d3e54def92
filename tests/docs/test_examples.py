"""
What the pages show is so: their ``console`` blocks are typed into a shell, those in TOML are read by the gateway.

A block that is not to be run says so by another language: ``sh`` or ``text``.
"""

from pathlib import Path

import pytest

from tests.docs.pages import Block, Step, blocks, blocks_of, is_as_shown, steps
from tests.docs.shell import reader
from tests.running import needs_curl
from txcouchdl.options.settling import settings_of
from txcouchdl.options.sources import in_file

CONSOLE = blocks("console")
#: The pages whose commands are run. They are named here, so that nothing is run because somebody wrote it somewhere.
RUN = ("operating.rst", "store.rst", "tutorial.rst")


def where(block: Block) -> str:
    return f"{block.page}:{block.line}"


@needs_curl
@pytest.mark.parametrize("page", RUN)
def test_commands_do_what_the_page_shows(page: str, tmp_path: Path) -> None:
    with reader(tmp_path) as someone:
        for block in (each for each in CONSOLE if each.page == page):
            all_steps = list(steps(block))
            for number, step in enumerate(all_steps, 1):
                someone.follow(step, block.does_fail and number == len(all_steps))


def test_all_that_looks_as_if_it_were_run_is() -> None:
    assert {block.page for block in CONSOLE} == {*RUN}


@pytest.mark.parametrize("block", blocks("toml"), ids=where)
def test_a_file_that_the_gateway_takes(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "couchdl.toml"
    file.write_text(block.text, "utf-8")
    # Of a secret's file there is only the name on a page.
    said = {name: given for name, given in in_file(str(file)).items() if name != "link-secret-file"}
    assert said
    settings_of(said)


# The reader itself: one who does not look sees no mistake.


def test_blocks() -> None:
    page = "Text::\n\n   a\n\n.. code-block:: sh\n\n   b\n\n1. c\n\n   .. code-block:: console\n      :class: fails\n\n"
    page += "      $ d\n      e\n\n        f\n\ng\n"
    assert blocks_of("p", page) == [
        Block("p", 5, "sh", False, "b"),
        Block("p", 11, "console", True, "$ d\ne\n\n  f"),
    ]


def test_steps() -> None:
    text = "$ a \\\n>   b\n> c\nd\n> e\n$ f"
    assert list(steps(Block("p", 1, "console", False, text))) == [
        Step("a \\\n  b\nc", ("d", "> e")),
        Step("f", ()),
    ]


@pytest.mark.parametrize(
    ("output", "shown", "is_shown"),
    [
        ("anything\n", [], True),
        ("a\nb\n", ["a", "b"], True),
        ("a\nb\n", ["a"], False),
        ("a\n", ["a", "b"], False),
        ("ab\n", ["a...b"], True),
        ("a and b\n", ["a...b"], True),
        ("a and c\n", ["a...b"], False),
        ("a\nb\n", ["a...b"], False),
        ("a\nx\ny\nb\n", ["a", "...", "b"], True),
        ("a\nb\n", ["a", "...", "b"], True),
        ("a\nx\n", ["a", "...", "b"], False),
        ("axb\n", ["a.b"], False),
    ],
)
def test_is_as_shown(output: str, shown: list[str], is_shown: bool) -> None:
    assert is_as_shown(output, tuple(shown)) is is_shown


@pytest.mark.parametrize(
    ("command", "shown", "does_fail"),
    [("echo a", ["b"], False), ("false", [], False), ("true", [], True), ("echo a; false", ["a"], False)],
)
def test_a_reader_sees_what_is_other_than_shown(
    command: str, shown: list[str], does_fail: bool, tmp_path: Path
) -> None:
    with reader(tmp_path) as someone, pytest.raises(AssertionError):
        someone.follow(Step(command, tuple(shown)), does_fail)


def test_a_second_shell_has_not_the_path_of_the_first(tmp_path: Path) -> None:
    with reader(tmp_path) as someone:
        someone.follow(Step("couchdl --version", ("...not found",)), does_fail=True)
        someone.follow(Step('PATH="$PWD/../.venv/bin:$PATH"', ()))
        someone.follow(Step("couchdl --version", ("couchdl...",)))


def test_a_reader_stays_in_one_shell(tmp_path: Path) -> None:
    with reader(tmp_path) as someone:
        someone.ports = {"8000": "12345"}
        someone.follow(Step("NAME=value; cd /", ()))
        someone.follow(Step("echo $NAME $PWD h:8000 x8000; cat", ("value / h:8000 x8000",)))
        someone.follow(Step("[ 12345 = $(echo a:8000 | cut -d : -f 2) ]", ()))
        someone.follow(Step("echo oops >&2; false", ("oops",)), does_fail=True)
