"""
A gateway as it is downloaded from: a process with files in its store, and a proxy before it that clients go through,
which writes down what they ask for and breaks off what it should.
"""

import json
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import md5, sha256
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote, urlencode

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.threads import deferToThread

from tests.faults import Fault, FaultyProxy, Hangup, Schedule
from tests.faults.exchange import Exchange
from tests.nodes import descriptors, open_files
from tests.running import PATIENCE, Running, beat
from tests.scripted import Asked
from tests.servers import reactor

DATABASE, TOKEN = "db", "t"


def digest_of(content: bytes) -> str:
    """As a stub has it, of what is stored as it is."""
    return f"md5-{b64encode(md5(content).digest()).decode()}"


def sha(content: bytes) -> str:
    """For comparisons: of megabytes that differ, nobody wants to see the difference."""
    return sha256(content).hexdigest()


def sha_of(file: Path) -> str:
    return sha(file.read_bytes())


class Served:
    """
    A gateway in front of its own store.

    :ivar directory: of its store.
    :ivar log: with a line for each request.
    """

    def __init__(self, process: Running, directory: Path) -> None:
        self.pid = process.pid
        self.directory = directory
        self.log = process.out
        self.port = process.port()
        self._store = process.port("Store")
        credentials = b64encode((directory / "admin").read_text().strip().encode())
        self._authorization = f"Basic {credentials.decode()}"
        self._revs: dict[str, str] = {}
        self._call("PUT", f"/{DATABASE}")

    def put(self, document: str, name: str, content: bytes, content_type: str, **headers: str) -> str:
        """
        Upload an attachment, or another version of it.

        :return: the document's revision.
        """
        path = f"/{DATABASE}/{document}"
        if document not in self._revs:
            self._revs[document] = self._call("PUT", path, json.dumps({"download_token": TOKEN}).encode())["rev"]
        fields = {"Content-Type": content_type} | {name.replace("_", "-"): value for name, value in headers.items()}
        target = f"{path}/{quote(name)}?rev={self._revs[document]}"
        self._revs[document] = self._call("PUT", target, content, fields)["rev"]
        return self._revs[document]

    async def rest(self, descriptors_before: int) -> None:
        """Wait until the gateway has no body open, and no descriptor more than before."""
        await deferToThread(self._wait_for_rest, descriptors_before)

    def _wait_for_rest(self, before: int) -> None:
        deadline = monotonic() + PATIENCE
        while (found := self._open()) > (0, before) and monotonic() < deadline:
            beat(self.port)
        assert found <= (0, before), "bodies, descriptors"

    def _open(self) -> tuple[int, int]:
        return open_files(self.pid, self.directory / "blobs"), descriptors(self.pid)

    def _call(self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Any:
        connection = HTTPConnection("127.0.0.1", self._store, timeout=PATIENCE)
        try:
            fields = {"Content-Type": "application/json", "Authorization": self._authorization} | (headers or {})
            connection.request(method, target, body, fields)
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        assert response.status == 201, answer
        return answer


def target(document: str, name: str, **query: str) -> str:
    """Of a download."""
    return f"/{DATABASE}/{document}/{quote(name)}?{urlencode({'token': TOKEN} | query)}"


class Door:
    """What clients go through to the gateway. Use :func:`door`."""

    def __init__(self, port: int, schedule: Schedule) -> None:
        self.port = port
        self.schedule = schedule

    def url(self, document: str, name: str, **query: str) -> str:
        return f"http://127.0.0.1:{self.port}{target(document, name, **query)}"

    @property
    def asked(self) -> list[Asked]:
        """All requests, in the order in which they came."""
        return [each.asked for each in self.schedule.applied]

    @property
    def ranges(self) -> list[str | None]:
        """The Range fields of all of them but HEAD."""
        return [each.headers.get("range") for each in self.asked if each.method == "GET"]

    @property
    def starts(self) -> list[int]:
        """The first-pos of each of them, 0 where all of the file was asked for."""
        return [int((each or "bytes=0-").removeprefix("bytes=").partition("-")[0]) for each in self.ranges]

    @property
    def cuts(self) -> int:
        """How many answers were broken off."""
        return len(self.schedule.struck)


@asynccontextmanager
async def door(served: Served, *faults: Fault, decide: Callable[[Asked], Fault] | None = None) -> AsyncIterator[Door]:
    """
    A door for one client.

    :param faults: of one answer with a body after the other.
    :param decide: which fault a request has, where it is not one after the other.
    """
    schedule = Schedule.of(*faults, spares=lambda asked: asked.method == "HEAD") if decide is None else Schedule(decide)
    proxy = FaultyProxy(TCP4ClientEndpoint(reactor, "127.0.0.1", served.port), schedule, reactor)
    port = reactor.listenTCP(0, proxy, interface="127.0.0.1")
    try:
        yield Door(port.getHost().port, schedule)
    finally:
        await port.stopListening()
    # The client has gone, and what it left behind is gone soon.
    await Deferred.fromCoroutine(proxy.rest()).addTimeout(PATIENCE, reactor)


@frozen
class Meanwhile(Fault):
    """
    After some bytes of the body something happens, and then the connection ends, or waits until the client leaves.

    :ivar how: ``None`` to wait.
    """

    after: int
    happen: Callable[[], object] = field(repr=False)
    how: Hangup | None = Hangup.FIN

    async def play(self, exchange: Exchange) -> Hangup | None:
        await exchange.ask()
        if not await exchange.pass_on(exchange.place(self.after)):
            return None
        exchange.strike()
        await deferToThread(self.happen)
        if self.how is None:
            await exchange.forever()
        return self.how
