"""From a request to facts: what a client says, parsed once, strictly, at the edge."""

from urllib.parse import unquote_to_bytes

from twisted.web.http_headers import Headers

from txcouchdl.gateway.pages import PageFacts, wants_html
from txcouchdl.gateway.plan import RequestFacts

_BEARER = b"bearer "


def facts_of(method: bytes, query: bytes, headers: Headers, protocol: bytes = b"HTTP/1.1") -> RequestFacts:
    """
    :param query: of the raw request target, without the ``?``.
    :param protocol: name and version, as in the request line.
    :param headers: of the request; repeated fields are joined, as RFC 9110, section 5.3, has it.
    """
    parameters = parse_query(query)
    return RequestFacts(
        method=method.decode("latin-1"),
        needs_length=method == b"GET" and protocol != b"HTTP/1.1",
        token=_token(parameters, headers),
        rev=_parameter(parameters, b"rev"),
        digest=_parameter(parameters, b"digest"),
        download=_parameter(parameters, b"download"),
        range=field_of(headers, b"Range"),
        if_match=field_of(headers, b"If-Match"),
        if_none_match=field_of(headers, b"If-None-Match"),
        if_range=field_of(headers, b"If-Range"),
    )


def page_facts_of(query: bytes, headers: Headers) -> PageFacts:
    """The facts of a request for a document's page; parameters as :func:`facts_of` has them."""
    parameters = parse_query(query)
    return PageFacts(
        token=_token(parameters, headers),
        token_in_address=next(iter(parameters.get(b"token", [])), None),
        rev=_parameter(parameters, b"rev"),
        skip=_parameter(parameters, b"skip"),
        is_pinning=b"pin" in parameters,
        wants_html=wants_html(field_of(headers, b"Accept")),
    )


def parse_query(query: bytes) -> dict[bytes, list[bytes]]:
    """The parameters of a query, decoded as forms encode them (``+`` is a space), each with all its values."""
    parameters: dict[bytes, list[bytes]] = {}
    for pair in query.split(b"&"):
        name, _, value = (unquote_to_bytes(part.replace(b"+", b" ")) for part in pair.partition(b"="))
        parameters.setdefault(name, []).append(value)
    return parameters


def _token(parameters: dict[bytes, list[bytes]], headers: Headers) -> bytes | None:
    """The secret that is shown: ``?token=``, or else a Bearer token (RFC 6750). One, or it is none."""
    shown = parameters.get(b"token") or _bearer_tokens(headers)
    return shown[0] if len(shown) == 1 else None


def _bearer_tokens(headers: Headers) -> list[bytes]:
    credentials = headers.getRawHeaders(b"Authorization", [])
    return [each[len(_BEARER) :].strip() for each in credentials if each[: len(_BEARER)].lower() == _BEARER]


def _parameter(parameters: dict[bytes, list[bytes]], name: bytes) -> str | None:
    """A parameter as it stands, right or wrong; several are joined, and so are none."""
    values = parameters.get(name)
    return None if values is None else b", ".join(values).decode("utf-8", "replace")


def field_of(headers: Headers, name: bytes) -> str | None:
    values = headers.getRawHeaders(name)
    return None if values is None else b", ".join(values).decode("latin-1")
