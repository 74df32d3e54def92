"""A request -> its conditions, revision, claim or login."""

from txcouchdl.store.answers import Refusal
from txcouchdl.store.claims import Claim
from txcouchdl.store.drafts import parse_rev
from txcouchdl.store.json_bodies import parse_json_coding, read_text
from txcouchdl.store.logins import LONGEST_LOGIN, Login, parse_login
from txcouchdl.store.selection import Asked
from txcouchdl.store.values import Rev
from txcouchdl.store.web import StoreRequest


def asked_of(request: StoreRequest) -> Asked:
    """Read the header fields that decide how an attachment is sent."""
    return Asked(
        request.text_field("If-None-Match"),
        request.text_field("If-Range"),
        # Range means nothing with HEAD (RFC 9110, section 14.2).
        request.text_field("Range") if request.method == b"GET" else None,
        request.text_field("Accept-Encoding"),
    )


def rev_of(request: StoreRequest) -> tuple[Rev | None, bool]:
    """
    Read ``?rev=`` and ``?latest=``.

    :raises Refusal: 400 for what cannot be a revision.
    """
    rev = request.query.get("rev")
    return None if rev is None else parse_rev(rev), request.query.get("latest") == "true"


def login_of(request: StoreRequest) -> Login:
    """
    Read the body of a login.

    :raises Refusal: 400, 413 or 415.
    """
    coding = parse_json_coding(request.text_field("Content-Encoding"))
    upload = request.upload.take()
    try:
        too_long = Refusal(413, "too_large", "the request entity is too large")
        body = read_text(upload.pieces(), coding, LONGEST_LOGIN, too_long)
    finally:
        upload.discard()
    return parse_login(body, request.text_field("Content-Type"))


def claim_of(request: StoreRequest) -> Claim:
    """Read the revision that a write says it follows."""
    return Claim(request.query.get("rev"), request.text_field("If-Match"))


def require_json(request: StoreRequest) -> None:
    """
    Insist on JSON where CouchDB does: a form of a web page cannot post it.

    :raises Refusal: 415.
    """
    content_type = (request.field("Content-Type") or b"").partition(b";")[0]
    if content_type.strip().lower() != b"application/json":
        raise Refusal(415, "bad_content_type", "Content-Type must be application/json")
