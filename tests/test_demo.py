"""The demo: put into a store once, over its HTTP API, and the addresses that lead to it."""

from collections.abc import Callable, Iterator
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pytest_twisted import blockon, ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.web.client import Agent

from tests.store.serving import ADMIN, ServedStore
from txcouchdl import demo
from txcouchdl.couch.names import AttachmentAddress, DocumentAddress, parse_address
from txcouchdl.couch.nodes import Node
from txcouchdl.gateway.facts import parse_query
from txcouchdl.gateway.tokens import TokenRule

MEDIA = {
    "story.txt": "text/plain; charset=utf-8",
    "melody.mp3": "audio/mpeg",
    "countdown.mp4": "video/mp4",
}
DOCUMENT = "/demo/tour"

Fill = Callable[..., Deferred[None]]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ServedStore]:
    """A store that is served until the test ends."""
    served = ServedStore.start(tmp_path / "store", reactor)
    yield served
    blockon(served.stop())


@pytest.fixture
def fill(store: ServedStore) -> Fill:
    """Fills the store with the demo."""

    def filling(key: str = "download_token", password: str = ADMIN.password) -> Deferred[None]:
        node = Node.of(f"http://127.0.0.1:{store.port}", ADMIN.name, password)
        return Deferred.fromCoroutine(demo.fill(node, TokenRule(key), Agent(reactor)))

    return filling


async def document(store: ServedStore) -> Any:
    response = await store.ask("GET", DOCUMENT)
    assert response.status == 200
    return response.json


async def assert_complete(store: ServedStore) -> None:
    """Each medium is there, byte for byte."""
    assert set((await document(store))["_attachments"]) == set(MEDIA)
    for name, content_type in MEDIA.items():
        response = await store.ask("GET", f"{DOCUMENT}/{name}")
        expected = (files(demo) / "media" / name).read_bytes()
        assert (response.status, response.headers["content-type"]) == (200, content_type)
        assert sha256(response.body).digest() == sha256(expected).digest()


@ensureDeferred
async def test_fill(store: ServedStore, fill: Fill) -> None:
    await fill()
    assert (await document(store))["download_token"] == demo.TOKEN
    await assert_complete(store)


@ensureDeferred
async def test_fill_again(store: ServedStore, fill: Fill) -> None:
    await fill()
    before = await document(store)
    await fill()
    assert await document(store) == before, "not a revision more"


@ensureDeferred
async def test_fill_what_was_filled_halfway(store: ServedStore, fill: Fill) -> None:
    await fill()
    for name in ("story.txt", "countdown.mp4"):
        rev = (await document(store))["_rev"]
        assert (await store.ask("DELETE", f"{DOCUMENT}/{name}?rev={rev}")).status == 200
    await fill()
    await assert_complete(store)


@ensureDeferred
async def test_fill_a_database_that_is_there(store: ServedStore, fill: Fill) -> None:
    assert (await store.ask("PUT", "/demo")).status == 201
    await fill()
    await assert_complete(store)


@ensureDeferred
async def test_fill_where_the_document_was_deleted(store: ServedStore, fill: Fill) -> None:
    await fill()
    rev = (await document(store))["_rev"]
    assert (await store.ask("DELETE", f"{DOCUMENT}?rev={rev}")).status == 200
    await fill()
    await assert_complete(store)


@ensureDeferred
async def test_fill_leaves_alone_what_somebody_changed(store: ServedStore, fill: Fill) -> None:
    await fill()
    rev = (await document(store))["_rev"]
    changed = await store.ask("PUT", f"{DOCUMENT}/story.txt?rev={rev}", b"mine", content_type="text/plain")
    assert changed.status == 201
    before = await document(store)
    await fill()
    assert await document(store) == before
    assert (await store.ask("GET", f"{DOCUMENT}/story.txt")).body == b"mine"


@ensureDeferred
async def test_another_key_opens_a_demo_that_is_there(store: ServedStore, fill: Fill) -> None:
    await fill()
    await fill("data.secret")
    fields = await document(store)
    assert all(TokenRule(key).allows(fields, demo.TOKEN.encode()) for key in ("download_token", "data.secret"))
    await assert_complete(store)


@pytest.mark.parametrize("key", ["secret", "data.download_token", "a.b.c.d", "ключ", 'quo"te', "with space"])
@ensureDeferred
async def test_the_secret_is_where_the_key_leads(store: ServedStore, fill: Fill, key: str) -> None:
    await fill(key)
    fields = await document(store)
    assert TokenRule(key).allows(fields, demo.TOKEN.encode())
    value: Any = fields
    for name in key.split("."):
        value = value[name]
    assert value == demo.TOKEN


@ensureDeferred
async def test_a_store_that_does_not_let_us_in(store: ServedStore, fill: Fill) -> None:
    with pytest.raises(demo.DemoFailed, match="401") as caught:
        await fill(password="not-the-password")
    assert "not-the-password" not in str(caught.value)
    assert (await store.ask("GET", "/_all_dbs")).json == []


@ensureDeferred
async def test_a_document_that_we_may_not_read(store: ServedStore, fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is there answers 412 to its making; what the document answers then counts."""
    await fill()
    monkeypatch.setattr("txcouchdl.demo.document_path", lambda *_: "/demo/_local/tour")
    with pytest.raises(demo.DemoFailed):
        await fill()


@pytest.mark.parametrize("gateway", ["http://127.0.0.1:8000", "https://[::1]:8443", ""])
def test_links_lead_to_the_demo(gateway: str) -> None:
    links = list(demo.links(gateway))
    # The page first, and the others in the order in which one would try them.
    expected = [DocumentAddress("demo", "tour"), *(AttachmentAddress("demo", "tour", name) for name in MEDIA)]
    assert all(link.isascii() and link.startswith(f"{gateway}/") for link in links)
    parts = [urlsplit(link) for link in links]
    assert [parse_address(part.path.encode()) for part in parts] == expected
    for part in parts:
        assert parse_query(part.query.encode()) == {b"token": [demo.TOKEN.encode()]}
        assert part.fragment == ""


def test_links_quote_names(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "100% a/b?ü #1.txt"
    monkeypatch.setattr("txcouchdl.demo._MEDIA", {name: "text/plain"})
    _, link = demo.links("http://h")
    assert link.isascii()
    assert parse_address(urlsplit(link).path.encode()) == AttachmentAddress("demo", "tour", name)


@pytest.mark.parametrize("name", MEDIA)
def test_the_media_are_worth_seeking_in(name: str) -> None:
    """There is a middle to seek to, and a second half to resume."""
    assert len((files(demo) / "media" / name).read_bytes()) >= 32_000
