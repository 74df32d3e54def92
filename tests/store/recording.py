"""
The recorded exchanges with a real CouchDB, and how one of them is compared with our answer.

``recorded/exchanges.json`` is the recording of FINDINGS, trimmed: of exchanges that the store does not cover only the
ids are kept, of answers only what is compared, and of large bodies only how to make them again.

Revision ids are compared like all else: the store computes them as CouchDB does.
"""

import hashlib
import json
from base64 import b64decode
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from attrs import field, frozen

from tests.store.serving import AUTHORIZATION, Response

_RECORDED_HOST = "127.0.0.1:5984"

#: The headers that clients use, where they are compared: a header that is absent there must be absent here.
COMPARED_HEADERS = (
    "accept-ranges",
    "allow",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-security-policy",
    "content-type",
    "etag",
    "location",
    "transfer-encoding",
    "www-authenticate",
)

GENERATORS: Mapping[str, Callable[[], bytes]] = {
    "v.mp4": lambda: Random(5984).randbytes(1 << 20),
    "a.mp3": lambda: Random(31).randbytes(40000),
    "t100k.txt": lambda: b"".join(
        b"line %06d: all work and no play makes jack a dull boy\n" % number for number in range(3000)
    )[:102400],
}


@frozen
class Expectation:
    """
    What is compared.

    :ivar json: the parsed body, where it is JSON of CouchDB's own; otherwise ``None``.
    :ivar sha256: of the body.
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    json: Any = field(repr=False)
    sha256: str


@frozen
class Recorded:
    """One exchange."""

    id: str
    what: str
    request: Mapping[str, Any] | None
    response: Mapping[str, Any] | None


def load() -> list[Recorded]:
    """All exchanges, in the order in which they were recorded."""
    text = (Path(__file__).parent / "recorded" / "exchanges.json").read_text("ascii")
    return [
        Recorded(entry["id"], entry["what"], entry.get("request"), entry.get("response"))
        for entry in json.loads(text)["exchanges"]
    ]


def raw_request(recorded: Recorded, generated: Mapping[str, bytes]) -> bytes:
    """
    The request as it was on the wire.

    :param generated: the bodies that the recording only names.
    """
    asked = recorded.request
    assert asked is not None
    fields = [(name, value) for name, value in asked["headers"]]
    if "anonymous" not in asked and not any(name == "Authorization" for name, _ in fields):
        fields.append(("Authorization", AUTHORIZATION))
    body = _body(asked.get("body"), generated)
    if body is not None and "chunks" not in asked:
        length = 100 if asked.get("half_close_after_body") else len(body)
        fields.append(("Content-Length", str(length)))
    version = asked.get("version", "HTTP/1.1")
    if version == "HTTP/1.1":
        fields += [("Host", _RECORDED_HOST), ("Connection", "close")]
    lines = [f"{asked['method']} {asked['path']} {version}"]
    head = "\r\n".join([*lines, *(f"{name}: {value}" for name, value in fields), "", ""]).encode()
    return head + (body or b"" if "chunks" not in asked else _chunked(body or b"", asked))


def _body(body: Mapping[str, str] | None, generated: Mapping[str, bytes]) -> bytes | None:
    if body is None:
        return None
    return generated[body["generator"]] if "generator" in body else b64decode(body["base64"])


def _chunked(body: bytes, asked: Mapping[str, Any]) -> bytes:
    framed = b""
    for size in asked["chunks"]:
        chunk, body = body[:size], body[size:]
        framed += b"%x\r\n%b\r\n" % (len(chunk), chunk)
    trailers = "".join(f"{trailer}\r\n" for trailer in asked.get("trailers", ()))
    return framed + b"0\r\n" + trailers.encode() + b"\r\n"


def expectation(recorded: Recorded) -> Expectation:
    """What CouchDB answered."""
    answered = recorded.response
    assert answered is not None
    text = answered.get("text")
    return _compared(
        answered["status"],
        answered["reason"],
        answered["headers"],
        json.loads(text) if text else None,
        answered.get("sha256", ""),
    )


def observation(response: Response) -> Expectation:
    """What we answered."""
    is_json = response.headers.get("content-type") == "application/json" and response.body != b""
    try:
        parsed = json.loads(response.body) if is_json else None
    except ValueError:
        parsed = None
    digest = hashlib.sha256(response.body).hexdigest()
    return _compared(response.status, response.reason, response.headers, parsed, digest)


def _compared(status: int, reason: str, headers: Mapping[str, str], parsed: Any, sha256: str) -> Expectation:
    kept = {name: value for name, value in headers.items() if name in COMPARED_HEADERS}
    # 304: CouchDB says 0, which is not the length of what it stands for (RFC 9110, section 8.6).
    if status == 304:
        kept.pop("content-length", None)
    # An attachment is compared byte for byte even if it is JSON; CouchDB's own JSON may be written differently.
    if "content-security-policy" in kept or parsed is None:
        return Expectation(status, reason if status == 404 else "", kept, None, sha256)
    kept.pop("content-length", None)
    return Expectation(status, reason if status == 404 else "", kept, parsed, "")
