"""Bodies: each ends once, whatever happens while it does."""

from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone

from txcouchdl.cli.bodies import Body, End
from txcouchdl.cli.outcomes import Passing


class Scene:
    """
    A body that is on its way.

    :param is_prompt: whether its connection is lost while it is still being ended, rather than later.
    """

    def __init__(self, is_prompt: bool = True, is_wanting: bool = True) -> None:
        self.clock = Clock()
        self.aborted = 0
        self.results: list[Any] = []
        self._is_prompt = is_prompt
        self.body = Body(lambda _: is_wanting, self._abort, 10.0, self.clock)
        self.body.ended.addBoth(self.results.append)
        self.body.connectionMade()

    def _abort(self) -> None:
        self.aborted += 1
        if self._is_prompt:
            self.lose()

    def lose(self) -> None:
        self.body.connectionLost(Failure(ConnectionDone()))


@pytest.mark.parametrize("is_prompt", [True, False])
def test_enough(is_prompt: bool) -> None:
    scene = Scene(is_prompt, is_wanting=False)
    scene.body.dataReceived(b"x")
    scene.body.dataReceived(b"y")
    scene.lose()
    assert scene.results == [End.ENOUGH]
    assert scene.aborted == 1
    assert not scene.clock.calls


@pytest.mark.parametrize("is_prompt", [True, False])
def test_cancelled(is_prompt: bool) -> None:
    scene = Scene(is_prompt)
    scene.body.ended.cancel()
    scene.lose()
    assert scene.results[0].check(CancelledError)
    assert scene.aborted == 1
    assert not scene.clock.calls


@pytest.mark.parametrize("is_prompt", [True, False])
def test_stalled(is_prompt: bool) -> None:
    scene = Scene(is_prompt)
    scene.clock.advance(10.0)
    scene.body.ended.cancel()
    assert scene.results[0].check(Passing)
    assert scene.aborted == 1


def test_cancelled_while_it_is_ended() -> None:
    scene = Scene(is_wanting=False)
    scene.lose = scene.body.ended.cancel  # type: ignore[method-assign]
    scene.body.dataReceived(b"x")
    assert scene.results[0].check(CancelledError)
    assert scene.aborted == 1


def test_whole() -> None:
    """The connection is not ended: the next answer may come over it."""
    scene = Scene()
    scene.body.connectionLost(Failure(ResponseDone()))
    assert scene.results == [End.WHOLE]
    assert not scene.aborted
