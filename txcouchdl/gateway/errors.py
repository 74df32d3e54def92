"""
What can go wrong for a client, and the one table that says what the client is told of it.

Errors are CouchDB-shaped: ``{"error": ..., "reason": ...}``. Reasons are sentences of ours, fixed here; what an
exception says is for the log.
"""

import json
import math
from functools import cached_property

from attrs import evolve, frozen

from txcouchdl.couch.errors import (
    AttachmentChanged,
    BadUpstream,
    CorruptAttachment,
    DownloadError,
    Overloaded,
    RevisionGone,
    UpstreamFailure,
    UpstreamRefusedUs,
    UpstreamTimeout,
    UpstreamUnavailable,
)

ALLOWED_METHODS = "GET, HEAD, OPTIONS"


class Refusal(DownloadError):
    """A request that we do not serve: the client's to mend."""


class Forbidden(Refusal):
    """No right token, for whatever reason: there may be no such document."""


class PasswordNeeded(Forbidden):
    """
    The same for a client that is to be asked for a password: it has shown no secret, or a wrong password.

    :ivar realm: of the document, which may not exist.
    """

    def __init__(self, message: str = "", realm: str = "/") -> None:
        super().__init__(message)
        self.realm = realm


class TooManyGuesses(Refusal):
    """
    A secret that is not compared: its address has sent too many wrong ones, and too many requests of it wait already.

    :ivar retry_after: seconds until a place in the queue may be free.
    """

    def __init__(self, message: str = "", retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooManyConnections(Refusal):
    """One more request of an address, by a proxy, than it may have at the same time."""


class NoSuchAttachment(Refusal):
    """The document, shown a right token for, has no attachment of this name."""


class NoSuchRevision(Refusal):
    """The document has no such revision, or has it no more."""


class NoAddress(Refusal):
    """The request target names no attachment."""


class BadTarget(Refusal):
    """The request target cannot be read."""


class BadRevision(Refusal):
    """``?rev=`` is given, but no revision."""


class MethodNotAllowed(Refusal):
    """Another method than ours."""


@frozen
class ErrorAnswer:
    """
    An answer that is an error.

    :ivar error: CouchDB's one-word name for the kind.
    :ivar reason: one sentence.
    :ivar headers: more header fields, beyond those that every error has.
    :ivar title: of an error that couchdb_download_token had too; its programs read ``title`` and ``description``.
    """

    status: int
    error: str
    reason: str
    headers: tuple[tuple[str, str], ...] = ()
    title: str | None = None

    @cached_property
    def body(self) -> bytes:
        """JSON with a line's end, as CouchDB writes it."""
        told = {"error": self.error, "reason": self.reason}
        if self.title is not None:
            told |= {"title": self.title, "description": self.reason}
        return json.dumps(told).encode("ascii") + b"\n"


# Where nothing is known of how long it will take.
_SOON = (("Retry-After", "1"),)
# Seconds: nobody is sent away for longer by a node that may be back at any moment. It is asked again on demand.
_LONGEST_OUTAGE = 5.0
_OUTAGES = frozenset({503, 504})
_BAD_GATEWAY = "CouchDB did not answer as it should."

# The reason of the 403 is couchdb_download_token's, to the letter: programs may look for it.
_FORBIDDEN = "Incorrect download token or unexisting document or database"
_MISSING = ErrorAnswer(404, "not_found", "Document is missing attachment", title="Not Found")
_TABLE: dict[type[DownloadError], ErrorAnswer] = {
    Forbidden: ErrorAnswer(403, "forbidden", _FORBIDDEN, title="Forbidden"),
    PasswordNeeded: ErrorAnswer(401, "unauthorized", _FORBIDDEN),
    TooManyGuesses: ErrorAnswer(429, "too_many_requests", "Too many incorrect download tokens from this address."),
    # It is the address' doing, and not ours: a proxy in front must not take the gateway for broken because of it.
    TooManyConnections: ErrorAnswer(
        429, "too_many_requests", "There are too many connections from this address.", (("Retry-After", "5"),)
    ),
    NoSuchAttachment: _MISSING,
    NoSuchRevision: ErrorAnswer(404, "not_found", "missing"),
    NoAddress: ErrorAnswer(
        404, "not_found", "An attachment's address is /{db}/{docid}/{attachment name}, a document's /{db}/{docid}/."
    ),
    BadTarget: ErrorAnswer(400, "bad_request", "The path is not percent-encoded UTF-8."),
    BadRevision: ErrorAnswer(400, "bad_request", "Invalid rev format"),
    MethodNotAllowed: ErrorAnswer(
        405, "method_not_allowed", "Only GET, HEAD and OPTIONS are allowed.", (("Allow", ALLOWED_METHODS),)
    ),
    UpstreamTimeout: ErrorAnswer(504, "gateway_timeout", "CouchDB did not answer in time.", _SOON),
    UpstreamUnavailable: ErrorAnswer(503, "service_unavailable", "CouchDB cannot be reached.", _SOON),
    Overloaded: ErrorAnswer(503, "service_unavailable", "Too much is going on. Ask again later."),
    UpstreamRefusedUs: ErrorAnswer(502, "bad_gateway", "CouchDB does not let this gateway in."),
    BadUpstream: ErrorAnswer(502, "bad_gateway", _BAD_GATEWAY),
    # The document has it, again and again, and CouchDB does not: a name that its paths cannot express (``//``).
    RevisionGone: _MISSING,
    AttachmentChanged: ErrorAnswer(502, "bad_gateway", "The attachment keeps changing."),
    CorruptAttachment: ErrorAnswer(502, "bad_gateway", "The attachment is damaged in CouchDB."),
    UpstreamFailure: ErrorAnswer(502, "bad_gateway", _BAD_GATEWAY),
    DownloadError: ErrorAnswer(500, "internal_server_error", "The gateway failed."),
}

#: For what is our own fault.
INTERNAL_ERROR = _TABLE[DownloadError]
#: For a connection that cannot be served.
TOO_MANY_CONNECTIONS = _TABLE[TooManyConnections]


def answer_for(error: DownloadError) -> ErrorAnswer:
    """
    The answer to an error: its own, or the nearest base class's. An error that knows when to ask again, in seconds as
    ``retry_after``, tells it.
    """
    told = next(_TABLE[kind] for kind in type(error).__mro__ if kind in _TABLE)
    if isinstance(error, PasswordNeeded):
        return evolve(told, headers=(("WWW-Authenticate", f'Basic realm="{error.realm}", charset="UTF-8"'),))
    retry_after: float | None = getattr(error, "retry_after", None)
    return told if retry_after is None else _with_retry_after(told, retry_after)


def _with_retry_after(told: ErrorAnswer, seconds: float) -> ErrorAnswer:
    """Whole seconds (RFC 9110, section 10.2.3), rounded so that nobody comes too early."""
    if told.status in _OUTAGES:
        seconds = min(seconds, _LONGEST_OUTAGE)
    others = (each for each in told.headers if each[0] != "Retry-After")
    return evolve(told, headers=(*others, ("Retry-After", str(max(1, math.ceil(seconds))))))
