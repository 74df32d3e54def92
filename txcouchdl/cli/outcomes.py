"""How a command ends: its exit statuses, and what can go wrong, by whose fault it is. Pure."""

from enum import IntEnum
from typing import ClassVar

from attrs import frozen


class Exit(IntEnum):
    """What the commands exit with; a signal adds its number to 128."""

    DONE = 0
    INCOMPLETE = 1
    USAGE = 2
    REFUSED = 3
    WRONG = 4
    LOCAL = 5


class Trouble(Exception):
    """
    Something that keeps a command from what it was to do.

    :ivar sentence: for people. Nothing in it is secret, and nothing was taken from a server as it came.
    """

    status: ClassVar[Exit] = Exit.INCOMPLETE

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class Passing(Trouble):
    """
    It may go better the next time.

    :ivar retry_after: how many seconds the server asks to wait; ``None`` if it does not.
    """

    def __init__(self, sentence: str, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.retry_after = retry_after


class Unusable(Trouble):
    """The server does what no client can make use of."""


class Refused(Trouble):
    """The server says no, and would again."""

    status = Exit.REFUSED


class Changed(Trouble):
    """What comes is not of the version that was begun with. What there is of that is worth nothing."""

    status = Exit.WRONG


class BadRanges(Changed):
    """Other bytes come than were asked for: of this server, only whole files can be believed."""


class RangesIgnored(BadRanges):
    """All bytes of the right version come where some were asked for: what is there can be completed from them."""


class WrongDigest(Changed):
    """All of it is there, and it is not what the server says that it is."""


class LocalTrouble(Trouble):
    """Files of this machine cannot be read or written, or are not to be touched."""

    status = Exit.LOCAL


def local_trouble(shown: str, error: OSError) -> LocalTrouble:
    """
    :param shown: the file, as it may be shown.
    """
    return LocalTrouble(f"{shown}: {error.strerror or type(error).__name__}")


@frozen
class Saved:
    """
    A file that is complete.

    :ivar shown: where it is, as it may be shown.
    :ivar verified_by: the algorithm of the digest that it was verified with; ``None`` if the server gave none.
    :ivar was_there: whether it had been downloaded before.
    """

    shown: str
    length: int
    verified_by: str | None
    was_there: bool = False

    @property
    def sentence(self) -> str:
        if self.was_there:
            return f"{self.shown}: is there already, {self.length} bytes, verified with {self.verified_by}"
        how = f"verified with {self.verified_by}" if self.verified_by else "not verified: the server gives no digest"
        return f"{self.shown}: {self.length} bytes, {how}"
