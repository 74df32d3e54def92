"""
The load generator: prebuilt requests on kept connections, each sent when the one before is answered.

It must not be what limits a measurement, and takes what it measures from the same cores: one process, bare sockets,
and bodies that are dropped inside the kernel (``MSG_TRUNC``). Status and length of every answer are checked, the bytes
of a sample. What is not as it must be ends the run: a fast wrong answer is no answer.
"""

import re
import select
import socket
import time
from collections.abc import Iterable, Iterator

from attrs import define, field, frozen

from benchmarks.content import bytes_at

#: Seconds without one byte from anyone until a run has failed.
STALLED = 60.0
_BUFFER = bytearray(4 << 20)
_VIEW = memoryview(_BUFFER)
_HEAD = 64 << 10
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)

Address = tuple[str, int]


class WrongAnswer(Exception):
    """An answer has another status, another length or other bytes than it must have; or it breaks off."""


@frozen
class Request:
    """
    A request, and what must come back.

    :ivar text: all of it, as it is sent.
    :ivar length: of the body; ``None`` for whatever its Content-Length says.
    :ivar first_pos: where in the attachment the body begins, if its bytes are to be compared.
    """

    text: bytes
    status: int
    length: int | None = None
    first_pos: int | None = None


@define
class Load:
    """
    What a run did.

    :ivar seconds: from the first request to the last byte.
    :ivar own_cpu: CPU seconds of the load generator itself.
    :ivar first_byte: seconds from each request to the first byte of its answer.
    :ivar complete: seconds from each request to the last byte of its answer.
    """

    seconds: float = 0.0
    body_bytes: int = 0
    own_cpu: float = 0.0
    first_byte: list[float] = field(factory=list)
    complete: list[float] = field(factory=list)

    @property
    def requests(self) -> int:
        return len(self.complete)


def run_load(address: Address, requests: Iterable[Request], connections: int, seconds: float, least: int = 1) -> Load:
    """
    Send requests for some seconds, and at least so many; every one that was sent is answered before this returns.

    :param requests: enough of them.
    :raise WrongAnswer: an answer is not what its request says.
    """
    load = Load()
    coming = iter(requests)
    clients = [Connection(address, load) for _ in range(connections)]
    try:
        own_cpu = time.process_time()
        start = time.perf_counter()
        _exchange(clients, coming, load, start + seconds, least)
        load.seconds = time.perf_counter() - start
        load.own_cpu = time.process_time() - own_cpu
    finally:
        for client in clients:
            client.close()
    return load


def _exchange(clients: list["Connection"], coming: Iterator[Request], load: Load, until: float, least: int) -> None:
    with select.epoll(len(clients)) as epoll:
        by_descriptor = {client.fileno(): client for client in clients}
        for client in clients:
            epoll.register(client, select.EPOLLIN)
            client.send(next(coming))
        busy = len(clients)
        while busy:
            ready = epoll.poll(STALLED)
            if not ready:
                raise WrongAnswer(f"no byte for {STALLED} s, after {load.requests} answers")
            for descriptor, _ in ready:
                client = by_descriptor[descriptor]
                if not client.receive():
                    continue
                if time.perf_counter() < until or load.requests + busy <= least:
                    client.send(next(coming))
                else:
                    busy -= 1
                    epoll.unregister(descriptor)


class Connection:
    """One kept connection, and the exchange on it."""

    def __init__(self, address: Address, load: Load) -> None:
        self._load = load
        self._socket = socket.create_connection(address, STALLED)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self._head = b""
        self._remaining: int | None = None
        self._length = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, request: Request) -> None:
        """Send a request; the answer before must have come."""
        self._request = request
        self._head = b""
        self._remaining = None
        self._sent_at = time.perf_counter()
        if self._socket.send(request.text) != len(request.text):
            raise WrongAnswer("a request does not fit into an idle connection")

    def receive(self) -> bool:
        """
        Take what has come.

        :return: whether the answer is complete.
        """
        try:
            if self._remaining is None:
                return self._receive_head()
            return self._receive_body(self._remaining)
        except ConnectionError as lost:
            raise WrongAnswer(f"the connection broke, {self._remaining} bytes before the end of an answer") from lost

    def _receive_head(self) -> bool:
        if not self._head:
            self._load.first_byte.append(time.perf_counter() - self._sent_at)
        data = self._socket.recv(_HEAD)
        if not data:
            raise WrongAnswer(f"the connection was closed before an answer: {self._request.text!r}")
        self._head += data
        head, end, body = self._head.partition(b"\r\n\r\n")
        if not end:
            return False
        self._length = self._remaining = parse_head(head, self._request)
        return self._take(len(body), body)

    def _receive_body(self, remaining: int) -> bool:
        if self._request.first_pos is None:
            count = self._socket.recv_into(_BUFFER, min(remaining, len(_BUFFER)), socket.MSG_TRUNC)
        else:
            count = self._socket.recv_into(_BUFFER, min(remaining, len(_BUFFER)))
        if not count:
            raise WrongAnswer(f"{remaining} of {self._length} bytes did not come: {self._request.text!r}")
        return self._take(count, _VIEW[:count])

    def _take(self, count: int, data: bytes | memoryview) -> bool:
        assert self._remaining is not None
        request = self._request
        if count > self._remaining:
            raise WrongAnswer(f"{count - self._remaining} bytes behind the answer of {request.text!r}")
        if request.first_pos is not None:
            first_pos = request.first_pos + self._length - self._remaining
            if data != bytes_at(first_pos, count):
                raise WrongAnswer(f"wrong bytes in {first_pos}-{first_pos + count - 1}: {request.text!r}")
        self._remaining -= count
        if self._remaining:
            return False
        self._load.complete.append(time.perf_counter() - self._sent_at)
        self._load.body_bytes += self._length
        return True


def parse_head(head: bytes, request: Request) -> int:
    """
    Check an answer's head.

    :return: how long its body is.
    :raise WrongAnswer: it has another status or length than its request says, or no length.
    """
    status = head[9:12]
    if status != b"%d" % request.status:
        raise WrongAnswer(f"{head[:200]!r} where {request.status} should be, to {request.text!r}")
    if request.status == 304:
        return 0
    found = _CONTENT_LENGTH.search(head)
    if found is None:
        raise WrongAnswer(f"no length in {head!r}")
    length = int(found[1])
    if request.length is not None and length != request.length:
        raise WrongAnswer(f"{length} bytes where {request.length} should be, to {request.text!r}")
    return length
