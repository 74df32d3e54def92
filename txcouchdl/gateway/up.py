"""
``/_up``, before everything else that is asked of us: whether we are there; and with ``?ready``, whether CouchDB is.

It is told to anybody, so it tells no more than that. No database has this name.
"""

import json
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request

from txcouchdl.couch.names import split_target
from txcouchdl.couch.readiness import Readiness
from txcouchdl.gateway.delivery import answer
from txcouchdl.gateway.facts import parse_query
from txcouchdl.gateway.plan import DeliveryPlan
from txcouchdl.gateway.request import GatewayRequest
from txcouchdl.gateway.routing import RootedKlein

_PATH: Final = b"/_up"
#: How a request target begins that may have this path.
_BEGINNINGS: Final = (_PATH, b"h", b"H")
OK: Final = "ok"
UNAVAILABLE: Final = "unavailable"


def wants_readiness(query: bytes) -> bool:
    """Whether it is asked for that, and not only whether we are there."""
    return b"ready" in parse_query(query)


def plan_text(status: int, content_type: str, body: bytes) -> DeliveryPlan:
    """What is so now, and for no longer."""
    fields = (("Content-Type", content_type), ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))
    return DeliveryPlan(status, fields, len(body), trailer=body)


def plan_state(is_ok: bool, state: str, **detail: object) -> DeliveryPlan:
    """
    :param is_ok: 200 or 503.
    :param state: in a word.
    """
    body = json.dumps({"status": state, **detail}).encode("ascii") + b"\n"
    return plan_text(200 if is_ok else 503, "application/json", body)


class Up:
    """Answers requests for it."""

    app = RootedKlein()

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    @app.route("/", branch=True)
    def root(self, request: GatewayRequest) -> "Deferred[None]":
        return Deferred.fromCoroutine(self._answer(request))

    async def _answer(self, request: GatewayRequest) -> None:
        _, query = split_target(request.uri)
        is_ok = not wants_readiness(query) or any((await self._readiness.ask()).values())
        answer(plan_state(is_ok, OK if is_ok else UNAVAILABLE), request)


class Entrance(Resource):
    """
    Sends everybody to where his request is answered.

    :param gateway: for all that are for nothing else.
    """

    def __init__(self, gateway: IResource, up: IResource) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._gateway = gateway
        self._up = up

    def render(self, request: Request) -> Any:
        # Of nearly all requests no more than that has to be seen.
        is_for_us = request.uri.startswith(_BEGINNINGS) and self._is_up(request)
        return (self._up if is_for_us else self._gateway).render(request)

    def _is_up(self, request: Request) -> bool:
        return request.method in {b"GET", b"HEAD"} and split_target(request.uri)[0] == _PATH
