"""
What a document's page shows to people: its attachments, to be read about, played, looked at and downloaded. Pure.

The page is one response: its stylesheet is within it, and nothing else of ours is fetched for it. It has no script, and
:data:`POLICY` has the browser run none, for names, ids and media types are anybody's text. They come into the page as
text of elements only, never within an attribute; each is isolated there, whatever its direction; and nothing in it is
left that shows as nothing, or that moves what stands around it.
"""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from importlib.resources import files
from itertools import accumulate
from typing import Final, Literal

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from txcouchdl.page.listing import Entry, Listing
from txcouchdl.protocol.disposition import JOINERS, is_invisible
from txcouchdl.protocol.media_types import Kind

_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"

# Players that ask for the beginning of their media as soon as the page is there: about as many as are in view. The
# others ask when they are started: a document may have hundreds.
_EAGER_PLAYERS: Final = 8

#: Characters of a name that are shown.
_LONGEST_TEXT: Final = 1000

_UNITS: Final = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15, "EB": 10**18}


def render(listing: Listing) -> bytes:
    """The whole page, in UTF-8. What is shown of a listing may be any text, lone surrogates included."""
    return _TEMPLATE.render(
        listing=listing,
        summary=_summary(listing),
        entries=list(zip(listing.entries, _preloads(listing.entries), strict=True)),
    ).encode("utf-8")


def _preloads(entries: Sequence[Entry]) -> Iterable[Literal["metadata", "none"]]:
    """What the player of each entry loads before it is started, if it has one."""
    players = accumulate(int(_is_played(entry)) for entry in entries)
    return ("metadata" if number <= _EAGER_PLAYERS else "none" for number in players)


def _is_played(entry: Entry) -> bool:
    return entry.link is not None and entry.kind.is_played


def _summary(listing: Listing) -> str:
    """How many attachments there are, and how large they are together; or, of some of them, which these are."""
    count = _counted(listing.total, "attachment")
    if listing.next is None and listing.previous is None:
        return f"{count} · {_total_size(listing)}"
    if listing.skipped == listing.last:
        return count
    return f"{listing.skipped + 1:,} to {listing.last:,} of {count}"


def _total_size(listing: Listing) -> str:
    known = [entry.length for entry in listing.entries if entry.length is not None]
    if not known:
        return "size unknown"
    return _size(sum(known)) if len(known) == listing.total else f"at least {_size(sum(known))}"


def _size(length: int) -> str:
    """A number of bytes for people: a kB is 1000 of them, as file managers and browsers have it."""
    if length < 1000:
        return _counted(length, "byte")
    # Rounded before the unit is chosen: 999,950 bytes are 1.0 MB and not 1,000.0 kB.
    tenths = {unit: (length * 10 + size // 2) // size for unit, size in _UNITS.items()}
    unit = next((unit for unit in tenths if tenths[unit] < 10_000), "EB")
    return f"{tenths[unit] // 10:,}.{tenths[unit] % 10} {unit}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _shortened(text: str) -> str:
    """A name of megabytes would be all of the page, several times."""
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"


def _visible(value: object) -> object:
    """What is put into the page for a value: of text, every character in a way that can be seen."""
    if isinstance(value, Markup):
        return value
    text = str(value)
    # Nearly all of them are, and it is quickly seen.
    if text.isprintable():
        return text
    return "".join(_REPLACEMENT if is_invisible(character) else character for character in text)


def _is_blank(text: str | None) -> bool:
    """Whether a text would show nothing, or is none."""
    return text is None or all(character.isspace() or character in JOINERS for character in text)


def _environment() -> Environment:
    # Whatever the template puts out has gone through _visible(): no expression of it can forget to.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_visible
    )
    environment.filters |= {"size": _size, "counted": _counted, "shortened": _shortened}
    environment.tests |= {"blank": _is_blank}
    environment.globals |= {"Kind": Kind, "stylesheet": Markup(_STYLESHEET)}  # noqa: S704 - it is ours
    return environment


def _resource(name: str) -> str:
    return files("txcouchdl.page").joinpath(name).read_text(encoding="utf-8")


_STYLESHEET: Final = _resource("page.css")
_TEMPLATE: Final = _environment().from_string(_resource("page.html.jinja"))

#: The page's Content-Security-Policy: pictures and media from where it is from, its own stylesheet and its empty icon,
#: and nothing else.
POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "img-src 'self' data:",
        "media-src 'self'",
        f"style-src 'sha256-{b64encode(sha256(_STYLESHEET.encode('utf-8')).digest()).decode('ascii')}'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
