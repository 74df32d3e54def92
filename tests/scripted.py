"""
A CouchDB node that does as it is told: it answers from a model, as CouchDB would, or with a scripted fault.

It speaks HTTP/1.1 over its transport by itself, byte for byte, so that it can break every rule. Answers are lists of
steps: bytes to send, or one of the marks below.
"""

import gzip
import hashlib
import json
from base64 import b64encode
from collections.abc import Callable, Sequence
from enum import Enum
from itertools import count
from typing import Any
from urllib.parse import unquote

from attrs import Factory as Default
from attrs import define, evolve, field
from twisted.internet.protocol import Factory, Protocol

from tests.network import End


class Mark(Enum):
    """What a script does besides sending."""

    CLOSE = "close the connection"
    ABORT = "reset the connection, and lose what is on its way"
    RESET = "reset the connection behind what was sent"
    SILENCE = "say nothing more"


Step = bytes | Mark
Script = Sequence[Step]

#: What CouchDB 3.5.2 writes into the body of an attachment whose transfer dies (FINDINGS, section 0, point 1).
DYING_WORDS = (
    b"HTTP/1.1 500 Internal Server Error\r\nCache-Control: must-revalidate\r\nConnection: close\r\n"
    b"Content-Length: 60\r\nContent-Type: application/json\r\nDate: Sat, 21 Nov 2026 19:24:00 GMT\r\n"
    b"Server: CouchDB/3.5.2 (Erlang OTP/27)\r\nX-Couch-Request-ID: f00dfeed00\r\n"
    b"X-Couch-Stack-Hash: 3029110843\r\nX-CouchDB-Body-Time: 0\r\n\r\n"
    b'{"error":"badmatch","reason":"{badmatch,eof}","ref":30291108}\n'
)

_error_texts = count(1)


def error_text(length: int) -> bytes:
    """
    Make an error text as CouchDB writes it, with a request id of its own.

    :param length: bytes to make it of. Fewer than the shortest text has are its beginning: the connection was cut.
    """
    request_id = b"%010x" % next(_error_texts)
    text = DYING_WORDS.replace(b"f00dfeed00", request_id)
    padding = b"x" * max(0, length - len(text))
    return text.replace(b"badmatch,eof", b"badmatch,eof" + padding)[:length]


@define
class Asked:
    """A request as the node got it."""

    method: str
    target: str
    headers: dict[str, str]

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


def answer(status: int, body: bytes, headers: dict[str, str] | None = None, *, length: int | None = None) -> bytes:
    """A whole answer, framed by Content-Length: the body's own, or a lie."""
    fields = {"Content-Length": str(len(body) if length is None else length), **(headers or {})}
    head = f"HTTP/1.1 {status} Scripted\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return head.encode("latin-1") + b"\r\n" + body


def membership(visible: int, members: int) -> bytes:
    """The answer to ``/_membership`` of a node that sees some of the nodes of its cluster, itself included."""
    names = [f"couchdb@{number}.example.org" for number in range(members)]
    return answer(200, json.dumps({"all_nodes": names[:visible], "cluster_nodes": names}).encode())


@define
class Stored:
    """An attachment of the model: what is stored, and what its stub says."""

    stored: bytes
    content_type: str | None = "application/octet-stream"
    encoding: str | None = None
    length: int | None = None

    @classmethod
    def compressed(cls, identity: bytes, content_type: str = "text/plain") -> "Stored":
        """Compressed by CouchDB. The lengths differ, or CouchDB would take it for one uploaded compressed."""
        return cls(gzip.compress(identity, 8, mtime=0), content_type, "gzip", len(identity))

    @classmethod
    def encoded(cls, stored: bytes, content_type: str = "text/plain") -> "Stored":
        """Uploaded compressed."""
        return cls(stored, content_type, "gzip", len(stored))

    @property
    def etag(self) -> str:
        return b64encode(hashlib.md5(self.stored).digest()).decode()

    @property
    def stub(self) -> dict[str, Any]:
        stub: dict[str, Any] = {
            "content_type": self.content_type,
            "revpos": 1,
            "digest": f"md5-{self.etag}",
            "length": len(self.stored) if self.length is None else self.length,
            "stub": True,
        }
        if self.encoding is not None:
            stub |= {"encoding": self.encoding, "encoded_length": len(self.stored)}
        return stub


@define
class Doc:
    """A revision of a document in the model."""

    fields: dict[str, Any]
    attachments: dict[str, Stored] = Default(dict)
    rev: str = "1-0123456789abcdef0123456789abcdef"

    def json(self, document_id: str) -> bytes:
        body = {"_id": document_id, "_rev": self.rev, **self.fields}
        if self.attachments:
            body.setdefault("_attachments", {name: each.stub for name, each in self.attachments.items()})
        return json.dumps(body).encode()


@define
class ScriptedNode(Factory):
    """
    :ivar docs: by path, such as ``/db/doc``: the current revisions.
    :ivar old_docs: by path and revision: those that are not compacted away.
    :ivar faults: asked first for each request; a script, or ``None`` to let the model answer.
    :ivar up: the answer to ``/_up``.
    :ivar membership: the answer to ``/_membership``.
    :ivar asked: all requests so far, but those for ``/_up`` and ``/_membership``.
    :ivar probes: those for ``/_up``.
    :ivar ignores_ranges: whether the model answers a range with all bytes, as express-pouchdb does.
    """

    docs: dict[str, Doc] = Default(dict)
    old_docs: dict[tuple[str, str], Doc] = Default(dict)
    faults: Callable[[Asked], Script | None] = lambda _: None
    up: Script = (answer(200, b'{"status":"ok","seeds":{}}'),)
    membership: Script = (membership(3, 3),)
    ignores_ranges: bool = False
    asked: list[Asked] = field(factory=list)
    probes: list[Asked] = field(factory=list)

    def buildProtocol(self, addr: object) -> "Protocol":
        return _NodeProtocol(self)

    def respond(self, asked: Asked) -> Script:
        if asked.path == "/_up":
            self.probes.append(asked)
            return self.up
        if asked.path == "/_membership":
            return self.membership
        self.asked.append(asked)
        script = self.faults(asked)
        return [self._model(asked)] if script is None else script

    def _model(self, asked: Asked) -> bytes:
        doc = self._revision(asked.path, asked)
        if doc is not None:
            return answer(200, doc.json(unquote(asked.path.split("/", 2)[2])), {"ETag": f'"{doc.rev}"'})
        path, _, name = asked.path.rpartition("/")
        doc = self._revision(path, asked)
        attachment = doc.attachments.get(unquote(name)) if doc is not None else None
        if attachment is None:
            return answer(404, b'{"error":"not_found","reason":"missing"}\n')
        return attachment_answer(attachment, without_range(asked) if self.ignores_ranges else asked)

    def _revision(self, path: str, asked: Asked) -> Doc | None:
        current = self.docs.get(path)
        rev = _rev(asked)
        if rev is None or (current is not None and rev == current.rev):
            return current
        return self.old_docs.get((path, rev))


def _rev(asked: Asked) -> str | None:
    _, _, query = asked.target.partition("?")
    return next((unquote(pair[4:]) for pair in query.split("&") if pair.startswith("rev=")), None)


def without_range(asked: Asked) -> Asked:
    """The same request, as a node reads it that ignores ranges."""
    return evolve(asked, headers={name: value for name, value in asked.headers.items() if name != "range"})


def attachment_answer(attachment: Stored, asked: Asked, headers: dict[str, str] | None = None) -> bytes:
    """
    As CouchDB answers the GET of an attachment to somebody who asks as we do.

    :param headers: fields to replace.
    """
    fields = {"ETag": f'"{attachment.etag}"'}
    if attachment.encoding == "gzip":
        assert asked.headers["accept-encoding"] == "gzip"
        assert "range" not in asked.headers
        return answer(200, attachment.stored, {**fields, "Content-Encoding": "gzip", **(headers or {})})
    if "range" not in asked.headers:
        return answer(200, attachment.stored, {**fields, **(headers or {})})
    first, last = (int(each) for each in asked.headers["range"].removeprefix("bytes=").split("-"))
    fields["Content-Range"] = f"bytes {first}-{last}/{len(attachment.stored)}"
    return answer(206, attachment.stored[first : last + 1], {**fields, **(headers or {})})


_HOW_TO: dict[Mark, Callable[[End], object]] = {
    Mark.CLOSE: End.loseConnection,
    Mark.ABORT: End.abortConnection,
    Mark.RESET: End.reset_when_sent,
    Mark.SILENCE: lambda _: None,
}


class _NodeProtocol(Protocol):
    """One connection to the node."""

    transport: End

    def __init__(self, node: ScriptedNode) -> None:
        self._node = node
        self._received = b""
        self._is_silent = False

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        while not self._is_silent and b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            asked = _parse(head)
            self._play(self._node.respond(asked), asked)

    def _play(self, script: Script, asked: Asked) -> None:
        for step in script:
            if isinstance(step, bytes):
                self.transport.write(step)
            else:
                self._is_silent = True
                _HOW_TO[step](self.transport)
        if asked.headers.get("connection") == "close" and not self._is_silent:
            self.transport.loseConnection()


def _parse(head: bytes) -> Asked:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        assert name.lower() not in fields, f"{name} was sent twice"
        fields[name.lower()] = value.strip()
    return Asked(method, target, fields)
