"""What a user sees of a download."""

from typing import Protocol


class Watcher(Protocol):
    """Is told how a download goes on. What it is told is fit for a terminal."""

    def sized(self, length: int | None, there: int) -> None:
        """The file has so many bytes, of which so many are there already; or it begins anew."""

    def brought(self, count: int) -> None:
        """So many more are there."""

    def say(self, sentence: str) -> None:
        """Something that the user should know."""

    def fail(self, sentence: str) -> None:
        """Something that the user has to know, however little is to be said."""

    def remark(self, sentence: str) -> None:
        """Something for who looks on: a wait, another try."""
