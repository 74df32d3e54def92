"""How a service starts where there is little room, and stops before it has quite started."""

from pathlib import Path

import pytest
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import deferLater

from tests.gateway.house import logged
from tests.servers import reactor
from tests.store.serving import in_reactor
from txcouchdl.options import Options
from txcouchdl.service import Alone, GatewayService
from txcouchdl.settings import StartError

ANY_PORT = "tcp:0:interface=127.0.0.1"


def service_of(*arguments: str) -> GatewayService:
    options = Options()
    options.parseOptions(["-l", ANY_PORT, *arguments])
    return GatewayService(options.settings, reactor, print)


def give(room: int, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Pretend that there are descriptors for so many connections. :return: what is asked for."""
    asked: list[tuple[int, int]] = []

    def make_room(connections: int, others: int) -> int:
        asked.append((connections, others))
        return room

    monkeypatch.setattr("txcouchdl.serving.make_room", make_room)
    return asked


@in_reactor
async def test_no_more_connections_are_taken_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients would else take the descriptors that the connections to CouchDB need."""
    asked = give(47, monkeypatch)
    service = service_of("-c", "http://127.0.0.1:1", "-c", "http://127.0.0.1:2", "--max-upstream", "10")
    with logged() as events:
        service.privilegedStartService()
    assert isinstance(service._front, Alone)
    assert service._front._serving is not None
    assert service._front._serving._connections.limits.max_connections == 47 - 16
    assert any("31 connections only" in str(event.get("log_format", "")).format(**event) for event in events)
    [(connections, others)] = asked
    assert connections == 4096 + 512, "those that are refused among them"
    assert others >= 2 * (10 + 32), "exchanges, and connections that are kept"
    await maybeDeferred(service.stopService)


@in_reactor
async def test_no_room_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    give(16, monkeypatch)
    with pytest.raises(StartError, match="too few file descriptors"):
        service_of("-c", "http://127.0.0.1:1").privilegedStartService()


@in_reactor
async def test_a_demo_that_is_stopped_while_it_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    service = service_of("--demo", "--store-listen", ANY_PORT)
    with logged() as events:
        service.privilegedStartService()
        service.startService()
        await deferLater(reactor, 0)
        await maybeDeferred(service.stopService)
    assert not [event for event in events if "log_failure" in event]
