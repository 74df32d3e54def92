"""
A line as an agent, and treq over it: treq's client without what it does for each call that nobody here needs. Cookies,
redirects, codings to undo and URLs to take apart are half of what a short request costs (measured).
"""

from typing import Any, cast

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from txcouchdl.couch.wire.answers import Answer
from txcouchdl.couch.wire.line import Line
from txcouchdl.couch.wire.requests import RequestHead


@implementer(IAgent)
class LineAgent:
    """
    GETs without bodies, to one node, whose header fields are always the same.

    :param base: the node's URL.
    """

    def __init__(self, line: Line, base: str, head: RequestHead) -> None:
        self._line = line
        self._base = len(base)
        self._head = head

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,  # noqa: N803 (IAgent's)
    ) -> "Deferred[IResponse]":
        """
        :param uri: begins with the base.
        :return: fails with an :class:`~txcouchdl.couch.errors.UpstreamFailure`.
        """
        if method != b"GET" or headers is not None or bodyProducer is not None:
            raise ValueError("nothing but the prepared GETs is sent")
        return cast("Deferred[IResponse]", self._line.ask(self._head.request(uri[self._base :])))


class LeanClient(HTTPClient):
    """treq's client, with an answer as it came."""

    def request(self, method: str, url: str, **_: Any) -> "Deferred[Answer]":  # type: ignore[override]
        """The URL goes out as it stands. Through IDNA, for one, no underscores of container networks would come."""
        return cast("Deferred[Answer]", self._agent.request(method.encode("ascii"), url.encode("ascii")))
