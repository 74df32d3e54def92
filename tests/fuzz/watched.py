"""A gateway in memory, and what has to hold of it whatever comes."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from attrs import frozen
from twisted.logger import LogEvent, formatEvent

from tests.gateway.house import TOKEN, Client, House, logged
from tests.scripted import Doc, Stored
from txcouchdl.gateway.access_log import LONGEST_LINE
from txcouchdl.gateway.limits import ClientLimits
from txcouchdl.links import Link

#: Seconds since 1970, when a house begins; and when the links to it end.
NOW, END = 1_800_000_000, 1_800_000_600
#: A document's other secret. Both stand in no path, and in no field that is logged.
OTHER: Final = "QXZJ-0ther-QXZJ"

STORED: Final = {
    "f": Stored(bytes(range(256)) * 3, "application/octet-stream"),
    "a/b c.txt": Stored.compressed(b"some text\n" * 300),
    "up.txt": Stored.encoded(Stored.compressed(b"uploaded\n" * 200).stored),
    "empty": Stored(b"", None),
    "é.html": Stored(b"<b>bytes</b>", "text/html; charset=utf-8"),
}
LINK: Final = Link(database="db", document_id="doc", attachment="f", expires=END)

_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


def house_of(**changes: Any) -> House:
    """A gateway with short limits, whose document has one attachment of each kind and two tokens."""
    limits = ClientLimits(header_timeout=5.0, idle_timeout=5.0, client_timeout=20.0)
    house = House(dict(STORED), client_limits=limits, **changes)
    house.doc.fields["download_token"] = [TOKEN, OTHER]
    house.node.docs["/db/_design/d"] = Doc({"download_token": TOKEN}, dict(STORED))
    house.network.rightNow = NOW
    return house


@frozen
class Outcome:
    """
    What became of one connection.

    :ivar statuses: of all answers on it, in their order.
    """

    received: bytes
    statuses: tuple[int, ...]
    is_closed: bool


@contextmanager
def no_mistake(house: House, *secrets: str) -> Iterator[None]:
    """
    See to it that nothing fails meanwhile that is ours, and that the logs can be shown to anybody.

    :param secrets: that are in no log.
    """
    with logged() as events:
        yield
    assert [event for event in events if "log_failure" in event or event.get("isError")] == []
    lines = [*house.log, *map(_text, events)]
    assert [line for line in lines if any(secret in line for secret in secrets)] == []
    assert [line for line in house.log if not (line.isascii() and line.isprintable())] == []
    assert all(len(line) < LONGEST_LINE for line in lines)


def _text(event: LogEvent) -> str:
    return formatEvent(event) or ""


def outcomes(house: House, raws: Sequence[bytes]) -> list[Outcome]:
    """
    Send something on connections of their own, one after the other, and wait for as long as the gateway may.

    All of them have ended then, and nothing is left that waits for something.
    """
    clients = []
    for raw in raws:
        client = house.connect()
        client.transport.write(raw)
        house.network.run()
        clients.append(client)
    house.network.pass_time(40, step=5)
    assert all(client.is_closed for client in clients), "a connection hangs"
    house.assert_at_rest()
    return [_outcome(client) for client in clients]


def _outcome(client: Client) -> Outcome:
    statuses = tuple(int(status) for status in _STATUS.findall(client.received))
    return Outcome(client.received, statuses, client.is_closed)
