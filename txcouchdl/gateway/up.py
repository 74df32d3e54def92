"""
Two addresses that are nobody's document, before everything else that is asked of us.

``/_up`` tells whether we are there; and with ``?ready``, whether CouchDB is. ``/robots.txt`` asks crawlers to fetch
nothing. Both are told to anybody, so they tell no more than that. No database has one of these names, and no address of
a document or an attachment has one segment only.
"""

import json
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request

from txcouchdl.couch.names import split_target
from txcouchdl.couch.readiness import Readiness
from txcouchdl.gateway.delivery import answer
from txcouchdl.gateway.facts import parse_query
from txcouchdl.gateway.plan import DeliveryPlan
from txcouchdl.gateway.request import GatewayRequest
from txcouchdl.gateway.routing import RootedKlein

_PATH: Final = b"/_up"
_ROBOTS_PATH: Final = b"/robots.txt"
#: How a request target begins that may have one of these paths.
_BEGINNINGS: Final = (_PATH, _ROBOTS_PATH, b"h", b"H")
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


_NO_CRAWLING: Final = plan_text(200, "text/plain; charset=utf-8", b"User-agent: *\nDisallow: /\n")


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


class Robots(Resource):
    """Answers requests for ``/robots.txt`` (RFC 9309)."""

    def render(self, request: Request) -> Any:
        answer(_NO_CRAWLING, request)
        return NOT_DONE_YET


class Entrance(Resource):
    """
    Sends each request to the resource that answers it.

    :param gateway: for all that are for nothing else.
    """

    def __init__(self, gateway: IResource, up: IResource) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._gateway = gateway
        self._others: dict[bytes, IResource] = {_PATH: up, _ROBOTS_PATH: Robots()}  # type: ignore[no-untyped-call]

    def render(self, request: Request) -> Any:
        # Of nearly all requests no more than that has to be seen.
        resource = self._other(request) if request.uri.startswith(_BEGINNINGS) else None
        return (resource or self._gateway).render(request)

    def _other(self, request: Request) -> IResource | None:
        is_read = request.method in {b"GET", b"HEAD"}
        return self._others.get(split_target(request.uri)[0]) if is_read else None
