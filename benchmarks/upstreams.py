"""
What the gateways stand in front of.

*fast* is an nginx that serves a file from memory and documents that look like CouchDB's: it costs next to nothing, so
that the gateways' own cost shows. There are so many documents that nobody asks for one twice at the same time: who
reads it once for several requests would seem to read it in less time. *bounded* is the same, and sends no more than 64
KiB before it is read, so that many stalled streams do not take all memory for sockets. *couchdb* is a real one, as
``COUCHDB_URL`` names it.
"""

import base64
import http.client
import json
import os
import pwd
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from attrs import evolve, frozen

from benchmarks.content import pieces, write_file
from benchmarks.processes import Room, free_port

TOKEN = "open-sesame-and-let-me-in"
DOCUMENT = "doc"
_MEMORY = Path("/dev/shm")
_REVISION = "1-3c5b0e5d2f0c4b6f9d6f8a3e1b7c9d2e"
#: More than there are connections.
_DOCUMENTS = 256


@frozen
class Upstream:
    """
    :ivar kind: ``fast``, ``bounded`` or ``couchdb``.
    :ivar url: with credentials, if it wants any.
    :ivar attachment: the name of the one that is read.
    :ivar length: its length.
    :ivar etag: its ETag, quoted.
    :ivar documents: how many there are that have it.
    """

    kind: str
    url: str
    database: str
    attachment: str
    length: int
    etag: str
    documents: int = 1

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or 80

    @property
    def authorization(self) -> str | None:
        """The Authorization field, if it wants one."""
        parts = urlsplit(self.url)
        if parts.username is None:
            return None
        both = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return "Basic " + base64.b64encode(both.encode()).decode("ascii")

    @property
    def path(self) -> str:
        """The attachment's."""
        return f"/{self.database}/{DOCUMENT}/{self.attachment}"


def document_of(number: int) -> str:
    """The id of a document, the first being number 0."""
    return DOCUMENT if number == 0 else f"{DOCUMENT}{number}"


def nginx_command() -> str | None:
    """Where nginx is; distributions keep it where only root looks."""
    places = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin"
    return shutil.which("nginx", path=places)


def nginx_user() -> str:
    """The directive that lets nginx' workers read our private directory: started by root, they would become nobody."""
    return f"user {pwd.getpwuid(0).pw_name};" if os.getuid() == 0 else ""


#: No tcp_nopush: with it, and loopback's MTU of 65,536, the end of a response of some 62,000 to 130,000 bytes waits
#: 44 ms for an acknowledgement, and that is what would be measured.
_FAST = """
{user}
daemon off;
worker_processes 2;
worker_rlimit_nofile {descriptors};
pid {place}/pid;
error_log {place}/error.log;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    sendfile on;
    etag off;
    if_modified_since off;
    keepalive_requests 1000000000;
    keepalive_timeout 3600s;
    send_timeout 3600s;
    default_type application/octet-stream;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        listen 127.0.0.1:{bounded_port} backlog=4096 sndbuf=64k;
        location = /_up {{ default_type application/json; return 200 '{{"status":"ok"}}'; }}
        location ~ ^/bench/(doc[0-9]*)$ {{
            default_type application/json;
            alias {files}/$1.json;
            add_header ETag '"{revision}"';
        }}
        location ~ ^/bench/doc[0-9]*/(.*)$ {{
            alias {files}/$1;
            add_header ETag '{etag}';
        }}
    }}
}}
"""


@contextmanager
def fast_upstream(room: Room, length: int, descriptors: int) -> Iterator[tuple[Upstream, Upstream]]:
    """
    An nginx with one attachment of this length, in memory if there is room: *fast*, and *bounded*.

    :param descriptors: how many it may have.
    """
    command = nginx_command()
    assert command is not None
    with tempfile.TemporaryDirectory(prefix="couchdl-benchmarks-", dir=_memory(length)) as made:
        files = Path(made)
        name = "file.bin"
        digest = write_file(files / name, length)
        stub = {
            "content_type": "application/octet-stream",
            "revpos": 1,
            "digest": f"md5-{digest}",
            "length": length,
            "stub": True,
        }
        for number in range(_DOCUMENTS):
            document_id = document_of(number)
            document = {"_id": document_id, "_rev": _REVISION, "download_token": TOKEN, "_attachments": {name: stub}}
            (files / f"{document_id}.json").write_text(json.dumps(document) + "\n", "ascii")
        upstream = Upstream("fast", f"http://127.0.0.1:{free_port()}", "bench", name, length, f'"{digest}"', _DOCUMENTS)
        bounded = evolve(upstream, kind="bounded", url=f"http://127.0.0.1:{free_port()}")
        place = room.place("upstream")
        configuration = place / "nginx.conf"
        text = _FAST.format(
            user=nginx_user(),
            descriptors=descriptors,
            place=place,
            files=files,
            port=upstream.address[1],
            bounded_port=bounded.address[1],
            revision=_REVISION,
            etag=upstream.etag,
        )
        configuration.write_text(text, "ascii")
        arguments = ["-p", str(place), "-c", str(configuration), "-e", str(place / "error.log")]
        program = room.start([command, *arguments], place)
        try:
            program.wait_for(lambda: is_up(upstream))
            yield upstream, bounded
        finally:
            room.stop(program)


def _memory(length: int) -> Path | None:
    """Where files are kept in memory, if this one fits; else ``None``: with other temporary files."""
    if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > 2 * length:
        return _MEMORY
    return None


def is_up(upstream: Upstream) -> bool:
    """Whether it answers."""
    connection = http.client.HTTPConnection(*upstream.address, timeout=5)
    try:
        connection.request("GET", "/_up")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@contextmanager
def couchdb(url: str, length: int) -> Iterator[Upstream]:
    """A database of our own in a real CouchDB, with one attachment of this length; deleted at the end."""
    database = f"couchdl-benchmarks-{secrets.token_hex(6)}"
    upstream = Upstream("couchdb", url.rstrip("/"), database, "file.bin", length, "")
    ask(upstream, "PUT", f"/{database}")
    try:
        body = json.dumps({"download_token": TOKEN}).encode()
        revision = ask(upstream, "PUT", f"/{database}/{DOCUMENT}", body)["rev"]
        ask(upstream, "PUT", f"{upstream.path}?rev={revision}", pieces(length), length)
        stub = ask(upstream, "GET", f"/{database}/{DOCUMENT}")["_attachments"]["file.bin"]
        yield Upstream(
            "couchdb", upstream.url, database, "file.bin", length, f'"{stub["digest"].removeprefix("md5-")}"'
        )
    finally:
        ask(upstream, "DELETE", f"/{database}")


def ask(
    upstream: Upstream, method: str, target: str, body: bytes | Iterator[bytes] = b"", length: int | None = None
) -> dict[str, Any]:
    """
    One exchange with CouchDB.

    :param length: of a body that comes in pieces.
    :raise http.client.HTTPException: it refuses.
    """
    connection = http.client.HTTPConnection(*upstream.address, timeout=600)
    headers = {"Accept": "application/json"}
    if isinstance(body, bytes):
        headers["Content-Type"] = "application/json"
    else:
        headers |= {"Content-Type": "application/octet-stream", "Content-Length": str(length)}
    if upstream.authorization is not None:
        headers["Authorization"] = upstream.authorization
    try:
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
        if response.status >= 400:
            raise http.client.HTTPException(f"CouchDB answers {response.status} to {method} {target}: {answer}")
        return answer
    finally:
        connection.close()
