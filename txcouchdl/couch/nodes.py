"""A CouchDB node: where it is, and who we are there."""

import re
from base64 import b64decode, b64encode
from urllib.parse import SplitResult, unquote, urlsplit

from attrs import field, frozen

# A name as DNS and container networks have it (underscores are common there), or an address.
_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?|\[[0-9A-Fa-f:.]+\]")
# urlsplit removes line ends and tabs without a word.
_PRINTABLE = re.compile(r"[^\x00-\x20\x7f]*")
# No "@": behind a slash it belongs to a password that was not encoded, and would become part of the address.
_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:%-]*)*")


class BadNodeURL(ValueError):
    """Not the URL of a CouchDB node. The message repeats nothing of it: it may hold a password."""


@frozen
class Node:
    """
    One node, as ``--couchdb`` names it.

    :ivar base: its URL in ASCII, without credentials and without a slash at its end; paths are appended to it.
    :ivar authorization: the value of the Authorization field of every request, or ``None`` for no credentials.
    """

    base: str
    authorization: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.base

    @property
    def user(self) -> str | None:
        """The user's name; ``None`` for no credentials."""
        if self.authorization is None:
            return None
        return b64decode(self.authorization.partition(" ")[2]).decode().partition(":")[0]

    @classmethod
    def parse(cls, url: str) -> "Node":
        """
        :param url: ``http(s)://[user:password@]host[:port][/prefix]``; user and password percent-encoded.
        :raises BadNodeURL: if it is not of that form.
        """
        url = url.strip()
        if not _PRINTABLE.fullmatch(url):
            raise BadNodeURL("not a URL")
        try:
            parsed = urlsplit(url)
            base = _base(parsed)
            authorization = _authorization(parsed)
        except BadNodeURL:
            raise
        except ValueError:
            raise BadNodeURL("not a URL") from None
        return cls(base, authorization)

    @classmethod
    def of(cls, base: str, user: str, password: str) -> "Node":
        """A node whose parts are known. The base has no slash at its end."""
        return cls(base, _basic(user, password))


def _base(url: SplitResult) -> str:
    if url.scheme not in {"http", "https"}:
        raise BadNodeURL("a node's URL begins with http:// or https://")
    if url.query or url.fragment:
        raise BadNodeURL("a node's URL has no query and no fragment")
    _, _, location = url.netloc.rpartition("@")
    host = location if url.port is None else location.removesuffix(f":{url.port}")
    host = host.lower() if host.isascii() else host.encode("idna").decode("ascii")
    if not host:
        raise BadNodeURL("a node's URL names a host")
    if not _HOST.fullmatch(host) or not _PATH.fullmatch(url.path):
        raise BadNodeURL("not a URL")
    return f"{url.scheme}://{host}{'' if url.port is None else f':{url.port}'}{url.path.rstrip('/')}"


def _authorization(url: SplitResult) -> str | None:
    userinfo, _, _ = url.netloc.rpartition("@")
    user, _, password = userinfo.partition(":")
    return _basic(unquote(user, errors="strict"), unquote(password, errors="strict")) if userinfo else None


def _basic(user: str, password: str) -> str:
    """The Basic scheme (RFC 7617), in UTF-8. CouchDB knows the scheme by this spelling only (FINDINGS, section 7)."""
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode('ascii')}"
