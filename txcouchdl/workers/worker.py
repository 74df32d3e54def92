"""
One worker: a gateway on inherited sockets, which does what its crew says and reports to it.

It heeds no signals. That its crew is gone, it sees by the end of the pipe, and ends as if it had been told to.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, globalLogBeginner
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from txcouchdl.metrics.counts import Counts
from txcouchdl.metrics.layout import Layout
from txcouchdl.metrics.table import Table
from txcouchdl.serving import Serving, rate_limiter
from txcouchdl.tls import ShownCertificates
from txcouchdl.workers.loads import Load
from txcouchdl.workers.log_pipe import PipedLog
from txcouchdl.workers.messages import (
    ENDPOINTS,
    GUESSES,
    HURRY,
    LOADS,
    METRICS,
    ORDERS,
    REPORTS,
    Endpoint,
    Orders,
    Refusals,
    Reload,
    read_task,
    report,
)
from txcouchdl.workers.ports import adopt
from txcouchdl.workers.shared_minutes import shared_table

#: Seconds that the crew has to read the last reports.
_PATIENCE: Final = 2.0

#: Seconds between two times that a worker says that it does not hang.
_BEAT: Final = 1.0

_log = Logger()


def work(reactor: Any) -> None:
    """Work until the crew says stop, or is gone."""
    task = read_task(partial(os.read, ORDERS))
    crew = CrewLink(reactor)
    globalLogBeginner.beginLoggingTo([crew.log])
    settings = task.settings
    table = Table.shared(Layout([node.base for node in settings.nodes]), METRICS)
    counts = Counts(table, task.number - 1)
    limiter = rate_limiter(settings, reactor, counts, shared_table(GUESSES))
    load = Load(LOADS, task.number)
    serving = Serving(settings, settings.nodes, reactor, limiter, counts, load.tell)
    shown = listen(serving, task.endpoints, load, reactor)
    load.tell(0)
    counts.answers()
    beat = LoopingCall(lambda: counts.moves(reactor.seconds()))
    beat.clock = reactor
    beat.start(_BEAT)
    worker = Worker(task.number, serving, shown, crew, reactor)
    worker.heed(task.refusals)
    crew.heed(worker.stop, worker.hurry, worker.heed)
    reactor.callWhenRunning(crew.report, "ready", True)
    reactor.run(installSignalHandlers=False)


def listen(
    serving: Serving, endpoints: Sequence[Endpoint], load: Load, reactor: Any
) -> tuple[ShownCertificates | None, ...]:
    """
    Answer on inherited sockets.

    :return: what clients of each endpoint are shown; ``None`` for one that does not speak TLS.
    """
    shown = tuple(
        None if each.certificates is None else ShownCertificates(each.certificates.options()) for each in endpoints
    )
    for descriptor, endpoint in enumerate(endpoints, ENDPOINTS):
        site: Any = serving.site()
        # Nothing of ours happens at its start, and Twisted would tell of it.
        site.noisy = False
        if (certificates := shown[descriptor - ENDPOINTS]) is not None:
            site = TLSMemoryBIOFactory(certificates, False, site)
        serving.ports.append(adopt(reactor, descriptor, endpoint.family, site, load))
    return shown


def _nothing(*_: object) -> None:
    pass


class CrewLink(Protocol):
    """
    The pipes to the crew and from it.

    :ivar log: a log observer.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._ended: Deferred[None] = Deferred()
        self._stop: Callable[[], object] = _nothing
        self._hurry: Callable[[], object] = _nothing
        self._heed: Callable[[Reload | Refusals], object] = _nothing
        self._orders = Orders()
        self._is_gone = False
        pipes: Any = StandardIO(self, ORDERS, REPORTS, reactor)  # type: ignore[call-arg]
        self.log = PipedLog(pipes.write)
        pipes.registerProducer(self.log, True)

    def heed(
        self, stop: Callable[[], object], hurry: Callable[[], object], others: Callable[[Reload | Refusals], object]
    ) -> None:
        """
        Do as the crew says. To be called before the reactor runs: nothing has been read yet.

        :param others: takes the orders that say more.
        """
        self._stop, self._hurry, self._heed = stop, hurry, others

    def report(self, kind: str, value: Any) -> None:
        self.transport.write(report(kind, value))  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        for order in self._orders.feed(data):
            if not isinstance(order, bytes):
                self._heed(order)
                continue
            if order == HURRY:
                self._hurry()
            self._stop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._is_gone = True
        self._ended.callback(None)
        self._stop()

    async def close(self) -> None:
        """See to it that the last reports arrive, if the crew takes them soon."""
        if not self._is_gone:
            self.transport.unregisterProducer()  # type: ignore[union-attr]
            # Nobody pauses it any more: what waits in there goes too.
            self.log.resumeProducing()
            self.transport.loseConnection()  # type: ignore[union-attr]
            await self._ended.addTimeout(_PATIENCE, self._reactor, onTimeoutCancel=lambda *_: None)


class Worker:
    """
    Carries the orders of the supervisor out.

    :param number: by which the supervisor calls it.
    :param shown: what clients of each endpoint are shown.
    """

    def __init__(
        self,
        number: int,
        serving: Serving,
        shown: Sequence[ShownCertificates | None],
        crew: CrewLink,
        reactor: Any,
    ) -> None:
        self._number = number
        self._serving = serving
        self._shown = shown
        self._crew = crew
        self._reactor = reactor
        self._is_ending = False

    def hurry(self) -> None:
        self._serving.hurry()

    def heed(self, order: Reload | Refusals) -> None:
        """Carry an order out."""
        if isinstance(order, Reload):
            self._reload(order)
        else:
            self._serving.refuse(order.names)

    def _reload(self, order: Reload) -> None:
        """Reopen the access log, and use what the supervisor has read again."""
        for shown, certificates in zip(self._shown, order.certificates, strict=True):
            if shown is not None and certificates is not None:
                shown.show(certificates.options())
        self._serving.reload(order.link_secret)
        _log.info("worker {number} has reloaded", number=self._number)

    def stop(self) -> None:
        """End when what is under way has. Once is enough."""
        if not self._is_ending:
            self._is_ending = True
            Deferred.fromCoroutine(self._end())

    async def _end(self) -> None:
        try:
            await self._serving.stop()
        except Exception:
            # While somebody reads it.
            _log.failure("a worker could not end well")
        await self._crew.close()
        self._reactor.stop()
