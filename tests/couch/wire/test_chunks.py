"""The chunked coding, undone: against what was put into it, and against Twisted's decoder."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.web.http import _ChunkedTransferDecoder

from tests import strategies
from txcouchdl.couch.wire.chunks import BadChunks, ChunkDecoder

# Twisted takes no blanks before them.
_EXTENSIONS = st.sampled_from([b"", b";", b";a=b", b';a="b c"'])
_BLANKS = st.sampled_from([b"", b" ", b"\t "])
_TRAILERS = st.sampled_from([b"", b"Expires: never\r\n", b"A: 1\r\nB: 2\r\n"])


@st.composite
def _coded(draw: st.DrawFn, blanks: st.SearchStrategy[bytes] = _BLANKS) -> tuple[bytes, bytes]:
    """A body, and the same in chunks."""
    chunks = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=6))
    coded = b""
    for chunk in chunks:
        size = draw(st.sampled_from(["%x", "%X", "00%x"])) % len(chunk)
        coded += size.encode() + draw(blanks) + draw(_EXTENSIONS) + b"\r\n" + chunk + b"\r\n"
    return b"".join(chunks), coded + b"0" + draw(_EXTENSIONS) + b"\r\n" + draw(_TRAILERS) + b"\r\n"


def _fed(decoder: ChunkDecoder, pieces: list[bytes]) -> bytes:
    """The body in some pieces; what comes behind it is kept as it comes."""
    body = b""
    for piece in pieces:
        if decoder.is_complete:
            decoder.surplus += piece
        else:
            body += decoder.feed(piece)
    return body


def _feed_each(decoder: ChunkDecoder, pieces: list[bytes]) -> None:
    for piece in pieces:
        decoder.feed(piece)


@given(st.data(), _coded(), st.binary(max_size=20) | st.just(b"0\r\n\r\n"))
def test_any_body_in_any_chunks_in_any_pieces(data: st.DataObject, coded: tuple[bytes, bytes], surplus: bytes) -> None:
    body, chunks = coded
    decoder = ChunkDecoder()
    assert _fed(decoder, data.draw(strategies.cuts(chunks + surplus))) == body
    assert decoder.is_complete
    assert decoder.surplus == surplus


@given(_coded())
def test_byte_by_byte_nothing_is_complete_before_its_last(coded: tuple[bytes, bytes]) -> None:
    body, chunks = coded
    decoder = ChunkDecoder()
    released = b""
    for at in range(len(chunks)):
        assert not decoder.is_complete
        released += decoder.feed(chunks[at : at + 1])
    assert decoder.is_complete
    assert (released, decoder.surplus) == (body, b"")


@given(_coded(st.just(b"")))
def test_what_is_there_of_a_chunk_is_not_waited_with(coded: tuple[bytes, bytes]) -> None:
    _, chunks = coded
    for end in range(len(chunks)):
        # Whatever Twisted has released of it.
        released: list[bytes] = []
        theirs: Any = _ChunkedTransferDecoder(released.append, lambda _: None)
        theirs.dataReceived(chunks[:end])
        assert ChunkDecoder().feed(chunks[:end]) == b"".join(released)


@given(_coded(st.just(b"")), st.binary(max_size=20))
def test_twisted_says_the_same(coded: tuple[bytes, bytes], surplus: bytes) -> None:
    _, chunks = coded
    released: list[bytes] = []
    behind: list[bytes] = []
    theirs: Any = _ChunkedTransferDecoder(released.append, behind.append)
    theirs.dataReceived(chunks + surplus)
    ours = ChunkDecoder()
    assert ours.feed(chunks + surplus) == b"".join(released)
    assert ours.is_complete
    assert ours.surplus == b"".join(behind)


@pytest.mark.parametrize(
    "malformed",
    [
        b"\r\n",
        b"x\r\n",
        b"-5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"5_0\r\nhello\r\n",
        b"\xb2\r\nhe\r\n",
        b";a=b\r\n",
        b"5;a\nb\r\nhello\r\n",
        b"5;a\rb\r\nhello\r\n",
        b"5\nhello\r\n",
        b"5 5\r\nhello\r\n",
        b"1" * 16 + b"\r\n",
        b"5\r\nhelloworld",
        b"5\r\nhello\n0",
        b"5\r\nhello\rx",
        b"4\r\nhello\r\n",
    ],
)
def test_what_is_not_the_coding(malformed: bytes) -> None:
    with pytest.raises(BadChunks):
        ChunkDecoder().feed(malformed)
    decoder = ChunkDecoder()
    with pytest.raises(BadChunks):
        _feed_each(decoder, [malformed[at : at + 1] for at in range(len(malformed))])


@given(
    st.binary(max_size=200)
    | st.lists(st.sampled_from([b"5", b"\r\n", b"0", b"hello", b";"]), max_size=10).map(b"".join)
)
def test_whatever_comes_is_chunks_or_not(received: bytes) -> None:
    decoder = ChunkDecoder()
    try:
        body = decoder.feed(received)
    except BadChunks:
        return
    assert len(body) + len(decoder.surplus) <= len(received)


@pytest.mark.parametrize("begin", [b"", b"5;", b"0\r\n", b"0\r\na: b\r\n"])
def test_a_line_that_does_not_end(begin: bytes) -> None:
    decoder = ChunkDecoder()
    decoder.feed(begin)
    with pytest.raises(BadChunks, match="too long"):
        _feed_each(decoder, [b"1" * 1024] * 20)


def test_a_trailer_section_that_does_not_end() -> None:
    decoder = ChunkDecoder()
    decoder.feed(b"0\r\n")
    with pytest.raises(BadChunks, match="trailer"):
        _feed_each(decoder, [b"a: 567890123456\r\n"] * 20 * 64)


def test_nothing_is_kept_of_a_chunk_that_is_long() -> None:
    decoder = ChunkDecoder()
    decoder.feed(b"%x\r\n" % 2**40)
    for _ in range(100):
        assert decoder.feed(b"x" * 2**16) == b"x" * 2**16
        assert not decoder._pending
