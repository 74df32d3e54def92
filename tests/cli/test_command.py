"""The command as a process: what it exits with, what it says, what it leaves, and what kills make of it."""

import os
import pty
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from time import monotonic, time

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.inotify import IN_MOVED_TO, INotify
from twisted.python.filepath import FilePath

from tests.certificates import certify
from tests.cli.command import COMMAND, Command, Ended, installed, run, start
from tests.clients.programs import in_thread
from tests.clients.served import DATABASE, TOKEN, Door, Served, door, sha, sha_of
from tests.faults import Fault, NoFault, Stall
from tests.running import ANY_PORT, PATIENCE, environment, nobody, running
from tests.scripted import Asked
from tests.servers import reactor
from txcouchdl.cli.record import Record, read_record
from txcouchdl.links import Link
from txcouchdl.protocol.ranges import ByteRange


def link(served: Served, name: str = "small.txt", query: str = f"?token={TOKEN}") -> str:
    return f"http://127.0.0.1:{served.port}/db/files/{name}{query}"


SMALL = b"small\n" * 100


def test_get(served: Served, tmp_path: Path) -> None:
    ended = installed(tmp_path, "get", link(served))
    assert (ended.status, ended.out) == (0, "")
    assert ended.err.startswith("small.txt: 600 bytes, ")
    assert (tmp_path / "small.txt").read_bytes() == SMALL
    assert os.listdir(tmp_path) == ["small.txt"]


def test_quietly(served: Served, tmp_path: Path) -> None:
    ended = run(tmp_path, "get", "-q", "-o", "x", link(served))
    assert (ended.status, ended.out, ended.err) == (0, "", "")


def test_what_is_large_and_verified(served: Served, tmp_path: Path, content: bytes) -> None:
    ended = run(tmp_path, "get", "-j", "3", link(served, "noise.bin"))
    assert ended.status == 0
    assert sha_of(tmp_path / "noise.bin") == sha(content)


def test_a_document(served: Served, tmp_path: Path) -> None:
    assert run(tmp_path, "get", link(served, "")).status == 0
    assert sorted(os.listdir(tmp_path / "files")) == ["noise.bin", "small.txt"]


def test_several(served: Served, tmp_path: Path) -> None:
    """The first that fails gives the status."""
    urls = [link(served), link(served, "missing"), link(served, query="?token=wrong"), link(served, "noise.bin")]
    assert run(tmp_path, "get", *urls).status == 3
    assert sorted(os.listdir(tmp_path)) == ["noise.bin", "small.txt"]
    assert run(tmp_path, "get", "-o", "x", *urls).status == 2


def test_ls(served: Served, tmp_path: Path) -> None:
    ended = run(tmp_path, "ls", link(served, ""))
    assert ended.status == 0
    assert [line.split("\t")[:3] for line in ended.out.splitlines()] == [
        ["noise.bin", "application/octet-stream", str(24 * 2**20)],
        ["small.txt", "text/plain", "600"],
    ]
    ended = run(tmp_path, "ls", "--json", link(served, ""))
    assert '"total": 2' in ended.out
    assert "token" not in ended.out


def test_check(served: Served, tmp_path: Path) -> None:
    ended = run(tmp_path, "check", link(served, "noise.bin"))
    assert ended.status == 0, ended.out
    assert "fail" not in ended.out
    assert run(tmp_path, "check", link(served, "missing")).status == 3


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ((), 2),
        (("get",), 2),
        (("get", "ftp://h/x"), 2),
        (("get", "http://u:s3cret@h/x"), 2),
        (("get", "-j", "0", "http://h/x"), 2),
        (("get", "--token-file", "missing", "http://h/x"), 5),
        (("get", "--token-file", "two", "http://h/x"), 5),
        (("--help",), 0),
        (("get", "--help"), 0),
        (("--version",), 0),
    ],
)
def test_statuses_without_a_server(tmp_path: Path, arguments: tuple[str, ...], status: int) -> None:
    (tmp_path / "two").write_text("s3cret\ns3cret")
    ended = run(tmp_path, *arguments)
    assert ended.status == status
    assert "s3cret" not in ended.out + ended.err


def test_statuses_are_documented(tmp_path: Path) -> None:
    said = run(tmp_path, "get", "--help").out
    assert all(f"\n    {each}  " in said for each in (0, 1, 2, 3, 4, 5))
    assert "130, 143" in said


def test_nobody_answers(tmp_path: Path) -> None:
    with nobody() as port:
        ended = run(tmp_path, "get", "--retries", "0", f"http://127.0.0.1:{port}/x?token=s3cret")
    assert ended.status == 1
    assert ended.err == (
        f"couchdl: http://127.0.0.1:{port}/x?token=***: nobody answers there: connection refused; "
        "to go on, run the same command again\n"
    )


def test_a_file_that_is_there(served: Served, tmp_path: Path) -> None:
    (tmp_path / "small.txt").write_bytes(b"mine")
    ended = run(tmp_path, "get", link(served))
    assert ended.status == 5
    assert "--force" in ended.err
    assert (tmp_path / "small.txt").read_bytes() == b"mine"
    assert run(tmp_path, "get", "--force", link(served)).status == 0
    assert (tmp_path / "small.txt").read_bytes() == SMALL


def test_a_directory_that_cannot_be_written(served: Served, tmp_path: Path) -> None:
    ended = run(tmp_path, "get", "-o", "/proc/x", link(served))
    assert (ended.status, ended.out) == (5, "")
    assert "/proc/x" in ended.err


# Secrets.


@pytest.mark.parametrize("way", ["environment", "file", "address"])
@pytest.mark.parametrize("token", [TOKEN + "x" * 30, TOKEN])
def test_no_secret_is_told(served: Served, tmp_path: Path, way: str, token: str) -> None:
    """Right or wrong: nothing that is written has it in it."""
    (tmp_path / "token").write_text(f"{token}\n")
    query = f"?token={token}" if way == "address" else ""
    arguments = ("--token-file", "token") if way == "file" else ()
    more = {"COUCHDL_TOKEN": token} if way == "environment" else {}
    home = tmp_path / "home"
    home.mkdir()
    options = [str(tmp_path / each) if each == "token" else each for each in arguments]
    ended = run(home, "get", *options, link(served, query=query), **more)
    assert ended.status == (0 if token == TOKEN else 3)
    if token != TOKEN:
        written = [path.read_text("latin-1") for path in home.rglob("*") if path.is_file()]
        assert not any(token in each for each in [ended.out, ended.err, *written])


# Interrupted.


def saved(home: Path) -> Record | None:
    """What the state claims now."""
    try:
        return read_record((home / "noise.bin.part.state").read_bytes())
    except FileNotFoundError:
        return None


async def until_saved(home: Path, count: int) -> Record:
    """Until the state claims as many bytes: behind them all answers stall."""
    found: Deferred[Record] = Deferred()

    def look(*_: object) -> None:
        record = saved(home)
        if record is not None and record.done.count >= count and not found.called:
            found.callback(record)

    notifier = INotify(reactor)
    notifier.startReading()
    notifier.watch(FilePath(str(home)), IN_MOVED_TO, callbacks=[look])
    look()
    try:
        return await found.addTimeout(PATIENCE, reactor)
    finally:
        notifier.loseConnection()


def asked_ranges(it: Door) -> list[ByteRange]:
    texts = [each.removeprefix("bytes=").split("-") for each in it.ranges if each is not None]
    return [ByteRange(int(first), int(last)) for first, last in texts]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@ensureDeferred
async def test_a_signal(served: Served, tmp_path: Path, content: bytes, number: signal.Signals, status: int) -> None:
    """What is there is saved, and how to go on is said."""
    async with door(served, decide=lambda _: Stall(3_000_000)) as it:
        process = start(tmp_path, "get", it.url("files", "noise.bin"))
        await until_saved(tmp_path, 3_000_000)
        process.send_signal(number)
        ended = await in_thread(process.end)
        assert ended.status == status
        assert ended.err == "couchdl: interrupted; to go on, run the same command again\n"
        before = saved(tmp_path)
        assert before is not None
        it.schedule.applied.clear()
        it.schedule.decide = _nothing
        assert (await in_thread(run, tmp_path, "get", it.url("files", "noise.bin"))).status == 0
        assert not _again(it, before)
    assert sha_of(tmp_path / "noise.bin") == sha(content)


def _again(it: Door, before: Record) -> list[ByteRange]:
    """What was asked for, although it was there."""
    return [
        asked
        for asked in asked_ranges(it)
        if any(asked.first <= each.last and each.first <= asked.last for each in before.done)
    ]


@ensureDeferred
async def test_behind_the_end_of_a_link(served: Served, tmp_path: Path, content: bytes) -> None:
    """What was begun in time is gone on with in the link's grace; what was not is refused."""

    def link_that_ends(span: int) -> str:
        end = int(time()) + span
        link = Link(database=DATABASE, document_id="files", attachment="noise.bin", expires=end)
        return f"/{DATABASE}/files/noise.bin?{link.query(TOKEN.encode())}"

    async with door(served, decide=lambda _: Stall(3_000_000)) as it:
        process = start(tmp_path, "get", f"http://127.0.0.1:{it.port}{link_that_ends(3600)}")
        before = await until_saved(tmp_path, 3_000_000)
        process.send_signal(signal.SIGKILL)
        await in_thread(process.end)
        it.schedule.applied.clear()
        it.schedule.decide = _nothing
        url = f"http://127.0.0.1:{it.port}{link_that_ends(-60)}"
        ended = await in_thread(run, tmp_path, "get", url)
        assert ended.status == 0, ended.err
        assert not _again(it, before)
        assert sha_of(tmp_path / "noise.bin") == sha(content)
        assert (await in_thread(run, tmp_path, "get", "-o", "another.bin", url)).status == 3
    assert not (tmp_path / "another.bin").exists()


@ensureDeferred
async def test_kill_9(served: Served, tmp_path: Path, content: bytes) -> None:
    """Again and again, and the locks of the dead are none; no byte is asked for that the state claims."""
    before: Record | None = None
    kills = 0
    async with door(served, decide=_nothing) as it:
        for after in (1_000_000, 2_500_000, 1, 3_999_999):
            it.schedule.applied.clear()
            it.schedule.decide = lambda _, after=after: Stall(after)  # type: ignore[misc]
            process = start(tmp_path, "get", "-j", str(1 + kills % 4), it.url("files", "noise.bin"))
            there = 0 if before is None else before.done.count
            await until_saved(tmp_path, there + after)
            process.send_signal(signal.SIGKILL)
            assert (await in_thread(process.end)).status == -signal.SIGKILL
            kills += 1
            assert before is None or not _again(it, before)
            before = saved(tmp_path)
            assert before is not None
            _assert_claims_are_true(tmp_path, before, content)
        it.schedule.applied.clear()
        it.schedule.decide = _nothing
        assert (await in_thread(run, tmp_path, "get", it.url("files", "noise.bin"))).status == 0
        assert before is not None
        assert sum(each.length for each in asked_ranges(it)) <= 2 * (len(content) - before.done.count)
    assert sha_of(tmp_path / "noise.bin") == sha(content)
    assert os.listdir(tmp_path) == ["noise.bin"]
    assert kills == 4


def _assert_claims_are_true(home: Path, record: Record, content: bytes) -> None:
    data = (home / "noise.bin.part").read_bytes()
    for each in record.done:
        assert sha(data[each.first : each.last + 1]) == sha(content[each.first : each.last + 1])


@ensureDeferred
async def test_killed_somewhere(served: Served, tmp_path: Path, content: bytes) -> None:
    """At moments that nobody chose: what has the file's name is the file."""
    kills, file = 0, tmp_path / "noise.bin"
    for number in range(0, 6, 2):
        process = start(tmp_path, "get", link(served, "noise.bin"))
        await in_thread(_wait_for_size, tmp_path, process, number)
        process.send_signal(signal.SIGKILL)
        kills += (await in_thread(process.end)).status == -signal.SIGKILL
        if file.exists():
            assert sha_of(file) == sha(content)
            file.unlink()
    assert kills
    assert (await in_thread(run, tmp_path, "get", "--force", link(served, "noise.bin"))).status == 0
    assert sha_of(tmp_path / "noise.bin") == sha(content)


def _nothing(_: Asked) -> Fault:
    return NoFault()


def _wait_for_size(home: Path, process: Command, number: int) -> None:
    """Until the file has so many sixths of its blocks, or the process has ended."""
    deadline = monotonic() + PATIENCE
    while process.is_alive and monotonic() < deadline:
        try:
            if (home / "noise.bin.part").stat().st_blocks * 512 > number * 4 * 2**20:
                return
        except FileNotFoundError:
            pass
        os.sched_yield()


@ensureDeferred
async def test_two_at_a_time(served: Served, tmp_path: Path) -> None:
    async with door(served, decide=lambda _: Stall(1_000_000)) as it:
        process = start(tmp_path, "get", it.url("files", "noise.bin"))
        await until_saved(tmp_path, 1_000_000)
        other = await in_thread(run, tmp_path, "get", it.url("files", "noise.bin"))
        process.send_signal(signal.SIGTERM)
        await in_thread(process.end)
    assert other.status == 5
    assert "another download is at work on it" in other.err


# On a terminal.


def on_terminal(home: Path, arguments: list[str], more: Mapping[str, str]) -> str:
    """What a command shows there."""
    master, slave = pty.openpty()
    environment_ = environment({"HOME": str(home), "TERM": "xterm", "COLUMNS": "100", **more})
    process = subprocess.Popen(
        [COMMAND, *arguments], cwd=home, env=environment_, stdin=slave, stdout=slave, stderr=slave, close_fds=True
    )
    os.close(slave)
    shown = b""
    try:
        while data := os.read(master, 2**16):
            shown += data
    except OSError:
        # The other side is closed.
        pass
    os.close(master)
    assert process.wait(PATIENCE) == 0
    return shown.decode()


def test_a_bar_on_a_terminal(served: Served, tmp_path: Path) -> None:
    shown = on_terminal(tmp_path, ["get", link(served, "noise.bin")], {})
    assert "\x1b[" in shown
    assert "%" in shown
    assert "noise.bin: 25165824 bytes" in shown
    assert f"token={TOKEN}" not in shown


def test_none_where_nobody_looks(served: Served, tmp_path: Path) -> None:
    assert "\x1b" not in run(tmp_path, "get", link(served, "noise.bin"), TERM="xterm", FORCE_COLOR="1").err
    assert on_terminal(tmp_path, ["get", "-q", "-o", "x", link(served, "noise.bin")], {}) == ""


def test_a_table_on_a_terminal(served: Served, tmp_path: Path) -> None:
    shown = on_terminal(tmp_path, ["ls", link(served, "")], {})
    assert "Digest" in shown
    assert "25.2 MB" in shown


# TLS.


def test_tls(tmp_path: Path) -> None:
    """A certificate has to be trusted."""
    certify(tmp_path)
    source = "ssl:0:privateKey=key.pem:certKey=cert.pem:interface=127.0.0.1"
    with running(tmp_path, "--store", "store", "--store-listen", ANY_PORT, "-l", source) as process:
        port = int(process.out.wait_for(r"GatewaySite \(TLS\) starting on (\d+)")[0][1])
        url = f"https://127.0.0.1:{port}/db/doc/x?token=s3cret"
        untrusted = run(tmp_path, "get", url)
        trusted = run(tmp_path, "get", url, SSL_CERT_FILE=str(tmp_path / "cert.pem"))
    assert untrusted.status == 1
    assert "the server's certificate is not to be trusted" in untrusted.err
    assert trusted.status == 3


# Where nobody listens.


def shell(home: Path, line: str, *arguments: str, **variables: str) -> Ended:
    """What a command line of a shell's ends with; ``"$@"`` in it is the command."""
    finished = subprocess.run(
        ["sh", "-c", line, "sh", COMMAND, *arguments],
        cwd=home,
        env=environment({"HOME": str(home), "PYTHONUNBUFFERED": "", **variables}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert "Traceback" not in finished.stderr, finished.stderr
    assert "Exception ignored" not in finished.stderr, finished.stderr
    return Ended(finished.returncode, finished.stdout, finished.stderr)


@pytest.mark.parametrize("where", [">/dev/full", ">&-", "| true"])
@pytest.mark.parametrize("command", ["ls", "token"])
def test_output_that_cannot_be_written(served: Served, tmp_path: Path, where: str, command: str) -> None:
    """A reader that has gone is waited for first: what is written then is written to nobody."""
    arguments = [command] if command == "token" else [command, link(served, "")]
    line = (
        '"$@" ' + where if "|" not in where else '{ while test -e gate; do :; done; "$@"; echo $? >status; } | rm gate'
    )
    (tmp_path / "gate").touch()
    ended = shell(tmp_path, line, *arguments)
    status = int((tmp_path / "status").read_text()) if "|" in where else ended.status
    assert status == 5
    assert ended.err.startswith("couchdl: standard output: ")
    assert ended.err.count("\n") == 1


def test_names_that_the_terminal_has_not(served: Served, tmp_path: Path) -> None:
    served.put("names", "\u0444\u0430\u0439\u043b.txt", b"x", "text/plain")
    url = link(served, "").replace("/files/", "/names/")
    ended = shell(tmp_path, '"$@"', "ls", url, PYTHONIOENCODING="ascii:strict")
    assert ended.status == 0, ended.err
    assert ended.out.startswith("\\u0444")


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-"])
def test_errors_that_nobody_can_be_told(served: Served, tmp_path: Path, where: str) -> None:
    """The other files come all the same, and the status is what it would be."""
    urls = [link(served, "missing"), link(served)]
    assert shell(tmp_path, f'"$@" {where}', "get", *urls).status == 3
    assert (tmp_path / "small.txt").read_bytes() == SMALL
