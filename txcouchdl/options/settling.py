"""From what is given to settings: checked, one by one and together."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from attrs import AttrsInstance

from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.nodes import Node
from txcouchdl.gateway.access_log import LineFormat
from txcouchdl.gateway.cors import AllowedOrigins
from txcouchdl.gateway.databases import AllowedDatabases
from txcouchdl.gateway.description import Presentation
from txcouchdl.gateway.limits import ClientLimits
from txcouchdl.gateway.peers import TrustedProxies
from txcouchdl.gateway.tokens import TokenRule
from txcouchdl.link_secret import read_link_secret
from txcouchdl.options.sources import BadOption, Said
from txcouchdl.options.table import DEFAULT_KEY, DEFAULT_LISTEN, DEFAULT_NODE, DEFAULT_STORE_LISTEN, FREE_PORT, NUMBERS
from txcouchdl.settings import Settings, StoreSettings

DEMO_DIRECTORY: Final = "couchdl-demo"

_ON_THIS_MACHINE: Final = ("127.0.0.0/8", "::1", "unix")
#: Options that say where the documents are.
_WHERE: Final = ("demo", "store", "couchdb")

_Parsed = TypeVar("_Parsed")


def settings_of(said: Said) -> Settings:
    """
    :param said: by all sources.
    :raises BadOption: if something is not in order.
    """
    where = _where(said)
    numbers = _numbers(Settings, said)
    if numbers.get("access_log_max_size") and ("access-log" not in said or said["access-log"].text == "-"):
        raise BadOption("--access-log-max-size needs --access-log FILE: nothing else can be rotated")
    store = _embedded_store(said, where)
    return Settings(
        listen=_endpoints(said, "listen") or (DEFAULT_LISTEN,),
        rule=_rule(said),
        databases=_parsed(AllowedDatabases.parse, said, "database"),
        nodes=_nodes(said if where == "couchdb" else {}) if store is None else (),
        store=store,
        is_demo=where == "demo",
        alternative=FREE_PORT if where == "demo" and "listen" not in said else None,
        upstream=_upstream(said),
        clients=ClientLimits(**_numbers(ClientLimits, said)),
        proxies=_trusted(said),
        origins=_parsed(AllowedOrigins.parse, said, "cors-origin"),
        presentation=_parsed(Presentation.parse, said, "inline"),
        asks_password=_is_on(said, "ask-password"),
        admin_listen=_endpoints(said, "admin-listen"),
        access_log=said["access-log"].text if "access-log" in said else None,
        access_log_format=_line_format(said),
        # twistd may go to another directory before the file is read again.
        link_secret_file=_absolute(said, "link-secret-file"),
        config_file=_absolute(said, "config"),
        link_secret=_parsed(lambda texts: read_link_secret(texts[-1]) if texts else None, said, "link-secret-file"),
        **numbers,
    )


def _where(said: Said) -> str | None:
    """
    Which option says where the documents are: the one that the strongest source has.

    :raises BadOption: if that has several.
    """
    given = {name: said[name] for name in _WHERE if name in said and (name != "demo" or _is_on(said, name))}
    strongest = max((each.source for each in given.values()), default=None)
    heeded = [name for name, each in given.items() if each.source is strongest]
    if "demo" in heeded and len(heeded) > 1:
        raise BadOption("--demo has a store of its own: leave --store and --couchdb out")
    if len(heeded) > 1:
        raise BadOption("--store and --couchdb exclude each other")
    if "store-listen" in said and not given.keys() & {"demo", "store"}:
        raise BadOption("--store-listen needs --store or --demo")
    return heeded[0] if heeded else None


def _embedded_store(said: Said, where: str | None) -> StoreSettings | None:
    if where not in {"demo", "store"}:
        return None
    directory = DEMO_DIRECTORY if where == "demo" else said["store"].text
    listen = said["store-listen"].text if "store-listen" in said else DEFAULT_STORE_LISTEN
    if not directory or not listen:
        raise BadOption("--store and --store-listen cannot be empty")
    alternative = FREE_PORT if where == "demo" and "store-listen" not in said else None
    return StoreSettings(Path(directory), listen, alternative)


def _absolute(said: Said, name: str) -> str | None:
    return os.path.abspath(said[name].text) if name in said else None


def _endpoints(said: Said, name: str) -> tuple[str, ...]:
    return said[name].texts if name in said else ()


def _rule(said: Said) -> TokenRule:
    return _parsed(lambda texts: TokenRule(texts[-1] if texts else DEFAULT_KEY), said, "token-key")


def _nodes(said: Said) -> tuple[Node, ...]:
    return _parsed(_different_nodes, said, "couchdb")


def _different_nodes(urls: Sequence[str]) -> tuple[Node, ...]:
    nodes = tuple(map(Node.parse, urls or (DEFAULT_NODE,)))
    bases = [node.base for node in nodes]
    if twice := next((base for base in bases if bases.count(base) > 1), None):
        raise ValueError(f"the node {twice} more than once")
    return nodes


def _trusted(said: Said) -> TrustedProxies:
    local = _ON_THIS_MACHINE if _is_on(said, "behind-proxy") else ()
    return _parsed(lambda texts: TrustedProxies.parse([*texts, *local]), said, "trusted-proxy")


def _line_format(said: Said) -> LineFormat:
    def parse(texts: Sequence[str]) -> LineFormat:
        try:
            return LineFormat(texts[-1]) if texts else LineFormat.COMBINED
        except ValueError:
            raise ValueError(f"takes {' or '.join(each.value for each in LineFormat)}") from None

    return _parsed(parse, said, "access-log-format")


def _is_on(said: Said, name: str) -> bool:
    return name in said and said[name].text == "1"


def _parsed(parse: Callable[[Sequence[str]], _Parsed], said: Said, name: str) -> _Parsed:
    """
    :param parse: raises a ValueError, with a sentence, for what it cannot; for nothing at all it has the default.
    """
    given = said.get(name)
    try:
        return parse(() if given is None else given.texts)
    except ValueError as error:
        raise BadOption(f"{f'--{name}' if given is None else given.where}: {error}") from None


def _upstream(said: Said) -> UpstreamLimits:
    limits = UpstreamLimits(**_numbers(UpstreamLimits, said))
    # At the end of a stall there has to be time left to heal it.
    if limits.give_up <= limits.stall_timeout:
        pair = f"--give-up ({limits.give_up:g}) must be more than --stall-timeout ({limits.stall_timeout:g})"
        raise BadOption(pair)
    if limits.document_memory < limits.max_document:
        pair = f"--document-memory ({limits.document_memory}) must be at least --max-document ({limits.max_document})"
        raise BadOption(pair)
    return limits


def _numbers(group: type[AttrsInstance], said: Said) -> Mapping[str, Any]:
    """Those of a group that are given. The group has the defaults of the others."""
    found = {}
    for number in (each for each in NUMBERS if each.group is group and each.name in said):
        given = said[number.name]
        try:
            found[number.field_name] = number.parse(given.text)
        except ValueError as error:
            raise BadOption(f"{given.where} {error}") from None
    return found
