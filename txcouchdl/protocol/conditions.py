"""Entity-tags and preconditions (RFC 9110 sections 8.8.3 and 13).

:func:`evaluate` walks the steps of section 13.2.2; one function a field decides whether that field's
condition holds, and says None, not False, where the field was not sent.

If-Modified-Since and If-Unmodified-Since are not here: the resources this serves have no modification
date, and a recipient must ignore both for such a resource (sections 13.1.3 and 13.1.4). For the same
reason a date in If-Range never holds (section 13.1.5).
"""

import enum
import re
from typing import Final

import attrs
from attrs import validators

_OWS: Final = " \t"
# etagc = %x21 / %x23-7E / obs-text: no DQUOTE, no space, no escapes; a comma or backslash is itself.
_ETAGC: Final = r"[\x21\x23-\x7e\x80-\xff]"
_ENTITY_TAG: Final = re.compile(rf'(W/)?"({_ETAGC}*)"')
_UNQUOTED_TAG: Final = re.compile(rf"(?:(?!,){_ETAGC})+")
# What lies between two commas outside quotes; a quotation that is never closed runs to the end.
_LIST_ELEMENT: Final = re.compile(r'(?:[^",]+|"[^"]*"?)+')

# Section 13.2.1: these select no representation, so that their preconditions must be ignored.
_METHODS_WITHOUT_SELECTION: Final = frozenset({"CONNECT", "OPTIONS", "TRACE"})


@attrs.frozen
class EntityTag:
    """An entity-tag (RFC 9110 section 8.8.3); ``str()`` gives it as on the wire.

    :param opaque: what stands between the quotes, obs-text decoded as ISO 8859-1.
    :raises ValueError: if ``opaque`` has a character that is not an etagc.
    """

    opaque: str = attrs.field(validator=validators.matches_re(f"{_ETAGC}*"))
    weak: bool = False

    def __str__(self) -> str:
        return f'W/"{self.opaque}"' if self.weak else f'"{self.opaque}"'

    def strongly_equals(self, other: "EntityTag") -> bool:
        """Strong comparison (section 8.8.3.2): the same characters, and neither tag is weak."""
        return not self.weak and not other.weak and self.opaque == other.opaque

    def weakly_equals(self, other: "EntityTag") -> bool:
        """Weak comparison (section 8.8.3.2): the same characters, weak or not."""
        return self.opaque == other.opaque


@attrs.frozen
class UnquotedTag:
    """A list element without quotes, which the RFC does not know but some protocols on top of HTTP do.

    :raises ValueError: if ``text`` is empty or has a character that is not an etagc, or a comma.
    """

    text: str = attrs.field(validator=validators.matches_re(_UNQUOTED_TAG))


class Wildcard(enum.Enum):
    """The type of :data:`ANY`."""

    ANY = "*"


#: The field value ``*``: any current representation.
ANY: Final = Wildcard.ANY


def parse_entity_tag_list(field: str) -> Wildcard | tuple[EntityTag | UnquotedTag, ...]:
    """Read an If-Match or If-None-Match field value. Never raises, whatever the text.

    Linear in the length of the text. Empty elements are skipped (section 5.6.1.2), malformed ones dropped;
    reading goes on behind the next comma that is not inside quotes.

    :param field: the field value, repeated field lines joined with ``", "``.
    :return: :data:`ANY` if the field is ``*`` and nothing else, otherwise what is well-formed in it, in
        order: perhaps nothing. ``W/`` is case-sensitive and counts outside the quotes only.
    """
    if field.strip(_OWS) == ANY.value:
        return ANY
    elements = (element.strip(_OWS) for element in _LIST_ELEMENT.findall(field))
    return tuple(tag for element in elements if (tag := _parse_element(element)) is not None)


def _parse_element(text: str) -> EntityTag | UnquotedTag | None:
    if _UNQUOTED_TAG.fullmatch(text):
        return UnquotedTag(text)
    return _parse_entity_tag(text)


def _parse_entity_tag(text: str) -> EntityTag | None:
    found = _ENTITY_TAG.fullmatch(text)
    return None if found is None else EntityTag(found[2], weak=found[1] is not None)


class Verdict(enum.Enum):
    """What the preconditions of a request leave to be done."""

    #: Perform the method; honour a Range, if there is one.
    PROCEED = enum.auto()
    #: Perform the method, but as though no Range had been sent: If-Range did not hold.
    PROCEED_WITHOUT_RANGE = enum.auto()
    #: Answer 304.
    NOT_MODIFIED = enum.auto()
    #: Answer 412.
    PRECONDITION_FAILED = enum.auto()


def evaluate(
    *,
    method: str,
    etag: EntityTag,
    if_match: str | None,
    if_none_match: str | None,
    if_range: str | None,
    if_match_alias: str | None = None,
) -> Verdict:
    """Evaluate a request's preconditions in the order of RFC 9110 section 13.2.2.

    For a resource that has a current representation, and a request that would get a 2xx without its
    preconditions: where it would not (401, 404, ...), they are not to be evaluated (section 13.2.1).

    :param method: the request method, case-sensitive.
    :param etag: the entity-tag of the current representation.
    :param if_match: the field value, repeated field lines joined with ``", "``; None if it was not sent.
        The same for ``if_none_match`` and ``if_range``.
    :param if_match_alias: another name of the current representation that If-Match, and no other field,
        accepts beside the entity-tag: as a strong entity-tag, or without quotes.
    """
    if method in _METHODS_WITHOUT_SELECTION:
        return Verdict.PROCEED
    if _if_match_holds(if_match, etag, if_match_alias) is False:
        return Verdict.PRECONDITION_FAILED
    if _if_none_match_holds(if_none_match, etag) is False:
        return Verdict.NOT_MODIFIED if method in ("GET", "HEAD") else Verdict.PRECONDITION_FAILED
    if method == "GET" and _if_range_holds(if_range, etag) is False:
        return Verdict.PROCEED_WITHOUT_RANGE
    return Verdict.PROCEED


def is_named(field: str | None, etag: EntityTag) -> bool:
    """Whether a field of a precondition names an entity-tag itself, by strong comparison: ``*`` names none.

    :param field: as :func:`evaluate` has it.
    """
    listed = ANY if field is None else parse_entity_tag_list(field)
    return listed is not ANY and any(isinstance(tag, EntityTag) and tag.strongly_equals(etag) for tag in listed)


def _if_match_holds(field: str | None, etag: EntityTag, alias: str | None) -> bool | None:
    """Section 13.1.1: ``*``, or one of the tags is the current one by strong comparison."""
    if field is None:
        return None
    listed = parse_entity_tag_list(field)
    return listed is ANY or any(_names_strongly(tag, etag, alias) for tag in listed)


def _names_strongly(tag: EntityTag | UnquotedTag, etag: EntityTag, alias: str | None) -> bool:
    if isinstance(tag, UnquotedTag):
        return tag.text == alias
    return tag.strongly_equals(etag) or (not tag.weak and tag.opaque == alias)


def _if_none_match_holds(field: str | None, etag: EntityTag) -> bool | None:
    """Section 13.1.2: not ``*``, and none of the tags is the current one by weak comparison."""
    if field is None:
        return None
    if field == str(etag):
        # As nearly all that match are written.
        return False
    listed = parse_entity_tag_list(field)
    return listed is not ANY and not any(isinstance(tag, EntityTag) and tag.weakly_equals(etag) for tag in listed)


def _if_range_holds(field: str | None, etag: EntityTag) -> bool | None:
    """Section 13.1.5: one tag, not a list of them, and the current one by strong comparison."""
    if field is None:
        return None
    tag = _parse_entity_tag(field.strip(_OWS))
    return tag is not None and tag.strongly_equals(etag)
