"""Limits that cannot act: a warning at the start and by ``--check``, and no refusal."""

import subprocess
from pathlib import Path

import pytest

from tests.running import ANY_PORT, PATIENCE, environment, nobody, running, twistd
from txcouchdl.options import Options
from txcouchdl.options.idle_limits import idle_limits

_NODES = ("-c", "http://a", "-c", "http://b")

#: What is given, and what the only warning begins with: ``None`` for no warning.
_CASES = [
    ((), None),
    (_NODES, None),
    ((*_NODES, "--hedge-after=20", "--stall-timeout=6"), "--hedge-after (20) is not less than --stall-timeout (6)"),
    ((*_NODES, "--hedge-after=6", "--stall-timeout=6"), "--hedge-after (6) is not less than --stall-timeout (6)"),
    ((*_NODES, "--stall-timeout=2.5"), "--hedge-after (3) is not less than --stall-timeout (2.5)"),
    ((*_NODES, "--hedge-after=5.9", "--stall-timeout=6"), None),
    ((*_NODES, "--hedge-after=0", "--stall-timeout=2"), None),
    (("-c", "http://a", "--hedge-after=20", "--stall-timeout=6"), None),
    (("--store=x", "--hedge-after=20", "--stall-timeout=6"), None),
    (("--park-after=10", "--client-timeout=10"), "--park-after (10) is not less than --client-timeout (10)"),
    (("--park-after=10", "--client-timeout=10.5"), None),
    (
        ("--max-connections-per-address=5000",),
        "--max-connections-per-address (5000) is more than --max-connections (4096)",
    ),
    (("--max-connections-per-address=4096",), None),
    (("--max-connections=4",), None),
    (("--max-inflations=2",), "--max-inflations-per-address (4) is more than --max-inflations (2)"),
    (("--max-inflations=4",), None),
]


@pytest.mark.parametrize(("arguments", "warning"), _CASES)
def test_idle_limits(arguments: tuple[str, ...], warning: str | None) -> None:
    options = Options()
    options.parseOptions([*arguments])
    warnings = list(idle_limits(options.settings))
    assert len(warnings) == (warning is not None)
    assert all(each.startswith(f"{warning}: ") for each in warnings)


def test_all_pairs_at_once() -> None:
    options = Options()
    limits = ("--stall-timeout=2", "--client-timeout=1", "--max-connections-per-address=5000", "--max-inflations=1")
    options.parseOptions([*_NODES, *limits])
    assert len(list(idle_limits(options.settings))) == 4


def test_a_check_warns(tmp_path: Path) -> None:
    command = twistd("couchdl", "--check", "--store", "store", "--max-inflations", "2")
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment({}), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "twistd couchdl: all is in order\n")
    assert ended.stderr.startswith("twistd couchdl: warning: --max-inflations-per-address (4) is more than")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_start_warns(workers: str, tmp_path: Path) -> None:
    """Once, however many workers there are."""
    arguments = ("-l", ANY_PORT, "--max-inflations", "3", "--workers", workers)
    with nobody() as port, running(tmp_path, *arguments, COUCHDB_URL=f"http://127.0.0.1:{port}") as process:
        process.out.wait_for(r"#warn\] --max-inflations-per-address \(4\) is more than --max-inflations \(3\): ")
        process.stop()
        assert process.text().count("is more than --max-inflations") == 1
