"""Files with secrets that others can read: a warning at the start and by ``--check``."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.certificates import certify
from tests.running import ANY_PORT, PATIENCE, environment, nobody, running, twistd
from txcouchdl.exposed_files import exposed_files

SECRET = "a-secret-of-the-links-of-this-gateway"


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that everybody can get to, as pytest's own are not."""
    with TemporaryDirectory(dir="/tmp") as path:
        directory = Path(path)
        directory.chmod(0o755)
        yield directory


@pytest.mark.parametrize(
    ("mode", "how"),
    [
        (0o644, "read"),
        (0o604, "read"),
        (0o602, "changed"),
        (0o666, "read and changed"),
        (0o640, None),
        (0o600, None),
        (0o661, None),
    ],
)
def test_what_a_mode_allows(mode: int, how: str | None, open_directory: Path) -> None:
    file = open_directory / "secret"
    file.touch()
    file.chmod(mode)
    expected = [f"{str(file)!r} can be {how} by every user of this machine: chmod o= would end that"] if how else []
    assert list(exposed_files([str(file), str(file)])) == expected


def test_a_directory_that_keeps_others_out(open_directory: Path) -> None:
    (open_directory / "closed").mkdir(mode=0o700)
    file = open_directory / "closed" / "secret"
    file.touch(0o644)
    file.chmod(0o644)
    assert not list(exposed_files([str(file)]))
    # Through a link, which does not lead around it; and the other way round.
    (open_directory / "link").symlink_to(file)
    assert not list(exposed_files([str(open_directory / "link")]))
    other = open_directory / "other"
    other.touch(0o644)
    other.chmod(0o644)
    (open_directory / "closed" / "link").symlink_to(other)
    assert not list(exposed_files([str(open_directory / "closed" / "link")]))
    assert list(exposed_files([str(other)]))


def test_what_cannot_be_looked_at(open_directory: Path) -> None:
    (open_directory / "loop").symlink_to("loop")
    assert not list(exposed_files([str(open_directory / "missing"), str(open_directory / "loop"), "\0"]))


@pytest.fixture
def files(open_directory: Path) -> dict[str, Path]:
    """A configuration, a link secret, and the keys of two endpoints, all of them open to everybody."""
    (open_directory / "keys").mkdir(mode=0o755)
    certify(open_directory)
    certify(open_directory / "keys")
    paths = {
        "config": open_directory / "couchdl.toml",
        "secret": open_directory / "secret",
        "ssl": open_directory / "key.pem",
    }
    paths["secret"].write_text(SECRET)
    paths["config"].write_text(f'link-secret-file = "{paths["secret"]}"\n')
    for each in (*paths.values(), open_directory / "keys" / "key.pem", open_directory / "cert.pem"):
        each.chmod(0o644)
    return paths


def options(files: dict[str, Path]) -> list[str]:
    secure = f"ssl:0:interface=127.0.0.1:privateKey={files['ssl']}:certKey={files['ssl'].with_name('cert.pem')}"
    return ["--config", str(files["config"]), "-l", ANY_PORT, "-l", secure]


def test_the_start_warns(files: dict[str, Path], tmp_path: Path) -> None:
    with nobody() as port, running(tmp_path, *options(files), COUCHDB_URL=f"http://127.0.0.1:{port}") as process:
        for file in files.values():
            process.out.wait_for(rf"#warn\] '{file}' can be read by every user of this machine")
        process.stop()
        text = process.text()
    assert text.count("by every user of this machine") == len(files), "a certificate is no secret"
    assert SECRET not in text


def test_a_check_warns(files: dict[str, Path], tmp_path: Path) -> None:
    command = twistd("couchdl", "--check", "--store", "store", *options(files))
    for mode, count in ((0o644, len(files)), (0o600, 0)):
        for file in files.values():
            file.chmod(mode)
        ended = subprocess.run(
            command, cwd=tmp_path, env=environment({}), capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert (ended.returncode, ended.stdout) == (0, "twistd couchdl: all is in order\n")
        assert ended.stderr.count("twistd couchdl: warning: ") == ended.stderr.count("by every user") == count
