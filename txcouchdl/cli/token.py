"""``couchdl token``: a secret for a document, or for ``--link-secret-file``."""

import secrets
from typing import Final

import click

from txcouchdl.cli.output import standard_output

#: Bytes: 256 bits.
_STRENGTH: Final = 32


@click.command("token")
def token() -> None:
    """
    Print a new token of 256 bits, which nobody guesses.

    Put it into a document's download_token; or into the file of --link-secret-file.
    """
    with standard_output() as out:
        out.write(f"{secrets.token_urlsafe(_STRENGTH)}\n")
