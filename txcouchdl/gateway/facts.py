"""From a request to facts: what a client says, parsed once, strictly, at the edge."""

from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from txcouchdl.gateway.credentials import Fields, token_of
from txcouchdl.gateway.links import SignedLink, parse_link
from txcouchdl.gateway.pages import PageFacts, wants_html
from txcouchdl.gateway.plan import RequestFacts


def facts_of(method: bytes, query: bytes, fields: Fields, protocol: bytes = b"HTTP/1.1") -> RequestFacts:
    """
    :param query: of the raw request target, without the ``?``.
    :param fields: of the request; repeated ones are joined, as RFC 9110, section 5.3, has it.
    :param protocol: name and version, as in the request line.
    """
    parameters = parse_query(query)
    place, token = token_of(parameters, fields)
    return RequestFacts(
        method=method.decode("latin-1"),
        needs_length=method == b"GET" and protocol != b"HTTP/1.1",
        token=token,
        place=place,
        link=_link(parameters),
        rev=_parameter(parameters, b"rev"),
        digest=_parameter(parameters, b"digest"),
        download=_parameter(parameters, b"download"),
        range=_joined(fields.get(b"range")),
        if_match=_joined(fields.get(b"if-match")),
        if_none_match=_joined(fields.get(b"if-none-match")),
        if_range=_joined(fields.get(b"if-range")),
    )


def page_facts_of(query: bytes, fields: Fields) -> PageFacts:
    """The facts of a request for a document's page; parameters as :func:`facts_of` has them."""
    parameters = parse_query(query)
    place, token = token_of(parameters, fields)
    return PageFacts(
        token=token,
        place=place,
        token_in_address=next(iter(parameters.get(b"token", [])), None),
        link=_link(parameters),
        rev=_parameter(parameters, b"rev"),
        skip=_parameter(parameters, b"skip"),
        is_pinning=b"pin" in parameters,
        wants_html=wants_html(_joined(fields.get(b"accept"))),
    )


def parse_query(query: bytes) -> dict[bytes, list[bytes]]:
    """The parameters of a query, decoded as forms encode them (``+`` is a space), each with all its values."""
    parameters: dict[bytes, list[bytes]] = {}
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        parameters.setdefault(_decoded(name), []).append(_decoded(value))
    return parameters


def _decoded(part: bytes) -> bytes:
    return unquote_to_bytes(part.replace(b"+", b" ")) if b"%" in part or b"+" in part else part


def _link(parameters: dict[bytes, list[bytes]]) -> SignedLink | None:
    """Where a token is shown, right or wrong, or two of them, it is that which counts."""
    return parse_link(parameters) if b"signature" in parameters and b"token" not in parameters else None


def _parameter(parameters: dict[bytes, list[bytes]], name: bytes) -> str | None:
    """A parameter as it stands, right or wrong; several are joined, and so are none."""
    values = parameters.get(name)
    return None if values is None else b", ".join(values).decode("utf-8", "replace")


def field_of(fields: Fields, name: bytes) -> str | None:
    """A field as it stands, its lines joined; ``None`` if it is not there."""
    return _joined(fields.get(name))


def _joined(values: Sequence[bytes] | None) -> str | None:
    return None if values is None else b", ".join(values).decode("latin-1")
