"""Asking a server for one file, again and again if need be."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from random import Random

from attrs import field, frozen
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from txcouchdl.cli.client import Answer, Client
from txcouchdl.cli.locations import Location
from txcouchdl.cli.outcomes import Changed, Passing
from txcouchdl.cli.patience import Attempts, Limits, Patience
from txcouchdl.cli.saving import InThread
from txcouchdl.cli.versions import Resumable, Version, part_version, raise_for_whole, require_success
from txcouchdl.cli.watching import Watcher
from txcouchdl.protocol.ranges import ByteRange


@frozen
class Means:
    """
    What all downloads of one command have in common.

    :ivar connections: how many one file may have.
    :ivar least: bytes that the first request asks for, and below which another connection is not worth its while.
    :ivar replaces: whether files that are there already may be replaced.
    """

    client: Client
    clock: IReactorTime
    in_thread: InThread
    random: Random
    watcher: Watcher
    limits: Limits = field(factory=Limits)
    connections: int = 4
    least: int = 4 * 2**20
    replaces: bool = False


class Source:
    """One file on a server."""

    def __init__(self, means: Means, location: Location) -> None:
        self._client = means.client
        self._clock = means.clock
        self._watcher = means.watcher
        self._location = location
        self.patience = Patience(means.limits, means.clock, means.random)

    async def ask(self, method: str, fields: Mapping[str, str]) -> Answer:
        """
        :return: an answer whose status is not one that may pass.
        :raises Passing: if there is none.
        """
        answer = await self._client.ask(method, self._location, fields)
        with dropped_on_error(answer):
            require_success(answer.head, only_passing=True)
        return answer

    async def insist(self, method: str, fields: Mapping[str, str]) -> Answer:
        """The same, tried as often as there is patience for."""
        attempts = self.patience.attempts()
        while True:
            try:
                return await self.ask(method, fields)
            except Passing as trouble:
                await self.pause(attempts, trouble)

    async def pause(self, attempts: Attempts, trouble: Passing) -> None:
        """
        Wait before the next try.

        :raises Passing: the same trouble, if there is to be none.
        """
        delay = attempts.next_delay(trouble)
        if delay is None:
            raise trouble
        self._watcher.remark(f"{trouble.sentence}; trying again in {delay:.1f} s")
        await deferLater(self._clock, delay)

    async def part(self, version: Resumable, wanted: ByteRange) -> Answer:
        """
        Some bytes of a version, and surely of that.

        :raises Passing: if there is no answer, or none for now.
        :raises Changed: if it is another version.
        :raises Refused: if the server says no.
        """
        answer = await self.ask("GET", range_fields(wanted, version))
        with dropped_on_error(answer):
            version.require(part_of(version, answer, wanted))
        return answer


def range_fields(wanted: ByteRange, version: Resumable | None) -> dict[str, str]:
    """
    :param version: of which they have to be; ``None`` if it is not known yet.
    """
    condition = {} if version is None else {"If-Range": version.validator}
    return {"Range": f"bytes={wanted.first}-{wanted.last}", **condition}


def part_of(version: Resumable, answer: Answer, wanted: ByteRange) -> Version:
    """
    What a range's answer tells of its version.

    :raises Changed: if it brings no range of this one.
    """
    if answer.head.status == 416:
        raise Changed("the file has become shorter on the server")
    require_success(answer.head)
    if answer.head.status == 200:
        raise_for_whole(version, answer.head)
    return part_version(answer.head, wanted)


@contextmanager
def dropped_on_error(answer: Answer) -> Iterator[None]:
    """No answer is left behind of which neither the body is taken nor the connection ended."""
    try:
        yield
    except BaseException:
        answer.drop()
        raise
