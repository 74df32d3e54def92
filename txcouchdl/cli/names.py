"""
Names of files, made of what others say. Pure.

Whoever stores an attachment chooses its name, and a server may say what it likes. So a name is one segment of a path
and no way out of a directory, hides nothing and hides from nobody, and is none that means something to a system or
to us.
"""

import re
import unicodedata
from typing import Final
from urllib.parse import unquote_to_bytes

from txcouchdl.cli.locations import Location
from txcouchdl.cli.outcomes import Unusable
from txcouchdl.protocol.disposition import is_invisible

#: Behind the name of a file that is not complete.
PART: Final = ".part"
#: Behind the name of the former, for what is known of it; and of that while it is written.
STATE: Final = f"{PART}.state"
NEW_STATE: Final = f"{STATE}.new"

#: Bytes of a name: file systems take 255, of which the longest of these endings takes some.
LONGEST: Final = 255 - len(NEW_STATE)

#: Directories below each other, and the file, that a name may lead to.
MOST_SEGMENTS: Final = 32

_LONGEST_EXTENSION: Final = 32
_OURS: Final = (PART, STATE, NEW_STATE)
_NAMELESS: Final = "download"
_FORBIDDEN: Final = re.compile(r'[/\\:*?"<>|]')
# On Windows these are devices, whatever stands behind the dot; a share may be written to from here, too.
_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def safe_name(text: str) -> str:
    """One name, fit for a file of any system. Never raises; a name that is fit already stays as it is."""
    visible = "".join("_" if is_invisible(each) else each for each in text)
    name = _shortened(_FORBIDDEN.sub("_", visible)).strip(" ").rstrip(". ")
    if name.startswith("."):
        name = "_" + name[1:]
    if _RESERVED.fullmatch(name) or name.casefold().endswith(_OURS):
        name = _shortened(f"_{name}_")
    return name or _NAMELESS


def safe_path(text: str) -> tuple[str, ...]:
    """
    The segments of an attachment's name, which may have slashes in it, from the outermost directory inwards.

    :raises Unusable: if there are too many, or there is no name.
    """
    segments = text.split("/", MOST_SEGMENTS)
    if len(segments) > MOST_SEGMENTS or not text:
        raise Unusable("this is no name for a file")
    return tuple(safe_name(segment) for segment in segments)


def name_key(name: str) -> str:
    """What is the same for two names that may become one: there are file systems that know no capitals."""
    return unicodedata.normalize("NFC", name.casefold())


def name_of(location: Location) -> str:
    """What a file is called by its address: the last segment of it, decoded, or what in a document's is its id."""
    last = location.path.rstrip("/").rpartition("/")[2]
    # An attachment's name may have slashes of its own.
    return safe_name(unquote_to_bytes(last).decode("utf-8", "replace").rpartition("/")[2])


def shown(text: str) -> str:
    """Text from elsewhere, fit for a terminal: on one line, with nothing in it that a terminal would obey."""
    return "".join("\N{REPLACEMENT CHARACTER}" if is_invisible(each) else each for each in text)


def _shortened(name: str) -> str:
    """Cut to :data:`LONGEST` bytes, between characters and before its extension."""
    stem, dot, extension = name.rpartition(".")
    if not dot or len(extension.encode()) >= _LONGEST_EXTENSION:
        stem, dot, extension = name, "", ""
    room = LONGEST - len(f"{dot}{extension}".encode())
    return stem.encode()[:room].decode(errors="ignore") + dot + extension
