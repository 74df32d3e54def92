"""What ``couchdl check`` finds out about servers of all kinds, and what it makes of it."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.cli.desk import Desk, FileServer, location
from tests.gateway.house import GATEWAY_PORT, TOKEN, House
from tests.scripted import Asked, Script, Stored, answer
from txcouchdl.cli.check import examine, json_of
from txcouchdl.cli.findings import Finding, Verdict, is_right
from txcouchdl.cli.outcomes import Passing, Refused

NOISE = random.Random(51).randbytes(5000)


def check(tmp_path: Path, server: FileServer, url: str = "http://files.example/f") -> list[Finding]:
    desk = Desk(tmp_path, server.factory())
    return desk.do(examine(desk.means(), location(url)))


def verdicts(findings: list[Finding]) -> dict[str, Verdict]:
    return {each.subject: each.verdict for each in findings}


def worse(findings: list[Finding]) -> dict[str, str]:
    """All that is not good, by what was looked at."""
    return {each.subject: each.verdict.value for each in findings if each.verdict is not Verdict.GOOD}


class Careful(FileServer):
    """All that is to be asked for."""

    def answer(self, asked: Asked) -> Script:
        if asked.headers.get("if-none-match", "none") == self.etag:
            return [answer(304, b"", self.fields(), length=0)]
        if asked.headers.get("if-match", self.etag) != self.etag:
            return [answer(412, b"")]
        if asked.headers.get("range", "").startswith("bytes=0-0,"):
            fields = {**self.fields(), "Content-Type": "multipart/byteranges; boundary=x"}
            return [answer(206, b"--x--", fields)]
        return super().answer(asked)


def careful(content: bytes = NOISE, **changes: Any) -> FileServer:
    server = Careful(content, **changes)
    server.changes.setdefault("Cache-Control", "private")
    return server


@pytest.mark.parametrize(
    "stored", [Stored(NOISE), Stored.compressed(NOISE.hex().encode()), Stored(b"abc"), Stored(b"a")]
)
def test_our_gateway(tmp_path: Path, stored: Stored) -> None:
    """Everything is right; of few bytes several ranges are one, and what it has compressed has no digest yet."""
    house = House({"f": stored})
    desk = Desk(tmp_path, network=house.network)
    url = location(f"http://gateway.example:{GATEWAY_PORT}/db/doc/f?token={TOKEN}")
    findings = desk.do(examine(desk.means(), url))
    assert is_right(findings)
    assert worse(findings).keys() <= {"Repr-Digest", "several ranges"}
    assert len(findings) == 18


def test_a_careful_server(tmp_path: Path) -> None:
    findings = check(tmp_path, careful())
    assert worse(findings) == {}
    assert is_right(findings)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"digests": ()}, {"Repr-Digest": "warn"}),
        ({"etag": None}, {"ETag": "fail"}),
        ({"etag": 'W/"x"'}, {"ETag": "fail"}),
        (
            {"heeds_if_range": False},
            {"If-Range: another version": "fail"},
        ),
    ],
)
def test_what_a_server_lacks(tmp_path: Path, change: dict[str, Any], expected: dict[str, str]) -> None:
    findings = check(tmp_path, careful(**change))
    assert worse(findings) == expected or change.get("etag", "x") != "x"
    assert worse(findings).items() >= expected.items()
    assert is_right(findings) == ("fail" not in expected.values())


def test_a_plain_server_without_ranges(tmp_path: Path) -> None:
    findings = check(tmp_path, FileServer(NOISE, etag=None, digests=(), has_ranges=False))
    found = verdicts(findings)
    assert {subject for subject, verdict in found.items() if verdict is Verdict.FAIL} == {
        "ETag",
        "overlapping ranges",
        *(subject for subject in found if subject.startswith("range: ") and "behind" not in subject),
    }
    assert not is_right(findings)
    assert any("players cannot seek" in each.meaning for each in findings)


def lying(key: str, lie: Any) -> FileServer:
    """One that is careful but for one kind of request."""
    server = careful()

    def before(asked: Asked) -> Script | None:
        script: Script | None = lie(server, asked) if key in str(asked.headers) else None
        return script

    server.before = before
    return server


def _moved(server: FileServer, asked: Asked) -> Script:
    """The right head, and other bytes."""
    (right,) = server.answer(asked)
    assert isinstance(right, bytes)
    head, _, body = right.partition(b"\r\n\r\n")
    return [head + b"\r\n\r\n" + bytes(len(body))]


def _status(status: int) -> Any:
    return lambda server, asked: [answer(status, b"", server.fields())]


def _coded(etag: str | None) -> Any:
    def lie(server: FileServer, asked: Asked) -> Script:
        return [answer(200, b"x", {**server.fields(), "Content-Encoding": "gzip", "ETag": etag or str(server.etag)})]

    return lie


def _tagged(etag: str | None) -> Any:
    """All as it is, under another tag, or none."""

    def lie(server: FileServer, asked: Asked) -> Script:
        right, server.etag = server.etag, etag
        try:
            return server.answer(asked)
        finally:
            server.etag = right

    return lie


def _without_length(server: FileServer, asked: Asked) -> Script:
    head = b"HTTP/1.1 200 OK\r\n" + b"".join(f"{name}: {value}\r\n".encode() for name, value in server.fields().items())
    return [head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(NOISE), NOISE)]


def _labelled(server: FileServer, asked: Asked) -> Script:
    """All as it is, but for a coding that it is said to be in."""
    return [answer(200, NOISE, {**server.fields(), "Content-Encoding": "br"})]


def _shorter(server: FileServer, asked: Asked) -> Script:
    return [answer(200, NOISE[:-1], server.fields())]


WHOLE = "GET of all, as a browser begins"


@pytest.mark.parametrize(
    ("key", "lie", "expected"),
    [
        ("bytes=2500-", _moved, {"overlapping ranges": "fail", "Accept-Encoding: gzip": None}),
        ("bytes=-64", _moved, {"overlapping ranges": "fail"}),
        ("bytes=-64", _status(200), {"range: the last bytes, as players look for an index": "fail"}),
        ("bytes=-64", _status(416), {"range: the last bytes, as players look for an index": "fail"}),
        ("bytes=4936-4999", _status(206), {"range: the end": "fail"}),
        ("bytes=0-0,", _status(206), {"several ranges": "fail"}),
        ("bytes=0-0,", _status(200), {"several ranges": "warn"}),
        ("bytes=0-0,", _status(416), {"several ranges": "warn"}),
        ("bytes=5000-", _status(416), {"range: behind the end": "warn"}),
        ("bytes=5000-", _status(206), {"range: behind the end": "fail"}),
        ("bytes=5000-", _status(200), {"range: behind the end": "warn"}),
        ("gzip, br", _moved, {"Accept-Encoding: gzip": "fail"}),
        ("gzip, br", _coded(None), {"Accept-Encoding: gzip": "fail"}),
        ("gzip, br", _coded('"version-1-gzip"'), {"Accept-Encoding: gzip": "warn"}),
        ("deflate", _coded(None), {WHOLE: "fail"}),
        ("deflate", _coded('"version-1-gzip"'), {WHOLE: "fail"}),
        ("deflate", _tagged('"version-1-gzip"'), {WHOLE: "fail", "ETag": "fail"}),
        ("deflate", _tagged('W/"version-1"'), {WHOLE: "fail", "ETag": "fail"}),
        ("deflate", _tagged(None), {WHOLE: "fail"}),
        ("deflate", _labelled, {WHOLE: "fail"}),
        ("deflate", _moved, {WHOLE: "fail"}),
        ("deflate", _without_length, {WHOLE: "warn"}),
        ("deflate", _shorter, {WHOLE: "fail"}),
        ("deflate", _status(206), {WHOLE: "fail"}),
        ("deflate", _status(406), {WHOLE: "fail"}),
        ("'if-range': '\"version", _status(200), {"If-Range: the same version": "fail"}),
        ("'if-range': '\"version", _moved, {"If-Range: the same version": "fail"}),
        ("couchdl-check-other-version", _status(206), {"If-Range: another version": "fail"}),
        ("couchdl-check-other-version", _status(412), {"If-Range: another version": "fail"}),
        ("if-match", _status(200), {"If-Match: another version": "warn"}),
        ("if-none-match", _status(200), {"If-None-Match": "warn"}),
    ],
)
def test_lies(tmp_path: Path, key: str, lie: Any, expected: dict[str, str | None]) -> None:
    findings = check(tmp_path, lying(key, lie))
    found = worse(findings)
    wanted = {name: verdict for name, verdict in expected.items() if verdict is not None}
    assert found.items() >= wanted.items()
    assert is_right(findings) == ("fail" not in found.values())


def test_a_coding_of_another_version_is_no_change(tmp_path: Path) -> None:
    """Of who asks for codings the tag has to be another: that does not count against it."""
    found = worse(check(tmp_path, lying("gzip, br", _coded('"version-1-gzip"'))))
    assert found == {"Accept-Encoding: gzip": "warn"}


@pytest.mark.parametrize(
    ("url", "control", "verdict"),
    [
        ("http://files.example/f?token=x", None, Verdict.WARN),
        ("http://files.example/f?token=x", "max-age=60", Verdict.WARN),
        ("http://files.example/f?token=x", "max-age=60, Private", Verdict.GOOD),
        ("http://files.example/f?token=x", "no-store", Verdict.GOOD),
        ("http://files.example/f", None, Verdict.GOOD),
    ],
)
def test_caches(tmp_path: Path, url: str, control: str | None, verdict: Verdict) -> None:
    server = careful(changes={"Cache-Control": control})
    assert verdicts(check(tmp_path, server, url))["Cache-Control"] is verdict


def test_a_tag_that_changes_always(tmp_path: Path) -> None:
    server = careful()

    def change(_: Asked) -> None:
        server.etag = f'"{len(server.asked)}"'

    server.before = change
    assert verdicts(check(tmp_path, server))["ETag"] is Verdict.FAIL


@pytest.mark.parametrize("length", [9999, 1])
def test_a_head_that_lies(tmp_path: Path, length: int) -> None:
    server = careful()
    server.before = lambda asked: (
        [answer(200, b"", server.fields(), length=length)]
        if asked.headers.get("accept-encoding") == "identity" and asked.method == "HEAD"
        else None
    )
    findings = check(tmp_path, server)
    assert worse(findings) == {"HEAD": "fail"}
    assert not is_right(findings)


@pytest.mark.parametrize("status", [405, 501])
def test_without_head(tmp_path: Path, status: int) -> None:
    server = careful()
    server.before = lambda asked: [answer(status, b"")] if asked.method == "HEAD" else None
    findings = check(tmp_path, server)
    assert worse(findings) == {"HEAD": "warn"}


@pytest.mark.parametrize("server", [careful(b""), FileServer(b"", etag=None, has_ranges=False)])
def test_nothing_can_be_said_of_an_empty_file(tmp_path: Path, server: FileServer) -> None:
    assert verdicts(check(tmp_path, server))["ranges"] is Verdict.FAIL


def test_few_bytes_are_asked_for(tmp_path: Path) -> None:
    server = careful(NOISE * 1000)
    desk = Desk(tmp_path, server.factory())
    desk.do(examine(desk.means(), location("http://files.example/f")))
    assert len(server.asked) < 20
    assert sum(near.peer.delivered for near, _ in desk.network.connections) < 10**6


def test_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused):
        check(tmp_path, FileServer(NOISE, before=lambda _: [answer(403, b"")]))


def test_busy(tmp_path: Path) -> None:
    with pytest.raises(Passing):
        check(tmp_path, FileServer(NOISE, before=lambda _: [answer(503, b"")]))


def test_json(tmp_path: Path) -> None:
    told = json.loads(json_of(check(tmp_path, careful())))
    assert told["is_right"] is True
    assert {"verdict": "pass", "subject": "HEAD", "meaning": "tells the length: 5000 bytes"} in told["findings"]
