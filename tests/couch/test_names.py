"""Targets and names: every name survives the way to a URL and back, and nothing on the way can read it otherwise."""

import re
from typing import Final

import pytest
from hyperlink import EncodedURL
from hypothesis import example, given
from hypothesis import strategies as st
from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.web.client import URI
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from tests import strategies
from txcouchdl.couch.names import (
    AttachmentAddress,
    BadAddress,
    DocumentAddress,
    TooShort,
    attachment_path,
    authority,
    decode_segment,
    document_path,
    is_legal_database_name,
    is_linkable,
    parse_address,
    quote_segment,
    split_target,
)

_NODE: Final = "http://127.0.0.1:5984"
# RFC 3986: unreserved characters, escapes in upper case, and the slashes between segments.
_SENT = re.compile(r"(?:/|[A-Za-z0-9._~-]|%[0-9A-F]{2})+")


def _parse(target: bytes) -> AttachmentAddress | DocumentAddress:
    path, _ = split_target(target)
    return parse_address(path)


# Fixed sentences: a client's bytes are in none of them.
_REASONS: Final = {
    "Invalid percent-encoding in the path.",
    "The path is not UTF-8.",
    "The path must begin with a slash.",
    "An attachment's address is /{db}/{docid}/{attachment name}, a document's /{db}/{docid}/.",
}


def _address_or_reason(target: bytes) -> AttachmentAddress | DocumentAddress | str:
    try:
        return _parse(target)
    except BadAddress as error:
        return error.reason


@implementer(IAgent)
class _Recorder:
    """Notes what treq would put on the wire."""

    def __init__(self) -> None:
        self.targets: list[bytes] = []

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,  # noqa: N803 (IAgent's)
    ) -> "Deferred[IResponse]":
        self.targets.append(URI.fromBytes(uri).originForm)
        return Deferred()


# --- there and back -----------------------------------------------------------------------------------------


@given(strategies.addresses)
@example(AttachmentAddress("db", "a/b", "..%2F+\x00\n?#"))
@example(AttachmentAddress("db", "_design/a/b", "_view/x"))
@example(AttachmentAddress("..", "..", ".."))
def test_an_address_comes_back_from_its_path(address: AttachmentAddress) -> None:
    assert _parse(attachment_path(address).encode("ascii")) == address


@given(strategies.addresses)
@example(AttachmentAddress("db", "..", "."))
@example(AttachmentAddress("db", "_design/..", "."))
@example(AttachmentAddress("db", "d", "x/../y.bin"))
def test_what_goes_upstream_can_be_read_in_one_way_only(address: AttachmentAddress) -> None:
    for path in (attachment_path(address), document_path(address.database, address.document_id)):
        assert _SENT.fullmatch(path)
        assert not {".", ".."} & set(path.split("/"))
    # One slash for each cut of the address, and none from a name.
    slashes = 4 if address.document_id.startswith("_design/") else 3
    assert attachment_path(address).count("/") == slashes
    assert document_path(address.database, address.document_id).count("/") == slashes - 1


@given(strategies.addresses, st.sampled_from(["", "/couch/prefix"]))
def test_http_libraries_keep_it_byte_for_byte(address: AttachmentAddress, prefix: str) -> None:
    target = f"{prefix}{attachment_path(address)}?rev=1-%2B%26"
    assert EncodedURL.from_text(f"{_NODE}{target}").to_uri().to_text() == f"{_NODE}{target}"
    recorder = _Recorder()
    HTTPClient(recorder).get(f"{_NODE}{target}")
    assert recorder.targets == [target.encode("ascii")]


@given(st.data(), strategies.names)
def test_all_spellings_of_a_segment_mean_the_same(data: st.DataObject, name: str) -> None:
    assert decode_segment(data.draw(strategies.spellings(name, safe="-._~!$&'()*+,;=:@\""))) == name


@given(st.data(), strategies.names)
def test_couchdb_reads_our_segments_as_we_do(data: st.DataObject, name: str) -> None:
    """Its dialect has but one difference, and what we write does not use it."""
    assert decode_segment(quote_segment(name).encode("ascii"), plus_is_space=True) == name
    spelling = data.draw(strategies.spellings(name, safe="-._~+"))
    assert decode_segment(spelling, plus_is_space=True) == decode_segment(spelling.replace(b"+", b"%20"))


@given(st.data(), strategies.names)
def test_the_slashes_of_a_name_may_be_raw(data: st.DataObject, name: str) -> None:
    spelling = data.draw(strategies.spellings(name, safe="/+~"))
    assert _parse(b"/db/doc/" + spelling) == AttachmentAddress("db", "doc", name)
    assert _parse(b"/db/_design/doc/" + spelling) == AttachmentAddress("db", "_design/doc", name)


# --- hostile targets ----------------------------------------------------------------------------------------


@given(st.binary() | st.binary().map(lambda tail: b"/db/doc/" + tail))
@example(b"")
@example(b"*")
@example(b"http://")
@example(b"HTTP://h?/db/doc/f")
@example(b"/\xff/\xfe/\xfd")
@example(b"/db/doc/%")
@example(b"/db/doc/%\xb2\xb2")
@example(b"/db/_design")
def test_any_target_is_an_address_or_a_bad_one(target: bytes) -> None:
    found = _address_or_reason(target)
    if isinstance(found, str):
        assert found in _REASONS
        return
    path, query = split_target(target)
    assert target.endswith(path + (b"?" + query if b"?" in target else b""))
    if isinstance(found, DocumentAddress):
        assert path.endswith(b"/")
        return
    assert found.attachment
    # And what was read can be asked for: it says the same again.
    assert _parse(attachment_path(found).encode("ascii")) == found


@given(st.text("/%2fF.+?#_design~\x00\x80a", max_size=30))
def test_any_text_of_mischief_is_an_address_or_a_bad_one(text: str) -> None:
    found = _address_or_reason(b"/" + text.encode("latin-1"))
    assert found in _REASONS or isinstance(found, AttachmentAddress | DocumentAddress)


@pytest.mark.parametrize("escape", [b"%", b"%z", b"%zz", b"%4", b"%4g", b"%%41", b"% 1", b"%+1", b"%\n1", b"%\xd9\xa1"])
@pytest.mark.parametrize("where", [b"/%b/doc/f", b"/db/%b/f", b"/db/doc/%b", b"/db/doc/a%bz", b"/db/doc/x/%b/y"])
def test_a_bad_escape_is_refused_wherever_it_is(escape: bytes, where: bytes) -> None:
    with pytest.raises(BadAddress, match="percent-encoding") as caught:
        _parse(where % escape)
    assert not isinstance(caught.value, TooShort)


@pytest.mark.parametrize(
    "octets",
    [
        *(b"%FF", b"%FC.txt", b"\xfc.txt", b"%C3", b"\xc3", b"%C3/%BC", b"%C0%AF", b"%C0%AE%C0%AE", b"%E0%80%AF"),
        *(b"%ED%A0%80", b"%ED%A0%BD%ED%B8%80", b"%F4%90%80%80", b"%F8%88%80%80%80", b"\xed\xa0\x80"),
    ],
)
def test_other_bytes_than_utf8_are_refused(octets: bytes) -> None:
    """Overlong slashes and dots, lone surrogates, and halves of a character on both sides of a slash among them."""
    with pytest.raises(BadAddress, match="UTF-8") as caught:
        _parse(b"/db/doc/" + octets)
    assert not isinstance(caught.value, TooShort)


@pytest.mark.parametrize(
    "target", [b"", b"db/doc/f", b"*", b"?token=x", b"ftp://h/db/doc/f", b"\x00/db/doc/f", b"%2Fdb/d/f"]
)
def test_a_path_begins_with_a_slash(target: bytes) -> None:
    with pytest.raises(BadAddress, match="begin with a slash"):
        _parse(target)


@pytest.mark.parametrize(
    "target",
    [
        *(b"/", b"//", b"/db", b"/db/", b"/db/doc", b"/db/a%2Fb", b"/db/doc?/f", b"/db?/doc/f"),
        *(b"/db/_design", b"/db/_design/", b"/db/_design/x", b"/db/_design%2Fx", b"/db/%5fdesign/x"),
        *(b"/db/doc?token=x/", b"http://h/db/doc", b"http://h/", b"/db%2Fdoc%2F"),
    ],
)
def test_a_target_may_be_too_short(target: bytes) -> None:
    with pytest.raises(TooShort):
        _parse(target)


@pytest.mark.parametrize(
    ("target", "database", "document_id"),
    [
        (b"/db/doc/", "db", "doc"),
        (b"/db/doc/?token=x", "db", "doc"),
        (b"http://h/db/doc/", "db", "doc"),
        (b"/a%2Fb/c%2Fd/", "a/b", "c/d"),
        (b"/db/_design/x/", "db", "_design/x"),
        (b"/db/_design%2Fx/", "db", "_design/x"),
        (b"/db/_design//", "db", "_design/"),
        (b"/db//", "db", ""),
        (b"//doc/", "", "doc"),
        (b"/db/_local/", "db", "_local"),
    ],
)
def test_a_documents_address_ends_with_a_slash(target: bytes, database: str, document_id: str) -> None:
    assert _parse(target) == DocumentAddress(database, document_id)


def test_a_slash_more_is_a_name() -> None:
    assert _parse(b"/db/doc//") == AttachmentAddress("db", "doc", "/")


def test_an_attachment_belongs_to_its_document() -> None:
    assert AttachmentAddress("db", "_design/x", "f").document == DocumentAddress("db", "_design/x")


@pytest.mark.parametrize("name", ["a", "a/b", "a/../b", "...", ".a", "..a", " ", "100%", "a?b#c", "é"])
def test_names_that_links_can_lead_to(name: str) -> None:
    assert is_linkable(AttachmentAddress("db", name, name))


@pytest.mark.parametrize("name", ["", ".", "..", "/", "/a", "a/", "a//b", "//", "a\ud800.txt"])
def test_names_that_no_link_can_lead_to(name: str) -> None:
    """CouchDB's paths cannot express them (FINDINGS, section 5), or browsers resolve them away."""
    assert not is_linkable(AttachmentAddress("db", "doc", name))


@pytest.mark.parametrize("document_id", [".", ".."])
def test_documents_that_no_link_can_lead_to(document_id: str) -> None:
    assert not is_linkable(AttachmentAddress("db", document_id, "f"))


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (b"/db/doc/f", None),
        (b"/http://h/f", None),
        (b"*", None),
        (b"http://h/db/doc/f", "h"),
        (b"HTTPS://H.example:8443?token=x", "H.example:8443"),
        (b"http://[::1]:80/", "[::1]:80"),
        (b"http://user@h/", "user@h"),
        (b"http://", ""),
    ],
)
def test_a_targets_authority(target: bytes, host: str | None) -> None:
    assert authority(target) == host


def test_a_targets_query_begins_at_its_first_question_mark() -> None:
    assert split_target(b"/db/doc/f") == (b"/db/doc/f", b"")
    assert split_target(b"/db/doc/f?") == (b"/db/doc/f", b"")
    assert split_target(b"/db/doc/f?a?b#c") == (b"/db/doc/f", b"a?b#c")
    assert split_target(b"/db/doc/f%3Fa") == (b"/db/doc/f%3Fa", b"")
    assert split_target(b"?/db/doc/f") == (b"", b"/db/doc/f")


@pytest.mark.parametrize(
    "prefix", [b"http://h", b"https://h", b"HTTP://H:80", b"http://[::1]:80", b"http://user:pw@h", b"hTTps://"]
)
def test_the_absolute_form_is_the_origin_form(prefix: bytes) -> None:
    """RFC 9112 section 3.2.2: a server must take it."""
    assert split_target(prefix + b"/db/d%2Fe/f?token=http://x/y") == (b"/db/d%2Fe/f", b"token=http://x/y")


@pytest.mark.parametrize("target", [b"http://h", b"http://h?", b"HTTPS://h:1?token=x"])
def test_the_absolute_form_without_a_path_is_the_root(target: bytes) -> None:
    assert split_target(target)[0] == b"/"
    with pytest.raises(TooShort):
        _parse(target)


def test_a_url_in_a_name_is_no_absolute_form() -> None:
    assert _parse(b"/http://h/doc/f") == AttachmentAddress("http:", "", "h/doc/f")
    assert _parse(b"/db/doc/http://h/f") == AttachmentAddress("db", "doc", "http://h/f")
    assert _parse(b"http://h/db/doc/http://h/f") == AttachmentAddress("db", "doc", "http://h/f")


# FINDINGS, section 5: what a CouchDB 3.5.2 was asked for there, and the name that the target has **here**: raw
# pluses are pluses, and slashes are never collapsed.
@pytest.mark.parametrize(
    ("tail", "name"),
    [
        (b"a%20b.txt", "a b.txt"),
        (b"%61%20b.txt", "a b.txt"),
        (b"a+b.txt", "a+b.txt"),
        (b"raw+plus.txt", "raw+plus.txt"),
        (b"plus%2Bplus.txt", "plus+plus.txt"),
        (b"%C3%BC.txt", "\u00fc.txt"),
        (b"%c3%bc.txt", "\u00fc.txt"),
        (b"\xc3\xbc.txt", "\u00fc.txt"),
        (b"u%CC%88.txt", "u\u0308.txt"),
        (b"%F0%9F%8E%89.bin", "\U0001f389.bin"),
        (b"dir/sub/file.bin", "dir/sub/file.bin"),
        (b"dir%2Fsub%2Ffile.bin", "dir/sub/file.bin"),
        (b"dir/sub%2ffile.bin", "dir/sub/file.bin"),
        (b"dir//sub/file.bin", "dir//sub/file.bin"),
        (b"/dir/sub/file.bin", "/dir/sub/file.bin"),
        (b"a%20b.txt/", "a b.txt/"),
        (b"100%25.txt", "100%.txt"),
        (b"a%252Fb.bin", "a%2Fb.bin"),
        (b"q%3Fx%3D1.bin", "q?x=1.bin"),
        (b"q?x=1.bin", "q"),
        (b"a%23b.txt", "a#b.txt"),
        (b"a#b.txt", "a#b.txt"),
        (b"a&b=c;d.txt", "a&b=c;d.txt"),
        (b"a%26b%3Dc%3Bd.txt", "a&b=c;d.txt"),
        (b"%22q%22.txt", '"q".txt'),
        (b"a:b@c.txt", "a:b@c.txt"),
        (b".hidden", ".hidden"),
        (b"..", ".."),
        (b"%2E%2e", ".."),
        (b"x/../y.bin", "x/../y.bin"),
        (b"./a%20b.txt", "./a b.txt"),
        (b"_under.bin", "_under.bin"),
        (b"a%00b.bin", "a\x00b.bin"),
        (b"a%0Ab.bin", "a\nb.bin"),
    ],
)
def test_the_recorded_targets(tail: bytes, name: str) -> None:
    assert _parse(b"/rec/names/" + tail) == AttachmentAddress("rec", "names", name)


@pytest.mark.parametrize(
    ("target", "document_id", "name"),
    [
        (b"/db/a%2Fb/f", "a/b", "f"),
        (b"/db/a%252Fb/f", "a%2Fb", "f"),
        (b"/db/a+b/f", "a+b", "f"),
        (b"/db/../f", "..", "f"),
        (b"/db/./f", ".", "f"),
        (b"/db//f", "", "f"),
        (b"/db/_design/x/f", "_design/x", "f"),
        (b"/db/_design%2Fx/f", "_design/x", "f"),
        (b"/db/%5Fdesign/x/f", "_design/x", "f"),
        (b"/db/_design/x%2Fy/f", "_design/x/y", "f"),
        (b"/db/_design/x/y/f", "_design/x", "y/f"),
        (b"/db/_design/x/_view/v", "_design/x", "_view/v"),
        (b"/db/_design//f", "_design/", "f"),
        (b"/db/_local/x/f", "_local", "x/f"),
        (b"/db/_local%2Fx/f", "_local/x", "f"),
        (b"/db/_designs/x/f", "_designs", "x/f"),
        (b"/db/_DESIGN/x/f", "_DESIGN", "x/f"),
    ],
)
def test_document_ids(target: bytes, document_id: str, name: str) -> None:
    assert _parse(target) == AttachmentAddress("db", document_id, name)


def test_a_design_documents_slash_is_raw_upstream() -> None:
    assert document_path("db", "_design/x") == "/db/_design/x"
    assert document_path("db", "_design/x/y") == "/db/_design/x%2Fy"
    assert document_path("a/b", "c/d") == "/a%2Fb/c%2Fd"
    assert attachment_path(AttachmentAddress("db", "_design/..", "a/b+c")) == "/db/_design/%2E%2E/a%2Fb%2Bc"


# --- what may be asked for ----------------------------------------------------------------------------------


@given(strategies.database_names, strategies.names.filter(lambda name: not name.startswith("_")))
def test_documents_of_users_databases_are_addressable(database: str, document_id: str) -> None:
    assert is_legal_database_name(database)
    assert DocumentAddress(database, document_id).is_addressable
    assert DocumentAddress(database, f"_design/{document_id}").is_addressable


@given(strategies.names)
def test_couchdbs_own_documents_are_not(name: str) -> None:
    assert not DocumentAddress("db", f"_local/{name}").is_addressable
    # A name may begin so that it makes a design document of it.
    assert DocumentAddress("db", f"_{name}").is_addressable == name.startswith("design/") & (name != "design/")


@pytest.mark.parametrize(
    "document_id",
    ["", "_", "_design", "_design/", "_Design/x", "_designs/x", "_local/x", "_all_docs", "_changes", "_find"],
)
def test_ids_that_are_not_addressable(document_id: str) -> None:
    assert not DocumentAddress("db", document_id).is_addressable


@pytest.mark.parametrize(
    "database",
    [
        *(
            "",
            ".",
            "..",
            "_users",
            "_replicator",
            "_all_dbs",
            "_",
            "Db",
            "DB",
            "dB",
            "1db",
            "-db",
            "/db",
            " db",
            "db ",
            "d.b",
        ),
        *(
            "db\n",
            "db\x00",
            "d\u00e9",
            "d\u0661",
            "\u212a",
            "db?x",
            "db#x",
            "db%2f",
            "db\\x",
            "db;x",
            "db:x",
            "..%2fdb",
            "http:",
        ),
    ],
)
def test_illegal_databases(database: str) -> None:
    assert not is_legal_database_name(database)
    assert not DocumentAddress(database, "doc").is_addressable


@given(strategies.names | strategies.utf8_text)
def test_a_legal_database_leads_nowhere_else(name: str) -> None:
    """No dot, no escape, and never CouchDB's own."""
    if is_legal_database_name(name):
        assert name[0].islower()
        assert name.isascii()
        assert not set(name) & set(".%?#\\\n\x00")


def test_long_addresses_are_not_kept() -> None:
    assert parse_address(b"/db/doc/kept") is parse_address(b"/db/doc/kept")
    long = b"/db/doc/" + b"x" * 600
    assert parse_address(long) == parse_address(long)
    assert parse_address(long) is not parse_address(long)
