"""The whole gateway over loopback sockets, in front of the embedded store and of a real CouchDB where there is one."""

import gzip
import hashlib
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import treq
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults
from twisted.web.http_headers import Headers

from tests.servers import Server, reactor
from txcouchdl.couch.cluster import Cluster
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.gateway.app import Gateway
from txcouchdl.gateway.connections import Connections
from txcouchdl.gateway.limits import ClientLimits
from txcouchdl.gateway.site import GatewaySite
from txcouchdl.gateway.tokens import TokenRule
from txcouchdl.protocol.digests import parse_digest_field

NOISE = random.Random(2).randbytes(1_000_003)
TEXT = "".join(f"{number} über alles\n" for number in range(60_000)).encode()
BODIES = {"noise.bin": NOISE, "text.txt": TEXT, "upload.txt": TEXT, "one.bin": b"1"}

#: Range fields, and the slice of the body that each stands for; ``None`` for all of it.
RANGES: dict[str, slice | None] = {
    "bytes=0-": slice(0, None),
    "bytes=0-0": slice(0, 1),
    "bytes=-1": slice(-1, None),
    "bytes=-1000000000": slice(0, None),
    "bytes=0-1000000000": slice(0, None),
    "bytes=0-,": slice(0, None),
    "bytes=": None,
    "bytes=+1-+3": None,
    "bytes=5": None,
    "items=0-1": None,
}


@asynccontextmanager
async def gateway_before(server: Server) -> AsyncIterator[str]:
    """:return: the URL of a gateway to the document ``d`` of the server's database, in which the bodies are."""
    rev = await server.put_document("d", {"download_token": "t"})
    rev = await server.put_attachment("d", "noise.bin", NOISE, rev, "video/mp4")
    rev = await server.put_attachment("d", "text.txt", TEXT, rev, "text/plain")
    rev = await server.put_attachment(
        "d", "upload.txt", gzip.compress(TEXT), rev, "text/plain", Content_Encoding="gzip"
    )
    await server.put_attachment("d", "one.bin", b"1", rev, "application/octet-stream")
    rule = TokenRule("download_token")
    cluster = Cluster.of([server.node], server.lines, reactor, UpstreamLimits(), kept=rule.kept)
    resource = Gateway(cluster, rule, reactor).app.resource()
    site = GatewaySite(resource, reactor, Connections(ClientLimits(), reactor))
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    try:
        yield f"http://127.0.0.1:{port.getHost().port}/{server.database}/d/"
    finally:
        await port.stopListening()


async def fetch(url: str, **headers: str) -> tuple[int, dict[bytes, bytes], bytes]:
    fields = Headers({name.replace("_", "-"): [value] for name, value in headers.items()})
    response = await treq.get(f"{url}?token=t", headers=fields, persistent=False, timeout=60)
    body = await response.content()
    return response.code, {name: values[0] for name, values in response.headers.getAllRawHeaders()}, body


@ensureDeferred
async def test_every_attachment_whole_and_in_every_range(server: Server) -> None:
    async with gateway_before(server) as url:
        for name, expected in BODIES.items():
            status, headers, body = await fetch(url + name)
            assert (status, body) == (200, expected)
            for range_, wanted in RANGES.items():
                status, headers, body = await fetch(url + name, Range=range_)
                assert (status, body) == (200 if wanted is None else 206, expected[wanted or slice(None)]), (
                    name,
                    range_,
                )
            status, headers, _ = await fetch(url + name, Range=f"bytes={len(expected)}-")
            assert (status, headers[b"Content-Range"]) == (416, b"bytes */%d" % len(expected))


@ensureDeferred
async def test_whatever_is_told_of_all_bytes_is_right(server: Server) -> None:
    """Of the real storages, before and after something could be learned of them."""
    algorithms = {name: set[str]() for name in BODIES}
    async with gateway_before(server) as url:
        for range_ in ("bytes=0-0", "bytes=5-", "bytes=0-", "bytes=0-0,-1"):
            for name, body in BODIES.items():
                _, headers, _ = await fetch(url + name, Range=range_)
                told = parse_digest_field(headers.get(b"Repr-Digest", b"").decode())
                right = {"sha-256": hashlib.sha256(body).digest(), "md5": hashlib.md5(body).digest()}
                assert told.items() <= right.items()
                algorithms[name] |= told.keys()
        _, page = await follow(f"{url}?token=t")
        listed = {each["name"]: each["repr_digest"].keys() for each in json.loads(page)["attachments"]}
    assert listed == algorithms
    assert all("md5" in algorithms[name] for name in ("noise.bin", "one.bin"))
    assert all({"sha-256"} == algorithms[name] for name in ("text.txt", "upload.txt"))


@ensureDeferred
async def test_many_at_once(server: Server) -> None:
    generator = random.Random(3)
    async with gateway_before(server) as url:
        await fetch(url + "upload.txt")

        async def one(name: str) -> None:
            first = generator.randrange(len(BODIES[name]))
            last = generator.randrange(first, len(BODIES[name]))
            status, _, body = await fetch(url + name, Range=f"bytes={first}-{last}")
            assert (status, body) == (206, BODIES[name][first : last + 1])

        names = ["noise.bin", "text.txt", "upload.txt"] * 12
        await gatherResults([Deferred.fromCoroutine(one(name)) for name in names], consumeErrors=True)


@ensureDeferred
async def test_the_answer_to_a_wrong_token_tells_nothing(server: Server) -> None:
    async with gateway_before(server) as url:
        base = url.removesuffix(f"{server.database}/d/")
        targets = [url + "noise.bin", f"{base}{server.database}/nope/f", f"{base}nope/d/f", f"{base}_users/d/f"]
        answers = [await treq.get(f"{each}?token=wrong", persistent=False) for each in targets]
        assert {each.code for each in answers} == {403}
        assert len({await each.content() for each in answers}) == 1


@ensureDeferred
async def test_conditions(server: Server) -> None:
    async with gateway_before(server) as url:
        for name in BODIES:
            etag = (await fetch(url + name))[1][b"ETag"].decode()
            assert (await fetch(url + name, If_None_Match=etag))[0] == 304
            assert (await fetch(url + name, If_Match='"other"'))[0] == 412
            assert (await fetch(url + name, Range="bytes=0-0", If_Range=etag))[0] == 206
            assert (await fetch(url + name, Range="bytes=0-0", If_Range='"other"'))[0] == 200


async def follow(url: str) -> tuple[int, bytes]:
    """What an address leads to as it is."""
    response = await treq.get(url, persistent=False, timeout=60)
    return response.code, await response.content()


@ensureDeferred
async def test_a_documents_page_leads_to_these_very_bytes(server: Server) -> None:
    async with gateway_before(server) as url:
        status, page = await follow(f"{url}?token=t&pin")
        assert status == 200
        links = {each["name"]: each["url"] for each in json.loads(page)["attachments"]}
        for name, body in BODIES.items():
            assert await follow(links[name]) == (200, body)
        rev = (await server.call("GET", f"/{server.database}/d"))["_rev"]
        await server.put_attachment("d", "noise.bin", b"another", rev, "video/mp4")
        statuses = {name: (await follow(link))[0] for name, link in links.items()}
        assert statuses == dict.fromkeys(BODIES, 200) | {"noise.bin": 412}
