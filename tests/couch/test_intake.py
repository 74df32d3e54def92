"""Which bytes of a transfer are new, and whether all of them prove to be the attachment's."""

import hashlib
import random
from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, composite

from tests.scripted import error_text
from tests.strategies import byte_ranges, cuts
from txcouchdl.couch.documents import AttachmentStub, Digest, Storage
from txcouchdl.couch.errors import CorruptAttachment, UnprovenEnd
from txcouchdl.couch.intake import Intake
from txcouchdl.couch.reading import Reading, Request, plan_reading
from txcouchdl.couch.transfer import HELD_BACK
from txcouchdl.couch.verifying import Tail, Verifier
from txcouchdl.protocol.ranges import ByteRange

NOISE = random.Random(146).randbytes(3 * HELD_BACK)


def reading_of(content: bytes, wanted: ByteRange | None) -> Reading:
    digest = Digest(hashlib.md5(content).digest())
    stub = AttachmentStub("f", None, digest, Storage.IDENTITY, len(content), len(content))
    return plan_reading(stub, None if wanted is None else (wanted,))


@composite
def _readings(draw: DrawFn) -> tuple[int, ByteRange, int]:
    """The length of an attachment, a range of it, and how many bytes of that are known."""
    length = draw(st.integers(2, len(NOISE)))
    wanted = draw(byte_ranges(length).filter(lambda each: each.length < length))
    return length, wanted, draw(st.integers(0, wanted.length - 1))


@given(_readings(), st.data())
@example((len(NOISE), ByteRange(0, 0), 0), None)
def test_of_all_bytes_the_wanted_ones_are_new(reading: tuple[int, ByteRange, int], data: st.DataObject | None) -> None:
    """As Python slices them."""
    length, wanted, known = reading
    content = NOISE[:length]
    request = reading_of(content, wanted).request(known).whole
    assert (request.byte_range, request.count, request.is_closing) == (None, length, False)
    intake = Intake(request)
    pieces = [content] if data is None else data.draw(cuts(content))
    new, position = b"", 0
    for piece in pieces:
        assert intake.position == position
        assert intake.drops_bytes
        new += intake.take(piece)
        position += len(piece)
        assert intake.is_satisfied is (position > wanted.last)
    assert new == content[wanted.first + known : wanted.last + 1]


@given(st.integers(1, len(NOISE)), st.data())
def test_of_all_bytes_that_come_again_the_rest_is_new(length: int, data: st.DataObject) -> None:
    known = data.draw(st.integers(1, length)) - 1
    content = NOISE[:length]
    request = reading_of(content, None).request(known)
    intake = Intake(request.whole if known else request)
    new = b""
    for piece in data.draw(cuts(content)):
        new += intake.take(piece)
        assert not intake.is_satisfied
        assert intake.drops_bytes is (intake.position < known)
    assert new == content[known:]


@given(_readings(), st.data())
def test_of_a_range_all_bytes_are_new(reading: tuple[int, ByteRange, int], data: st.DataObject) -> None:
    """Those of the margin too: they prove the others, and the connection is used again behind them."""
    length, wanted, known = reading
    request = reading_of(NOISE[:length], wanted).request(known)
    assert request.byte_range is not None
    sent = NOISE[request.byte_range.first : request.byte_range.last + 1]
    intake, position = Intake(request), request.byte_range.first
    for piece in data.draw(cuts(sent)):
        assert (intake.position, intake.drops_bytes, intake.is_satisfied) == (position, False, False)
        assert intake.take(piece) == piece
        position += len(piece)


def verdict(verifier: Verifier, request: Request, sent: bytes, *, is_lost: bool = False) -> str | None:
    """Let a transfer bring these bytes. :return: what is wrong with them in the end, if it gets there."""
    intake = Intake(request)
    verifier.begin(request)
    released, tail = sent[:-HELD_BACK], sent[-HELD_BACK:]
    for piece in (released[:1000], released[1000:]):
        verifier.feed(intake.position, piece)
        verifier.update(intake.take(piece))
    if is_lost:
        return "lost"
    position = intake.position
    problem = verifier.problem(request, Tail(position, tail, intake.take(tail)))
    return None if problem is None else {CorruptAttachment: "digest", UnprovenEnd: "unproven"}[type(problem)]


def damaged(content: bytes, *places: int) -> bytes:
    return bytes(byte ^ (number in places) for number, byte in enumerate(content))


WANTED = ByteRange(6000, len(NOISE) - 1)
READING = reading_of(NOISE, WANTED)
WHOLE = READING.request(0).whole


def test_all_bytes_instead_of_a_range_to_the_end_have_a_digest() -> None:
    for place in (0, 5999, 6000, 8000, len(NOISE) - 1):
        assert verdict(Verifier(READING), WHOLE, damaged(NOISE, place)) == "digest"
    assert verdict(Verifier(READING), WHOLE, NOISE) is None


def test_the_range_alone_has_none() -> None:
    sent = NOISE[WANTED.first :]
    assert verdict(Verifier(READING), READING.request(0), damaged(sent, 5)) is None
    text = error_text(400)
    assert verdict(Verifier(READING), READING.request(0), sent[:-400] + text) == "unproven"
    assert verdict(Verifier(READING), WHOLE, NOISE[:-400] + text) == "digest"


def broken_off_after(count: int) -> int:
    """How many bytes a transfer brings, of which so many are released."""
    return count + HELD_BACK


def test_what_was_released_before_a_loss_counts() -> None:
    """Not what another transfer brings in its place: the client has the former."""
    for place, expected in ((7000, "digest"), (7999, "digest"), (8001, None)):
        verifier = Verifier(READING)
        verdict(verifier, WHOLE, damaged(NOISE, place)[: broken_off_after(8000)], is_lost=True)
        assert verdict(verifier, READING.request(2000).whole, NOISE) == expected


def test_a_range_that_goes_on_behind_all_bytes_has_their_digest() -> None:
    for place, expected in ((100, "digest"), (7000, "digest"), (None, None)):
        verifier, first = Verifier(READING), NOISE if place is None else damaged(NOISE, place)
        verdict(verifier, WHOLE, first[: broken_off_after(8000)], is_lost=True)
        assert verifier.has_to_see_all
        assert verdict(verifier, READING.request(2000), NOISE[8000:]) == expected
        assert verdict(verifier, READING.request(2000), damaged(NOISE[8000:], 3000)) == "digest"


def test_the_digest_of_all_bytes_spares_a_second_read_of_the_end() -> None:
    content = NOISE[:-400] + error_text(400)
    reading = reading_of(content, WANTED)
    verifier = Verifier(reading)
    verdict(verifier, reading.request(0).whole, content[: broken_off_after(8000)], is_lost=True)
    assert verdict(verifier, reading.request(2000), content[8000:]) is None
    assert verdict(Verifier(reading), reading.request(2000), content[8000:]) == "unproven"


def test_a_range_behind_a_gap_has_none() -> None:
    """The transfer of all bytes was lost before the first wanted one."""
    verifier = Verifier(READING)
    verdict(verifier, WHOLE, NOISE[: broken_off_after(3000)], is_lost=True)
    sent = NOISE[WANTED.first :]
    assert verdict(verifier, READING.request(0), sent) is None
    assert verdict(verifier, READING.request(0), sent[:-400] + error_text(400)) == "unproven"


def test_the_end_of_all_bytes_is_never_accepted_without_a_digest() -> None:
    verifier, intake = Verifier(READING), Intake(WHOLE)
    verifier.begin(WHOLE)
    intake.take(NOISE[:-HELD_BACK])
    problem = verifier.problem(WHOLE, Tail(intake.position, NOISE[-HELD_BACK:], NOISE[-HELD_BACK:]))
    assert isinstance(problem, CorruptAttachment)


def test_a_whole_reading_is_verified_over_what_is_released() -> None:
    reading = reading_of(NOISE, None)

    def read(parts: Sequence[tuple[Request, bytes, bool]]) -> str | None:
        verifier = Verifier(reading)
        return [verdict(verifier, request, sent, is_lost=is_lost) for request, sent, is_lost in parts][-1]

    begun = (reading.request(0), NOISE[: broken_off_after(8000)], True)
    assert read([begun, (reading.request(8000), NOISE[8000:], False)]) is None
    assert read([begun, (reading.request(8000).whole, NOISE, False)]) is None
    assert read([begun, (reading.request(8000).whole, damaged(NOISE, 9000), False)]) == "digest"
    assert read([(reading.request(0), damaged(NOISE, 5)[: broken_off_after(8000)], True), begun]) == "lost"
