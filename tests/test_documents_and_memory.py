"""
What large documents cost a gateway's process, for real: its memory, as the operating system tells it.

The node is a thread of this process: it answers with documents of 8 MB, full of that of which Python makes most.
"""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Final

from tests.nodes import UNMEASURED, most_resident, needs_proc, resident
from tests.running import ANY_PORT, PATIENCE, Running, exchange, running

pytestmark = needs_proc

LENGTH: Final = 8_000_000
CLIENTS: Final = 24
#: KiB that all documents may have together.
MEMORY: Final = 64 * 2**10
#: KiB of other things: one document whose pieces are joined, the first piece of each that waits, connections, and what
#: the allocator keeps. Measured: 26 to 58 MiB.
OTHERS: Final = 120 * 2**10

_FILLING: Final = b"[],"
_STUB: Final = {"f": {"digest": "md5-" + "A" * 22 + "==", "length": 0}}


def document(document_id: str, rev: str) -> bytes:
    head = json.dumps({"_id": document_id, "_rev": rev, "download_token": "t", "_attachments": _STUB})
    return b'%b,"x":[%b0]}' % (head[:-1].encode(), _FILLING * (LENGTH // len(_FILLING)))


@contextmanager
def large_documents() -> Iterator[int]:
    """:return: the port of a node that has any document, in two revisions."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        thread = Thread(target=_accept, args=(server,), daemon=True)
        thread.start()
        yield server.getsockname()[1]
        # To close a socket does not wake who waits for it.
        socket.create_connection(server.getsockname()).close()
        thread.join(PATIENCE)


def _accept(server: socket.socket) -> None:
    filling = document("x", "2-new").partition(b",")[2]
    while True:
        connection, _ = server.accept()
        request = connection.recv(1, socket.MSG_PEEK)
        if not request:
            connection.close()
            return
        Thread(target=_answer_all, args=(connection, filling), daemon=True).start()


def _answer_all(connection: socket.socket, rest: bytes) -> None:
    with connection, connection.makefile("rb") as lines:
        while line := lines.readline():
            while lines.readline().strip():
                pass
            path = line.split()[1].partition(b"?")
            head = b'{"_id":"%b",' % path[0].rpartition(b"/")[2]
            body = rest.replace(b'"2-new"', b'"1-old"', 1) if b"rev=1-old" in path[2] else rest
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head) + len(body), head))
                connection.sendall(body)
            except OSError:
                return


def get(gateway: Running, target: str) -> int:
    raw = f"GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    return exchange(gateway.port(), raw.encode()).status


def test_many_large_documents_at_once(tmp_path: Path) -> None:
    """2.6 GB it was. Nobody is refused, and nobody but who knows the secret learns that there is a document."""
    limits = ("--document-memory", str(MEMORY * 1024), "--queue-timeout", "3600", "--stall-timeout", "300")
    with (
        large_documents() as port,
        running(
            tmp_path, "-l", ANY_PORT, "-c", f"http://127.0.0.1:{port}", *limits, "--give-up", "600", **UNMEASURED
        ) as gateway,
        ThreadPoolExecutor(CLIENTS) as clients,
    ):
        assert get(gateway, "/") == 404
        start = resident(gateway.pid)
        for target, status in (
            ("/db/{}/f?token=wrong", 403),
            ("/db/{}/f?token=t&rev=1-old", 200),
            ("/db/{}/f?token=t", 200),
        ):
            asked = [target.format(f"d{number}") for number in range(CLIENTS)]
            assert list(clients.map(lambda each: get(gateway, each), asked)) == [status] * CLIENTS
            assert most_resident(gateway.pid) - start < MEMORY + OTHERS
