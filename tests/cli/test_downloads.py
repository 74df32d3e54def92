"""One file: what is asked for, what is made of the answers, and that no file ever has its name that is not right."""

import os
import random
from itertools import count
from pathlib import Path

import pytest
from attrs import evolve
from twisted.internet.defer import CancelledError

from tests.cli.desk import PORT, URL, Desk, FileServer
from tests.scripted import Asked, Mark, Script, answer
from txcouchdl.cli import download
from txcouchdl.cli.connections import LONGEST_HEAD
from txcouchdl.cli.outcomes import (
    BadRanges,
    Changed,
    Exit,
    LocalTrouble,
    Passing,
    Refused,
    Saved,
    Unusable,
    WrongDigest,
)
from txcouchdl.cli.record import read_record
from txcouchdl.cli.spans import Spans
from txcouchdl.cli.verify import Stopped
from txcouchdl.cli.versions import Promise
from txcouchdl.protocol.ranges import ByteRange

NOISE = random.Random(31).randbytes(20_000)
OTHER = random.Random(32).randbytes(20_000)


def desk_for(tmp_path: Path, server: FileServer) -> Desk:
    return Desk(tmp_path, server.factory())


def assert_saved(desk: Desk, content: bytes, name: str = "file.bin") -> None:
    assert desk.read(name) == content
    assert desk.names == {name}


def cut(server: FileServer, after: int, *, every: int = 1, how: Mark = Mark.CLOSE) -> None:
    """Break off each of the answers, or every second and so on, after so many bytes of the body."""
    numbers = count()

    def answer_and_break(asked: Asked) -> Script | None:
        if asked.method == "HEAD" or next(numbers) % every:
            return None
        (whole,) = server.answer(asked)
        assert isinstance(whole, bytes)
        head, _, body = whole.partition(b"\r\n\r\n")
        return [head + b"\r\n\r\n" + body[:after], how]

    server.before = answer_and_break


# As it should be.


@pytest.mark.parametrize("length", [1, 999, 1000, 1001, 4000, 20_000])
@pytest.mark.parametrize("connections", [1, 2, 4, 16])
def test_a_file(tmp_path: Path, length: int, connections: int) -> None:
    server = FileServer(NOISE[:length])
    desk = desk_for(tmp_path, server)
    saved = desk.get(connections=connections)
    assert saved == Saved(str(tmp_path / "file.bin"), length, "sha-256")
    assert_saved(desk, NOISE[:length])
    assert desk.notes.count == length
    assert server.ranges[0] == "bytes=0-999"
    assert len(desk.network.connections) <= min(connections, -(-length // 1000)) + len(server.asked)


def test_a_small_file_is_one_request(tmp_path: Path) -> None:
    server = FileServer(NOISE[:1000])
    desk_for(tmp_path, server).get()
    assert [each.method for each in server.asked] == ["GET"]
    assert "if-range" not in server.asked[0].headers


def test_all_requests_behind_the_first_say_of_what(tmp_path: Path) -> None:
    server = FileServer(NOISE)
    desk_for(tmp_path, server).get()
    assert {each.headers.get("if-range") for each in server.asked[1:]} == {'"version-1"'}
    assert {each.headers["accept-encoding"] for each in server.asked} == {"identity"}


def test_connections_work_at_the_same_time(tmp_path: Path) -> None:
    server = FileServer(NOISE)
    desk = desk_for(tmp_path, server)
    running = desk.start(connections=4)
    seen: list[int] = []

    def look() -> bool:
        seen.append(desk.network.open_connections(PORT))
        return running.called

    desk.network.run(look)
    # One whose answer is not wanted any more may be about to end.
    assert max(seen) in (4, 5)
    assert_saved(desk, NOISE)


@pytest.mark.parametrize("digests", [(), ("sha-256",)])
def test_what_may_be_dear_to_split_has_one_connection(tmp_path: Path, digests: tuple[str, ...]) -> None:
    """As a gateway has them of what is stored compressed."""
    server = FileServer(NOISE, digests=digests)
    desk = desk_for(tmp_path, server)
    desk.get(connections=4)
    assert len(desk.network.connections) == 1
    assert_saved(desk, NOISE)


def test_of_one_connection_the_same_is_used_on(tmp_path: Path) -> None:
    server = FileServer(NOISE)
    desk = desk_for(tmp_path, server)
    desk.get(connections=1)
    assert server.ranges == ["bytes=0-999", "bytes=1000-19999"]
    assert len(desk.network.connections) == 1


@pytest.mark.parametrize("etag", ['"version-1"', None])
def test_an_empty_file(tmp_path: Path, etag: str | None) -> None:
    desk = desk_for(tmp_path, FileServer(b"", etag))
    assert desk.get().length == 0
    assert_saved(desk, b"")


def test_md5_is_better_than_nothing(tmp_path: Path) -> None:
    assert desk_for(tmp_path, FileServer(NOISE, digests=("md5",))).get().verified_by == "md5"


def test_without_a_digest(tmp_path: Path) -> None:
    """On one connection: whoever has no digest may have to make the file anew for each range."""
    server = FileServer(NOISE, digests=())
    desk = desk_for(tmp_path, server)
    saved = desk.get()
    assert saved.verified_by is None
    assert "not verified: the server gives no digest" in saved.sentence
    assert server.ranges == ["bytes=0-999", "bytes=1000-19999"]
    assert server.asked[-1].method == "HEAD"


@pytest.mark.parametrize(("is_right", "is_same"), [(True, True), (False, True), (True, False)])
def test_a_digest_that_is_learned_meanwhile(tmp_path: Path, is_right: bool, is_same: bool) -> None:
    server = FileServer(NOISE, digests=())

    def learn(asked: Asked) -> None:
        if asked.method == "HEAD":
            server.digests = ("sha-256",)
            server.content = NOISE if is_right else OTHER
            server.etag = '"version-1"' if is_same else '"version-2"'

    server.before = learn
    desk = desk_for(tmp_path, server)
    if is_right or not is_same:
        assert desk.get().verified_by == ("sha-256" if is_same else None)
        assert_saved(desk, NOISE)
    else:
        # What came is of no version that is known; what is there now is.
        assert desk.get().verified_by == "sha-256"
        assert_saved(desk, OTHER)


# What breaks off.


@pytest.mark.parametrize("how", [Mark.CLOSE, Mark.ABORT, Mark.SILENCE])
@pytest.mark.parametrize("after", [0, 1, 500])
def test_what_breaks_off_is_gone_on_with(tmp_path: Path, how: Mark, after: int) -> None:
    server = FileServer(NOISE[:8000])
    cut(server, after, every=2, how=how)
    desk = desk_for(tmp_path, server)
    assert desk.get().verified_by
    assert_saved(desk, NOISE[:8000])
    assert desk.notes.sizes == [(8000, 0)]
    assert not desk.notes.said


def test_no_byte_comes_twice(tmp_path: Path) -> None:
    server = FileServer(NOISE)
    cut(server, 700)
    desk = desk_for(tmp_path, server)
    desk.get(connections=1)
    assert server.ranges[:3] == ["bytes=0-999", "bytes=700-19999", "bytes=1400-19999"]
    assert desk.notes.count == 20_000


def test_it_is_given_up(tmp_path: Path) -> None:
    """And what there is of it is kept, and gone on with."""
    server = FileServer(NOISE)
    server.before = lambda asked: None if len(server.asked) < 2 else [Mark.CLOSE]
    desk = desk_for(tmp_path, server)
    with pytest.raises(Passing) as raised:
        desk.get(connections=1)
    assert raised.value.status is Exit.INCOMPLETE
    assert desk.names == {"file.bin.part", "file.bin.part.state"}
    # The second time is Twisted's: the server may just have closed a connection that was idle.
    assert len(server.asked) == 1 + 2 + 10
    server.before = lambda _: None
    server.asked.clear()
    assert desk.get(connections=1).verified_by
    assert server.ranges == ["bytes=1000-1999", "bytes=2000-19999"]
    assert server.asked[0].headers["if-range"] == '"version-1"'
    assert desk.notes.sizes[-1] == (20_000, 1000)
    assert_saved(desk, NOISE)


def test_nobody_answers(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    with pytest.raises(Passing, match="connection refused"):
        desk.get()
    assert desk.names == set()


def test_a_silent_server_is_left(tmp_path: Path) -> None:
    server = FileServer(NOISE, before=lambda _: [Mark.SILENCE])
    desk = desk_for(tmp_path, server)
    with pytest.raises(Passing, match="no answer came in time"):
        desk.get(timeout=5.0)
    assert desk.network.open_connections(PORT) == 0


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_status_that_passes(tmp_path: Path, status: int) -> None:
    server = FileServer(NOISE)
    server.before = lambda _: [answer(status, b"busy", {"Retry-After": "70"})] if len(server.asked) < 3 else None
    desk = desk_for(tmp_path, server)
    desk.get()
    assert_saved(desk, NOISE)
    assert desk.network.seconds() >= 140


def test_connections_that_are_refused_do_not_end_the_others(tmp_path: Path) -> None:
    """A server that is busy most of the time: what one of them brings is progress for all."""
    server = FileServer(NOISE)
    cut(server, 300)
    brings = server.before
    server.before = lambda asked: brings(asked) if len(server.asked) % 5 == 1 else [answer(429, b"")]
    desk = desk_for(tmp_path, server)
    desk.get(connections=4)
    assert_saved(desk, NOISE)
    assert len(server.asked) > 300


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 412, 416])
@pytest.mark.parametrize("is_late", [False, True])
def test_a_status_that_does_not(tmp_path: Path, status: int, is_late: bool) -> None:
    server = FileServer(NOISE)
    server.before = lambda _: [answer(status, b"no")] if len(server.asked) > is_late else None
    desk = desk_for(tmp_path, server)
    with pytest.raises(Refused) as raised:
        desk.get()
    assert raised.value.status is Exit.REFUSED
    # That the end is nearer than it was means another version; but of that nothing comes, either.
    assert desk.names == ({"file.bin.part", "file.bin.part.state"} if is_late else set())


def test_what_fails_ends_the_others(tmp_path: Path) -> None:
    """At once: nobody waits for connections whose bytes are not wanted any more."""
    server = FileServer(NOISE)
    server.before = lambda _: {1: None, 2: [Mark.SILENCE], 3: [Mark.SILENCE]}.get(len(server.asked), [answer(403, b"")])
    desk = desk_for(tmp_path, server)
    with pytest.raises(Refused):
        desk.get()
    assert desk.network.seconds() == 0
    assert desk.network.open_connections(PORT) <= 2, "but idle ones"


def test_interrupted(tmp_path: Path) -> None:
    """What is there is saved before it ends."""
    server = FileServer(NOISE)
    server.before = lambda asked: None if len(server.asked) < 2 else [*server.answer(asked)[:0], Mark.SILENCE]
    desk = desk_for(tmp_path, server)
    running = desk.start()
    desk.network.run()
    running.cancel()
    with pytest.raises(CancelledError):
        desk.wait_for(running)
    assert desk.network.open_connections(PORT) == 0
    server.before = lambda _: None
    server.asked.clear()
    desk.get()
    assert server.ranges[0] == "bytes=1000-1999"
    assert_saved(desk, NOISE)


# A file that is another one now.


def replace_after(server: FileServer, number: int, content: bytes = OTHER, etag: str = '"version-2"') -> None:
    def replace(_: Asked) -> None:
        if len(server.asked) > number:
            server.content, server.etag = content, etag

    server.before = replace


@pytest.mark.parametrize("heeds_if_range", [True, False])
@pytest.mark.parametrize("content", [OTHER, OTHER[:10_000], NOISE + OTHER, OTHER[:500], b""])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_file_that_changes(tmp_path: Path, content: bytes, number: int, heeds_if_range: bool) -> None:
    """The new one comes, and nothing of the old one is in it; no digest is needed to see to that."""
    server = FileServer(NOISE, heeds_if_range=heeds_if_range, digests=("md5",) if number > 1 else ())
    replace_after(server, number, content)
    desk = desk_for(tmp_path, server)
    desk.get(connections=3)
    assert_saved(desk, content)
    assert len(desk.notes.said) == 1
    assert "beginning anew" in desk.notes.said[0]


@pytest.mark.parametrize("digests", [("md5",), ()])
@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_a_file_that_changed_between_two_runs(tmp_path: Path, heeds_if_range: bool, digests: tuple[str, ...]) -> None:
    """Seen at once, and where no digest would tell it in the end, too."""
    server = FileServer(NOISE, heeds_if_range=heeds_if_range, digests=digests)
    server.before = lambda asked: None if len(server.asked) < 2 else [answer(403, b"")]
    desk = desk_for(tmp_path, server)
    with pytest.raises(Refused):
        desk.get()
    server.before = lambda _: None
    server.content, server.etag = OTHER, '"version-2"'
    desk.get()
    assert_saved(desk, OTHER)
    assert "has changed on the server" in desk.notes.said[0]


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_a_file_that_changes_always(tmp_path: Path, heeds_if_range: bool) -> None:
    server = FileServer(NOISE, heeds_if_range=heeds_if_range)
    versions = count()

    def replace(_: Asked) -> None:
        server.etag = f'"version-{next(versions)}"'
        server.content = random.Random(server.etag).randbytes(20_000)

    server.before = replace
    desk = desk_for(tmp_path, server)
    with pytest.raises(Changed) as raised:
        desk.get()
    assert raised.value.status is Exit.WRONG
    assert len(desk.notes.said) == 3
    assert desk.names == set()


def test_the_same_tag_of_other_bytes(tmp_path: Path) -> None:
    """A server that gives two files of one length one tag: the digest it says first is believed."""
    server = FileServer(NOISE)
    replace_after(server, 2, OTHER, '"version-1"')
    desk = desk_for(tmp_path, server)
    desk.get()
    assert_saved(desk, OTHER)


def test_a_pinned_file_that_changed(tmp_path: Path) -> None:
    server = FileServer(NOISE)
    server.before = lambda _: [answer(412, b"")] if len(server.asked) > 1 else None
    desk = desk_for(tmp_path, server)
    with pytest.raises(Refused, match="412: the file is no longer the version that the address names"):
        desk.get(URL + "&digest=md5-x")
    assert not desk.notes.said


# Servers that do other things.


@pytest.mark.parametrize(
    "changes",
    [
        {"etag": None},
        {"etag": 'W/"version-1"'},
        {"etag": "version-1"},
        {"has_ranges": False},
        {"has_ranges": False, "etag": None},
    ],
)
def test_a_server_whose_ranges_cannot_be_used(tmp_path: Path, changes: dict[str, object]) -> None:
    server = FileServer(NOISE, **changes)  # type: ignore[arg-type]
    desk = desk_for(tmp_path, server)
    assert desk.get().verified_by == "sha-256"
    assert_saved(desk, NOISE)
    assert server.ranges[1:] == ([None] if server.has_ranges else [])


def test_without_ranges_it_begins_anew(tmp_path: Path) -> None:
    server = FileServer(NOISE, has_ranges=False)
    desk = desk_for(tmp_path, server)
    numbers = count()
    server.before = lambda asked: _broken(server, asked, 5000 * next(numbers)) if len(server.asked) < 4 else None
    desk.get()
    assert_saved(desk, NOISE)
    assert len(server.asked) == 4


@pytest.mark.parametrize("after", [0, 500, 1000, 5000, 19_999])
@pytest.mark.parametrize("times", [0, 1, 3])
def test_a_server_that_ignores_ranges_now_completes_what_is_there(tmp_path: Path, times: int, after: int) -> None:
    """What is there stays, and is not brought anew, however often all of it breaks off."""
    server = FileServer(NOISE)
    desk = desk_for(tmp_path, server)
    begin(server, desk)
    server.has_ranges = False
    server.before = lambda asked: _broken(server, asked, after) if len(server.asked) <= times else None
    desk.notes.count = 0
    assert desk.get() == Saved(str(tmp_path / "file.bin"), len(NOISE), "sha-256")
    assert_saved(desk, NOISE)
    assert server.ranges == ["bytes=1000-1999", *[None] * times]
    assert desk.notes.count == len(NOISE) - 1000


@pytest.mark.parametrize("how", [Mark.SILENCE, Mark.CLOSE])
def test_what_is_there_survives_a_server_that_ignores_ranges(tmp_path: Path, how: Mark) -> None:
    """It has them again at the next run, which needs the rest only."""
    server = FileServer(NOISE)
    desk = desk_for(tmp_path, server)
    begin(server, desk)
    server.has_ranges = False
    cut(server, 5000, how=how)
    running = desk.start()
    desk.network.run()
    running.cancel()
    with pytest.raises(CancelledError):
        desk.wait_for(running)
    assert_begun(desk)
    server.asked.clear()
    server.has_ranges, server.before = True, lambda _: None
    assert desk.get(connections=1).verified_by == "sha-256"
    assert server.ranges[0] == "bytes=5000-5999"
    assert_saved(desk, NOISE)


def test_a_server_that_ignores_some_ranges(tmp_path: Path) -> None:
    """Several connections bring parts of it; one gets all of it, and what all have brought stays."""
    server = FileServer(NOISE)
    asked = iter(range(100))

    def forget(_: Asked) -> None:
        server.has_ranges = next(asked) < 3

    server.before = forget
    desk = desk_for(tmp_path, server)
    assert desk.get(connections=4).verified_by == "sha-256"
    assert_saved(desk, NOISE)
    assert server.ranges[-1] is None
    assert server.ranges.count(None) == 1
    assert desk.notes.count == len(NOISE)


def test_all_of_another_version_is_no_completion(tmp_path: Path) -> None:
    server = FileServer(NOISE)
    desk = desk_for(tmp_path, server)
    begin(server, desk)
    server.has_ranges = False

    def change(asked: Asked) -> Script | None:
        if len(server.asked) > 1:
            server.content, server.etag = OTHER, '"version-2"'
            return None
        return _broken(server, asked, 5000)

    server.before = change
    assert desk.get().verified_by == "sha-256"
    assert_saved(desk, OTHER)
    assert len(desk.notes.said) == 1


def test_what_is_there_and_wrong_is_found_out(tmp_path: Path) -> None:
    """By the digest of what is completed. Then all of it comes."""
    server = FileServer(NOISE)
    desk = desk_for(tmp_path, server)
    begin(server, desk)
    part = tmp_path / "file.bin.part"
    part.write_bytes(b"wrong" + part.read_bytes()[5:])
    server.has_ranges = False
    assert desk.get().verified_by == "sha-256"
    assert_saved(desk, NOISE)
    assert len(desk.notes.said) == 1


def test_a_digest_that_comes_with_all_of_it(tmp_path: Path) -> None:
    server = FileServer(NOISE, digests=())
    desk = desk_for(tmp_path, server)
    begin(server, desk)
    server.has_ranges, server.digests = False, ("md5",)
    assert desk.get().verified_by == "md5"
    assert_saved(desk, NOISE)
    assert {asked.method for asked in server.asked} == {"GET"}


def test_of_all_of_it_no_more_is_read_than_is_missing(tmp_path: Path) -> None:
    server = FileServer(NOISE)
    desk = desk_for(tmp_path, server)
    begin(server, desk)
    part, state = tmp_path / "file.bin.part", tmp_path / "file.bin.part.state"
    part.write_bytes(NOISE[:1000] + bytes(4000) + NOISE[5000:])
    record = read_record(state.read_bytes())
    assert record is not None
    state.write_bytes(evolve(record, done=Spans([ByteRange(0, 999), ByteRange(5000, 19_999)])).write())
    server.has_ranges = False
    cut(server, 5000, how=Mark.SILENCE)
    assert desk.get().verified_by == "sha-256"
    assert_saved(desk, NOISE)
    assert desk.network.seconds() < 1


def test_all_of_it_that_is_too_short(tmp_path: Path) -> None:
    """By its framing it is all; by what is known of the version it is not."""
    server = FileServer(NOISE)
    desk = desk_for(tmp_path, server)
    begin(server, desk)
    head, _, rest = chunked(NOISE[:5000]).partition(b"\r\n")
    server.before = lambda _: [head + b'\r\nETag: "version-1"\r\n' + rest + b"0\r\n\r\n"]
    with pytest.raises(Passing, match="broke off"):
        desk.get()
    assert_begun(desk)
    assert len(server.asked) > 2


def test_what_was_taken_from_all_of_it_is_saved_meanwhile(tmp_path: Path) -> None:
    server = FileServer(NOISE)
    desk = desk_for(tmp_path, server)
    begin(server, desk)
    server.has_ranges = False
    cut(server, 5000, how=Mark.SILENCE)
    running = desk.start()
    desk.network.run()
    desk.network.pass_time(2)
    record = read_record((tmp_path / "file.bin.part.state").read_bytes())
    assert record is not None
    assert record.done == Spans([ByteRange(0, 4999)])
    running.cancel()
    with pytest.raises(CancelledError):
        desk.wait_for(running)


def _broken(server: FileServer, asked: Asked, after: int) -> Script:
    (whole,) = server.answer(asked)
    assert isinstance(whole, bytes)
    head, _, body = whole.partition(b"\r\n\r\n")
    return [head + b"\r\n\r\n" + body[:after], Mark.CLOSE]


def test_without_ranges_it_is_given_up_where_nothing_new_comes(tmp_path: Path) -> None:
    server = FileServer(NOISE, has_ranges=False)
    cut(server, 5000)
    desk = desk_for(tmp_path, server)
    with pytest.raises(Passing, match="broke off"):
        desk.get()
    assert len(server.asked) == 11
    assert desk.names == set(), "nobody could go on with it"


def test_interrupted_without_ranges(tmp_path: Path) -> None:
    server = FileServer(NOISE, has_ranges=False)
    cut(server, 5000, how=Mark.SILENCE)
    desk = desk_for(tmp_path, server)
    running = desk.start()
    desk.network.run()
    assert desk.read("file.bin.part") == NOISE[:5000]
    running.cancel()
    with pytest.raises(CancelledError):
        desk.wait_for(running)
    assert desk.names == set(), "nobody could go on with it"


def chunked(body: bytes) -> bytes:
    pieces = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in (body[:5], body[5:]) if each)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces


def test_a_file_of_unknown_length(tmp_path: Path) -> None:
    desk = desk_for(tmp_path, FileServer(NOISE, before=lambda _: [chunked(NOISE) + b"0\r\n\r\n"]))
    assert desk.get() == Saved(str(tmp_path / "file.bin"), 20_000, None)
    assert_saved(desk, NOISE)


def test_a_file_of_unknown_length_that_breaks_off(tmp_path: Path) -> None:
    desk = desk_for(tmp_path, FileServer(NOISE, before=lambda _: [chunked(NOISE), Mark.CLOSE]))
    with pytest.raises(Passing):
        desk.get()
    assert "file.bin" not in desk.names


@pytest.mark.parametrize("framing", ["Transfer-Encoding: chunked", "Connection: close"])
@pytest.mark.parametrize("promised", [0, 1, 100_000])
def test_more_than_the_listing_promises(tmp_path: Path, promised: int, framing: str) -> None:
    """It is not read to its end, which it need not have."""
    is_chunked = "chunked" in framing
    piece = b"10000\r\n" + bytes(2**16) + b"\r\n" if is_chunked else bytes(2**16)
    endless = [f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode(), *[piece] * 100]
    desk = desk_for(tmp_path, FileServer(NOISE, before=lambda _: endless))
    with pytest.raises(WrongDigest, match="more comes than the listing says") as caught:
        desk.get(promise=Promise(promised))
    assert caught.value.status == Exit.WRONG
    assert desk.names == set()
    ends = [server for _, server in desk.network.connections]
    assert len(ends) == 2, "it is tried once more"
    assert all(not end.is_connected and end.delivered < promised + 2 * 2**16 for end in ends)


def test_as_much_as_the_listing_promises(tmp_path: Path) -> None:
    desk = desk_for(tmp_path, FileServer(NOISE, before=lambda _: [chunked(NOISE) + b"0\r\n\r\n"]))
    assert desk.get(promise=Promise(len(NOISE))).length == len(NOISE)
    assert_saved(desk, NOISE)


@pytest.mark.parametrize("digest", ["right", "wrong", "none"])
def test_a_file_that_ends_with_its_connection(tmp_path: Path, digest: str) -> None:
    """Whether it is all, only a digest can tell."""
    fields = FileServer(NOISE if digest == "right" else OTHER).fields()["Repr-Digest"]
    line = "" if digest == "none" else f"Repr-Digest: {fields}\r\n"
    head = f"HTTP/1.0 200 OK\r\n{line}\r\n".encode()
    desk = desk_for(tmp_path, FileServer(NOISE, before=lambda _: [head + NOISE, Mark.CLOSE]))
    if digest == "right":
        assert desk.get().verified_by
        assert_saved(desk, NOISE)
    else:
        with pytest.raises(WrongDigest if digest == "wrong" else Unusable):
            desk.get()
        assert "file.bin" not in desk.names


Lie = dict[str, str | None]


@pytest.mark.parametrize(
    "lie",
    [
        {"Content-Range": None},
        {"Content-Range": "bytes 0-999/20000"},
        {"Content-Range": "bytes 1001-19999/20000"},
        {"Content-Range": "bytes 1000-19998/20000"},
        {"Content-Range": "bytes 1000-19999/20001"},
        {"Content-Range": "bytes 1000-19999/*"},
        {"Content-Range": "nonsense"},
        {"Repr-Digest": "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:"},
        {"ETag": '"other"'},
    ],
)
def test_a_range_that_lies(tmp_path: Path, lie: Lie) -> None:
    """It is not joined to what is there; in the end all of it comes."""
    server = FileServer(NOISE)

    def lying(asked: Asked) -> Script | None:
        lies = asked.headers.get("range", "").startswith("bytes=1000-") and len(server.asked) < 6
        server.changes = lie if lies else {}
        return None

    server.before = lying
    desk = desk_for(tmp_path, server)
    desk.get(connections=1)
    assert_saved(desk, NOISE)
    assert 1 <= len(desk.notes.said) <= 3


# Somebody else who answers.


def begin(server: FileServer, desk: Desk, url: str = URL) -> None:
    """A download of which the first thousand bytes are there."""
    server.before = lambda asked: None if len(server.asked) < 2 else [answer(401, b"")]
    with pytest.raises(Refused):
        desk.get(url, connections=1)
    assert_begun(desk)
    server.asked.clear()
    server.before = lambda _: None


def assert_begun(desk: Desk) -> None:
    """It is there, and nothing else."""
    assert desk.names == {"file.bin.part", "file.bin.part.state"}
    assert desk.read("file.bin.part").startswith(NOISE[:1000])


PORTAL = b"<html>log in</html>"
STRANGERS: list[dict[str, str]] = [
    {},
    {"ETag": 'W/"portal"'},
    {"ETag": '"portal"'},
    {"Repr-Digest": FileServer(PORTAL).fields()["Repr-Digest"]},
]


@pytest.mark.parametrize("fields", STRANGERS)
@pytest.mark.parametrize("is_later", [False, True])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_login_page_is_no_new_version(
    tmp_path: Path, fields: dict[str, str], is_later: bool, elsewhere: bool
) -> None:
    """It is not saved under the file's name, and what there is stays; in the end the file comes."""
    server = FileServer(NOISE)
    desk = desk_for(tmp_path, server)
    page = [answer(200, PORTAL, {"Content-Type": "text/html", **fields})]

    def stand_in_the_way(asked: Asked) -> Script | None:
        if len(server.asked) == 1 and not is_later:
            return None
        return page if asked.path == "/login" or not elsewhere else redirect("http://files.example/login")

    if is_later:
        begin(server, desk)
    server.before = stand_in_the_way
    with pytest.raises(Unusable, match="not what answered before") as raised:
        desk.get()
    assert raised.value.status is Exit.INCOMPLETE
    assert not desk.notes.said, "nothing is begun anew"
    assert_begun(desk)
    server.before = lambda _: None
    server.asked.clear()
    desk.get()
    assert server.ranges[0] == "bytes=1000-1999"
    assert_saved(desk, NOISE)


@pytest.mark.parametrize("lie", [{"ETag": None}, {"ETag": 'W/"version-1"'}, {"ETag": '"other"', "Repr-Digest": None}])
def test_a_part_without_a_sign(tmp_path: Path, lie: Lie) -> None:
    server = FileServer(NOISE)
    desk = desk_for(tmp_path, server)
    begin(server, desk)
    server.heeds_if_range = False
    server.changes = lie
    with pytest.raises(Unusable, match="not what answered before"):
        desk.get()
    assert not desk.notes.said
    assert_begun(desk)


def test_a_login_page_behind_another_trouble(tmp_path: Path) -> None:
    """What is there is of a version that had a tag, though nothing was accepted in this run."""
    server = FileServer(NOISE, digests=())
    desk = desk_for(tmp_path, server)
    begin(server, desk)
    server.before = lambda _: [answer(416, b"") if len(server.asked) == 1 else answer(200, PORTAL)]
    with pytest.raises(Unusable, match="not what answered before"):
        desk.get()
    assert_begun(desk)


def test_a_login_page_instead_of_all_of_it(tmp_path: Path) -> None:
    """Where ranges turn out to be none, and the file is to be had in one piece."""
    server = FileServer(NOISE)
    desk = desk_for(tmp_path, server)
    begin(server, desk)
    server.has_ranges = False
    server.before = lambda asked: _broken(server, asked, 5000) if len(server.asked) == 1 else [answer(200, PORTAL)]
    with pytest.raises(Unusable, match="not what answered before"):
        desk.get()
    assert_begun(desk)


def test_what_is_there_and_was_not_promised(tmp_path: Path) -> None:
    """A new listing says something else of the file: that it goes on is no use."""
    server = FileServer(NOISE)
    desk = desk_for(tmp_path, server)
    begin(server, desk)
    with pytest.raises(Unusable, match="another length"):
        desk.get(promise=Promise(1))
    assert len(server.asked) == 1
    assert_begun(desk)


def test_a_login_page_between_two_tries_in_one_piece(tmp_path: Path) -> None:
    """Where there are no ranges, too: the server had a tag."""
    server = FileServer(NOISE, has_ranges=False)
    cut(server, 5000)
    breaks_off = server.before
    server.before = lambda asked: breaks_off(asked) if len(server.asked) < 3 else [answer(200, PORTAL)]
    desk = desk_for(tmp_path, server)
    with pytest.raises(Unusable, match="not what answered before"):
        desk.get()
    assert desk.names == set()


PIN = "AAAAAAAAAAAAAAAAAAAAAA=="
PINNED = f"{URL}&digest=md5-{PIN}"


@pytest.mark.parametrize("has_ranges", [True, False])
@pytest.mark.parametrize("etag", [None, '"other"', f'W/"{PIN}"', f'"{PIN}+gunzip"'])
def test_what_is_not_what_is_pinned(tmp_path: Path, etag: str | None, has_ranges: bool) -> None:
    server = FileServer(NOISE, etag=etag, has_ranges=has_ranges)
    desk = desk_for(tmp_path, server)
    with pytest.raises(Unusable, match="not the version that the address names"):
        desk.get(PINNED)
    assert desk.names == set()


def test_what_is_pinned(tmp_path: Path) -> None:
    """The tag is compared, and not the bytes: the MD5 may be of what is stored."""
    server = FileServer(NOISE, etag=f'"{PIN}"')
    desk = desk_for(tmp_path, server)
    begin(server, desk, PINNED)
    server.etag = '"other"'
    with pytest.raises(Unusable, match="not the version that the address names"):
        desk.get(PINNED)
    assert_begun(desk)
    server.etag = f'"{PIN}"'
    assert desk.get(PINNED).verified_by == "sha-256"
    assert_saved(desk, NOISE)


def test_the_pin_of_what_is_there(tmp_path: Path) -> None:
    server = FileServer(NOISE, etag=f'"{PIN}"')
    desk = desk_for(tmp_path, server)
    desk.get(PINNED)
    assert desk.get(PINNED).was_there
    server.etag = '"other"'
    with pytest.raises(Unusable, match="not the version that the address names"):
        desk.get(PINNED)


def test_other_bytes_than_the_range_says(tmp_path: Path) -> None:
    """Only the digest can tell."""
    server = FileServer(NOISE)

    def shifted(asked: Asked) -> Script | None:
        if asked.headers.get("range") != "bytes=1000-19999":
            return None
        server.changes = {"Content-Range": "bytes 1000-19999/20000"}
        script = server.answer(Asked("GET", asked.target, {"range": "bytes=999-19998"}))
        server.changes = {}
        return script

    server.before = shifted
    desk = desk_for(tmp_path, server)
    with pytest.raises(WrongDigest) as raised:
        desk.get(connections=1)
    assert raised.value.status is Exit.WRONG
    assert desk.names == set()
    assert len(desk.notes.said) == 1, "it is tried once more"


def test_all_of_it_where_a_part_was_asked_for(tmp_path: Path) -> None:
    """Of the same version: a server that sometimes does not know ranges. The file is had in one piece."""
    server = FileServer(NOISE)

    def forget(_: Asked) -> None:
        server.has_ranges = len(server.asked) == 1

    server.before = forget
    desk = desk_for(tmp_path, server)
    assert desk.get().verified_by
    assert_saved(desk, NOISE)
    assert server.ranges[-1] is None


def test_a_part_where_all_of_it_was_asked_for(tmp_path: Path) -> None:
    server = FileServer(NOISE, etag=None)

    def part(asked: Asked) -> Script:
        return server.answer(Asked("GET", asked.target, {"range": "bytes=0-999"}))

    server.before = part
    with pytest.raises(Unusable, match="a part of the file"):
        desk_for(tmp_path, server).get()


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip"])
def test_a_coding_that_nobody_asked_for(tmp_path: Path, coding: str) -> None:
    desk = desk_for(tmp_path, FileServer(NOISE, changes={"Content-Encoding": coding}))
    with pytest.raises(Unusable, match="a coding of the file"):
        desk.get()
    assert desk.names == set()


def test_more_than_the_range(tmp_path: Path) -> None:
    """Chunks without an end: what is behind the range is not written, and the connection is left."""
    server = FileServer(NOISE[:1500])

    def endless(asked: Asked) -> Script | None:
        if asked.headers.get("range") != "bytes=1000-1499":
            return None
        fields = "".join(f"{name}: {value}\r\n" for name, value in server.fields().items())
        head = f"HTTP/1.1 206 OK\r\nContent-Range: bytes 1000-1499/1500\r\nTransfer-Encoding: chunked\r\n{fields}\r\n"
        body = NOISE[1000:1500] + bytes(10_000)
        return [head.encode() + b"%x\r\n%b\r\n" % (len(body), body), Mark.SILENCE]

    server.before = endless
    desk = desk_for(tmp_path, server)
    desk.get()
    assert_saved(desk, NOISE[:1500])
    assert desk.network.seconds() == 0, "nobody waits for more"


@pytest.mark.parametrize("begin", [b"HTTP/1.1 200 OK\r\n", b"", b"HTTP/1.1 102 Processing\r\n\r\n"])
def test_a_head_without_an_end(tmp_path: Path, begin: bytes) -> None:
    line = b"HTTP/1.1 102 Processing\r\n\r\n" if b"102" in begin else b"X-Filler: 0123456789abcdef\r\n"
    server = FileServer(NOISE, before=lambda _: [begin + line * 50_000, Mark.SILENCE])
    desk = desk_for(tmp_path, server)
    with pytest.raises(Passing, match="broke off before there was an answer"):
        desk.get()
    assert max(far.delivered for _, far in desk.network.connections) <= LONGEST_HEAD + 2**16


# Redirects.


def redirect(target: str, status: int = 302) -> Script:
    return [answer(status, b"elsewhere", {"Location": target})]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect(tmp_path: Path, status: int) -> None:
    server = FileServer(NOISE)
    server.before = lambda asked: redirect("/there", status) if asked.path != "/there" else None
    desk = desk_for(tmp_path, server)
    desk.get(token="s3cret")
    assert_saved(desk, NOISE)


def test_redirects_without_an_end(tmp_path: Path) -> None:
    server = FileServer(NOISE, before=lambda _: redirect("/again"))
    with pytest.raises(Unusable, match="more than 5 times"):
        desk_for(tmp_path, server).get()
    assert len(server.asked) == 6


@pytest.fixture
def two(tmp_path: Path) -> tuple[Desk, FileServer, FileServer]:
    """A server that redirects to another origin."""
    first, second = FileServer(NOISE), FileServer(NOISE)
    first.before = lambda _: redirect("http://files.example:81/there")
    desk = desk_for(tmp_path, first)
    desk.network.listen(81, second.factory())
    return desk, first, second


def test_a_token_goes_to_its_origin_only(two: tuple[Desk, FileServer, FileServer]) -> None:
    desk, first, second = two
    desk.get("http://files.example/db/doc/file.bin", token="s3cret")
    assert {each.headers.get("authorization") for each in first.asked} == {"Bearer s3cret"}
    assert all("s3cret" not in str(each) for each in second.asked)
    assert_saved(desk, NOISE)


def test_a_link_that_opens_itself_takes_no_other_token(two: tuple[Desk, FileServer, FileServer]) -> None:
    desk, first, second = two
    desk.get("http://files.example/db/doc/file.bin?signature=x", token="s3cret")
    assert all("s3cret" not in str(each) for each in [*first.asked, *second.asked])


@pytest.mark.parametrize("target", ["ftp://h/", "http://u:p@h/", "//[", "file:///etc/passwd"])
def test_a_redirect_that_is_not_followed(tmp_path: Path, target: str) -> None:
    with pytest.raises(Unusable, match="redirects, but"):
        desk_for(tmp_path, FileServer(NOISE, before=lambda _: redirect(target))).get()


# What is on disk already.


def test_a_file_that_is_there(tmp_path: Path) -> None:
    server = FileServer(NOISE)
    desk = desk_for(tmp_path, server)
    desk.get()
    server.asked.clear()
    saved = desk.get()
    assert saved.was_there
    assert "is there already" in saved.sentence
    assert [each.method for each in server.asked] == ["HEAD"]


@pytest.mark.parametrize("digests", [("sha-256",), ()])
@pytest.mark.parametrize("content", [OTHER, NOISE[:-1], b""])
def test_another_file_that_is_there(tmp_path: Path, content: bytes, digests: tuple[str, ...]) -> None:
    desk = desk_for(tmp_path, FileServer(NOISE, digests=digests))
    (tmp_path / "file.bin").write_bytes(content)
    with pytest.raises(LocalTrouble, match="--force") as raised:
        desk.get()
    assert raised.value.status is Exit.LOCAL
    assert_saved(desk, content)
    desk.get(replaces=True)
    assert_saved(desk, NOISE)


def test_a_directory_that_is_there(tmp_path: Path) -> None:
    desk = desk_for(tmp_path, FileServer(NOISE))
    (tmp_path / "file.bin").mkdir()
    with pytest.raises(LocalTrouble):
        desk.get()
    with pytest.raises(LocalTrouble):
        desk.get(replaces=True)


@pytest.mark.parametrize("kind", ["fifo", "link", "directory"])
@pytest.mark.parametrize("replaces", [True, False])
def test_what_is_no_file_is_not_replaced(tmp_path: Path, kind: str, replaces: bool) -> None:
    """Seen before anything is loaded."""
    server = FileServer(NOISE)
    desk = desk_for(tmp_path, server)
    there = tmp_path / "file.bin"
    if kind == "fifo":
        os.mkfifo(there)
    elif kind == "link":
        there.symlink_to(tmp_path)
    else:
        there.mkdir()
    before = os.lstat(there)
    with pytest.raises(LocalTrouble, match="is no file"):
        desk.get(replaces=replaces)
    assert os.path.samestat(os.lstat(there), before)
    assert "GET" not in [each.method for each in server.asked]
    assert desk.names == {"file.bin"}


OTHER_URL = "http://files.example/db/other/file.bin?token=s3cret"


def test_what_another_address_left_is_left_alone(tmp_path: Path) -> None:
    """Nor is it trusted because the tag is the same; with another token it is the same address."""
    server = FileServer(NOISE)
    desk = desk_for(tmp_path, server)
    begin(server, desk)
    with pytest.raises(LocalTrouble, match="is of another address; remove it, or choose another name"):
        desk.get(OTHER_URL, replaces=True)
    assert not server.asked
    assert_begun(desk)


def test_what_another_address_left_and_is_nothing(tmp_path: Path) -> None:
    """It claims no byte, and is not trusted because the tag is the same."""
    server = FileServer(NOISE)
    desk = desk_for(tmp_path, server)
    begin(server, desk)
    state = tmp_path / "file.bin.part.state"
    record = read_record(state.read_bytes())
    assert record is not None
    state.write_bytes(evolve(record, done=Spans()).write())
    desk.get(OTHER_URL)
    assert server.ranges[0] == "bytes=0-999"
    assert "if-range" not in server.asked[0].headers
    assert_saved(desk, NOISE)


def test_another_token_goes_on(tmp_path: Path) -> None:
    server = FileServer(NOISE)
    server.before = lambda asked: None if len(server.asked) < 2 else [answer(403, b"")]
    desk = desk_for(tmp_path, server)
    with pytest.raises(Refused):
        desk.get()
    state = (tmp_path / "file.bin.part.state").read_text()
    assert "s3cret" not in state
    assert "files.example" not in state
    server.before = lambda _: None
    server.asked.clear()
    desk.get("http://files.example/db/doc/file.bin?expires=9&signature=other")
    assert server.ranges[0] == "bytes=1000-1999"


def test_damage_on_disk_is_seen(tmp_path: Path) -> None:
    """What was downloaded before and is not what it was: the digest is of what is on disk."""
    server = FileServer(NOISE)
    server.before = lambda asked: None if len(server.asked) < 2 else [answer(403, b"")]
    desk = desk_for(tmp_path, server)
    with pytest.raises(Refused):
        desk.get()
    server.before = lambda _: None
    with (tmp_path / "file.bin.part").open("r+b") as part:
        part.write(b"damage")
    desk.get()
    assert_saved(desk, NOISE)
    assert "not what its digest says" in desk.notes.said[0]


def test_complete_but_for_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted while it was verified: one byte is asked for, to see that it is still the same."""
    server = FileServer(NOISE)
    desk = desk_for(tmp_path, server)
    with monkeypatch.context() as patch:
        patch.setattr(download, "is_as_promised", _interrupted)
        with pytest.raises(Stopped):
            desk.get()
    server.asked.clear()
    desk.get()
    assert server.ranges == ["bytes=19999-19999"]
    assert_saved(desk, NOISE)


def _interrupted(file: int, *_: object) -> bool:
    os.close(file)
    raise Stopped


def test_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there is kept, and what was wrong is said."""
    server = FileServer(NOISE)
    desk = desk_for(tmp_path, server)
    real = os.pwrite

    def full(file: int, data: bytes, offset: int) -> int:
        if offset + len(data) > 10_000:
            raise OSError(28, "No space left on device")
        return real(file, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(LocalTrouble, match="No space left on device"):
            desk.get(connections=1)
    server.asked.clear()
    desk.get(connections=1)
    assert server.ranges[0] == "bytes=1000-1999"
    assert_saved(desk, NOISE)


@pytest.mark.parametrize("kind", [BadRanges, WrongDigest])
def test_what_is_wrong_has_one_status(kind: type[Changed]) -> None:
    assert kind("x").status is Exit.WRONG
