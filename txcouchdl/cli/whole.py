"""A file in one piece, into its part: where ranges cannot be had, or not be told from those of other versions."""

from collections.abc import Callable

from txcouchdl.cli.bodies import End
from txcouchdl.cli.client import Answer
from txcouchdl.cli.outcomes import Unusable, WrongDigest
from txcouchdl.cli.part import Part
from txcouchdl.cli.patience import Patience
from txcouchdl.cli.record import Record
from txcouchdl.cli.versions import Version, require_success, whole_version
from txcouchdl.cli.watching import Watcher


class Whole:
    """
    Tries to bring one file, each from its beginning.

    :param record: claims nothing.
    :param accept: raises :class:`Trouble` if a version is not to be had; what there is stays then.
    :param promised: bytes that the listing promised; ``None`` if it promised no number, or there is no listing.
    """

    def __init__(
        self,
        watcher: Watcher,
        patience: Patience,
        part: Part,
        record: Record,
        accept: Callable[[Version], None],
        promised: int | None = None,
    ) -> None:
        self._watcher = watcher
        self._patience = patience
        self._part = part
        self._record = record
        self._accept = accept
        self._promised = promised
        self._position = 0
        # Bytes that come for a second time are no progress.
        self._furthest = 0

    async def bring(self, answer: Answer) -> tuple[Version, int]:
        """
        One try.

        :return: what came, and how many bytes it has.
        :raises Passing: if that was not all.
        :raises Unusable: if nobody can tell whether it was, or if it is not accepted.
        :raises WrongDigest: as soon as more comes than was promised.
        """
        require_success(answer.head)
        if answer.head.status != 200:
            raise Unusable("the server sends a part of the file where all of it was asked for")
        version = whole_version(answer.head)
        self._accept(version)
        self._part.begin(self._record)
        self._part.require_room(version.length or 0)
        self._watcher.sized(version.length, 0)
        self._position = 0
        end = await answer.deliver(self._take)
        if end is End.UNFRAMED and not version.digests:
            raise Unusable("the server does not say where the file ends, so that nobody can tell whether it is all")
        return version, self._position

    def _take(self, data: bytes) -> bool:
        if self._promised is not None and self._position + len(data) > self._promised:
            raise WrongDigest("more comes than the listing says")
        self._part.write(self._position, data)
        self._position += len(data)
        self._watcher.brought(len(data))
        if self._position > self._furthest:
            self._patience.progress(self._position - self._furthest)
            self._furthest = self._position
        return True
