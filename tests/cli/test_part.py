"""The file on its way, and its state: what is relied on, what is left alone, and what is never written over."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import evolve

from txcouchdl.cli.outcomes import LocalTrouble
from txcouchdl.cli.part import Part, is_there, tidy
from txcouchdl.cli.places import Place, directory, place, place_inside
from txcouchdl.cli.record import Record
from txcouchdl.cli.spans import Spans
from txcouchdl.protocol.ranges import ByteRange

NAMES = ("f", "f.part", "f.part.state")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path / "f") as found:
        yield found


@contextmanager
def part(here: Place) -> Iterator[Part]:
    opened = Part(here)
    try:
        yield opened
    finally:
        opened.close()


def record(of: Part, length: int = 10, done: int = 0) -> Record:
    spans = Spans([ByteRange(0, done - 1)] if done else ())
    return Record(address="0" * 64, etag='"x"', length=length, inode=of.inode, done=spans)


def files(tmp_path: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file() and "state" not in path.name}


def leave_behind(here: Place, done: int = 4) -> Record:
    with part(here) as it:
        it.begin(record(it))
        it.write(0, b"abcd")
        saved = record(it, done=done)
        it.save(saved)
    return saved


def test_what_was_saved_is_recalled(here: Place, tmp_path: Path) -> None:
    saved = leave_behind(here)
    with part(here) as it:
        assert it.recall() == saved
    assert files(tmp_path) == {"f.part": b"abcd" + bytes(6)}


def test_what_was_not_is_not(here: Place) -> None:
    with part(here) as it:
        it.begin(record(it))
        it.write(0, b"abcd")
    with part(here) as it:
        assert it.recall() == record(it)


def test_what_is_begun_anew_is_forgotten_first(here: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No state on disk claims bytes of the old version when the first of the new one may be written."""
    leave_behind(here)

    def interrupted(*_: object) -> None:
        raise InterruptedError

    with part(here) as it:
        new = evolve(record(it, done=4), etag='"y"')
        with monkeypatch.context() as patch:
            patch.setattr(os, "ftruncate", interrupted)
            with pytest.raises(InterruptedError):
                it.begin(new)
        again = it.recall()
    assert again is not None
    assert (again.etag, again.done.count) == ('"y"', 0)
    assert files(tmp_path) == {"f.part": b"abcd" + bytes(6)}


def test_the_order_of_a_save(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes are durable before a state claims them; a state is before it has its name."""
    steps: list[str] = []

    def tell(name: str, real: Callable[..., None]) -> None:
        def told(*arguments: object, **keywords: object) -> None:
            steps.append(name)
            real(*arguments, **keywords)

        monkeypatch.setattr(os, name, told)

    with part(here) as it:
        it.begin(record(it))
        for name, real in (("fdatasync", os.fdatasync), ("fsync", os.fsync), ("replace", os.replace)):
            tell(name, real)
        it.save(record(it))
        assert steps == ["fdatasync", "fsync", "replace"]
        steps.clear()
        it.begin(record(it))
        assert steps == ["fsync", "replace", "fsync"], "the directory, too"


@pytest.mark.parametrize("spoil", ["garbage", "empty", "directory", "link", "fifo", "missing"])
def test_a_state_that_is_none(here: Place, tmp_path: Path, spoil: str) -> None:
    leave_behind(here)
    with part(here) as it:
        state = tmp_path / "f.part.state"
        written = state.read_bytes()
        state.unlink()
        if spoil == "garbage":
            state.write_bytes(written.replace(b"[0, 3]", b"[0, 9]"))
        elif spoil == "empty":
            state.touch()
        elif spoil == "directory":
            state.mkdir()
        elif spoil == "link":
            (tmp_path / "elsewhere").write_bytes(written)
            state.symlink_to("elsewhere")
        elif spoil == "fifo":
            os.mkfifo(state)
        assert it.recall() is None


def test_a_state_of_another_file(here: Place, tmp_path: Path) -> None:
    leave_behind(here)
    file = tmp_path / "f.part"
    other = tmp_path / "other"
    other.write_bytes(bytes(10))
    other.replace(file)
    with part(here) as it:
        assert it.recall() is None


def test_a_file_of_another_length(here: Place, tmp_path: Path) -> None:
    leave_behind(here)
    os.truncate(tmp_path / "f.part", 9)
    with part(here) as it:
        assert it.recall() is None


def test_one_process_at_a_time(here: Place) -> None:
    with part(here), pytest.raises(LocalTrouble, match="another download is at work"):
        Part(here)
    leave_behind(here)


def test_the_lock_is_on_what_has_the_name(here: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process finishes between our opening the file and our locking it: that file is not ours to write to."""
    (tmp_path / "f.part").touch()
    real = fcntl.flock

    def finished_meanwhile(file: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        (tmp_path / "f.part").write_bytes(b"complete")
        (tmp_path / "f.part").rename(tmp_path / "f")
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", finished_meanwhile)
    with part(here) as it:
        it.begin(record(it))
        it.write(0, b"x")
        assert files(tmp_path) == {"f": b"complete", "f.part": b"x" + bytes(9)}


@pytest.mark.parametrize("kind", ["link", "directory", "fifo", "file"])
def test_what_is_not_ours_is_left_alone(here: Place, tmp_path: Path, kind: str) -> None:
    """A file of another program's; a link that somebody laid out for us."""
    theirs, victim = tmp_path / "f.part", tmp_path / "victim"
    victim.write_bytes(b"theirs")
    if kind == "link":
        theirs.symlink_to(victim)
    elif kind == "directory":
        theirs.mkdir()
    elif kind == "fifo":
        os.mkfifo(theirs)
    else:
        theirs.write_bytes(b"theirs")
    with pytest.raises(LocalTrouble):
        Part(here)
    assert victim.read_bytes() == b"theirs"
    assert kind != "file" or theirs.read_bytes() == b"theirs"


@pytest.mark.parametrize("has_final", [False, True])
def test_a_file_with_another_name_is_left_alone(here: Place, tmp_path: Path, has_final: bool) -> None:
    """Whose second name is not the one that it would have got from here."""
    (tmp_path / "f.part").write_bytes(b"theirs")
    os.link(tmp_path / "f.part", tmp_path / "backup")
    if has_final:
        (tmp_path / "f").write_bytes(b"another")
    with pytest.raises(LocalTrouble, match="has another name"):
        Part(here)
    assert (tmp_path / "f.part").read_bytes() == b"theirs"


def test_a_state_is_not_written_through_a_link(here: Place, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"theirs")
    (tmp_path / "f.part.state.new").symlink_to(victim)
    with part(here) as it, pytest.raises(OSError, match="symbolic link"):
        it.begin(record(it))
    assert victim.read_bytes() == b"theirs"


def test_finishing(here: Place, tmp_path: Path) -> None:
    with part(here) as it:
        it.begin(record(it))
        it.write(0, b"0123456789")
        it.finish(replaces=False)
    assert files(tmp_path) == {"f": b"0123456789"}
    assert os.listdir(tmp_path) == ["f"]


def test_what_has_come_into_being_is_not_replaced(here: Place, tmp_path: Path) -> None:
    with part(here) as it:
        it.begin(record(it))
        (tmp_path / "f").write_bytes(b"theirs")
        with pytest.raises(LocalTrouble, match="meanwhile"):
            it.finish(replaces=False)
        assert files(tmp_path) == {"f": b"theirs", "f.part": bytes(10)}
        it.finish(replaces=True)
    assert files(tmp_path) == {"f": bytes(10)}


def test_without_hard_links(here: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with part(here) as it:
        it.begin(record(it))
        it.finish(replaces=False)
    assert files(tmp_path) == {"f": bytes(10)}
    assert os.listdir(tmp_path) == ["f"]


def test_without_hard_links_nothing_is_replaced_either(
    here: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with part(here) as it:
        it.begin(record(it))
        (tmp_path / "f").write_bytes(b"theirs")
        with pytest.raises(LocalTrouble, match="meanwhile"):
            it.finish(replaces=False)
    assert files(tmp_path) == {"f": b"theirs", "f.part": bytes(10)}


def test_what_is_complete_is_kept_where_its_name_is_taken(here: Place, tmp_path: Path) -> None:
    """Though nobody could go on with it."""
    with part(here) as it:
        it.begin(evolve(record(it), etag=None, length=None))
        it.write(0, b"abc")
        (tmp_path / "f").write_bytes(b"theirs")
        with pytest.raises(LocalTrouble, match="kept"):
            it.finish(replaces=False)
    assert files(tmp_path) == {"f": b"theirs", "f.part": b"abc"}


@pytest.mark.parametrize("replaces", [True, False])
@pytest.mark.parametrize("is_resumable", [True, False])
def test_who_takes_the_name_behind_us(
    here: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaces: bool, is_resumable: bool
) -> None:
    """Another process begins as soon as the part's name is free: its state is its own, and stays."""
    others: list[Part] = []

    def take_over(real: Callable[..., None], name: str) -> None:
        def step(file: str, *arguments: object, **keywords: object) -> None:
            real(file, *arguments, **keywords)
            if file == "f.part" and not others:
                others.append(Part(here))
                others[0].begin(record(others[0], length=20))

        monkeypatch.setattr(os, name, step)

    with part(here) as it:
        it.begin(record(it) if is_resumable else evolve(record(it), etag=None))
        with monkeypatch.context() as monkeypatch:
            take_over(os.replace if replaces else os.unlink, "replace" if replaces else "unlink")
            it.finish(replaces)
    assert files(tmp_path) == {"f": bytes(10), "f.part": bytes(20)}
    others[0].close()
    with part(here) as again:
        assert again.recall() == record(again, length=20)


def test_of_what_nobody_can_go_on_with_nothing_stays(here: Place, tmp_path: Path) -> None:
    with part(here) as it:
        it.begin(evolve(record(it), etag=None, length=None))
        it.write(0, b"abc")
    assert os.listdir(tmp_path) == []


def test_what_has_not_been_looked_at_stays(here: Place, tmp_path: Path) -> None:
    leave_behind(here)
    (tmp_path / "f.part.state").write_bytes(b"of a later version of this program")
    with part(here) as it:
        assert it.recall() is None
    assert files(tmp_path) == {"f.part": b"abcd" + bytes(6)}


@pytest.mark.parametrize("has_state", [True, False])
def test_interrupted_between_two_names(here: Place, tmp_path: Path, has_state: bool) -> None:
    """A finished file is not written to, though the part's name still leads to it."""
    leave_behind(here)
    os.link(tmp_path / "f.part", tmp_path / "f")
    if not has_state:
        (tmp_path / "f.part.state").unlink()
    finished = (tmp_path / "f").read_bytes()
    with part(here) as it:
        assert it.recall() is None
        it.begin(record(it))
        it.write(0, b"XXXX")
    assert (tmp_path / "f").read_bytes() == finished


@pytest.mark.parametrize("step", ["linked", "unlinked"])
def test_tidying_up_behind_that(here: Place, tmp_path: Path, step: str) -> None:
    leave_behind(here)
    os.link(tmp_path / "f.part", tmp_path / "f")
    if step == "unlinked":
        (tmp_path / "f.part").unlink()
    tidy(here)
    assert os.listdir(tmp_path) == ["f"]


def test_tidying_up_leaves_a_download_alone(here: Place, tmp_path: Path) -> None:
    leave_behind(here)
    (tmp_path / "f").write_bytes(b"another")
    tidy(here)
    assert set(os.listdir(tmp_path)) == set(NAMES)


def test_of_nothing_nothing_stays(here: Place, tmp_path: Path) -> None:
    with part(here):
        pass
    assert os.listdir(tmp_path) == []


def test_too_large_for_the_disk(here: Place, tmp_path: Path) -> None:
    with part(here) as it, pytest.raises(LocalTrouble, match="there is room for"):
        it.begin(record(it, length=2**60))
    assert os.listdir(tmp_path) == []


def test_a_short_write_is_gone_on_with(here: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: real(file, bytes(data)[:3], offset))
    with part(here) as it:
        it.begin(record(it))
        it.write(1, b"abcdefgh")
        assert files(tmp_path) == {"f.part": b"\0abcdefgh\0"}


# Places.


def test_places_inside(tmp_path: Path) -> None:
    with directory(tmp_path) as root:
        for _ in range(2):
            with place_inside(root, ("a", "b", "c"), "here") as found:
                assert found.shown == "here/a/b/c"
                assert not is_there(found)
                found.settle()
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("kind", ["link", "file"])
def test_places_that_lead_outside(tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "root"
    root.mkdir()
    if kind == "link":
        (root / "a").symlink_to(outside)
    else:
        (root / "a").touch()
    with directory(root) as descriptor, pytest.raises(LocalTrouble), place_inside(descriptor, ("a", "f"), "root"):
        pass
    assert not list(outside.iterdir())


def test_descriptors_are_closed(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with directory(tmp_path) as root, place_inside(root, ("a", "b", "f"), "x") as found, part(found) as it:
            it.begin(record(it))
            it.recall()
            os.close(it.reader())
            it.discard()
        with pytest.raises(LocalTrouble), directory(tmp_path / "missing"):
            pass
        (tmp_path / "l.part").symlink_to("nowhere")
        with place(tmp_path / "l") as found, pytest.raises(LocalTrouble):
            Part(found)
        (tmp_path / "l.part").unlink()
    assert len(os.listdir("/proc/self/fd")) == before
