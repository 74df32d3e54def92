"""The command line of ``twistd couchdl``, and the environment behind it, into checked settings."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TextIO

from attrs import frozen
from twisted.python import usage

from txcouchdl.couch.nodes import BadNodeURL, Node
from txcouchdl.gateway.tokens import TokenRule

DEFAULT_LISTEN: Final = "tcp:8000:interface=127.0.0.1"
DEFAULT_NODE: Final = "http://localhost:5984"
DEFAULT_KEY: Final = "download_token"
DEFAULT_STORE_LISTEN: Final = "tcp:5984:interface=127.0.0.1"
DEMO_DIRECTORY: Final = "couchdl-demo"


class StartError(SystemExit, Exception):
    """
    The service cannot start: one clear line on standard error, exit status 1, no traceback.

    A SystemExit, so that twistd ends with it; an Exception too, so that a daemon tells it to the process that
    waits for it.
    """

    def __init__(self, sentence: str) -> None:
        # An endpoint, or an error of the system's, may bring line ends.
        line = f"twistd couchdl: {' '.join(sentence.split())}"
        super().__init__(line)
        self.code = line

    def tell(self, terminal: TextIO) -> None:
        """Write the line, now that sys.stderr leads to the log. It is not written again."""
        terminal.write(f"{self}\n")
        terminal.flush()
        self.code = 1


@frozen
class StoreSettings:
    """
    :ivar directory: of the embedded store.
    :ivar listen: the endpoint where it answers.
    """

    directory: Path
    listen: str


@frozen
class Settings:
    """
    :ivar listen: the gateway's endpoints, at least one.
    :ivar node: the CouchDB node in front of which the gateway stands; ``None`` for the embedded store.
    :ivar is_demo: whether the embedded store is to be filled with the demo.
    """

    listen: tuple[str, ...]
    rule: TokenRule
    node: Node | None
    store: StoreSettings | None
    is_demo: bool


class Options(usage.Options):
    """What :mod:`twisted.python.usage` reads; :attr:`settings` is what came of it."""

    synopsis = "[options]"
    longdesc = (
        "Serves CouchDB's attachments at /{db}/{docid}/{attachment name}?token=..., resumable and seekable, "
        "to whoever knows the secret that the document carries."
    )
    settings: Settings

    def __init__(self) -> None:
        super().__init__()
        self._listen: list[str] = []
        self._urls: list[str] = []
        self._key: str | None = None
        self._store: str | None = None
        self._store_listen: str | None = None
        self._is_demo = False

    def opt_listen(self, endpoint: str) -> None:
        """Twisted server endpoint where the gateway answers; repeatable. [default: tcp:8000:interface=127.0.0.1]"""
        self._listen.append(endpoint)

    def opt_couchdb(self, url: str) -> None:
        """The CouchDB node, http(s)://user:pass@host:port[/prefix]. [default: $COUCHDB_URL, then http://localhost:5984]"""
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
            node=self._node(environment) if store is None else None,
            store=store,
            is_demo=self._is_demo,
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

    def _node(self, environment: Mapping[str, str]) -> Node:
        urls = self._urls or [url for url in environment.get("COUCHDB_URL", "").split(",") if url.strip()]
        if len(urls) > 1:
            raise usage.UsageError("more than one CouchDB node: this version can use one")
        try:
            return Node.parse(urls[0] if urls else DEFAULT_NODE)
        except BadNodeURL as error:
            raise usage.UsageError(f"--couchdb or COUCHDB_URL: {error}") from None
