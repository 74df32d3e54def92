"""
The layers of the house: arrows go one way, and what is pure imports no I/O (``docs/architecture.rst``).
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import txcouchdl

HOUSE = Path(txcouchdl.__file__).parent
MODULES = {
    ".".join(("txcouchdl", *path.relative_to(HOUSE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in HOUSE.rglob("*.py")
}

#: Each room, and what of the house it may look into. Its own it always may.
ARROWS = {
    "txcouchdl": set(),
    "txcouchdl.short_cache": set(),
    "txcouchdl.protocol": {"txcouchdl.short_cache"},
    "txcouchdl.links": set(),
    "txcouchdl.link_secret": set(),
    "txcouchdl.couch": {"txcouchdl.protocol", "txcouchdl.short_cache"},
    "txcouchdl.page": {"txcouchdl.protocol"},
    "txcouchdl.gateway": {
        "txcouchdl",
        "txcouchdl.couch",
        "txcouchdl.links",
        "txcouchdl.page",
        "txcouchdl.protocol",
        "txcouchdl.short_cache",
    },
    "txcouchdl.store": {"txcouchdl", "txcouchdl.protocol", "txcouchdl.couch.names", "txcouchdl.couch.documents"},
    "txcouchdl.cli": {
        "txcouchdl",
        "txcouchdl.couch.names",
        "txcouchdl.link_secret",
        "txcouchdl.links",
        "txcouchdl.protocol",
    },
    "txcouchdl.demo": {"txcouchdl.couch", "txcouchdl.gateway.tokens"},
    "txcouchdl.settings": {
        "txcouchdl.couch.limits",
        "txcouchdl.couch.nodes",
        "txcouchdl.gateway.access_log",
        "txcouchdl.gateway.cors",
        "txcouchdl.gateway.databases",
        "txcouchdl.gateway.description",
        "txcouchdl.gateway.guesses",
        "txcouchdl.gateway.limits",
        "txcouchdl.gateway.links",
        "txcouchdl.gateway.peers",
        "txcouchdl.gateway.tokens",
    },
    "txcouchdl.options": {
        "txcouchdl.couch.limits",
        "txcouchdl.couch.nodes",
        "txcouchdl.couch.session",
        "txcouchdl.exposed_files",
        "txcouchdl.gateway.access_log",
        "txcouchdl.gateway.cors",
        "txcouchdl.gateway.databases",
        "txcouchdl.gateway.description",
        "txcouchdl.gateway.limits",
        "txcouchdl.gateway.peers",
        "txcouchdl.gateway.tokens",
        "txcouchdl.link_secret",
        "txcouchdl.listening",
        "txcouchdl.settings",
    },
    "txcouchdl.descriptors": set(),
    "txcouchdl.signals": set(),
    "txcouchdl.exposed_files": set(),
    "txcouchdl.log_files": set(),
    "txcouchdl.tls": set(),
    "txcouchdl.listening": {"txcouchdl.settings", "txcouchdl.tls"},
    "txcouchdl.metrics": {"txcouchdl", "txcouchdl.couch", "txcouchdl.gateway", "txcouchdl.listening"},
    "txcouchdl.serving": {
        "txcouchdl.couch",
        "txcouchdl.descriptors",
        "txcouchdl.gateway",
        "txcouchdl.link_secret",
        "txcouchdl.listening",
        "txcouchdl.metrics.counts",
        "txcouchdl.settings",
    },
    "txcouchdl.embedded": {
        "txcouchdl.couch",
        "txcouchdl.demo",
        "txcouchdl.gateway.tokens",
        "txcouchdl.listening",
        "txcouchdl.settings",
        "txcouchdl.store",
    },
    "txcouchdl.workers": {
        "txcouchdl.couch.nodes",
        "txcouchdl.descriptors",
        "txcouchdl.gateway.access_file",
        "txcouchdl.gateway.guess_table",
        "txcouchdl.listening",
        "txcouchdl.metrics.admin",
        "txcouchdl.metrics.counts",
        "txcouchdl.metrics.layout",
        "txcouchdl.metrics.table",
        "txcouchdl.serving",
        "txcouchdl.settings",
        "txcouchdl.tls",
    },
    "txcouchdl.service": {
        "txcouchdl.couch",
        "txcouchdl.embedded",
        "txcouchdl.exposed_files",
        "txcouchdl.listening",
        "txcouchdl.log_files",
        "txcouchdl.metrics",
        "txcouchdl.options",
        "txcouchdl.serving",
        "txcouchdl.settings",
        "txcouchdl.signals",
        "txcouchdl.workers",
    },
}

#: Modules that do no I/O and can be read, tested and fuzzed alone.
PURE = {
    *(module for module in MODULES if module.startswith(("txcouchdl.protocol", "txcouchdl.page"))),
    "txcouchdl.couch.names",
    "txcouchdl.couch.documents",
    "txcouchdl.couch.cutting",
    "txcouchdl.couch.decoding",
    "txcouchdl.couch.document_decoder",
    "txcouchdl.couch.errors",
    "txcouchdl.couch.json_members",
    "txcouchdl.couch.learned",
    "txcouchdl.couch.limits",
    "txcouchdl.couch.membership",
    "txcouchdl.couch.nodes",
    "txcouchdl.couch.range_support",
    "txcouchdl.couch.runs",
    "txcouchdl.couch.session",
    "txcouchdl.couch.shared_decoding",
    "txcouchdl.couch.steps",
    "txcouchdl.couch.tail_proof",
    "txcouchdl.couch.tally",
    "txcouchdl.links",
    "txcouchdl.short_cache",
    "txcouchdl.cli.durations",
    "txcouchdl.gateway.cors",
    "txcouchdl.gateway.credentials",
    "txcouchdl.gateway.databases",
    "txcouchdl.gateway.decoys",
    "txcouchdl.gateway.description",
    "txcouchdl.gateway.guess_windows",
    "txcouchdl.gateway.links",
    "txcouchdl.gateway.pages",
    "txcouchdl.gateway.resuming",
    "txcouchdl.gateway.tally",
    "txcouchdl.gateway.tokens",
    "txcouchdl.gateway.plan",
    "txcouchdl.gateway.refusals",
    "txcouchdl.gateway.errors",
    "txcouchdl.gateway.heads",
    "txcouchdl.gateway.limits",
    "txcouchdl.gateway.peers",
    "txcouchdl.metrics.layout",
    "txcouchdl.store.addresses",
    "txcouchdl.store.answers",
    "txcouchdl.store.checksums",
    "txcouchdl.store.claims",
    "txcouchdl.store.credentials",
    "txcouchdl.store.drafts",
    "txcouchdl.store.external_terms",
    "txcouchdl.store.json_text",
    "txcouchdl.store.listing",
    "txcouchdl.store.logins",
    "txcouchdl.store.query_values",
    "txcouchdl.store.rendering",
    "txcouchdl.store.revision_ids",
    "txcouchdl.store.sessions",
    "txcouchdl.store.values",
    "txcouchdl.workers.restarts",
}
IMPURE = {
    "twisted",
    "treq",
    "klein",
    "zope",
    "socket",
    "asyncio",
    "http",
    "sqlite3",
    "subprocess",
    "threading",
    "os",
    "io",
}


def imports_of(module: str) -> Iterator[str]:
    """Every module that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


def room_of(module: str) -> str:
    return max((room for room in ARROWS if module == room or module.startswith(f"{room}.")), key=len)


def is_within(module: str, room: str) -> bool:
    return module == room or (room != "txcouchdl" and module.startswith(f"{room}."))


def test_every_module_has_a_room() -> None:
    assert {module for module in MODULES if room_of(module) == "txcouchdl"} == {"txcouchdl"}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_arrow_turns_back(module: str) -> None:
    room = room_of(module)
    allowed = {room, *ARROWS[room]}
    ours = {each for each in imports_of(module) if each.split(".")[0] == "txcouchdl"}
    assert not {each for each in ours if not any(is_within(each, one) for one in allowed)}


@pytest.mark.parametrize("module", sorted(PURE))
def test_what_is_pure_stays_pure(module: str) -> None:
    imported = set(imports_of(module))
    assert not {each for each in imported if each.split(".")[0] in IMPURE}
    assert {each for each in imported if each.startswith("txcouchdl")} <= PURE


def test_the_global_reactor_appears_where_a_process_begins() -> None:
    wanting = {module for module in MODULES if "twisted.internet.reactor" in _names(module)}
    assert wanting == {"txcouchdl.service", "txcouchdl.workers.__main__"}


def _names(module: str) -> set[str]:
    tree = ast.walk(ast.parse(MODULES[module].read_text()))
    found = [node for node in tree if isinstance(node, ast.ImportFrom)]
    return {f"{node.module}.{alias.name}" for node in found for alias in node.names}


def test_the_plugin_imports_nothing_of_ours() -> None:
    plugin = Path(__file__).parent.parent / "twisted" / "plugins" / "txcouchdl.py"
    assert "import txcouchdl" not in plugin.read_text()
    assert not (plugin.parent / "__init__.py").exists()
    assert not (plugin.parent.parent / "__init__.py").exists()
