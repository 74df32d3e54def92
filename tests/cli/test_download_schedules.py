"""
Downloads from a gateway in memory through a proxy that breaks off, lies and stalls as Hypothesis likes.

*Never a wrong file*: what has the file's name is the file. *It ends*, one way or the other. *What there is helps*: run
again without faults, it completes.
"""

import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError

from tests.cli.desk import Desk
from tests.faults import (
    AnswerStatus,
    Corrupt,
    Cut,
    Duplicate,
    Fault,
    FaultyProxy,
    NoFault,
    Refuse,
    Schedule,
    Slow,
    Stall,
    Truncate,
    WrongRange,
)
from tests.gateway.house import GATEWAY_PORT, TOKEN, House
from tests.scripted import Stored
from tests.strategies import fault_lists
from txcouchdl.cli.outcomes import Trouble
from txcouchdl.couch.limits import UpstreamLimits

NOISE: Final = random.Random(33).randbytes(30_000)
TEXT: Final = NOISE[:5000].hex().encode()
STORED: Final = {"noise": Stored(NOISE), "text": Stored.compressed(TEXT)}
CONTENT: Final = {"noise": NOISE, "text": TEXT}
PROXY_PORT: Final = 81


#: Each of these is a whole download, or several.
FEWER: Final = settings(max_examples=settings().max_examples // 2)


def url(name: str) -> str:
    return f"http://gateway.example:{PROXY_PORT}/db/doc/{name}?token={TOKEN}"


class Scene:
    """
    A gateway, a proxy before it, and somebody who downloads.

    :param has_ranges: whether the gateway has, behind nodes that ignore them.
    """

    def __init__(self, directory: Path, schedule: Schedule, has_ranges: bool = True) -> None:
        self.house = House(dict(STORED), limits=UpstreamLimits(most_skipped=10_000))
        self.house.node.ignores_ranges = not has_ranges
        self.desk = Desk(directory, network=self.house.network)
        self.proxy = FaultyProxy(self.desk.network.endpoint(GATEWAY_PORT), schedule, self.desk.network)
        self.desk.network.listen(PROXY_PORT, self.proxy)

    def get(self, name: str, **changes: object) -> bool:
        """:return: whether it says that it succeeded, which is true."""
        try:
            saved = self.desk.get(url(name), name, **changes)
        except Trouble:
            assert name not in self.desk.names
            return False
        # What nobody knows a digest of, and is changed on a network that is not secured, nobody can know.
        is_right = self.desk.read(name) == CONTENT[name]
        assert is_right or (saved.verified_by is None and self.proxy.schedule.struck)
        assert is_right or name == "text"
        assert self.desk.names == {name}
        return True


@FEWER
@given(
    st.sampled_from(sorted(STORED)),
    fault_lists(len(NOISE), max_faults=4),
    st.integers(1, 5),
    st.sampled_from([500, 5000, 10**6]),
    st.booleans(),
)
@example(name="text", faults=[Cut(0), Corrupt(0, 1), AnswerStatus(401)], connections=1, least=500, has_ranges=True)
@example(name="noise", faults=[], connections=4, least=500, has_ranges=False)
def test_any_schedule(name: str, faults: list[Fault], connections: int, least: int, has_ranges: bool) -> None:
    schedule = Schedule.of(*faults)
    with TemporaryDirectory() as directory:
        scene = Scene(Path(directory), schedule, has_ranges)
        if not scene.get(name, connections=connections, least=least):
            schedule.decide = lambda _: NoFault()
            assert scene.get(name, connections=connections, least=least)


@FEWER
@given(st.integers(0, 2**32), st.floats(0.1, 0.7), st.integers(1, 5))
def test_faults_that_do_not_cease(seed: int, rate: float, connections: int) -> None:
    with TemporaryDirectory() as directory:
        scene = Scene(Path(directory), Schedule.seeded(seed, rate))
        scene.get("noise", connections=connections, least=1000)


def _lie(draw: random.Random) -> Fault:
    """What a range hides: only the digest can tell."""
    place = draw.randrange(3000)
    return draw.choice(
        [
            Corrupt(place),
            Duplicate(place, 1 + draw.randrange(100)),
            WrongRange(1 + draw.randrange(1000)),
            Truncate(1 + draw.randrange(1000), lies=True),
            Truncate(1 + draw.randrange(1000)),
            Cut(place),
        ]
    )


@FEWER
@given(st.integers(0, 2**32), st.sampled_from([0.02, 0.1, 1.0]), st.sampled_from(sorted(STORED)))
@example(seed=1, rate=1.0, name="noise")
def test_lies(seed: int, rate: float, name: str) -> None:
    with TemporaryDirectory() as directory:
        scene = Scene(Path(directory), Schedule.seeded(seed, rate, _lie))
        scene.get(name, connections=3, least=1000)


@FEWER
@given(st.integers(0, 150), st.integers(0, 150), st.integers(1, 4))
def test_nodes_that_ignore_ranges_for_a_while(begin: int, end: int, connections: int) -> None:
    """They do so in the midst of a download, which is interrupted then; the next run completes it."""
    with TemporaryDirectory() as directory:
        scene = Scene(Path(directory), Schedule.of())
        left = iter(range(begin))
        running = scene.desk.start(url("noise"), "noise", connections=connections, least=1000)
        scene.desk.network.run(lambda: next(left, None) is None)
        scene.house.node.ignores_ranges = True
        left = iter(range(end))
        scene.desk.network.run(lambda: next(left, None) is None)
        running.cancel()
        try:
            scene.desk.wait_for(running)
        except CancelledError:
            assert "noise" not in scene.desk.names or scene.desk.read("noise") == NOISE
        else:
            return
        assert scene.get("noise", connections=connections, least=1000)


@FEWER
@given(st.lists(st.integers(0, 200), min_size=1, max_size=4), st.integers(1, 4))
def test_interrupted_anywhere(turns: list[int], connections: int) -> None:
    """As often as one likes: each run goes on with what the one before has left."""
    with TemporaryDirectory() as directory:
        scene = Scene(Path(directory), Schedule.of())
        for turn in turns:
            left = iter(range(turn))
            running = scene.desk.start(url("noise"), "noise", connections=connections, least=1000)
            scene.desk.network.run(lambda left=left: next(left, None) is None)  # type: ignore[misc]
            running.cancel()
            try:
                scene.desk.wait_for(running)
            except CancelledError:
                assert "noise" not in scene.desk.names or scene.desk.read("noise") == NOISE
        assert scene.get("noise", connections=connections, least=1000)


def test_a_slow_connection_is_helped(tmp_path: Path) -> None:
    """Others take over what it has before it, again and again, and it stops where they began."""
    scene = Scene(tmp_path, Schedule.of(NoFault(), Slow(1000)))
    assert scene.get("noise", connections=2, least=1000)
    assert scene.desk.network.seconds() <= 4, "of 14 seconds"
    assert [type(each) for each in scene.proxy.schedule.struck] == [Slow]


def test_slow_is_not_stalled(tmp_path: Path) -> None:
    """A body may take longer than the timeout, as long as it comes."""
    scene = Scene(tmp_path, Schedule.of(NoFault(), Slow(1000)))
    assert scene.get("noise", connections=1, timeout=5.0)
    assert scene.desk.network.seconds() > 25
    assert len([each for each in scene.proxy.schedule.applied if each.asked.method == "GET"]) == 2


@pytest.mark.parametrize(("fault", "number"), [(Refuse(), 10), (Cut(100), 100), (Stall(100), 30), (Stall(0), 3)])
def test_it_comes_through(tmp_path: Path, fault: Fault, number: int) -> None:
    """Many faults of one kind, one after the other: as long as there is progress, no patience is lost over them."""
    scene = Scene(tmp_path, Schedule.of(*[fault] * number))
    assert scene.get("noise", connections=1, least=1000)
    assert len(scene.proxy.schedule.struck) == number
