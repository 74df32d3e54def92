"""
The demo: a document with a text, a sound and a video, put into the embedded store over its HTTP API.

How the media were made is told in ``docs/make_demo_media.py``, which made them.
"""

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, Final

from hyperlink import EncodedURL
from treq.client import HTTPClient
from twisted.web.iweb import IAgent

from txcouchdl.couch.names import AttachmentAddress, attachment_path, document_path
from txcouchdl.couch.nodes import Node
from txcouchdl.gateway.tokens import TokenRule

#: The secret in the demo's document. No secret at all: it is for the demo's own media, and stands in the README.
TOKEN: Final = "open-sesame"  # noqa: S105

_DATABASE: Final = "demo"
_DOCUMENT: Final = "tour"
_MEDIA: Final = {
    "story.txt": "text/plain; charset=utf-8",
    "melody.mp3": "audio/mpeg",
    "countdown.mp4": "video/mp4",
}


class _ReadyURL(EncodedURL):
    """A URL that goes out as it stands. treq would pass its host through IDNA, which knows no IPv6 addresses."""

    def __init__(self, text: str) -> None:
        self._text = text

    def to_uri(self) -> "_ReadyURL":
        return self

    def to_text(self, with_password: bool = False) -> str:
        return self._text


class DemoFailed(Exception):
    """The store did not take the demo."""


async def fill(node: Node, rule: TokenRule, agent: IAgent) -> None:
    """
    Put the demo's document where it is not yet; of what is there, only see to it that the secret opens it.

    :param node: with the rights of an admin.
    :param rule: says where the secret belongs.
    :raises DemoFailed: if the store answers otherwise than it should.
    """
    filler = _Filler(node, HTTPClient(agent))
    await filler.put(f"/{_DATABASE}", b"", {201, 412})
    path = document_path(_DATABASE, _DOCUMENT)
    document = await filler.get(path) or {}
    if not rule.allows(document, TOKEN.encode("ascii")):
        document |= _nested(rule.key, TOKEN)
        document["_rev"] = (await filler.put(path, json.dumps(document).encode("ascii"), {201}))["rev"]
    for name, content_type in _MEDIA.items():
        if name not in document.get("_attachments", {}):
            media = (files(__name__) / "media" / name).read_bytes()
            address = AttachmentAddress(_DATABASE, _DOCUMENT, name)
            target = f"{attachment_path(address)}?rev={document['_rev']}"
            document["_rev"] = (await filler.put(target, media, {201}, content_type))["rev"]


def links(gateway: str) -> Iterator[str]:
    """
    The address of the document's page, and those of its attachments.

    :param gateway: the URL of the gateway, without a slash at its end.
    """
    yield f"{gateway}{document_path(_DATABASE, _DOCUMENT)}/?token={TOKEN}"
    for name in _MEDIA:
        yield f"{gateway}{attachment_path(AttachmentAddress(_DATABASE, _DOCUMENT, name))}?token={TOKEN}"


def _nested(key: str, value: str) -> dict[str, Any]:
    """A document that has the value where a token key leads to."""
    name, _, rest = key.partition(".")
    return {name: _nested(rest, value) if rest else value}


class _Filler:
    """Talks to the store as its admin."""

    def __init__(self, node: Node, client: HTTPClient) -> None:
        self._node = node
        self._client = client

    async def get(self, path: str) -> dict[str, Any] | None:
        response = await self._client.get(_ReadyURL(self._node.base + path), headers=self._headers("application/json"))
        body: dict[str, Any] = json.loads(await response.content())
        if response.code == 404:
            return None
        if response.code != 200:
            raise DemoFailed(f"{path}: {response.code}")
        return body

    async def put(
        self, path: str, body: bytes, expected: set[int], content_type: str = "application/json"
    ) -> dict[str, Any]:
        response = await self._client.put(
            _ReadyURL(self._node.base + path), data=body, headers=self._headers(content_type)
        )
        answer: dict[str, Any] = json.loads(await response.content())
        if response.code not in expected:
            raise DemoFailed(f"{path}: {response.code}")
        return answer

    def _headers(self, content_type: str) -> dict[str | bytes, str | bytes]:
        return {"Content-Type": content_type, "Authorization": self._node.authorization or ""}
