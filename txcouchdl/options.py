"""The command line of ``twistd couchdl``, and the environment behind it, into checked settings."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar, cast

from attrs import AttrsInstance, fields_dict, frozen
from twisted.python import usage

from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.nodes import BadNodeURL, Node
from txcouchdl.gateway.cors import AllowedOrigins
from txcouchdl.gateway.description import Presentation
from txcouchdl.gateway.limits import ClientLimits
from txcouchdl.gateway.peers import TrustedProxies
from txcouchdl.gateway.tokens import TokenRule
from txcouchdl.settings import Settings, StartError, StoreSettings

DEFAULT_LISTEN: Final = "tcp:8000:interface=127.0.0.1"
DEFAULT_NODE: Final = "http://localhost:5984"
DEFAULT_KEY: Final = "download_token"
DEFAULT_STORE_LISTEN: Final = "tcp:5984:interface=127.0.0.1"
DEMO_DIRECTORY: Final = "couchdl-demo"

_ON_THIS_MACHINE: Final = ("127.0.0.0/8", "::1", "unix")

_Parsed = TypeVar("_Parsed")


# How a number is written, as its default's type has it, and what it is called.
_FORMS: Final[Mapping[type[float], tuple[re.Pattern[str], str]]] = {
    int: (re.compile("[0-9]{1,20}"), "a whole number"),
    float: (re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?"), "a number of seconds"),
}


@frozen
class Number:
    """
    A number that an option or the environment may set.

    :ivar group: the class that has a field for it, and in it the default: an int for a whole number, a float for
        seconds.
    :ivar name: the field's.
    :ivar least: what it is at least.
    :ivar most: what it is at most.
    """

    group: type[AttrsInstance]
    name: str
    least: float
    most: float
    meaning: str

    @property
    def option(self) -> str:
        return self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return f"COUCHDL_{self.name.upper()}"

    @property
    def default(self) -> float:
        return cast(float, fields_dict(self.group)[self.name].default)

    @property
    def help(self) -> str:
        return f"{self.meaning} [default: {self.default:g}]"

    def parse(self, text: str, source: str) -> float:
        """
        :param source: where the text is from, for whoever has to correct it.
        :raises UsageError: if it is not plainly such a number, or out of bounds.
        """
        kind = type(self.default)
        form, words = _FORMS[kind]
        if not form.fullmatch(text) or not self.least <= kind(text) <= self.most:
            raise usage.UsageError(f"{source} takes {words} from {self.least} to {self.most}, such as {self.default:g}")
        return kind(text)


NUMBERS: Final = (
    Number(UpstreamLimits, "stall_timeout", 1, 3600, "Seconds without a byte after which an answer counts as lost."),
    Number(UpstreamLimits, "give_up", 2, 86400, "Seconds without a new byte after which a download is given up."),
    Number(UpstreamLimits, "park_after", 0.1, 86400, "Seconds that a paused client keeps its connection to CouchDB."),
    Number(UpstreamLimits, "max_upstream", 1, 65535, "Exchanges with one CouchDB node at the same time."),
    Number(UpstreamLimits, "queue_timeout", 0, 3600, "Seconds that a request waits for one of --max-upstream."),
    Number(ClientLimits, "max_connections", 1, 1000000, "Clients' connections at the same time."),
    Number(ClientLimits, "header_timeout", 1, 3600, "Seconds from the first byte of a request to its last."),
    Number(ClientLimits, "idle_timeout", 1, 86400, "Seconds that a connection may be open without a request."),
    Number(ClientLimits, "client_timeout", 1, 604800, "Seconds that a client may take nothing of what waits for it."),
    Number(Settings, "guess_limit", 0, 1000000, "Wrong tokens a minute that one address may send; 0 for no limit."),
    Number(Settings, "drain", 0, 86400, "Seconds that downloads may go on once the service is to stop."),
    Number(Settings, "workers", 0, 256, "Processes that answer; 0 for one on each core."),
)


class Options(usage.Options):
    """What :mod:`twisted.python.usage` reads; :attr:`settings` is what came of it."""

    synopsis = "[options]"
    longdesc = (
        "Serves CouchDB's attachments at /{db}/{docid}/{attachment name}?token=..., resumable and seekable, "
        "to whoever knows the secret that the document carries. Numbers, proxies, origins and types may stand in the "
        "environment too: COUCHDL_STALL_TIMEOUT, COUCHDL_CORS_ORIGIN and so on."
    )
    optParameters: ClassVar = [  # noqa: N815 (Twisted's)
        *((each.option, None, None, each.help) for each in NUMBERS),
        ("access-log", None, None, "File for a line of each request; - for standard output. [default: the log]"),
    ]
    settings: Settings

    def __init__(self) -> None:
        super().__init__()
        self._listen: list[str] = []
        self._urls: list[str] = []
        self._proxies: list[str] = []
        self._origins: list[str] = []
        self._inline: list[str] = []
        self._key: str | None = None
        self._store: str | None = None
        self._store_listen: str | None = None
        self._is_demo = False
        self._is_behind_proxy = False

    def opt_listen(self, endpoint: str) -> None:
        """Twisted server endpoint where the gateway answers; repeatable. [default: tcp:8000:interface=127.0.0.1]"""
        self._listen.append(endpoint)

    def opt_couchdb(self, url: str) -> None:
        """CouchDB node, http(s)://user:pass@host:port; repeatable. [default: $COUCHDB_URL, then http://localhost:5984]"""
        self._urls.append(url)

    def opt_token_key(self, key: str) -> None:
        """Field with the secret; dots lead into objects. [default: $DOWNLOAD_TOKEN_KEY_NAME, then download_token]"""
        self._key = key

    def opt_store(self, directory: str) -> None:
        """Run the embedded store on this directory instead of an outside CouchDB."""
        self._store = directory

    def opt_store_listen(self, endpoint: str) -> None:
        """Endpoint where the embedded store answers. [default: tcp:5984:interface=127.0.0.1]"""
        self._store_listen = endpoint

    def opt_trusted_proxy(self, address: str) -> None:
        """Proxy whose X-Forwarded-For, -Proto and -Host are believed: an address, a network or "unix"; repeatable."""
        self._proxies.append(address)

    def opt_behind_proxy(self) -> None:
        """A proxy on this machine stands in front: --trusted-proxy for 127.0.0.0/8, ::1 and unix."""
        self._is_behind_proxy = True

    def opt_cors_origin(self, origin: str) -> None:
        """Site whose pages may read what is sent: https://www.example.org, or * for all; repeatable. [default: none]"""
        self._origins.append(origin)

    def opt_inline(self, media_type: str) -> None:
        """Media type that browsers are to show without a sandbox: application/pdf, text/html; repeatable."""
        self._inline.append(media_type)

    def opt_demo(self) -> None:
        """Run an embedded store in ./couchdl-demo, filled with a text, a sound and a video, and print their links."""
        self._is_demo = True

    opt_l = opt_listen
    opt_c = opt_couchdb
    opt_k = opt_token_key
    opt_s = opt_store

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        :raises StartError: instead of a UsageError, on which twistd would print its whole help and exit with 0.
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise StartError(f"{error} (try: twistd couchdl --help)") from None

    def postOptions(self) -> None:
        self.settings = self._checked(os.environ)

    def _checked(self, environment: Mapping[str, str]) -> Settings:
        if self._is_demo:
            self._demand("--demo has a store of its own: leave --store and --couchdb out", self._store, self._urls)
        elif self._store is not None:
            self._demand("--store and --couchdb exclude each other", self._urls)
        else:
            self._demand("--store-listen needs --store or --demo", self._store_listen)
        store = self._embedded_store()
        return Settings(
            listen=tuple(self._listen) or (DEFAULT_LISTEN,),
            rule=self._rule(environment),
            nodes=self._nodes(environment) if store is None else (),
            store=store,
            is_demo=self._is_demo,
            upstream=self._upstream(environment),
            clients=ClientLimits(**self._numbers(ClientLimits, environment)),
            proxies=self._trusted(environment),
            origins=self._parsed(AllowedOrigins.parse, self._origins, "cors-origin", environment),
            presentation=self._parsed(Presentation.parse, self._inline, "inline", environment),
            access_log=self["access-log"],
            **self._numbers(Settings, environment),
        )

    @staticmethod
    def _demand(otherwise: str, *absent: str | list[str] | None) -> None:
        if any(each is not None and each != [] for each in absent):
            raise usage.UsageError(otherwise)

    def _embedded_store(self) -> StoreSettings | None:
        directory = DEMO_DIRECTORY if self._is_demo else self._store
        if directory is None:
            return None
        listen = DEFAULT_STORE_LISTEN if self._store_listen is None else self._store_listen
        if not directory or not listen:
            raise usage.UsageError("--store and --store-listen cannot be empty")
        return StoreSettings(Path(directory), listen)

    def _rule(self, environment: Mapping[str, str]) -> TokenRule:
        key = self._key if self._key is not None else environment.get("DOWNLOAD_TOKEN_KEY_NAME") or DEFAULT_KEY
        try:
            return TokenRule(key)
        except ValueError as error:
            raise usage.UsageError(f"--token-key or DOWNLOAD_TOKEN_KEY_NAME: {error}") from None

    def _nodes(self, environment: Mapping[str, str]) -> tuple[Node, ...]:
        try:
            nodes = tuple(map(Node.parse, self._urls or _listed(environment, "COUCHDB_URL") or [DEFAULT_NODE]))
        except BadNodeURL as error:
            raise usage.UsageError(f"--couchdb or COUCHDB_URL: {error}") from None
        bases = [node.base for node in nodes]
        if twice := next((base for base in bases if bases.count(base) > 1), None):
            raise usage.UsageError(f"--couchdb or COUCHDB_URL: the node {twice} more than once")
        return nodes

    def _trusted(self, environment: Mapping[str, str]) -> TrustedProxies:
        is_behind_proxy = self._is_behind_proxy or _is_switched_on(environment, "COUCHDL_BEHIND_PROXY")
        local = _ON_THIS_MACHINE if is_behind_proxy else ()
        return self._parsed(
            lambda texts: TrustedProxies.parse([*texts, *local]), self._proxies, "trusted-proxy", environment
        )

    @staticmethod
    def _parsed(
        parse: Callable[[Sequence[str]], _Parsed], given: Sequence[str], option: str, environment: Mapping[str, str]
    ) -> _Parsed:
        """What was given for a repeatable option, or else stands in its variable."""
        variable = f"COUCHDL_{option.replace('-', '_').upper()}"
        try:
            return parse(given or _listed(environment, variable))
        except ValueError as error:
            raise usage.UsageError(f"--{option} or {variable}: {error}") from None

    def _upstream(self, environment: Mapping[str, str]) -> UpstreamLimits:
        limits = UpstreamLimits(**self._numbers(UpstreamLimits, environment))
        # At the end of a stall there has to be time left to heal it.
        if limits.give_up <= limits.stall_timeout:
            pair = f"--give-up ({limits.give_up:g}) must be more than --stall-timeout ({limits.stall_timeout:g})"
            raise usage.UsageError(pair)
        return limits

    def _numbers(self, group: type[AttrsInstance], environment: Mapping[str, str]) -> dict[str, Any]:
        """Those of a group that are set. The group has the defaults of the others."""
        found = {}
        for number in (each for each in NUMBERS if each.group is group):
            if (given := self[number.option]) is not None:
                found[number.name] = number.parse(given, f"--{number.option}")
            elif given := environment.get(number.variable):
                found[number.name] = number.parse(given, number.variable)
        return found


def _is_switched_on(environment: Mapping[str, str], variable: str) -> bool:
    value = environment.get(variable, "")
    if value not in {"", "0", "1"}:
        raise usage.UsageError(f"{variable} takes 1 or 0")
    return value == "1"


def _listed(environment: Mapping[str, str], variable: str) -> list[str]:
    """What stands between the commas of a variable, where something does."""
    return [each.strip() for each in environment.get(variable, "").split(",") if each.strip()]
