"""
Downloads from nodes that fail as Hypothesis likes: whatever the schedule of faults, the client, and the limits.

*A client's bytes are right*: what it has received is the beginning of what it asked for, and all of it if its response
ended cleanly. *What has begun is completed*, if the client stays and reads, unless there was no new byte for as long
as ``--give-up``, or the end of the stored bytes was damaged twice. *What was learned of all this is right*: whichever
digests an answer tells are those of all bytes. *It is over in time*, and *nothing is left*.
"""

import gzip
import hashlib
import random
from collections.abc import Sequence
from email.message import Message
from typing import Final

from attrs import frozen
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy, composite
from twisted.logger import LogEvent, LogLevel

from tests.faults import Cut, Delay, DyingWords, Fault, FaultyProxy, Hangup, Refuse, Schedule, Slow, Stall, Surplus
from tests.faults.bench import put_before
from tests.gateway.house import DEFAULTS, GATEWAY_PORT, NODE_PORT, TOKEN, Answer, Client, House, logged, read_answer
from tests.network import Network
from tests.scripted import DYING_WORDS, Asked, Stored
from tests.strategies import fault_lists
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.runs import near_runs
from txcouchdl.couch.transfer import CLOSE_TIMEOUT, HELD_BACK
from txcouchdl.protocol.digests import SHA_256, parse_digest_field
from txcouchdl.protocol.ranges import ByteRange

NOISE: Final = random.Random(16).randbytes(300_000)
#: Half of it is redundant: its gzip is longer than any buffer on the way.
TEXT: Final = NOISE.hex().encode()
_LENGTHS: Final = [1, HELD_BACK - 1, HELD_BACK, HELD_BACK + 1, 2**16 - 1, 2**16, 2**16 + 1, 2**17, len(NOISE)]
IDENTITY: Final = {
    **{f"identity-{length}": NOISE[:length] for length in _LENGTHS},
    **{f"{coding}-{length}": TEXT[:length] for coding in ("compressed", "encoded") for length in (1, 5000, len(TEXT))},
}


def _stored(name: str, identity: bytes) -> Stored:
    if name.startswith("identity"):
        return Stored(identity)
    return Stored.compressed(identity) if name.startswith("compressed") else Stored.encoded(gzip.compress(identity))


DIGESTS: Final = {
    name: {"sha-256": hashlib.sha256(identity).digest(), "md5": hashlib.md5(identity).digest()}
    for name, identity in IDENTITY.items()
}
STORED: Final = {name: _stored(name, identity) for name, identity in IDENTITY.items()}
#: Those of which something is sent before all is there, and more than once.
LARGE: Final = [name for name, stored in STORED.items() if len(stored.stored) > 2**17]

#: The longest that a probe of a node takes, and the longest pause before a body is asked for again.
PROBE: Final = 5.0
LONGEST_DELAY: Final = 2.0


@frozen
class Ask:
    """
    :ivar ranges: first and last bytes, apart; none for all.
    :ivar field: the Range field that says so.
    """

    name: str
    ranges: tuple[tuple[int, int], ...] = ()
    field: str | None = None
    method: str = "GET"
    version: str = "HTTP/1.1"

    @property
    def stored_length(self) -> int:
        """How many bytes a node is asked for first: without what is read to prove the end of a range."""
        stored = STORED[self.name]
        if not self.ranges or stored.encoding is not None:
            return len(stored.stored)
        together = near_runs([ByteRange(first, last) for first, last in self.ranges], DEFAULTS.worth_bypassing)[0]
        return together[-1].last + 1 - together[0].first

    @property
    def head(self) -> bytes:
        range_ = "" if self.field is None else f"Range: {self.field}\r\n"
        target = f"/db/doc/{self.name}?token={TOKEN}"
        return f"{self.method} {target} {self.version}\r\nHost: test\r\n{range_}\r\n".encode()

    def right_body(self, got: Answer) -> bytes:
        """What belongs behind a head."""
        identity = IDENTITY[self.name]
        if self.method == "HEAD":
            return b""
        if got.status == 200:
            return identity
        slices = [identity[first : last + 1] for first, last in self.ranges]
        if len(slices) == 1:
            return slices[0]
        described = Message()
        described["Content-Type"] = got["Content-Type"]
        boundary = described.get_boundary()
        heads = [
            f"--{boundary}\r\nContent-Type: {STORED[self.name].content_type}\r\n"
            f"Content-Range: bytes {first}-{last}/{len(identity)}\r\n\r\n".encode()
            for first, last in self.ranges
        ]
        parts = (head + body for head, body in zip(heads, slices, strict=True))
        return b"\r\n".join([b"", *parts, f"--{boundary}--\r\n".encode()])


@frozen
class Mood:
    """
    How a client reads.

    :ivar comes: seconds after the first.
    :ivar pauses: after so many bytes, for so many seconds.
    :ivar leaves: after so many bytes.
    """

    comes: float = 0.0
    pauses: tuple[tuple[int, float], ...] = ()
    leaves: int | None = None

    @property
    def seconds(self) -> float:
        """How much longer all takes for it."""
        return self.comes + sum(seconds for _, seconds in self.pauses)

    @property
    def is_steady(self) -> bool:
        """Whether it stays, and reads what comes."""
        return not self.pauses and self.leaves is None


@frozen
class Plot:
    """
    :ivar faults: of one schedule for all nodes, or of one for each.
    :ivar spares_documents: whether only attachments have faults.
    :ivar is_direct: whether bytes may go past the gateway.
    :ivar ignoring: how many of the nodes ignore ranges.
    """

    nodes: int
    faults: Sequence[Sequence[Fault]]
    spares_documents: bool
    downloads: Sequence[tuple[Ask, Mood]]
    is_direct: bool = False
    ignoring: int = 0


_names = st.sampled_from(LARGE) | st.sampled_from(sorted(IDENTITY))


@composite
def asks(draw: DrawFn, name: str | None = None) -> Ask:
    """:param name: of the attachment; by default any."""
    name = name or draw(_names)
    length = len(IDENTITY[name])
    method, version = draw(
        st.sampled_from([("GET", "HTTP/1.1")] * 6 + [("HEAD", "HTTP/1.1"), ("GET", "HTTP/1.0"), ("HEAD", "HTTP/1.0")])
    )
    kind = draw(st.sampled_from(["whole", "one range", "open range", "suffix", "several ranges"]))
    if kind == "whole" or (kind == "several ranges" and length < 10):
        return Ask(name, (), None, method, version)
    if kind == "several ranges":
        ends = sorted(draw(st.lists(st.integers(0, length // 2 - 1), unique=True, min_size=4, max_size=24)))
        # Twice: between two of them there is a byte at least.
        apart = [(2 * first, 2 * last - 1) for first, last in zip(ends[::2], ends[1::2], strict=False)]
        if draw(st.booleans()):
            apart[-1] = (apart[-1][0], length - 1)
        ranges = tuple(draw(st.just(apart) | st.permutations(apart)))
        return Ask(name, ranges, "bytes=" + ",".join(f"{first}-{last}" for first, last in ranges), method, version)
    places = {0, 1, length // 2, length - HELD_BACK - 1, length - HELD_BACK, length - 1}
    edges = sorted(place for place in places if 0 <= place < length)
    first = draw(st.sampled_from(edges) | st.integers(0, length - 1))
    if kind == "one range":
        last = draw(
            st.sampled_from([each for each in edges if each >= first] or [first]) | st.integers(first, length - 1)
        )
        return Ask(name, ((first, last),), f"bytes={first}-{last}", method, version)
    field = f"bytes={first}-" if kind == "open range" else f"bytes=-{length - first}"
    return Ask(name, ((first, length - 1),), field, method, version)


_amounts = st.integers(0, 2**11) | st.integers(0, len(TEXT))
moods = st.builds(
    Mood,
    comes=st.sampled_from([0.0, 0.0, 1.0, 7.5]),
    pauses=st.just(())
    | st.lists(st.tuples(_amounts, st.sampled_from([0.5, 2.0, 4.0, 15.0])), max_size=3).map(
        lambda all_: tuple(sorted(all_))
    ),
    leaves=st.none() | st.none() | _amounts,
)


@composite
def limits(draw: DrawFn) -> UpstreamLimits:
    stall_timeout = draw(st.sampled_from([2.0, 5.0]))
    return UpstreamLimits(
        stall_timeout=stall_timeout,
        hedge_after=draw(st.sampled_from([0.0, 1.0, 3.0])),
        give_up=draw(st.sampled_from([stall_timeout, 3 * stall_timeout, 200.0])),
        park_after=draw(st.sampled_from([1.0, 3.0])),
        max_upstream=draw(st.sampled_from([1, 2, 256])),
        queue_timeout=draw(st.sampled_from([1.0, 10.0])),
        short=draw(st.sampled_from([0, 2**17])),
        worth_bypassing=draw(st.sampled_from([2**12, 2**18])),
        most_skipped=draw(st.sampled_from([2**12, 2**18, 2**27])),
    )


class Reader(Client):
    """A client in a mood. Keeps the time of what it hears."""

    def __init__(self, network: Network, ask: Ask, mood: Mood) -> None:
        super().__init__()
        self._network = network
        self.ask = ask
        self.mood = mood
        self._pauses = list(mood.pauses)
        self._last_heard = 0.0
        # Seconds that it has waited for more: at most, and at last.
        self.longest_silence = 0.0
        self.last_silence = 0.0

    def connectionMade(self) -> None:
        self.transport.write(self.ask.head)

    def dataReceived(self, data: bytes) -> None:
        if self.received:
            self.longest_silence = max(self.longest_silence, self.silence)
        super().dataReceived(data)
        self._last_heard = self._network.seconds()
        if self.mood.leaves is not None and len(self.received) >= self.mood.leaves:
            self.transport.loseConnection()
        elif self._pauses and len(self.received) >= self._pauses[0][0]:
            self.transport.pauseProducing()
            _, seconds = self._pauses.pop(0)
            self._network.callLater(seconds, self.transport.resumeProducing)

    def connectionLost(self, reason: object = None) -> None:
        super().connectionLost(reason)
        self.last_silence = self.silence

    @property
    def silence(self) -> float:
        return self._network.seconds() - self._last_heard

    @property
    def answer(self) -> Answer | None:
        """What it has got; none if not even a head."""
        if b"\r\n\r\n" not in self.received:
            return None
        return read_answer(self.received, self.ask.method, self.is_closed)


@frozen
class Scene:
    """What a test has before it when all is over."""

    house: House
    proxies: Sequence[FaultyProxy]
    readers: Sequence[Reader]
    events: Sequence[LogEvent]

    @property
    def struck(self) -> list[Fault]:
        return [fault for proxy in self.proxies for fault in proxy.schedule.struck]


def play(plot: Plot, limits: UpstreamLimits) -> Scene:
    """Let all clients come, and wait for as long as it may take."""
    spares = _is_no_attachment if plot.spares_documents else lambda _: False
    schedules = [Schedule.of(*faults, spares=spares) for faults in plot.faults]
    house = House(dict(STORED), nodes=plot.nodes, limits=limits, is_direct=plot.is_direct)
    for node in house.nodes[: plot.ignoring]:
        node.ignores_ranges = True
    proxies = put_before(house, schedules if len(schedules) == plot.nodes else schedules * plot.nodes)
    readers = [Reader(house.network, ask, mood) for ask, mood in plot.downloads]
    with logged() as events:
        for reader in readers:
            house.network.callLater(reader.mood.comes, house.network.connect, GATEWAY_PORT, reader)
        house.network.elapse(_allowed(plot, limits))
        scene = Scene(house, proxies, readers, events)
        for reader in readers:
            assert_over(scene, reader)
        assert_nothing_left(scene)
    return scene


def _allowed(plot: Plot, limits: UpstreamLimits) -> float:
    """Seconds after which all is over: every fault is met once, and clients wait for each other, but no longer."""
    each = max(limits.stall_timeout, PROBE) + CLOSE_TIMEOUT + LONGEST_DELAY
    faults = sum(each + _seconds(fault) for faults in plot.faults for fault in faults)
    return sum(mood.seconds for _, mood in plot.downloads) + faults + 1.0


def _seconds(fault: Fault) -> float:
    """The most by which a fault delays an answer that comes nevertheless."""
    match fault:
        case Delay(seconds=seconds) | Surplus(later=seconds):
            return seconds
        case Slow(rate=rate):
            return len(TEXT) / rate
        case _:
            return 0.0


def assert_over(scene: Scene, reader: Reader) -> None:
    """A response that has ended, or is broken."""
    assert reader.transport.is_connected != reader.is_closed
    got = reader.answer
    if reader.mood.leaves is None:
        assert got is not None, "no answer"
        assert got.is_whole or got.is_closed, "still under way"


def assert_nothing_left(scene: Scene) -> None:
    network = scene.house.network
    scene.house.assert_at_rest()
    connections = sum(network.open_connections(NODE_PORT + number) for number in range(len(scene.proxies)))
    assert connections <= scene.house.idle_connections
    for reader in scene.readers:
        reader.transport.loseConnection()
    # Kept connections end, and nodes that are down are found to be up again.
    network.elapse(1000.0)
    assert not network.calls
    assert network.connections
    assert not any(end.is_connected for pair in network.connections for end in pair)
    for proxy in scene.proxies:
        proxy.assert_at_rest()
    assert not [each for each in scene.events if each["log_level"] in (LogLevel.error, LogLevel.critical)]


def assert_right(reader: Reader, *, also_ranges: bool = True) -> None:
    """
    The beginning of what was asked for, and all of it if it ended cleanly.

    :param also_ranges: otherwise only of whole representations, and only if they ended cleanly.
    """
    got = reader.answer
    if got is None or got.status not in (200, 206):
        return
    right = reader.ask.right_body(got)
    if also_ranges:
        assert right.startswith(got.body), "a wrong byte"
    if got.is_whole and (also_ranges or got.status == 200):
        assert got.body == right


def assert_digests_right(name: str, got: Answer | None) -> None:
    """What is told of all bytes, whichever of them have come."""
    told = parse_digest_field(got.headers.get("repr-digest")) if got is not None else {}
    assert told.items() <= DIGESTS[name].items(), "a wrong digest"
    assert "md5" not in told or name.startswith("identity")


def assert_learned(scene: Scene) -> None:
    """What is told from now on; and that something was learned, where all bytes have passed."""
    passed = {reader.ask.name for reader in scene.readers if _has_all_passed(reader)}
    for reader in scene.readers:
        assert_digests_right(reader.ask.name, reader.answer)
    for name in {reader.ask.name for reader in scene.readers}:
        got = _head(scene, name)
        assert_digests_right(name, got)
        if not name.startswith("identity"):
            assert (SHA_256 in parse_digest_field(got.headers.get("repr-digest"))) >= (name in passed)


def _has_all_passed(reader: Reader) -> bool:
    got = reader.answer
    if got is None or reader.ask.method != "GET" or got.status not in (200, 206) or not got.is_whole:
        return False
    return got.status == 200 or max(reader.ask.ranges)[1] == len(IDENTITY[reader.ask.name]) - 1


def _head(scene: Scene, name: str) -> Answer:
    """As soon as there are no more faults."""
    for _ in range(200):
        client = scene.house.send(f"/db/doc/{name}?token={TOKEN}", method="HEAD")
        scene.house.network.elapse(50)
        got = read_answer(client.received, "HEAD", client.is_closed)
        if got.status == 200:
            return got
    raise AssertionError("there are more faults than anybody has thought of")


def assert_healed(scene: Scene, reader: Reader, limits: UpstreamLimits) -> None:
    """
    What has begun is completed for a client that reads, unless there was nothing new for too long.

    What is not seen here: ends that were damaged twice.
    """
    got = reader.answer
    if not reader.mood.is_steady or got is None or got.status not in (200, 206):
        return
    longest_silence = reader.longest_silence
    if not got.is_whole:
        silence = reader.last_silence
        assert silence > limits.give_up - LONGEST_DELAY, f"given up after {silence} s"
        longest_silence = max(longest_silence, silence)
    # Inflated bytes may be new ones only after a while.
    if reader.ask.name.startswith("identity"):
        slowness = max(map(_seconds, scene.struck), default=0.0)
        assert longest_silence <= limits.give_up + max(limits.stall_timeout, CLOSE_TIMEOUT) + slowness


def assert_begun(scene: Scene, reader: Reader, limits: UpstreamLimits) -> None:
    """One fault, that did not take its time, is not seen by anybody."""
    got = reader.answer
    if reader.mood.leaves is not None or got is None:
        return
    assert got.status in (200, 206, 502, 503, 504)
    passes_at_once = not any(isinstance(fault, Stall) or _seconds(fault) for fault in scene.struck)
    if len(scene.struck) <= 1 and passes_at_once and limits.max_upstream > len(scene.readers):
        assert got.status in (200, 206)


def _is_no_attachment(asked: Asked) -> bool:
    return asked.path in ("/db/doc", "/_up", "/_membership")


def _damages_ends(fault: Fault) -> bool:
    """Whether it may be an error message that fills a body up to its length: only a digest tells."""
    return isinstance(fault, DyingWords)


def _late_faults(length: int) -> SearchStrategy[Fault]:
    """Behind the first bytes that a client gets, or where an error message reaches the end of a body."""
    places = st.integers(min(length, HELD_BACK + 1), length) | st.integers(max(0, length - len(DYING_WORDS)), length)
    return st.one_of(
        st.builds(DyingWords, places), st.builds(Cut, places, st.sampled_from(Hangup)), st.builds(Stall, places)
    )


@composite
def plots(draw: DrawFn, *, detectable: bool) -> Plot:
    """One to three clients, the first of no mood. They may all want something of the same attachment."""
    name = draw(st.none() | _names)
    downloads = [(draw(asks(name)), Mood()), *draw(st.lists(st.tuples(asks(name), moods), max_size=2))]
    length = downloads[0][0].stored_length
    faults = st.tuples(
        # Most faults of any kind do not let a download begin at all.
        st.lists(_late_faults(length), max_size=3),
        fault_lists(length, min_faults=1, max_faults=6, detectable=detectable, timed=True),
    ).map(lambda drawn: [*drawn[0], *drawn[1]])
    nodes = draw(st.sampled_from([1, 2]))
    return Plot(
        nodes=nodes,
        faults=draw(st.lists(faults, min_size=1, max_size=nodes)),
        # What is wrong in a document nobody can tell.
        spares_documents=not detectable or draw(st.sampled_from([True, True, False])),
        downloads=downloads,
        is_direct=draw(st.booleans()),
        ignoring=draw(st.sampled_from([0, 0, 1, nodes])),
    )


def plot_of(*faults: Fault, ask: Ask = Ask("identity-300000")) -> Plot:
    """One client that reads, before one node."""
    return Plot(nodes=1, faults=[faults], spares_documents=True, downloads=[(ask, Mood())])


@given(plot=plots(detectable=True), limits=limits())
@example(plot_of(Cut(100_000), *[Stall(0)] * 8), UpstreamLimits(stall_timeout=5, give_up=5))
@example(plot_of(*[Cut(100_000), Stall(3000)] * 9), UpstreamLimits(stall_timeout=5, give_up=6))
@example(
    plot_of(DyingWords(99_900), ask=Ask("identity-300000", ((200_000, 299_999),), "bytes=200000-")), UpstreamLimits()
)
@example(plot_of(Cut(100_000), DyingWords(199_900), Refuse()), UpstreamLimits())
def test_whatever_happens(plot: Plot, limits: UpstreamLimits) -> None:
    scene = play(plot, limits)
    for reader in scene.readers:
        assert_right(reader)
        assert_begun(scene, reader, limits)
        if sum(map(_damages_ends, scene.struck)) <= 1:
            assert_healed(scene, reader, limits)
    assert_learned(scene)


@given(plot=plots(detectable=False), limits=limits())
def test_whatever_lies(plot: Plot, limits: UpstreamLimits) -> None:
    """With bytes that are wrong, and framed as if they were right: only a digest tells, and only of all bytes."""
    scene = play(plot, limits)
    for reader in scene.readers:
        assert_right(reader, also_ranges=False)
    assert_learned(scene)
