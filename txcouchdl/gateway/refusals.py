"""What a connection is answered whose request cannot be read, or is not read. Pure."""

from typing import Final

from txcouchdl.gateway.description import ROBOTS, Headers
from txcouchdl.gateway.errors import ErrorAnswer
from txcouchdl.gateway.plan import plan_error
from txcouchdl.protocol.fields import LONGEST_HEAD, LONGEST_NAME, MOST_FIELDS
from txcouchdl.protocol.statuses import REASON_PHRASES

TOO_SLOW: Final = ErrorAnswer(408, "request_timeout", "The request did not come in time.")
BAD_REQUEST: Final = ErrorAnswer(400, "bad_request", "The request cannot be read.")
LONG_TARGET: Final = ErrorAnswer(
    414, "uri_too_long", f"The request line has more than {LONGEST_HEAD} bytes: its target is too long."
)
LARGE_FIELDS: Final = ErrorAnswer(
    431,
    "request_header_fields_too_large",
    f"The head of the request has more than {LONGEST_HEAD} bytes, or more than {MOST_FIELDS} header fields.",
)
LONG_NAME: Final = ErrorAnswer(
    431, "request_header_fields_too_large", f"The name of a header field has more than {LONGEST_NAME} bytes."
)
OVERLOADED: Final = ErrorAnswer(503, "service_unavailable", "There are too many connections.", (("Retry-After", "5"),))


def refusal(answer: ErrorAnswer, server: str, date: str, more: Headers = ()) -> bytes:
    """
    The whole response, which is the connection's last.

    :param server: the value of the Server field; ``date`` that of the Date field.
    :param more: further fields.
    """
    fields = {
        "Server": server,
        "Date": date,
        **dict((ROBOTS, *plan_error(answer).headers, *more)),
        "Content-Length": str(len(answer.body)),
        "Connection": "close",
    }
    phrase = REASON_PHRASES[answer.status].decode("ascii")
    lines = [f"HTTP/1.1 {answer.status} {phrase}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + answer.body
