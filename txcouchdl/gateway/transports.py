"""What transports tell of the connection that they carry, and what lies below them."""

from typing import cast

from twisted.internet.interfaces import ITransport
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper
from twisted.protocols.policies import ProtocolWrapper


def lowest_transport(transport: object) -> ITransport:
    """The one that owns the socket."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return cast(ITransport, transport)


def peer_host(transport: object) -> str | None:
    """The peer's address, as far as it is known; ``None`` if it has none."""
    return getattr(cast(ITransport, transport).getPeer(), "host", None)


def knows_peer(transport: object) -> bool:
    """Whether the peer is known. Behind a ``haproxy:`` endpoint the first bytes tell it (PROXY protocol)."""
    return not (isinstance(transport, HAProxyProtocolWrapper) and transport._proxyInfo is None)
