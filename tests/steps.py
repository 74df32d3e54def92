"""Work in steps, without a reactor."""

from collections.abc import Generator
from typing import TypeVar

_T = TypeVar("_T")


def run(steps: Generator[None, None, _T]) -> _T:
    """Take all steps."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: _T = end.value
            return result
