"""
Erlang's external term format, as ``term_to_binary(Term, [{minor_version, 1}])`` of any Erlang release writes it (pure).

CouchDB's revision ids are MD5 sums of such terms (:mod:`~txcouchdl.store.revision_ids`). The format:
https://www.erlang.org/doc/apps/erts/erl_ext_dist.html
"""

import json
import struct
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from types import NoneType

_VERSION = b"\x83"
_NIL = b"j"
_TUPLE_OF_1 = b"h\x01"
_TUPLE_OF_2 = b"h\x02"
_TUPLE_OF_3 = b"h\x03"
_SMALL_INTEGER = b"a"

_SMALL_INTEGERS = [_SMALL_INTEGER + bytes((value,)) for value in range(256)]

#: A list of more bytes than this is not written as STRING_EXT.
_LONGEST_STRING = 0xFFFF

_JSON = json.JSONDecoder()


def external_term(*elements: bytes) -> bytes:
    """Encode a list of encoded terms as a whole text, version byte included."""
    return _VERSION + list_term(elements)


def list_term(elements: Sequence[bytes]) -> bytes:
    """
    Encode a list of encoded terms. A list of nothing but small integers becomes STRING_EXT, since Erlang cannot tell it
    from a string.
    """
    length, content = len(elements), b"".join(elements)
    if not elements:
        return _NIL
    # Only a small integer begins with this tag. It has two bytes, so the next term begins at the next even place.
    if length <= _LONGEST_STRING and content[::2] == _SMALL_INTEGER * length:
        return struct.pack(">cH", b"k", length) + content[1::2]
    return struct.pack(">cI", b"l", length) + content + _NIL


def triple_term(first: bytes, second: bytes, third: bytes) -> bytes:
    """Encode a tuple of three encoded terms."""
    return _TUPLE_OF_3 + first + second + third


def binary_term(data: bytes) -> bytes:
    """Encode BINARY_EXT."""
    return struct.pack(">cI", b"m", len(data)) + data


def atom_term(name: str) -> bytes:
    """Encode ATOM_EXT. With minor_version 1, releases that default to SMALL_ATOM_UTF8_EXT write this as well."""
    return struct.pack(">cH", b"d", len(name)) + name.encode("ascii")


def integer_term(value: int) -> bytes:
    """Encode the first of SMALL_INTEGER_EXT, INTEGER_EXT, SMALL_BIG_EXT and LARGE_BIG_EXT that takes the value."""
    if 0 <= value <= 0xFF:
        return _SMALL_INTEGERS[value]
    if -(1 << 31) <= value < 1 << 31:
        return struct.pack(">ci", b"b", value)
    digits = abs(value).to_bytes((value.bit_length() + 7) // 8, "little")
    if len(digits) <= 0xFF:
        return struct.pack(">cBB", b"n", len(digits), value < 0) + digits
    return struct.pack(">cIB", b"o", len(digits), value < 0) + digits


_SCALARS: dict[type, Callable[..., bytes]] = {
    NoneType: {None: atom_term("null")}.__getitem__,
    bool: {True: atom_term("true"), False: atom_term("false")}.__getitem__,
    int: integer_term,
    float: lambda value: struct.pack(">cd", b"F", value),
    str: lambda value: binary_term(value.encode("utf-8")),
}


def scalar_term(value: object) -> bytes:
    """
    :param value: a JSON value that is neither an array nor an object.
    """
    return _SCALARS[type(value)](value)


def json_term(text: str) -> bytes:
    """
    Encode the term that CouchDB has for a JSON value: ``{[{Name, Value}, ...]}`` for an object, a binary for a string.

    This does not recurse: a text that one caller could parse may be too deep for the rest of another caller's stack.

    :param text: JSON as :func:`~txcouchdl.store.json_text.write_json` writes it.
    """
    around: list[list[bytes]] = []
    terms: list[bytes] = []
    position = 0
    while position < len(text):
        character = text[position]
        if character in ",:":
            position += 1
        elif character in "[{":
            around.append(terms)
            terms = []
            position += 1
        elif character in "]}":
            term = list_term(terms) if character == "]" else _object_term(terms)
            terms = around.pop()
            terms.append(term)
            position += 1
        else:
            value, position = _JSON.raw_decode(text, position)
            terms.append(scalar_term(value))
    return terms[0]


def _object_term(names_and_values: list[bytes]) -> bytes:
    members = zip(repeat(_TUPLE_OF_2), names_and_values[::2], names_and_values[1::2], strict=False)
    content = b"".join(chain.from_iterable(members))
    if not names_and_values:
        return _TUPLE_OF_1 + _NIL
    return _TUPLE_OF_1 + struct.pack(">cI", b"l", len(names_and_values) // 2) + content + _NIL
