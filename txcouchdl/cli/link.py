"""``couchdl link``: expiring links, made here, without asking anybody but for the digest of one that is pinned."""

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote

import click
from attrs import evolve, frozen

from txcouchdl.cli.asking import Means, Source
from txcouchdl.cli.bearer import VARIABLE, read_token
from txcouchdl.cli.durations import parse_end, parse_span
from txcouchdl.cli.locations import TAG, Location
from txcouchdl.cli.options import Address, Common, carry_out, common_options
from txcouchdl.cli.outcomes import Unusable
from txcouchdl.cli.output import standard_output
from txcouchdl.cli.patience import Limits
from txcouchdl.cli.versions import require_success
from txcouchdl.couch.names import AttachmentAddress, BadAddress, parse_address
from txcouchdl.link_secret import read_link_secret
from txcouchdl.links import Link, signing_key

#: Parameters of an address that a link takes over from it, or takes the place of.
_REPLACED: Final = frozenset({"token", "expires", "grace", "digest", "download", "rev", "signature"})

#: An entity-tag that a digest can be told by.
_OPAQUE: Final = re.compile(TAG, re.ASCII)


@frozen
class Order:
    """
    A link to be made.

    :ivar location: of what it is to open.
    :ivar others: parameters of its address that are not signed.
    """

    location: Location
    link: Link
    key: bytes
    others: tuple[tuple[str, str], ...] = ()

    @property
    def signed(self) -> Location:
        """The link itself."""
        others = (f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in self.others)
        return self.location.with_query("&".join([self.link.query(self.key), *others]))


@click.command("link")
@click.argument("address", metavar="URL", type=Address())
@click.option("--expires", metavar="WHEN", required=True, help="When it ends: 2h, 7d, 1h30m; or 2026-12-31T18:00Z.")
@click.option("--grace", metavar="SPAN", help="How long after that a download that began may go on, 0 for not at all.")
@click.option("--pin", is_flag=True, help="These bytes or none: asks the gateway for the digest.")
@click.option("--download", metavar="NAME", help="Save it under this name instead of showing it; '' for its own.")
@click.option("--rev", metavar="REV", help="As this revision of the document has it.")
@click.option("--prefix", metavar="PATH", default="", help="What stands before the gateway's own addresses in the URL.")
@click.option("--link-secret-file", metavar="FILE", help="The gateway's, if it has one.")
@common_options
def link(
    address: Location,
    expires: str,
    grace: str | None,
    pin: bool,
    download: str | None,
    rev: str | None,
    prefix: str,
    link_secret_file: str | None,
    timeout: float,
    give_up: float,
    retries: int,
    token_file: Path | None,
) -> None:
    """
    Print a link to URL that opens it until a time, without its token.

    URL is an attachment's or, with a slash at its end, a document's, with all its attachments. The token comes from
    --token-file, from URL, from the environment (COUCHDL_TOKEN), or is asked for. No link is stronger than its token:
    make one with couchdl token.
    """
    given = dict(parse_qsl(address.query, keep_blank_values=True))
    named = given | {name: value for name, value in (("download", download), ("rev", rev)) if value is not None}
    try:
        end = parse_end(expires, time.time())
        lasts = None if grace is None else parse_span(grace)
        secret = None if link_secret_file is None else read_link_secret(link_secret_file)
        wanted = _link(address.path.removeprefix(prefix.rstrip("/")), end, lasts, named)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if wanted.attachment is None and (pin or {"digest", "download"} & named.keys()):
        raise click.UsageError("a document's link says nothing of one attachment: --pin and --download are for those")
    others = tuple((name, value) for name, value in given.items() if name not in _REPLACED)
    order = Order(address, wanted, signing_key(_token(token_file, given), secret), others)
    if pin:
        carry_out(Common(Limits(retries, give_up, timeout), None), lambda means: _pin(means, order))
    _print(order)


def _print(order: Order) -> None:
    with standard_output() as out:
        out.write(f"{order.signed.url}\n")


def _link(path: str, end: int, grace: int | None, named: Mapping[str, str]) -> Link:
    """
    A link to what a path leads to.

    :param named: among others, the parameters that are signed.
    :raises ValueError: if that is no attachment and no document.
    """
    try:
        where = parse_address(path.encode("ascii"))
    except BadAddress as error:
        raise ValueError(f"there is nothing to link to: {error.reason}") from None
    return Link(
        database=where.database,
        document_id=where.document_id,
        attachment=where.attachment if isinstance(where, AttachmentAddress) else None,
        expires=end,
        grace=grace,
        digest=named.get("digest"),
        download=named.get("download"),
        rev=named.get("rev"),
    )


def _token(file: Path | None, given: Mapping[str, str]) -> bytes:
    if file is not None:
        token = read_token(file)
    else:
        text = given.get("token") or os.environ.get(VARIABLE) or _asked_for()
        # In a document it is UTF-8, whatever this machine speaks.
        token = text.encode("utf-8", "surrogateescape")
    if not token:
        raise click.UsageError("the token is empty")
    return token


def _asked_for() -> str:
    answer: str = click.prompt("Token", hide_input=True, err=True)
    return answer


async def _pin(means: Means, order: Order) -> int:
    """Print the link, with the digest that the gateway has now."""
    answer = await Source(means, order.signed).insist("HEAD", {})
    answer.drop()
    require_success(answer.head)
    etag = answer.head.etag
    if etag is None or etag.weak or not _OPAQUE.fullmatch(etag.opaque):
        raise Unusable("the server tells no digest to pin it by")
    pinned = evolve(order, link=evolve(order.link, digest=f"md5-{etag.opaque}"))
    _print(pinned)
    return 0
