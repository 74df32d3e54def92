"""The options that commands have in common, and what is made of them."""

import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import SystemRandom
from typing import Any, NoReturn, TypeVar

import click
from attrs import field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThreadPool

from txcouchdl.cli.asking import Means
from txcouchdl.cli.bars import watcher_for_user
from txcouchdl.cli.bearer import VARIABLE, token_from
from txcouchdl.cli.client import Client, Token
from txcouchdl.cli.locations import BadLocation, Location, parse_location
from txcouchdl.cli.outcomes import Trouble
from txcouchdl.cli.patience import Limits
from txcouchdl.cli.running import run

_Command = TypeVar("_Command", bound=Callable[..., Any])

_DEFAULTS = Limits()
_SECONDS = click.FloatRange(0.1, 86_400)


class Address(click.ParamType[Location]):
    """A URL on the command line."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Location:
        try:
            return value if isinstance(value, Location) else parse_location(value)
        except BadLocation as error:
            # Not the URL itself: there may be a secret in it.
            return self.fail(f"this is no address: {error.sentence}", param, ctx)


@frozen
class Common:
    """What the options of every command say."""

    limits: Limits
    token: Token | None = field(repr=False)


def common_options(command: _Command) -> _Command:
    """Adds them; the command takes them as ``common_of`` does."""
    for option in (
        click.option(
            "--timeout",
            metavar="SECONDS",
            type=_SECONDS,
            default=_DEFAULTS.timeout,
            show_default=True,
            help="Seconds without a byte after which a connection counts as lost.",
        ),
        click.option(
            "--give-up",
            metavar="SECONDS",
            type=_SECONDS,
            default=_DEFAULTS.give_up,
            show_default=True,
            help="Seconds without a new byte after which it is not tried again.",
        ),
        click.option(
            "--retries",
            metavar="NUMBER",
            type=click.IntRange(0, 1000),
            default=_DEFAULTS.retries,
            show_default=True,
            help="How often it is tried again without a new byte.",
        ),
        click.option(
            "--token-file",
            type=click.Path(path_type=Path, dir_okay=False),
            help=f"The token, for addresses without one. Default: ${VARIABLE}.",
        ),
    ):
        command = option(command)
    return command


def common_of(timeout: float, give_up: float, retries: int, token_file: Path | None) -> Common:
    """
    :raises Trouble: if there is no reading the token.
    """
    return Common(Limits(retries, give_up, timeout), token_from(token_file, os.environ))


def carry_out(
    common: Common,
    work: Callable[[Means], Coroutine[Deferred[Any], Any, int]],
    connections: int = 1,
    replaces: bool = False,
    is_quiet: bool = True,
) -> NoReturn:
    """
    Run a command in a reactor, and exit.

    :param work: returns the exit status.
    """

    async def main(reactor: Any) -> int:
        client = Client(reactor, common.limits.timeout, common.token, connections)
        watcher = watcher_for_user(reactor, is_quiet)
        means = Means(
            client=client,
            clock=reactor,
            in_thread=lambda each: deferToThreadPool(reactor, reactor.getThreadPool(), each),
            random=SystemRandom(),
            watcher=watcher,
            limits=common.limits,
            connections=connections,
            replaces=replaces,
        )
        try:
            return await work(means)
        except Trouble as trouble:
            watcher.fail(f"couchdl: {trouble.sentence}")
            return trouble.status
        except CancelledError:
            watcher.fail("couchdl: interrupted; to go on, run the same command again")
            raise
        finally:
            watcher.close()
            client.close()

    run(main)
