"""
Where something is: URLs, taken apart strictly, shown without their secrets, compared by origin. Pure.
"""

import hashlib
import re
from typing import Final
from urllib.parse import quote, unquote, urljoin, urlsplit

import idna
from attrs import evolve, field, frozen

from txcouchdl.couch.names import quote_segment

#: Characters of a URL that is looked at.
LONGEST: Final = 16_384

_PORTS: Final = {"http": 80, "https": 443}
_HOST: Final = re.compile(r"[a-z0-9_.-]{1,253}|[0-9a-f:.]{2,45}", re.ASCII)
# All that RFC 3986 lets stand in a path or a query; what is not is encoded.
_SAFE: Final = "%/:@!$&'()*+,;=-._~?[]"
_ESCAPE: Final = re.compile("%(?![0-9A-Fa-f]{2})")
#: Of a gateway's entity-tags, what stands between the quotes: an MD5, and what was done to the bytes that it is of.
TAG: Final = r"[A-Za-z0-9+/]{22}==(?:\+gunzip)?"
_PIN: Final = re.compile(f"md5-({TAG})", re.ASCII)
#: Parameters that open something, and others that change nothing of what is opened.
_SECRETS: Final = frozenset({"token", "expires", "grace", "signature"})
_IMMATERIAL: Final = _SECRETS | {"download"}


class BadLocation(ValueError):
    """
    A URL that cannot be asked for.

    :ivar sentence: says why, and repeats nothing of it.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


@frozen
class Location:
    """
    :ivar host: in lower case, ASCII, without brackets.
    :ivar path: as it is sent; begins with a slash.
    :ivar query: the same, without the question mark.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str = field(default="", repr=False)

    @property
    def origin(self) -> tuple[str, str, int]:
        """RFC 6454."""
        return self.scheme, self.host, self.port

    @property
    def base(self) -> str:
        """The origin as text."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _PORTS[self.scheme] else f":{self.port}")

    @property
    def url(self) -> str:
        """As it is asked for, secrets and all."""
        return f"{self.base}{self.path}" + (f"?{self.query}" if self.query else "")

    @property
    def shown(self) -> str:
        """Fit for eyes and logs: of the query, the names. What is no name and value may be a secret itself."""
        hidden = "&".join(f"{name}=***" if is_valued else "***" for name, is_valued, _ in self._parameters())
        return f"{self.base}{self.path}" + (f"?{hidden}" if hidden else "")

    @property
    def identity(self) -> str:
        """What is the same for all addresses of one thing, whatever opens them; a SHA-256 in hexadecimal."""
        material = "&".join(text for name, _, text in self._parameters() if name not in _IMMATERIAL)
        return hashlib.sha256(f"{self.base}{self.path}?{material}".encode()).hexdigest()

    @property
    def is_document(self) -> bool:
        """Whether it is a document's page at a gateway, rather than an attachment."""
        return self.path.endswith("/")

    @property
    def opens_itself(self) -> bool:
        """Whether there is a secret in it, so that no other has to be shown."""
        return any(name in {"token", "signature"} for name, _, _ in self._parameters())

    @property
    def pin(self) -> str | None:
        """Of the entity-tag of what it opens, what stands between the quotes, where it names that (``digest=``)."""
        digests = (text.partition("=")[2] for name, _, text in self._parameters() if name == "digest")
        found = _PIN.fullmatch(unquote(next(digests, "")))
        return None if found is None else found[1]

    def _parameters(self) -> list[tuple[str, bool, str]]:
        """Of each, its name, whether it has a value, and all of it."""
        parts = [text.partition("=") for text in self.query.split("&") if text]
        return [(name, bool(equals), f"{name}{equals}{value}") for name, equals, value in parts]

    def with_query(self, query: str) -> "Location":
        """The same place, asked for in another way."""
        return evolve(self, query=_encoded(query))

    def attachment(self, name: str, query: str) -> "Location":
        """One of a document's attachments; this is the document's."""
        return evolve(self, path=self.path + quote_segment(name), query=_encoded(query))

    def redirected(self, field: str) -> "Location":
        """
        Where a Location field leads from here (RFC 9110, section 10.2.2).

        :param field: a character for each byte; those that are not ASCII are taken as they are, encoded or not.
        :raises BadLocation: if it leads nowhere, or from TLS to where there is none.
        """
        field = "".join(each if each.isascii() else f"%{ord(each):02X}" for each in field)
        if not field.isprintable():
            raise BadLocation("it has control characters in it")
        try:
            joined = urljoin(self.url, field)
        except ValueError:
            raise BadLocation("it cannot be read") from None
        target = parse_location(joined)
        if self.scheme == "https" and target.scheme != "https":
            raise BadLocation("it leads from https to http")
        return target


def parse_location(text: str) -> Location:
    """
    :raises BadLocation: if it is no ``http`` or ``https`` URL, or has a user's name and password in it.
    """
    if len(text) > LONGEST or not text.isprintable():
        raise BadLocation("it is too long, or has control characters in it")
    try:
        parts = urlsplit(text)
        port = parts.port
        host = _ascii_host(parts.hostname or "")
    except ValueError:
        raise BadLocation("it cannot be read") from None
    if parts.scheme not in _PORTS or not _HOST.fullmatch(host):
        raise BadLocation("it does not begin with http://HOST or https://HOST")
    if "@" in parts.netloc:
        raise BadLocation("it has a user's name in it")
    path = _encoded(parts.path) or "/"
    return Location(parts.scheme, host, _PORTS[parts.scheme] if port is None else port, path, _encoded(parts.query))


def _ascii_host(host: str) -> str:
    """
    As browsers have it (UTS 46, not transitional): Python's own codec leads to other hosts, and a token with it.

    :raises ValueError: if there can be no such host.
    """
    return host if host.isascii() else idna.encode(host, uts46=True, transitional=False).decode("ascii")


def _encoded(text: str) -> str:
    """Percent-encoded where it has to be, and not again where it is."""
    try:
        return quote(_ESCAPE.sub("%25", text), safe=_SAFE)
    except UnicodeEncodeError:
        raise BadLocation("it is not UTF-8") from None
