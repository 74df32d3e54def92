"""How long proxies wait, in ``deploy/``, agrees with how long the gateway does by default."""

import re

import pytest

from tests.deploy import DEPLOY
from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.gateway.limits import ClientLimits

UPSTREAM, CLIENTS = UpstreamLimits(), ClientLimits()
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def seconds(file: str, directive: str) -> float:
    found = re.findall(rf"^\s*{directive} (\d+)([smh])\b", (DEPLOY / file).read_text("utf-8"), re.MULTILINE)
    ((number, unit),) = found
    return float(number) * _SECONDS[unit]


@pytest.mark.parametrize(
    ("file", "directive", "most"),
    [
        # A connection that the gateway is about to close is not asked on.
        ("nginx/couchdl.conf", "keepalive_timeout", CLIENTS.idle_timeout),
        ("caddy/Caddyfile", "keepalive", CLIENTS.idle_timeout),
    ],
)
def test_less_than_the_gateway(file: str, directive: str, most: float) -> None:
    assert seconds(file, directive) < most


@pytest.mark.parametrize(
    ("file", "directive", "least"),
    [
        # The gateway says when a download is lost, and answers when it has to wait for a place.
        ("nginx/couchdl.conf", "proxy_read_timeout", UPSTREAM.give_up + UPSTREAM.queue_timeout),
        ("caddy/Caddyfile", "response_header_timeout", UPSTREAM.give_up + UPSTREAM.queue_timeout),
        # And when a client has paused for too long.
        ("nginx/couchdl.conf", "send_timeout", CLIENTS.client_timeout),
        ("caddy/Caddyfile", "write_idle", CLIENTS.client_timeout),
    ],
)
def test_more_than_the_gateway(file: str, directive: str, least: float) -> None:
    assert seconds(file, directive) > least
