"""
Whatever a document says. A writer of the database writes its stubs, and chooses the types, names and numbers in them.

The node answers as CouchDB would, as far as it can with such a document.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import quote

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, composite

from tests import strategies
from tests.fuzz.grammar import mutated
from tests.fuzz.watched import OTHER, STORED, house_of, no_mistake, outcomes
from tests.gateway.house import TOKEN, House
from tests.scripted import Asked, Script, answer

#: What a client may be answered of such a document. 502 is a stub that cannot be true, or is not.
STATUSES: Final = {200, 206, 304, 400, 403, 404, 412, 416, 502}

_REV: Final = "1-0123456789abcdef0123456789abcdef"
_NAMES: Final = st.sampled_from([*STORED]) | strategies.names | strategies.hostile_names
_TOKENS: Final = st.just(TOKEN) | st.sampled_from([[TOKEN, 1, None, ""], [[TOKEN]], {"a": TOKEN}, "", [TOKEN] * 300])

patiently = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@composite
def _stubs(draw: DrawFn, name: str) -> Any:
    """A stub that is true but for some of its fields, or one that is not true at all."""
    if name not in STORED or not draw(st.integers(0, 3)):
        return draw(strategies.stub_objects() | strategies.mutated_stub_objects())
    stub = dict(STORED[name].stub)
    for field in draw(st.lists(st.sampled_from([*stub, "sha256", "encoding", "data", "follows"]), max_size=2)):
        stub[field] = draw(strategies.json_values | strategies.hostile_content_types() | st.integers(0, 2**70))
    return stub


@composite
def documents(draw: DrawFn) -> bytes:
    """What a node sends for a document: JSON, nearly always of an object that opens."""
    names = draw(st.lists(_NAMES, max_size=4, unique=True))
    stubs: Any = {name: draw(_stubs(name)) for name in names}
    fields = {
        "_id": draw(st.sampled_from(["doc"] * 9 + ["other"])),
        "_rev": draw(st.sampled_from([_REV] * 9 + ["1-a", "x", "", None, 1])),
        "download_token": draw(_TOKENS if not draw(st.integers(0, 3)) else st.just(TOKEN)),
        "_attachments": stubs if draw(st.integers(0, 9)) else draw(strategies.json_values),
        **draw(st.dictionaries(st.text(max_size=5), strategies.json_values, max_size=2)),
    }
    return json.dumps(fields, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


def respond_with(document: bytes) -> Callable[[Asked], Script | None]:
    """As CouchDB: the document as it is, and the bytes that are stored."""

    def respond(asked: Asked) -> Script:
        if asked.path == "/db/doc":
            return [answer(200, document)]
        stored = _BY_TARGET.get(asked.path)
        if stored is None:
            return [answer(404, b'{"error":"not_found","reason":"Document is missing attachment"}')]
        fields = {"ETag": f'"{stored.etag}"'}
        if stored.encoding is not None and asked.headers["accept-encoding"] == "gzip":
            return [answer(200, stored.stored, {**fields, "Content-Encoding": "gzip"})]
        if "range" not in asked.headers:
            return [answer(200, stored.stored, fields)]
        first, last = (int(each) for each in asked.headers["range"].removeprefix("bytes=").split("-"))
        length = len(stored.stored)
        if first >= length:
            return [answer(416, b"", {"Content-Range": f"bytes */{length}"})]
        last = min(last, length - 1)
        return [
            answer(206, stored.stored[first : last + 1], {**fields, "Content-Range": f"bytes {first}-{last}/{length}"})
        ]

    return respond


_BY_TARGET: Final = {f"/db/doc/{quote(name, safe='')}": each for name, each in STORED.items()}

_PATHS: Final = [*(quote(name) for name in STORED), "", "none"]
_FIELDS: Final = [
    "",
    "Range: bytes=0-9\r\n",
    "Range: bytes=-5\r\n",
    "Range: bytes=0-1,5-6\r\n",
    "Accept: text/html\r\n",
]
_REQUESTS: Final = st.builds(
    lambda method, path, more, fields: (
        f"{method} /db/doc/{path}?token={TOKEN}{more} HTTP/1.1\r\nHost: test\r\n{fields}\r\n".encode()
    ),
    st.sampled_from(["GET", "GET", "HEAD"]),
    st.sampled_from(_PATHS),
    st.sampled_from(["", "", f"&rev={_REV}", "&rev=1-a", "&pin", "&download", f"&x={OTHER}"]),
    st.sampled_from(_FIELDS),
)


def all_end_as_they_may(house: House, sent: Sequence[bytes]) -> None:
    with no_mistake(house, TOKEN, OTHER):
        ended = outcomes(house, sent)
    for outcome in ended:
        assert outcome.statuses, "no answer"
        assert set(outcome.statuses) <= STATUSES, outcome.statuses


@patiently
@given(documents(), st.lists(_REQUESTS, min_size=1, max_size=4))
@example(b"{}", [b"GET /db/doc/f?token=s3cret HTTP/1.1\r\nHost: test\r\n\r\n"])
def test_whatever_a_document_says(document: bytes, sent: list[bytes]) -> None:
    house = house_of()
    house.node.faults = respond_with(document)
    all_end_as_they_may(house, sent)


@patiently
@given(mutated(documents()), st.lists(_REQUESTS, min_size=1, max_size=3))
def test_whatever_comes_as_a_document(document: bytes, sent: list[bytes]) -> None:
    """It need not be JSON."""
    house = house_of()
    house.node.faults = respond_with(document)
    all_end_as_they_may(house, sent)
