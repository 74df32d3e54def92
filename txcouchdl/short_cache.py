"""
A cache that keeps short keys only. Pure.

Strangers choose many of the names that this package computes with. An entry of :func:`functools.lru_cache` is as large
as its key, so a thousand entries have no bound if each may have the length of a request's head. Long keys are worth
nothing in a cache either: who sends them does not come again with the same one.
"""

from collections.abc import Callable
from functools import lru_cache, wraps
from inspect import signature
from typing import Any, Final, ParamSpec, TypeVar, cast

#: Characters and bytes of all arguments of a call whose result is kept.
LONGEST_KEY: Final = 256

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_Function = Callable[_Arguments, _Result]


def short_cache(
    entries: int, longest: int = LONGEST_KEY
) -> Callable[[_Function[_Arguments, _Result]], _Function[_Arguments, _Result]]:
    """
    Decorate a pure function: keep the results of its last calls, but only of calls with short arguments.

    The arguments have to be positional. One is a text or ``None``; two are texts. Of more, only the lengths of texts
    count: the others must be small by themselves.

    :param entries: how many results are kept.
    :param longest: characters and bytes of all arguments together whose result is kept.
    """

    def decorate(function: _Function[_Arguments, _Result]) -> _Function[_Arguments, _Result]:
        anew: Callable[..., _Result] = function
        kept: Callable[..., _Result] = lru_cache(entries)(function)

        def call_with_one(text: str | bytes | None) -> _Result:
            return kept(text) if text is None or len(text) <= longest else anew(text)

        def call_with_two(first: str | bytes, second: str | bytes) -> _Result:
            return kept(first, second) if len(first) + len(second) <= longest else anew(first, second)

        def call(*arguments: Any) -> _Result:
            length = 0
            for each in arguments:
                if each.__class__ is str or each.__class__ is bytes:
                    length += len(each)
            return kept(*arguments) if length <= longest else anew(*arguments)

        # These are called for each request, and most have few arguments.
        by_count: dict[int, Callable[..., _Result]] = {1: call_with_one, 2: call_with_two}
        chosen = by_count.get(len(signature(function).parameters), call)
        return cast(_Function[_Arguments, _Result], wraps(function)(chosen))

    return decorate
