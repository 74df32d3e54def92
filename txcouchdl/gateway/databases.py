"""Which databases may be read. Pure."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from attrs import frozen


@frozen
class AllowedDatabases:
    """
    By default all of them.

    :ivar globs: patterns as a shell's, with ``*``, ``?`` and ``[...]``, of which a database's name matches one. To them
        a slash is a character like others. ``None`` for any name.
    """

    globs: tuple[str, ...] | None = None

    @classmethod
    def parse(cls, texts: Sequence[str]) -> "AllowedDatabases":
        """
        :param texts: patterns; none for all databases.
        :raises ValueError: with a sentence for whoever wrote them.
        """
        if not all(texts):
            raise ValueError("an empty pattern is no database's")
        return cls(tuple(texts) or None)

    def allows(self, database: str) -> bool:
        """:param database: its name, decoded."""
        return self.globs is None or any(fnmatchcase(database, glob) for glob in self.globs)
