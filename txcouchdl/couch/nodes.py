"""A CouchDB node: where it is, and who we are there."""

from base64 import b64encode
from urllib.parse import unquote

from attrs import field, frozen
from hyperlink import DecodedURL, EncodedURL, URLParseError


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

    @classmethod
    def parse(cls, url: str) -> "Node":
        """
        :param url: ``http(s)://[user:password@]host[:port][/prefix]``; user and password percent-encoded.
        :raises BadNodeURL: if it is not of that form.
        """
        try:
            parsed = EncodedURL.from_text(url.strip())
            DecodedURL(parsed)
        except (URLParseError, ValueError, UnicodeError):
            raise BadNodeURL("not a URL") from None
        _check(parsed)
        bare = parsed.replace(userinfo="").to_uri().to_text().rstrip("/")
        user, _, password = parsed.userinfo.partition(":")
        return cls(bare, _basic(unquote(user), unquote(password)) if parsed.userinfo else None)

    @classmethod
    def of(cls, base: str, user: str, password: str) -> "Node":
        """A node whose parts are known. The base has no slash at its end."""
        return cls(base, _basic(user, password))


def _check(url: EncodedURL) -> None:
    if url.scheme not in {"http", "https"}:
        raise BadNodeURL("a node's URL begins with http:// or https://")
    if not url.host:
        raise BadNodeURL("a node's URL names a host")
    if url.query or url.fragment:
        raise BadNodeURL("a node's URL has no query and no fragment")


def _basic(user: str, password: str) -> str:
    """The Basic scheme (RFC 7617), in UTF-8. CouchDB knows the scheme by this spelling only (FINDINGS, section 7)."""
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode('ascii')}"
