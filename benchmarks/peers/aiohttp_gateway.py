"""
A gateway in aiohttp: document, token, stub; conditions and one range; a body that waits for its reader.

``COUCHDB_URL=http://... python aiohttp_gateway.py PORT``, with an access log on standard output.
"""

import asyncio
import hmac
import json
import logging
import os
import re
import sys
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlsplit

from aiohttp import BasicAuth, ClientError, ClientSession, ClientTimeout, TCPConnector, web
from yarl import URL

_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)")
_SESSION = web.AppKey("session", ClientSession)
_NODE = web.AppKey("node", str)


def error(kind: type[web.HTTPException], reason: str) -> web.HTTPException:
    return kind(text=json.dumps({"error": reason}), content_type="application/json")


async def download(request: web.Request) -> web.StreamResponse:
    names = request.match_info
    address = f"{request.app[_NODE]}/{quote(names['database'], '')}/{quote(names['document'], '')}"
    document = await fetch_document(request.app[_SESSION], address)
    token = document.get("download_token")
    given = request.query.get("token", "")
    if not isinstance(token, str) or not hmac.compare_digest(given.encode(), token.encode()):
        raise error(web.HTTPForbidden, "forbidden")
    stub = document.get("_attachments", {}).get(names["attachment"])
    if stub is None:
        raise error(web.HTTPNotFound, "not_found")
    etag = '"{}"'.format(stub["digest"].removeprefix("md5-"))
    headers = {"Accept-Ranges": "bytes", "ETag": etag}
    if etag in [each.strip().removeprefix("W/") for each in request.headers.get("If-None-Match", "").split(",")]:
        return web.Response(status=304, headers=headers)

    length: int = stub["length"]
    wanted = wanted_range(request.headers.get("Range"), length)
    asked = {}
    status = 200
    if wanted is not None:
        first, last = wanted
        if first > last:
            raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{length}"})
        asked["Range"] = f"bytes={first}-{last}"
        headers["Content-Range"] = f"bytes {first}-{last}/{length}"
        status = 206
        length = last - first + 1
    headers |= {"Content-Length": str(length), "Content-Type": stub["content_type"]}
    body = URL(f"{address}/{quote(names['attachment'])}?rev={document['_rev']}", encoded=True)
    async with request.app[_SESSION].get(body, headers=asked) as upstream:
        # CouchDB answers 200 to a range of all bytes.
        if upstream.status not in (200, status) or upstream.content_length != length:
            raise error(web.HTTPBadGateway, "bad_gateway")
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(request)
        async for piece in upstream.content.iter_any():
            await response.write(piece)
        await response.write_eof()
        return response


async def fetch_document(session: ClientSession, address: str) -> dict[str, Any]:
    """The document; an empty one if there is none."""
    try:
        async with session.get(URL(address, encoded=True), headers={"Accept": "application/json"}) as answer:
            if answer.status != 200:
                return {}
            document: dict[str, Any] = await answer.json()
            return document
    except ClientError as lost:
        raise error(web.HTTPBadGateway, "bad_gateway") from lost


def wanted_range(text: str | None, length: int) -> tuple[int, int] | None:
    """First and last position of a single range; ``None`` for the whole; the first behind the last for none at all."""
    found = _RANGE.fullmatch(text or "")
    if found is None or found[0] == "bytes=-":
        return None
    if not found[1]:
        return max(0, length - int(found[2])), length - 1
    last = min(int(found[2]), length - 1) if found[2] else length - 1
    return int(found[1]), last


def application(url: str) -> web.Application:
    parts = urlsplit(url)
    auth = None if parts.username is None else BasicAuth(parts.username, parts.password or "")

    async def session(app: web.Application) -> AsyncIterator[None]:
        connector = TCPConnector(limit=0, keepalive_timeout=60)
        timeout = ClientTimeout(total=None, sock_connect=10, sock_read=60)
        async with ClientSession(auth=auth, connector=connector, timeout=timeout, auto_decompress=False) as made:
            app[_SESSION] = made
            yield

    app = web.Application()
    app[_NODE] = f"{parts.scheme}://{parts.hostname}:{parts.port}"
    app.cleanup_ctx.append(session)
    app.router.add_get("/{database}/{document}/{attachment:.+}", download)
    return app


def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    app = application(os.environ["COUCHDB_URL"])
    web.run_app(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        backlog=4096,
        keepalive_timeout=3600,
        shutdown_timeout=1.0,
        access_log_format='%a %t "%r" %s %b',
        loop=asyncio.new_event_loop(),
        print=None,
    )


if __name__ == "__main__":
    main()
