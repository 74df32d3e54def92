"""
Chromium, driven over its DevTools protocol with nothing but the standard library.

It is started with ``--remote-debugging-pipe``: JSON messages, each with a NUL behind it, on file descriptors 3 (to it)
and 4 (from it). A thread collects what it says. Whoever waits, waits for a message, and at most :data:`PATIENCE`.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Condition, Thread
from typing import Any, Final

from tests.running import PATIENCE

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS: Final = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-crash-reporter",
    "--disable-sync",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
    # Nothing but this machine, whatever a page or Chromium itself may want.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost, EXCLUDE *.localhost",
)
# Popen cannot give a child descriptors of our choice: this makes two of them 3 and 4, and becomes the program.
_ON_3_AND_4: Final = (
    "import os, sys; _, r, w, *run = sys.argv; os.dup2(int(r), 3); os.dup2(int(w), 4); os.execv(run[0], run)"
)
# Those that become 3 and 4 are none of these before.
_FIRST_OF_OURS: Final = 10

Message = Mapping[str, Any]


class BrowserError(Exception):
    """Chromium did not do what it was told: its words, or an exception of the page's JavaScript."""


def _pipe() -> tuple[int, int]:
    """A pipe whose ends have numbers that are out of the way."""
    ends = os.pipe()
    try:
        reading, writing = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _FIRST_OF_OURS) for end in ends)
    finally:
        for end in ends:
            os.close(end)
    return reading, writing


class Chromium:
    """The browser. Use :func:`chromium`."""

    def __init__(self, profile: Path) -> None:
        program = next(filter(None, map(shutil.which, _NAMES)), None)
        if program is None:
            raise BrowserError(f"none of {', '.join(_NAMES)} is installed")
        to_read, to_write = _pipe()
        from_read, from_write = _pipe()
        run = (program, *_FLAGS, f"--user-data-dir={profile}", "about:blank")
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _ON_3_AND_4, str(to_read), str(from_write), *run],
                pass_fds=(to_read, from_write),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # So that what it leaves behind goes with its profile.
                env=os.environ | {"TMPDIR": str(profile)},
                # Its children are one group with it, and end with it.
                start_new_session=True,
            )
        finally:
            os.close(to_read)
            os.close(from_write)
        self._writer = open(to_write, "wb", buffering=0)  # noqa: SIM115
        self._reader = open(from_read, "rb", buffering=0)  # noqa: SIM115
        self._news = Condition()
        self._answers: dict[int, Message] = {}
        self._last_id = 0
        self._is_ended = False
        #: All that it said without being asked.
        self.events: list[Message] = []
        self._thread = Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        received = bytearray()
        while data := self._reader.read(2**16):
            received += data
            *messages, rest = received.split(b"\0")
            received = bytearray(rest)
            with self._news:
                for each in map(json.loads, messages):
                    if "id" in each:
                        self._answers[each["id"]] = each
                    else:
                        self.events.append(each)
                self._news.notify_all()
        with self._news:
            self._is_ended = True
            self._news.notify_all()

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """
        Tell it something.

        :param session: of the page that this is for; ``None`` for the browser.
        :return: the result.
        :raises BrowserError: with its words, if it refuses.
        """
        self._last_id += 1
        message_id = self._last_id
        message = {"id": message_id, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        with suppress(BrokenPipeError):  # Its end is seen below.
            self._writer.write(json.dumps(message).encode() + b"\0")
        self._wait(lambda: message_id in self._answers, method)
        answer = self._answers.pop(message_id)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def wait_for(self, method: str, since: int, accept: Callable[[Message], bool] = lambda _: True) -> Message:
        """
        Wait for an event.

        :param since: how many there were, before what causes it was done.
        :return: its parameters.
        """

        def found() -> Message | None:
            named = (each["params"] for each in self.events[since:] if each["method"] == method)
            return next(filter(accept, named), None)

        self._wait(lambda: found() is not None, method)
        event = found()
        assert event is not None
        return event

    def _wait(self, is_there: Callable[[], bool], what: str) -> None:
        with self._news:
            self._news.wait_for(lambda: is_there() or self._is_ended, PATIENCE)
            if not is_there():
                raise BrowserError(f"{what}: {'it has ended' if self._is_ended else 'nothing came of it'}")

    def close(self) -> None:
        """End it, and all that it started."""
        try:
            if not self._is_ended:
                self.call("Browser.close")
                self._process.wait(PATIENCE)
        finally:
            # Mostly they have ended with it.
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(PATIENCE)
            self._thread.join(PATIENCE)
            self._writer.close()
            self._reader.close()


@contextmanager
def chromium() -> Iterator[Chromium]:
    """A Chromium with an empty profile, for as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        browser = Chromium(Path(profile))
        try:
            yield browser
        finally:
            browser.close()
