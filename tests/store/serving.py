"""A served store, and a client that sends what it is told, byte for byte."""

import gzip
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ParamSpec, cast
from urllib.parse import unquote, urlencode, urlsplit

import pytest_twisted
from attrs import field, frozen
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IListeningPort, IPushProducer, ITCPTransport
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure

from txcouchdl.store.app import store_site
from txcouchdl.store.credentials import Credentials
from txcouchdl.store.store import Store

ADMIN = Credentials("adm", "pass")
AUTHORIZATION = "Basic " + b64encode(b"adm:pass").decode("ascii")


_P = ParamSpec("_P")


def in_reactor(test: Callable[_P, Coroutine[Any, Any, None]]) -> Callable[_P, None]:
    """A test that awaits; pytest-twisted has no types for it."""
    return cast(Callable[_P, None], pytest_twisted.ensureDeferred(test))


@frozen
class Response:
    """
    What came back.

    :ivar headers: by name in lower case, repeated ones joined.
    :ivar body: without the chunks' framing.
    :ivar is_whole: whether the body ended as its framing says, and nothing came after it.
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    is_whole: bool = True

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Exchange(Protocol):
    """
    One connection: sends, and collects until the other side closes.

    :ivar ended: fires with all bytes received, however the connection ended.
    """

    def __init__(self, data: bytes, half_close: bool = False) -> None:
        self._data = data
        self._half_close = half_close
        self.received = b""
        self.reason: Failure | None = None
        self.ended: Deferred[bytes] = Deferred()

    @property
    def tcp(self) -> ITCPTransport:
        """The connection, which there must be by now."""
        return cast(ITCPTransport, self.transport)

    @property
    def reading(self) -> IPushProducer:
        """The connection as a source of bytes, which can be told to wait."""
        return cast(IPushProducer, self.transport)

    def connectionMade(self) -> None:
        self.tcp.write(self._data)
        if self._half_close:
            self.tcp.loseWriteConnection()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason
        self.ended.callback(self.received)

    @property
    def was_broken(self) -> bool:
        """Whether the other side did more than close the connection."""
        return self.reason is not None and self.reason.check(ConnectionDone) is None


class _Factory(ClientFactory):
    noisy = False

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def buildProtocol(self, _address: object) -> Exchange:
        return self._exchange


class RawClient:
    """Sends requests to one server, byte for byte, each on a connection of its own."""

    user, password = "adm", "pass"
    host = "127.0.0.1"
    port: int

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor

    @property
    def authorization(self) -> str:
        return "Basic " + b64encode(f"{self.user}:{self.password}".encode()).decode("ascii")

    def connect(self, exchange: Exchange) -> Exchange:
        self.reactor.connectTCP(self.host, self.port, _Factory(exchange))
        return exchange

    async def send(self, raw: bytes, half_close: bool = False) -> Response | None:
        """``None`` if the connection ended without an answer."""
        received = await self.connect(Exchange(raw, half_close)).ended
        return parse_response(received, is_head=raw.startswith(b"HEAD "))

    async def ask(
        self,
        method: str,
        target: str,
        body: bytes | str | None = None,
        authorization: str | None = "",
        **fields: str,
    ) -> Response:
        """
        :param authorization: the Authorization header; empty for the admin's, ``None`` for none.
        :param fields: header fields, with ``_`` for ``-``.
        """
        chosen = self.authorization if authorization == "" else authorization
        response = await self.send(request(method, target, body, chosen, **fields))
        assert response is not None, "the connection ended without an answer"
        return response

    async def log_in(self, form: str = "form") -> Response:
        """
        :param form: ``form``, ``json`` or ``json in gzip``; ``username`` is a form with another name for the name.
        """
        if form.startswith("json"):
            body = json.dumps({"name": self.user, "password": self.password}).encode()
            fields = {"content_type": "application/json"}
            if form == "json in gzip":
                body, fields = gzip.compress(body), fields | {"content_encoding": "gzip"}
        else:
            name = "username" if form == "username" else "name"
            body = urlencode({name: self.user, "password": self.password}).encode()
            fields = {"content_type": "application/x-www-form-urlencoded"}
        return await self.ask("POST", "/_session", body, authorization=None, **fields)


class OutsideCouchDB(RawClient):
    """
    A CouchDB that runs already.

    :param url: with an admin's credentials, on plain HTTP.
    """

    def __init__(self, url: str, reactor: Any) -> None:
        super().__init__(reactor)
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 80
        self.user, self.password = unquote(parts.username or ""), unquote(parts.password or "")


class ServedStore(RawClient):
    """A store and the port where it answers. Made by :meth:`start`."""

    def __init__(self, directory: Path, reactor: Any) -> None:
        super().__init__(reactor)
        self.directory = directory
        self.serve()

    def serve(self) -> None:
        """Done already; to be done again, after :meth:`stop`, for another life of the store."""
        self.store = Store.open(self.directory, self.reactor)
        self.site = store_site(self.store, ADMIN, self.reactor)
        self._port: IListeningPort = self.reactor.listenTCP(0, self.site, interface="127.0.0.1")
        self.port = self._port.getHost().port

    @classmethod
    def start(cls, directory: Path, reactor: Any) -> "ServedStore":
        return cls(directory, reactor)

    def stop(self) -> Deferred[None]:
        """May be called twice. A Deferred, for pytest_twisted.blockon waits for ever for a coroutine."""
        return maybeDeferred(self._port.stopListening).addCallback(lambda _: self.store.close())

    def files(self, folder: str) -> list[Path]:
        """The files in ``incoming`` or ``blobs``."""
        return [path for path in (self.directory / folder).rglob("*") if path.is_file()]


@asynccontextmanager
async def serving(directory: Path, reactor: Any) -> AsyncIterator[ServedStore]:
    """A store that is served meanwhile."""
    served = ServedStore.start(directory, reactor)
    try:
        yield served
    finally:
        await served.stop()


def request(
    method: str,
    target: str,
    body: bytes | str | None = None,
    authorization: str | None = AUTHORIZATION,
    **fields: str,
) -> bytes:
    """A whole request, on a connection of its own."""
    lines = [f"{method} {target} HTTP/1.1", "Host: store.example", "Connection: close"]
    if authorization is not None:
        lines.append(f"Authorization: {authorization}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    content = body.encode() if isinstance(body, str) else body
    if content is not None:
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join([*lines, "", ""]).encode() + (content or b"")


def parse_response(received: bytes, is_head: bool) -> Response | None:
    """
    Read the one answer in what a connection received; ``None`` if there is none.
    """
    head, separator, rest = received.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 100 "):
        return parse_response(rest, is_head)
    if not separator:
        return None
    status_line, *lines = head.decode("latin-1").split("\r\n")
    _, status, reason = status_line.split(" ", 2)
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        key = name.lower()
        headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
    has_body = not is_head and status != "304"
    body, is_whole = _read_body(headers, rest) if has_body else (b"", rest == b"")
    return Response(int(status), reason, headers, body, is_whole)


def _read_body(headers: Mapping[str, str], rest: bytes) -> tuple[bytes, bool]:
    if headers.get("transfer-encoding") == "chunked":
        return _read_chunks(rest)
    if "content-length" in headers:
        return rest, len(rest) == int(headers["content-length"])
    return rest, True


def _read_chunks(rest: bytes) -> tuple[bytes, bool]:
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return body, rest == b"\r\n"
        body, rest = body + rest[:length], rest[length + 2 :]
    return body, False
