"""
Takes the bytes of one transfer, and says which of them are new.

A transfer may bring bytes again that are known, because gzip has no ranges. A node that ignores ranges brings the whole
attachment: the bytes before and behind the wanted ones are dropped.
"""

from txcouchdl.couch.reading import Request


class Intake:
    """
    :param request: that the transfer answers.
    :ivar position: where the next byte is among all stored bytes.
    """

    def __init__(self, request: Request) -> None:
        self.position = 0 if request.byte_range is None else request.byte_range.first
        self._skip = request.skip
        # How many bytes are still wanted, if others follow them that are not there to prove their end.
        self._wanted = request.wanted if request.byte_range is None else None

    @property
    def is_satisfied(self) -> bool:
        """Whether nothing more of it is wanted."""
        return self._wanted == 0

    @property
    def drops_bytes(self) -> bool:
        """Whether some of the bytes that come are not new."""
        return bool(self._skip) or self._wanted is not None

    def passed(self, count: int) -> None:
        """Count bytes that have passed this process by."""
        self.position += count

    def take(self, stored: bytes) -> bytes:
        """
        :param stored: the next bytes.
        :return: the new ones among them.
        """
        self.position += len(stored)
        known = min(self._skip, len(stored))
        self._skip -= known
        new = stored[known:] if known else stored
        if self._wanted is not None:
            new = new[: self._wanted]
            self._wanted -= len(new)
        return new
