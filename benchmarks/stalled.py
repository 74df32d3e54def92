"""
Readers that stall: each asks for the whole attachment, takes the head and a little more, and then nothing.

That is what paused players and sleeping laptops do. What counts is what each of them costs while it does: memory, and
CPU that should be none. Some read on at the end, and must find the bytes where they left off.
"""

import re
import resource
import select
import socket
import time
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path

from attrs import field, frozen

from benchmarks import figures
from benchmarks.content import bytes_at
from benchmarks.contestants import Contestant, Gateway
from benchmarks.figures import Figure
from benchmarks.load import Address, Request, WrongAnswer, parse_head, run_load
from benchmarks.processes import cpu_seconds, resident_kib
from benchmarks.upstreams import Upstream

#: How many are being served their first bytes at the same time, and seconds until the others count as not served.
_COMING = 256
_PATIENCE = 120.0
#: A small one, so that what is under way is held by the gateway.
_RECEIVE_BUFFER = 16 << 10
#: Segments as on Ethernet: with loopback's of 64 KiB, the kernel takes even more megabytes of each stream before the
#: gateway notices that nobody reads.
_SEGMENT = 1460
#: What each takes at first, of its head and of the body.
_TAKEN = 2 << 10
#: How many read on, and how much.
_SAMPLE = 50
_READ_ON = 1 << 20
#: Seconds they have for it, all together.
_READ_ON_SECONDS = 60.0
#: What a gateway is asked for before its memory is that of an idle one.
_WARM_UP = 64


class Reader:
    """
    One reader.

    :ivar taken: bytes of the body that came; ``None`` until the head is there.
    """

    def __init__(self, address: Address, request: Request) -> None:
        self._request = request
        self._received = b""
        self.taken: int | None = None
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)
        self.socket.setblocking(False)
        self.socket.connect_ex(address)

    def ask(self) -> None:
        """Send the request; the connection must be there."""
        self.socket.send(self._request.text)

    def receive(self) -> bool:
        """
        Take a little.

        :return: whether it is enough.
        :raise WrongAnswer: it is not what was asked for.
        """
        piece = self.socket.recv(_TAKEN)
        if not piece:
            raise WrongAnswer("the connection was closed before a stalled reader's first bytes")
        self._received += piece
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return False
        parse_head(head, self._request)
        if body != bytes_at(0, len(body)):
            raise WrongAnswer("wrong first bytes for a stalled reader")
        self.taken = len(body)
        return self.taken >= _TAKEN

    def read_on(self, deadline: float) -> bool:
        """
        Read on where it stopped.

        :param deadline: on the monotonic clock.
        :return: whether enough bytes came in time.
        :raise WrongAnswer: they are not what comes next.
        """
        assert self.taken is not None
        # It is awake again: let it read as fast as others do.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _READ_ON)
        data = bytearray()
        try:
            while len(data) < _READ_ON:
                self.socket.settimeout(max(0.001, deadline - time.monotonic()))
                piece = self.socket.recv(_READ_ON - len(data))
                if not piece:
                    return False
                data += piece
        except OSError:
            return False
        if data != bytes_at(self.taken, _READ_ON):
            raise WrongAnswer(f"wrong bytes from {self.taken} on, after a stall")
        return True


def connect(address: Address, request: Request, count: int) -> list[Reader]:
    """
    Let readers come, a bounded number at a time, for a bounded time.

    :return: those that were served, stalled by now; the others' connections are closed.
    """
    coming: dict[int, Reader] = {}
    served: list[Reader] = []
    left = count
    deadline = time.monotonic() + _PATIENCE
    with select.epoll() as epoll:
        while (left or coming) and time.monotonic() < deadline:
            while left and len(coming) < _COMING:
                reader = Reader(address, request)
                coming[reader.socket.fileno()] = reader
                epoll.register(reader.socket, select.EPOLLOUT)
                left -= 1
            for descriptor, event in epoll.poll(1.0):
                reader = coming[descriptor]
                is_served = _advance(reader, event, epoll)
                if is_served is None:
                    continue
                del coming[descriptor]
                epoll.unregister(descriptor)
                if is_served:
                    served.append(reader)
                else:
                    reader.socket.close()
    for reader in coming.values():
        reader.socket.close()
    return served


def _advance(reader: Reader, event: int, epoll: select.epoll) -> bool | None:
    """Whether a reader was served; ``None`` while that is not known."""
    try:
        if event & select.EPOLLOUT:
            reader.ask()
            epoll.modify(reader.socket, select.EPOLLIN)
            return None
        return reader.receive() or None
    except (OSError, WrongAnswer):
        return False


@frozen
class StalledWork:
    """
    So many readers that stall.

    :ivar seconds: how long they do before memory is measured for the first time.
    """

    name: str
    readers: int
    seconds: float
    upstream: str = "bounded"
    shown: Sequence[Figure] = field(
        default=(
            figures.KIB_PER_STREAM,
            figures.SOCKETS,
            figures.GROWTH,
            figures.STALLED_CPU,
            figures.SERVED,
            figures.READ_ON,
        )
    )
    needs_fresh: bool = True
    most_rounds: int = 1

    @property
    def title(self) -> str:
        return f"{self.readers:,} stalled readers"

    def suits(self, contestant: Contestant) -> bool:
        return contestant.command is not None

    def prepare(self, gateway: Gateway, upstream: Upstream) -> None:
        """Have it import and allocate what it does for its first requests."""
        run_load(gateway.address, repeat(gateway.range(0, 1000)), 4, 0, _WARM_UP)

    def measure(self, gateway: Gateway, upstream: Upstream) -> dict[str, float]:
        assert gateway.program is not None
        pids = gateway.program.pids()
        idle, sockets_before = resident_kib(pids), socket_kib()
        readers = connect(gateway.address, gateway.request(200, upstream.length), self.readers)
        try:
            if not readers:
                raise WrongAnswer("not one of the stalled readers was served")
            return self._figures(readers, pids, idle, sockets_before)
        finally:
            for reader in readers:
                reader.socket.close()

    def _figures(
        self, readers: Sequence[Reader], pids: Sequence[int], idle: float, sockets_before: float
    ) -> dict[str, float]:
        time.sleep(self.seconds)
        first = resident_kib(pids)
        before, start = cpu_seconds(pids), time.monotonic()
        time.sleep(self.seconds)
        after, seconds = cpu_seconds(pids), time.monotonic() - start
        second = resident_kib(pids)
        sockets = socket_kib() - sockets_before
        values = {
            figures.KIB_PER_STREAM: (second - idle) / len(readers),
            figures.SOCKETS: sockets / len(readers),
            figures.GROWTH: second / first,
            figures.STALLED_CPU: (sum(after.values()) - sum(before.values())) / seconds * 100,
            figures.SERVED: len(readers) / self.readers * 100,
            figures.READ_ON: read_on(readers) * 100,
        }
        return {figure.name: value for figure, value in values.items()}


def read_on(readers: Sequence[Reader]) -> float:
    """
    Let some of them read on, from the first to the last that came, when the others have left.

    They leave since together they may hold all the memory that the kernel has for sockets, and what is then measured
    is how it shares that out.

    :return: the share of those that got their bytes.
    """
    step = max(1, len(readers) // _SAMPLE)
    sample = readers[::step][:_SAMPLE]
    for reader in readers:
        if reader not in sample:
            reader.socket.close()
    deadline = time.monotonic() + _READ_ON_SECONDS
    return sum([reader.read_on(deadline) for reader in sample]) / len(sample)


def socket_kib() -> float:
    """The memory that the kernel keeps for all TCP sockets of this machine, KiB."""
    found = re.search(r"^TCP:.* mem (\d+)", Path("/proc/net/sockstat").read_text("ascii"), re.MULTILINE)
    return int(found[1]) * resource.getpagesize() / 1024 if found else 0.0
