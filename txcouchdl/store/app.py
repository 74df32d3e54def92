"""
The Klein app: what each kind of address answers to each method.

The router's paths are the kinds of :mod:`~txcouchdl.store.addresses`; the names are in ``request.address``.
"""

import secrets
from typing import cast
from uuid import uuid4

from attrs import evolve
from klein import Klein
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from werkzeug.exceptions import MethodNotAllowed

from txcouchdl import __version__
from txcouchdl.couch.names import quote_segment, split_target
from txcouchdl.store.addresses import Kind, parse_query
from txcouchdl.store.answers import (
    Answer,
    Headers,
    Refusal,
    bad_request,
    json_answer,
    not_allowed,
    not_covered,
    not_modified,
    text_answer,
    uncached,
)
from txcouchdl.store.credentials import Caller, Credentials, unauthorized
from txcouchdl.store.drafts import DEFAULT_CONTENT_TYPE
from txcouchdl.store.errors import DamagedBody
from txcouchdl.store.json_bodies import parse_json_coding
from txcouchdl.store.listing import parse_listing
from txcouchdl.store.packing import parse_encoding
from txcouchdl.store.query_values import parse_uuid_count
from txcouchdl.store.rendering import render_document, revisions_member, revs_info_member
from txcouchdl.store.request_values import asked_of, claim_of, login_of, require_json, rev_of
from txcouchdl.store.selection import names_etag, select
from txcouchdl.store.sending import deliver
from txcouchdl.store.sessions import ROLES, Sessions, set_cookie
from txcouchdl.store.store import Store
from txcouchdl.store.trouble import TROUBLE, refusal_of
from txcouchdl.store.values import Rev
from txcouchdl.store.web import StoreRequest, StoreSite

#: The CouchDB whose ways the answers follow.
_COUCHDB_VERSION = "3.5.2"

#: What a read of a document can be asked for in CouchDB and not here.
_NOT_READ = ("attachments", "atts_since", "local_seq", "open_revs")

#: With these CouchDB gives a document no ETag (FINDINGS, section 1).
_UNTAGGED = ("meta", "revs_info")

_NO_DOCUMENT = "You tried to DELETE a database {}. Did you mean to DELETE a document instead?"

_log = Logger()


class StoreApp:
    """The answers. Each public method is the answer to one kind of request."""

    router = Klein()

    def __init__(self, store: Store, sessions: Sessions, clock: IReactorTime) -> None:
        self._store = store
        self._sessions = sessions
        self._clock = clock

    @router.route(f"/{Kind.SERVER}", methods=["GET"])
    def welcome(self, request: StoreRequest) -> bytes:
        vendor = {"name": "txcouchdl, embedded store", "version": __version__}
        facts = {"couchdb": "Welcome", "version": _COUCHDB_VERSION, "features": [], "vendor": vendor}
        return request.prepare(json_answer(200, facts))

    @router.route(f"/{Kind.UP}", methods=["GET"])
    def up(self, request: StoreRequest) -> bytes:
        return request.prepare(json_answer(200, {"status": "ok", "seeds": {}}))

    @router.route(f"/{Kind.ALL_DATABASES}", methods=["GET"])
    def all_databases(self, request: StoreRequest) -> bytes:
        listing = parse_listing(parse_query(split_target(request.uri)[1]))
        return request.prepare(json_answer(200, listing.select(self._store.databases())))

    @router.route(f"/{Kind.UUIDS}", methods=["GET"])
    def uuids(self, request: StoreRequest) -> bytes:
        count = parse_uuid_count(request.query.get("count", "1"))
        return request.prepare(uncached(json_answer(200, {"uuids": [uuid4().hex for _ in range(count)]})))

    @router.route(f"/{Kind.SESSION}", methods=["GET"])
    def get_session(self, request: StoreRequest) -> bytes:
        identity = request.identity
        if request.query.get("basic") == "true" and not identity.is_admin:
            raise Refusal(401, "unauthorized", "Please login.")
        return request.prepare(json_answer(200, self._sessions.describe(identity)))

    @router.route(f"/{Kind.SESSION}", methods=["POST"])
    def post_session(self, request: StoreRequest) -> bytes:
        login = login_of(request)
        if not self._sessions.admin.match(login.name, login.password):
            raise evolve(unauthorized(Caller.IMPOSTOR, of_database=False), headers=_cookie(request, b""))
        cookie = _cookie(request, self._sessions.begin(self._clock.seconds()))
        return request.prepare(json_answer(200, {"ok": True, "name": login.name, "roles": ROLES}, cookie))

    @router.route(f"/{Kind.SESSION}", methods=["DELETE"])
    def delete_session(self, request: StoreRequest) -> bytes:
        return request.prepare(json_answer(200, {"ok": True}, _cookie(request, b"")))

    @router.route(f"/{Kind.DATABASE}", methods=["GET"])
    def get_database(self, request: StoreRequest) -> bytes:
        summary = self._store.summary(request.address.database)
        facts = {
            "db_name": summary.name,
            "doc_count": summary.documents,
            "doc_del_count": summary.deleted_documents,
            "update_seq": str(summary.update_seq),
            "compact_running": False,
        }
        return request.prepare(json_answer(200, facts))

    @router.route(f"/{Kind.DATABASE}", methods=["PUT"])
    async def put_database(self, request: StoreRequest) -> bytes:
        name = request.address.database
        await self._store.create_database(name)
        location = _location(request, name)
        return request.prepare(json_answer(201, {"ok": True}, location))

    @router.route(f"/{Kind.DATABASE}", methods=["DELETE"])
    async def delete_database(self, request: StoreRequest) -> bytes:
        """Refuse a request that was meant for a document: its program has lost the document's id."""
        if "rev" in request.query:
            raise bad_request(_NO_DOCUMENT.format("with a ?=rev parameter"))
        if request.field("If-Match") is not None:
            raise bad_request(_NO_DOCUMENT.format("with an If-Match header"))
        await self._store.delete_database(request.address.database)
        return request.prepare(json_answer(200, {"ok": True}))

    @router.route(f"/{Kind.DATABASE}", methods=["POST"])
    async def post_document(self, request: StoreRequest) -> bytes:
        require_json(request)
        return await self._write_document(request, None)

    @router.route(f"/{Kind.COMPACTION}", methods=["POST"])
    async def compact(self, request: StoreRequest) -> bytes:
        """CouchDB only begins to compact; here it is done when the answer comes."""
        require_json(request)
        await self._store.compact(request.address.database)
        return request.prepare(json_answer(202, {"ok": True}))

    @router.route(f"/{Kind.INDEX_COMPACTION}", methods=["POST"])
    def compact_indexes(self, request: StoreRequest) -> bytes:
        """Find the design document. It has no indexes here."""
        require_json(request)
        self._store.document(request.address.database, request.address.document_id, None, latest=False)
        return request.prepare(json_answer(202, {"ok": True}))

    @router.route(f"/{Kind.DOCUMENT}", methods=["GET"])
    def get_document(self, request: StoreRequest) -> bytes:
        query, address = request.query, request.address
        for name in _NOT_READ:
            if query.get(name, "false") != "false":
                raise not_covered(f"?{name}")
        rev, latest = rev_of(request)
        revision, attachments = self._store.document(address.database, address.document_id, rev, latest)
        is_tagged = not any(query.get(name) == "true" for name in _UNTAGGED)
        if is_tagged and names_etag(request.text_field("If-None-Match"), revision.rev.etag):
            return request.prepare(not_modified(revision.rev.etag))
        extra = []
        if query.get("revs") == "true":
            extra.append(revisions_member(self._store.history(address.database, revision)))
        if "true" in {query.get("revs_info"), query.get("meta")}:
            extra.append(revs_info_member(self._store.history(address.database, revision)))
        text = render_document(revision, attachments, query.get("att_encoding_info") == "true", extra)
        return request.prepare(text_answer(200, text, _etag(revision.rev) if is_tagged else ()))

    @router.route(f"/{Kind.DOCUMENT}", methods=["PUT"])
    async def put_document(self, request: StoreRequest) -> bytes:
        if (request.field("Content-Type") or b"").lower().startswith(b"multipart/"):
            raise not_covered("documents in multipart/related")
        return await self._write_document(request, request.address.document_id)

    @router.route(f"/{Kind.DOCUMENT}", methods=["DELETE"])
    async def delete_document(self, request: StoreRequest) -> bytes:
        address = request.address
        rev = await self._store.delete_document(address.database, address.document_id, claim_of(request).resolve())
        return request.prepare(_written(200, address.document_id, rev, _etag(rev)))

    @router.route(f"/{Kind.DOCUMENT}", methods=["COPY", "POST"])
    def not_with_documents(self, request: StoreRequest) -> bytes:
        raise not_covered(f"{request.method.decode('ascii')} of a document")

    @router.route(f"/{Kind.ATTACHMENT}", methods=["GET"])
    async def get_attachment(self, request: StoreRequest) -> bytes | None:
        address, (rev, latest) = request.address, rev_of(request)
        where = (address.database, address.document_id, address.attachment, rev, latest)
        attachment = self._store.attachment(*where)
        selection = select(asked_of(request), attachment)
        if selection is None:
            return request.prepare(not_modified(attachment.etag))
        try:
            file = self._store.open_body(attachment)
        except DamagedBody:
            # Compacted or deleted since we looked it up? Then this says so.
            self._store.attachment(*where)
            raise
        with file:
            request.start(selection.status, selection.headers, selection.length)
            if request.method == b"GET":
                await deliver(request, selection.pieces(file, attachment.body))
        return None

    @router.route(f"/{Kind.ATTACHMENT}", methods=["PUT"])
    async def put_attachment(self, request: StoreRequest) -> bytes:
        address = request.address
        rev = claim_of(request).resolve()
        encoding = parse_encoding(request.text_field("Content-Encoding"))
        content_type = request.text_field("Content-Type") or DEFAULT_CONTENT_TYPE
        upload = request.upload.take()
        where = (address.database, address.document_id, rev, address.attachment)
        new_rev = await self._store.put_attachment(*where, content_type, encoding, upload)
        location = _location(request, address.database, address.document_id, address.attachment)
        return request.prepare(_written(201, address.document_id, new_rev, location))

    @router.route(f"/{Kind.ATTACHMENT}", methods=["DELETE"])
    async def delete_attachment(self, request: StoreRequest) -> bytes:
        address = request.address
        where = (address.database, address.document_id, claim_of(request).resolve(), address.attachment)
        rev = await self._store.delete_attachment(*where)
        return request.prepare(_written(200, address.document_id, rev))

    @router.route(f"/{Kind.LOCAL}")
    def local(self, request: StoreRequest) -> bytes:
        self._store.check_database(request.address.database)
        raise bad_request("Invalid _local document id.")

    @router.route(f"/{Kind.LOCAL_ATTACHMENT}")
    def local_attachment(self, request: StoreRequest) -> bytes:
        raise bad_request("_local documents do not accept attachments.")

    @router.route(f"/{Kind.NOT_COVERED}")
    def not_here(self, request: StoreRequest) -> bytes:
        raise not_covered(request.address.attachment)

    async def _write_document(self, request: StoreRequest, document_id: str | None) -> bytes:
        if request.query.get("new_edits") == "false":
            raise not_covered("new_edits=false")
        address, claim = request.address, claim_of(request)
        coding = parse_json_coding(request.text_field("Content-Encoding"))
        if not request.has_body:
            raise bad_request("Missing request body")
        is_post, upload = document_id is None, request.upload.take()
        written = await self._store.put_document(address.database, document_id, claim, coding, upload)
        if request.query.get("batch") == "ok":
            return request.prepare(json_answer(202, {"ok": True, "id": written.document_id}))
        headers = _etag(written.rev) + _location(request, address.database, written.document_id)
        status = 200 if written.is_tombstone and not is_post else 201
        return request.prepare(_written(status, written.document_id, written.rev, headers))

    @router.handle_errors(Refusal, MethodNotAllowed, *TROUBLE)
    def refuse(self, request: IRequest, failure: Failure) -> bytes:
        return cast(StoreRequest, request).prepare(_refusal(failure).answer)


def store_site(store: Store, admin: Credentials, reactor: IReactorTime) -> StoreSite:
    """
    A site that speaks for a store.

    :param admin: may do everything; other callers may read ``/``, ``/_up`` and ``/_uuids``, and log in.
    """
    sessions = Sessions(admin, secrets.token_bytes(32))
    return StoreSite(store, sessions, StoreApp(store, sessions, reactor).router.resource(), reactor)


def _refusal(failure: Failure) -> Refusal:
    match failure.value:
        case Refusal() as refusal:
            return refusal
        case MethodNotAllowed() as error:
            return not_allowed(error.valid_methods or ())
        case error:
            _log.failure("What is stored could not be read", failure)
            return refusal_of(error)


def _written(status: int, document_id: str, rev: Rev, headers: Headers = ()) -> Answer:
    return json_answer(status, {"ok": True, "id": document_id, "rev": str(rev)}, headers)


def _etag(rev: Rev) -> Headers:
    return ((b"ETag", rev.etag.encode("ascii")),)


def _location(request: StoreRequest, *names: str) -> Headers:
    path = "".join(f"/{quote_segment(name)}" for name in names)
    return ((b"Location", request.origin + path.encode("ascii")),)


def _cookie(request: StoreRequest, value: bytes) -> Headers:
    return (set_cookie(value, request.is_secure),)
