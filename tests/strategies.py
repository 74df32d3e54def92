"""The Hypothesis strategies of all tests. What each one promises is tested in protocol/test_strategies.py.

Where a strategy draws text from a grammar it gives the text together with what the text means, so that a
parser can be asked for the meaning. "Near-miss" strategies give text that is malformed by exactly one flaw.
"""

import gzip
import json
from base64 import b64encode
from collections.abc import Sequence
from typing import Any, Final

from attrs import frozen
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy, composite

from tests.faults import (
    AnswerStatus,
    Corrupt,
    Cut,
    Delay,
    Duplicate,
    DyingWords,
    EndlessBody,
    EndlessChunkSize,
    EndlessHead,
    EndlessInterim,
    Fault,
    Hangup,
    NoFault,
    Refuse,
    Schedule,
    Slow,
    Stall,
    Start,
    Surplus,
    Truncate,
    WrongRange,
)
from tests.scripted import DYING_WORDS
from txcouchdl.couch.documents import AttachmentStub, Digest, Storage
from txcouchdl.couch.names import AttachmentAddress
from txcouchdl.protocol.conditions import EntityTag
from txcouchdl.protocol.ranges import MAX_LENGTH, MAX_SPECS, ByteRange, IntRange, RangeSpec, SuffixRange

# --- valid JSON ---------------------------------------------------------------------------------------------

_valid_digits: Final = st.text("0123456789", min_size=1, max_size=40)
_integers_text: Final = st.one_of(
    st.integers(-300, 300).map(str),
    st.integers(-(2**70), 2**70).map(str),
    st.integers(-(10**200), 10**200).map(str),
    st.sampled_from(
        [
            "-0",
            *(
                str(sign * 2**bits + step)
                for bits in (8, 31, 32, 60, 63, 64)
                for sign in (1, -1)
                for step in (-1, 0, 1)
            ),
        ]
    ),
)
_fractions_text: Final = st.just("") | _valid_digits.map(lambda digits: f".{digits}")
_exponents_text: Final = st.just("") | st.builds(
    "{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), st.integers(0, 340).map(str)
)

#: Numbers as JSON writes them, in all ways; some are beyond a double's range.
json_numbers: Final = st.builds("{}{}{}".format, _integers_text, _fractions_text, _exponents_text)

_valid_strings: Final = st.builds(
    lambda text, is_ascii: json.dumps(text, ensure_ascii=is_ascii),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.booleans(),
)
_valid_spaces: Final = st.sampled_from(["", "", "", " ", "\n", "\t\r "])


@composite
def _valid_members(draw: DrawFn, values: SearchStrategy[str], names: SearchStrategy[str]) -> str:
    members = draw(st.lists(st.tuples(names, values), max_size=4))
    spaces = [draw(_valid_spaces) for _ in range(4)]
    separator = f"{spaces[0]},{spaces[1]}"
    return "{" + spaces[2] + separator.join(f"{name}{spaces[3]}:{value}" for name, value in members) + "}"


def _valid_arrays(values: SearchStrategy[str]) -> SearchStrategy[str]:
    lists = st.lists(values, max_size=4) | st.lists(st.integers(0, 256).map(str), max_size=6)
    return st.builds(lambda elements, space: f"[{f'{space},'.join(elements)}]", lists, _valid_spaces)


_valid_names: Final = _valid_strings | st.sampled_from(['"a"', '"\\u0061"', '"b"', '""'])

#: JSON values as texts: with any white space, any spelling of numbers and strings, and several members of one name.
json_texts: Final = st.recursive(
    json_numbers | _valid_strings | st.sampled_from(["true", "false", "null"]),
    lambda values: _valid_arrays(values) | _valid_members(values, _valid_names),
    max_leaves=12,
)

#: Documents without special members, as texts.
document_texts: Final = _valid_members(
    json_texts, _valid_names.filter(lambda name: not json.loads(name).startswith("_"))
)

# --- ranges -------------------------------------------------------------------------------------------------

#: A representation whose bytes are all different: its slices tell where they were cut. 0 to 256 bytes.
representations: Final = st.integers(0, 256).map(lambda length: bytes(range(length)))

#: Any complete-length, small ones more often than large ones.
complete_lengths: Final = st.integers(0, 256) | st.integers(0, MAX_LENGTH)

# Positions around the lengths above, past them, and past MAX_LENGTH.
_positions: Final = st.integers(0, 300) | st.integers(0, MAX_LENGTH)
_unbounded_positions: Final = _positions | st.integers(MAX_LENGTH - 1, 10**40)


@composite
def _int_ranges(draw: DrawFn, positions: SearchStrategy[int]) -> IntRange:
    first = draw(positions)
    return IntRange(first, draw(st.none() | st.integers(first, first + 300) | positions.map(lambda n: first + n)))


def _range_specs(positions: SearchStrategy[int]) -> SearchStrategy[RangeSpec]:
    return _int_ranges(positions) | positions.map(SuffixRange)


#: One range-spec, with numbers up to about twice MAX_LENGTH.
range_specs: Final = _range_specs(_positions)

#: Several range-specs that lie close together, so that they often overlap and touch.
range_spec_sets: Final = st.lists(
    _range_specs(st.integers(0, 40)) | _range_specs(st.integers(0, 300)) | range_specs,
    min_size=1,
    max_size=20,
)


@composite
def byte_ranges(draw: DrawFn, complete_length: int) -> ByteRange:
    """A byte range inside a representation of that many bytes, at least 1."""
    first = draw(st.integers(0, complete_length - 1))
    return ByteRange(first, draw(st.integers(first, complete_length - 1)))


@composite
def ascending_byte_ranges(draw: DrawFn, complete_length: int) -> tuple[ByteRange, ...]:
    """One byte range or several, with a byte at least between any two, inside so many bytes: at least 1."""
    ends = sorted(draw(st.sets(st.integers(0, complete_length), min_size=2, max_size=16)))
    pairs = zip(ends[::2], ends[1::2], strict=False)
    return tuple(ByteRange(first, end - 1) for first, end in pairs)


#: Optional white space (RFC 9110 section 5.6.3).
ows: Final = st.text(" \t", max_size=3)


def _digits(number: int) -> SearchStrategy[str]:
    return st.integers(0, 30).map(lambda zeros: "0" * zeros + str(number))


@composite
def _spec_texts(draw: DrawFn, spec: RangeSpec) -> str:
    if isinstance(spec, SuffixRange):
        return f"-{draw(_digits(spec.length))}"
    last = "" if spec.last is None else draw(_digits(spec.last))
    return f"{draw(_digits(spec.first))}-{last}"


@composite
def _lists_of(draw: DrawFn, elements: Sequence[str]) -> str:
    """The elements as a list field: in order, between commas, with white space and empty elements."""
    empty = st.lists(ows, max_size=2)
    members = [*draw(empty)]
    for element in elements:
        members += [f"{draw(ows)}{element}{draw(ows)}", *draw(empty)]
    return ",".join(members)


range_units: Final = st.sampled_from(["bytes", "Bytes", "BYTES", "bYtEs"])


@composite
def range_fields(draw: DrawFn) -> tuple[str, list[RangeSpec]]:
    """A well-formed Range field and the range-specs in it, whose numbers know no bound."""
    specs = draw(st.lists(_range_specs(_unbounded_positions), min_size=1, max_size=8))
    texts = [draw(_spec_texts(spec)) for spec in specs]
    return f"{draw(range_units)}={draw(_lists_of(texts))}", specs


@composite
def ascending_range_fields(draw: DrawFn) -> str:
    """A well-formed Range field whose ranges do not overlap and stand in order, the last perhaps open."""
    ends = sorted(draw(st.lists(_unbounded_positions, unique=True, min_size=1, max_size=9)))
    members = [f"{first}-{last}" for first, last in zip(ends[::2], ends[1::2], strict=False)]
    if len(ends) % 2:
        members.append(draw(st.sampled_from([f"{ends[-1]}-", f"-{ends[-1] + 1}"])))
    return f"{draw(range_units)}={','.join(draw(ows) + member + draw(ows) for member in members)}"


#: A member of a range-set, valid and short.
_good_member: Final = st.sampled_from(["0-0", "0-1", "5-", "-5", "007-8"])

_backward_ranges: Final = _unbounded_positions.flatmap(
    lambda last: st.integers(last + 1, last + 10**20).map(lambda first: f"{first}-{last}")
)

_other_members: Final = [
    *("5", "-", "--5", "-5-", "0--3", "0--0", "0-1-2", "+1-2", "1-+2", "-+1", "- 5", "0 - 1", "0- 1", "0 -1"),
    *(
        "0\t-1",
        "0-1;q=1",
        "0x1-0x2",
        "1.5-2",
        "1e1-20",
        "1_0-20",
        "a-b",
        "abc",
        "*",
        "0-*",
        "0-1/2",
        "bytes=0-1",
    ),
    *(
        "\u0661-\u0662",
        "\uff11-\uff12",
        "\u00b2-",
        "-\u0967",
        "0\u20131",
        "0-1\x00",
        "0-1\n",
        "0-1\r",
        "0-1\xa0",
    ),
]

#: A member that is neither an int-range nor a suffix-range, or is one with last-pos before first-pos.
malformed_range_members: Final = st.sampled_from(_other_members) | _backward_ranges

_malformed_prefixes: Final = st.sampled_from(
    [
        "",
        "=",
        "bytes",
        "bytes:",
        "bytes =",
        "byte=",
        "bytess=",
        "items=",
        "none=",
        "\u212abytes=",
        "byte\u017f=",
    ]
)


@composite
def _sets_with_a_bad_member(draw: DrawFn) -> str:
    members = draw(st.lists(_good_member, max_size=4))
    members.insert(draw(st.integers(0, len(members))), draw(malformed_range_members))
    return f"bytes={draw(_lists_of(members))}"


@composite
def _sets_too_many(draw: DrawFn) -> str:
    members = draw(st.lists(_good_member, min_size=MAX_SPECS + 1, max_size=MAX_SPECS + 20))
    return f"bytes={','.join(members)}"


#: A Range field that is near-miss: no range-unit or another one, an empty set, too many members, a bad one.
malformed_range_fields: Final = st.one_of(
    st.tuples(_malformed_prefixes, _good_member).map("".join),
    _lists_of([]).map(lambda empty: f"bytes={empty}"),
    _sets_too_many(),
    _sets_with_a_bad_member(),
)

#: Any text at all, often of the characters that Range fields are made of.
range_garbage: Final = st.text() | st.text("bytesBYTES=0123456789-, \t").map(lambda text: f"bytes={text}")

# --- entity-tags --------------------------------------------------------------------------------------------

_ETAGC: Final = "".join(map(chr, [0x21, *range(0x23, 0x7F), *range(0x80, 0x100)]))

#: What may stand between the quotes of an entity-tag; often short, often with the characters that mislead.
opaque_tags: Final = st.one_of(
    st.text(_ETAGC, max_size=12),
    st.text("W/,\\*a", max_size=6),
    st.sampled_from(["1B2M2Y8AsgTpgAmY7PhCfg==", "W/2Gt+80dPnNCZLEVv5rUg==", "a,b", "*"]),
)

entity_tags: Final = st.builds(EntityTag, opaque_tags, weak=st.booleans())

#: A list element without quotes: etagc without commas.
unquoted_tags: Final = st.text(_ETAGC.replace(",", ""), min_size=1, max_size=12)

#: A list element that is neither an entity-tag nor an unquoted one, but in which every quote is closed.
malformed_tags: Final = st.sampled_from(
    [
        *('w/"a"', 'W /"a"', 'W/ "a"', '"a"b', 'a"b"', '"a""b"', '"a" "b"', '"a b"', '"a, b"', '""""'),
        *('"\x00"', '"\x7f"', '"\n"', '"\u20ac"', '"a\\"b\\"c"', "a b", "a\tb", "a\n", "a\x00", "\u20ac"),
    ]
)

#: A list element whose quote is never closed.
unclosed_tags: Final = st.sampled_from(['"', 'W/"', '"a', 'a"', '"a"b"', '"""'])


@composite
def entity_tag_lists(draw: DrawFn) -> tuple[str, list[EntityTag]]:
    """A list field of entity-tags among malformed elements, and the entity-tags in it."""
    elements = draw(st.lists(entity_tags | malformed_tags, max_size=6))
    tags = [element for element in elements if isinstance(element, EntityTag)]
    return draw(_lists_of([str(element) for element in elements])), tags


#: Any text at all, often of the characters that lists of entity-tags are made of.
tag_garbage: Final = st.text() | st.text('W/w*ab", \t\\')

# --- multipart ----------------------------------------------------------------------------------------------

_BOUNDARY: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'+_-."

#: Boundaries that can stand in a Content-Type without quotes.
boundaries: Final = st.text(_BOUNDARY, min_size=1, max_size=70)

_SUBTYPE: Final = "abcdefghijklmnopqrstuvwxyz0123456789+.-"

#: Content types that are well-formed and not of a kind that a mail parser would look inside of.
media_types: Final = st.tuples(
    st.sampled_from(["text/", "image/", "video/", "application/x-"]),
    st.text(_SUBTYPE, min_size=1, max_size=12),
    st.sampled_from(["", "; charset=utf-8", ';q="a, b; c"']),
).map("".join)

_FIELD_CHARACTERS: Final = "".join(map(chr, [0x09, *range(0x20, 0x7F), *range(0x80, 0x100)]))

#: Whatever a field can carry as a content type, well-formed or not.
content_types: Final = media_types | st.text(_FIELD_CHARACTERS, min_size=1, max_size=40)


@composite
def hostile_content_types(draw: DrawFn) -> str:
    """A content type that no field can carry: one character in it would end the field or is no octet."""
    before, after = draw(st.tuples(content_types, content_types))
    return before + draw(st.sampled_from("\r\n\x00\x0b\x1b\x7f\u20ac\u2028\ud800")) + draw(st.sampled_from([after, ""]))


# --- file names ---------------------------------------------------------------------------------------------

_MISCHIEF: Final = "/\\\r\n\t\x00\x7f\x85\"%';=?*:. \u2028\u2029\u202e\u2066\u200b\u200d\ufeff\ud800\udfffA41"

#: Names as people have them.
friendly_names: Final = st.tuples(
    st.text("abcXYZ019 _-()[]äöé日本語", min_size=1, max_size=20).filter(str.strip),
    st.sampled_from(["", ".txt", ".tar.gz", ".MP4"]),
).map("".join)

#: Names of any text, lone surrogates and lengths past every limit included.
hostile_names: Final = st.one_of(
    st.text(st.characters(), max_size=40),
    st.text(_MISCHIEF, max_size=40),
    st.tuples(friendly_names, st.text(_MISCHIEF, max_size=4), friendly_names).map("".join),
    st.tuples(st.sampled_from("aé日😀 ."), st.integers(200, 400), friendly_names).map(lambda t: t[0] * t[1] + t[2]),
    st.sampled_from(["", ".", "..", " ", ". ", "../..", "a/", "/", "\\", "%2e%2e", "=?utf-8?q?=2e=2e?=", "\u2025"]),
)

# --- CouchDB's names ------------------------------------------------------------------------------------------

#: What some reader of a URL, somewhere, takes for something else.
_TRICKY_NAMES: Final = [
    *(".", "..", "...", "a/..", "../a", "./a", "x/../y.bin", "/", "//", "a//b", "/a", "a/"),
    *("%2F", "%2e%2e", "%", "%zz", "_", "_design", "_local/x", "_all_docs", "%5Fdesign", "http://h/a?b#c"),
    *("a+b", "+", "%2B", "a b", " ", "a?b", "?", "a#b", "#", "a&b=c;d", ":", "a:b@c", "\\", '"q"', "'", "*", "~", "$"),
    *("\x00", "a\nb", "\r\n", "\t", "\x7f", "\x85", "\ufeff", "\u2028", "\u2044", "\uff0e\uff0e", "\uff0f"),
    *("\u00fc", "u\u0308", "\u212b", "\u00c5", "\U0001f389"),
]

#: Text that UTF-8 can carry; nothing is left out but lone surrogates.
utf8_text: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)

#: An attachment's name, or one segment of a document's id: not empty, any text that a URL can carry.
names: Final = st.one_of(
    utf8_text.filter(bool),
    st.text("ab/.%2Fe+?#\x00\n_~ ", min_size=1, max_size=8),
    st.sampled_from(_TRICKY_NAMES),
)

#: A document's id. One that a target cannot say is left out: ``_design`` alone, whose slash is missing.
document_ids: Final = st.one_of(
    names.filter(lambda name: name != "_design"),
    names.map(lambda name: f"_design/{name}"),
    st.sampled_from(["", "_design/"]),
)

#: Where an attachment may be, in names of any kind, legal or not.
addresses: Final = st.builds(AttachmentAddress, names | st.just(""), document_ids, names)

#: Names of databases that CouchDB allows.
database_names: Final = st.from_regex(r"[a-z][a-z0-9_$()+/-]{0,12}", fullmatch=True)


@composite
def spellings(draw: DrawFn, text: str, safe: str = "", encode_all: bool = False) -> bytes:
    """The text percent-encoded in any of the ways that mean the same: each octet raw or not, in either case.

    :param safe: ASCII characters that may stay raw, beside letters and digits.
    :param encode_all: whether to leave nothing raw.
    """
    octets = text.encode("utf-8", "surrogatepass")
    forms = []
    for octet in octets:
        escapes = [b"%%%02X" % octet, b"%%%02x" % octet]
        is_safe = chr(octet).isascii() and (chr(octet).isalnum() or chr(octet) in safe)
        raw = [bytes([octet])] if is_safe and not encode_all else []
        forms.append(draw(st.sampled_from(raw + escapes)))
    return b"".join(forms)


# --- documents ------------------------------------------------------------------------------------------------

#: What json.loads makes of any text, numbers that are none and lone surrogates included.
json_scalars: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 2**63 - 1, 2**63, 2**64, -(2**63), 10**400]),
    st.floats(),
    st.sampled_from([0.0, 1.0, 31.0]),
    st.text(st.characters(), max_size=12),
    st.sampled_from(["", "gzip", "GZIP", "identity", "\ud800", "md5-", "31"]),
)

_json_keys: Final = st.text(st.characters(), max_size=6)

#: Any JSON, not deep.
json_values: Final[SearchStrategy[Any]] = st.recursive(
    json_scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_json_keys, inner, max_size=3),
    max_leaves=8,
)

digests: Final = st.binary(min_size=16, max_size=16).map(Digest)

#: Any length that an attachment may have, small ones more often.
attachment_lengths: Final = st.integers(0, 300) | st.integers(0, 2**26) | st.integers(0, 2**63 - 1)


@composite
def stub_objects(draw: DrawFn) -> dict[str, Any]:
    """A stub as CouchDB writes it, or our own store, in one of the three storages."""
    stub: dict[str, Any] = {
        "content_type": draw(st.sampled_from(["text/plain", "application/octet-stream", "no slash at all", ""])),
        "revpos": draw(st.integers(0, 50)),
        "digest": draw(digests).text,
        "length": draw(attachment_lengths),
        "stub": True,
    }
    if draw(st.booleans()):
        stub["sha256"] = b64encode(draw(st.binary(min_size=32, max_size=32))).decode("ascii")
    if draw(st.booleans()):
        stub["encoding"] = "gzip"
        stub["encoded_length"] = draw(st.just(stub["length"]) | attachment_lengths)
    return stub


@composite
def mutated_stub_objects(draw: DrawFn) -> Any:
    """A stub with one or two of its fields missing or of another value; or no stub at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(json_values)
    stub = draw(stub_objects())
    fields = ["content_type", "revpos", "digest", "length", "stub", "encoding", "encoded_length", "sha256"]
    for name in draw(st.lists(st.sampled_from(fields), min_size=1, max_size=2)):
        if draw(st.booleans()):
            stub.pop(name, None)
        else:
            stub[name] = draw(json_values)
    return stub


@composite
def stubs(draw: DrawFn, lengths: SearchStrategy[int] = attachment_lengths) -> AttachmentStub:
    """
    A stub that a document may have, its names and types hostile; also the fourth kind: uploaded compressed,
    its length learned by a full pass.

    :param lengths: of the identity representation, where it is known.
    """
    length = draw(lengths)
    stored_length = draw(attachment_lengths)
    storage, stored_length, known = draw(
        st.sampled_from(
            [
                (Storage.IDENTITY, length, length),
                (Storage.COMPRESSED, stored_length, length),
                (Storage.ENCODED, stored_length, None),
                (Storage.ENCODED, stored_length, length),
            ]
        )
    )
    content_type = draw(st.none() | content_types | hostile_content_types() | st.text(st.characters(), max_size=20))
    sha256 = draw(st.none() | st.binary(min_size=32, max_size=32))
    return AttachmentStub(
        draw(hostile_names), content_type, draw(digests), storage, stored_length, known, sha256=sha256
    )


# --- documents as bytes ---------------------------------------------------------------------------------------

# How numbers, literals and pieces of texts are written; behind them some that JSON does not allow, or not everywhere.
_JSON_NUMBERS: Final = [b"0", b"-0", b"7", b"-31", b"31.0", b"1e5", b"1E+400", b"9" * 25, b"9" * 5000, b"1.5e-7"]
_JSON_LITERALS: Final = [b"true", b"false", b"null"]
_NO_JSON: Final = [
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"01",
    b"1.",
    b".5",
    b"+1",
    b"-",
    b"nul",
    b"True",
    b"'x'",
    b"",
    b",",
]
_JSON_PIECES: Final = [
    *(b"a", b"b", b"secret", b" ", b"/", b"\x7f", b"\\n", b'\\"', b"\\\\", b"\\/", b"\\u0041", b"\\u00e9", b"\\uFFFD"),
    *("é".encode(), "€".encode(), "😀".encode(), "\ufffd".encode(), b"\\ud83d\\ude00"),
    *(b"\\ud800", b"\\uDFFF", b"\\uD83D\\u0041", b"\\udc00\\ud800", b"\\\\ud800", b"\xed\xa0\x80", b"\xed\xbf\xbf"),
]
_NO_PIECES: Final = [
    b"\xff",
    b"\xc3",
    b"\x80",
    b"\x01",
    b"\t",
    b"\n",
    b"\x00",
    b"\\x",
    b"\\u12",
    b"\\",
    b'"',
    b"\xf4\x90\x80\x80",
]
_JSON_GAPS: Final = st.sampled_from([b"", b"", b"", b"", b" ", b"\t", b"\r\n "])

_json_pieces: Final = st.sampled_from(_JSON_PIECES * 20 + _NO_PIECES)
_json_texts: Final = st.lists(_json_pieces, max_size=4).map(lambda pieces: b'"' + b"".join(pieces) + b'"')
_json_atoms: Final = _json_texts | st.sampled_from((_JSON_NUMBERS + _JSON_LITERALS) * 12 + _NO_JSON)


@composite
def _json_arrays(draw: DrawFn, items: SearchStrategy[bytes]) -> bytes:
    return b"[" + draw(_JSON_GAPS) + b",".join(draw(st.lists(items, max_size=5))) + draw(_JSON_GAPS) + b"]"


@composite
def _json_objects(draw: DrawFn, names: SearchStrategy[bytes], values: SearchStrategy[bytes]) -> bytes:
    pairs = draw(st.lists(st.tuples(names, _JSON_GAPS, _JSON_GAPS, values, _JSON_GAPS), max_size=5))
    return b"{" + b",".join(name + one + b":" + two + value + three for name, one, two, value, three in pairs) + b"}"


#: Names of the members that matter, in more than one form, and any others.
_json_names: Final = _json_texts | st.sampled_from(
    [b'"a"', b'"b"', b'"\\u0061"', b'"a.b"', b'"f"', b'"_id"', b'"_rev"']
)

_json_bodies: Final[SearchStrategy[bytes]] = st.recursive(
    _json_atoms, lambda inner: _json_arrays(inner) | _json_objects(_json_names, inner), max_leaves=10
)

_stub_bodies: Final = (
    mutated_stub_objects().map(lambda stub: json.dumps(stub).encode())
    | _json_objects(st.sampled_from([b'"length"', b'"digest"', b'"content_type"', b'"revpos"']), _json_bodies)
    | _json_bodies
)


@composite
def document_bodies(draw: DrawFn) -> bytes:
    """
    What a node may answer to the GET of the document ``doc``: most of them JSON, and a document, and odd. What a rule
    looks for is below the names ``a``, ``b`` and ``a.b``. Numbers out of all proportion, half surrogate pairs and
    members with the same name are among it.
    """
    is_odd = draw(st.integers(0, 9)) == 0
    fields = {
        b'"_id"': st.sampled_from([b'"\\u0064oc"', b'"\\ud800"', b"1"]) if is_odd else st.just(b'"doc"'),
        b'"_rev"': _json_bodies if is_odd else st.just(b'"1-a"'),
        b'"_attachments"': _json_bodies if is_odd else _json_objects(_json_names, _stub_bodies),
        b'"a"': _json_objects(_json_names, _json_bodies) | _json_bodies,
        b'"a.b"': _json_bodies,
        b'"x"': _json_bodies,
    }
    chosen = [b'"_id"', b'"_rev"', *draw(st.lists(st.sampled_from(list(fields)), max_size=5))]
    members = [name + b":" + draw(fields[name]) for name in draw(st.permutations(chosen))]
    return draw(_JSON_GAPS) + b"{" + b",".join(members) + b"}" + draw(_JSON_GAPS)


@composite
def mutated_document_bodies(draw: DrawFn) -> bytes:
    """A document in which a few bytes are missing, added or others; or in another encoding."""
    body = bytearray(draw(document_bodies()))
    for _ in range(draw(st.integers(1, 3))):
        position = draw(st.integers(0, len(body)))
        piece = draw(
            st.sampled_from([b"", *_NO_PIECES, *_NO_JSON, b"{", b"}", b"[", b"]", b":", b'"', b"\xef\xbb\xbf"])
        )
        body[position : position + draw(st.integers(0, 2))] = piece
    encoding = draw(st.sampled_from(["", "", "", "utf-16", "utf-32-le", "utf-8-sig", "latin-1"]))
    return bytes(body) if not encoding else bytes(body).decode("latin-1").encode(encoding)


# --- gzip -----------------------------------------------------------------------------------------------------

#: Bytes to compress: short ones, and ones that inflate in more than one step.
gzip_contents: Final = st.binary(max_size=200) | st.tuples(
    st.binary(min_size=1, max_size=40), st.integers(1, 150_000)
).map(lambda drawn: (drawn[0] * (drawn[1] // len(drawn[0]) + 1))[: drawn[1]])


@composite
def gzip_members(draw: DrawFn) -> tuple[bytes, bytes]:
    """One gzip member (RFC 1952) as some writer may write it, and what it inflates to."""
    content = draw(gzip_contents)
    member = gzip.compress(content, draw(st.sampled_from([0, 1, 6, 9])), mtime=draw(st.integers(0, 2**32 - 1)))
    if draw(st.booleans()):
        # A file's name behind the ten bytes of the head, as gzip(1) puts it: flag 8, up to a NUL.
        name = draw(st.binary(max_size=5)).replace(b"\0", b"")
        member = member[:3] + b"\x08" + member[4:10] + name + b"\0" + member[10:]
    return member, content


@composite
def cuts(draw: DrawFn, stored: bytes) -> list[bytes]:
    """The bytes in pieces, as they may come from a network; some perhaps empty."""
    if draw(st.booleans()):
        size = draw(st.integers(1, max(len(stored), 1)))
        # At most some hundred pieces: of more the network knows nothing new.
        size = max(size, len(stored) // 300)
        return [stored[at : at + size] for at in range(0, len(stored), size)]
    # The first and the last bytes are where a piece of less than a head or a trailer hurts.
    edges = st.integers(0, min(30, len(stored))) | st.integers(max(0, len(stored) - 30), len(stored))
    places = sorted(draw(st.lists(edges | st.integers(0, len(stored)), max_size=8)))
    return [stored[first:last] for first, last in zip([0, *places], [*places, len(stored)], strict=True)]


# --- secrets --------------------------------------------------------------------------------------------------

#: A document's secret, of any text that JSON can hold: not empty.
secrets: Final = st.one_of(
    st.text(st.characters(), min_size=1, max_size=20),
    st.text("ab", min_size=1, max_size=3),
    st.sampled_from(["s3cret", "S3cret", "s3cret ", "\u00fc", "u\u0308", "\ud800", "a+b", "a%2Bb", "0", "null", "[]"]),
)

#: A secret of characters that are in no other part of what it is put into: any piece of it can be looked for.
telltale_secrets: Final = st.text("QXZJ", min_size=8, max_size=20)

# --- requests -------------------------------------------------------------------------------------------------


@composite
def _close_range_fields(draw: DrawFn) -> str:
    specs = draw(st.lists(_range_specs(st.integers(0, 40)) | _range_specs(st.integers(0, 300)), min_size=1, max_size=8))
    return f"bytes={draw(_lists_of([draw(_spec_texts(spec)) for spec in specs]))}"


#: Range fields of every kind: well-formed, near-miss and garbage; often of ranges that overlap or touch.
any_range_fields: Final = st.one_of(
    _close_range_fields(),
    range_fields().map(lambda drawn: drawn[0]),
    ascending_range_fields(),
    malformed_range_fields,
    range_garbage,
)


@composite
def condition_fields(draw: DrawFn, etag: str) -> str | None:
    """A conditional field, or none; often one that names the entity-tag, strongly or weakly."""
    listed = entity_tag_lists().map(lambda drawn: drawn[0])
    return draw(
        st.none() | st.sampled_from([etag, f"W/{etag}", f'"x", {etag}', "*", "", etag[1:-1]]) | listed | tag_garbage
    )


@composite
def separate_range_fields(draw: DrawFn, complete_length: int) -> str:
    """A Range field of several ranges in any order that do not overlap, of a representation of at least 2 bytes."""
    ends = sorted(draw(st.lists(st.integers(0, complete_length - 1), unique=True, min_size=2, max_size=16)))
    # Each begins where one ends, or a few bytes on; the last one may reach the end.
    members = [f"{first}-{last - 1}" for first, last in zip(ends[::2], ends[1::2], strict=False)]
    members.append(draw(st.sampled_from([f"{ends[-1]}-", f"{ends[-1]}-{ends[-1]}", f"-{complete_length - ends[-1]}"])))
    return f"{draw(range_units)}={draw(_lists_of(draw(st.permutations(members))))}"


# --- faults on the way from a node ----------------------------------------------------------------------------


def faults(
    body_length: int, *, detectable: bool = False, endless: bool = False, timed: bool = False
) -> SearchStrategy[Fault]:
    """
    A fault for an exchange whose body is of about that length. Nearly all show in one of just that length.

    :param detectable: whether to leave out those that give wrong bytes in a body of the right length, or a shorter
        one that is framed as such: in a range, which has no digest, nobody can tell.
    :param endless: whether to have those that go on until somebody hangs up.
    :param timed: whether to have those that need the clock to go on: late, slow and stalled answers.
    """
    hangups = st.sampled_from(Hangup)
    # The ends, and where the error text would end with the body.
    edges = [0, 1, body_length - len(DYING_WORDS), body_length - 1, body_length]
    places = st.sampled_from(sorted({max(0, edge) for edge in edges})) | st.integers(0, body_length)
    counts = st.sampled_from([1, len(DYING_WORDS), max(1, body_length)]) | st.integers(1, max(1, body_length))
    head_places = st.integers(0, 60)
    surpluses = st.sampled_from([b"\n", b"surplus", DYING_WORDS])
    kinds: list[SearchStrategy[Fault]] = [
        st.builds(Refuse, hangups),
        st.builds(Cut, places, hangups),
        st.builds(Cut, head_places, hangups, start=st.just(Start.HEAD)),
        st.builds(Truncate, counts),
        st.builds(DyingWords, places),
        st.builds(AnswerStatus, st.sampled_from([500, 502, 503, 504]), st.booleans()),
        st.builds(WrongRange, counts),
        st.builds(Surplus, surpluses),
    ]
    if not detectable:
        kinds += [
            st.builds(Truncate, counts, st.just(True)),
            st.builds(DyingWords, places, st.just(True)),
            st.builds(Duplicate, places, counts),
            st.builds(Corrupt, places, st.integers(1, 255)),
            st.builds(AnswerStatus, st.sampled_from([401, 403, 404]), st.booleans()),
        ]
    if endless:
        kinds += [st.builds(kind) for kind in (EndlessBody, EndlessHead, EndlessInterim, EndlessChunkSize)]
    if timed:
        seconds = st.integers(1, 100).map(float)
        kinds += [
            st.builds(Stall, places),
            st.builds(Stall, head_places, start=st.just(Start.HEAD)),
            st.builds(Delay, seconds),
            # Some hundred seconds at most.
            st.builds(Slow, st.integers(body_length // 100 + 1, body_length + 100)),
            st.builds(Surplus, surpluses, seconds),
        ]
    return st.one_of(kinds)


def fault_schedules(
    body_length: int,
    *,
    max_faults: int = 6,
    detectable: bool = False,
    endless: bool = False,
    timed: bool = False,
) -> SearchStrategy[Schedule]:
    """A few faults and exchanges without one, in any order, and none after them: see :func:`fault_lists`."""
    drawn = fault_lists(body_length, max_faults=max_faults, detectable=detectable, endless=endless, timed=timed)
    return drawn.map(lambda faults: Schedule.of(*faults))


def fault_lists(
    body_length: int,
    *,
    min_faults: int = 0,
    max_faults: int = 6,
    detectable: bool = False,
    endless: bool = False,
    timed: bool = False,
) -> SearchStrategy[list[Fault]]:
    """What a schedule is made of: see :func:`faults`. A schedule can be played once, these again and again."""
    each = faults(body_length, detectable=detectable, endless=endless, timed=timed)
    return st.lists(each | st.just(NoFault()), min_size=min_faults, max_size=max_faults)


# --- guesses ------------------------------------------------------------------------------------------------


@frozen
class GuessStep:
    """
    Something that happens to the window of an address.

    :ivar seconds: before it; less than 0 if the clock is set back.
    :ivar event: ``admit``, or the outcome of a token: ``right``, ``wrong``, or ``known``, which is a wrong one that was
        right before.
    :ivar which: of the tokens under way, modulo their number.
    """

    seconds: float
    event: str
    which: int = 0


guess_steps: Final = st.lists(
    st.builds(
        GuessStep,
        st.sampled_from([0.0, 0.0, 0.0, 0.25, 1.0, 2.5, 20.0, 59.75, 60.0, 60.25, 1000.0, -0.25, -5.0, -70.0]),
        st.sampled_from(["admit", "admit", "right", "wrong", "wrong", "known"]),
        st.integers(0, 7),
    ),
    max_size=60,
)

#: A guesser's habits, to be repeated: guess so often at once, or wait: for some seconds, for the next turn (``None``),
#: until the window is over (infinity), or until shortly before that (minus infinity).
guess_cycles: Final = st.lists(
    st.integers(1, 70) | st.sampled_from([None, None, float("inf"), float("-inf")]) | st.floats(0.01, 70.0),
    min_size=1,
    max_size=8,
)
