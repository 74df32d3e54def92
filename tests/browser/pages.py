"""A page of the browser, and what one may ask it, see in it, and do with it."""

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from tests.browser.devtools import BrowserError, Chromium, Message


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
    A page. Made by :func:`new_page`.

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


@contextmanager
def new_page(browser: Chromium) -> Iterator[Page]:
    """A page with a profile of its own: no cache, no cookie, no setting of another page's."""
    context = browser.call("Target.createBrowserContext")["browserContextId"]
    try:
        target = browser.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(browser, session, context)
        page.begin()
        yield page
    finally:
        browser.call("Target.disposeBrowserContext", browserContextId=context)


def _words_of(details: Message) -> str:
    """Of an exception."""
    words: str = details.get("exception", {}).get("description") or details["text"]
    return words
