"""The ``couchdl`` command."""

import click

from txcouchdl import __version__
from txcouchdl.cli.check import check
from txcouchdl.cli.get import get
from txcouchdl.cli.link import link
from txcouchdl.cli.ls import ls
from txcouchdl.cli.outcomes import Trouble
from txcouchdl.cli.token import token


class _Group(click.Group):
    """One whose commands may raise what is wrong before anything has begun."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except Trouble as trouble:
            click.echo(f"couchdl: {trouble.sentence}", err=True)
            ctx.exit(trouble.status)


@click.group(cls=_Group)
@click.version_option(__version__, prog_name="couchdl")
def cli() -> None:
    """
    Downloads that resume, from a txcouchdl gateway or any other HTTP server.

    A token may stand in the address, in the environment (COUCHDL_TOKEN) or in a file (--token-file). It is never shown.
    """


for _command in (check, get, link, ls, token):
    cli.add_command(_command)


def main() -> None:
    """The command line, from beginning to exit."""
    cli()
