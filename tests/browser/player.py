"""A media element in a page, and what can be seen and heard of it: ``player.js``, from Python."""

import json
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from tests.browser.media import BITS, LOWEST_TONE, STEP, Medium
from tests.browser.pages import Page
from tests.running import PATIENCE

_SCRIPT: Final = Path(__file__).with_suffix(".js").read_text("utf-8")
#: Milliseconds that the page waits: a little less than those who wait for the page, so that it says what it saw.
_PAGES_PATIENCE: Final = (PATIENCE - 2) * 1000

_CURRENT_DATA, _ENOUGH_DATA = 2, 4


@frozen
class State:
    """
    How a media element is. Times are in seconds of the medium.

    :ivar seekable_to: the end of what can be sought; 0 if nothing can.
    """

    time: float
    duration: float
    seekable_to: float

    @classmethod
    def of(cls, told: dict[str, Any]) -> "State":
        return cls(told["currentTime"], told["duration"], told["seekableTo"])


class Player:
    """
    A media element of a page.

    :param element: an expression for it.
    """

    def __init__(self, page: Page, element: str) -> None:
        self._page = page
        page.evaluate(_SCRIPT)
        page.evaluate(f"globalThis.player = new Player({element}, {_PAGES_PATIENCE})")

    @classmethod
    def made(cls, page: Page, medium: Medium, url: str, *, cors: bool = False) -> "Player":
        """
        Put a new one into a page, and wait until it has something to show.

        :param cors: whether it asks with ``crossorigin``.
        """
        arguments = ("video" if medium.is_film else "audio", url, "anonymous" if cors else None)
        player = cls(page, f"Player.make(...{json.dumps(arguments)})")
        player.load(_CURRENT_DATA)
        return player

    def load(self, enough: int = _ENOUGH_DATA) -> None:
        """
        Load, and wait until there is enough.

        :param enough: as ``readyState`` counts; by default all that is needed to play without stopping.
        """
        self._do("load", enough)

    def _do(self, what: str, *arguments: float) -> Any:
        return self._page.evaluate(f"player.{what}(...{json.dumps(arguments)})")

    def seek(self, *times: float) -> State:
        """
        Seek, and wait until the last place is there. It was not buffered when it was sought.

        :param times: each is sought as soon as the seek before it has begun.
        """
        told = self._do("seek", *times)
        assert not told["wasBuffered"], "there was nothing to be fetched"
        return State.of(told)

    def seek_what_is_there(self, time: float) -> State:
        """Seek, whether it is buffered or not."""
        return State.of(self._do("seek", time))

    def play(self, rate: float = 1.0) -> None:
        """Begin to play, so many times as fast as it should be."""
        self._do("play", rate)

    def play_past(self, time: float) -> State:
        """Wait until the time has passed, or the end is there."""
        return State.of(self._do("playPast", time))

    def play_to_end(self) -> State:
        """Wait until it is there."""
        return State.of(self._do("playToEnd"))

    def shown_second(self) -> int:
        """The second that the film shows now."""
        blocks = self._do("brightnesses", BITS)
        return sum(2**bit for bit, brightness in enumerate(blocks) if brightness > 127)

    def heard_second(self) -> tuple[int, int]:
        """
        Play on, and listen.

        :return: the second that was heard, and the one that it was then.
        """
        heard = self._do("pitch")
        return round((heard["hertz"] - LOWEST_TONE) / STEP), int(heard["currentTime"])
