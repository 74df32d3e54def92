"""
Where the store is not like the CouchDB that was recorded: on purpose (:data:`DIFFERENT`), or not yet
(:data:`NOT_COVERED`). test_replay.py holds every recorded exchange to be in one of them, or alike.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Mapping
from random import Random
from typing import Any

from attrs import evolve, field, frozen

from tests.store.recording import COMPARED_HEADERS, Expectation, load

_AS_RECORDED: Any = object()


@frozen
class NotCovered:
    """
    :ivar pattern: matches the whole ids of exchanges.
    :ivar reason: what is missing.
    """

    pattern: str
    reason: str

    def covers(self, exchange_id: str) -> bool:
        return re.fullmatch(self.pattern, exchange_id) is not None


@frozen
class Difference(NotCovered):
    """
    What we answer instead: what CouchDB answered to this exchange, or to the one named by ``like``, but for what is
    given here.

    :ivar headers: ``None`` for one that is absent.
    :ivar tells_sha256: whether the stubs of attachments tell the SHA-256 of the stored bytes beside.
    :ivar body: the bytes, where they are neither recorded nor JSON.
    :ivar is_answered: false where we close the connection without an answer.
    """

    like: str | None = None
    status: int | None = None
    headers: Mapping[str, str | None] = field(factory=dict)
    json: Any = _AS_RECORDED
    tells_sha256: bool = False
    body: bytes | None = None
    is_answered: bool = True

    def apply(self, recorded: Expectation) -> Expectation:
        """
        :param recorded: the answer to this exchange, or to the one named by ``like``.
        """
        headers = {name: value for name, value in {**recorded.headers, **self.headers}.items() if value is not None}
        status = self.status or recorded.status
        changed = evolve(recorded, headers=headers, status=status, reason=recorded.reason if status == 404 else "")
        if self.body is not None:
            return evolve(changed, json=None, sha256=hashlib.sha256(self.body).hexdigest())
        if self.tells_sha256:
            return evolve(changed, json=_with_sha256s(recorded.json))
        if self.json is _AS_RECORDED:
            return changed
        return evolve(changed, json=self.json, sha256="")


def _with_sha256s(document: Any) -> Any:
    told = {name: stub | {"sha256": _SHA256S[stub["digest"]]} for name, stub in document["_attachments"].items()}
    return document | {"_attachments": told}


#: Of stored bytes, in base64, by their digests: as whoever takes gzip was sent them.
_SHA256S = {
    "md5-" + each.response["headers"]["etag"].strip('"'): b64encode(bytes.fromhex(each.response["sha256"])).decode()
    for each in load()
    if each.response is not None and re.fullmatch(r"get\..*\.gzip", each.id)
}


def _error(error: str, reason: str) -> dict[str, str]:
    return {"error": error, "reason": reason}


def _any_of(prefix: str, *texts: str) -> str:
    return re.escape(prefix) + "(" + "|".join(map(re.escape, texts)) + ")"


_WELCOME = {
    "couchdb": "Welcome",
    "version": "3.5.2",
    "features": [],
    "vendor": {"name": "txcouchdl, embedded store", "version": "0.1.0"},
}
_BAD_ESCAPE = _error("bad_request", "Invalid percent-encoding in the path.")
_NOT_UTF8 = _error("bad_request", "The path is not UTF-8.")
_WRONG = _error("unauthorized", "Name or password is incorrect.")
_JSON_ERROR: dict[str, str | None] = {"content-type": "application/json", "cache-control": "must-revalidate"}

_WHOLE_BY_RFC = "RFC 9110, section 14.2: an invalid or unknown Range is ignored"
_HEAD = "RFC 9110, section 14.2: Range means nothing with HEAD"
_SUFFIX = "RFC 9110, section 14.1.2: a suffix as long as the whole, or longer, is the whole (CouchDB loses a byte)"
_UNSATISFIED = "RFC 9110, section 15.5.17: a 416 says how long the representation is"
_ONE_BAD = "RFC 9110, section 15.5.17: what can be satisfied of a set is served"
_MERGED = "RFC 9110, section 15.3.7.2: ranges that overlap or touch are joined"
_SEVERAL = "Several ranges are answered with the whole, as RFC 9110, section 14.2 allows: the gateway asks for one"
_FROM_0 = "bytes=0- is a range like any other"
_CODED = "Where Accept-Ranges says none, Range is ignored, unsatisfiable ones too (FINDINGS, point 6)"
_IF_RANGE = "RFC 9110, section 13.1.5: If-Range counts (FINDINGS, point 5)"
_UNKNOWN_LENGTH = "A length that is not known is left out: 0 would be a lie (FINDINGS, point 10)"

_ESCAPED = "Names are escaped so that nothing on the way reads them otherwise (``.`` and ``..`` are resolved away)"
_DESIGN = "Both spellings of a design document are the document; CouchDB redirects GETs to the one"
_DESIGN_Y: dict[str, Any] = {
    "_id": "_design/y",
    "_rev": "1-98628b6fb76cb70ef1a4f2303b37903d",
    "_attachments": {
        "f.bin": {
            "content_type": "application/octet-stream",
            "revpos": 1,
            "digest": "md5-SUYbq/9oplj0wxRovKfyCg==",
            "length": 13,
            "stub": True,
        }
    },
}
_HERE = "http://127.0.0.1:5984/rec"

_OCT, _OCT_HEAD = "range.oct.bytes=", "range.head.oct.bytes="

DIFFERENT = [
    Difference("root|auth.none.root", "It says who it is", json=_WELCOME),
    Difference(
        "db.get",
        "Only what means something here",
        json={"db_name": "rec", "doc_count": 0, "doc_del_count": 0, "update_seq": "0", "compact_running": False},
    ),
    Difference(
        "doc.att_encoding_info|w.put.sec.doc",
        "Bodies have names here, their SHA-256: the gateway can tell its clients (RFC 9530)",
        tells_sha256=True,
    ),
    # Codings
    Difference("head.(gz.bin|gz.txt|eqlen.txt)", _UNKNOWN_LENGTH, headers={"content-length": None}),
    Difference(
        _any_of("ae.t100k.", "identity;q=0", "bogus;;q=z"),
        "An Accept-Encoding that cannot be met, or makes no sense, is overlooked (RFC 9110, section 12.5.3)",
        like="get.t100k.txt",
    ),
    Difference("ae.oct.identity0", "As ae.t100k.identity;q=0", like="get.oct.bin"),
    Difference(
        "w.get.ce.badgzip",
        "A body that turns out not to be gzip before a byte is sent gets a clean error",
        status=500,
        headers=_JSON_ERROR,
        json=_error("internal_server_error", "The stored bytes of this attachment are damaged."),
    ),
    # Ranges
    Difference(_any_of(_OCT, "0-", "0-,"), _FROM_0, like="range.oct.bytes=0-30"),
    Difference("range.one.bytes=0-", _FROM_0, like="range.one.bytes=0-0"),
    Difference(
        "range.empty.bytes=0-",
        "RFC 9110, section 14.1.2: the first byte of nothing is not there",
        like="range.empty.bytes=0-0",
        headers={"content-range": "bytes */0"},
    ),
    Difference(_any_of(_OCT, "-31", "-32", "-1000000"), _SUFFIX, like="range.oct.bytes=0-30"),
    Difference(_any_of("range.mp4.bytes=", "-1048576", "-2000000"), _SUFFIX, like="range.mp4.bytes=0-1048575"),
    Difference("range.one.bytes=-[12]", _SUFFIX, like="range.one.bytes=0-0"),
    Difference("range.empty.bytes=-[15]", _SUFFIX + "; no Content-Range can say so of nothing", like="get.empty.bin"),
    Difference(
        _any_of(_OCT, "-0", "31-31", "31-", "40-50,60-70", "18446744073709551616-"),
        _UNSATISFIED,
        headers={"content-range": "bytes */31"},
    ),
    Difference("range.mp4.bytes=1048576-", _UNSATISFIED, headers={"content-range": "bytes */1048576"}),
    Difference("range.one.bytes=1-", _UNSATISFIED, headers={"content-range": "bytes */1"}),
    Difference(
        _any_of("range.empty.bytes=", "0-0", "0-10", "-0", "1-", "0-0,1-1"),
        _UNSATISFIED,
        headers={"content-range": "bytes */0"},
    ),
    Difference(
        _any_of(_OCT, "12-5", "0-0,5-2", "", ",", "--5", "5", "0--3", "+1-+3"), _WHOLE_BY_RFC, like="get.oct.bin"
    ),
    Difference("range.empty.bytes=", _WHOLE_BY_RFC, like="get.empty.bin"),
    Difference(
        "range.oct.(Bytes|BYTES)=0-1", "RFC 9110, section 14.1: range units have no case", like="range.oct.bytes=0-1,"
    ),
    Difference(_any_of(_OCT, "0-0,31-", "0-0,40-50"), _ONE_BAD, like="range.oct.bytes=0-0"),
    Difference("range.oct.bytes=0-0,0-0", _MERGED, like="range.oct.bytes=0-0"),
    Difference(
        _any_of(_OCT, "0-0,2-2", "0-0, 2-2", "0-0,-1", "5-,0-0", "0-0,2-2,4-4,6-6,8-8,10-10,12-12,14-14,16-16"),
        _SEVERAL,
        like="get.oct.bin",
    ),
    Difference("http10.multirange", _SEVERAL, like="get.v.mp4"),
    Difference("range.oct.bytes=0-30,0-30", "More is asked for than there is: the whole", like="get.oct.bin"),
    Difference(
        _any_of(_OCT, "0-4,2-8", "2-8,0-4"),
        _MERGED,
        like="range.oct.bytes=0-12",
        headers={"content-length": "9", "content-range": "bytes 0-8/31"},
        body=b"My hoverc",
    ),
    Difference("range.mp4.bytes=0-499999,500000-1048575", _MERGED, like="range.mp4.bytes=0-1048575"),
    Difference(
        "range.mp4.bytes=0-65535,0-65535,0-65535",
        _MERGED,
        like="range.mp4.bytes=0-1048575",
        headers={"content-length": "65536", "content-range": "bytes 0-65535/1048576"},
        body=Random(5984).randbytes(1 << 20)[:65536],
    ),
    Difference(
        _any_of(_OCT_HEAD, "0-12", "5-", "-5", "-31", "-0", "31-", "12-5", "0-0,2-2", ""), _HEAD, like="head.oct.bin"
    ),
    Difference(_any_of("range.t100k.id.bytes=", "-0", "102400-", "12-5"), _CODED, like="get.t100k.txt"),
    Difference(
        _any_of("range.t100k.gz.bytes=", "-0", "102399-", "102400-", "5000-", "12-5"), _CODED, like="get.t100k.txt.gzip"
    ),
    Difference("range.gz.bin.gz.bytes=5000-", _CODED, like="get.gz.bin.gzip"),
    Difference("range.gz.txt.gz.bytes=5000-", _CODED, like="get.gz.txt.gzip"),
    Difference(
        _any_of("range.emptytxt.bytes=", "0-0", "0-10", "-0", "-1", "-5", "1-", "0-0,1-1"), _CODED, like="get.empty.txt"
    ),
    Difference("ifrange.(wrong|weak|rev|date|date-future|416)|combo.range-im-ifrange", _IF_RANGE, like="get.oct.bin"),
    Difference("rev.new.ifrange-old", _IF_RANGE, like="rev.cur"),
    # Names
    Difference("names.(put|get).badpct|names.alt.percent-raw", "One wording for all of the path", json=_BAD_ESCAPE),
    Difference(
        "names.(put|get).badutf8|names.alt.uuml-latin1|ids.(put|get|doc).badutf8",
        "A path that is not UTF-8 is a bad request, whatever the method",
        status=400,
        json=_NOT_UTF8,
    ),
    Difference(
        "names.alt.uuml-rawutf8",
        "twisted.web takes ASCII request lines only (RFC 3986)",
        status=400,
        headers=dict.fromkeys(COMPARED_HEADERS),
        body=b"",
    ),
    Difference("names.put.colon", _ESCAPED, headers={"location": _HERE + "/names/a%3Ab%40c.txt"}),
    Difference("names.put.dotdot", _ESCAPED, headers={"location": _HERE + "/names/%2E%2E"}),
    Difference("ids.put.colon", _ESCAPED, headers={"location": _HERE + "/a%3Ab/f.bin"}),
    Difference("ids.put.dot", _ESCAPED, headers={"location": _HERE + "/%2E/f.bin"}),
    Difference("ids.put.dotdot", _ESCAPED, headers={"location": _HERE + "/%2E%2E/f.bin"}),
    Difference("ids.design.enc.get", _DESIGN, like="ids.get.design-raw"),
    Difference(
        "ids.get.design-enc",
        _DESIGN,
        like="ids.get.design-raw",
        headers={"etag": '"SUYbq/9oplj0wxRovKfyCg=="'},
        body=b"id design-enc",
    ),
    Difference(
        "ids.doc.design-enc",
        _DESIGN,
        like="ids.doc.design-raw",
        headers={"etag": f'"{_DESIGN_Y["_rev"]}"'},
        json=_DESIGN_Y,
    ),
    Difference("ids.design.enc.doc", _DESIGN, like="ids.doc.design-raw"),
    Difference("ids.(put|get).local-enc", "CouchDB takes this attachment and loses it", like="ids.put.local-raw"),
    # Writes and methods
    Difference("w.put.short", "An upload that breaks off gets no answer; nothing is stored", is_answered=False),
    Difference(
        "method.OPTIONS.doc",
        "The methods are sorted",
        headers={"allow": "COPY,DELETE,GET,HEAD,POST,PUT"},
        json=_error("method_not_allowed", "Only COPY,DELETE,GET,HEAD,POST,PUT allowed"),
    ),
    # Access
    Difference(
        "auth.none.missingdb",
        "Without credentials nothing is told, not even which databases exist",
        like="auth.none.doc",
    ),
    Difference("auth.none.html", "There is no login page to go to", status=401, headers={"location": None}),
    Difference("auth.wrong.html", "There is no login page to go to", status=401, headers={"location": None}),
    Difference("auth.malformed", "A client's mistake, not the server's", like="auth.wrong"),
    Difference("auth.lowercase", "RFC 9110, section 11.1: schemes have no case", like="get.one.bin"),
]

NOT_COVERED = [
    NotCovered("db.security(.open)?", "_security"),
    NotCovered("doc.attachments.*|doc.atts_since.*|err.badatts", "?attachments=true and ?atts_since"),
    NotCovered("doc.local_seq", "?local_seq=true"),
    NotCovered("doc.open_revs", "?open_revs"),
    NotCovered("cheap.(find.*|bulk_get|all_docs.*|view.*)", "_find, _explain, _bulk_get, _all_docs, views"),
    NotCovered("ids.design.attdir", "_view"),
    NotCovered("ids.(doc.local-.*|local.put|local.doc.*)", "_local documents"),
    NotCovered("w.copy(.get|.att|.att.gz|.exists|.exists.rev|.nodest)?", "COPY"),
    NotCovered("w.mp.*", "documents in multipart/related"),
    NotCovered("conf.*", "conflicts, new_edits=false"),
    NotCovered("method.(POST.doc|post.form)", "uploads from HTML forms"),
    NotCovered("method.override", "X-HTTP-Method-Override"),
    NotCovered(
        "auth.(user.*|open.*|bob.*|lockout.bob|lock.*)", "users other than the admin, public databases, lockout"
    ),
    NotCovered("auth.xwww", "X-CouchDB-WWW-Authenticate"),
    NotCovered("auth.rvu.*", "require_valid_user and all configuration over HTTP"),
    NotCovered("ka.*", "connections are twisted.web's"),
    NotCovered("mid.*", "how CouchDB fails in the middle of a body; how we do is in test_damage.py"),
    NotCovered("err.(longurl|bigheader|manyheaders)", "limits of the head of a request are twisted.web's"),
]
