"""
The benchmarks: that they run, that their arithmetic is right, and that their load generator does not count wrong
answers. No test says how fast anything is.
"""

import json
import math
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from benchmarks import figures, report
from benchmarks.content import bytes_at, pieces, write_file
from benchmarks.contestants import CONTESTANTS, OURS, TWO_WORKERS
from benchmarks.goals import Outcome, outcomes
from benchmarks.load import Load, Request, WrongAnswer, run_load
from benchmarks.rounds import Results
from benchmarks.upstreams import nginx_command
from benchmarks.works import QUICK, choose, load_works

#: Figures of which nothing is a good value.
_MAY_BE_NOTHING = {"stalled_cpu_percent", "kib_per_stream", "socket_kib_per_stream"}


@pytest.mark.skipif(nginx_command() is None, reason="nginx, the upstream, is not installed")
def test_a_quick_run(tmp_path: Path) -> None:
    """Everybody who is here is measured, and nothing of it stays."""
    written, document = tmp_path / "figures.json", tmp_path / "page.rst"
    document.write_text(f"Before.\n\n{report.BEGIN}\n\n{report.END}\n\nBehind.\n", "utf-8")
    room = tmp_path / "room"
    room.mkdir()
    command = [sys.executable, "-m", "benchmarks", "--quick", "--json", str(written), "--rst", str(document)]
    run = subprocess.run(
        command,
        cwd=Path(__file__).parent.parent,
        env={name: value for name, value in os.environ.items() if name != "COUCHDB_URL"} | {"TMPDIR": str(room)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "CPU ms/request" in run.stdout
    assert not list(room.iterdir())
    told = json.loads(written.read_text("utf-8"))
    assert measured(told) == {name for name in CONTESTANTS if name not in told["skipped"]}
    assert OURS in measured(told)
    assert not [name for name in told["skipped"] if shutil.which(name) and name != TWO_WORKERS]
    for value in all_figures(told):
        assert math.isfinite(value)
        assert value > 0
    assert all(goal["is_met"] in (True, False, None) for goal in told["goals"])
    assert ".. list-table::" in document.read_text("utf-8")


def measured(told: dict[str, Any]) -> set[str]:
    return {name for work in told["works"] for name in work["contestants"]}


def all_figures(told: dict[str, Any]) -> Iterator[float]:
    for work in told["works"]:
        for contestant in work["contestants"].values():
            for each in contestant["rounds"]:
                yield from (value for name, value in each.items() if name not in _MAY_BE_NOTHING)


# The arithmetic


def test_medians_and_ratios() -> None:
    rounds = [{"a": 1.0, "b": 5.0}, {"a": 3.0, "b": 6.0, "c": 1.0}, {"a": 100.0, "b": 7.0}]
    assert figures.medians(rounds) == {"a": 3.0, "b": 6.0}
    assert figures.ratios({"a": 6.0, "b": 1.0, "d": 1.0}, {"a": 3.0, "b": 0.0}) == {"a": 2.0}


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_a_percentile(share: float, value: float) -> None:
    assert figures.percentile(list(range(100, 0, -1)), share) == value


def test_figures_of_a_load() -> None:
    load = Load(seconds=2.0, body_bytes=4_000_000, own_cpu=0.5, first_byte=[0.001] * 4, complete=[0.002] * 4)
    told = figures.of_load(load, {1: 0.1, 2: 0.3})
    assert told["cpu_s_per_gb"] == pytest.approx(100)
    assert told["cpu_ms_per_request"] == pytest.approx(100)
    assert told["capacity"] == pytest.approx(4 / 0.3)
    assert told["mb_per_s"] == pytest.approx(2)
    assert told["requests_per_s"] == pytest.approx(2)
    assert told["first_byte_p50_ms"] == pytest.approx(1)
    assert told["complete_p99_ms"] == pytest.approx(2)
    assert told["load_busy"] == pytest.approx(0.25)


def test_an_upstream_has_no_cpu_figures() -> None:
    load = Load(seconds=1.0, first_byte=[0.1], complete=[0.1])
    assert not {"cpu_s_per_gb", "cpu_ms_per_request", "mb_per_s"} & figures.of_load(load, {}).keys()


@pytest.mark.parametrize(
    ("value", "bound", "is_most", "is_met"),
    [(1, 1, True, True), (2, 1, True, False), (1, 1, False, True), (0.5, 1, False, False), (None, 1, True, None)],
)
def test_a_goal(value: float | None, bound: float, is_most: bool, is_met: bool | None) -> None:
    assert Outcome("", value, bound, is_most).is_met is is_met


def test_goals_of_a_run() -> None:
    results = Results(md5=[1.5])
    results.rounds["rest"] = {OURS: [{"cpu_s_per_gb": 0.2}], "nginx": [{"cpu_s_per_gb": 0.5}]}
    results.rounds["whole"] = {OURS: [{"cpu_s_per_gb": 1.8}]}
    told = {outcome.title: outcome.is_met for outcome in outcomes(results)}
    assert told["rest: CPU s/GB at most 0.35 x nginx"] is False
    assert told["rest: CPU s/GB at most 0.3 x aiohttp"] is None
    assert told["whole: CPU s/GB at most md5's own + 0.2"] is False


def test_what_stands_around_the_table_stays() -> None:
    document = f"Before.\n{report.BEGIN}\nold\n{report.END}\nBehind.\n"
    assert report.replace_generated(document, "new\n") == f"Before.\n{report.BEGIN}\n\nnew\n\n{report.END}\nBehind.\n"
    with pytest.raises(ValueError, match="no place"):
        report.replace_generated("Nothing.", "new")


def test_works_are_chosen_by_how_their_names_begin() -> None:
    works = load_works(QUICK)
    assert [work.name for work in choose(works, ["64k-1"])] == ["64k-1", "64k-16"]
    assert choose(works, []) == works
    with pytest.raises(ValueError, match="no work begins"):
        choose(works, ["sleep"])


# The bytes


def test_bytes_are_those_of_their_place(tmp_path: Path) -> None:
    whole = b"".join(pieces(3_000_001))
    assert len(whole) == 3_000_001
    write_file(tmp_path / "file", len(whole))
    assert (tmp_path / "file").read_bytes() == whole
    for first_pos, count in ((0, 1), (1023, 2), (1024, 1024), (5000, 70_000), (2_999_999, 2)):
        assert bytes_at(first_pos, count) == whole[first_pos : first_pos + count]


# The load generator


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[str, int]]:
    """A server that has one answer for everything; it closes its connections when it is left."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = Thread(target=answer_all, args=(listening, answer))
        thread.start()
        try:
            yield listening.getsockname()
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def answer_all(listening: socket.socket, answer: bytes) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection:
            while connection.recv(65536):
                connection.sendall(answer)
                if b"X-Break: yes" in answer:
                    break


def response(body: bytes, status: str = "206 Partial Content", more: str = "", length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{more}\r\n".encode() + body


_RIGHT = bytes_at(5000, 2000)


def test_right_answers_are_counted() -> None:
    request = Request(b"GET / HTTP/1.1\r\n\r\n", 206, len(_RIGHT), 5000)
    with answering(response(_RIGHT)) as address:
        load = run_load(address, repeat(request), 1, 0, 25)
    assert load.requests == len(load.first_byte) == 25
    assert load.body_bytes == 25 * len(_RIGHT)


def test_a_body_that_is_not_compared_is_counted() -> None:
    with answering(response(bytes(300_000))) as address:
        load = run_load(address, repeat(Request(b"GET / HTTP/1.1\r\n\r\n", 206, 300_000)), 1, 0, 3)
    assert load.body_bytes == 900_000


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (response(_RIGHT, "200 OK"), "where 206 should be"),
        (response(_RIGHT[:-1]), "1999 bytes where 2000 should be"),
        (response(b"X" + _RIGHT[1:]), "wrong bytes"),
        (response(bytes_at(5001, 2000)), "wrong bytes"),
        (response(_RIGHT + b"X", length=2000), "1 bytes behind"),
        (response(_RIGHT[:-1], more="X-Break: yes\r\n", length=2000), "1 of 2000 bytes did not come"),
        (b"HTTP/1.1 206 Partial Content\r\n\r\n" + _RIGHT, "no length"),
        (b"HTTP/1.1 206 Partial\r\nX-Break: yes\r\n", "closed before an answer"),
    ],
    ids=["status", "length", "a byte", "shifted", "long", "short", "no length", "no head"],
)
def test_a_wrong_answer_ends_a_run(answer: bytes, complaint: str) -> None:
    request = Request(b"GET / HTTP/1.1\r\n\r\n", 206, len(_RIGHT), 5000)
    with answering(answer) as address, pytest.raises(WrongAnswer, match=complaint):
        run_load(address, repeat(request), 1, 0, 3)
