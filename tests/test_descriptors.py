"""How many connections there is room for."""

import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.running import ANY_PORT, running
from txcouchdl.descriptors import make_room, raised_limit, room

INFINITY = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "needed", "raised"),
    [
        (1024, 4096, 1000, 1024),
        (1024, 4096, 1024, 1024),
        (1024, 4096, 1025, 1025),
        (1024, 4096, 4096, 4096),
        (1024, 4096, 5000, 4096),
        (1024, 1024, 5000, 1024),
        (1024, INFINITY, 5000, 5000),
        (INFINITY, INFINITY, 5000, INFINITY),
    ],
)
def test_the_limit_that_is_to_be(soft: int, hard: int, needed: int, raised: int) -> None:
    assert raised_limit(soft, hard, needed) == raised


@pytest.mark.parametrize(
    ("limit", "has_room_for"),
    [(0, 0), (263, 0), (264, 0), (265, 1), (1263, 999), (1264, 1000), (9999, 1000), (INFINITY, 1000)],
)
def test_the_room_within_a_limit(limit: int, has_room_for: int) -> None:
    """For a thousand connections that need two hundred descriptors besides, and some to spare."""
    assert room(limit, 1000, 200) == has_room_for


limits = st.integers(0, 10**7)


@given(limits, limits, st.integers(1, 10**6), limits)
def test_what_is_raised_as_far_as_needed_has_room(soft: int, more: int, connections: int, others: int) -> None:
    limit = raised_limit(soft, soft + more, connections + others + 64)
    assert soft <= limit <= soft + more
    assert room(limit, connections, others) <= connections
    assert (room(limit, connections, others) == connections) == (soft + more >= connections + others + 64)


def test_a_system_that_does_not_let_us(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert make_room(1000, 100) == 256 - 100 - 64


def test_the_service_makes_room(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        with running(tmp_path, "-l", ANY_PORT, "--max-connections=400", "--max-upstream=30") as process:
            process.port()
            # Besides: those to CouchDB, with pipes, kept ones, and one for /_session; refused ones; and some to spare.
            assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (400 + 3 * 30 + 32 + 1 + 50 + 64, before[1])
            process.stop()
            assert "file descriptors" not in process.text()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.skipif(not 0 < resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 10**6, reason="there is room for all")
def test_the_service_says_when_there_is_too_little(tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with running(tmp_path, "-l", ANY_PORT, "--max-connections=1000000", "--max-upstream=30") as process:
        process.port()
        process.stop()
        room = hard - 3 * 30 - 32 - 1 - 64
        assert f"there are file descriptors for {room - room // 8} connections only" in process.text()
