"""``couchdl get``: files, and whole documents."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from txcouchdl.cli.asking import Means
from txcouchdl.cli.download import Download
from txcouchdl.cli.listings import Listed, listing_of
from txcouchdl.cli.locations import Location
from txcouchdl.cli.names import name_of, safe_path, shown
from txcouchdl.cli.options import Address, carry_out, common_of, common_options
from txcouchdl.cli.outcomes import Exit, LocalTrouble, Passing, Trouble, Unusable, local_trouble
from txcouchdl.cli.places import Place, directory, place, place_inside
from txcouchdl.cli.versions import Promise

#: Connections that one file may have.
MOST_CONNECTIONS: Final = 16


class Getting:
    """
    All that one command is to get, one after the other.

    :param output: where to, as the user said it; ``None`` for here.
    """

    def __init__(self, means: Means, output: str | None) -> None:
        self._means = means
        self._output = output
        self._status: int = Exit.DONE
        # What it has got, so that nothing of that is replaced.
        self._taken: set[tuple[int, int, str]] = set()

    async def all(self, locations: Sequence[Location]) -> int:
        """:return: the exit status: of the first that failed."""
        for location in locations:
            try:
                if location.is_document:
                    await self._document(location)
                else:
                    with place(self._file(location)) as found:
                        await self._one(location, found)
            except Trouble as trouble:
                self._failed(trouble, location.shown)
        return self._status

    def _file(self, location: Location) -> Path:
        if self._output is None:
            return Path(name_of(location))
        chosen = Path(self._output)
        return chosen / name_of(location) if self._output.endswith("/") or chosen.is_dir() else chosen

    async def _one(self, location: Location, found: Place, promise: Promise | None = None) -> None:
        # Two names may become one where not all of a name is fit for a file, or capitals do not count.
        if found.key in self._taken:
            raise LocalTrouble(f"{found.shown}: another file of this command has the same name here")
        saved = await Download(self._means, location, found, promise).run()
        self._taken.add(found.key)
        self._means.watcher.say(saved.sentence)

    async def _document(self, document: Location) -> None:
        listing = await listing_of(self._means, document)
        root = Path(name_of(document) if self._output is None else self._output)
        try:
            root.mkdir(exist_ok=True)
        except OSError as error:
            raise local_trouble(shown(str(root)), error) from None
        with directory(root) as descriptor:
            for each in listing.attachments:
                try:
                    await self._attachment(each, descriptor, shown(str(root)))
                except Trouble as trouble:
                    self._failed(trouble, shown(each.name))

    async def _attachment(self, listed: Listed, root: int, root_shown: str) -> None:
        if listed.location is None:
            raise Unusable("the server has no address for it")
        with place_inside(root, safe_path(listed.name), root_shown) as found:
            await self._one(listed.location, found, listed.promise)

    def _failed(self, trouble: Trouble, about: str) -> None:
        hint = "; to go on, run the same command again" if isinstance(trouble, Passing) else ""
        self._means.watcher.fail(f"couchdl: {about}: {trouble.sentence}{hint}")
        self._status = self._status or trouble.status


@click.command()
@click.argument("urls", type=Address(), nargs=-1, required=True, metavar="URL...")
@click.option("-o", "--output", metavar="FILE|DIR", help="Where to. Default: here, named as at the server.")
@click.option(
    "-j",
    "--connections",
    metavar="NUMBER",
    type=click.IntRange(1, MOST_CONNECTIONS),
    default=4,
    show_default=True,
    help="Connections at the same time, for large files whose MD5 the server tells.",
)
@click.option("--force", is_flag=True, help="Replace files that are there already.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but what went wrong.")
@common_options
def get(
    urls: Sequence[Location], output: str | None, connections: int, force: bool, quiet: bool, **others: Any
) -> None:
    """
    Download files, and go on with what is not complete.

    An address is an attachment's, or any file's; or, with a slash at its end, a document's, for all its attachments in
    a directory. What is not complete stands in FILE.part: run the same command again to go on. A file gets its name
    when it is complete, and what the server gives a digest of, when that is right.

    \b
    Exit status:
      0  done
      1  could not be completed; can be gone on with
      2  the command is wrong
      3  refused: wrong token, not there, not that version
      4  not what its digest says, or always another
      5  a file of this machine: cannot be written, is there already
      130, 143  interrupted; can be gone on with
    """
    if output is not None and len(urls) > 1 and not (output.endswith("/") or Path(output).is_dir()):
        raise click.UsageError("several addresses need a directory to go to: -o DIR/")
    common = common_of(**others)
    carry_out(common, lambda means: Getting(means, output).all(urls), connections, force, quiet)
