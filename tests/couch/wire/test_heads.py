"""Heads of answers, against what was put into them: what is no head is refused, whatever a node sends."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from txcouchdl.couch.wire.heads import LONGEST_HEAD, AnswerHead, BadHead, Framing, final_head, parse_head

_TOKEN = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=12)
# Blanks around a value are not of it.
_VALUE = st.text(st.characters(min_codepoint=1, max_codepoint=255, exclude_characters="\r\n"), max_size=20).map(
    lambda text: text.strip(" \t")
)
_BLANKS = st.text(" \t", max_size=3)
_FRAMING = {"content-length", "transfer-encoding", "connection"}


@st.composite
def _fields(draw: st.DrawFn) -> tuple[bytes, dict[bytes, bytes]]:
    """Lines of fields that frame nothing, and what they say."""
    lines = b""
    meant: dict[bytes, bytes] = {}
    for _ in range(draw(st.integers(0, 5))):
        name = draw(_TOKEN.filter(lambda name: name.lower() not in _FRAMING))
        value = draw(_VALUE)
        lines += f"{name}:{draw(_BLANKS)}{value}{draw(_BLANKS)}\r\n".encode("latin-1")
        key, said = name.lower().encode(), value.encode("latin-1")
        meant[key] = meant[key] + b", " + said if key in meant else said
    return lines, meant


@st.composite
def _framings(draw: st.DrawFn) -> tuple[bytes, Framing, int | None]:
    """Lines that frame a body, and how."""
    number = draw(st.integers(0, 10**19 - 1))
    return draw(
        st.sampled_from(
            [
                (b"Content-Length: %d\r\n" % number, Framing.LENGTH, number),
                (b"CONTENT-length:%d\t\r\ncontent-length: %d\r\n" % (number, number), Framing.LENGTH, number),
                (b"Content-Length: %d, %d\r\n" % (number, number), Framing.LENGTH, number),
                (b"Transfer-Encoding: Chunked\r\n", Framing.CHUNKED, None),
                (b"", Framing.CLOSE, None),
            ]
        )
    )


@st.composite
def _heads(draw: st.DrawFn) -> tuple[bytes, AnswerHead]:
    """A head, with answers on the way to it, and what it says."""
    status = draw(st.integers(200, 999).filter(lambda status: status not in (204, 304)))
    lines, fields = draw(_fields())
    framing_lines, framing, length = draw(_framings())
    closing = draw(st.sampled_from([b"", b"Connection: keep-alive\r\n", b"Connection: Foo , CLOSE\r\n"]))
    minor = draw(st.integers(0, 1))
    reason = draw(st.sampled_from([b"", b" ", b" Not Found", b" \xfcber"]))
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103\r\nLink: a\r\n\r\n" * 2]))
    text = b"HTTP/1.%d %d%b\r\n%b%b%b\r\n" % (minor, status, reason, lines, framing_lines, closing)
    for line in (framing_lines + closing).splitlines():
        name, _, value = line.partition(b":")
        key, said = name.lower(), value.strip()
        fields[key] = fields[key] + b", " + said if key in fields else said
    is_last = not minor or b"CLOSE" in closing or framing is Framing.CLOSE
    return interim + text, AnswerHead(status, fields, framing, length, is_last)


@given(_heads(), st.binary(max_size=40) | st.just(b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"))
def test_a_head_is_what_was_meant_whatever_comes_behind_it(head: tuple[bytes, AnswerHead], body: bytes) -> None:
    text, meant = head
    assert parse_head(text) == (meant, len(text))
    assert parse_head(text + body) == (meant, len(text))


@given(_heads())
def test_a_part_of_a_head_is_not_enough(head: tuple[bytes, AnswerHead]) -> None:
    text, _ = head
    for end in range(len(text)):
        assert parse_head(text[:end]) is None


@given(_heads(), st.integers(0, 99))
def test_what_was_read_of_interim_answers_is_not_read_again(head: tuple[bytes, AnswerHead], piece: int) -> None:
    text, meant = head
    begin = final_head(text[: piece + 1])
    assert parse_head(text, begin) == (meant, len(text))
    # All of them, and nothing of what follows.
    assert parse_head(text[final_head(text, begin) :]) == (meant, len(text) - final_head(text))
    assert text[:begin].endswith(b"\r\n\r\n") or begin == 0


_PIECES = [
    b"HTTP/1.1 200 OK",
    b"HTTP/1.1 100 ",
    b"\r\n",
    b"\n",
    b"\r",
    b"a: b",
    b"Content-Length: ",
    b"5",
    b", ",
    b"\x00",
]


@given(st.binary(max_size=300) | st.lists(st.sampled_from(_PIECES), max_size=12).map(b"".join))
@example(b"\r\n\r\n")
def test_whatever_comes_is_a_head_or_none_or_too_little(received: bytes) -> None:
    try:
        parsed = parse_head(received)
    except BadHead:
        return
    if parsed is not None:
        head, begin = parsed
        assert 200 <= head.status <= 999
        assert received[:begin].endswith(b"\r\n\r\n")
        assert (head.framing is Framing.LENGTH) == (head.length is not None)


@pytest.mark.parametrize(
    "text",
    [
        b"HTTP/2.0 200 OK",
        b"HTTP/1.2 200 OK",
        b"http/1.1 200 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 200OK",
        b"HTTP/1.1  200 OK",
        b" HTTP/1.1 200 OK",
        b"\r\nHTTP/1.1 200 OK",
        b"HTTP/1.1 200 O\nK",
        b"HTTP/1.1 200 O\x00K",
        b"ICY 200 OK",
        b"",
    ],
)
def test_what_is_no_status_line(text: bytes) -> None:
    with pytest.raises(BadHead, match="malformed"):
        parse_head(text + b"\r\nContent-Length: 0\r\n\r\n")


def test_the_longest_name_of_a_field() -> None:
    head, _ = parse_head(b"HTTP/1.1 204 No Content\r\n%b: x\r\n\r\n" % (b"a" * 256)) or (None, 0)
    assert head is not None
    assert head.fields == {b"a" * 256: b"x"}


@pytest.mark.parametrize(
    "line",
    [
        b" folded: into the line before",
        b"\tfolded",
        b"a : a blank before the colon",
        b"no colon",
        b": no name",
        b"a b: no token",
        b"\xe4: no token",
        b"a: b\nContent-Length: 5",
        b"a: b\rc",
        b"a: b\x00",
        b"a\x00: b",
        b"a: \n",
        b"a" * 257 + b": a name that is too long",
    ],
)
def test_what_is_no_field(line: bytes) -> None:
    with pytest.raises(BadHead, match="malformed"):
        parse_head(b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: 0\r\n\r\n" % line)


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5, 6",
        b"Content-Length: 5\r\nContent-Length: 05",
        b"Content-Length: 5,",
        b"Content-Length:",
        b"Content-Length: +5",
        b"Content-Length: -5",
        b"Content-Length: 5 5",
        b"Content-Length: 0x5",
        b"Content-Length: 5_0",
        b"Content-Length: \xb2",
        b"Content-Length: " + b"1" * 20,
        b"Content-Length: " + b"0" * 19 + b"5",
    ],
)
def test_a_length_is_one_number(lines: bytes) -> None:
    with pytest.raises(BadHead, match="Content-Length"):
        parse_head(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % lines)


@pytest.mark.parametrize("coding", [b"gzip", b"gzip, chunked", b"chunked, chunked", b"identity", b"", b"chunked;q=1"])
def test_of_transfer_codings_only_one_is_known(coding: bytes) -> None:
    with pytest.raises(BadHead, match="transfer coding"):
        parse_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: %b\r\nContent-Length: 5\r\n\r\n" % coding)


def test_who_sends_a_length_and_chunks_sends_nothing_more() -> None:
    parsed = parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert parsed is not None
    assert (parsed[0].framing, parsed[0].length, parsed[0].is_last) == (Framing.CHUNKED, None, True)


@pytest.mark.parametrize("value", [b"close", b"CLOSE", b"Keep-Alive,Close", b"a , close ,b", b"a\r\nConnection: close"])
def test_who_says_close_in_whatever_words_sends_nothing_more(value: bytes) -> None:
    parsed = parse_head(b"HTTP/1.1 200 OK\r\nConnection: %b\r\nContent-Length: 0\r\n\r\n" % value)
    assert parsed is not None
    assert parsed[0].is_last


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("lines", [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_some_answers_have_no_body_whatever_they_say(status: int, lines: bytes) -> None:
    parsed = parse_head(b"HTTP/1.1 %d X\r\n%b\r\n" % (status, lines))
    assert parsed is not None
    assert (parsed[0].framing, parsed[0].length, parsed[0].is_last) == (Framing.LENGTH, 0, False)


def test_an_interim_answer_has_no_body_and_says_nothing_of_the_next() -> None:
    text = (
        b"HTTP/1.0 100 X\r\nContent-Length: 99\r\nConnection: close\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    )
    assert parse_head(text) == (
        AnswerHead(200, {b"content-length": b"0"}, Framing.LENGTH, 0, is_last=False),
        len(text),
    )


def test_nobody_asked_for_another_protocol() -> None:
    with pytest.raises(BadHead, match="protocol"):
        parse_head(b"HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def test_a_head_that_does_not_end() -> None:
    begin = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\na: "
    longest = begin + b"x" * (LONGEST_HEAD - len(begin))
    assert parse_head(longest) is None
    parsed = parse_head(longest + b"\r\n\r\n" + b"y" * LONGEST_HEAD)
    assert parsed is not None
    assert parsed[1] == LONGEST_HEAD + 4
    assert LONGEST_HEAD == 64 * 2**10
    for endless in longest + b"x", longest + b"x\r\n\r\n":
        with pytest.raises(BadHead, match="too long"):
            parse_head(endless)


@pytest.mark.parametrize("end", [b"", b"x", b"\x00"])
@pytest.mark.parametrize("begin", [b"a:", b"a: x", b"a", b"a: b\r\nc:"])
def test_many_blanks_take_no_time(begin: bytes, end: bytes) -> None:
    """A regular expression that tries each of them as the end of a value takes minutes."""
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n%b%b%b\r\n\r\n" % (begin, b" " * 60_000, end)
    if end == b"\x00" or begin == b"a":
        with pytest.raises(BadHead):
            parse_head(text)
    else:
        assert parse_head(text) is not None


def test_interim_answers_that_do_not_end() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    many = LONGEST_HEAD // len(interim)
    assert parse_head(interim * many) is None
    with pytest.raises(BadHead, match="too long"):
        parse_head(interim * (many + 2))
