"""
One request of a client: what twisted.web and Klein would do before we are asked, done as we want it.

* Its target is left for the app to read.
* The gateway takes no request bodies: a short one is skipped, a long one refused. (twisted.web would spool it.)
* An answer's head is made in one piece.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, AnyStr, Final, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, ITCPTransport
from twisted.python.failure import Failure
from twisted.web.http import NO_BODY_CODES
from twisted.web.http_headers import Headers
from twisted.web.server import Request

from txcouchdl.gateway.description import Headers as Fields
from txcouchdl.gateway.errors import INTERNAL_ERROR, ErrorAnswer, TooManyConnections
from txcouchdl.gateway.tally import End
from txcouchdl.protocol.statuses import REASON_PHRASES

if TYPE_CHECKING:
    from txcouchdl.gateway.channel import GatewayChannel
    from txcouchdl.gateway.site import GatewaySite

#: Bytes of a request's body that are skipped.
_LONGEST_BODY: Final = 64 * 2**10
#: Characters of all values of an answer whose lines are kept for the next one.
_LONGEST_KEPT: Final = 1024

_TOO_LARGE: Final = ErrorAnswer(413, "too_large", "This server takes no request bodies.")
#: nginx's status for a client that went away before its answer began; it stands in the log only.
_CLIENT_GONE: Final = 499


class GatewayRequest(Request):
    """One request. See the module.

    :ivar site: given when the request has come.
    :ivar answering: what makes its answer, and is cancelled when the client goes away.
    :ivar is_counted: whether it counts for a client that a proxy names.
    :ivar end: how its answer ends, if it is not sent to its end.
    """

    defaultContentType = None  # noqa: N815 (twisted.web's)
    site: "GatewaySite | None" = None
    answering: "Deferred[Any] | None" = None
    is_counted = False
    end: End | None = None
    _told_length = 0
    _body_length = 0
    _fields: Mapping[bytes, Sequence[bytes]] | None = None
    _headers: Headers | None = None

    @property
    def fields(self) -> Mapping[bytes, Sequence[bytes]]:
        """The fields of its head, each with the values of its lines, by names in lower case."""
        if self._fields is None:
            self._fields = {name.lower(): values for name, values in self.requestHeaders.getAllRawHeaders()}
        return self._fields

    @fields.setter
    def fields(self, fields: Mapping[bytes, Sequence[bytes]]) -> None:
        self._fields, self._headers = fields, None

    @property
    def requestHeaders(self) -> Headers:
        """The same, as twisted.web has them: made when somebody asks for them."""
        if self._headers is None:
            self._headers = Headers()
            for name, values in (self._fields or {}).items():
                self._headers.setRawHeaders(name, values)
        return self._headers

    @requestHeaders.setter
    def requestHeaders(self, headers: Headers) -> None:
        self._headers = headers

    def getClientAddress(self) -> IAddress:
        """Whom it is from: the connection's peer, or who that speaks for."""
        return cast(IAddress, self.client)

    def count_for(self, client: str) -> None:
        """
        Count the request for the client that a trusted proxy names, until it ends; of another peer, do nothing.

        :raises TooManyConnections: if that client has too many already.
        """
        channel = cast("GatewayChannel", self.channel)
        connections = channel.site.connections
        if connections.is_proxied(channel):
            if not connections.admit(channel, client):
                raise TooManyConnections
            self.is_counted = True

    def getHeader(self, key: AnyStr) -> AnyStr | None:
        """The value of a field; of several lines the last one's."""
        if isinstance(key, str):
            return super().getHeader(key)
        values = self.fields.get(key.lower())
        return values[-1] if values else None

    def parseCookies(self) -> None:
        """We have no use for them."""

    def gotLength(self, length: int | None) -> None:
        if length is not None and length > _LONGEST_BODY:
            self._refuse_body()

    def handleContentChunk(self, data: bytes) -> None:
        self._body_length += len(data)
        if self._body_length > _LONGEST_BODY:
            self._refuse_body()

    def _refuse_body(self) -> None:
        # Nobody is to be asked for the body any more.
        self.requestHeaders.removeHeader(b"Expect")
        cast("GatewayChannel", self.channel).refuse(_TOO_LARGE)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        # The end of a refused request may come with its beginning.
        if not cast("GatewayChannel", self.channel).is_refused:
            # twisted.web would answer the asterisk-form itself. It is about the server, as the root is.
            self.method, self.uri, self.clientproto = command, b"/" if path == b"*" else path, version
            self.process()

    def process(self) -> None:
        """Without what is for resources that cut the path into segments, and take parameters and forms apart."""
        site = self.site = cast("GatewayChannel", self.channel).site
        try:
            self.render(site.resource)
        except BaseException:
            self.processingFailed(Failure())

    def begin(self, status: int, fields: Fields, length: int | None, body: bytes | None = None) -> None:
        """
        Send the head, and the body with it in one piece, if all of it is there.

        :param fields: beside those of every answer, and those that are in ``responseHeaders`` by now; where both have
            one, it is this.
        :param length: of the body that a GET gets; ``None`` where it is not known, and where there is none.
        :param body: all of it; ``None`` if it will be written.
        """
        channel = cast("GatewayChannel | None", self.channel)
        if channel is None:
            # The client is gone.
            return
        self.setResponseCode(status, REASON_PHRASES[status])
        self.startedWriting = 1
        lines = field_lines(fields)
        if length is not None:
            lines.append(b"Content-Length: %d\r\n" % length)
        if self.method == b"HEAD" or status in NO_BODY_CODES:
            self.write = _drop  # type: ignore[method-assign]
            body = body and b""
        elif length is None and body is None and self.clientproto == b"HTTP/1.1":
            self.chunked = 1
            lines.append(b"Transfer-Encoding: chunked\r\n")
        lines += self._other_lines(fields)
        status_line = b"%b %d %b\r\n" % (self.clientproto, status, self.code_message)
        head = b"%b%b%b\r\n" % (status_line, channel.site.common_lines(), b"".join(lines))
        if body is None:
            channel.write(head)
        else:
            channel.sending.write_all(head, body)
            self.sentLength += len(body)

    def write(self, data: bytes) -> None:
        super().write(data)
        self.tell_sent()

    def tell_sent(self) -> None:
        """Tell of what has been sent since this was told: a body may take hours."""
        site = self.site
        if site is not None and self.sentLength != self._told_length:
            site.tally.sent(self.sentLength - self._told_length)
            self._told_length = self.sentLength

    def loseConnection(self) -> None:
        """Break it off, behind what was sent."""
        self.end = End.BROKEN_OFF
        super().loseConnection()

    def _other_lines(self, fields: Fields) -> list[bytes]:
        others = dict(self.responseHeaders.getAllRawHeaders())
        said = {name.lower() for name, _ in fields} if others else ()
        return [
            b"%b: %b\r\n" % (name, value)
            for name, values in others.items()
            if name.decode("ascii").lower() not in said
            for value in values
        ]

    def processingFailed(self, reason: Failure) -> Failure:
        """What no code of ours has caught: a clean error while there is time for one, a broken connection after."""
        self._log.failure("a request failed", failure=reason)
        if self.startedWriting:
            self.end = End.BROKEN_OFF
            self.unregisterProducer()
            cast(ITCPTransport, cast("GatewayChannel", self.channel).transport).abortConnection()
            return reason
        body = INTERNAL_ERROR.body
        self.begin(INTERNAL_ERROR.status, (("Content-Type", "application/json"),), len(body), body)
        self.finish()
        return reason

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        answering, self.answering = self.answering, None
        if answering is not None:
            answering.cancel()
        # twisted.web logs a request when it is finished; this one never will be. One without a site never began.
        if self.site is not None and not self.finished:
            if not self.startedWriting:
                self.code = _CLIENT_GONE
            elif self.end is None:
                self.end = End.LEFT
            self.site.log(self)
        # Klein keeps a request until the garbage collector comes, and with it what was never sent.
        self.producer = self.transport = None


def field_lines(fields: Fields) -> list[bytes]:
    """
    Fields as they are sent. A value has no line's end, whoever wrote it: there is a space instead.

    :param fields: their values are in ISO 8859-1.
    """
    # As short_cache does it, but without Python code for each field.
    length = sum(map(len, map(_value, fields)))
    return list(map(_kept_line if length <= _LONGEST_KEPT else _line, fields))


_value = itemgetter(1)


def _line(field: tuple[str, str]) -> bytes:
    name, value = field
    return b"%b: %b\r\n" % (name.encode("ascii"), b" ".join(value.encode("latin-1").splitlines()))


# Most fields of an answer are those of the answer before.
_kept_line = lru_cache(512)(_line)


def _drop(data: bytes) -> None:
    """The body of an answer that has none."""
