"""
The HTTP server under the app.

The access log has a line for each request, broken and refused ones included, and no secret in it.
"""

from collections.abc import Callable
from time import time
from typing import Any, cast

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.logger import Logger
from twisted.web.http import Request as HTTPRequest
from twisted.web.http import datetimeToString
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

import txcouchdl
from txcouchdl.couch.wire.sockets import plain_socket
from txcouchdl.gateway.access_log import LineFormat, line_writer
from txcouchdl.gateway.channel import GatewayChannel
from txcouchdl.gateway.connections import Connections
from txcouchdl.gateway.cors import AllowedOrigins
from txcouchdl.gateway.description import ROBOTS
from txcouchdl.gateway.errors import ErrorAnswer
from txcouchdl.gateway.request import GatewayRequest, field_lines
from txcouchdl.gateway.tally import UNCOUNTED, Tally

_access = Logger(namespace="txcouchdl.access")


class GatewaySite(Site):
    """
    The factory of connections that a Klein app answers.

    :param connections: those of all endpoints.
    :param write_line: takes the lines of the access log, written out. Without one they are events of the log.
    :param line_format: how they are written.
    :ivar origins: sites whose pages may read what is sent, refusals of requests that cannot be read included.
    :ivar tally: is told of each request, and of what is sent.
    :ivar server: the value of the Server field.
    """

    displayTracebacks = False  # noqa: N815 (twisted.web's)
    server = f"txcouchdl/{txcouchdl.__version__}"

    def __init__(
        self,
        resource: IResource,
        reactor: IReactorTime,
        connections: Connections,
        write_line: Callable[[str], object] | None = None,
        tally: Tally = UNCOUNTED,
        line_format: LineFormat = LineFormat.COMBINED,
        origins: AllowedOrigins | None = None,
    ) -> None:
        super().__init__(
            resource,
            requestFactory=GatewayRequest,
            # The channel has its own.
            timeout=None,
            reactor=reactor,
            parsePOSTFormSubmission=False,
        )
        self.connections = connections
        self.tally = tally
        self.origins = origins or AllowedOrigins()
        self._clock = reactor
        self._write_line: Callable[[Any], object] = _log_line if write_line is None else write_line
        self._lines = line_writer(line_format, is_for_events=write_line is None)
        self._common_lines, self._now_is = b"", -1
        self._timestamp, self._timestamp_is_of = "", -1
        # Ours instead of the one that can also speak HTTP/2, which takes extras to install and has no such channel.
        self.protocol = GatewayChannel  # type: ignore[assignment,method-assign]

    def common_lines(self) -> bytes:
        """The fields of every answer, as they are sent."""
        # The same for a second.
        now = int(time())
        if now != self._now_is:
            self._now_is = now
            fields = (("Server", self.server), ("Date", datetimeToString(now).decode("ascii")), ROBOTS)
            self._common_lines = b"".join(field_lines(fields))
        return self._common_lines

    def plain(self, transport: object) -> Any:
        """What bytes can leave by past a transport: see :func:`.plain_socket`."""
        return plain_socket(transport)

    def log(self, request: HTTPRequest) -> None:
        ended = cast(GatewayRequest, request)
        ended.tell_sent()
        if ended.end is None:
            self.tally.answered(ended.code)
        else:
            self.tally.cut_short(ended.end)
        self._write_line(self._lines.of_request(self._now(), cast(Request, request)))

    def log_refusal(self, peer: IAddress, answer: ErrorAnswer) -> None:
        """A line for a request that could not be read."""
        self.tally.sent(len(answer.body))
        self.tally.answered(answer.status)
        self._write_line(self._lines.of_refusal(self._now(), peer, answer.status, len(answer.body)))

    def _now(self) -> str:
        # Many requests in one second.
        now = int(self._clock.seconds())
        if now != self._timestamp_is_of:
            self._timestamp, self._timestamp_is_of = self._lines.timestamp(now), now
        return self._timestamp

    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]


def _log_line(line: object) -> None:
    _access.info("{line}", line=line)
