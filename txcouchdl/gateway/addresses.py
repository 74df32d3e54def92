"""
How many connections each address has, and whether it may have another.

An address is that of a connection's peer. A trusted proxy has no limit of its own: while it waits for an answer on a
connection, that connection counts for the client that the proxy names. A loopback address has none either, since it is
usually a proxy that nobody has named. UNIX sockets have no addresses. When an address reaches the limit, or a loopback
address the limit of others, the log says so, but not again for ten minutes.

An entry exists as long as the address has connections, so that there are never more entries than connections.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from txcouchdl.gateway.peers import UNIX, TrustedProxies, customer_of, is_loopback

if TYPE_CHECKING:
    from txcouchdl.gateway.channel import GatewayChannel

#: Seconds between two warnings that say the same, of whatever address.
_BETWEEN_WARNINGS: Final = 600.0
#: Connections of one address that are looked at to find one that may be closed: the oldest ones.
_LOOKED_AT: Final = 256

_CROWDED: Final = (
    "{address} has {count} connections, as many as it may have (--max-connections-per-address); "
    "if it is a proxy, name it (--trusted-proxy), so that each of its clients has its own limit"
)
_EXEMPT: Final = (
    "{address} has {count} connections; --max-connections-per-address does not hold for this machine, "
    "and if it is a proxy, name it (--behind-proxy), so that each of its clients has its own limit"
)

_log = Logger()


class Addresses:
    """
    :param limit: connections of one address.
    :param proxies: those that are trusted.
    """

    def __init__(self, limit: int, proxies: TrustedProxies, clock: IReactorTime) -> None:
        self._limit = limit
        self._proxies = proxies
        self._clock = clock
        # Of each address its connections, in the order in which they came.
        self._channels: dict[str, dict[GatewayChannel, None]] = {}
        self._address_of: dict[GatewayChannel, str] = {}
        self._warned_at: dict[str, float] = {}

    def of_peer(self, peer: str | None) -> str | None:
        """
        The address for which a connection counts.

        :param peer: the connection's; ``None`` for that of a UNIX socket.
        :return: ``None`` if it counts for none.
        """
        return None if self._proxies.trusts(peer) else self._counted(self._proxies.client_of(peer, None))

    def of_client(self, client: str) -> str | None:
        """The same of a client that a trusted proxy names, as :meth:`.TrustedProxies.client_of` has it."""
        is_named = not (is_loopback(client) or self._proxies.trusts(client))
        return self._counted(client) if is_named else None

    def _counted(self, client: str) -> str | None:
        return None if client == UNIX else customer_of(client)

    def is_full(self, address: str | None) -> bool:
        """Say whether an address has as many connections as it may have, and warn of it."""
        if address is None or (count := len(self._channels.get(address, ()))) < self._limit:
            return False
        is_exempt = is_loopback(address)
        self._warn(_EXEMPT if is_exempt else _CROWDED, address, count)
        return not is_exempt

    def add(self, address: str | None, channel: "GatewayChannel") -> None:
        """Count a connection, which does not count yet."""
        if address is not None:
            self._channels.setdefault(address, {})[channel] = None
            self._address_of[channel] = address

    def remove(self, channel: "GatewayChannel") -> None:
        """Count a connection no longer, if it does."""
        address = self._address_of.pop(channel, None)
        if address is not None:
            channels = self._channels[address]
            del channels[channel]
            if not channels:
                del self._channels[address]

    def oldest(self, address: str) -> Iterator["GatewayChannel"]:
        """The oldest connections of an address, in their order; not more than can be looked at in no time."""
        channels: Iterable[GatewayChannel] = self._channels.get(address, ())
        return islice(channels, _LOOKED_AT)

    def __len__(self) -> int:
        """How many addresses have connections."""
        return len(self._channels)

    def _warn(self, text: str, address: str, count: int) -> None:
        now = self._clock.seconds()
        # Clocks are set back, too.
        if not 0 <= now - self._warned_at.get(text, float("-inf")) < _BETWEEN_WARNINGS:
            self._warned_at[text] = now
            _log.warn(text, address=address, count=count)
