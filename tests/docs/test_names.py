"""What the pages call by its name is there, and the references have all of it."""

import json
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock

import txcouchdl.cli.main
from tests.docs.pages import DOCS, PAGES, ROOT
from txcouchdl.cli.bearer import VARIABLE
from txcouchdl.gateway.access_log import refusal_log_json
from txcouchdl.metrics.exposition import Exposition
from txcouchdl.metrics.layout import LOSSES, Layout
from txcouchdl.metrics.table import Table
from txcouchdl.options.table import OPTIONS

COMMAND = txcouchdl.cli.main.cli
OF_THE_GATEWAY = {f"--{option.name}" for option in OPTIONS}
OF_THE_COMMAND = {
    spelling
    for command in (COMMAND, *COMMAND.commands.values())
    for parameter in command.params
    for spelling in parameter.opts
}
#: Options of twistd, curl, the benchmarks and others that prose speaks of.
OF_OTHERS = {
    "--anyauth",
    "--auth-no-challenge",
    "--build-arg",
    "--chroot",
    "--content-disposition",
    "--gid",
    "--logfile",
    "--password",
    "--pidfile",
    "--quick",
    "--retry",
    "--rounds",
    "--uid",
    "--user",
}
VARIABLES = {
    *(option.variable for option in OPTIONS),
    # The command's.
    VARIABLE,
    # For the tests.
    "COUCHDB_URLS",
    # Those of CouchDB's image.
    "COUCHDB_PASSWORD",
    "COUCHDB_USER",
}

by_page = pytest.mark.parametrize("page", PAGES)


@by_page
def test_options(page: str) -> None:
    named = set(re.findall(r"``(?:-\w``, ``)?(--[a-z][a-z-]*)", PAGES[page]))
    assert named <= OF_THE_GATEWAY | OF_THE_COMMAND | OF_OTHERS


@by_page
def test_command_lines(page: str) -> None:
    lines = PAGES[page].replace("\\\n", " ").splitlines()
    behind = {
        option
        for line in lines
        if (found := re.search(r"twistd\b.* couchdl (.*)", line))
        for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", found[1])
    }
    assert behind <= OF_THE_GATEWAY | {"--help"}


@by_page
def test_variables(page: str) -> None:
    named = set(re.findall(r"\bCOUCHD[BL]_[A-Z_]*[A-Z]\b|\bDOWNLOAD_TOKEN_[A-Z_]+\b", PAGES[page]))
    assert named <= VARIABLES


@by_page
def test_paths(page: str) -> None:
    """Of files of this project."""
    named = set(re.findall(r"``((?:docs|tests|deploy|txcouchdl|benchmarks)/[\w./-]+)``", PAGES[page]))
    assert not {each for each in named if not (ROOT / each).exists()}


def test_where_the_readme_leads() -> None:
    leads = set(re.findall(r"<([\w./]+)>`_", PAGES["README.rst"]))
    assert len(leads) > 4
    assert not {each for each in leads if not (ROOT / each).is_file()}


def test_the_reference_has_every_option_once() -> None:
    named = re.findall(r"^   ([a-z][a-z-]*)$", PAGES["options.rst"], re.MULTILINE)
    assert sorted(named) == sorted(option.name for option in OPTIONS)


def test_the_reference_has_every_command_once() -> None:
    named = re.findall(r"^\.\. couchdl-command::(?: (\S+))?$", PAGES["couchdl.rst"], re.MULTILINE)
    assert sorted(named) == sorted(["", *COMMAND.commands])


def test_the_table_of_metrics() -> None:
    rows = re.findall(r"^``(couchdl_\w+)`` +(\w+)  +((?:.*\n)(?: {20,}.*\n)*)", PAGES["operating.rst"], re.MULTILINE)
    told = {name: (kind, set(re.findall(r"[Bb]y ``(\w+)``", text))) for name, kind, text in rows}
    exposition = Exposition(Table.own(Layout(["http://node"])), Clock()).text().decode()
    there = {}
    for family in text_string_to_metric_families(exposition):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        there[name] = (family.type, labels if name != "couchdl_build_info" else set())
    assert told == there
    losses = next(text for name, _, text in rows if name == "couchdl_healings_total")
    assert set(re.findall(r"``(\w+)``", losses)) == {"loss", *LOSSES}


@by_page
def test_metrics(page: str) -> None:
    known = set(re.findall(r"^``(couchdl_\w+)``", PAGES["operating.rst"], re.MULTILINE))
    assert set(re.findall(r"\bcouchdl_[a-z_]+", PAGES[page])) <= known


def test_the_fields_of_a_line_in_json() -> None:
    page = PAGES["operating.rst"]
    begin = page.index("``--access-log-format json``")
    told = re.findall(r"``([a-z]+)``", page[begin : page.index("; what is not known", begin)])
    assert {*told} == json.loads(refusal_log_json("now", IPv4Address("TCP", "192.0.2.7", 50000), 400, 0)).keys()


def test_every_page_is_in_the_index() -> None:
    named = set(re.findall(r"^   ([a-z]+)$", PAGES["index.rst"], re.MULTILINE))
    assert named == {path.stem for path in DOCS.glob("*.rst")} - {"index"}


def test_the_house_has_every_module() -> None:
    """The plan in docs/architecture.rst, against what is there. Of some rooms it only says what they are."""
    page = PAGES["architecture.rst"]
    plan = page[page.index("    txcouchdl/\n") : page.index("    twisted/plugins/")]
    rooms: list[str] = []
    told: dict[str, set[str]] = {}
    for line in plan.splitlines():
        indent, name = re.match(r" {4}( *)(\S+)", line).groups()  # type: ignore[union-attr]
        del rooms[len(indent) // 2 :]
        if name.endswith("/"):
            rooms.append(name)
            told["".join(rooms)] = set()
        elif name.endswith(".py"):
            told["".join(rooms)].add(name)
    there: dict[str, set[str]] = {}
    for path in (ROOT / "txcouchdl").rglob("*.py"):
        there.setdefault(f"{path.parent.relative_to(ROOT)}/", set()).add(path.name)
    assert told.keys() == there.keys()
    assert {room: modules for room, modules in told.items() if modules} == {
        room: modules - {"__init__.py"} for room, modules in there.items() if told[room]
    }
