"""The query of ``_all_dbs`` -> a part of the names of all databases (pure)."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import evolve, frozen

from txcouchdl.store.answers import not_covered
from txcouchdl.store.query_values import MAX_LIMIT, parse_boolean, parse_key, parse_limit, parse_natural_number


@frozen
class Listing:
    """
    Which names, and how many.

    :ivar start: where to begin, in the direction of the listing; ``None`` for the first of all.
    :ivar end: where to end.
    """

    start: bytes | None = None
    end: bytes | None = None
    includes_end: bool = True
    is_descending: bool = False
    skip: int = 0
    limit: int = MAX_LIMIT

    def select(self, names: Iterable[str]) -> list[str]:
        """
        :param names: in any order. They are compared as bytes, as CouchDB does here.
        """
        ordered = sorted(names, key=str.encode, reverse=self.is_descending)
        inside = [name for name in ordered if self._is_inside(name.encode())]
        return inside[self.skip :][: self.limit]

    def _is_inside(self, name: bytes) -> bool:
        if name == self.end and not self.includes_end:
            return False
        low, high = (self.end, self.start) if self.is_descending else (self.start, self.end)
        return (low is None or low <= name) and (high is None or name <= high)


#: The field that each parameter sets, and the parser of its value. CouchDB's other parameters change nothing here.
_PARAMETERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "startkey": ("start", parse_key),
    "start_key": ("start", parse_key),
    "endkey": ("end", parse_key),
    "end_key": ("end", parse_key),
    "inclusive_end": ("includes_end", parse_boolean),
    "descending": ("is_descending", parse_boolean),
    "skip": ("skip", parse_natural_number),
    "limit": ("limit", parse_limit),
}


def parse_listing(pairs: Sequence[tuple[str, str]]) -> Listing:
    """
    :param pairs: the query's parameters, in their order: the last one of a name counts.
    :raises Refusal: 400 for a value that makes no sense, 501 for ``keys``.
    """
    listing = Listing()
    for name, value in pairs:
        if name in _PARAMETERS:
            field, parse = _PARAMETERS[name]
            listing = evolve(listing, **{field: parse(value)})
        elif name == "key":
            listing = evolve(listing, start=parse_key(value), end=parse_key(value))
        elif name == "keys":
            raise not_covered("?keys of _all_dbs")
    return listing
