"""What ``docs/deploying.rst`` and the index of ``deploy/`` name is there."""

import re

import pytest

from tests.deploy import DEPLOY, ROOT
from tests.deploy.units import Unit
from txcouchdl.options.table import OPTIONS

MANUAL = (ROOT / "docs" / "deploying.rst").read_text("utf-8")
FILES = sorted(each for each in DEPLOY.rglob("*") if each.is_file())


def test_the_index_has_every_file() -> None:
    index = (DEPLOY / "README.rst").read_text("utf-8")
    named = {DEPLOY / each for each in re.findall(r"^``((?:systemd|docker|nginx|caddy)/\S+)``", index, re.MULTILINE)}
    # Who tries the composition has a file with passwords there.
    assert named == {each for each in FILES if each.name not in {"README.rst", ".env"}}


@pytest.mark.parametrize("named", sorted(set(re.findall(r"\bdeploy/[\w./]+", MANUAL))))
def test_files_that_the_manual_names(named: str) -> None:
    assert (ROOT / named).exists()


def test_options_and_variables_that_the_manual_names() -> None:
    known = {f"--{each.name}" for each in OPTIONS}
    theirs = {"--build", "--build-arg", "--cap-drop", "--config", "--env-file", "--now", "--read-only", "--time"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", MANUAL)) <= known | theirs | {"--upgrade", "--wait"}
    couchdbs = {"COUCHDB_USER", "COUCHDB_PASSWORD"}
    assert set(re.findall(r"\bCOUCHD[LB]_[A-Z_]+", MANUAL)) <= {each.variable for each in OPTIONS} | couchdbs


def test_numbers_that_the_manual_has_of_the_unit() -> None:
    unit = Unit.read("couchdl.service")
    assert f"``TimeoutStopSec`` is {unit.one('TimeoutStopSec')} s" in MANUAL
    ports = [each.rpartition(":")[2] for each in Unit.read("couchdl.socket").all("ListenStream")]
    assert f"on {ports[0]} for the proxy in front and on {ports[1]} for operators" in MANUAL
