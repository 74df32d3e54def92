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
#: The origin of sandboxed frames, of ``data:`` and of ``file:``, which any site can make.
_NULL: Final = "null"
#: Characters of an origin that is compared with a wildcard: a host name has 253.
_LONGEST_ORIGIN: Final = 300
# What a browser puts into an Origin field: a scheme, a host in lower case, a port if it is not the scheme's own.
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)
_OWN_PORTS: Final = {"http": "80", "https": "443"}

# What a wildcard stands for: one label of a host name, or several.
_SUBDOMAINS: Final = "(?:[a-z0-9_-]+[.])+"
_WILDCARD: Final = re.compile(r"([a-z][a-z0-9+.-]*://)\*\.([a-z0-9_.-]+(?::[0-9]{1,5})?)", re.ASCII)

#: Field names that scripts may send. No cookies are involved, so all may be sent. ``*`` stands for all names but
#: Authorization; the other names are for browsers that do not know it.
_REQUEST_FIELDS: Final = "*, Authorization, Range, If-Range, If-Match, If-None-Match, Cache-Control, Pragma"
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

    :ivar origins: as browsers write them, ``https://www.example.org``, or ``null``.
    :ivar has_all: whether every site is allowed.
    :ivar subdomains: patterns of further origins, each for all names below a domain, at any depth, with one scheme and
        one port.
    """

    origins: frozenset[str] = frozenset()
    has_all: bool = False
    subdomains: frozenset[re.Pattern[str]] = frozenset()

    @classmethod
    def parse(cls, texts: Sequence[str]) -> "AllowedOrigins":
        """
        :param texts: origins; ``https://*.example.org`` for all names below a domain, ``null``, or ``*`` for all.
        :raises ValueError: with a sentence for the operator.
        """
        origins, subdomains = set[str](), set[re.Pattern[str]]()
        for text in texts:
            if text == _ANY:
                continue
            wildcard = _WILDCARD.fullmatch(text.lower().removesuffix("/"))
            if wildcard is None:
                origins.add(_origin(text, text))
            else:
                # Without the wildcard it has to be an origin itself.
                subdomains.add(_subdomains(wildcard[1], _origin("".join(wildcard.groups()), text)))
        return cls(frozenset(origins), _ANY in texts, frozenset(subdomains))

    @property
    def has_none(self) -> bool:
        """Whether no site is allowed."""
        return not (self.has_all or self.origins or self.subdomains)

    def allows(self, origin: str | None) -> bool:
        """
        Say whether a site is allowed.

        :param origin: as a browser writes it; ``None`` if it is not known.
        """
        if self.has_all or origin in self.origins:
            return True
        if origin is None or len(origin) > _LONGEST_ORIGIN:
            return False
        return any(pattern.fullmatch(origin) for pattern in self.subdomains)

    def fields(self, origin: str | None) -> Headers:
        """
        Return the header fields of every answer, so that a script can tell one failure from another.

        :param origin: the request's Origin field; ``None`` if it has none, or if it has not come yet.
        """
        if self.has_none:
            return ()
        # A page that isolates itself (COEP) loads only what says that it may be.
        fields = (("Cross-Origin-Resource-Policy", "cross-origin"),)
        # The answer depends on the Origin field, even if the request has none: a cache has to know.
        depends = () if self.has_all else (("Vary", "Origin"),)
        allowed = _ANY if self.has_all else origin
        if allowed is None or not self.allows(origin):
            return (*fields, *depends)
        readable = (("Access-Control-Allow-Origin", allowed), ("Access-Control-Expose-Headers", _RESPONSE_FIELDS))
        return (*fields, *depends, *readable)

    def preflight_fields(self, origin: str | None) -> Headers:
        """
        Return the further fields of an answer to OPTIONS, with which a browser asks what it may send. They are the same
        whatever it asks for: nothing of a request gets into them.
        """
        if not self.allows(origin):
            return ()
        return (
            ("Access-Control-Allow-Methods", "GET, HEAD"),
            ("Access-Control-Allow-Headers", _REQUEST_FIELDS),
            ("Access-Control-Max-Age", _MAX_AGE),
        )


def _origin(text: str, whole: str) -> str:
    """
    :param whole: the operator's text, for the error.
    """
    written = text.lower().removesuffix("/")
    if written == _NULL:
        return written
    if not _ORIGIN.fullmatch(written):
        raise ValueError(f"{whole!r} is no origin such as https://www.example.org or https://*.example.org, nor *")
    own_port = _OWN_PORTS.get(written.partition("://")[0])
    return written if own_port is None else written.removesuffix(f":{own_port}")


def _subdomains(scheme: str, domain: str) -> re.Pattern[str]:
    """
    :param domain: an origin that begins with the scheme. It is not among those that match.
    """
    return re.compile(f"{re.escape(scheme)}{_SUBDOMAINS}{re.escape(domain.removeprefix(scheme))}", re.ASCII)
