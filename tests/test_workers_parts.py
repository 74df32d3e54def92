"""The parts of a crew and its workers, each alone: what needs no second process to be shown."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from io import BytesIO
from subprocess import PIPE
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.tcp import Port
from twisted.logger import Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure

from tests.gateway.house import logged
from tests.running import PATIENCE
from txcouchdl.couch.names import DocumentAddress
from txcouchdl.gateway.errors import TooManyGuesses
from txcouchdl.metrics.counts import Counts
from txcouchdl.metrics.layout import Layout
from txcouchdl.metrics.table import Table
from txcouchdl.options import Options
from txcouchdl.serving import rate_limiter
from txcouchdl.settings import Settings, StartError
from txcouchdl.workers import loads, shared_minutes
from txcouchdl.workers.certificates import Certificates, Certified
from txcouchdl.workers.crew import Crew
from txcouchdl.workers.loads import Load
from txcouchdl.workers.log_pipe import PipedLog, relog
from txcouchdl.workers.member import Member, environment, how_it_ended
from txcouchdl.workers.messages import (
    HURRY,
    LONGEST,
    ORDERS,
    REPORTS,
    STOP,
    STRAY,
    Endpoint,
    Orders,
    Refusals,
    Reload,
    Reports,
    Task,
    packed,
    packed_order,
    read_task,
    report,
)
from txcouchdl.workers.ports import adopt
from txcouchdl.workers.restarts import Restarts
from txcouchdl.workers.shares import share, worker_count

PASSWORD = "pa55word-of-couch"


def settings(*arguments: str) -> Settings:
    options = Options()
    options.parseOptions(list(arguments))
    return options.settings


# Shares.


@pytest.mark.parametrize(
    ("count", "connections", "per_address", "exchanges", "inflations"),
    [(1, 4096, 256, 256, (16, 4)), (2, 2048, 128, 128, (8, 2)), (3, 1366, 86, 86, (6, 2)), (256, 16, 8, 1, (1, 1))],
)
def test_limits_are_divided(
    count: int, connections: int, per_address: int, exchanges: int, inflations: tuple[int, int]
) -> None:
    shared = share(settings(), count)
    assert (shared.clients.max_connections, shared.upstream.max_upstream) == (connections, exchanges)
    assert shared.clients.connections_per_address == per_address
    assert (shared.upstream.max_inflations, shared.upstream.max_inflations_per_address) == inflations


@given(st.integers(1, 256), st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 65535))
def test_shares_are_all_and_no_more_than_rounding(
    count: int, connections: int, per_address: int, exchanges: int
) -> None:
    numbers = (f"--max-connections={connections}", f"--max-connections-per-address={per_address}")
    shared = share(settings(*numbers, f"--max-upstream={exchanges}"), count)
    for one, all_ in (
        (shared.clients.max_connections, connections),
        (shared.clients.connections_per_address, per_address),
        (shared.upstream.max_upstream, exchanges),
    ):
        assert one >= 1
        assert all_ <= one * count < all_ + count


@given(st.integers(1, 256), st.integers(65536, 2**30), st.integers(0, 2**30))
def test_each_worker_has_memory_for_one_document(count: int, largest: int, more: int) -> None:
    whole = settings("--max-document", str(largest), "--document-memory", str(largest + more))
    shared = share(whole, count).upstream
    assert shared.max_document == largest
    assert shared.document_memory == max(largest, -(-(largest + more) // count))


def test_nothing_else_is_divided() -> None:
    numbers = ("--max-connections", "--max-upstream", "--max-inflations", "--max-inflations-per-address")
    whole = settings("--workers=2", *(f"{name}=2" for name in numbers))
    parts = settings(*(f"{name}=1" for name in numbers), f"--document-memory={32 * 2**20}")
    assert share(whole, 2) == parts


def test_one_worker_for_each_core() -> None:
    assert worker_count(0) == len(os.sched_getaffinity(0))
    assert worker_count(3) == 3


# Restarts.


def test_the_first_is_at_once_and_then_ever_later() -> None:
    restarts = Restarts()
    assert [restarts.wait(0) for _ in range(9)] == [0, 1, 2, 4, 8, 16, 32, 32, 32]
    assert restarts.wait(59.9) == 32


def test_who_worked_well_had_bad_luck() -> None:
    restarts = Restarts()
    assert [restarts.wait(worked) for worked in (0, 0, 0, 60, 0, 1000)] == [0, 1, 2, 0, 1, 0]


def test_ends_without_end() -> None:
    restarts = Restarts()
    assert {restarts.wait(0) for _ in range(3000)} == {0, 1, 2, 4, 8, 16, 32}


# Messages.


def test_a_task_comes_as_it_was_sent() -> None:
    """Whatever the settings are made of."""
    chosen = settings(
        *("-c", f"http://adm:{PASSWORD}@couch", "--trusted-proxy=10.0.0.0/8", "--behind-proxy"),
        *("--cors-origin=https://a.example", "--inline=text/html", "-k", "a.b", "--drain=0.5"),
    )
    certificates = Certificates((("name", Certified(b"key", b"certificate", (b"chain",))),))
    task = Task(2, chosen, (Endpoint(socket.AF_INET, None), Endpoint(socket.AF_INET6, certificates)))
    sent = packed(task) + STOP
    # In pieces, as a pipe has them.
    stream = BytesIO(sent)
    assert read_task(lambda length: stream.read(min(length, 7))) == task
    assert stream.read() == STOP
    for secret in (PASSWORD, "b'key'"):
        assert secret not in repr(task)


_ORDERS = st.lists(
    st.sampled_from([STOP, HURRY])
    | st.builds(Reload, st.tuples(st.none()), st.none() | st.binary(max_size=40))
    | st.builds(Refusals, st.frozensets(st.text(max_size=5)))
)


@given(_ORDERS, st.integers(1, 50))
def test_orders_come_in_any_pieces(given_orders: list[bytes | Reload | Refusals], size: int) -> None:
    sent = b"".join(each if isinstance(each, bytes) else packed_order(each) for each in given_orders)
    orders, arrived = Orders(), []
    for begin in range(0, len(sent), size):
        arrived += list(orders.feed(sent[begin : begin + size]))
    assert arrived == given_orders


def test_an_order_shows_no_secret() -> None:
    assert PASSWORD not in repr(Reload((), PASSWORD.encode()))


def test_a_crew_that_dies_in_the_middle_of_a_task() -> None:
    with pytest.raises(EOFError):
        read_task(BytesIO(packed(Task(1, settings(), ()))[:-1]).read)


@given(st.lists(st.tuples(st.text(), st.text() | st.lists(st.none() | st.integers()))), st.integers(1, 50))
def test_reports_come_in_any_pieces(told: list[tuple[str, Any]], size: int) -> None:
    stream = b"".join(report(*each) for each in told)
    reports = Reports()
    found = [each for at in range(0, len(stream), size) for each in reports.feed(stream[at : at + size])]
    assert found == told


@pytest.mark.parametrize("nonsense", [b"x\n", b"[1]\n", b"{}\n", b'{"a": 1, "b": 2}\n', b"\n", b"x" * (LONGEST + 1)])
def test_what_is_no_report(nonsense: bytes) -> None:
    with pytest.raises(ValueError, match=r"report|Expecting"):
        list(Reports().feed(nonsense))


# The log.


class Pipe:
    """Keeps what is written to it."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.log = PipedLog(self.written.append)
        self.logger = Logger("txcouchdl.access", observer=LogPublisher(self.log))

    def texts(self) -> list[str]:
        told = [json.loads(line)["log"] for line in self.written]
        return [each["text"] for each in told]


def test_an_event_arrives_as_it_was() -> None:
    pipe = Pipe()
    pipe.logger.warn("{one} and {two}", one=1, two="{zwei}")
    with logged() as events:
        for kind, value in Reports().feed(pipe.written[0]):
            assert kind == "log"
            relog(value, 3)
    [event] = events
    assert (event["log_namespace"], event["log_level"], event["worker"]) == ("txcouchdl.access", LogLevel.warn, 3)
    assert event["log_format"].format(**event) == "1 and {zwei}"


def test_a_traceback_arrives() -> None:
    pipe = Pipe()
    try:
        raise LookupError("what was looked for")
    except LookupError:
        pipe.logger.failure("it failed")
    [text] = pipe.texts()
    assert text.startswith("it failed\nTraceback")
    assert "what was looked for" in text


def test_who_comes_behind_a_full_pipe_waits() -> None:
    pipe = Pipe()
    pipe.logger.info("0")
    pipe.log.pauseProducing()
    for number in (1, 2):
        pipe.logger.info("{number}", number=number)
    assert pipe.texts() == ["0"]
    pipe.log.resumeProducing()
    pipe.logger.info("3")
    assert pipe.texts() == ["0", "1", "2", "3"]


def test_a_pipe_that_stays_full_costs_bounded_memory() -> None:
    pipe = Pipe()
    pipe.log.pauseProducing()
    for _ in range(200):
        pipe.logger.info("{line}", line="x" * 2**20)
    assert sum(map(len, pipe.log._waiting)) <= 2**20
    pipe.log.resumeProducing()
    *kept, lost = pipe.texts()
    assert 10 <= len(kept) < 20
    assert lost == f"{200 - len(kept)} lines are lost: the log is too slow"
    assert max(map(len, pipe.written)) < LONGEST


# A member of the crew.


class Spawner(Clock):
    """A reactor that starts nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.hands: list[Any] = []
        self.written: list[bytes] = []
        self.killed = 0
        self.pid = 77
        self.environments: list[dict[str, str]] = []

    def spawnProcess(self, hand: Any, _path: str, _command: list[str], env: dict[str, str], childFDs: Any) -> "Spawner":  # noqa: N803
        self.hands.append(hand)
        self.environments.append(env)
        return self

    def writeToChild(self, descriptor: int, data: bytes) -> None:
        assert descriptor == ORDERS
        self.written.append(data)

    def signalProcess(self, name: str) -> None:
        assert name == "KILL"
        self.killed += 1

    def end(self, status: int = 9) -> None:
        """The latest worker dies."""
        reason = ProcessTerminated(None, signal.Signals(status), status) if status else ProcessDone(0)
        self.hands[-1].processEnded(Failure(reason))


@pytest.fixture
def table() -> Iterator[int]:
    descriptor = loads.new_table()
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def crew(table: int) -> tuple[Member, Spawner]:
    reactor = Spawner()
    member = Member(Task(1, settings(), ()), {}, Load(table, 1), Counts(Table.own(Layout([]))), reactor)
    member.start()
    return member, reactor


def test_a_worker_that_dies_again_and_again_is_started_ever_more_seldom(crew: tuple[Member, Spawner]) -> None:
    _, reactor = crew
    waits = []
    for _ in range(8):
        reactor.end()
        [call] = reactor.getDelayedCalls()
        waits.append(call.getTime() - reactor.seconds())
        reactor.advance(waits[-1])
    assert waits == [0, 1, 2, 4, 8, 16, 32, 32]
    assert len(reactor.hands) == 9
    reactor.hands[-1].childDataReceived(REPORTS, report("ready", True))
    reactor.advance(60)
    reactor.end()
    reactor.advance(0)
    assert len(reactor.hands) == 10


def test_a_worker_that_cannot_be_started(crew: tuple[Member, Spawner], monkeypatch: pytest.MonkeyPatch) -> None:
    member, reactor = crew

    def fail(*_: object, **__: object) -> None:
        raise OSError("no process more")

    monkeypatch.setattr(reactor, "spawnProcess", fail)
    with logged() as events:
        reactor.end()
        reactor.advance(0)
        reactor.advance(1)
    lines = [event["log_format"].format(**event) for event in events]
    assert lines == [
        "worker 1 was killed by signal 9; the next one starts at once",
        "worker 1 cannot be started: no process more; the next one starts in 1 s",
        "worker 1 cannot be started: no process more; the next one starts in 2 s",
    ]
    member.stop()
    assert not reactor.getDelayedCalls()


def test_orders(crew: tuple[Member, Spawner]) -> None:
    member, reactor = crew
    member.stop()
    member.hurry()
    assert reactor.written[1:] == [STOP, HURRY]
    member.kill()
    reactor.end()
    member.kill()
    assert (reactor.killed, reactor.getDelayedCalls()) == (1, [])


def test_a_worker_that_is_to_start_when_all_are_to_end(crew: tuple[Member, Spawner]) -> None:
    member, reactor = crew
    reactor.end()
    member.stop()
    reactor.advance(100)
    member.start()
    assert len(reactor.hands) == 1


def test_a_worker_that_talks_nonsense_is_killed(crew: tuple[Member, Spawner]) -> None:
    _, reactor = crew
    with logged() as events:
        reactor.hands[0].childDataReceived(REPORTS, b"nonsense\n")
    assert reactor.killed == 1
    assert any("what nobody understands" in str(event["log_format"]) for event in events)


def test_what_python_says_when_it_cannot_start_is_in_the_log(crew: tuple[Member, Spawner]) -> None:
    _, reactor = crew
    with logged() as events:
        reactor.hands[0].childDataReceived(STRAY[1], b"ImportError: no\nmodule\xff\n")
    assert [event["log_format"].format(**event) for event in events] == ["worker 1: ImportError: no\nmodule\\xff"]


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (ProcessTerminated(None, signal.SIGSEGV, 11), "was killed by signal 11"),
        (ProcessTerminated(3, None, 768), "has ended with status 3"),
        (ProcessDone(0), "has ended with status 0"),
    ],
)
def test_how_it_ended(reason: Exception, told: str) -> None:
    assert how_it_ended(Failure(reason)) == told


def test_an_environment_without_secrets_and_without_systemds_sockets() -> None:
    ours = {
        "COUCHDB_URL": PASSWORD,
        "COUCHDL_DRAIN": "1",
        "DOWNLOAD_TOKEN_KEY_NAME": "a",
        "LISTEN_FDS": "1",
        "HOME": "/",
    }
    theirs = environment(ours)
    assert set(theirs) == {"HOME", "PYTHONPATH"}


# The end of a crew.


@pytest.fixture
def many(table: int) -> tuple[Crew, Spawner]:
    """A crew of two that work, and have three minutes for what is under way."""
    reactor = Spawner()
    crew = Crew(settings("--drain=180"), 2, reactor)
    counts = Counts(Table.own(Layout([])))
    crew._members = [
        Member(Task(number, settings(), ()), {}, Load(table, number), counts, reactor) for number in (1, 2)
    ]
    for member in crew._members:
        member.start()
    reactor.written.clear()
    return crew, reactor


def test_workers_that_do_not_end_are_killed(many: tuple[Crew, Spawner]) -> None:
    crew, reactor = many
    ended = Deferred.fromCoroutine(crew.stop())
    assert reactor.written == [STOP, STOP]
    reactor.hands[0].processEnded(Failure(ProcessDone(0)))
    reactor.advance(189)
    assert reactor.killed == 0
    reactor.advance(1)
    assert (reactor.killed, ended.called) == (1, False)
    reactor.end()
    assert (ended.called, reactor.getDelayedCalls()) == (True, [])


def test_who_hurries_does_not_wait_so_long(many: tuple[Crew, Spawner]) -> None:
    crew, reactor = many
    ended = Deferred.fromCoroutine(crew.stop())
    crew.hurry()
    assert reactor.written == [STOP, STOP, HURRY, HURRY]
    reactor.advance(10)
    assert reactor.killed == 2
    for hand in reactor.hands:
        hand.processEnded(Failure(ProcessDone(0)))
    assert ended.called


def test_who_is_in_a_hurry_before_the_end_begins(many: tuple[Crew, Spawner]) -> None:
    crew, reactor = many
    crew.hurry()
    assert reactor.written == []
    Deferred.fromCoroutine(crew.stop())
    assert reactor.written == [STOP, STOP, HURRY, HURRY]


@pytest.mark.parametrize(
    ("missing", "why"), [("os.memfd_create", "needs Linux"), ("sys.executable", "needs a Python"), (None, "too few")]
)
def test_what_a_crew_cannot_start_with(missing: str | None, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing == "sys.executable":
        monkeypatch.setattr(missing, "/no/such/python")
    elif missing:
        monkeypatch.delattr(missing)
    else:
        monkeypatch.setattr("txcouchdl.serving.make_room", lambda *_: 0)
    with pytest.raises(StartError, match=why):
        Crew(settings("-l", "tcp:0:interface=127.0.0.1"), 2, Clock()).listen([])


# Loads.


def test_who_has_more_lets_others_come_first(table: int) -> None:
    one, other = (Load(table, worker) for worker in (1, 2))
    one.tell(100)
    assert not one.is_ahead(), "nobody else is there"
    other.tell(100)
    assert (one.is_ahead(), other.is_ahead()) == (False, False)
    other.tell(99)
    assert not one.is_ahead(), "nearly as many"
    other.tell(80)
    assert (one.is_ahead(), other.is_ahead()) == (True, False)
    other.leave()
    assert not one.is_ahead()


def test_of_few_each_counts(table: int) -> None:
    one, other = (Load(table, worker) for worker in (1, 2))
    one.tell(1)
    other.tell(0)
    assert one.is_ahead()


# Ports.


class Readers(Clock):
    """A reactor that knows who reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reading: set[object] = set()

    def addReader(self, reader: object) -> None:
        self.reading.add(reader)

    def removeReader(self, reader: object) -> None:
        self.reading.discard(reader)

    removeWriter = removeReader  # noqa: N815 (Twisted's)


class Counting(Factory):
    noisy = False
    protocol = Protocol
    accepted = 0

    def buildProtocol(self, addr: object) -> Protocol | None:
        self.accepted += 1
        return None


@pytest.fixture
def shared(table: int) -> Iterator[tuple[Port, Counting, Readers, Load]]:
    """A port on an inherited socket, at which three clients have come; and another worker's load."""
    reactor, factory = Readers(), Counting()
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(socket.create_connection(server.getsockname()))
        own, other = (Load(table, worker) for worker in (1, 2))
        own.tell(1)
        port = adopt(reactor, os.dup(server.fileno()), server.family, factory, own)
        yield port, factory, reactor, other
        port.stopListening()
        reactor.advance(0)
        assert not reactor.getDelayedCalls()
        assert not reactor.reading
        assert server.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN), "it is open for the others"


def test_one_connection_at_a_time(shared: tuple[Port, Counting, Readers, Load]) -> None:
    port, factory, reactor, _ = shared
    for number in (1, 2, 3, 3):
        assert port in reactor.reading
        port.doRead()
        assert factory.accepted == number


def test_a_moment_for_who_has_fewer(shared: tuple[Port, Counting, Readers, Load]) -> None:
    port, factory, reactor, other = shared
    other.tell(0)
    port.doRead()
    assert (factory.accepted, port in reactor.reading) == (0, False)
    reactor.advance(0.001)
    assert (factory.accepted, port in reactor.reading) == (1, True)
    # It may stop in such a moment too.
    port.doRead()


def test_a_socket_that_is_shut_for_all(table: int) -> None:
    reactor = Readers()
    server = socket.create_server(("127.0.0.1", 0))
    port = adopt(reactor, os.dup(server.fileno()), server.family, Counting(), Load(table, 1))
    server.shutdown(socket.SHUT_RDWR)
    with logged() as events:
        port.doRead()
    assert (events, reactor.reading) == ([], set())
    server.close()
    port.stopListening()
    reactor.advance(0)


# Guesses. What tables of one process and of several have in common is in gateway/test_guess_table.py.

_ADMIT = """
import sys
from txcouchdl.gateway.guess_windows import Ticket
from txcouchdl.workers.shared_minutes import shared_table

windows = shared_table(int(sys.argv[1])).windows
name = windows.name("192.0.2.1")
print("ready", flush=True)
sys.stdin.readline()
print(sum(isinstance(windows.admit(name, 5000, 1.75e9), Ticket) for _ in range(4000)))
"""


def test_processes_that_count_at_the_same_time() -> None:
    """No ticket is given twice."""
    descriptor = shared_minutes.new_table()
    command = [sys.executable, "-c", _ADMIT, str(descriptor)]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(command, stdin=PIPE, stdout=PIPE, pass_fds=[descriptor]))
            for _ in range(2)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
        counts = [int(process.communicate(timeout=PATIENCE)[0]) for process in processes]
    os.close(descriptor)
    assert sum(counts) == 5000


def test_a_quarter_of_the_connections_may_wait_for_their_turns() -> None:
    """Of each worker's own."""
    of_a_worker = share(settings("--max-connections=24", "--guess-limit=1"), 2)
    counts = Counts(Table.own(Layout(["http://a"])))
    limiter = rate_limiter(of_a_worker, Clock(), counts)
    results: list[object] = []
    for number in range(5):
        for _ in range(2):
            admitting = limiter.admit(f"192.0.2.{number}", DocumentAddress("db", "doc"), b"wrong")
            Deferred.fromCoroutine(admitting).addBoth(results.append)
    refused = [result for result in results if isinstance(result, Failure)]
    assert (len(results), len(refused)) == (5 + 2, 2)
    for failure in refused:
        assert failure.check(TooManyGuesses)
