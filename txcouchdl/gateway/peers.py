"""
Whom a request is from, and whom it takes us for: the connection's peer and our own name, or, behind proxies that we
trust, what they say. Pure.

A proxy adds the address that it was asked from to the end of X-Forwarded-For. What stands before that was in the
request already, and anybody may have written it. So the field is read from its end, and no further than the word of
somebody trusted reaches.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from attrs import field, frozen

_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network

#: Peers of a UNIX socket: they have no address.
UNIX: Final = "unix"
_LOOPBACK: Final = "::1"
#: A peer whose address is none. Twisted's haproxy: endpoints take whatever they are told for one.
_UNKNOWN: Final = "unknown"
#: Proxies in a row that are followed; the field may be as long as a request's head.
_MOST_HOPS: Final = 32
# An address, perhaps with a port. One of IPv6 stands in brackets then, and may without.
_HOP: Final = re.compile(r"\[([^\]:]*:[^\]]*)\](?::[0-9]{1,5})?|([^:]*)(?::[0-9]{1,5})?")
# What may stand in a Host field and in a URL: a name, or an address in brackets, perhaps with a port.
_HOST: Final = re.compile(r"(?:[A-Za-z0-9_.-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
# ::ffff:0:0/96, the addresses of IPv4 within IPv6.
_MAPPED: Final = IPv6Network("::ffff:0:0/96")


def _possible_host(text: str | None) -> str | None:
    return text if text is not None and _HOST.fullmatch(text) else None


@frozen
class Site:
    """
    The beginning of a URL.

    :ivar host: perhaps with a port; ``None`` if there is none, or none that could be one.
    """

    scheme: str
    host: str | None = field(converter=_possible_host)

    def url(self, path: str) -> str:
        """The absolute URL of a path, or just the path if nobody knows the host."""
        return path if self.host is None else f"{self.scheme}://{self.host}{path}"


@frozen
class TrustedProxies:
    """
    The peers whose X-Forwarded-For, -Proto and -Host are believed; by default nobody's.

    :ivar networks: where they are.
    :ivar has_unix: whether the peers of UNIX sockets are among them.
    """

    networks: tuple[_Network, ...] = ()
    has_unix: bool = False

    @classmethod
    def parse(cls, texts: Sequence[str]) -> "TrustedProxies":
        """
        :param texts: IP addresses, networks as ``10.0.0.0/8``, and the word ``unix`` for the peers of UNIX sockets.
        :raises ValueError: with a sentence for whoever wrote them.
        """
        return cls(tuple(_network(text) for text in texts if text != UNIX), UNIX in texts)

    def client_of(self, peer: str | None, forwarded_for: str | None) -> str:
        """
        The address that a request is from: the peer's, or the last one in X-Forwarded-For that is no trusted proxy's.
        Where the field ends first, or does not make sense, it is the proxy's that it leads to.

        :param peer: the connection's; ``None`` for that of a UNIX socket.
        :param forwarded_for: the X-Forwarded-For field, its lines joined by commas; ``None`` if there is none.
        :return: an IP address as :mod:`ipaddress` writes it, without a zone, and of IPv4 wherever it is one;
            ``unix`` for the peer of a UNIX socket, ``unknown`` for one whose address is none.
        """
        client = UNIX if peer is None else _peer_text(peer)
        if forwarded_for is None or not self.trusts(peer):
            return client
        hops, is_trusted = _hops(forwarded_for), True
        while is_trusted and (hop := next(hops, None)) is not None:
            client, is_trusted = str(hop), self._includes(hop)
        return client

    def site_of(self, peer: str | None, site: Site, forwarded_proto: str | None, forwarded_host: str | None) -> Site:
        """
        The site as which a client knows us: what a trusted proxy says of it, as far as that makes sense, and else what
        the request itself does.

        :param peer: as :meth:`client_of` has it.
        :param site: what the request says.
        :param forwarded_proto: the X-Forwarded-Proto field, its lines joined by commas; ``None`` if there is none. So
            X-Forwarded-Host. Of several values the last one is the nearest proxy's.
        """
        if not self.trusts(peer):
            return site
        scheme, host = _last(forwarded_proto).lower(), _last(forwarded_host)
        return Site(
            scheme if scheme in {"http", "https"} else site.scheme,
            _possible_host(host) or site.host,
        )

    def trusts(self, peer: str | None) -> bool:
        """Whether a connection's peer is such a proxy; ``None`` for that of a UNIX socket."""
        return self.has_unix if peer is None else bool(self.networks) and self._includes(_address(peer))

    def limited_address(self, client: str) -> str | None:
        """
        What limits for each address count a client by: see :func:`customer_of`.

        :param client: as :meth:`client_of` has it.
        :return: ``None`` for those that stand for many clients: a trusted proxy, and this machine, which usually is a
            proxy that nobody has named.
        """
        is_many = client == UNIX or is_loopback(client) or self.trusts(client)
        return None if is_many else customer_of(client)

    def _includes(self, address: _Address | None) -> bool:
        return address is not None and any(address in network for network in self.networks)


def customer_of(client: str) -> str:
    """
    What limits count for one: an address, or of IPv6 all of its /64, which is what one customer has.

    :param client: as :meth:`TrustedProxies.client_of` has it.
    """
    return f"{int(IPv6Address(client)) >> 64:x}::" if ":" in client and client != _LOOPBACK else client


def is_loopback(client: str) -> bool:
    """
    Whether an address is one of this machine to itself.

    :param client: as :meth:`TrustedProxies.client_of` has it, or :func:`customer_of` of that.
    """
    return client == _LOOPBACK or client.startswith("127.")


def _last(value: str | None) -> str:
    return (value or "").rpartition(",")[2].strip(" \t")


def _hops(forwarded_for: str) -> Iterator[_Address | None]:
    """The addresses of X-Forwarded-For, the last one first; ``None`` for what is no address."""
    last = forwarded_for.rsplit(",", _MOST_HOPS)[-_MOST_HOPS:]
    return (_hop(text.strip(" \t")) for text in reversed(last))


def _hop(text: str) -> _Address | None:
    found = _HOP.fullmatch(text)
    return _address(text if found is None else found[1] or found[2])


def _address(text: str) -> _Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    # Made of the number alone, it has no zone.
    return address.ipv4_mapped or IPv6Address(int(address))


# A connection's requests have one peer, whose address is short: the PROXY protocol, too, has 108 bytes for it. What
# fields say is anybody's, and not kept.
@lru_cache(1024)
def _peer_text(peer: str) -> str:
    return str(_address(peer) or _UNKNOWN)


def _network(text: str) -> _Network:
    try:
        network = ip_network(text)
        if "%" in text:
            raise ValueError(f"{text!r} has a zone")
    except ValueError as error:
        raise ValueError(f"{error}: a trusted proxy is an IP address, a network as 10.0.0.0/8, or unix") from None
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        first = int(network.network_address) & 0xFFFFFFFF
        return IPv4Network((first, network.prefixlen - _MAPPED.prefixlen))
    return network
