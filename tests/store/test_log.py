"""Requests in the store's log: without their query, and without a traceback for odd bytes."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
from twisted.logger import LogEvent, formatEvent
from twisted.web.test.requesthelper import DummyChannel

from tests.gateway.house import logged
from tests.store.serving import AUTHORIZATION, ServedStore, in_reactor
from txcouchdl.store.web import StoreRequest

_SECRET = "SECRET"


@pytest.fixture
def events() -> Iterator[list[LogEvent]]:
    """Events that are logged until the test ends."""
    with logged() as events:
        yield events


def _text(events: list[LogEvent]) -> str:
    """The log, with the tracebacks of failures."""
    failures = [event["log_failure"].getTraceback() for event in events if "log_failure" in event]
    return "\n".join([*map(formatEvent, events), *failures])


@pytest.mark.parametrize("authorization", [None, AUTHORIZATION, "Basic YWRtOng="])
@pytest.mark.parametrize("method", ["HEAD", "GET", "PUT", "DELETE", "OPTIONS", "FOO"])
@in_reactor
async def test_no_query_is_logged(
    served: ServedStore, events: list[LogEvent], method: str, authorization: str | None
) -> None:
    await served.ask("PUT", "/db")
    for path in (
        "/",
        "/db",
        "/db/doc",
        "/db/doc/file",
        "/db/_find",
        "/db/%zz",
        "/_session",
        "/db/_compact",
        "/db/_local",
    ):
        await served.ask(method, f"{path}?token={_SECRET}", None, authorization)
    text = _text(events)
    assert f'"{method} /db/doc HTTP/1.1"' in text
    assert _SECRET not in text
    assert "Traceback" not in text
    assert "message body" not in text


@pytest.mark.parametrize("authorization", [None, AUTHORIZATION])
@pytest.mark.parametrize("method", ["HEAD", "GET", "PUT"])
@in_reactor
async def test_any_byte_in_a_target(
    served: ServedStore, events: list[LogEvent], method: str, authorization: str | None
) -> None:
    fields = "" if authorization is None else f"Authorization: {authorization}\r\n"
    for byte in range(128, 256, 5):
        for target in (b"/%b?token=SECRET", b"/db/%b", b"/db/doc/%b?x", b"/?token=%bSECRET", b"%b"):
            head = method.encode() + b" " + target % bytes([byte])
            await served.send(head + f" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n".encode())
    text = _text(events)
    assert f'"{method} /\\x80 HTTP/1.1" 40' in text
    assert _SECRET not in text
    assert "Traceback" not in text
    assert "Unable to format" not in text


@in_reactor
async def test_no_password_in_a_target_is_logged(served: ServedStore, events: list[LogEvent]) -> None:
    for scheme in ("http", "HTTPS"):
        await served.ask("GET", f"{scheme}://adm:{_SECRET}@host:1/db/a@b//c@d")
    text = _text(events)
    assert '"GET http://host:1/db/a@b//c@d HTTP/1.1"' in text
    assert _SECRET not in text


@pytest.mark.parametrize("target", [b"/db/doc?token=SECRET", b"/\x81?token=SECRET", b"http://adm:SECRET@host/\xff"])
def test_twisted_web_may_log_a_request(target: bytes) -> None:
    """Its own messages have the request's repr."""
    shown: StoreRequest = cast(Any, StoreRequest)(DummyChannel(), False)
    assert repr(shown).startswith("<StoreRequest ")
    shown.method, shown.uri, shown.clientproto = b"GET", target, b"HTTP/1.1"
    assert _SECRET not in repr(shown)
    assert "GET " in repr(shown)
