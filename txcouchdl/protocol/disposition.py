"""The Content-Disposition field: a name under which to save a download (RFC 6266, RFC 8187).

The name comes from whoever stored the file, and clients create a file of that name, so it is made harmless
first: one path segment, no invisible characters, not too long. Then it is written once or twice: as a
``filename`` that every client reads in the same way, and as ``filename*`` if that is not the exact name.
"""

import posixpath
import re
import unicodedata
from typing import Final, Literal
from urllib.parse import quote

from txcouchdl.short_cache import short_cache

#: The longest name offered, in bytes of UTF-8. File systems take 255; the rest is left to what clients put
#: after a name, such as ``.crdownload``, ``.aria2`` or `` (1)``.
MAX_NAME_BYTES: Final = 240

#: The longest file name extension, in bytes of UTF-8, its dot included, that outlives a name cut short.
_MAX_EXTENSION_BYTES: Final = 32

_NAMELESS: Final = "download"
_REPLACEMENT: Final = "_"
_SEPARATOR: Final = re.compile(r"[/\\]")

# Control characters, format characters (the bidi ones make "exe.txt" of "txt.exe"), lone surrogates, line
# and paragraph separators.
_INVISIBLE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
#: Format characters too, but Persian and the Indic scripts are spelt with them and emoji glued: Chromium
#: keeps them in file names as well.
JOINERS: Final = frozenset("\u200c\u200d")

# What a plain filename cannot hold, or what clients do not agree about (RFC 6266 appendices C and D): other
# than ASCII; quotes, whose escape not all undo; "%41", which some decode; "=?", the start of an RFC 2047
# encoded-word, which some decode too.
_NOT_PLAIN: Final = re.compile(r'[^\x20-\x7e]|"|%(?=[0-9A-Fa-f]{2})|=(?=\?)')

# The attr-char of RFC 8187 section 3.2.1 that quote() would escape.
_ATTR_CHARS: Final = "!#$&+^`|"


# The same few are asked for again and again.
@short_cache(256)
def content_disposition(kind: Literal["inline", "attachment"], filename: str) -> str:
    """The Content-Disposition value that offers ``filename``. Never raises, whatever the name.

    :param filename: any text. What follows its last ``/`` or backslash is offered, cut to
        :data:`MAX_NAME_BYTES` with its extension kept; ``download`` if nothing usable is left.
    :return: printable ASCII, under 1024 characters.
    """
    name = _harmless(filename)
    plain = _NOT_PLAIN.sub(_REPLACEMENT, name)
    value = f'{kind}; filename="{plain}"'
    if plain == name:
        return value
    # In this order, for some clients stumble over the other (RFC 6266 appendix D).
    return f"{value}; filename*=UTF-8''{quote(name, safe=_ATTR_CHARS)}"


def _harmless(filename: str) -> str:
    """The last path segment of ``filename``, made safe to create a file of."""
    segment = _SEPARATOR.split(filename)[-1]
    visible = "".join(_REPLACEMENT if is_invisible(character) else character for character in segment)
    name = _shortened(visible).strip()
    return _NAMELESS if name in ("", ".", "..") else name


def is_invisible(character: str) -> bool:
    """Whether a character shows as nothing, or moves what stands around it, and no script is spelt with it."""
    return unicodedata.category(character) in _INVISIBLE_CATEGORIES and character not in JOINERS


def _shortened(name: str) -> str:
    """``name`` cut to :data:`MAX_NAME_BYTES` if it is longer, between characters and before its extension."""
    stem, extension = posixpath.splitext(name)
    if len(extension.encode()) > _MAX_EXTENSION_BYTES:
        stem, extension = name, ""
    room = MAX_NAME_BYTES - len(extension.encode())
    return stem.encode()[:room].decode(errors="ignore") + extension
