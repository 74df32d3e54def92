"""
The gateway before express-pouchdb 4.2.0 (PouchDB 9.0.0), as it was recorded in ``express_pouchdb.json``.

It knows no ``att_encoding_info``, no ``/_up`` and no ranges, stores attachments as they are, and tells their digest and
length as CouchDB does.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.house import TOKEN, Answer, House
from tests.scripted import Asked, Script
from txcouchdl.couch.health import State
from txcouchdl.couch.limits import UpstreamLimits

RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("express_pouchdb.json").read_text("utf-8"))
CONTENT = {
    "f.bin": bytes(range(256)) * 40,
    "t.txt": b"".join(b"line %d\n" % number for number in range(1000)),
    "empty": b"",
}
REV = json.loads(RECORDED["/db/doc"]["plain"]["body"])["_rev"]


def played(target: str, kind: str = "plain") -> bytes:
    """An answer as it was recorded. Those of attachments were recorded without their bodies."""
    entry = RECORDED[target][kind]
    body = CONTENT[target.removeprefix("/db/doc/")] if "body" not in entry else entry["body"].encode()
    return "\r\n".join([*entry["head"], "", ""]).encode() + body


def respond(asked: Asked) -> Script:
    if asked.path.startswith("/db/doc/") and f"rev={REV}" not in asked.target:
        return [played("missing revision")]
    closing = asked.headers.get("connection") == "close"
    kind = "closing" if closing else "ranged" if "range" in asked.headers else "plain"
    return [played(asked.path, kind)]


def house_of(limits: UpstreamLimits) -> House:
    house = House(limits=limits)
    house.node.faults = respond
    house.node.up = (played("/_up"),)
    return house


@pytest.fixture(params=[UpstreamLimits(), UpstreamLimits(short=0)], ids=["in one piece", "streamed"])
def house(request: pytest.FixtureRequest) -> House:
    return house_of(request.param)


def sliced(got: Answer, content: bytes) -> bytes:
    first, _, last = got["Content-Range"].removeprefix("bytes ").partition("/")[0].partition("-")
    return content[int(first) : int(last) + 1]


@pytest.mark.parametrize("name", CONTENT)
def test_all_of_an_attachment(house: House, name: str) -> None:
    for _ in range(2):
        got = house.get(name)
        assert (got.status, got.is_whole, got.body) == (200, True, CONTENT[name])
        assert (got["Accept-Ranges"], got["Content-Length"]) == ("bytes", str(len(CONTENT[name])))
    assert house.ask(f"/db/doc/{name}?token={TOKEN}", method="HEAD")["ETag"] == got["ETag"]
    assert house.get(name, If_None_Match=got["ETag"]).status == 304
    house.assert_at_rest()


@pytest.mark.parametrize("name", ["f.bin", "t.txt"])
@pytest.mark.parametrize(
    "range_", ["bytes=0-", "bytes=0-0", "bytes=100-4199", "bytes=5000-", "bytes=-7", "bytes=8000-8009"]
)
def test_a_range(house: House, name: str, range_: str) -> None:
    etag = house.get(name)["ETag"]
    for condition in ({}, {"If-Range": etag}, {"If-Match": etag}):
        got = house.get(name, range_, **condition)
        assert (got.status, got.is_whole, got["Accept-Ranges"]) == (206, True, "bytes")
        assert got.body == sliced(got, CONTENT[name])
    house.assert_at_rest()


def test_several_ranges(house: House) -> None:
    got = house.get("f.bin", "bytes=5-9,9000-9009")
    assert got.status == 206
    assert CONTENT["f.bin"][5:10] in got.body
    assert CONTENT["f.bin"][9000:9010] in got.body
    house.assert_at_rest()


def test_a_long_attachment_has_no_ranges() -> None:
    house = house_of(UpstreamLimits(most_skipped=10_000))
    for range_ in ("bytes=5-9", "bytes=5-9", "bytes=-5", None):
        got = house.get("f.bin", range_)
        assert (got.status, got["Accept-Ranges"], got.body) == (200, "none", CONTENT["f.bin"])
    assert house.get("t.txt", "bytes=5-9").status == 206


@pytest.mark.parametrize("target", ["/db/none/f.bin", "/none/doc/f.bin", "/db/doc/f.bin"])
def test_what_does_not_open(house: House, target: str) -> None:
    token = "wrong" if target == "/db/doc/f.bin" else TOKEN
    house.node.faults = lambda asked: [played(asked.path)]
    assert house.ask(f"{target}?token={token}").status == 403


def test_what_is_not_there(house: House) -> None:
    assert house.get("none").status == 404
    house.assert_at_rest()


def test_a_node_without_up_counts_as_up(house: House) -> None:
    """It is asked when it has failed; that it does not know the question is no sign of anything."""
    house.node.faults = lambda _: []
    client = house.send(f"/db/doc/f.bin?token={TOKEN}")
    house.network.run()
    for _, far in house.network.connections:
        if far.address.port == 5984:
            far.abortConnection()
    house.network.run()
    assert house.node.probes
    assert house.cluster._members[0].health.state is State.UP
    house.node.faults = respond
    house.network.pass_time(40)
    assert client.received
    assert house.get("f.bin").body == CONTENT["f.bin"]
    house.assert_at_rest()
