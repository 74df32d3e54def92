"""A gateway with its own store, and what is put there for the browser."""

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

from attrs import frozen

from tests.nodes import DATABASE, TOKEN, open_files
from tests.running import ANY_PORT, PATIENCE, Running, beat, running


@frozen
class Upload:
    """What is uploaded as an attachment."""

    content_type: str
    data: bytes


@frozen
class Served:
    """A running gateway. Made by :func:`serving`."""

    running: Running
    _admin: str
    _directory: Path

    @property
    def port(self) -> int:
        return self.running.port()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def upload(self, document: str, uploads: Mapping[str, Upload]) -> None:
        """Make a document with attachments, in this order, and with the token."""
        path = f"/{DATABASE}/{quote(document, safe='')}"
        rev = self._put(path, "application/json", json.dumps({"download_token": TOKEN}).encode())["rev"]
        for name, each in uploads.items():
            rev = self._put(f"{path}/{quote(name, safe='')}?rev={rev}", each.content_type, each.data)["rev"]

    def wait_until_at_rest(self) -> None:
        """Until it has no stored body open."""
        blobs = self._directory / "store" / "blobs"
        deadline = monotonic() + PATIENCE
        while (count := open_files(self.running.pid, blobs)) and monotonic() < deadline:
            beat(self.port)
        assert count == 0

    def _put(self, target: str, content_type: str, body: bytes) -> Any:
        connection = HTTPConnection("127.0.0.1", self.running.port("Store"), timeout=PATIENCE)
        credentials = base64.b64encode(self._admin.encode()).decode()
        try:
            connection.request(
                "PUT", target, body, {"Content-Type": content_type, "Authorization": f"Basic {credentials}"}
            )
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        assert response.status == 201, answer
        return json.loads(answer)


def path_of(document: str, name: str = "") -> str:
    """The path of an attachment at the gateway, or of its document's page."""
    return f"/{DATABASE}/{quote(document, safe='')}/{quote(name, safe='')}"


def target_of(document: str, name: str = "") -> str:
    """The same with the token."""
    return f"{path_of(document, name)}?token={TOKEN}"


@contextmanager
def serving(directory: Path, *arguments: str) -> Iterator[Served]:
    """A gateway with an empty database, for as long as it is needed."""
    with running(directory, "--store", "store", "--store-listen", ANY_PORT, "-l", ANY_PORT, *arguments) as process:
        process.port()
        process.port("Store")
        served = Served(process, (directory / "store" / "admin").read_text("utf-8").strip(), directory)
        served._put(f"/{DATABASE}", "application/json", b"")
        yield served
