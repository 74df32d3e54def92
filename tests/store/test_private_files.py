"""The modes of the store's files: only its user can use them, whatever the umask and the directory's owner."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.logger import LogEvent

from tests.gateway.house import logged
from tests.store.serving import Exchange, ServedStore, in_reactor, request, serving
from txcouchdl.store import private_files
from txcouchdl.store.admin import admin_of
from txcouchdl.store.private_files import make_directory, open_private, restrict

_NAMES = {"admin", "blobs", "incoming", "lock", "store.sqlite3", "store.sqlite3-shm", "store.sqlite3-wal"}


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _exposed(directory: Path) -> dict[str, str]:
    """Files and directories below a directory that have a wrong mode."""
    return {
        str(path.relative_to(directory)): f"{_mode(path):o}"
        for path in directory.rglob("*")
        if _mode(path) != (0o700 if path.is_dir() else 0o600)
    }


def _warned_of(events: list[LogEvent]) -> list[Path]:
    return [event["path"] for event in events if "open to other users" in event.get("log_format", "")]


@pytest.fixture(params=[0o000, 0o022, 0o277, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """None, the usual one, and two that keep the user out of its own files."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("mode", [None, 0o755, 0o770, 0o700])
@in_reactor
async def test_only_the_user_can_use_the_files(tmp_path: Path, umask: int, mode: int | None) -> None:
    directory = tmp_path / "store"
    if mode is not None:
        directory.mkdir()
        directory.chmod(mode)
    with logged() as events:
        async with serving(directory, reactor) as served:
            await _fill(served)
            raw = request("PUT", "/db/other/file.bin", bytes(1 << 20))
            upload = served.connect(Exchange(raw[:-1]))
            while not served.files("incoming"):
                await served.ask("GET", "/_up")
            admin_of(directory)
            assert {path.name for path in directory.iterdir()} == _NAMES
            assert _exposed(directory) == {}
            assert _mode(directory) == (0o700 if mode is None else mode)
            upload.tcp.write(raw[-1:])
            await upload.ended
            assert _exposed(directory) == {}
    assert _exposed(directory) == {}
    assert _warned_of(events) == ([directory] if mode in {0o755, 0o770} else [])


async def _fill(served: ServedStore) -> None:
    await served.ask("PUT", "/db")
    rev = (await served.ask("PUT", "/db/doc/small", b"small")).json["rev"]
    await served.ask("PUT", f"/db/doc/large?rev={rev}", bytes(1 << 20), content_type="text/plain")


@in_reactor
async def test_a_store_with_wider_modes_is_restricted(served: ServedStore, tmp_path: Path) -> None:
    """As earlier versions left it. Files inside a directory that others cannot enter keep their modes."""
    await served.ask("PUT", "/db")
    await served.ask("PUT", "/db/doc/file", b"kept")
    # With its log, as after a crash.
    copy = shutil.copytree(served.directory, tmp_path / "copy")
    (copy / "incoming" / "left").write_bytes(b"half")
    for path in copy.rglob("*"):
        path.chmod(0o777 if path.is_dir() else 0o666)
    with logged() as events:
        async with serving(copy, reactor) as opened:
            assert all(name.startswith("blobs/") for name in _exposed(copy))
            assert (await opened.ask("GET", "/db/doc/file")).body == b"kept"
    assert _warned_of(events) == []


def test_an_admin_file_that_others_can_read(tmp_path: Path) -> None:
    """An operator may have given it to another program: its mode stays."""
    (tmp_path / "admin").write_text("adm:pass\n")
    for mode, warnings in ((0o640, 1), (0o604, 1), (0o400, 0), (0o600, 0)):
        (tmp_path / "admin").chmod(mode)
        with logged() as events:
            admin_of(tmp_path)
        assert len(events) == warnings
        assert _mode(tmp_path / "admin") == mode
        assert "pass" not in repr(events)


def test_a_file_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store cannot change its mode. It uses the file, and warns of it."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    path = tmp_path / "file"
    path.write_bytes(b"theirs")
    path.chmod(0o664)
    monkeypatch.setattr(os, "chmod", refuse)
    restrict(path)
    make_directory(tmp_path)
    with open(path, opener=open_private) as file:
        assert file.read() == "theirs"
    with logged() as events:
        private_files.warn_of_exposure(path)
    (event,) = events
    assert (event["path"], event["mode"]) == (path, "0664")


def test_special_bits_stay(tmp_path: Path) -> None:
    directory = tmp_path / "shared"
    directory.mkdir()
    directory.chmod(0o2775)
    make_directory(directory)
    assert _mode(directory) == 0o2700
