"""Bodies that are not what was stored, and clients that leave: never wrong bytes that look complete."""

import gzip
import os
from collections.abc import Callable
from hashlib import md5, sha256
from pathlib import Path
from random import Random

import pytest

from tests.store.serving import Exchange, Response, ServedStore, in_reactor, parse_response, request
from txcouchdl.couch.documents import Digest
from txcouchdl.store import bodies
from txcouchdl.store.store import Store
from txcouchdl.store.values import Attachment, Encoding, StoredBody

_BODY = Random(4).randbytes(1 << 20)


async def _put(served: ServedStore, body: bytes = _BODY, **fields: str) -> Path:
    """:returns: the blob's file."""
    assert (await served.ask("PUT", "/db")).status == 201
    assert (await served.ask("PUT", "/db/doc/file", body, **fields)).status == 201
    (blob,) = served.files("blobs")
    return blob


async def _get(served: ServedStore) -> tuple[Response | None, Exchange]:
    exchange = served.connect(Exchange(request("GET", "/db/doc/file")))
    return parse_response(await exchange.ended, is_head=False), exchange


def _check_refused(answer: Response | None) -> None:
    assert answer is not None
    assert (answer.status, answer.json["error"]) == (500, "internal_server_error")
    assert "etag" not in answer.headers


@pytest.mark.parametrize("damage", ["missing", "short", "long", "directory"])
@in_reactor
async def test_damage_that_is_seen_at_once(served: ServedStore, damage: str) -> None:
    blob = await _put(served)
    if damage in {"missing", "directory"}:
        blob.unlink()
    if damage == "directory":
        blob.mkdir()
    if damage == "short":
        os.truncate(blob, len(_BODY) - 1)
    if damage == "long":
        os.truncate(blob, len(_BODY) + 1)
    answer, _ = await _get(served)
    _check_refused(answer)
    assert (await served.ask("HEAD", "/db/doc/file")).status == 500
    assert (await served.ask("GET", "/db/doc/file", Range="bytes=0-0")).status == 500


@in_reactor
async def test_the_same_bytes_again_mend_a_blob(served: ServedStore) -> None:
    blob = await _put(served)
    os.truncate(blob, 7)
    assert (await served.ask("PUT", "/db/other/file", _BODY)).status == 201
    assert (await served.ask("GET", "/db/doc/file")).body == _BODY


@in_reactor
async def test_damage_in_the_middle_breaks_the_connection(served: ServedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is cut after it was opened."""
    blob = await _put(served)
    open_body = Store.open_body

    def open_and_cut(self: Store, attachment: Attachment) -> object:
        file = open_body(self, attachment)
        os.truncate(blob, len(_BODY) // 2)
        return file

    monkeypatch.setattr(Store, "open_body", open_and_cut)
    answer, exchange = await _get(served)
    assert exchange.was_broken
    if answer is not None:
        assert not answer.is_whole
        assert _BODY.startswith(answer.body)
    await _all_bodies_closed(served)


def _flip(blob: Path, position: int) -> bytes:
    """:returns: the bytes of the file now."""
    stored = bytearray(blob.read_bytes())
    stored[position] ^= 1
    blob.write_bytes(stored)
    return bytes(stored)


def _keep_alive(raw: bytes) -> bytes:
    return raw.replace(b"Connection: close\r\n", b"")


@pytest.mark.parametrize("position", [0, len(_BODY) // 2, len(_BODY) - 1])
@pytest.mark.parametrize("fields", [{}, {"range": "bytes=0-"}])
@pytest.mark.parametrize("adapt", [bytes, _keep_alive])
@in_reactor
async def test_a_flipped_bit_breaks_the_connection(
    served: ServedStore, position: int, fields: dict[str, str], adapt: Callable[[bytes], bytes]
) -> None:
    """Where all bytes are asked for, also as a range; and no second request on the connection is answered."""
    _flip(await _put(served), position)
    raw = request("GET", "/db/doc/file", **fields)
    exchange = served.connect(Exchange(adapt(raw) + raw))
    answer = parse_response(await exchange.ended, is_head=False)
    assert exchange.was_broken
    assert answer is None or len(answer.body) < len(_BODY)


@in_reactor
async def test_a_flipped_bit_in_a_short_body_is_refused(served: ServedStore) -> None:
    """One piece: it is read before the answer begins, and the connection is of further use."""
    _flip(await _put(served, _BODY[: bodies.PIECE]), 99)
    raw = request("GET", "/db/doc/file")
    answers = await served.connect(Exchange(_keep_alive(raw) + request("GET", "/_up"))).ended
    assert answers.count(b"HTTP/1.1 500 ") == answers.count(b"HTTP/1.1 200 ") == 1
    _check_refused(await served.ask("GET", "/db/doc/file"))
    _check_refused(await served.ask("GET", "/db/doc/file", range="bytes=0-"))


@pytest.mark.parametrize("kind", ["text/plain", "image/png"])
@in_reactor
async def test_a_flipped_bit_in_what_is_stored_compressed(served: ServedStore, kind: str) -> None:
    """Decoded or as gzip; uploaded compressed or compressed here: every byte of the file counts, the header's too."""
    text = b"%s" % _BODY.hex().encode()
    sent = {"content_encoding": "gzip"} if kind == "image/png" else {}
    blob = await _put(served, gzip.compress(text, mtime=0) if sent else text, content_type=kind, **sent)
    # The 5th to 8th byte are gzip's modification time: no matter to who inflates it.
    for position in (5, blob.stat().st_size // 2):
        _flip(blob, position)
        for accepted in ("gzip", "identity"):
            exchange = served.connect(Exchange(request("GET", "/db/doc/file", accept_encoding=accepted)))
            answer = parse_response(await exchange.ended, is_head=False)
            assert exchange.was_broken
            assert answer is None or not answer.is_whole
        _flip(blob, position)
    assert (await served.ask("GET", "/db/doc/file")).body == text


@in_reactor
async def test_a_flipped_bit_within_a_range_is_sent(served: ServedStore) -> None:
    """
    What is promised of ranges: their lengths, and nothing about bytes that changed where they lie. The gateway and the
    client have the digest of the whole, and see it when they have the whole.
    """
    stored = _flip(await _put(served), 1000)
    answer = await served.ask("GET", "/db/doc/file", range="bytes=900-1099")
    assert (answer.status, answer.body) == (206, stored[900:1100])
    beside = await served.ask("GET", "/db/doc/file", range="bytes=1001-")
    assert (beside.status, beside.body) == (206, _BODY[1001:])


@in_reactor
async def test_gzip_that_goes_bad_breaks_the_connection(served: ServedStore) -> None:
    """There is no length to fall short of here: a chunked body must not get its last chunk."""
    packed = gzip.compress(_BODY, mtime=0)
    broken = packed[: len(packed) // 2] + bytes(100) + packed[len(packed) // 2 + 100 :]
    await _put(served, broken, content_encoding="gzip")
    answer, exchange = await _get(served)
    assert exchange.was_broken
    assert answer is None or not answer.is_whole
    sent = await served.ask("GET", "/db/doc/file", accept_encoding="gzip")
    assert (sent.status, sent.body) == (200, broken)


@pytest.mark.parametrize("body", [b"not gzip at all", b""])
@in_reactor
async def test_gzip_that_is_none(served: ServedStore, body: bytes) -> None:
    await _put(served, body, content_encoding="gzip")
    answer, _ = await _get(served)
    _check_refused(answer)


@in_reactor
async def test_gzip_members_are_one_body(served: ServedStore) -> None:
    packed = gzip.compress(_BODY, mtime=0) + gzip.compress(b"", mtime=0) + gzip.compress(b"end", mtime=0)
    await _put(served, packed, content_encoding="gzip")
    answer = await served.ask("GET", "/db/doc/file")
    assert (answer.status, answer.is_whole, answer.body) == (200, True, _BODY + b"end")


def _body(stored: bytes) -> StoredBody:
    digest = Digest(md5(stored).digest())
    return StoredBody(sha256(stored).hexdigest(), digest, Encoding.GZIP, len(stored), len(stored))


def test_decoding_a_bomb_takes_one_piece_at_a_time(tmp_path: Path) -> None:
    packed = gzip.compress(bytes(50_000_000), mtime=0)
    (tmp_path / "bomb").write_bytes(packed)
    with (tmp_path / "bomb").open("rb") as file:
        lengths = [len(piece) for piece in bodies.decoded(file, _body(packed))]
    assert sum(lengths) == 50_000_000
    assert max(lengths) <= bodies.PIECE


@in_reactor
async def test_a_client_that_leaves(served: ServedStore) -> None:
    big = Random(5).randbytes(1 << 20) * 32
    await _put(served, big)
    exchange = served.connect(Exchange(request("GET", "/db/doc/file")))
    while not exchange.received:
        await served.ask("GET", "/_up")
    exchange.tcp.abortConnection()
    await exchange.ended
    assert len(exchange.received) < len(big)
    await _all_bodies_closed(served)


@in_reactor
async def test_what_is_deleted_meanwhile_is_read_to_the_end(served: ServedStore) -> None:
    big = Random(6).randbytes(1 << 20) * 16
    await _put(served, big)
    exchange = served.connect(Exchange(request("GET", "/db/doc/file")))
    while not exchange.received:
        await served.ask("GET", "/_up")
    exchange.reading.pauseProducing()
    assert (await served.ask("DELETE", "/db")).status == 200
    assert served.files("blobs") == []
    exchange.reading.resumeProducing()
    answer = parse_response(await exchange.ended, is_head=False)
    assert answer is not None
    assert (answer.is_whole, answer.body == big) == (True, True)


@in_reactor
async def test_what_is_compacted_between_two_steps_is_missing(
    served: ServedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row was read, and then the revision went away with its blob: a 404, not a damaged store."""
    blob = await _put(served)
    rev = (await served.ask("GET", "/db/doc")).json["_rev"]
    attachment = Store.attachment
    calls: list[Attachment] = []

    def go_away(self: Store, *where: object) -> Attachment:
        if calls:
            return attachment(self, "db", "doc", "gone", None, False)
        calls.append(attachment(self, *where))  # type: ignore[arg-type]
        blob.unlink()
        return calls[0]

    monkeypatch.setattr(Store, "attachment", go_away)
    answer = await served.ask("GET", f"/db/doc/file?rev={rev}")
    assert answer.status == 404


async def _all_bodies_closed(served: ServedStore) -> None:
    """Within some turns of the loop."""
    for _ in range(50):
        await served.ask("GET", "/_up")
        if not _open_bodies(served):
            return
    raise AssertionError(f"still open: {_open_bodies(served)}")


def _open_bodies(served: ServedStore) -> list[str]:
    links = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return [link for link in links if link.startswith(str(served.directory / "blobs"))]
