"""The file with the admin's name and password: made once, read back, refused where it is not one."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from txcouchdl.store.admin import NoAdmin, admin_of
from txcouchdl.store.credentials import Credentials
from txcouchdl.store.errors import StoreError


@pytest.fixture
def open_umask() -> Iterator[None]:
    """New files for all the world to read, where nobody says otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)


def refusal(directory: Path) -> str:
    with pytest.raises(NoAdmin) as caught:
        admin_of(directory)
    assert isinstance(caught.value, StoreError)
    assert len(str(caught.value).splitlines()) == 1
    assert str(directory / "admin") in str(caught.value)
    return str(caught.value)


def test_made_where_there_is_none(tmp_path: Path) -> None:
    admin = admin_of(tmp_path)
    assert admin.name == "admin"
    # 192 bits, in the alphabet of URLs: 32 characters.
    assert len(admin.password) == 32
    assert (tmp_path / "admin").read_text() == f"admin:{admin.password}\n"
    assert os.listdir(tmp_path) == ["admin"], "and no draft left"


def test_made_once(tmp_path: Path) -> None:
    first = admin_of(tmp_path)
    written = (tmp_path / "admin").stat()
    assert admin_of(tmp_path) == first
    assert (tmp_path / "admin").stat().st_mtime_ns == written.st_mtime_ns


def test_made_anew_for_each_store(tmp_path: Path) -> None:
    passwords = set()
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        passwords.add(admin_of(tmp_path / name).password)
    assert len(passwords) == 3


def test_for_the_owners_eyes_only(tmp_path: Path, open_umask: None) -> None:
    admin_of(tmp_path)
    assert stat.S_IMODE((tmp_path / "admin").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_draft_that_a_crash_left(tmp_path: Path, mode: int, open_umask: None) -> None:
    draft = tmp_path / "admin.new"
    draft.write_text("admin:half-a-passw, and more than the new one is long" * 9)
    draft.chmod(mode)
    admin = admin_of(tmp_path)
    assert admin_of(tmp_path) == admin
    assert len(admin.password) == 32
    assert stat.S_IMODE((tmp_path / "admin").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("text", "name", "password"),
    [
        (b"adm:pass\n", "adm", "pass"),
        (b"adm:pass", "adm", "pass"),
        (b"adm:pass\r\n", "adm", "pass"),
        (b"adm:a:b:c\n", "adm", "a:b:c"),
        (b"adm: with spaces \n", "adm", " with spaces "),
        ("jürgen:größe\n".encode(), "jürgen", "größe"),
    ],
)
def test_written_by_hand(tmp_path: Path, text: bytes, name: str, password: str) -> None:
    (tmp_path / "admin").write_bytes(text)
    assert admin_of(tmp_path) == Credentials(name, password)
    assert (tmp_path / "admin").read_bytes() == text


_LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), min_size=1)


@given(_LINE.filter(lambda name: ":" not in name), _LINE)
@example("admin", ":")
@example("admin", "\x85\u2028\x0c")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_line_is_read_back_as_it_was_written(tmp_path: Path, name: str, password: str) -> None:
    (tmp_path / "admin").write_bytes(f"{name}:{password}\n".encode())
    assert admin_of(tmp_path) == Credentials(name, password)


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"adm", b"adm\n", b":pass\n", b"adm:\n", b":\n", b"adm:pass\nsecond:line\n", b"adm:p\xff\n"]
)
def test_damaged(tmp_path: Path, text: bytes) -> None:
    """It is refused, and left as it is: somebody may want to mend it."""
    (tmp_path / "admin").write_bytes(text)
    sentence = refusal(tmp_path)
    assert "line" not in sentence
    assert (tmp_path / "admin").read_bytes() == text


def test_a_directory_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "admin").mkdir()
    refusal(tmp_path)


def test_no_directory_to_make_it_in(tmp_path: Path) -> None:
    refusal(tmp_path / "missing")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_not_ours_to_read(tmp_path: Path) -> None:
    (tmp_path / "admin").write_text("adm:pass\n")
    (tmp_path / "admin").chmod(0)
    refusal(tmp_path)
