"""
Media types: what kind of thing one is for a browser, and which one a file's name tells of.

The names that are known are those of Python's own table and the ones below, never the machine's: the answer is the
same wherever the gateway runs.
"""

import re
from enum import Enum
from mimetypes import MimeTypes
from typing import Final

from txcouchdl.short_cache import short_cache

#: What says nothing: the type of any bytes (RFC 2046, section 4.5.1).
OCTET_STREAM: Final = "application/octet-stream"

# What browsers play and show, under the names by which they know it: Chromium refuses audio/x-flac (CLIENTS,
# point 10). Python's own table lacks some of these, and differs between its versions in others.
_KNOWN: Final = {
    ".3gp": "video/3gpp",
    ".aac": "audio/aac",
    ".avif": "image/avif",
    ".flac": "audio/flac",
    ".gz": "application/gzip",
    ".jxl": "image/jxl",
    ".m3u8": "application/vnd.apple.mpegurl",
    ".m4a": "audio/mp4",
    ".m4v": "video/mp4",
    ".mka": "audio/x-matroska",
    ".mkv": "video/x-matroska",
    ".mov": "video/quicktime",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".oga": "audio/ogg",
    ".ogg": "audio/ogg",
    ".ogv": "video/ogg",
    ".opus": "audio/ogg",
    ".parquet": "application/vnd.apache.parquet",
    ".tgz": "application/gzip",
    ".vtt": "text/vtt",
    ".wav": "audio/wav",
    ".weba": "audio/webm",
    ".webm": "video/webm",
    ".webp": "image/webp",
    ".xz": "application/x-xz",
    ".zst": "application/zstd",
}
_TYPES: Final = MimeTypes().types_map[True] | _KNOWN

# One type and its parameters, and nothing else: of several, joined by commas, browsers take the last.
_MEDIA_TYPE: Final = re.compile(r"([a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+)[ \t]*(?:;[^,]*)?", re.IGNORECASE | re.ASCII)


class Kind(Enum):
    """What a browser does with a thing."""

    AUDIO = "audio"
    VIDEO = "video"
    IMAGE = "image"
    OTHER = "other"

    @property
    def is_played(self) -> bool:
        """Whether it has a player, which reads on and seeks."""
        return self in (Kind.AUDIO, Kind.VIDEO)


#: Pictures that browsers show within a page.
_PICTURES: Final = frozenset(
    f"image/{subtype}"
    for subtype in ("apng", "avif", "bmp", "gif", "jpeg", "png", "svg+xml", "vnd.microsoft.icon", "webp", "x-icon")
)


# What browsers show with links in it, under whatever top-level type.
_MARKUP: Final = re.compile("component|html|pdf|rdf|wml|xml|xsl|xul")
# All else of these is shown as text, played or looked at.
_WITHOUT_MARKUP: Final = ("audio/", "font/", "image/", "text/", "video/")
_PLAIN_APPLICATIONS: Final = frozenset(
    f"application/{subtype}"
    for subtype in ("javascript", "json", "ogg", "vnd.apple.mpegurl", "x-javascript", "x-mpegurl")
)


# The same few are asked for again and again.
@short_cache(256)
def essence(content_type: str | None) -> str | None:
    """
    Type and subtype in lower case, without parameters.

    :return: ``None`` for what is not one media type.
    """
    found = None if content_type is None else _MEDIA_TYPE.fullmatch(content_type.strip(" \t"))
    return None if found is None else found[1].lower()


def kind_of(content_type: str | None) -> Kind:
    """What a browser does with this type; :attr:`Kind.OTHER` for what is none."""
    name = essence(content_type) or ""
    if name.endswith("+xml") and name not in _PICTURES:
        return Kind.OTHER
    if name.startswith("audio/"):
        return Kind.AUDIO
    # Sound, film or both: what shows films plays sounds too.
    if name.startswith("video/") or name == "application/ogg":
        return Kind.VIDEO
    return Kind.IMAGE if name in _PICTURES else Kind.OTHER


def may_have_links(content_type: str | None) -> bool:
    """
    Say whether a browser may show what is of this type as something with links in it: HTML, XML, SVG, PDF, and all that
    is not known to have none. What is not one media type is among them: browsers disagree about what it is.
    """
    name = essence(content_type)
    if name is None or _MARKUP.search(name):
        return True
    is_known = name.startswith(_WITHOUT_MARKUP) or name.endswith("+json") or name in _PLAIN_APPLICATIONS
    return not is_known


def guessed_type(name: str) -> str | None:
    """
    The media type that a file of this name has, told by its extension.

    :return: ``None`` if it tells nothing. Of ``a.tar.gz`` it is that of gzip: what is inside is not what is sent.
    """
    # A path, not a URL: urllib would take "data:text/html,.txt" for one.
    stem, dot, extension = name.rpartition(".")
    if not dot or not stem:
        return None
    return _TYPES.get(f".{extension.lower()}")
