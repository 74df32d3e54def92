"""
Which revision a writer says the write follows: in the query, in If-Match, or in the document (FINDINGS,
section 6).
"""

from attrs import frozen

from txcouchdl.store.answers import bad_request
from txcouchdl.store.drafts import parse_rev
from txcouchdl.store.values import Rev


@frozen
class Claim:
    """
    :ivar query: ``?rev=``, or ``None``.
    :ivar if_match: the If-Match header, or ``None``. Quotes around the revision are CouchDB's habit, not
        needed.
    """

    query: str | None = None
    if_match: str | None = None

    def resolve(self, in_document: Rev | None = None) -> Rev | None:
        """
        :param in_document: the document's ``_rev``.
        :returns: the revision that is claimed, ``None`` if none is.
        :raises Refusal: 400 if one of them cannot be a revision, or they differ.
        """
        explicit = None if self.query is None else parse_rev(self.query)
        if in_document is not None and explicit not in {None, in_document}:
            raise bad_request("Document rev from request body and query string have different values")
        explicit = in_document or explicit
        tagged = None if self.if_match is None else self.if_match.strip().strip('"')
        if tagged is None:
            return explicit
        if explicit is not None and tagged != str(explicit):
            raise bad_request("Document rev and etag have different values")
        return parse_rev(tagged)
