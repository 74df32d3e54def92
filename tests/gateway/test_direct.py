"""Healing, parking and waiting once more, with the bytes passing the gateway by; and that they do."""

from typing import Any

import pytest
from attrs import evolve

from tests.gateway.house import DEFAULTS, House
from tests.gateway.test_body_hedges import *  # noqa: F403
from tests.gateway.test_healing import *  # noqa: F403
from tests.gateway.test_healing import without_boundary
from tests.gateway.test_places import *  # noqa: F403
from tests.scripted import Stored
from txcouchdl.couch.relay import Relay

BODY = bytes(range(256)) * 4000


@pytest.fixture(autouse=True)
def relays(monkeypatch: pytest.MonkeyPatch) -> list[Relay]:
    """All houses are direct. :return: the relays that have begun."""
    build, begin = House.__init__, Relay.begin
    begun: list[Relay] = []

    def build_direct(self: House, *args: Any, **options: Any) -> None:
        limits = evolve(options.pop("limits", DEFAULTS), short=0, worth_bypassing=2**12)
        build(self, *args, **{"limits": limits, "is_direct": True, **options})

    def noted(self: Relay) -> None:
        begun.append(self)
        begin(self)

    monkeypatch.setattr(House, "__init__", build_direct)
    monkeypatch.setattr(Relay, "begin", noted)
    return begun


@pytest.mark.parametrize("range_", [None, "bytes=0-", "bytes=1-", "bytes=5-900000", "bytes=-900000", "bytes=0-9,20-"])
def test_what_goes_past_the_gateway(range_: str | None, relays: list[Relay]) -> None:
    house = House({"f": Stored(BODY), "compressed": Stored.compressed(BODY)})
    got = house.get("f", range_)
    assert got.is_whole
    assert len(relays) == 1
    assert int(house.log[0].split()[9]) == len(got.body)
    del relays[:]
    assert without_boundary(got) == without_boundary(house_of_streams().get("f", range_))
    house.get("compressed", range_)
    assert not relays
    house.assert_at_rest()


def house_of_streams() -> House:
    return House({"f": Stored(BODY)}, is_direct=False)


@pytest.mark.parametrize(
    ("limits", "is_direct", "count"),
    [
        ({"short": 2**30}, True, 0),
        ({"worth_bypassing": len(BODY)}, True, 0),
        ({"worth_bypassing": len(BODY) // 2}, True, 1),
        ({"worth_bypassing": len(BODY) // 2}, False, 0),
    ],
)
def test_the_rule(
    limits: dict[str, int], is_direct: bool, count: int, relays: list[Relay], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored as wanted, long enough, between plain sockets, and seen by whoever has to."""
    house = House({"f": Stored(BODY)}, is_direct=is_direct)
    object.__setattr__(house.cluster, "limits", evolve(house.cluster.limits, **limits))
    assert house.get("f").body == BODY
    assert len(relays) == count
    monkeypatch.setattr("txcouchdl.couch.reading.can_tap", lambda: False)
    assert house.get("f").body == BODY
    assert len(relays) == count
    house.assert_at_rest()
