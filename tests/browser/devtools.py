"""
Chromium, driven over its DevTools protocol with nothing but the standard library.

It is started with ``--remote-debugging-pipe``: JSON messages, each with a NUL behind it, on file descriptors 3 (to it)
and 4 (from it). A thread collects what it says. Whoever waits, waits for a message, and at most :data:`PATIENCE`.
"""

import base64
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

from attrs import define, field, frozen

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

    @contextmanager
    def page(self) -> Iterator["Page"]:
        """A page with a profile of its own: no cache, no cookie, no setting of another page's."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        try:
            target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
            session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            page = Page(self, session, context)
            page.begin()
            yield page
        finally:
            self.call("Target.disposeBrowserContext", browserContextId=context)

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
    with tempfile.TemporaryDirectory(prefix="chromium-") as profile:
        browser = Chromium(Path(profile))
        try:
            yield browser
        finally:
            browser.close()


@frozen
class Screen:
    """
    What a page is shown on.

    :ivar width: in CSS pixels, like the height.
    """

    width: int
    height: int
    is_mobile: bool = False
    is_dark: bool = False


@define
class Page:
    """
    A page. Made by :meth:`Chromium.page`.

    :ivar context: the profile that it is in.
    """

    _browser: Chromium
    _session: str
    context: str
    _begin: int = field(init=False)

    def begin(self) -> None:
        """Have it tell what happens in it."""
        self._begin = len(self._browser.events)
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self.call(f"{domain}.enable")
        # Otherwise only one page of the browser has the focus, and others get fewer frames.
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    def call(self, method: str, **parameters: Any) -> Any:
        """As :meth:`Chromium.call`."""
        return self._browser.call(method, self._session, **parameters)

    def events(self, method: str) -> list[Message]:
        """The parameters of all such events until now."""
        mine = (each for each in self._browser.events[self._begin :] if each.get("sessionId") == self._session)
        return [each["params"] for each in mine if each["method"] == method]

    def navigate(self, url: str) -> None:
        """Go there, and wait until the document and what it embeds is loaded."""
        since = len(self._browser.events)
        answer = self.call("Page.navigate", url=url)
        if "errorText" in answer:
            raise BrowserError(f"{url}: {answer['errorText']}")
        self._browser.wait_for("Page.loadEventFired", since)

    def evaluate(self, script: str) -> Any:
        """
        What an expression is worth in the page; if it is a promise, what comes of it.

        :raises BrowserError: with the page's exception.
        """
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise BrowserError(_words_of(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def complaints(self) -> list[str]:
        """What went wrong in the page: exceptions, console errors, failed requests, violations of its policy."""
        return [
            *(_words_of(each["exceptionDetails"]) for each in self.events("Runtime.exceptionThrown")),
            *(
                " ".join(str(argument.get("value", argument.get("description"))) for argument in each["args"])
                for each in self.events("Runtime.consoleAPICalled")
                if each["type"] in {"error", "warning", "assert"}
            ),
            *(
                f"{entry['text']} {entry.get('url', '')}"
                for entry in (each["entry"] for each in self.events("Log.entryAdded"))
                if entry["level"] in {"error", "warning"}
            ),
            *(
                f"{each['type']}: {each['errorText']}"
                for each in self.events("Network.loadingFailed")
                # A player that has seen enough leaves its request, and a link to a file leads to no document.
                if not each.get("canceled")
            ),
            *(
                str(issue["details"])
                for issue in (each["issue"] for each in self.events("Audits.issueAdded"))
                if issue["code"] == "ContentSecurityPolicyIssue"
            ),
        ]

    def show_on(self, screen: Screen) -> None:
        """Lay it out for a screen."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=screen.width,
            height=screen.height,
            deviceScaleFactor=1,
            mobile=screen.is_mobile,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if screen.is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self) -> bytes:
        """All of the page, also what is below the screen's end, as PNG."""
        # What has just changed, players' controls too, is drawn in the frames that come.
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(answer["data"])

    def element(self, script: str) -> "Element":
        """The element that an expression is for."""
        return Element(self, self.call("Runtime.evaluate", expression=script)["result"]["objectId"])

    def elements(self, role: str) -> "list[Element]":
        """All elements of an accessible role, in the document's order."""
        nodes = self.call("Accessibility.queryAXTree", objectId=self.element("document").reference, role=role)["nodes"]
        resolved = (
            self.call("DOM.resolveNode", backendNodeId=node["backendDOMNodeId"])
            for node in nodes
            if not node["ignored"]
        )
        return [Element(self, each["object"]["objectId"]) for each in resolved]

    def press_tab(self) -> None:
        """Press and release the Tab key."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)

    def download(self, directory: Path, start: Callable[[], object]) -> Path:
        """
        Wait for a download to complete.

        :param directory: an empty one, to put it in.
        :param start: does what starts it.
        :return: the file, under the name that Chromium gave it.
        """
        self._browser.call(
            "Browser.setDownloadBehavior",
            behavior="allow",
            browserContextId=self.context,
            downloadPath=str(directory),
            eventsEnabled=True,
        )
        since = len(self._browser.events)
        start()
        guid = self._browser.wait_for("Browser.downloadWillBegin", since)["guid"]
        end = self._browser.wait_for(
            "Browser.downloadProgress", since, lambda event: event["guid"] == guid and event["state"] != "inProgress"
        )
        assert end["state"] == "completed", end
        (file,) = directory.iterdir()
        return file


@frozen
class Element:
    """
    An element of a page.

    :ivar reference: as the protocol has it.
    """

    _page: Page
    reference: str

    @property
    def name(self) -> str:
        """What it is called to whom the page is read out."""
        answer = self._page.call("Accessibility.getPartialAXTree", objectId=self.reference, fetchRelatives=False)
        name: str = answer["nodes"][0].get("name", {}).get("value", "")
        return name

    def do(self, body: str) -> Any:
        """What a function returns whose ``this`` it is."""
        answer = self._page.call(
            "Runtime.callFunctionOn",
            objectId=self.reference,
            functionDeclaration=f"function() {{ {body} }}",
            returnByValue=True,
        )
        if "exceptionDetails" in answer:
            raise BrowserError(_words_of(answer["exceptionDetails"]))
        return answer["result"].get("value")


def _words_of(details: Message) -> str:
    """Of an exception."""
    words: str = details.get("exception", {}).get("description") or details["text"]
    return words
