"""
twisted.web's reading of requests, with the limits that it lacks, and an answer of ours for each that is passed.
"""

import re
from abc import abstractmethod
from typing import TYPE_CHECKING, Final, cast

from twisted.web.http import HTTPChannel

from txcouchdl.gateway.errors import ErrorAnswer
from txcouchdl.gateway.refusals import BAD_REQUEST, LARGE_FIELDS, LONG_NAME, LONG_TARGET
from txcouchdl.protocol.fields import LONGEST_HEAD, LONGEST_NAME, MOST_FIELDS

if TYPE_CHECKING:
    from txcouchdl.gateway.request import GatewayRequest

#: Digits of a Content-Length; Python takes quadratic time for many, and refuses too many.
_LONGEST_LENGTH: Final = 19
# The longest method that is registered has 17 characters.
_METHOD: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,32} ")
# RFC 9112, section 3.2: a host and perhaps a port, or nothing. What a host may be is not our business.
_HOST: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:%\[\]-]*")


class BoundedHeads(HTTPChannel):
    """A channel whose requests have limits."""

    totalHeadersSize = MAX_LENGTH = LONGEST_HEAD  # noqa: N815 (twisted.web's)
    maxHeaders = MOST_FIELDS  # noqa: N815 (twisted.web's)

    @abstractmethod
    def refuse(self, answer: ErrorAnswer) -> None:
        """Answer a request that cannot be read to its end, and close."""

    def lineLengthExceeded(self, line: bytes) -> None:
        if not self._HTTPChannel__first_line:  # type: ignore[attr-defined]
            self.refuse(LARGE_FIELDS)
        else:
            # What has no method before a space is no HTTP.
            self.refuse(LONG_TARGET if _METHOD.match(line) else BAD_REQUEST)

    def lineReceived(self, line: bytes) -> None:
        if self._receivedHeaderSize + len(line) > self.totalHeadersSize:
            # A request line alone is never that long.
            self.refuse(LARGE_FIELDS)
        else:
            super().lineReceived(line)

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(BAD_REQUEST)

    def headerReceived(self, line: bytes) -> bool:
        if line.find(b":") > LONGEST_NAME:
            # Twisted would keep the name for ever.
            self.refuse(LONG_NAME)
            return False
        if self._receivedHeaderCount == self.maxHeaders:
            self.refuse(LARGE_FIELDS)
            return False
        is_good: bool = super().headerReceived(line)
        return is_good

    def _maybeChooseTransferDecoder(self, header: bytes, data: bytes) -> bool:
        if header == b"Content-Length" and len(data) > _LONGEST_LENGTH:
            self.refuse(BAD_REQUEST)
            return False
        chosen: bool = super()._maybeChooseTransferDecoder(header, data)
        return chosen

    def allHeadersReceived(self) -> None:
        if self._has_host(cast("GatewayRequest", self.requests[-1])):
            super().allHeadersReceived()

    def _has_host(self, request: "GatewayRequest") -> bool:
        """Whether it says for which host it is, as far as it has to; if not, it is refused."""
        hosts = request.fields.get(b"host", ())
        is_needed = self._version == b"HTTP/1.1"
        if len(hosts) > 1 or (is_needed and not hosts) or not all(map(_HOST.fullmatch, hosts)):
            self.refuse(BAD_REQUEST)
            return False
        return True
