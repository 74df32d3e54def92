"""
The directive ``couchdl-command``: what the command ``couchdl`` says of itself, or of one of its commands.

So that the page cannot tell other arguments, options and exit statuses than there are.
"""

import inspect
from collections.abc import Iterator
from typing import Any, ClassVar

import click
from docutils.nodes import Node
from restructured import Entry, as_markup, entries, literal
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from txcouchdl.cli.main import cli

# How a paragraph of Click's begins whose lines stay what they are.
_VERBATIM = "\b"


def reference(name: str | None) -> list[str]:
    """
    :param name: of a command of ``couchdl``; ``None`` for itself.
    :raises KeyError: if there is no such command.
    """
    context = click.Context(cli, info_name="couchdl")
    if name is not None:
        context = click.Context(cli.commands[name], info_name=name, parent=context)
    command, program = context.command, context.command_path
    usage = " ".join([program, *command.collect_usage_pieces(context)])
    options = [each for each in command.params if isinstance(each, click.Option)]
    return [
        ".. code-block:: text",
        "",
        f"   {usage}",
        "",
        *_paragraphs(command.help),
        *entries(program, (_entry(option, context) for option in options)),
    ]


def _paragraphs(text: str | None) -> Iterator[str]:
    for paragraph in inspect.cleandoc(text or "").split("\n\n"):
        lines = paragraph.strip("\n").split("\n")
        if lines[0].strip() == _VERBATIM:
            yield from [".. code-block:: text", "", *(f"   {line}" for line in lines[1:])]
        else:
            yield as_markup(paragraph)
        yield ""


def _entry(option: click.Option, context: click.Context) -> Entry:
    value = "" if option.is_flag else f" {option.make_metavar(context)}"
    return Entry(tuple(f"{each}{value}" for each in option.opts), option.help or "", tuple(_facts(option, context)))


def _facts(option: click.Option, context: click.Context) -> Iterator[tuple[str, str]]:
    extra = option.get_help_extra(context)
    if "default" in extra:
        yield "default", as_markup(extra["default"])
    if "range" in extra:
        yield "bounds", literal(extra["range"])


class CommandDirective(SphinxDirective):
    """The argument is the name of a command; without one it is ``couchdl`` itself."""

    optional_arguments: ClassVar = 1

    def run(self) -> list[Node]:
        name = self.arguments[0] if self.arguments else None
        try:
            lines = reference(name)
        except KeyError:
            raise self.error(f"couchdl has no command {name}") from None
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("couchdl-command", CommandDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
