"""
Work in steps: a generator that yields behind each of them, and returns what comes of all. Pure.

The steps of long work take turns with everything else (:mod:`.turns`); short work runs at once.
"""

from collections.abc import Generator
from typing import TypeVar

_T = TypeVar("_T")

#: What comes of the work is the generator's value.
Steps = Generator[None, None, _T]


def at_once(steps: Steps[_T]) -> _T:
    """Run all steps, one after the other."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: _T = end.value
            return result
