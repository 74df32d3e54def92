"""
Which sites' pages may read what we send: CORS, as the Fetch standard has it. Pure.

A page of any site may show a picture and play a film to whose address it has a link, as with all links. To read their
bytes, by a script or a canvas, its site has to be allowed.
"""

import re
from collections.abc import Sequence
from typing import Final

from attrs import frozen

from txcouchdl.gateway.description import Headers

_ANY: Final = "*"
# What a browser puts into an Origin field: a scheme, a host in lower case, a port if it is not the scheme's own.
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)
_OWN_PORTS: Final = {"http": "80", "https": "443"}

#: Field names that scripts may send beyond those that are always allowed.
_REQUEST_FIELDS: Final = "Range, If-Range, If-Match, If-None-Match, Authorization"
#: Field names that scripts may read beyond those that are always allowed.
_RESPONSE_FIELDS: Final = (
    "Content-Range, Content-Length, Accept-Ranges, ETag, Repr-Digest, Content-Disposition, Retry-After"
)
#: Seconds that a browser may remember a preflight's answer: a day, the most that any allows.
_MAX_AGE: Final = "86400"


@frozen
class AllowedOrigins:
    """
    Sites whose pages may read what we send; by default none.

    :ivar origins: as browsers write them, ``https://www.example.org``.
    :ivar has_all: whether every site is allowed.
    """

    origins: frozenset[str] = frozenset()
    has_all: bool = False

    @classmethod
    def parse(cls, texts: Sequence[str]) -> "AllowedOrigins":
        """
        :param texts: origins, or ``*`` for all.
        :raises ValueError: with a sentence for whoever wrote them.
        """
        return cls(frozenset(_origin(text) for text in texts if text != _ANY), _ANY in texts)

    def fields(self, origin: str | None) -> Headers:
        """
        The header fields of every answer that is given to a request that could be read: a script may tell one failure
        from another.

        :param origin: the request's Origin field.
        """
        if not self.has_all and not self.origins:
            return ()
        # A page that isolates itself (COEP) loads only what says that it may be.
        fields = (("Cross-Origin-Resource-Policy", "cross-origin"),)
        # The answer depends on who asks, even if nobody says so: a cache has to know.
        depends = () if self.has_all else (("Vary", "Origin"),)
        allowed = _ANY if self.has_all else origin if origin in self.origins else None
        if allowed is None:
            return (*fields, *depends)
        readable = (("Access-Control-Allow-Origin", allowed), ("Access-Control-Expose-Headers", _RESPONSE_FIELDS))
        return (*fields, *depends, *readable)

    def preflight_fields(self, origin: str | None) -> Headers:
        """The further fields of an answer to OPTIONS, with which a browser asks what it may send."""
        if not self.has_all and origin not in self.origins:
            return ()
        return (
            ("Access-Control-Allow-Methods", "GET, HEAD"),
            ("Access-Control-Allow-Headers", _REQUEST_FIELDS),
            ("Access-Control-Max-Age", _MAX_AGE),
        )


def _origin(text: str) -> str:
    written = text.lower().removesuffix("/")
    if not _ORIGIN.fullmatch(written):
        raise ValueError(f"{text!r} is no origin such as https://www.example.org, nor *")
    own_port = _OWN_PORTS.get(written.partition("://")[0])
    return written if own_port is None else written.removesuffix(f":{own_port}")
