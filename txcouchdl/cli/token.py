"""``couchdl token``: a secret for a document, or for ``--link-secret-file``."""

import secrets
from typing import Final

import click

#: Bytes: 256 bits.
_STRENGTH: Final = 32


@click.command("token")
def token() -> None:
    """
    Print a new token of 256 bits, which nobody guesses.

    Put it into a document's download_token; or into the file of --link-secret-file.
    """
    click.echo(secrets.token_urlsafe(_STRENGTH))
