"""Several things at the same time."""

from collections.abc import Coroutine, Iterable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, FirstError, gatherResults


async def together(works: Iterable[Coroutine["Deferred[Any]", Any, None]]) -> None:
    """
    Wait until all are done. When one fails, or this is cancelled, the others are cancelled, and have ended when that
    is raised.
    """
    running = [Deferred.fromCoroutine(each) for each in works]
    try:
        await gatherResults(running, consumeErrors=True)
    except FirstError as first:
        for each in running:
            each.cancel()
        await DeferredList(running, consumeErrors=True)
        failed: Any = first.subFailure.value
        raise failed from None
