"""Downloads in memory: the real engine, real files, a network and a clock that only move when told."""

from collections.abc import Callable, Coroutine
from hashlib import md5, sha256
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from tests.network import Network
from tests.scripted import Asked, Script, ScriptedNode, answer
from txcouchdl.cli.asking import Means
from txcouchdl.cli.client import Client, Token
from txcouchdl.cli.download import Download
from txcouchdl.cli.locations import Location, parse_location
from txcouchdl.cli.outcomes import Saved
from txcouchdl.cli.patience import Limits
from txcouchdl.cli.places import place
from txcouchdl.cli.versions import Promise
from txcouchdl.protocol.digests import digest_field
from txcouchdl.protocol.ranges import parse_range, resolve

T = TypeVar("T")

PORT = 80
URL = "http://files.example/db/doc/file.bin?token=s3cret"
#: Seconds after which a test's download has to be over.
LONGEST = 100_000.0


@define
class Notes:
    """A watcher that writes down what it is told."""

    said: list[str] = field(factory=list)
    failed: list[str] = field(factory=list)
    remarks: list[str] = field(factory=list)
    sizes: list[tuple[int | None, int]] = field(factory=list)
    count: int = 0

    def sized(self, length: int | None, there: int) -> None:
        self.sizes.append((length, there))

    def brought(self, count: int) -> None:
        self.count += count

    def say(self, sentence: str) -> None:
        self.said.append(sentence)

    def fail(self, sentence: str) -> None:
        self.failed.append(sentence)

    def remark(self, sentence: str) -> None:
        self.remarks.append(sentence)


@implementer(IAgentEndpointFactory)
class _Endpoints:
    def __init__(self, network: Network) -> None:
        self._network = network

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return self._network.endpoint(uri.port)


class Desk:
    """
    Where somebody sits who downloads.

    :ivar directory: where the files go.
    """

    def __init__(self, directory: Path, server: IProtocolFactory | None = None, network: Network | None = None) -> None:
        self.directory = directory
        self.network = network or Network()
        self.notes = Notes()
        if server is not None:
            self.network.listen(PORT, server)

    def means(self, token: str | None = None, timeout: float = 90.0, **changes: Any) -> Means:
        means = Means(
            client=Client(
                self.network,
                timeout,
                None if token is None else Token(token),
                changes.get("connections", 4),
                _Endpoints(self.network),
            ),
            clock=self.network,
            in_thread=execute,
            random=Random(1),
            watcher=self.notes,
            limits=Limits(timeout=timeout),
            least=1000,
        )
        return evolve(means, **changes)

    def start(
        self, url: str = URL, name: str = "file.bin", promise: Promise | None = None, **changes: Any
    ) -> "Deferred[Saved]":
        """Begin a download; nothing has moved yet."""

        async def download() -> Saved:
            with place(self.directory / name) as found:
                return await Download(self.means(**changes), parse_location(url), found, promise).run()

        return Deferred.fromCoroutine(download())

    def get(self, url: str = URL, name: str = "file.bin", **changes: Any) -> Saved:
        """A download from beginning to end."""
        return self.wait_for(self.start(url, name, **changes))

    def do(self, work: Coroutine["Deferred[Any]", Any, T]) -> T:
        return self.wait_for(Deferred.fromCoroutine(work))

    def wait_for(self, running: "Deferred[T]") -> T:
        """Let all move and time pass until something has ended. :return: its result; raises its failure."""
        results: list[Any] = []
        running.addBoth(results.append)
        while not results:
            self.network.run(lambda: results)
            if not results:
                assert self.network.seconds() < LONGEST, "it does not end"
                due = min(call.getTime() for call in self.network.calls)
                self.network.advance(max(due - self.network.seconds(), 1e-6))
        self.network.run()
        if hasattr(results[0], "raiseException"):
            results[0].raiseException()
        result: T = results[0]
        return result

    def read(self, name: str = "file.bin") -> bytes:
        return (self.directory / name).read_bytes()

    @property
    def names(self) -> set[str]:
        """Of all files that are there."""
        return {str(path.relative_to(self.directory)) for path in self.directory.rglob("*")}

    def leave(self) -> None:
        """The process ends, somehow: its locks and its connections are gone."""
        self.network = Network()


def location(url: str = URL) -> Location:
    return parse_location(url)


@define
class FileServer:
    """
    A server with one file, that does as RFC 9110 has it; or as it is told, before that.

    :ivar before: asked first for each request; a script, or ``None`` to let it answer.
    :ivar changes: of the header fields of its answers with a body; ``None`` for those that are left out.
    """

    content: bytes
    etag: str | None = '"version-1"'
    digests: tuple[str, ...] = ("sha-256", "md5")
    before: Callable[[Asked], Script | None] = lambda _: None
    changes: dict[str, str | None] = field(factory=dict)
    has_ranges: bool = True
    heeds_if_range: bool = True
    asked: list[Asked] = field(factory=list)

    def factory(self) -> ScriptedNode:
        return ScriptedNode(faults=self.respond)

    def respond(self, asked: Asked) -> Script:
        self.asked.append(asked)
        script = self.before(asked)
        return self.answer(asked) if script is None else script

    def fields(self) -> dict[str, str]:
        known = {"sha-256": sha256(self.content).digest(), "md5": md5(self.content).digest()}
        told = {name: known[name] for name in self.digests}
        fields = {"ETag": self.etag, "Repr-Digest": digest_field(told) if told else None}
        return self._changed({name: value for name, value in fields.items() if value is not None})

    def _changed(self, fields: dict[str, str]) -> dict[str, str]:
        return {name: value for name, value in {**fields, **self.changes}.items() if value is not None}

    def answer(self, asked: Asked) -> Script:
        if asked.method == "HEAD":
            return [answer(200, b"", self.fields(), length=len(self.content))]
        specs = parse_range(asked.headers.get("range")) if self.has_ranges else None
        if self.heeds_if_range and asked.headers.get("if-range", self.etag) != self.etag:
            specs = None
        if specs is None:
            return [answer(200, self.content, self.fields())]
        ranges = resolve(specs, len(self.content))
        if not ranges:
            return [answer(416, b"", {"Content-Range": f"bytes */{len(self.content)}"})]
        (found,) = ranges
        fields = {"Content-Range": found.content_range(len(self.content)), **self.fields()}
        return [answer(206, self.content[found.first : found.last + 1], self._changed(fields))]

    @property
    def ranges(self) -> list[str | None]:
        """The Range fields of all requests but HEAD."""
        return [each.headers.get("range") for each in self.asked if each.method == "GET"]
