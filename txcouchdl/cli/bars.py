"""What a user sees: sentences on standard error, and where that is a terminal, a bar."""

import sys
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from txcouchdl.cli.output import give_up

#: Seconds between two looks of the bar.
_INTERVAL: Final = 0.2


class Lines:
    """
    No bar, nothing but what has to be said.

    :param is_quiet: whether even that is left out.
    """

    def __init__(self, is_quiet: bool) -> None:
        self._is_quiet = is_quiet

    def sized(self, length: int | None, there: int) -> None:
        pass

    def brought(self, count: int) -> None:
        pass

    def say(self, sentence: str) -> None:
        if not self._is_quiet:
            self.fail(sentence)

    def fail(self, sentence: str) -> None:
        if sys.stderr is None:
            return
        # Where nobody can be told, the other files are to be had all the same.
        try:
            sys.stderr.write(f"{sentence}\n")
            sys.stderr.flush()
        except OSError:
            give_up(sys.stderr)

    def remark(self, sentence: str) -> None:
        pass

    def close(self) -> None:
        """Nothing more will be shown."""


class Bar:
    """A bar with rate and time left. It draws itself by the reactor's clock, in no thread of its own."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._console = Console(stderr=True, markup=False, highlight=False, emoji=False)
        self._progress = Progress(
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%", markup=False),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            auto_refresh=False,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None)
        self._next: IDelayedCall | None = None
        self._progress.start()
        self._draw()

    def _draw(self) -> None:
        self._progress.refresh()
        self._next = self._clock.callLater(_INTERVAL, self._draw)

    def sized(self, length: int | None, there: int) -> None:
        self._progress.reset(self._task, total=length, completed=there)

    def brought(self, count: int) -> None:
        self._progress.advance(self._task, count)

    def say(self, sentence: str) -> None:
        self._console.print(sentence, soft_wrap=True)

    def fail(self, sentence: str) -> None:
        self.say(sentence)

    def remark(self, sentence: str) -> None:
        self.say(sentence)

    def close(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
            self._progress.stop()


def watcher_for_user(clock: IReactorTime, is_quiet: bool) -> Bar | Lines:
    return Bar(clock) if sys.stderr is not None and sys.stderr.isatty() and not is_quiet else Lines(is_quiet)
