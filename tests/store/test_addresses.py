"""Raw targets (FINDINGS, section 5); the recording holds many more, see test_replay.py."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txcouchdl.couch.names import quote_segment
from txcouchdl.store.addresses import Address, Kind, parse_target
from txcouchdl.store.answers import Refusal


@pytest.mark.parametrize(
    ("raw", "address"),
    [
        (b"/", Address(Kind.SERVER)),
        (b"//", Address(Kind.SERVER)),
        (b"http://host:1/_up", Address(Kind.UP)),
        (b"/_all_dbs/", Address(Kind.ALL_DATABASES)),
        (b"/_session", Address(Kind.SESSION)),
        (b"/_session/x", Address(Kind.NOT_COVERED, attachment="_session")),
        (b"/_uuids/", Address(Kind.UUIDS)),
        (b"/_uuids/x", Address(Kind.NOT_COVERED, attachment="_uuids")),
        (b"/_users/doc", Address(Kind.NOT_COVERED, attachment="_users")),
        (b"/_nosuch", Address(Kind.DATABASE, "_nosuch")),
        (b"/_up/x", Address(Kind.DOCUMENT, "_up", "x")),
        (b"/a%2Fb", Address(Kind.DATABASE, "a/b")),
        (b"//db//", Address(Kind.DATABASE, "db")),
        (b"/db/_compact", Address(Kind.COMPACTION, "db")),
        (b"/db/_compact/x", Address(Kind.INDEX_COMPACTION, "db", "_design/x")),
        (b"/db/_compact/_design%2Fx/y", Address(Kind.INDEX_COMPACTION, "db", "_design/_design/x")),
        (b"/db/_find", Address(Kind.NOT_COVERED, "db", attachment="_find")),
        (b"/db/_all_docs/x", Address(Kind.ATTACHMENT, "db", "_all_docs", "x")),
        (b"/db/_design", Address(Kind.DOCUMENT, "db", "_design")),
        (b"/db/_design/d", Address(Kind.DOCUMENT, "db", "_design/d")),
        (b"/db/_design%2Fd", Address(Kind.DOCUMENT, "db", "_design/d")),
        (b"/db/_design/d/_view/v", Address(Kind.NOT_COVERED, "db", attachment="_view")),
        (b"/db/_design%2Fd/_info", Address(Kind.NOT_COVERED, "db", attachment="_info")),
        (b"/db/_design/d/f", Address(Kind.ATTACHMENT, "db", "_design/d", "f")),
        (b"/db/_local", Address(Kind.LOCAL, "db")),
        (b"/db/_local%2f/", Address(Kind.LOCAL, "db")),
        (b"/db/_local/d", Address(Kind.NOT_COVERED, "db", attachment="_local documents")),
        (b"/db/_local%2Fd/f", Address(Kind.LOCAL_ATTACHMENT, "db")),
        (b"/db/a+b/c+d%2B", Address(Kind.ATTACHMENT, "db", "a b", "c d+")),
        (b"/db/../x/./y", Address(Kind.ATTACHMENT, "db", "..", "x/./y")),
        (b"/db/d//x%2F%2Fy/", Address(Kind.ATTACHMENT, "db", "d", "x//y")),
    ],
)
def test_addresses(raw: bytes, address: Address) -> None:
    assert parse_target(raw) == (address, {})


@pytest.mark.parametrize("raw", [b"/%", b"/db/%zz", b"/db/%f", b"/db/%FF", b"/db/d/%c3%28"])
def test_what_cannot_be_decoded(raw: bytes) -> None:
    with pytest.raises(Refusal) as raised:
        parse_target(raw)
    assert raised.value.status == 400


@pytest.mark.parametrize(
    ("raw", "query"),
    [
        (b"/?", {}),
        (b"/?a", {"a": ""}),
        (b"/?rev=1-a&rev=2-b", {"rev": "1-a"}),
        (b"/?a=%22x%22+y", {"a": '"x" y'}),
        (b"/?a=%ff&b=%zz", {"a": "\ufffd", "b": "%zz"}),
        (b"/?a=?", {"a": "?"}),
    ],
)
def test_queries(raw: bytes, query: dict[str, str]) -> None:
    assert parse_target(raw) == (Address(Kind.SERVER), query)


_segments = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: not text.startswith("_"))


@given(_segments, _segments, _segments)
def test_names_come_back(database: str, document_id: str, name: str) -> None:
    path = "".join(f"/{quote_segment(segment)}" for segment in (database, document_id, name))
    assert parse_target(path.encode("ascii"))[0] == Address(Kind.ATTACHMENT, database, document_id, name)


@given(st.binary())
def test_any_target_is_an_address_or_a_bad_request(raw: bytes) -> None:
    with suppress(Refusal):
        parse_target(raw)
