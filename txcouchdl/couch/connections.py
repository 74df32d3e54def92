"""Transitional."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.iweb import IAgent

from txcouchdl.couch.wire.line import CONNECT_TIMEOUT, IDLE_CONNECTIONS, Lines

__all__ = ["IDLE_CONNECTIONS", "NetworkAgents"]


class NetworkAgents(Lines):
    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self._pool = HTTPConnectionPool(reactor, persistent=False)
        self.persistent: IAgent = Agent(reactor, connectTimeout=CONNECT_TIMEOUT, pool=self._pool)
        self.closing: IAgent = self.persistent

    def close(self) -> "Deferred[None]":
        return super().close()
