"""The command line of ``twistd couchdl``, as :mod:`twisted.python.usage` reads it."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.python import usage

from txcouchdl.exposed_files import exposed_files
from txcouchdl.listening import check_endpoint, key_files
from txcouchdl.options.idle_limits import idle_limits
from txcouchdl.options.login import NodeUnreachable, check_login
from txcouchdl.options.settling import settings_of
from txcouchdl.options.sources import BadOption, in_environment, in_file, merged, on_command_line
from txcouchdl.options.table import OPTIONS, Option
from txcouchdl.settings import Settings, StartError

_IN_ORDER: Final = "twistd couchdl: all is in order"


class Options(usage.Options):
    """What twistd asks for; :attr:`settings` is what came of it."""

    synopsis = "[options]"
    longdesc = (
        "Serves CouchDB's attachments at /{db}/{docid}/{attachment name}?token=..., resumable and seekable, "
        "to whoever knows the secret that the document carries. Options may stand in the environment too: "
        "COUCHDL_STALL_TIMEOUT, COUCHDL_CORS_ORIGIN and so on; and in a file: see --config."
    )
    settings: Settings

    def __init__(self) -> None:
        super().__init__()
        self._said: list[tuple[str, str]] = []

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        :raises StartError: instead of a UsageError, on which twistd would print its whole help and exit with 0.
        :raises SystemExit: if nothing but a check was wanted, and all is in order.
        """
        try:
            super().parseOptions(options)
        except (usage.UsageError, BadOption) as error:
            raise StartError(f"{error} (try: twistd couchdl --help)") from None

    def postOptions(self) -> None:
        said = merged(in_environment(os.environ), on_command_line(self._said))
        if "config" in said:
            said = merged(in_file(said["config"].text), said)
        self.settings = settings_of(said)
        if "check" in said and said["check"].text == "1":
            self._check()

    def _check(self) -> None:
        for endpoint in self.settings.endpoints:
            check_endpoint(endpoint)
        warnings = [
            *idle_limits(self.settings),
            *exposed_files((*self.settings.secret_files, *key_files(self.settings.endpoints))),
        ]
        for node in self.settings.nodes:
            try:
                check_login(node)
            except NodeUnreachable as error:
                warnings.append(str(error))
        for each in warnings:
            sys.stderr.write(f"twistd couchdl: warning: {each}\n")
        print(_IN_ORDER)  # noqa: T201 (that is what was asked for)
        raise SystemExit(0)


def _taking(option: Option) -> Callable[..., None]:
    """The method by which twisted.python.usage gives us an option."""

    def take(self: Any, text: str) -> None:
        self._said.append((option.name, text))

    def switch(self: Any) -> None:
        self._said.append((option.name, "1"))

    method = switch if option.is_switch else take
    method.__doc__ = option.help
    return method


for _option in OPTIONS:
    _method = _taking(_option)
    for _name in filter(None, (_option.name.replace("-", "_"), _option.short)):
        setattr(Options, f"opt_{_name}", _method)
