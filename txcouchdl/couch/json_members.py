"""
Members of JSON objects, decoded without the rest of the object. Pure.

The author of a document chooses what is in it. Python objects for all of it take up to 40 times its size, and a second
for 8 MB (measured). :class:`Members` finds the members with certain names and passes over all others; a value stays as
it is, as JSON (:class:`msgspec.Raw`, a view of the bytes), until something asks for it.

*What is passed over is checked*: msgspec refuses everything that RFC 8259 refuses, with one exception. It does not see
whether the text that it passes over is UTF-8. :func:`check_utf8` does.

*Half surrogate pairs* (``"\\ud800"``) are legal in JSON, and no text. CouchDB refuses to store them, PouchDB does not.
msgspec refuses them as escapes, but passes over their three bytes in UTF-8: :func:`without_escaped_halves` gives such
JSON another form, in which it is readable.

Functions that may take long do their work in steps, of a few milliseconds each.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypedDict, cast

import msgspec
from msgspec import Raw

from txcouchdl.couch.steps import Steps

#: A value that is neither a text nor a whole number nor true, false or null.
OTHER: Final = object()

#: Digits of a whole number: Python reads no more.
_MOST_DIGITS: Final = 4300
#: Bytes that are looked through in a few milliseconds, whatever is in them: for what is not UTF-8, and for escapes.
_UTF8_AT_ONCE: Final = 2**18
_ESCAPES_AT_ONCE: Final = 2**16

# Escapes in a row: those of surrogates, with the second half of a pair at the end, or others. All begin with the same
# byte here, which makes the search fast.
_ESCAPES: Final = re.compile(
    rb"\\(?:(?P<surrogate>u[dD][89a-fA-F][0-9a-fA-F]{2})(?:\\u[dD][89a-fA-F][0-9a-fA-F]{2}){0,2000}"
    rb"(?:\\u[dD][c-fC-F][0-9a-fA-F]{2})?"
    rb"|(?!u[dD][89a-fA-F]).(?:\\(?!u[dD][89a-fA-F]).){0,2000})",
    re.DOTALL,
)
_HALF_IN_UTF8: Final = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
# Private characters, one for each half, while msgspec decodes names.
_PRIVATE: Final = 0x10F000
_HALF_IN_PRIVATE: Final = re.compile(f"[{chr(_PRIVATE)}-{chr(_PRIVATE + 0x7FF)}]")

_TEXT: Final = msgspec.json.Decoder(str)
_ANY: Final = msgspec.json.Decoder()
_ALL: Final = msgspec.json.Decoder(dict[str, Raw])
_LITERALS: Final[Mapping[bytes, object]] = {b"true": True, b"false": False, b"null": None}


class Members:
    """
    Reads the members of an object that have one of these names.

    :param names: any texts.
    :raises UnicodeEncodeError: if there is half a surrogate pair in one of them.
    """

    def __init__(self, names: Iterable[str]) -> None:
        fields = dict.fromkeys(names, Raw)
        # msgspec compares with the UTF-8 that Python keeps with a text once it was encoded, and without that it finds
        # names in ASCII alone.
        msgspec.json.encode(fields.fromkeys(fields))
        # Of TypedDict mypy knows classes only.
        kind = cast(Any, TypedDict)("Members", fields, total=False)
        self._decoder: msgspec.json.Decoder[dict[str, Raw]] = msgspec.json.Decoder(kind)

    def of(self, value: bytes | bytearray | Raw) -> dict[str, Raw]:
        """
        The members that there are. Of several with the same name the last one counts, as :func:`json.loads` has it.

        :raises ValueError: if the value is not JSON, or not an object.
        :raises RecursionError: if it is nested too deep.
        """
        return self._decoder.decode(value)


class Items:
    """
    Reads the first items of an array.

    :param most: how many.
    """

    def __init__(self, most: int) -> None:
        kind = msgspec.defstruct("Items", [(f"item_{number}", Raw, None) for number in range(most)], array_like=True)
        self._decoder = msgspec.json.Decoder(kind)

    def of(self, value: bytes | Raw) -> list[Raw]:
        """
        The items that there are.

        :raises ValueError: if the value is not an array.
        :raises RecursionError: if it is nested too deep.
        """
        return [item for item in msgspec.structs.astuple(self._decoder.decode(value)) if item is not None]


def all_members(value: Raw) -> dict[str, Raw]:
    """
    All members of an object: they take twice its memory if they are short.

    :raises ValueError: if the value is not an object.
    :raises RecursionError: if it is nested too deep.
    """
    try:
        return _ALL.decode(value)
    except UnicodeDecodeError:
        members = _ALL.decode(_HALF_IN_UTF8.sub(_as_private, bytes(value)))
    return {_HALF_IN_PRIVATE.sub(_as_half, name): member for name, member in members.items()}


def _as_private(half: re.Match[bytes]) -> bytes:
    return chr(_PRIVATE + ord(half[0].decode("utf-8", "surrogatepass")) - 0xD800).encode()


def _as_half(private: re.Match[str]) -> str:
    return chr(ord(private[0]) - _PRIVATE + 0xD800)


def text_of(value: Raw) -> str | None:
    """A text; ``None`` for any other value."""
    try:
        return _TEXT.decode(value)
    except msgspec.ValidationError:
        return None
    except UnicodeDecodeError:
        return cast(str, json.loads(bytes(value)))


def plain_value(value: Raw) -> object:
    """All of a short value; ``None`` where half surrogate pairs or numbers out of range are in it."""
    try:
        return _ANY.decode(value)
    except ValueError:
        return None


def scalar_of(value: Raw) -> object:
    """A text, a whole number, ``True``, ``False`` or ``None``; :data:`OTHER` for any other value."""
    first = memoryview(value)[0]
    if first == b'"'[0]:
        return text_of(value)
    if first in b"[{" or len(memoryview(value)) > _MOST_DIGITS:
        return OTHER
    plain = bytes(value)
    try:
        return _LITERALS[plain] if plain in _LITERALS else int(plain)
    except ValueError:
        return OTHER


def check_utf8(body: bytes | bytearray) -> Steps[None]:
    """
    See whether it is UTF-8. Half surrogate pairs may be among it.

    :raises ValueError: if it is not.
    """
    if body.isascii():
        return
    view, begin = memoryview(body), 0
    while begin < len(body):
        end = _character_at(body, begin + _UTF8_AT_ONCE)
        str(view[begin:end], "utf-8", "surrogatepass")
        begin = end
        yield


def _character_at(body: bytes | bytearray, position: int) -> int:
    """A position where a character begins: this one, or one of the three before it; the end, behind it."""
    if position >= len(body):
        return len(body)
    return next((begin for begin in range(position, position - 4, -1) if body[begin] & 0xC0 != 0x80), position)


def without_escaped_halves(body: bytes | bytearray) -> Steps[bytearray]:
    """
    The same JSON, in which half surrogate pairs are no escapes but stand for themselves.

    :param body: JSON, or what may be JSON.
    """
    pieces, begin, last_break = bytearray(), 0, 0
    for escapes in _ESCAPES.finditer(body):
        if escapes["surrogate"] is not None:
            pieces += body[begin : escapes.start()]
            pieces += json.loads(b'"%b"' % escapes[0]).encode("utf-8", "surrogatepass")
            begin = escapes.end()
        if escapes.end() - last_break > _ESCAPES_AT_ONCE:
            last_break = escapes.end()
            yield
    pieces += memoryview(body)[begin:]
    return pieces
