"""What a client can make the store spend, and what comes of a disk that does not do its part."""

import errno
import gzip
import json
import sqlite3
import tracemalloc
from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import formatEvent
from twisted.web.http_headers import _nameEncoder

from tests.gateway.house import logged
from tests.store.serving import AUTHORIZATION, Exchange, Response, ServedStore, in_reactor, parse_response, request
from txcouchdl.store import app
from txcouchdl.store.answers import Refusal
from txcouchdl.store.blobs import IN_MEMORY, Spool
from txcouchdl.store.edits import Editor
from txcouchdl.store.json_bodies import read_text
from txcouchdl.store.store import LONGEST_DOCUMENT
from txcouchdl.store.values import Encoding
from txcouchdl.store.web import StoreRequest, StoreSite

_MEBIBYTE = 1 << 20


async def _database(served: ServedStore) -> None:
    assert (await served.ask("PUT", "/db")).status == 201


async def _turns(served: ServedStore, count: int = 3) -> None:
    """Let the store's side of other connections have its turns of the loop."""
    for _ in range(count):
        await served.ask("GET", "/_up")


def test_a_spool_holds_little_in_memory(tmp_path: Path) -> None:
    piece = bytes(64 * 1024)
    spool = Spool(tmp_path)
    tracemalloc.start()
    try:
        for _ in range(32 * _MEBIBYTE // len(piece)):
            spool.write(piece)
        read = sum(map(len, spool.pieces()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert read == spool.length == 32 * _MEBIBYTE
    assert peak < _MEBIBYTE
    spool.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("length", "files"), [(0, 0), (IN_MEMORY, 0), (IN_MEMORY + 1, 1)])
def test_small_bodies_need_no_file(tmp_path: Path, length: int, files: int) -> None:
    spool = Spool(tmp_path)
    spool.write(bytes(length))
    assert len(list(tmp_path.iterdir())) == files
    assert b"".join(spool.pieces()) == bytes(length)
    spool.discard()
    spool.discard()
    assert list(tmp_path.iterdir()) == []


@in_reactor
async def test_an_upload_goes_to_disk_as_it_comes(served: ServedStore) -> None:
    await _database(served)
    raw = request("PUT", "/db/doc/file.bin", bytes(4 * _MEBIBYTE))
    half = len(raw) - 2 * _MEBIBYTE
    upload = served.connect(Exchange(raw[:half]))
    while not served.files("incoming"):
        await _turns(served)
    upload.tcp.write(raw[half:])
    assert b" 201 " in await upload.ended
    assert served.files("incoming") == []
    assert [path.stat().st_size for path in served.files("blobs")] == [4 * _MEBIBYTE]


@in_reactor
async def test_a_broken_upload_leaves_nothing(served: ServedStore) -> None:
    await _database(served)
    raw = request("PUT", "/db/doc/file.bin", bytes(4 * _MEBIBYTE))
    upload = served.connect(Exchange(raw[: 2 * _MEBIBYTE]))
    while not served.files("incoming"):
        await _turns(served)
    upload.tcp.abortConnection()
    await upload.ended
    await _turns(served)
    assert (served.files("incoming"), served.files("blobs")) == ([], [])
    assert (await served.ask("GET", "/db/doc")).status == 404


@pytest.mark.parametrize("authorization", [None, "Basic YWRtOndyb25n", "Bearer x", "Basic %%%"])
@in_reactor
async def test_only_the_admin_fills_the_disk(served: ServedStore, authorization: str | None) -> None:
    await _database(served)
    raw = request("PUT", "/db/doc/file.bin", bytes(4 * _MEBIBYTE), authorization)
    upload = served.connect(Exchange(raw[:-1]))
    await _turns(served, 20)
    assert served.files("incoming") == []
    upload.tcp.write(raw[-1:])
    assert (await upload.ended).startswith(b"HTTP/1.1 401 ")
    assert (served.files("incoming"), served.files("blobs")) == ([], [])


@in_reactor
async def test_a_refused_upload_leaves_nothing(served: ServedStore) -> None:
    await _database(served)
    first = await served.ask("PUT", "/db/doc/text.txt", b"kept")
    for target in ("/db/doc/file.bin", "/db/doc/file.txt?rev=bad", "/nodb/doc/file.bin", "/db/_x/f", "/db/d/_f"):
        refused = await served.ask("PUT", target, bytes(_MEBIBYTE), content_type="text/plain")
        assert refused.status in {400, 404, 409}, target
    assert first.status == 201
    assert served.files("incoming") == []
    assert len(served.files("blobs")) == 1


@in_reactor
async def test_documents_have_a_longest(served: ServedStore) -> None:
    await _database(served)
    frame = len('{"a":""}')
    longest = '{"a":"%s"}' % ("x" * (LONGEST_DOCUMENT - frame))
    assert (await served.ask("PUT", "/db/long", longest)).status == 201
    refused = await served.ask("PUT", "/db/longer", longest + " ")
    assert (refused.status, refused.json) == (413, {"error": "document_too_large", "reason": "longer"})
    assert served.files("incoming") == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@in_reactor
async def test_a_disk_that_fails_an_upload(served: ServedStore, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    await _database(served)
    _fail(monkeypatch, code, "write")
    _check_disk_trouble(await served.ask("PUT", "/db/doc/file.bin", b"x" * _MEBIBYTE), code)
    monkeypatch.undo()
    assert (served.files("incoming"), served.files("blobs")) == ([], [])
    assert (await served.ask("PUT", "/db/doc/file.bin", b"x")).status == 201


@pytest.mark.parametrize("step", ["settle", "move"])
@pytest.mark.parametrize("kind", ["application/octet-stream", "text/plain"])
@in_reactor
async def test_a_disk_that_fails_later(
    served: ServedStore, monkeypatch: pytest.MonkeyPatch, step: str, kind: str
) -> None:
    await _database(served)
    _fail(monkeypatch, errno.ENOSPC, step)
    body = b"x" * _MEBIBYTE
    _check_disk_trouble(await served.ask("PUT", "/db/doc/a", body, content_type=kind), errno.ENOSPC)
    document = {"_attachments": {name: {"content_type": kind, "data": "eHh4"} for name in "ab"}}
    _check_disk_trouble(await served.ask("PUT", "/db/doc", json.dumps(document)), errno.ENOSPC)
    monkeypatch.undo()
    assert (served.files("incoming"), served.files("blobs")) == ([], [])
    assert (await served.ask("GET", "/db/doc")).status == 404


@in_reactor
async def test_a_disk_that_fails_compression(served: ServedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await _database(served)
    write = Spool.write

    def fail_second_spool(self: Spool, data: bytes) -> None:
        if data.startswith(b"\x1f\x8b"):
            raise OSError(errno.ENOSPC, "full")
        write(self, data)

    monkeypatch.setattr(Spool, "write", fail_second_spool)
    answer = await served.ask("PUT", "/db/doc/a", b"x" * _MEBIBYTE, content_type="text/plain")
    _check_disk_trouble(answer, errno.ENOSPC)
    assert served.files("incoming") == []


@in_reactor
async def test_a_disk_that_fails_inline_attachments(served: ServedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await _database(served)
    write = Spool.write

    def write_and_fail(self: Spool, data: bytes) -> None:
        write(self, data)
        if data.startswith(b"inline"):
            raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Spool, "write", write_and_fail)
    entries = {name: {"data": b64encode(name.encode() * 50_000).decode()} for name in ("other", "inline")}
    _check_disk_trouble(await served.ask("PUT", "/db/doc", json.dumps({"_attachments": entries})), errno.ENOSPC)
    assert (served.files("incoming"), served.files("blobs")) == ([], [])


@in_reactor
async def test_a_database_that_fails(served: ServedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await _database(served)

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(Editor, "put_attachment", fail)
    _check_disk_trouble(await served.ask("PUT", "/db/doc/a", b"x"), errno.EIO)
    monkeypatch.undo()
    assert served.files("incoming") == []
    assert (await served.ask("PUT", "/db/doc/a", b"x")).status == 201


def _fail(monkeypatch: pytest.MonkeyPatch, code: int, step: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, "the disk says no")

    monkeypatch.setattr(Spool, step, fail)


def _check_disk_trouble(answer: Response, code: int) -> None:
    full = (507, "insufficient_storage")
    assert (answer.status, answer.json["error"]) == (full if code == errno.ENOSPC else (500, "internal_server_error"))


@in_reactor
async def test_a_mistake_of_ours_is_answered_in_couchdbs_shape(
    served: ServedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(StoreSite, "getResourceFor", fail)
    answer = await served.ask("GET", "/")
    assert (answer.status, answer.json["error"]) == (500, "internal_server_error")
    assert answer.headers["content-type"] == "application/json"
    assert answer.is_whole


@in_reactor
async def test_a_mistake_of_ours_in_the_middle_breaks_the_connection(
    served: ServedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _database(served)
    await served.ask("PUT", "/db/doc/file", b"whole", content_encoding="gzip")

    async def fail(request: StoreRequest, _pieces: object) -> None:
        request.write(b"wh")  # type: ignore[no-untyped-call]
        raise ZeroDivisionError

    monkeypatch.setattr(app, "deliver", fail)
    exchange = served.connect(Exchange(request("GET", "/db/doc/file")))
    answer = parse_response(await exchange.ended, is_head=False)
    assert exchange.was_broken
    assert answer is None or not answer.is_whole


@pytest.mark.parametrize("host", ["[", "b[ad", "a" * 300, "\xfc.example", "..", "a:b:c"])
@in_reactor
async def test_any_host(served: ServedStore, host: str) -> None:
    raw = f"GET /_all_dbs HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAuthorization: {AUTHORIZATION}\r\n\r\n"
    answer = await served.send(raw.encode())
    assert answer is not None
    assert (answer.status, answer.json) == (200, [])


@pytest.mark.parametrize(
    "line",
    [
        "X-Long: ".ljust(17_000, "x"),
        f"{'n' * 257}: 1",
        f"{'n' * 16_000}: 1",
    ],
    ids=["line", "name", "long name"],
)
@in_reactor
async def test_a_head_that_is_too_long(served: ServedStore, line: str) -> None:
    """It gets CouchDB's bare 400 (FINDINGS, section 5), and Twisted does not keep the name."""
    answer = await served.send(f"GET /_up HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n".encode())
    assert answer is not None
    assert (answer.status, answer.body) == (400, b"")
    assert max(map(len, _nameEncoder._canonicalHeaderCache)) <= 256


@in_reactor
async def test_the_longest_name_of_a_field(served: ServedStore) -> None:
    raw = f"GET /_up HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{'n' * 256}: 1\r\n\r\n"
    answer = await served.send(raw.encode())
    assert answer is not None
    assert answer.status == 200


@in_reactor
async def test_a_long_request_has_a_short_line_in_the_log(served: ServedStore) -> None:
    with logged() as events:
        await served.send(
            f"GET /{'%22' * 100}{chr(34) * 15_000} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        )
    [line] = [text for event in events if "%22" in (text := formatEvent(event))]
    assert len(line) < 8192
    assert '..." 401 ' in line


def test_a_bomb_goes_off_in_little_memory() -> None:
    bomb = gzip.compress(bytes(200 * _MEBIBYTE))
    too_long = Refusal(413, "too", "long")
    tracemalloc.start()
    try:
        with pytest.raises(Refusal) as raised:
            read_text([bomb], Encoding.GZIP, _MEBIBYTE, too_long)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert raised.value is too_long
    assert peak < 4 * _MEBIBYTE


@given(st.binary(max_size=300), st.integers(0, 300), st.integers(1, 50), st.booleans())
def test_json_in_gzip_is_as_long_as_other_json(text: bytes, limit: int, size: int, is_halved: bool) -> None:
    half = len(text) // 2
    body = gzip.compress(text[:half]) + gzip.compress(text[half:]) if is_halved else gzip.compress(text)
    for coding, sent in ((Encoding.GZIP, body), (Encoding.IDENTITY, text)):
        pieces = [sent[start : start + size] for start in range(0, len(sent), size)]
        too_long = Refusal(413, "too", "long")
        if len(text) > limit:
            with pytest.raises(Refusal) as raised:
                read_text(pieces, coding, limit, too_long)
            assert raised.value is too_long
        else:
            assert read_text(pieces, coding, limit, too_long) == text


@in_reactor
async def test_a_document_in_gzip_is_no_longer_than_others(served: ServedStore) -> None:
    await _database(served)
    frame = len('{"a":""}')
    for surplus, status in ((0, 201), (1, 413)):
        body = gzip.compress(b'{"a":"%b"}' % (b"x" * (LONGEST_DOCUMENT - frame + surplus)))
        answer = await served.ask("PUT", f"/db/{surplus}", body, content_encoding="gzip")
        assert answer.status == status
    # Longer in gzip than any document, for all that it has to say.
    nothing = gzip.compress(b"")
    body = gzip.compress(b"{}") + nothing * (LONGEST_DOCUMENT // len(nothing))
    answer = await served.ask("PUT", "/db/padded", body, content_encoding="gzip")
    assert answer.status == 413
    assert served.files("incoming") == []
