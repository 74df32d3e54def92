"""
The workers' parent: it listens for them, starts them, and ends them.

The listening sockets are the same for all. With one each (SO_REUSEPORT), what the kernel has given to a worker that
then dies is lost with it, and waits in vain as long as one is stuck; and neither Unix sockets nor those of systemd come
in several.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any, Final, cast

from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.tcp import Port
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory

from txcouchdl.couch.nodes import Node
from txcouchdl.descriptors import make_room
from txcouchdl.gateway.access_file import STANDARD_OUTPUT
from txcouchdl.listening import Listening, close, listen
from txcouchdl.metrics import table as metrics
from txcouchdl.metrics.admin import descriptors
from txcouchdl.metrics.counts import Counts
from txcouchdl.metrics.layout import Layout
from txcouchdl.serving import check_access_log, fitted, reread_link_secret
from txcouchdl.settings import Settings, StartError
from txcouchdl.workers import loads, shared_minutes
from txcouchdl.workers.certificates import Certificates
from txcouchdl.workers.member import Member
from txcouchdl.workers.messages import ENDPOINTS, GUESSES, LOADS, METRICS, Endpoint, Refusals, Reload, Task
from txcouchdl.workers.shares import share

#: Seconds that a worker has, behind what is under way, to let go of everything.
_GRACE: Final = 10.0
#: Descriptors of a worker's pipes, and of what it takes to start one.
_PIPES: Final = 8

_log = Logger()


class Crew:
    """
    :param settings: of all workers together.
    :param count: of workers.
    :ivar table: of what happens in all of them. Once it listens.
    """

    table: metrics.Table

    def __init__(self, settings: Settings, count: int, reactor: Any) -> None:
        self._settings = settings
        self._count = count
        self._reactor = reactor
        self._ports: list[IListeningPort] = []
        self._listening: list[Listening] = []
        self._link_secret = settings.link_secret
        self._tables: dict[int, int] = {}
        self._members: list[Member] = []
        self._deadline: IDelayedCall | None = None
        self._is_hurried = False

    def listen(self, nodes: Sequence[Node]) -> list[Listening]:
        """
        Listen for all workers. Nobody is accepted yet; who connects waits.

        :param nodes: the CouchDB to stand in front of.
        :return: the endpoints, at least one.
        :raises StartError: if it cannot listen, or has no room, or nothing to start workers with.
        """
        if not sys.executable or not os.access(sys.executable, os.X_OK):
            raise StartError(f"--workers needs a Python to start them with, and {sys.executable!r} is none here")
        if not hasattr(os, "memfd_create"):
            raise StartError("--workers needs Linux, for memory that processes share")
        settings = evolve(self._settings, nodes=tuple(nodes), store=None, is_demo=False)
        # The other ends of connections to the embedded store, and their files, are on this side.
        exchanges = 0 if self._settings.store is None else 2 * settings.upstream.max_upstream
        admin = descriptors(len(nodes)) if settings.admin_listen else 0
        make_room(0, exchanges + admin + len(nodes) + _PIPES * self._count)
        settings = fitted(share(settings, self._count))
        endpoints = tuple(self._listen(each) for each in settings.listen)
        layout = Layout([node.base for node in settings.nodes])
        self._tables = {
            GUESSES: shared_minutes.new_table(),
            LOADS: loads.new_table(),
            METRICS: metrics.new_table(layout, self._count),
        }
        self.table = metrics.Table.shared(layout, self._tables[METRICS])
        inherited = self._tables | dict(enumerate((cast(Port, each).fileno() for each in self._ports), ENDPOINTS))
        if settings.access_log == STANDARD_OUTPUT:
            # Ours, and not a pipe of which we make events.
            inherited |= {1: 1}
        for number in range(1, self._count + 1):
            load = loads.Load(self._tables[LOADS], number)
            counts = Counts(self.table, number - 1)
            member = Member(Task(number, settings, endpoints), inherited, load, counts, self._reactor)
            self._members.append(member)
        return self._listening

    def _listen(self, description: str) -> Endpoint:
        listening = listen(self._reactor, description, _ForWorkers(), self._ports, self._settings.alternative)
        port, factory = listening.port, getattr(listening.port, "factory", None)
        if isinstance(factory, TLSMemoryBIOFactory) and listening.is_secure:
            factory = factory.wrappedFactory
        if not isinstance(port, Port) or not isinstance(factory, _ForWorkers):
            raise StartError(f"{description!r} is no endpoint that --workers can share")
        port.stopReading()
        self._listening.append(listening)
        return Endpoint(port.socket.family, _certificates_of(listening))

    def start(self) -> None:
        """
        Start the workers, as soon as the reactor can see how they do.

        :raises StartError: if they cannot write the access log.
        """
        check_access_log(self._settings, self._reactor)
        for member in self._members:
            self._reactor.callWhenRunning(member.start)

    def reload(self) -> None:
        """
        Read certificates and the link secret again, and have all workers use them and reopen the access log. What is
        not in order stays as it was.
        """
        for each in self._listening:
            each.reload()
        self._link_secret = reread_link_secret(self._settings, self._link_secret)
        order = Reload(tuple(map(_certificates_of, self._listening)), self._link_secret)
        for member in self._members:
            member.reload(order)

    def refuse(self, names: frozenset[str]) -> None:
        """
        Count some nodes as not up.

        :param names: of the nodes that refuse the gateway's user.
        """
        for member in self._members:
            member.refuse(Refusals(names))

    def hurry(self) -> None:
        """Break off what is under way: now, or when this is to stop."""
        self._is_hurried = True
        if self._deadline is not None and self._deadline.active():
            self._deadline.reset(_GRACE)
            for member in self._members:
                member.hurry()

    async def stop(self) -> None:
        """Let all workers end, which have some seconds for what is under way, and some more to end at all."""
        for member in self._members:
            member.stop()
        self._deadline = self._reactor.callLater(self._settings.drain + _GRACE, self._kill)
        if self._is_hurried:
            self.hurry()
        # Shuts the sockets for all: the next gateway may listen.
        await close(self._ports)
        await gatherResults([Deferred.fromCoroutine(each.wait_for_end()) for each in self._members])
        if self._deadline.active():
            self._deadline.cancel()
        for table in self._tables.values():
            os.close(table)

    def _kill(self) -> None:
        for member in self._members:
            member.kill()


def _certificates_of(listening: Listening) -> Certificates | None:
    shown = listening.certificates
    return None if shown is None else Certificates.of(shown, listening.description)


class _ForWorkers(Factory):
    """Stands where the workers' sites will be."""

    noisy = False

    def logPrefix(self) -> str:
        return "GatewaySite"
