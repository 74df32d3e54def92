"""Plain text, and lists of options, as reStructuredText."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from attrs import frozen

# What docutils may take for the beginning or the end of something, of an address too.
_MARKUP: Final = re.compile(r"([\\*`|_@]|(?<=\w):(?=\S))")
# As people write them in plain sentences: an option, a variable, a place in an address, a file.
_NAME: Final = re.compile(
    r"""(?<![\w$/"-])(
        --?[a-z][a-z0-9-]*
      | \$?[A-Z][A-Z0-9]*_[A-Z0-9_]+
      | /_[a-z]+(?:\?[a-z]+)?
    )(?![\w"])""",
    re.VERBOSE,
)


@frozen
class Entry:
    """
    One option of a command.

    :ivar spellings: as they are typed, each with the placeholder of its value.
    :ivar meaning: what is said of it, in plain text.
    :ivar facts: what else there is to know, as a name and reStructuredText.
    """

    spellings: tuple[str, ...]
    meaning: str
    facts: tuple[tuple[str, str], ...] = ()

    def lines(self) -> Iterator[str]:
        """Its description, for Sphinx's directive ``option``."""
        yield f".. option:: {', '.join(self.spellings)}"
        yield ""
        yield f"   {as_markup(self.meaning)}"
        if self.facts:
            yield ""
            yield f"   {'; '.join(f'{name}: {value}' for name, value in self.facts)}."
        yield ""


def as_markup(text: str) -> str:
    """Plain text, without line ends: it stays what it is, and names of options and variables are set as such."""
    pieces = _NAME.split(" ".join(text.split()))
    return "".join(literal(piece) if index % 2 else _MARKUP.sub(r"\\\1", piece) for index, piece in enumerate(pieces))


def literal(text: str) -> str:
    """Text as it is typed."""
    return f"``{text}``"


def entries(program: str, each: Iterable[Entry]) -> list[str]:
    """The options of a program, so that references to them are ``program --option``."""
    return [f".. program:: {program}", "", *(line for entry in each for line in entry.lines())]
