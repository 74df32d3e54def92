"""Whole documents: their listings, and every attachment at its place, whatever a server says."""

import gzip
import json
from base64 import b64encode
from hashlib import md5, sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from attrs import define, field

from tests.cli.desk import Desk, FileServer, location
from tests.gateway.house import GATEWAY_PORT, TOKEN, House
from tests.scripted import Asked, Mark, Script, Stored, answer
from txcouchdl.cli.get import Getting
from txcouchdl.cli.listings import MOST_PAGES, Listed, listing_of, read_page
from txcouchdl.cli.locations import LONGEST
from txcouchdl.cli.ls import json_of, line_of
from txcouchdl.cli.outcomes import Exit, LocalTrouble, Refused, Unusable

URL = "http://files.example/prefix/db/doc/?token=s3cret"
TOLD = {"database": "db", "id": "doc", "rev": "1-x", "total": 1}


@define
class Gallery:
    """A gateway that says what it is told to of a document, and has any attachment."""

    pages: list[dict[str, Any]]
    fails: set[str] = field(factory=set)
    has_ranges: bool = True
    digests: tuple[str, ...] = ("sha-256", "md5")
    asked: list[Asked] = field(factory=list)

    def factory(self) -> Any:
        return FileServer(b"", before=self.respond).factory()

    def respond(self, asked: Asked) -> Script:
        self.asked.append(asked)
        if not asked.path.endswith("/"):
            if any(each in asked.path for each in self.fails):
                return [answer(404, b"")]
            file = FileServer(asked.path.encode(), digests=self.digests, has_ranges=self.has_ranges)
            return file.answer(asked)
        number = int((asked.target.partition("skip=")[2] or "0").partition("&")[0])
        return [answer(200, json.dumps(self.pages[number]).encode(), {"Content-Type": "application/json"})]

    @property
    def paths(self) -> list[str]:
        return [each.path for each in self.asked if not each.path.endswith("/")]


def entry(name: str, url: str | None = "http://files.example/db/doc/x?token=s3cret", **changes: Any) -> dict[str, Any]:
    told = {"content_type": "text/plain", "length": None, "digest": "md5-x", "revpos": 1}
    return {"name": name, "url": url, **told, **changes}


def page(*entries: dict[str, Any], following: str | None = None, **changes: Any) -> dict[str, Any]:
    return {**TOLD, "attachments": list(entries), "next": following, **changes}


def get(desk: Desk, url: str = URL, output: str | None = None, **changes: Any) -> int:
    where = str(desk.directory / "out") if output is None else output
    return desk.do(Getting(desk.means(**changes), where).all([location(url)]))


def contents(desk: Desk) -> set[str]:
    return {str(path.relative_to(desk.directory)) for path in desk.directory.rglob("*") if not path.is_dir()}


def test_a_document(tmp_path: Path) -> None:
    """Of our own gateway."""
    attachments = {"a.bin": b"a" * 5000, "sub/b c.bin": b"b" * 10, "ü.txt": b""}
    house = House({name: Stored(content) for name, content in attachments.items()})
    desk = Desk(tmp_path, network=house.network)
    url = f"http://gateway.example:{GATEWAY_PORT}/db/doc/"
    assert get(desk, url, token=TOKEN) == Exit.DONE
    assert {name: desk.read(f"out/{name}") for name in attachments} == attachments
    assert contents(desk) == {f"out/{name}" for name in attachments}
    assert get(desk, f"{url}?token={TOKEN}") == Exit.DONE
    assert get(desk, f"{url}?token=other") == Exit.REFUSED
    assert not any(TOKEN in each for each in [*desk.notes.said, *desk.notes.failed])


TEXT = b"some text\n" * 500


@pytest.mark.parametrize(
    ("stored", "done"),
    [(Stored(TEXT), ""), (Stored.compressed(TEXT), ""), (Stored.encoded(gzip.compress(TEXT, mtime=0)), "+gunzip")],
)
def test_what_our_own_gateway_promises(tmp_path: Path, stored: Stored, done: str) -> None:
    """However it is stored: its listing is true of it, and so is the pin of its address."""
    house = House({"f.txt": stored})
    desk = Desk(tmp_path, network=house.network)
    url = f"http://gateway.example:{GATEWAY_PORT}/db/doc/"
    for number in range(2):
        assert get(desk, url, str(tmp_path / f"out{number}"), token=TOKEN) == Exit.DONE, desk.notes.failed
        assert desk.read(f"out{number}/f.txt") == TEXT
    pinned = f"{url}f.txt?token={TOKEN}&digest={quote(f'md5-{stored.etag}{done}', safe='')}"
    assert get(desk, pinned, str(tmp_path / "pinned")) == Exit.DONE, desk.notes.failed
    assert desk.read("pinned") == TEXT


def test_all_pages(tmp_path: Path) -> None:
    gallery = Gallery([page(entry("a"), following="http://files.example/?token=s3cret&skip=1"), page(entry("b"))])
    desk = Desk(tmp_path, gallery.factory())
    assert get(desk) == Exit.DONE
    assert contents(desk) == {"out/a", "out/b"}


@pytest.mark.parametrize("is_long", [False, True])
def test_an_address_that_is_too_long(tmp_path: Path, is_long: bool) -> None:
    """Python keeps what it has split last, so that a long one is not split. The other attachments come."""
    query = "?token=s3cret&x=".ljust(LONGEST + (1 if is_long else 0), "x")
    desk = Desk(tmp_path, Gallery([page(entry("a", query), entry("b"))]).factory())
    listing = desk.do(listing_of(desk.means(), location(URL)))
    assert [each.location is None for each in listing.attachments] == [is_long, False]


def test_a_next_page_whose_address_is_too_long(tmp_path: Path) -> None:
    gallery = Gallery([page(entry("a"), following="?skip=1&x=".ljust(LONGEST + 1, "x")), page(entry("b"))])
    desk = Desk(tmp_path, gallery.factory())
    with pytest.raises(Unusable, match="listing"):
        desk.do(listing_of(desk.means(), location(URL)))
    assert len(gallery.asked) == 1


def test_pages_without_an_end(tmp_path: Path) -> None:
    gallery = Gallery([page(entry("a"), following="?skip=0")])
    desk = Desk(tmp_path, gallery.factory())
    with pytest.raises(Unusable, match="pages"):
        desk.do(listing_of(desk.means(), location(URL)))
    assert len(gallery.asked) == MOST_PAGES


def test_a_document_that_changes_between_pages(tmp_path: Path) -> None:
    gallery = Gallery([page(entry("a"), following="?skip=1"), page(entry("b"), rev="2-x")])
    desk = Desk(tmp_path, gallery.factory())
    with pytest.raises(Unusable, match="changes faster"):
        desk.do(listing_of(desk.means(), location(URL)))
    assert len(gallery.asked) == 8


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.example:81/prefix/db/doc/a?token=s3cret",
        "https://files.example/a?token=s3cret",
        "http://files.example/other/place?token=s3cret",
        "//evil.example:81/a?token=s3cret",
        "file:///etc/passwd?token=s3cret",
        "?token=s3cret",
    ],
)
def test_no_address_leads_elsewhere(tmp_path: Path, url: str) -> None:
    """Where things are is known; of a page's addresses, only the queries are used."""
    evil = FileServer(b"evil")
    gallery = Gallery(
        [page(entry("a", url), following="http://evil.example:81/?token=s3cret&skip=1"), page(entry("b"))]
    )
    desk = Desk(tmp_path, gallery.factory())
    desk.network.listen(81, evil.factory())
    assert get(desk) == Exit.DONE
    assert gallery.paths == ["/prefix/db/doc/a", "/prefix/db/doc/b"]
    assert {each.target.partition("?")[2] for each in gallery.asked} >= {"token=s3cret"}
    assert not evil.asked


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("../../etc/passwd", "download/download/etc/passwd"),
        ("/etc/passwd", "download/etc/passwd"),
        ("..", "download"),
        ("a\\..\\b", "a_.._b"),
        (".bashrc", "_bashrc"),
        ("a\x1b[2J\nb", "a_[2J_b"),
        ("a.part", "_a.part_"),
        ("\ud800", "_"),
    ],
)
def test_names_that_lead_elsewhere(tmp_path: Path, name: str, file: str) -> None:
    if "\ud800" in name:
        name, file = "\ue000", "\ue000"
    desk = Desk(tmp_path, Gallery([page(entry(name))]).factory())
    assert get(desk) == Exit.DONE
    assert contents(desk) == {f"out/{file}"}
    assert not any(each in "".join(desk.notes.said) for each in "\x1b\n")


def test_links_that_lead_elsewhere(tmp_path: Path) -> None:
    """Somebody has laid them out in the directory."""
    (tmp_path / "victim").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "victim")
    (tmp_path / "out" / "c.part").symlink_to(tmp_path / "victim" / "c")
    desk = Desk(tmp_path, Gallery([page(entry("a/b"), entry("c"), entry("d"))]).factory())
    assert get(desk) == Exit.LOCAL
    assert not list((tmp_path / "victim").iterdir())
    assert len(desk.notes.failed) == 2
    assert desk.read("out/d") == b"/prefix/db/doc/d"


def test_one_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    gallery = Gallery([page(entry("a"), entry("b"), entry("c", None), entry("d"))], fails={"/a"})
    desk = Desk(tmp_path, gallery.factory())
    assert get(desk) == Exit.REFUSED
    assert contents(desk) == {"out/b", "out/d"}
    assert [each.split(": ")[1] for each in desk.notes.failed] == ["a", "c"]


@pytest.mark.parametrize(
    ("first", "second"), [("a?", "a*"), ("A", "a"), ("x", "x"), ("caf\u00e9", "cafe\u0301"), ("d/x", "d/X")]
)
def test_two_names_that_become_one(tmp_path: Path, first: str, second: str) -> None:
    desk = Desk(tmp_path, Gallery([page(entry(first), entry(second))]).factory())
    assert get(desk, replaces=True) == Exit.LOCAL
    assert len(contents(desk)) == 1
    assert "the same name" in desk.notes.failed[0]


def test_two_addresses_whose_files_have_one_name(tmp_path: Path) -> None:
    """Not even if files may be replaced: what has just been loaded is not what was meant by that."""
    desk = Desk(tmp_path, Gallery([]).factory())
    urls = [location(f"http://files.example/{each}/f.bin") for each in ("fails", "a", "b")]
    gallery = Gallery([], fails={"/fails"})
    desk.network.listen(80, gallery.factory())
    means = desk.means(replaces=True)
    assert desk.do(Getting(means, f"{tmp_path}/").all(urls[1:])) == Exit.LOCAL
    assert desk.read("f.bin") == b"/a/f.bin"
    assert desk.do(Getting(means, f"{tmp_path}/").all([urls[0], urls[2]])) == Exit.REFUSED
    assert desk.read("f.bin") == b"/b/f.bin", "what another command has loaded is replaced, and by the next address"


def digests(content: bytes) -> dict[str, str]:
    return {"sha-256": b64encode(sha256(content).digest()).decode(), "md5": b64encode(md5(content).digest()).decode()}


PATH = b"/prefix/db/doc/a"


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({"length": len(PATH), "repr_digest": digests(PATH)}, Exit.DONE),
        ({"length": len(PATH) + 1}, Exit.INCOMPLETE),
        ({"repr_digest": {"sha-256": digests(b"x")["sha-256"]}}, Exit.INCOMPLETE),
        ({"repr_digest": {"md5": digests(b"x")["md5"]}}, Exit.INCOMPLETE),
        ({"repr_digest": {"sha-256": "AA==", "md5": "\ud800", "x": 1}}, Exit.DONE),
        ({"repr_digest": {"sha-256": None, "md5": ["x"]}}, Exit.DONE),
        ({"repr_digest": "x"}, Exit.DONE),
    ],
)
@pytest.mark.parametrize("has_ranges", [True, False])
def test_what_the_listing_tells_is_what_comes(
    tmp_path: Path, told: dict[str, Any], status: Exit, has_ranges: bool
) -> None:
    gallery = Gallery([page(entry("a", **told))], has_ranges=has_ranges)
    desk = Desk(tmp_path, gallery.factory())
    assert get(desk) == status
    assert contents(desk) == ({"out/a"} if status is Exit.DONE else set())


PORTAL = [answer(200, b"<html>log in</html>", {"Content-Type": "text/html"})]
UNFRAMED = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nshrt\r\n0\r\n\r\n"]


@pytest.mark.parametrize(
    ("told", "script", "status"),
    [
        ({"length": len(PATH)}, PORTAL, Exit.INCOMPLETE),
        ({"length": len(PATH)}, UNFRAMED, Exit.WRONG),
        ({"repr_digest": digests(PATH)}, PORTAL, Exit.WRONG),
        ({"repr_digest": digests(b"shrt")}, UNFRAMED, Exit.DONE),
    ],
)
def test_what_comes_without_a_word_is_measured_by_the_listing(
    tmp_path: Path, told: dict[str, Any], script: Script, status: Exit
) -> None:
    gallery = Gallery([page(entry("a", **told))])
    server = FileServer(b"", before=lambda asked: gallery.respond(asked) if asked.path.endswith("/") else script)
    desk = Desk(tmp_path, server.factory())
    assert get(desk) == status
    assert contents(desk) == ({"out/a"} if status is Exit.DONE else set())
    assert status is not Exit.DONE or "verified with sha-256" in desk.notes.said[0]


def test_what_is_there_is_measured_by_the_listing(tmp_path: Path) -> None:
    """Where nobody else tells a digest."""
    gallery = Gallery([page(entry("a", repr_digest=digests(PATH)))], digests=())
    desk = Desk(tmp_path, gallery.factory())
    assert get(desk) == Exit.DONE
    assert get(desk) == Exit.DONE
    assert "is there already" in desk.notes.said[1]
    (tmp_path / "out" / "a").write_bytes(b"other")
    assert get(desk) == Exit.LOCAL


def test_a_file_and_what_is_below_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Gallery([page(entry("a"), entry("a/b"))]).factory())
    assert get(desk) == Exit.LOCAL
    assert contents(desk) == {"out/a"}


def test_a_part_of_another_name(tmp_path: Path) -> None:
    """``a.part`` is a good name for an attachment, and is not taken for the beginning of ``a``."""
    desk = Desk(tmp_path, Gallery([page(entry("a.part"), entry("a"))]).factory())
    assert get(desk) == Exit.DONE
    assert contents(desk) == {"out/_a.part_", "out/a"}


BAD: list[Any] = [
    [],
    None,
    "x",
    {},
    {**page(), "attachments": None},
    {**page(), "attachments": [1]},
    {**page(), "attachments": [{}]},
    {**page(), "next": 1},
    page(entry("a", 1)),  # type: ignore[arg-type]
    page({**entry("a"), "name": None}),
    {name: value for name, value in page().items() if name != "rev"},
]


@pytest.mark.parametrize("change", [{"name": "\ud800"}, {"url": "http://["}, {"url": "http://h/?\ud800"}, {"name": ""}])
def test_one_that_cannot_be_asked_for_does_not_stop_the_others(tmp_path: Path, change: dict[str, Any]) -> None:
    desk = Desk(tmp_path, Gallery([page({**entry("x"), **change}, entry("a"))]).factory())
    assert get(desk) == Exit.INCOMPLETE
    assert contents(desk) == {"out/a"}
    assert len(desk.notes.failed) == 1
    assert desk.notes.failed[0].isprintable()


@pytest.mark.parametrize("data", BAD)
def test_what_is_no_listing(data: Any) -> None:
    with pytest.raises(Unusable, match="no document's listing"):
        read_page(json.dumps(data).encode(), location(URL))


@pytest.mark.parametrize("body", [b"", b"<html>", b"[" * 100_000, b"\xff"])
def test_what_is_no_json(body: bytes) -> None:
    with pytest.raises(Unusable, match="no document's listing"):
        read_page(body, location(URL))


def test_a_page_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("txcouchdl.cli.listings.LONGEST_PAGE", 10_000)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    desk = Desk(tmp_path, FileServer(b"", before=lambda _: [head + b"1000\r\n%b\r\n" % bytes(4096) * 100]).factory())
    with pytest.raises(Unusable, match="longer than 10000 bytes"):
        desk.do(listing_of(desk.means(), location(URL)))


def test_pages_that_are_too_long_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = page(entry("a"), following="?skip=1"), page(entry("b"))
    both = len(json.dumps(first)) + len(json.dumps(second))
    desk = Desk(tmp_path, Gallery([first, second]).factory())
    monkeypatch.setattr("txcouchdl.cli.listings.LONGEST_LISTING", both)
    assert len(desk.do(listing_of(desk.means(), location(URL))).attachments) == 2
    monkeypatch.setattr("txcouchdl.cli.listings.LONGEST_LISTING", both - 1)
    with pytest.raises(Unusable, match="longer than"):
        desk.do(listing_of(desk.means(), location(URL)))


def test_more_attachments_than_anybody_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [page(entry("a"), following="?skip=1"), page(entry("b"))]
    desk = Desk(tmp_path, Gallery(pages).factory())
    monkeypatch.setattr("txcouchdl.cli.listings.MOST_ATTACHMENTS", 1)
    with pytest.raises(Unusable, match="more than 1 attachments"):
        desk.do(listing_of(desk.means(), location(URL)))


@pytest.mark.parametrize("steps", [[Mark.CLOSE], [answer(503, b"")], [answer(200, b"{", length=9), Mark.CLOSE]])
def test_a_page_that_breaks_off_is_asked_for_again(tmp_path: Path, steps: Script) -> None:
    gallery = Gallery([page(entry("a"))])
    numbers = iter(range(10))
    server = FileServer(b"", before=lambda asked: steps if next(numbers) < 3 else gallery.respond(asked))
    desk = Desk(tmp_path, server.factory())
    assert len(desk.do(listing_of(desk.means(), location(URL))).attachments) == 1


def test_no_document(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FileServer(b"", before=lambda _: [answer(403, b"")]).factory())
    with pytest.raises(Refused):
        desk.do(listing_of(desk.means(), location(URL)))


# What is shown of it.


def listing(*entries: dict[str, Any]) -> Any:
    return read_page(json.dumps(page(*entries)).encode(), location(URL))


def test_lines() -> None:
    (listed,) = listing(entry("a\tb\x1b[2J", length=3)).attachments
    assert line_of(listed) == "a\ufffdb\ufffd[2J\ttext/plain\t3\tmd5-x"


@pytest.mark.parametrize("length", [None, "3", -1, True, 3.5])
def test_what_is_not_known(length: Any) -> None:
    (listed,) = listing({**entry("a"), "length": length, "content_type": 7, "digest": None}).attachments
    assert line_of(listed) == "a\t\t\t"


def test_json_has_no_secrets() -> None:
    text = json_of(listing({**entry("ü\x1b", length=3), "more": "s3cret", "repr_digest": {"md5": "x"}}))
    assert "s3cret" not in text
    assert text.isascii()
    assert json.loads(text) == {
        **TOLD,
        "attachments": [
            {"name": "ü\x1b", "content_type": "text/plain", "length": 3, "digest": "md5-x", "revpos": 1}
            | {"repr_digest": {"md5": "x"}}
        ],
    }


def test_no_address_in_repr() -> None:
    assert "s3cret" not in repr(Listed("a", location(URL), {}))


# Where to.


@pytest.mark.parametrize(("output", "file"), [("x", "x"), ("dir", "dir/f.bin"), ("dir/", "dir/f.bin")])
def test_where_a_file_goes(tmp_path: Path, output: str, file: str) -> None:
    (tmp_path / "dir").mkdir()
    desk = Desk(tmp_path, FileServer(b"x").factory())
    trailing = "/" if output.endswith("/") else ""
    assert get(desk, "http://files.example/db/doc/f.bin", str(tmp_path / output) + trailing) == Exit.DONE
    assert contents(desk) == {file}


def test_where_there_is_no_directory(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FileServer(b"x").factory())
    assert get(desk, "http://files.example/db/doc/f.bin", str(tmp_path / "no" / "x")) == Exit.LOCAL
    assert get(desk, URL, str(tmp_path / "no" / "x")) != Exit.DONE
    assert contents(desk) == set()
    assert LocalTrouble.status is Exit.LOCAL
