"""
The reason phrases of status lines (RFC 9110, section 15; RFC 6585).

Twisted's table has none for the statuses of RFC 6585, and Python's differs from release to release.
"""

from collections.abc import Mapping
from typing import Final

#: By status: those that the gateway sends.
REASON_PHRASES: Final[Mapping[int, bytes]] = {
    200: b"OK",
    204: b"No Content",
    206: b"Partial Content",
    304: b"Not Modified",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    412: b"Precondition Failed",
    413: b"Content Too Large",
    414: b"URI Too Long",
    416: b"Range Not Satisfiable",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}
