"""Limits that cannot act, because another limit always acts first. Pure."""

from collections.abc import Iterator

from txcouchdl.couch.limits import UpstreamLimits
from txcouchdl.gateway.limits import ClientLimits
from txcouchdl.settings import Settings


def idle_limits(settings: Settings) -> Iterator[str]:
    """
    Find pairs of options of which one has no effect.

    :return: a sentence for each pair. The gateway works as these options say, so none is a reason to refuse the start.
    """
    upstream, clients = settings.upstream, settings.clients
    if len(settings.nodes) > 1:
        yield from _hedging(upstream)
    yield from _parking(upstream, clients)
    yield from _shares(upstream, clients)


def _hedging(upstream: UpstreamLimits) -> Iterator[str]:
    after, timeout = upstream.hedge_after, upstream.stall_timeout
    if after >= timeout:
        pair = f"--hedge-after ({after:g}) is not less than --stall-timeout ({timeout:g})"
        yield f"{pair}: no second node gets a request in time; 0 disables it without this warning"


def _parking(upstream: UpstreamLimits, clients: ClientLimits) -> Iterator[str]:
    after, timeout = upstream.park_after, clients.client_timeout
    if after >= timeout:
        pair = f"--park-after ({after:g}) is not less than --client-timeout ({timeout:g})"
        yield f"{pair}: a paused client is disconnected first"


def _shares(upstream: UpstreamLimits, clients: ClientLimits) -> Iterator[str]:
    pairs = (
        ("max-connections", clients.max_connections, clients.max_connections_per_address),
        ("max-inflations", upstream.max_inflations, upstream.max_inflations_per_address),
    )
    for name, total, share in pairs:
        if share > total:
            yield f"--{name}-per-address ({share}) is more than --{name} ({total}): one address can use up the total"
