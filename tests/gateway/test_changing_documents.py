"""
A document that changes, is compacted, deleted and made anew, while downloads of its attachment run.

Whatever happens: a client's bytes are the beginning of **one** version of the attachment, the one whose entity-tag its
response has; they are all of it, if the response ended cleanly; and nobody gets any with a token that opens nothing.
"""

import gzip
import random
from typing import Final

from attrs import define
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.gateway.house import NODE_PORT, TOKEN, Answer, Client, House, read_answer
from tests.network import End
from tests.scripted import DYING_WORDS, Doc, Stored
from txcouchdl.couch.limits import UpstreamLimits

NOISE: Final = random.Random(17).randbytes(250_000)
TEXT: Final = NOISE.hex().encode()
_COMPRESSED: Final = Stored.compressed(TEXT)
_GZIP: Final = gzip.compress(TEXT, 1, mtime=0)

#: What the attachment may be: (stored, and its identity bytes). Some have the same digest.
VERSIONS: Final = {
    "noise": (Stored(NOISE), NOISE),
    "other noise": (Stored(NOISE[::-1]), NOISE[::-1]),
    "text": (Stored(TEXT), TEXT),
    "text, compressed": (_COMPRESSED, TEXT),
    "text, uploaded compressed": (Stored.encoded(_COMPRESSED.stored), TEXT),
    "gzip": (Stored(_GZIP), _GZIP),
    "gzip, uploaded compressed": (Stored.encoded(_GZIP), TEXT),
    "tiny": (Stored(b"tiny"), b"tiny"),
}
# The first ones are drawn most often.
_names = st.sampled_from(list(VERSIONS))
PATH: Final = "/db/doc"
LIMITS: Final = UpstreamLimits(stall_timeout=5, give_up=20, park_after=3, max_upstream=3, queue_timeout=4)


def _etag(name: str) -> str:
    stored, _ = VERSIONS[name]
    is_encoded = name.endswith("uploaded compressed")
    return f'"{stored.etag}{"+gunzip" if is_encoded else ""}"'


IDENTITY: Final = {_etag(name): identity for name, (_, identity) in VERSIONS.items()}
assert len(IDENTITY) == len(VERSIONS)

#: First and last bytes.
RANGES: Final[dict[str, list[tuple[int, int | None]]]] = {
    "bytes=0-": [(0, None)],
    "bytes=1000-": [(1000, None)],
    "bytes=100-180000": [(100, 180_000)],
    "bytes=0-99,60000-200000,249000-249999": [(0, 99), (60_000, 200_000), (249_000, 249_999)],
}


_counts = st.integers(0, 300_000)


@define(eq=False)
class Download:
    """
    :ivar token: shown by it.
    :ivar oldest_token: place of the token that was the current one when it began.
    :ivar is_pinned: whether it asked for a revision.
    :ivar before: what an earlier response, that was broken, has brought of which version.
    :ivar may_break: whether something has happened for which it may.
    :ivar has_left: whether the client has gone by itself.
    """

    client: Client
    token: str
    rev: str
    oldest_token: int
    range_field: str | None = None
    is_pinned: bool = False
    before: tuple[str, bytes] | None = None
    may_break: bool = False
    has_left: bool = False
    has_lost_revision: bool = False

    @property
    def answer(self) -> Answer | None:
        return read_answer(self.client.received, "GET", self.client.is_closed) if self.client.received else None

    @property
    def is_over(self) -> bool:
        got = self.answer
        return self.client.is_closed or (got is not None and got.is_whole)


class ChangingDocument(RuleBasedStateMachine):
    """One house, its document, and up to four clients that read as they are told."""

    def __init__(self) -> None:
        super().__init__()
        self.house = House({}, limits=LIMITS)
        self.node = self.house.node
        self.downloads: list[Download] = []
        self.tokens = [TOKEN]
        self.edits = 1

    # The document.

    @initialize(name=_names)
    def begin(self, name: str) -> None:
        self.doc.attachments["f"] = VERSIONS[name][0]
        self._send(Download(Client(), TOKEN, self.doc.rev, 0), 50_000)

    @property
    def doc(self) -> Doc:
        return self.node.docs[PATH]

    @property
    def is_there(self) -> bool:
        return PATH in self.node.docs

    @property
    def etag(self) -> str | None:
        """Of the attachment as it is now."""
        stored = self.doc.attachments.get("f") if self.is_there else None
        return None if stored is None else next(_etag(name) for name, (each, _) in VERSIONS.items() if each == stored)

    def _edit(self, fields: dict[str, object], attachments: dict[str, Stored]) -> None:
        self._shelve()
        self.edits += 1
        self.node.docs[PATH] = Doc(fields, attachments, f"{self.edits}-{random.Random(self.edits).randbytes(16).hex()}")

    def _shelve(self) -> None:
        """What was current is an old revision now, until it is compacted away."""
        if self.is_there:
            old = self.node.docs.pop(PATH)
            self.node.old_docs[PATH, old.rev] = old

    @precondition(lambda self: self.is_there)
    @rule()
    def edit_a_field(self) -> None:
        self._edit({**self.doc.fields, "edits": self.edits}, dict(self.doc.attachments))

    @rule(name=_names)
    def replace_the_attachment(self, name: str) -> None:
        """Or make the document anew, with the same or another one."""
        self._edit(self.doc.fields if self.is_there else {"download_token": self.tokens[-1]}, {"f": VERSIONS[name][0]})

    @precondition(lambda self: self.etag is not None and self._running_clients)
    @rule(is_whole=st.booleans())
    def delete(self, is_whole: bool) -> None:
        """The attachment, or the whole document."""
        if is_whole:
            self._shelve()
        else:
            self._edit(self.doc.fields, {})

    @precondition(lambda self: self.etag is None)
    @rule(name=_names)
    def make_anew(self, name: str) -> None:
        self.replace_the_attachment(name)

    @precondition(lambda self: self.is_there)
    @rule()
    def rotate_the_token(self) -> None:
        self.tokens.append(f"s3cret{len(self.tokens)}")
        self._edit({"download_token": self.tokens[-1]}, dict(self.doc.attachments))

    @rule(at=st.none() | st.floats(0, 1))
    def compact(self, at: float | None) -> None:
        """:param at: where the transfers that run die, a share of what they have still to send; if they do."""
        self.node.old_docs.clear()
        for end in self._running:
            if at is not None:
                del end.sent[int(at * (len(end.sent) - _ROOM)) :]
                end.sent += DYING_WORDS
                end.loseConnection()
        for each in self.downloads:
            each.has_lost_revision |= not self.is_there or each.rev != self.doc.rev
        self._move()

    @property
    def _running(self) -> list[End]:
        """The node's ends of bodies under way, but those that could not tell their death any more."""
        return [
            far
            for _, far in self.house.network.connections
            if far.address.port == NODE_PORT and far.is_connected and len(far.sent) > _ROOM
        ]

    @rule(is_reset=st.booleans())
    def lose_connections_to_the_node(self, is_reset: bool) -> None:
        for _, far in self.house.network.connections:
            if far.address.port == NODE_PORT and far.is_connected:
                if is_reset:
                    far.abortConnection()
                else:
                    far.sent.clear()
                    far.loseConnection()
        self._move()

    # The clients.

    @precondition(lambda self: self.etag is not None and len(self._running_clients) < 4)
    @rule(count=_counts)
    def begin_a_plain_download(self, count: int) -> None:
        self._send(Download(Client(), self.tokens[-1], self.doc.rev, len(self.tokens) - 1), count)

    @precondition(lambda self: len(self._running_clients) < 4)
    @rule(
        range_field=st.none() | st.sampled_from(sorted(RANGES)),
        count=_counts,
        token=st.sampled_from(["current", "current", "current", "an old one", "a wrong one"]),
        is_pinned=st.sampled_from([False, False, True]),
    )
    def begin_a_download(self, range_field: str | None, count: int, token: str, is_pinned: bool) -> None:
        shown = {"current": self.tokens[-1], "an old one": self.tokens[0], "a wrong one": "guess"}[token]
        rev = self.doc.rev if self.is_there else "1-gone"
        self._send(Download(Client(), shown, rev, len(self.tokens) - 1, range_field, is_pinned), count)

    @precondition(lambda self: self._broken)
    @rule(data=st.data(), count=_counts)
    def resume_a_download(self, data: st.DataObject, count: int) -> None:
        """As curl and browsers do: from what there is, if it is still the same."""
        broken = data.draw(st.sampled_from(self._broken))
        self.downloads.remove(broken)
        self._resume(broken, count)

    def _resume(self, broken: Download, count: int) -> Download:
        had = _joined(broken)
        assert had is not None
        rev = self.doc.rev if self.is_there else "1-gone"
        resumed = Download(Client(), self.tokens[-1], rev, len(self.tokens) - 1, before=had)
        self._send(resumed, count)
        return resumed

    def _send(self, download: Download, count: int) -> None:
        self.downloads.append(download)
        self.house.network.connect(8000, download.client)
        fields = "" if download.range_field is None else f"Range: {download.range_field}\r\n"
        if download.before is not None:
            etag, had = download.before
            fields = f"Range: bytes={len(had)}-\r\nIf-Range: {etag}\r\n"
        rev = f"&rev={download.rev}" if download.is_pinned else ""
        head = f"GET {PATH}/f?token={download.token}{rev} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"
        download.client.transport.write(head.encode())
        self._read(download, count)

    def _read(self, download: Download, count: int) -> None:
        """Let a client read so much, and then no more."""
        client = download.client
        client.transport.resumeProducing()
        enough = len(client.received) + count
        self.house.network.run(until=lambda: len(client.received) >= enough)
        client.transport.pauseProducing()
        self._move()

    @precondition(lambda self: self._running_clients)
    @rule(data=st.data(), count=_counts)
    def read_some(self, data: st.DataObject, count: int) -> None:
        self._read(data.draw(st.sampled_from(self._running_clients)), count)

    @precondition(lambda self: self._running_clients)
    @rule(data=st.data())
    def read_on(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self._running_clients)).client.transport.resumeProducing()
        self._move()

    @precondition(lambda self: self._running_clients)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        leaving = data.draw(st.sampled_from(self._running_clients))
        leaving.has_left = True
        leaving.client.transport.loseConnection()
        self._move()

    @property
    def _running_clients(self) -> list[Download]:
        return [each for each in self.downloads if not each.is_over]

    @property
    def _broken(self) -> list[Download]:
        """Those that can be resumed: of whole representations."""
        return [
            each
            for each in self.downloads
            if each.client.is_closed and each.range_field is None and not each.is_pinned and _joined(each) is not None
        ]

    # Time.

    @rule(seconds=st.sampled_from([0.2, 2.0, 4.0, 25.0]))
    def wait(self, seconds: float) -> None:
        self.house.network.elapse(seconds)

    def _move(self) -> None:
        self.house.network.run()

    # What holds.

    @invariant()
    def bytes_are_of_one_version(self) -> None:
        for each in self.downloads:
            each.may_break |= each.has_lost_revision and (each.is_pinned or self._is_other(each))
            self._assert_right(each)

    def _is_other(self, download: Download) -> bool:
        got = download.answer
        return got is None or got.headers.get("etag") != self.etag

    def _assert_right(self, download: Download) -> None:
        got = download.answer
        if got is None or got.status not in (200, 206):
            assert got is None or got.is_whole
            return
        assert download.token in self.tokens[download.oldest_token :], "bytes for a token that opens nothing"
        identity = IDENTITY[got["ETag"]]
        right = _right_body(download, got, identity)
        assert right.startswith(got.body), "bytes of another version"
        if got.is_whole:
            assert got.body == right
        elif got.is_closed and not download.has_left:
            assert download.may_break, "broken without need"

    def teardown(self) -> None:
        """Everything comes to rest; and who resumes until it is whole, has one version."""
        self.bytes_are_of_one_version()
        for each in self.downloads:
            each.client.transport.resumeProducing()
        self.house.network.elapse(60.0)
        self.bytes_are_of_one_version()
        assert all(each.is_over for each in self.downloads)
        for each in self._broken:
            resumed = self._resume(each, 1_000_000)
            self._assert_right(resumed)
            joined = _joined(resumed)
            if self.etag is not None:
                assert joined is not None
                assert joined == (self.etag, IDENTITY[self.etag])
        self.house.assert_at_rest()
        for each in self.downloads:
            each.client.transport.loseConnection()
        self.house.network.elapse(1000.0)
        assert not self.house.network.calls
        assert not any(end.is_connected for pair in self.house.network.connections for end in pair)


#: Bytes behind which an error message still is no more than what is missing of a body.
_ROOM: Final = 2 * len(DYING_WORDS)


def _right_body(download: Download, got: Answer, identity: bytes) -> bytes:
    if got.status == 200:
        return identity
    if download.before is not None:
        etag, had = download.before
        assert etag == got["ETag"], "another version, joined to what there was"
        return identity[len(had) :]
    assert download.range_field is not None
    ranges = [
        (first, min(len(identity) - 1, len(identity) if last is None else last))
        for first, last in RANGES[download.range_field]
        if first < len(identity)
    ]
    slices = [identity[first : last + 1] for first, last in ranges]
    if len(slices) == 1:
        return slices[0]
    boundary = got["Content-Type"].partition("boundary=")[2]
    parts = [
        f"--{boundary}\r\nContent-Type: {_content_type(got['ETag'])}\r\n"
        f"Content-Range: bytes {first}-{last}/{len(identity)}\r\n\r\n".encode()
        + each
        for (first, last), each in zip(ranges, slices, strict=True)
    ]
    return b"\r\n".join([b"", *parts, f"--{boundary}--\r\n".encode()])


def _content_type(etag: str) -> str | None:
    return next(stored.content_type for name, (stored, _) in VERSIONS.items() if _etag(name) == etag)


def _joined(download: Download) -> tuple[str, bytes] | None:
    """What a client has of which version, earlier responses included; ``None`` if of none."""
    got = download.answer
    if got is None or got.status not in (200, 206):
        return download.before
    had = download.before[1] if download.before is not None and got.status == 206 else b""
    return got["ETag"], had + got.body


def test_downloads_of_a_document_that_changes() -> None:
    run_state_machine_as_test(ChangingDocument, settings=settings(stateful_step_count=30))


def test_a_length_that_is_learned_meanwhile() -> None:
    """Found by the above: of two downloads the first learns how long the attachment is, and the other has to go on."""
    machine = ChangingDocument()
    machine.begin("text, uploaded compressed")
    machine.begin_a_plain_download(1)
    machine.edit_a_field()
    machine.compact(0.0)
    for each in machine.downloads:
        each.client.transport.resumeProducing()
        machine._move()
        machine.bytes_are_of_one_version()
    assert [each.answer is not None and each.answer.is_whole for each in machine.downloads] == [True, True]
    machine.teardown()
