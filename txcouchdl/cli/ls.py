"""``couchdl ls``: what a document has."""

import json
from typing import Any

import click
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from txcouchdl.cli.asking import Means
from txcouchdl.cli.listings import Listed, Listing, listing_of
from txcouchdl.cli.locations import Location
from txcouchdl.cli.names import shown
from txcouchdl.cli.options import Address, carry_out, common_of, common_options
from txcouchdl.cli.outcomes import Exit
from txcouchdl.cli.output import standard_output


@click.command()
@click.argument("url", type=Address())
@click.option("--json", "as_json", is_flag=True, help="The same as JSON, and all else that the server tells of them.")
@common_options
def ls(url: Location, as_json: bool, **others: Any) -> None:
    """
    List a document's attachments: name, type, size and digest.

    The address is a document's, with a slash at its end. On a terminal it is a table; elsewhere there is a line for
    each, with tabs between name, type, bytes and digest, and what is not known is empty.
    """

    async def work(means: Means) -> int:
        listing = await listing_of(means, url)
        with standard_output() as out:
            if as_json:
                out.write(f"{json_of(listing)}\n")
            elif out.isatty():
                Console(file=out, markup=False, highlight=False, emoji=False).print(_table(listing))
            else:
                out.writelines(f"{line_of(each)}\n" for each in listing.attachments)
        return Exit.DONE

    carry_out(common_of(**others), work)


def json_of(listing: Listing) -> str:
    """All pages as one, ASCII; without addresses, which have secrets in them."""
    return json.dumps({**listing.told, "attachments": [each.told for each in listing.attachments]}, indent=1)


def line_of(listed: Listed) -> str:
    """One attachment on one line; whatever its name has, a tab is between columns."""
    length = "" if listed.length is None else str(listed.length)
    cells = (listed.name, listed.text("content_type") or "", length, listed.text("digest") or "")
    return "\t".join(map(shown, cells))


def _table(listing: Listing) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("Name", "Type"):
        table.add_column(title, overflow="fold")
    table.add_column("Size", justify="right", no_wrap=True)
    table.add_column("Digest", overflow="fold")
    for each in listing.attachments:
        size = "" if each.length is None else decimal(each.length)
        cells = (each.name, each.text("content_type") or "", size, each.text("digest") or "")
        table.add_row(*(Text(shown(cell)) for cell in cells))
    return table
