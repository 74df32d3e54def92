"""
Klein's routing, done once instead of for every request.

What a request addresses is the app's to read, and to Klein all requests are about ``/``: the route that it finds there
is everyone's. What Klein does besides is for routes that return something to be rendered.
"""

from typing import Any, cast

from klein import Klein
from klein.resource import KleinResource
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET, Request

from txcouchdl.gateway.request import GatewayRequest

_log = Logger()


class RootedKlein(Klein):
    """A Klein app whose route for ``/`` takes every request: it returns a Deferred, and finishes the request itself."""

    def resource(self) -> KleinResource:
        return _RootedResource(self)


class _RootedResource(KleinResource):
    def __init__(self, app: Klein) -> None:
        super().__init__(app)
        self._endpoint, self._arguments = app.url_map.bind("localhost").match("/")

    def render(self, request: Request) -> Any:  # type: ignore[override]
        """As Klein does it: when the client goes away, what its request waits for is cancelled."""
        answering: Any = self._app.execute_endpoint(self._endpoint, request, **self._arguments)
        if not answering.called:
            cast(GatewayRequest, request).answering = answering
        answering.addErrback(_failed, request)
        return NOT_DONE_YET


def _failed(failure: Failure, request: Request) -> None:
    """What no code of ours has caught is the request's to answer, as long as it can be answered."""
    # A request that is finished has none any more.
    if getattr(request, "channel", None) is not None:
        request.processingFailed(failure)
    elif not failure.check(CancelledError):
        _log.failure("a request failed behind its end", failure)
