"""
From CouchDB's JSON to documents, without the fields that nobody needs. Pure.
"""

import json
from collections.abc import Mapping
from typing import Any

from attrs import frozen
from msgspec import Raw

from txcouchdl.couch.documents import BadDocument, Document
from txcouchdl.couch.errors import UnreadableDocument
from txcouchdl.couch.json_members import Items, Members, all_members, check_utf8, text_of, without_escaped_halves
from txcouchdl.couch.steps import Steps, at_once


@frozen
class KeptField:
    """
    The field of documents that is kept.

    :ivar key: the name of a field of the document, or a path of names through nested objects, joined by dots. Where a
        document has both, the field of this name is kept.
    :ivar most: how many items of an array are kept.
    :ivar longest: bytes of JSON that a text may have. Of a longer one, ``None`` is kept, as of every value that is
        neither a text nor an array of texts.
    """

    key: str
    most: int
    longest: int


class _FieldReader:
    """
    Reads the field that is kept.

    :ivar names: of the members that it is read from.
    """

    def __init__(self, kept: KeptField) -> None:
        self._kept = kept
        self._first, *self._path = kept.key.split(".")
        self._objects = [(name, Members([name])) for name in self._path]
        self._items = Items(kept.most)
        self.names = (kept.key, self._first)

    def text(self, members: Mapping[str, Raw]) -> dict[str, Any] | None:
        """
        Read it at once, if it is a text in a field of this name: most documents have it so.

        :param members: of a document, those with the names.
        :return: an object with this field alone.
        """
        value = members.get(self._kept.key)
        text = None if value is None else self._text(value)
        return None if text is None else {self._kept.key: text}

    def steps(self, members: Mapping[str, Raw]) -> Steps[dict[str, Any]]:
        """Read it, in steps, otherwise as :meth:`text`."""
        key = self._kept.key
        if key in members:
            return {key: (yield from self._value(members[key]))}
        value = yield from self._value((yield from self._nested(members.get(self._first))))
        for name in reversed(self._path):
            value = {name: value}
        return {self._first: value}

    def _nested(self, value: Raw | None) -> Steps[Raw | None]:
        for name, members in self._objects:
            if value is None:
                break
            yield
            try:
                value = members.of(value).get(name)
            except ValueError:
                value = None
        return value

    def _value(self, value: Raw | None) -> Steps[Any]:
        if value is None:
            return None
        text = self._text(value)
        if text is not None:
            return text
        yield
        try:
            return [self._text(item) for item in self._items.of(value)]
        except ValueError:
            return None

    def _text(self, value: Raw) -> str | None:
        return text_of(value) if len(value) <= self._kept.longest else None


class DocumentDecoder:
    """
    Makes documents of CouchDB's answers to the GET of a document.

    :param kept: the field that documents keep; by default they keep none.
    """

    def __init__(self, kept: KeptField | None = None) -> None:
        self._field = None if kept is None else _FieldReader(kept)
        names = () if self._field is None else self._field.names
        self._members = Members(("_id", "_rev", "_attachments", *names))

    def decode(self, body: bytes, document_id: str) -> Document:
        """
        Decode a small document.

        :param document_id: the document asked for; an answer with another's ``_id`` is refused.
        :raises BadDocument: if it is not that document.
        :raises UnreadableDocument: if it is nested too deep for us.
        """
        try:
            if not body.isascii():
                body.decode("utf-8", "surrogatepass")
            members = self._members.of(body)
            fields = self._field.text(members) if self._field else {}
            if fields is None:
                fields = at_once(self._fields(members))
            return _document(members, fields, document_id)
        except RecursionError:
            raise UnreadableDocument("it is nested too deep") from None
        except ValueError:
            # Python reads a little more than JSON, half surrogate pairs among it. Of a small document it may.
            return _document_of(_read_leniently(body), document_id)

    def steps(self, body: bytes | bytearray, document_id: str) -> Steps[Document]:
        """
        Decode a large document, in steps: the longest takes some 3 ms for each MiB.

        What Python reads beyond JSON is refused, except half surrogate pairs: NaN, Infinity, a byte order mark, other
        encodings than UTF-8. Errors are those of :meth:`decode`.
        """
        length = len(body)
        try:
            yield from check_utf8(body)
            members = self._members_of(body)
            yield
            if members is None:
                body = yield from without_escaped_halves(body)
                yield
                members = self._members.of(body)
                yield
            fields = yield from self._fields(members)
            return _document(members, fields, document_id, length)
        except ValueError:
            raise BadDocument("not JSON") from None
        except RecursionError:
            raise UnreadableDocument("it is nested too deep") from None

    def _members_of(self, body: bytes | bytearray) -> dict[str, Raw] | None:
        """``None`` if msgspec refuses it."""
        try:
            return self._members.of(body)
        except ValueError:
            return None

    def _fields(self, members: Mapping[str, Raw]) -> Steps[dict[str, Any]]:
        return {} if self._field is None else (yield from self._field.steps(members))


def _document(
    members: Mapping[str, Raw], fields: Mapping[str, Any], document_id: str, length: int | None = None
) -> Document:
    """
    :param members: of the document.
    :param length: of its JSON, if that is large: too long to be kept for the sake of a small part of it.
    """
    id_, rev, stubs = members.get("_id"), members.get("_rev"), members.get("_attachments")
    decoded: object = {}
    if stubs is not None and length is None:
        decoded = _decoded(stubs)
    elif stubs is not None:
        decoded = stubs.copy() if 2 * len(stubs) < (length or 0) else stubs
    return _checked(
        document_id,
        None if id_ is None else text_of(id_),
        None if rev is None else text_of(rev),
        fields,
        decoded,
    )


def _decoded(stubs: Raw) -> object:
    """Decode the stubs of a small document once, if they can be decoded. If not, that shows when one is wanted."""
    try:
        return all_members(stubs)
    except (ValueError, RecursionError):
        return stubs


def _document_of(value: object, document_id: str) -> Document:
    fields = value if isinstance(value, dict) else {}
    return _checked(document_id, fields.get("_id"), fields.get("_rev"), fields, fields.get("_attachments", {}))


def _checked(document_id: str, id_: object, rev: object, fields: Mapping[str, Any], stubs: object) -> Document:
    if id_ != document_id:
        raise BadDocument("not the document asked for")
    try:
        return Document(document_id, rev if isinstance(rev, str) else "", fields, stubs)
    except ValueError:
        raise BadDocument("no revision") from None


def _read_leniently(body: bytes) -> object:
    try:
        return json.loads(body, parse_int=_whole_number)
    except ValueError:
        raise BadDocument("not JSON") from None
    except RecursionError:
        raise UnreadableDocument("it is nested too deep") from None


def _whole_number(digits: str) -> float:
    """JSON knows no limit for the digits of a number; Python does. Of those beyond it none is needed exactly."""
    try:
        return int(digits)
    except ValueError:
        return float(digits)
