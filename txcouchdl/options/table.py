"""
The options: each with its name, which is the same in a configuration file, its variable, and what is told of it. Pure.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from attrs import AttrsInstance, field, fields_dict, frozen

from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.gateway.limits import ClientLimits
from txcouchdl.settings import Settings

DEFAULT_LISTEN: Final = "tcp:8000:interface=127.0.0.1"
DEFAULT_NODE: Final = "http://localhost:5984"
DEFAULT_KEY: Final = "download_token"
DEFAULT_STORE_LISTEN: Final = "tcp:5984:interface=127.0.0.1"
#: Any free port, for a demo on a machine where the ports above are taken.
FREE_PORT: Final = "tcp:0:interface=127.0.0.1"

# How a number is written, as its default's type has it, and what it is called.
_FORMS: Final[Mapping[type[float], tuple[re.Pattern[str], str]]] = {
    int: (re.compile("[0-9]{1,20}"), "a whole number"),
    float: (re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?"), "a number of seconds"),
}


@frozen(kw_only=True)
class Option:
    """
    :ivar name: without the dashes; the key in a configuration file too.
    :ivar metavar: what stands for its value; ``None`` for a switch, which has none.
    :ivar meaning: a sentence.
    :ivar default: for people; empty if it goes without saying.
    :ivar short: its letter, or ``None``.
    :ivar is_repeatable: whether it takes several values: in a variable with commas between them, in a file as a list.
    :ivar variable: of the environment.
    :ivar is_in_file: whether it may stand in a file too.
    :ivar is_restriction: whether without it more is allowed: a variable that is set and says nothing is refused then.
    """

    name: str
    metavar: str | None
    meaning: str
    default: str = ""
    short: str | None = None
    is_repeatable: bool = False
    is_in_file: bool = True
    is_restriction: bool = False
    variable: str = field()

    @variable.default
    def _own_variable(self) -> str:
        return f"COUCHDL_{self.name.replace('-', '_').upper()}"

    @property
    def is_switch(self) -> bool:
        return self.metavar is None

    @property
    def help(self) -> str:
        """What ``--help`` says of it."""
        return f"{self.meaning} [default: {self.default}]" if self.default else self.meaning


@frozen(kw_only=True)
class Number(Option):
    """
    An option that takes a number.

    :ivar group: the class that has a field for it, and in it the default: an int for a whole number, a float for
        seconds.
    :ivar field_name: the field's.
    :ivar least: what it is at least.
    :ivar most: what it is at most.
    """

    group: type[AttrsInstance]
    field_name: str
    least: float
    most: float

    @classmethod
    def of(cls, group: type[AttrsInstance], name: str, least: float, most: float, meaning: str) -> "Number":
        """The option for a field of a group."""
        default = _default(group, name)
        return cls(
            name=name.replace("_", "-"),
            metavar="NUMBER" if isinstance(default, int) else "SECONDS",
            meaning=meaning,
            default=str(default) if isinstance(default, int) else f"{default:g}",
            group=group,
            field_name=name,
            least=least,
            most=most,
        )

    def parse(self, text: str) -> float:
        """
        :raises ValueError: if it is not plainly such a number, or out of bounds.
        """
        kind = type(_default(self.group, self.field_name))
        form, words = _FORMS[kind]
        if not form.fullmatch(text) or not self.least <= kind(text) <= self.most:
            raise ValueError(f"takes {words} from {self.least} to {self.most}, such as {self.default}")
        return kind(text)


def _default(group: type[AttrsInstance], name: str) -> float:
    return cast(float, cast(Any, fields_dict(group))[name].default)


NUMBERS: Final = (
    Number.of(
        UpstreamLimits,
        "stall_timeout",
        1,
        3600,
        "Seconds without a byte after which a request to CouchDB counts as failed.",
    ),
    Number.of(
        UpstreamLimits,
        "hedge_after",
        0,
        3600,
        "With several nodes: seconds without a byte before a second node gets the same request. Only useful below "
        "--stall-timeout; 0 disables it.",
    ),
    Number.of(
        UpstreamLimits,
        "give_up",
        2,
        86400,
        "Seconds without a new byte before a download is aborted; also how long a resumed download waits for "
        "CouchDB. Must be more than --stall-timeout.",
    ),
    Number.of(
        UpstreamLimits,
        "park_after",
        0.1,
        86400,
        "Seconds without a read after which a paused client holds no connection to CouchDB.",
    ),
    Number.of(
        UpstreamLimits,
        "max_upstream",
        1,
        65535,
        "Requests to one CouchDB node at the same time. Further ones wait for --queue-timeout.",
    ),
    Number.of(
        UpstreamLimits,
        "max_inflations",
        1,
        65535,
        "Searches for ranges in compressed attachments at the same time; only those that drop more than 1 MiB "
        "count. Further ones wait for --queue-timeout.",
    ),
    Number.of(
        UpstreamLimits, "max_inflations_per_address", 1, 65535, "Such searches at the same time for one client address."
    ),
    Number.of(
        UpstreamLimits,
        "queue_timeout",
        0,
        3600,
        "Seconds that a request waits for --max-upstream, --max-inflations or --document-memory; then it gets a 503.",
    ),
    Number.of(
        UpstreamLimits,
        "max_document",
        65536,
        2**30,
        "Largest document in bytes, attachment metadata included. A larger document gets a 403.",
    ),
    Number.of(
        UpstreamLimits,
        "document_memory",
        65536,
        2**40,
        "Total bytes of documents over 64 KiB that may be read at the same time; at least --max-document. Further "
        "reads wait for --queue-timeout.",
    ),
    Number.of(ClientLimits, "max_connections", 1, 1000000, "Client connections at the same time."),
    Number.of(
        ClientLimits,
        "max_connections_per_address",
        0,
        1000000,
        "Connections of one client address at the same time; 0 for a sixteenth of --max-connections, but at least 8.",
    ),
    Number.of(ClientLimits, "header_timeout", 1, 3600, "Seconds from the first byte of a request to its last."),
    Number.of(ClientLimits, "idle_timeout", 1, 86400, "Seconds that a connection may stay open without a request."),
    Number.of(
        ClientLimits, "client_timeout", 1, 604800, "Seconds a client may read nothing before its connection is closed."
    ),
    Number.of(
        ClientLimits,
        "half_close_timeout",
        0.1,
        3600,
        "Seconds that a client may read nothing after it has closed its half of the connection.",
    ),
    Number.of(
        Settings,
        "guess_limit",
        0,
        1000000,
        "Wrong tokens a minute before new tokens from the same address must wait; 0 for no limit.",
    ),
    Number.of(
        Settings, "link_grace", 0, 31622400, "Seconds after a link expires in which a started download may continue."
    ),
    Number.of(
        Settings,
        "access_log_max_size",
        0,
        1000000,
        "Megabytes at which the file of --access-log is rotated; 0 for never.",
    ),
    Number.of(Settings, "access_log_keep", 1, 1000, "Number of rotated access log files to keep."),
    Number.of(
        Settings, "drain", 0, 86400, "Seconds that running downloads may continue after the first signal to stop."
    ),
    Number.of(Settings, "workers", 0, 256, "Processes that serve clients; 0 for one on each core."),
)

#: All of them, in the order in which people look for them.
OPTIONS: Final[tuple[Option, ...]] = (
    Option(
        name="listen",
        short="l",
        metavar="ENDPOINT",
        is_repeatable=True,
        meaning="Twisted server endpoint on which the gateway listens; repeatable.",
        default=DEFAULT_LISTEN,
    ),
    Option(
        name="couchdb",
        short="c",
        metavar="URL",
        is_repeatable=True,
        variable="COUCHDB_URL",
        meaning="CouchDB node, http(s)://user:pass@host:port; repeatable.",
        default=f"$COUCHDB_URL, then {DEFAULT_NODE}",
    ),
    Option(
        name="token-key",
        short="k",
        metavar="KEY",
        variable="DOWNLOAD_TOKEN_KEY_NAME",
        meaning="Document field that contains the secret; a dot separates the names of nested fields.",
        default=f"$DOWNLOAD_TOKEN_KEY_NAME, then {DEFAULT_KEY}",
    ),
    Option(
        name="database",
        metavar="GLOB",
        is_restriction=True,
        is_repeatable=True,
        meaning="Database to serve, as a shell pattern: music, media-*; repeatable.",
        default="all of them",
    ),
    Option(
        name="store",
        short="s",
        metavar="DIR",
        meaning="Run the embedded store on this directory instead of an outside CouchDB.",
    ),
    Option(
        name="store-listen",
        metavar="ENDPOINT",
        meaning="Endpoint on which the embedded store listens.",
        default=DEFAULT_STORE_LISTEN,
    ),
    Option(
        name="demo",
        metavar=None,
        meaning="Run an embedded store in ./couchdl-demo, filled with a text, a sound and a video, and print their "
        "links. If port 8000 or 5984 is taken, a free port is used.",
    ),
    Option(
        name="link-secret-file",
        metavar="FILE",
        meaning="File with a secret. Only programs that know it, and the token, can sign expiring links.",
    ),
    Option(
        name="ask-password",
        metavar=None,
        meaning="Ask clients that show no secret for a password, which is the secret: 401 instead of 403.",
    ),
    Option(
        name="trusted-proxy",
        metavar="ADDRESS",
        is_repeatable=True,
        meaning='Proxy whose X-Forwarded-For, -Proto and -Host the gateway trusts: an address, a network or "unix"; '
        "repeatable.",
    ),
    Option(
        name="behind-proxy",
        metavar=None,
        meaning="Trust a proxy on this machine: --trusted-proxy for 127.0.0.0/8, ::1 and unix.",
    ),
    Option(
        name="cors-origin",
        metavar="ORIGIN",
        is_repeatable=True,
        meaning="Site whose scripts may read responses: https://www.example.org, https://*.example.org for all names "
        "below a domain, null, or * for all; repeatable.",
        default="none",
    ),
    Option(
        name="inline",
        metavar="TYPE",
        is_repeatable=True,
        meaning="Media type that browsers may show, and without a sandbox: application/pdf, text/html; repeatable.",
    ),
    Option(
        name="admin-listen",
        metavar="ENDPOINT",
        is_repeatable=True,
        meaning="Endpoint for /_metrics and /_up. It has no password: keep it private; repeatable.",
        default="none",
    ),
    Option(
        name="access-log",
        metavar="FILE",
        meaning="File with one line for each request; - for standard output.",
        default="the log",
    ),
    Option(
        name="access-log-format",
        metavar="FORMAT",
        meaning="Format of these lines: combined or json.",
        default="combined",
    ),
    *NUMBERS,
    Option(
        name="config",
        metavar="FILE",
        is_in_file=False,
        meaning="TOML file with options, under the same names. Environment variables override it; the command line "
        "overrides both.",
    ),
    Option(
        name="check",
        metavar=None,
        is_in_file=False,
        meaning="Check all options, then exit without serving.",
    ),
)
