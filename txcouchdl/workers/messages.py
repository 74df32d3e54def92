"""
What goes through the pipes between the crew and a worker.

To the worker: its task, once, then orders. Only there may something be unpickled: the worker believes its crew, and the
crew, which does not talk to strangers, believes no worker that does. From the worker: reports, each a line of JSON, an
object with one name in it that tells its kind. Who does not know a kind ignores it.
"""

import json
import pickle
from collections.abc import Callable, Iterator
from typing import Any, Final

from attrs import field, frozen

from txcouchdl.settings import Settings
from txcouchdl.workers.certificates import Certificates

#: Descriptors of a worker. What it writes to the second and the third one is for nobody but a log.
ORDERS: Final = 0
STRAY: Final = (1, 2)
REPORTS: Final = 3
GUESSES: Final = 4
LOADS: Final = 5
METRICS: Final = 6
#: That of the first endpoint; the others follow.
ENDPOINTS: Final = 7

#: An order: listen no longer, and end when what is under way has. The end of the pipe says the same.
STOP: Final = b"s"
#: An order: break off what is under way, and end.
HURRY: Final = b"h"
# An order that says more, which stands behind this, packed.
_PACKED: Final = b"p"

#: Bytes of a report.
LONGEST: Final = 2**20
_LENGTH: Final = 8


@frozen
class Endpoint:
    """
    A socket that listens.

    :ivar family: of its addresses.
    :ivar certificates: ``None`` if it does not speak TLS.
    """

    family: int
    certificates: Certificates | None


@frozen
class Refusals:
    """
    News of CouchDB.

    :ivar names: of the nodes that refuse the gateway's user.
    """

    names: frozenset[str]


@frozen
class Task:
    """
    What a worker has to know.

    :ivar number: by which the crew calls it, from 1 on.
    :ivar settings: its own.
    :ivar endpoints: in the order of their descriptors, from :data:`ENDPOINTS` on.
    :ivar refusals: what is known of CouchDB.
    """

    number: int
    settings: Settings
    endpoints: tuple[Endpoint, ...]
    refusals: Refusals = Refusals(frozenset())


@frozen
class Reload:
    """
    An order to reopen logs, and to use from now on what the supervisor has read again.

    :ivar certificates: of each endpoint, in their order; ``None`` for one that does not speak TLS.
    :ivar link_secret: see :class:`~txcouchdl.settings.Settings`.
    """

    certificates: tuple[Certificates | None, ...]
    link_secret: bytes | None = field(repr=False)


def packed(task: Task) -> bytes:
    return _packed(task)


def packed_order(order: Reload | Refusals) -> bytes:
    return _PACKED + _packed(order)


def _packed(value: object) -> bytes:
    data = pickle.dumps(value)
    return len(data).to_bytes(_LENGTH, "big") + data


def read_task(read: Callable[[int], bytes]) -> Task:
    """
    :param read: reads so many bytes at most; none at the end.
    :raises EOFError: if the end comes first.
    """
    length = int.from_bytes(_exactly(read, _LENGTH), "big")
    task: Task = pickle.loads(_exactly(read, length))  # noqa: S301 (from the process that started this one)
    return task


def _exactly(read: Callable[[int], bytes], length: int) -> bytes:
    data = b""
    while len(data) < length:
        if not (more := read(length - len(data))):
            raise EOFError("the crew is gone")
        data += more
    return data


class Orders:
    """Assembles the orders of a stream from the pieces in which they arrive."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> Iterator[bytes | Reload | Refusals]:
        """:return: each complete order: :data:`STOP`, :data:`HURRY`, or one that says more."""
        self._data += data
        while (end := self._end()) is not None:
            order, self._data = self._data[:end], self._data[end:]
            yield pickle.loads(order[1 + _LENGTH :]) if order[:1] == _PACKED else order  # noqa: S301 (as above)

    def _end(self) -> int | None:
        """How many bytes the next order has, once all of them are there."""
        if self._data[:1] != _PACKED:
            return 1 if self._data else None
        begin = 1 + _LENGTH
        end = begin + int.from_bytes(self._data[1:begin], "big")
        return end if len(self._data) >= max(begin, end) else None


def report(kind: str, value: Any) -> bytes:
    """:param value: that JSON has."""
    return json.dumps({kind: value}).encode("ascii") + b"\n"


class Reports:
    """Those of a stream, put together from the pieces in which they come."""

    def __init__(self) -> None:
        self._begun = b""

    def feed(self, data: bytes) -> Iterator[tuple[str, Any]]:
        """
        :return: the kind and the value of each report that is complete.
        :raises ValueError: if it is none.
        """
        *lines, self._begun = (self._begun + data).split(b"\n")
        if len(self._begun) > LONGEST:
            raise ValueError("a report without an end")
        for line in lines:
            found = json.loads(line)
            if not isinstance(found, dict) or len(found) != 1:
                raise ValueError("no report")
            yield from found.items()
