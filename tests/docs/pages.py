"""The documentation as text: its pages, and the examples in them."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
#: What is told to people about the program as it is; changes are about the program as it was, too.
PAGES = {
    path.name: path.read_text("utf-8")
    for path in (*sorted(DOCS.glob("*.rst")), ROOT / "CONTRIBUTING.rst", ROOT / "README.rst")
}

_BLOCK = re.compile(
    r"^(?P<indent> *)\.\. code-block:: (?P<language>[\w-]+)\n"
    r"(?P<options>(?:(?P=indent)   :.*\n)*)"
    r"(?:[ ]*\n)+"
    r"(?P<text>(?:(?P=indent)   .*\n|[ ]*\n)+)",
    re.MULTILINE,
)


@frozen
class Block:
    """
    An example.

    :ivar line: of its page, where it begins.
    :ivar does_fail: whether its last command is to end with another status than 0: it has the class ``fails``.
    """

    page: str
    line: int
    language: str
    does_fail: bool
    text: str


@frozen
class Step:
    """
    :ivar command: of the shell, its lines joined.
    :ivar shown: the lines that it prints, as the page has them: ``...`` for anything.
    """

    command: str
    shown: tuple[str, ...]


def blocks_of(page: str, text: str) -> list[Block]:
    """The code blocks of a page, in their order."""
    return [
        Block(
            page,
            text.count("\n", 0, found.start()) + 1,
            found["language"],
            ":class: fails" in found["options"],
            textwrap.dedent(found["text"]).strip("\n"),
        )
        for found in _BLOCK.finditer(f"{text}\n")
    ]


def blocks(language: str) -> list[Block]:
    """The code blocks of all pages in a language."""
    return [block for page, text in PAGES.items() for block in blocks_of(page, text) if block.language == language]


def steps(block: Block) -> Iterator[Step]:
    """The commands of a block of the language ``console``."""
    command: list[str] = []
    shown: list[str] = []
    for line in block.text.split("\n"):
        if line.startswith("$ "):
            if command:
                yield Step("\n".join(command), tuple(shown))
            command, shown = [line[2:]], []
        elif line.startswith("> ") and not shown:
            command.append(line[2:])
        else:
            assert command, f"{block.page}:{block.line}: output before a command"
            shown.append(line)
    yield Step("\n".join(command), tuple(shown))


def is_as_shown(output: str, shown: tuple[str, ...]) -> bool:
    """
    Whether something printed this. ``...`` is any text within a line, and on a line of its own any lines.
    """
    if not shown:
        return True
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "..." else f"{'.*'.join(map(re.escape, line.split('...')))}\n"
        for line in shown
    )
    return re.fullmatch(pattern, f"{output.rstrip()}\n") is not None
