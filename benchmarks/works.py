"""The pieces of work that are measured: what is asked of a gateway, how often, and which figures tell of it."""

import hashlib
import random
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle
from typing import Protocol

from attrs import frozen

from benchmarks import figures
from benchmarks.content import bytes_at
from benchmarks.contestants import OURS, TWO_WORKERS, Contestant, Gateway
from benchmarks.figures import Figure
from benchmarks.load import Request, run_load
from benchmarks.processes import cpu_seconds
from benchmarks.upstreams import Upstream

#: Of so many ranges the bytes of one are compared, and of the others status and length.
_CHECKED = 64
#: How many different ranges there are, before they are asked for again.
_RANGES = 4096
SMALL_RANGE = 64 << 10
LARGE_RANGE = 1 << 20
_ONE_PAGE = 1000


@frozen
class Effort:
    """
    How much is done.

    :ivar whole: bytes of the fast upstream's attachment.
    :ivar couchdb_whole: bytes of the one in a real CouchDB.
    :ivar seconds: how long requests are sent in one measurement, at least.
    :ivar warm_up: how long they are sent before it.
    :ivar stalled: how many readers stall, in each piece of work of that kind.
    :ivar stalled_seconds: how long they do, until memory is measured for the first time.
    """

    whole: int
    couchdb_whole: int
    seconds: float
    warm_up: float
    stalled: tuple[int, ...]
    stalled_seconds: float


FULL = Effort(1 << 30, 100 << 20, 2.0, 0.5, (1000, 5000), 15.0)
QUICK = Effort(8 << 20, 4 << 20, 0.1, 0.02, (30,), 0.2)


class Work(Protocol):
    """
    Something to do with a gateway.

    :ivar name: for the command line and JSON.
    :ivar title: for people.
    :ivar upstream: the kind of upstream behind the gateway.
    :ivar shown: the figures for the table, the one that counts first.
    :ivar needs_fresh: whether each measurement has a gateway of its own, that has served nothing before.
    :ivar most_rounds: how often it is worth repeating.
    """

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def upstream(self) -> str: ...
    @property
    def shown(self) -> Sequence[Figure]: ...
    @property
    def needs_fresh(self) -> bool: ...
    @property
    def most_rounds(self) -> int: ...

    def suits(self, contestant: Contestant) -> bool:
        """Whether this contestant can do it."""
        ...

    def prepare(self, gateway: Gateway, upstream: Upstream) -> None:
        """Warm a gateway up, and see that what it sends is right; not measured."""
        ...

    def measure(self, gateway: Gateway, upstream: Upstream) -> dict[str, float]:
        """Do it once."""
        ...


#: What to ask for, of a gateway with this upstream behind it.
_Requests = Callable[[Gateway, Upstream], Iterable[Request]]


@frozen
class LoadWork:
    """
    Requests for some time.

    :ivar requests: what is measured.
    :ivar gateways_only: whether only contestants can that check tokens and conditions themselves.
    :ivar among: the only contestants that it is for; all, if there are none.
    :ivar check: what is asked for before; if nothing, the same for a short time.
    """

    name: str
    title: str
    upstream: str
    shown: Sequence[Figure]
    requests: _Requests
    effort: Effort
    connections: int = 1
    gateways_only: bool = False
    among: Sequence[str] = ()
    check: _Requests | None = None
    needs_fresh: bool = False
    most_rounds: int = 1000

    def suits(self, contestant: Contestant) -> bool:
        if self.among and contestant.name not in self.among:
            return False
        return contestant.is_gateway or not self.gateways_only

    def prepare(self, gateway: Gateway, upstream: Upstream) -> None:
        if self.check is not None:
            run_load(gateway.address, self.check(gateway, upstream), 1, 0)
        else:
            run_load(gateway.address, self.requests(gateway, upstream), self.connections, self.effort.warm_up)

    def measure(self, gateway: Gateway, upstream: Upstream) -> dict[str, float]:
        requests = self.requests(gateway, upstream)
        pids = [] if gateway.program is None else gateway.program.pids()
        before = cpu_seconds(pids)
        load = run_load(gateway.address, requests, self.connections, self.effort.seconds)
        after = cpu_seconds(pids)
        return figures.of_load(load, {pid: after[pid] - before[pid] for pid in pids})


def whole(gateway: Gateway, upstream: Upstream) -> Iterable[Request]:
    return cycle([gateway.request(200, upstream.length)])


def checked_whole(gateway: Gateway, upstream: Upstream) -> Iterable[Request]:
    return [gateway.request(200, upstream.length, first_pos=0)]


def but_the_first_byte(gateway: Gateway, upstream: Upstream) -> Iterable[Request]:
    return cycle([gateway.request(206, upstream.length - 1, {"Range": "bytes=1-"})])


def ranges(length: int) -> _Requests:
    """
    Ranges of a length, every other one at a multiple of 64 KiB, each of another document than the one before; the same
    ones for everybody.
    """

    def requests(gateway: Gateway, upstream: Upstream) -> Iterable[Request]:
        chance = random.Random(length)
        places = [chance.randrange(upstream.length - length + 1) for _ in range(_RANGES)]
        places[::2] = [place & ~0xFFFF for place in places[::2]]
        return cycle([gateway.range(place, length, index % _CHECKED == 0, index) for index, place in enumerate(places)])

    return requests


def not_modified(gateway: Gateway, upstream: Upstream) -> Iterable[Request]:
    fields = {"If-None-Match": upstream.etag}
    return cycle([gateway.request(304, 0, fields, document=number) for number in range(upstream.documents)])


def wrong_token(gateway: Gateway, upstream: Upstream) -> Iterable[Request]:
    numbers = range(upstream.documents)
    return cycle([gateway.request(403, None, token="no-sesame", document=number) for number in numbers])


def md5_seconds_per_gb() -> float:
    """CPU seconds that md5 itself needs for 1 GB: what verifying costs, whoever does it."""
    piece = bytes_at(0, 1 << 20)
    digest = hashlib.md5(usedforsecurity=False)
    start = time.process_time()
    for _ in range(64):
        digest.update(piece)
    return (time.process_time() - start) * 1e9 / (64 << 20)


_BULK = (figures.CPU_PER_GB, figures.THROUGHPUT)
_SMALL = (figures.CPU_PER_REQUEST, figures.RATE, figures.COMPLETE_P99)


def load_works(effort: Effort) -> list[LoadWork]:
    """All but the stalled readers."""
    large, small = f"{LARGE_RANGE >> 20} MiB ranges", f"{SMALL_RANGE >> 10} KiB ranges"

    def sized(length: int) -> str:
        return f"{length >> 30} GiB" if length >= 1 << 30 else f"{length >> 20} MiB"

    works = []
    for kind, length in (("fast", effort.whole), ("couchdb", effort.couchdb_whole)):
        prefix = "" if kind == "fast" else "couchdb-"
        behind = "" if kind == "fast" else "CouchDB: "
        whole_title, rest_title = f"{behind}{sized(length)} whole", f"{behind}{sized(length)} but its first byte"
        works += [
            LoadWork(f"{prefix}whole", whole_title, kind, _BULK, whole, effort, check=checked_whole),
            LoadWork(f"{prefix}rest", rest_title, kind, _BULK, but_the_first_byte, effort),
            LoadWork(f"{prefix}1m-1", f"{behind}{large}, 1 connection", kind, _SMALL, ranges(LARGE_RANGE), effort),
            LoadWork(
                f"{prefix}1m-16", f"{behind}{large}, 16 connections", kind, _SMALL, ranges(LARGE_RANGE), effort, 16
            ),
            LoadWork(f"{prefix}64k-1", f"{behind}{small}, 1 connection", kind, _SMALL, ranges(SMALL_RANGE), effort),
            LoadWork(
                f"{prefix}64k-16", f"{behind}{small}, 16 connections", kind, _SMALL, ranges(SMALL_RANGE), effort, 16
            ),
            LoadWork(
                f"{prefix}304",
                f"{behind}304, 16 connections",
                kind,
                _SMALL,
                not_modified,
                effort,
                16,
                gateways_only=True,
            ),
        ]
    capacity = (figures.CAPACITY, figures.RATE)
    workers = (OURS, TWO_WORKERS)
    first_byte = (figures.FIRST_BYTE_P50, figures.FIRST_BYTE_P99)
    return [
        *works,
        LoadWork("403", "403, 16 connections", "fast", _SMALL, wrong_token, effort, 16, gateways_only=True),
        LoadWork(
            "64k-64", f"{small}, 64 connections", "fast", capacity, ranges(SMALL_RANGE), effort, 64, among=workers
        ),
        LoadWork("latency", f"{_ONE_PAGE:,} bytes, 1 connection", "fast", first_byte, ranges(_ONE_PAGE), effort),
    ]


def choose(works: Sequence[Work], wanted: Sequence[str]) -> list[Work]:
    """
    The works whose names begin with one of these; all, if there are none.

    :raise ValueError: there is no such work.
    """
    for each in wanted:
        if not any(work.name.startswith(each) for work in works):
            raise ValueError(f"no work begins with {each!r}: {', '.join(work.name for work in works)}")
    return [work for work in works if not wanted or any(work.name.startswith(each) for each in wanted)]
