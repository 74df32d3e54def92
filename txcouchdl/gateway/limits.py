"""What a client may take of us, and how long we wait for it."""

from typing import Final

from attrs import frozen

#: What part of all connections one address may have, and how many in any case: a browser or a downloader has so many.
_SHARE_OF_ADDRESS: Final = 16
_LEAST_OF_ADDRESS: Final = 8


@frozen
class ClientLimits:
    """
    What is taken is what the operating system has taken over for the client: its socket buffers are beyond our sight.

    :ivar max_connections: clients' connections at the same time, over all endpoints. Some few more, that are refused
        or make place for others, are there for some seconds.
    :ivar max_connections_per_address: those of one address, of IPv6 those of one /64; 0 for the usual part of all. See
        :attr:`connections_per_address`.
    :ivar header_timeout: seconds from the first byte of a request to the last of its head, and of its body if it has
        one. No byte prolongs it.
    :ivar idle_timeout: seconds that a connection may be open without a request: from its beginning, its TLS handshake
        included, to the first byte of the first request, and from the end of a response, whether it is taken or not,
        to the next. Then it is closed, behind what the client has still to take.
    :ivar half_close_timeout: seconds that a client may take no byte of those that wait for it, after it has closed its
        half of the connection. Here a byte is taken when the client's system has acknowledged it.
    :ivar client_timeout: seconds that a client may take nothing. While a response is under way: from when more than
        64 KiB wait for the client, until none of it does; who needs longer for that, is too slow. When the connection
        closes, behind a response or because it was idle: from then until all is taken.
    """

    max_connections: int = 4096
    max_connections_per_address: int = 0
    header_timeout: float = 60.0
    idle_timeout: float = 60.0
    client_timeout: float = 3600.0
    half_close_timeout: float = 10.0

    @property
    def connections_per_address(self) -> int:
        """How many connections one address may have: a sixteenth of all, rounded up, and 8 at least."""
        usual = max(_LEAST_OF_ADDRESS, -(-self.max_connections // _SHARE_OF_ADDRESS))
        return self.max_connections_per_address or usual

    @property
    def most_waiting(self) -> int:
        """Requests that may wait for CouchDB to come back, so that most connections remain for others."""
        return max(1, self.max_connections // 4)
