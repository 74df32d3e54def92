"""
Real servers to test against, over loopback: the embedded store, and a CouchDB where ``COUCHDB_URL`` names one.
"""

import json
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from attrs import frozen
from treq.client import HTTPClient
from twisted.internet import reactor as _reactor
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers

from txcouchdl.couch.names import AttachmentAddress, attachment_path, document_path, quote_segment
from txcouchdl.couch.nodes import Node
from txcouchdl.couch.wire.line import Lines
from txcouchdl.store.app import store_site
from txcouchdl.store.credentials import Credentials
from txcouchdl.store.store import Store

reactor: Any = _reactor


@frozen
class Server:
    """
    A server with one fresh database, and a hand to write into it.

    :ivar database: its name; ours alone.
    """

    node: Node
    lines: Lines
    database: str
    _client: HTTPClient

    async def call(
        self, method: str, path: str, body: bytes = b"", expected: int | None = None, **headers: str
    ) -> dict[str, Any]:
        """A request as the admin; the JSON that comes back."""
        fields = {name.replace("_", "-"): [value] for name, value in headers.items()}
        fields.setdefault("Content-Type", ["application/json"])
        response = await self._client.request(
            method,
            self.node.base + path,
            data=body,
            headers=Headers({"Authorization": [self.node.authorization or ""], **fields}),
        )
        answer: dict[str, Any] = json.loads(await response.content() or b"{}")
        assert expected is None or response.code == expected, (method, path, response.code, answer)
        return answer

    async def put_document(self, document_id: str, fields: dict[str, Any]) -> str:
        """:return: the revision."""
        path = document_path(self.database, document_id)
        rev: str = (await self.call("PUT", path, json.dumps(fields).encode(), 201))["rev"]
        return rev

    async def put_attachment(
        self, document_id: str, name: str, body: bytes, rev: str, content_type: str, **headers: str
    ) -> str:
        """:return: the revision."""
        path = attachment_path(AttachmentAddress(self.database, document_id, name)) + f"?rev={quote(rev)}"
        answer = await self.call("PUT", path, body, 201, Content_Type=content_type, **headers)
        new: str = answer["rev"]
        return new

    async def delete_document(self, document_id: str, rev: str) -> str:
        path = document_path(self.database, document_id) + f"?rev={quote(rev)}"
        deleted: str = (await self.call("DELETE", path, expected=200))["rev"]
        return deleted

    async def compact(self, document_id: str, gone: str) -> None:
        """
        Compact until a revision is gone: in a cluster, from every copy of its shard.

        Each copy is compacted in its own time, and one that has not seen the newest revision by then keeps the old one.
        A read that waits for the answers of all copies finds the revision if one of them has it.
        """
        database = f"/{quote_segment(self.database)}"
        copies = (await self.call("GET", database)).get("cluster", {}).get("n", 1)
        path = f"{document_path(self.database, document_id)}?rev={quote(gone)}&r={copies}"
        for turn in range(1200):
            if turn % 20 == 0:
                await self.call("POST", f"{database}/_compact", expected=202)
            if (await self.call("GET", path)).get("error") == "not_found":
                return
            await _a_moment()
        raise AssertionError("the revision is still there")


async def _a_moment() -> None:
    """Another server's compaction cannot be waited for but by asking again."""
    from twisted.internet.task import deferLater

    await deferLater(reactor, 0.05)


@asynccontextmanager
async def _database(node: Node) -> AsyncIterator[Server]:
    lines = Lines(reactor)
    hand = HTTPClient(Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False)))
    server = Server(node, lines, f"couchdl-test-{secrets.token_hex(8)}", hand)
    await server.call("PUT", f"/{server.database}", expected=201)
    try:
        yield server
    finally:
        await server.call("DELETE", f"/{server.database}", expected=200)
        await lines.close()


@asynccontextmanager
async def embedded_store(directory: Path) -> AsyncIterator[Server]:
    """The embedded store, in this process, on a port of its own."""
    store = Store.open(directory, reactor)
    site = store_site(store, Credentials("admin", "pass word:é"), reactor)
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    try:
        async with _database(Node.of(f"http://127.0.0.1:{port.getHost().port}", "admin", "pass word:é")) as server:
            yield server
    finally:
        await port.stopListening()
        store.close()


@asynccontextmanager
async def outside_couchdb() -> AsyncIterator[Server]:
    """The CouchDB that ``COUCHDB_URL`` names, with an admin's credentials."""
    async with _database(Node.parse(os.environ["COUCHDB_URL"])) as server:
        yield server
