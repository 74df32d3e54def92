"""
A node that dies at each of the last bytes of a body and writes an error text of each length, on every path but the
direct one (``tests/gateway/test_direct.py``): the reader hands out the right bytes or fails.
"""

import gzip
import hashlib
import random
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.scripted import DYING_WORDS, error_text
from txcouchdl.couch.documents import AttachmentStub, Digest, Storage
from txcouchdl.couch.errors import UpstreamFailure
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.opened_body import Body as OpenedBody
from txcouchdl.couch.patience import Patience
from txcouchdl.couch.reader import AttachmentReader
from txcouchdl.couch.reading import Request, plan_reading
from txcouchdl.couch.short_bodies import gather
from txcouchdl.couch.tail_proof import TailProof, may_hold_error_text
from txcouchdl.couch.tally import UNCOUNTED
from txcouchdl.couch.wire.answers import Body
from txcouchdl.couch.wire.connection import Connection
from txcouchdl.couch.wire.heads import AnswerHead, Framing
from txcouchdl.protocol.ranges import ByteRange

NOISE = random.Random(14).randbytes(12_000)
TEXT = random.Random(15).randbytes(9_000).hex().encode()
_LAST = len(NOISE) - 1
#: Bytes of the longest error text that the reader promises to catch.
LONGEST = 4096


class Wire:
    """A connection that a body is read from; the transport of it, too."""

    plain = None

    def __init__(self) -> None:
        self.is_open = True
        self.transport = self

    def answered(self, *, is_clean: bool, is_paused: bool) -> None:
        self.is_open = False

    def abort(self) -> None:
        self.is_open = False

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...


@frozen
class Death:
    """
    A node's death in the middle of a body.

    :ivar offset: right bytes before the error text.
    :ivar length: bytes of the text.
    """

    offset: int
    length: int

    def of(self, right: bytes) -> bytes:
        return right[: self.offset] + error_text(self.length)


class Opened:
    """What :class:`~txcouchdl.couch.route.Body` is to a reader, over the wire's own body."""

    node = "n0"
    tally = UNCOUNTED
    hedge = lambda *_: None  # noqa: E731
    are_ranges_ignored = False

    def __init__(self, request: Request, sent: bytes) -> None:
        self.request = request
        self._wire = Wire()
        is_closing = request.is_closing or request.is_counted
        head = AnswerHead(206, {}, Framing.LENGTH, request.count, is_closing)
        self._body = Body(cast(Connection, self._wire), head, is_closing)
        self._sent = sent

    def deliver(self, protocol: Any) -> None:
        self._body.deliver(protocol)
        half = len(self._sent) // 2
        for piece in (self._sent[:half], self._sent[half:]):
            if self._wire.is_open and piece:
                self._body.received(piece)
        if self._wire.is_open:
            self._body.lost(Failure(ConnectionDone()))

    def rest(self, give_up: Callable[[], object]) -> None: ...

    def wake(self) -> None: ...

    def vacate(self) -> None: ...

    def lost(self, _: UpstreamFailure) -> None: ...


@frozen
class Path:
    """
    A way in which stored bytes become wanted ones.

    :ivar ranges: of identity bytes; ``None`` for all.
    :ivar is_ignored: whether nodes send all bytes instead of a range.
    """

    stored: bytes
    identity: bytes
    stub: AttachmentStub
    ranges: tuple[ByteRange, ...] | None
    is_ignored: bool = False

    @property
    def right(self) -> bytes:
        ranges = (ByteRange(0, len(self.identity) - 1),) if self.ranges is None else self.ranges
        return b"".join(self.identity[each.first : each.last + 1] for each in ranges)

    def request(self) -> Request:
        return self.answered(plan_reading(self.stub, self.ranges).request(0))

    def answered(self, request: Request) -> Request:
        """The request that a node answers."""
        return request.whole if self.is_ignored else request

    @property
    def needed(self) -> int:
        """How many bytes of the body are read: those that prove the wanted ones included."""
        count = self.request().count
        return min(count, self.ranges[-1].last + 1 + LONGEST) if self.is_ignored and self.ranges is not None else count

    def sent(self, request: Request) -> bytes:
        wanted = request.byte_range
        return self.stored if wanted is None else self.stored[wanted.first : wanted.last + 1]

    def read(self, *deaths: Death) -> tuple[bytes, bool]:
        """
        Read it from nodes that die so, one after the other, and then from one that does not.

        :return: all that was handed out, and whether that ended well.
        """
        clock, left, got, ends = Clock(), iter(deaths), bytearray(), list[bool]()

        async def open_body(request: Request, _: Patience) -> OpenedBody:
            request = self.answered(request)
            right = self.sent(request)
            death = next(left, None)
            return cast(OpenedBody, Opened(request, right if death is None else death.of(right)))

        reader = AttachmentReader("f", plan_reading(self.stub, self.ranges), open_body, UpstreamLimits(), clock)

        async def read() -> None:
            await reader.open(is_committed=False)
            await reader.deliver(got.extend)

        Deferred.fromCoroutine(read()).addCallbacks(lambda _: ends.append(True), lambda _: ends.append(False))
        for _ in range(20):
            if ends:
                break
            clock.advance(1)
        assert ends, "it never ends"
        # What the budget of steps has still to do is for the next turn.
        clock.advance(0)
        assert not clock.getDelayedCalls()
        return bytes(got), ends[0]


def _path(stored: bytes, identity: bytes, storage: Storage, *ranges: tuple[int, int]) -> Path:
    stub = AttachmentStub("f", None, Digest(hashlib.md5(stored).digest()), storage, len(stored), len(identity))
    return Path(stored, identity, stub, tuple(ByteRange(*each) for each in ranges) or None)


def _identity(*ranges: tuple[int, int]) -> Path:
    return _path(NOISE, NOISE, Storage.IDENTITY, *ranges)


def _ignored(*ranges: tuple[int, int]) -> Path:
    return evolve(_identity(*ranges), is_ignored=True)


def _gzip(*ranges: tuple[int, int]) -> Path:
    return _path(gzip.compress(TEXT), TEXT, Storage.COMPRESSED, *ranges)


PATHS = {
    "whole": _identity(),
    "range to the end": _identity((1000, _LAST)),
    "suffix of 5,000": _identity((_LAST - 4999, _LAST)),
    "suffix of 600": _identity((_LAST - 599, _LAST)),
    "suffix of 20": _identity((_LAST - 19, _LAST)),
    "last byte": _identity((_LAST, _LAST)),
    "nearly to the end": _identity((1000, _LAST - 1)),
    "just without a margin": _identity((1000, _LAST - LONGEST + 1)),
    "just with a margin": _identity((1000, _LAST - LONGEST)),
    "inner range": _identity((1000, 3000)),
    "several ranges": _identity((1000, 1099), (1200, 1200), (2500, 3000)),
    "several ranges to the end": _identity((1000, 1099), (_LAST - 5000, _LAST - 4500), (_LAST - 300, _LAST)),
    "several ranges nearly to the end": _identity((1000, 1099), (_LAST - 600, _LAST - 500), (_LAST - 300, _LAST - 2)),
    "the first byte and the last": _identity((0, 0), (_LAST, _LAST)),
    "range to the end, ignored": _ignored((1000, _LAST)),
    "suffix of 600, ignored": _ignored((_LAST - 599, _LAST)),
    "last byte, ignored": _ignored((_LAST, _LAST)),
    "just without a margin, ignored": _ignored((1000, _LAST - LONGEST + 1)),
    "just with a margin, ignored": _ignored((1000, _LAST - LONGEST)),
    "inner range, ignored": _ignored((1000, 3000)),
    "first byte, ignored": _ignored((0, 0)),
    "several ranges, ignored": _ignored((1000, 1099), (1200, 1200), (2500, 3000)),
    "several ranges to the end, ignored": _ignored((1000, 1099), (_LAST - 5000, _LAST - 4500), (_LAST - 300, _LAST)),
    "gzip whole": _gzip(),
    "gzip to the end": _gzip((1000, len(TEXT) - 1)),
    "gzip inner range": _gzip((1000, 15_000)),
    "gzip, the first byte and the last": _gzip((0, 0), (len(TEXT) - 1, len(TEXT) - 1)),
}


def _deaths(count: int) -> Iterator[Death]:
    """Each length where it fills the body exactly, and one byte off; each offset with some lengths."""
    for length in range(1, min(LONGEST, count) + 1):
        yield Death(count - length, length)
        if not length % 16:
            yield Death(count - length + 1, length)
            yield Death(max(0, count - length - 1), length)
    for offset in range(max(0, count - LONGEST), count):
        yield Death(offset, len(DYING_WORDS))
        if not offset % 16:
            yield from (Death(offset, length) for length in (0, 1, 450, 2048, LONGEST))


@pytest.mark.parametrize("name", PATHS)
def test_a_node_that_dies_at_any_of_the_last_bytes(name: str) -> None:
    """The next node has them all."""
    path = PATHS[name]
    wrong = [death for death in _deaths(path.needed) if path.read(death) != (path.right, True)]
    assert not wrong


@given(
    name=st.sampled_from(sorted(PATHS)),
    deaths=st.lists(st.tuples(st.integers(0, LONGEST), st.integers(len(DYING_WORDS), LONGEST)), max_size=3),
)
def test_nodes_that_die_one_after_the_other(name: str, deaths: list[tuple[int, int]]) -> None:
    """Right bytes to the end, or fewer and no end."""
    path = PATHS[name]
    count = path.needed
    got, is_whole = path.read(*(Death(max(0, count - missing), length) for missing, length in deaths))
    assert path.right.startswith(got)
    assert is_whole <= (got == path.right)


def test_a_short_body_that_is_collected() -> None:
    """An inner range that comes in one piece: an error text lies in its margin."""
    path = PATHS["inner range"]
    request = path.request()
    results: list[bytes] = []
    for length in range(1, LONGEST + 1):
        death = Death(request.count - length, length)
        body = Opened(request, death.of(path.sent(request)))
        gather(body.deliver, request.count, wanted=request.wanted).addCallback(results.append)
    assert len(results) == LONGEST
    assert set(results) == {path.right}


# The tail alone


def test_every_error_text_is_seen() -> None:
    texts = [error_text(length) for length in range(1, LONGEST + 1)]
    assert all(may_hold_error_text(text) and may_hold_error_text(b"content" + text) for text in texts)


@given(st.binary(max_size=LONGEST))
def test_content_without_a_status_line_is_accepted_at_once(tail: bytes) -> None:
    looks_like_one = b"HTTP/1." in tail or any(tail.endswith(b"HTTP/1."[:length]) for length in range(1, 7))
    assert TailProof().accepts(tail) is not looks_like_one


def test_a_tail_in_doubt_is_accepted_when_it_comes_again() -> None:
    proof, content = TailProof(), b"GET / HTTP/1.1\r\n\r\n"
    assert not proof.accepts(content)
    assert not proof.accepts(error_text(len(content) + 400))
    assert not proof.accepts(error_text(len(content) + 400))
    assert proof.accepts(content)
