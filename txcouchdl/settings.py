"""What the service is told: checked values, wherever they come from."""

from pathlib import Path
from typing import TextIO

from attrs import field, frozen

from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.couch.nodes import Node
from txcouchdl.gateway.access_log import LineFormat
from txcouchdl.gateway.cors import AllowedOrigins
from txcouchdl.gateway.databases import AllowedDatabases
from txcouchdl.gateway.description import Presentation
from txcouchdl.gateway.guesses import GUESS_LIMIT
from txcouchdl.gateway.limits import ClientLimits
from txcouchdl.gateway.links import LINK_GRACE
from txcouchdl.gateway.peers import TrustedProxies
from txcouchdl.gateway.tokens import TokenRule


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
    :ivar alternative: where it answers if that port is taken; ``None`` to refuse the start.
    """

    directory: Path
    listen: str
    alternative: str | None = None


@frozen
class Settings:
    """
    :ivar listen: the gateway's endpoints, at least one.
    :ivar alternative: where it answers if the port of one of these is taken; ``None`` to refuse the start.
    :ivar nodes: the CouchDB nodes in front of which the gateway stands, none of them twice; empty for the embedded
        store, and for nothing else.
    :ivar is_demo: whether the embedded store is to be filled with the demo.
    :ivar guess_limit: wrong tokens a minute of one address that need not wait; 0 for any number.
    :ivar proxies: whose word is believed about a client's address, and about our own.
    :ivar origins: sites whose pages may read what is sent.
    :ivar presentation: how browsers are to show it.
    :ivar databases: which of them may be read.
    :ivar link_secret: what it takes, beside a token, to sign a link; ``None`` if the token is enough.
    :ivar link_secret_file: an absolute path: where that secret comes from.
    :ivar config_file: an absolute path: where options come from.
    :ivar asks_password: whether clients that show no secret are asked for a password.
    :ivar link_grace: seconds after its end that a link lets go on what began before.
    :ivar admin_listen: endpoints for operators.
    :ivar access_log: the file of its lines; ``-`` for standard output, ``None`` where they are events of the log.
    :ivar access_log_format: of these lines, wherever they go.
    :ivar access_log_max_size: megabytes at which the file is rotated; 0 to leave that to others.
    :ivar access_log_keep: how many rotated files are kept.
    :ivar drain: seconds that downloads may go on once the service is to stop.
    :ivar workers: processes that answer; 0 for one on each core. With more than one, none of them is this one.
    """

    listen: tuple[str, ...]
    rule: TokenRule
    nodes: tuple[Node, ...]
    store: StoreSettings | None
    is_demo: bool
    alternative: str | None = None
    upstream: UpstreamLimits = field(factory=UpstreamLimits)
    clients: ClientLimits = field(factory=ClientLimits)
    guess_limit: int = GUESS_LIMIT
    proxies: TrustedProxies = field(factory=TrustedProxies)
    origins: AllowedOrigins = field(factory=AllowedOrigins)
    presentation: Presentation = field(factory=Presentation)
    databases: AllowedDatabases = field(factory=AllowedDatabases)
    link_secret: bytes | None = field(default=None, repr=False)
    link_secret_file: str | None = None
    # What it says is in the other fields.
    config_file: str | None = field(default=None, eq=False)
    link_grace: float = LINK_GRACE
    asks_password: bool = False
    admin_listen: tuple[str, ...] = ()
    access_log: str | None = None
    access_log_format: LineFormat = LineFormat.COMBINED
    access_log_max_size: int = 0
    access_log_keep: int = 8
    drain: float = 30.0
    workers: int = 1

    @property
    def endpoints(self) -> tuple[str, ...]:
        """All of them: the gateway's, the operators' and the store's."""
        return (*self.listen, *self.admin_listen, *(() if self.store is None else (self.store.listen,)))

    @property
    def secret_files(self) -> tuple[str, ...]:
        """The files that hold secrets, other than keys of endpoints."""
        return tuple(each for each in (self.config_file, self.link_secret_file) if each is not None)
