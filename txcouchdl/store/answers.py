"""
Answers, and refusals, in CouchDB's shape.

A refusal is raised wherever it is found and becomes an answer at the edge; its wording is CouchDB's own
(FINDINGS, sections 1, 6 and 8), because clients compare it.
"""

import json
from collections.abc import Iterable

from attrs import evolve, field, frozen

Headers = tuple[tuple[bytes, bytes], ...]

_ALWAYS: Headers = ((b"Cache-Control", b"must-revalidate"),)

_UNCACHED: Headers = (
    (b"Cache-Control", b"no-cache"),
    (b"Pragma", b"no-cache"),
    (b"Expires", b"Mon, 01 Jan 1990 00:00:00 GMT"),
)


@frozen
class Answer:
    """
    A whole answer.

    :ivar status: the HTTP status code.
    :ivar headers: all of them but Content-Length, Date and Server.
    :ivar body: also for HEAD, where only its length is sent.
    """

    status: int
    headers: Headers = ()
    body: bytes = field(default=b"", repr=False)


def json_answer(status: int, value: object, headers: Headers = ()) -> Answer:
    """An answer whose body is JSON, as CouchDB ends it: with a newline."""
    return text_answer(status, json.dumps(value, separators=(",", ":"), ensure_ascii=False), headers)


def text_answer(status: int, text: str, headers: Headers = ()) -> Answer:
    """
    :param text: JSON that has been written already.
    """
    content_type = (b"Content-Type", b"application/json")
    return Answer(status, (*_ALWAYS, content_type, *headers), text.encode("utf-8") + b"\n")


def uncached(answer: Answer) -> Answer:
    """The same, to be asked for again each time."""
    others = tuple(header for header in answer.headers if header not in _ALWAYS)
    return evolve(answer, headers=(*_UNCACHED, *others))


def not_modified(etag: str) -> Answer:
    """A 304, bare as CouchDB's (FINDINGS, section 1)."""
    return Answer(304, ((b"ETag", etag.encode("ascii")),))


@frozen
class Refusal(Exception):
    """
    What was asked for is not done.

    :ivar status: the HTTP status code.
    :ivar error: CouchDB's code for it.
    :ivar reason: a sentence, fit for the client.
    """

    status: int
    error: str
    reason: str
    headers: Headers = ()

    @property
    def answer(self) -> Answer:
        return json_answer(self.status, {"error": self.error, "reason": self.reason}, self.headers)


def bad_request(reason: str) -> Refusal:
    return Refusal(400, "bad_request", reason)


def illegal_id(reason: str) -> Refusal:
    return Refusal(400, "illegal_docid", reason)


def bad_member(name: str) -> Refusal:
    """A member of a document that begins with an underscore and is not what CouchDB keeps under that name."""
    return Refusal(400, "doc_validation", f"Bad special document member: {name}")


def not_found(reason: str) -> Refusal:
    return Refusal(404, "not_found", reason)


def no_database() -> Refusal:
    return not_found("Database does not exist.")


def missing() -> Refusal:
    return not_found("missing")


def no_attachment() -> Refusal:
    return not_found("Document is missing attachment")


def conflict() -> Refusal:
    return Refusal(409, "conflict", "Document update conflict.")


def missing_rev() -> Refusal:
    """
    An attachment was to be written to a revision that is not there. CouchDB's 409, with a 404's error code.
    """
    return Refusal(409, "not_found", "missing_rev")


def missing_stub(document_id: str, name: str) -> Refusal:
    return Refusal(412, "missing_stub", f"Invalid attachment stub in {document_id} for {name}")


def too_large(document_id: str) -> Refusal:
    return Refusal(413, "document_too_large", document_id)


def not_allowed(methods: Iterable[str]) -> Refusal:
    allowed = ",".join(sorted(methods))
    headers = ((b"Allow", allowed.encode("ascii")),)
    return Refusal(405, "method_not_allowed", f"Only {allowed} allowed", headers)


def not_covered(what: str) -> Refusal:
    """For what CouchDB does and this store does not."""
    return Refusal(501, "not_implemented", f"The embedded store does not do this: {what}. CouchDB does.")
