"""
The directive ``couchdl-options``: what the table of options says of those that are named, one on each line.

So that the page cannot tell other options, variables and defaults than there are.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

from docutils.nodes import Node
from restructured import Entry, as_markup, entries, literal
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from txcouchdl.options.table import OPTIONS, Number, Option

PROGRAM = "twistd couchdl"

_BY_NAME = {option.name: option for option in OPTIONS}


def entry(option: Option) -> Entry:
    """What the reference says of an option."""
    value = "" if option.is_switch else f" {option.metavar}"
    short = () if option.short is None else (f"-{option.short}{value}",)
    return Entry((*short, f"--{option.name}{value}"), option.meaning, tuple(_facts(option)))


def _facts(option: Option) -> Iterator[tuple[str, str]]:
    if option.default:
        yield "default", as_markup(option.default)
    if isinstance(option, Number):
        yield "bounds", f"{option.least} to {option.most}"
    yield "variable", literal(f"{option.variable}=1" if option.is_switch else option.variable)
    if option.is_in_file:
        yield "in a file", literal(f"{option.name} = {_written(option)}")


def _written(option: Option) -> str:
    """A value, as TOML has it."""
    if option.is_switch:
        return "true"
    if isinstance(option, Number):
        return option.default
    return f'["{option.metavar}"]' if option.is_repeatable else f'"{option.metavar}"'


class OptionsDirective(SphinxDirective):
    """The content is names of options, without their dashes."""

    has_content: ClassVar = True

    def run(self) -> list[Node]:
        names = [line.strip() for line in self.content if line.strip()]
        unknown = [name for name in names if name not in _BY_NAME]
        if unknown:
            raise self.error(f"no such options: {', '.join(unknown)}")
        return self.parse_text_to_nodes("\n".join(entries(PROGRAM, (entry(_BY_NAME[name]) for name in names))))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("couchdl-options", OptionsDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
