"""
A reader at two terminals: in one the gateway, in the other a second shell that does what a page says.

The second shell knows nothing of the first one: a page that needs the gateway's commands there has to say where they
are. The reader's directory is ``trial`` in a checkout whose virtual environment is that of the tests.

Ports are other ones than the page has, so that readers do not meet. What was in the page's place is put back where
something printed it.
"""

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import define, field, frozen

from tests.docs.pages import Step, is_as_shown
from tests.running import ANY_PORT, PATIENCE, Lines, Running, environment, needed

_GATEWAY = "twistd -n couchdl"
#: The ports of the pages, and which site is behind each.
_PORTS = {"8000": "Gateway", "5984": "Store", "8001": "Admin"}
#: Options that bring a site, and those that say where one is that the page leaves where it is by default.
_BRINGS = {"--store": "Store", "--demo": "Store", "--admin-listen": "Admin"}
_WHERE = {"--listen": "Gateway", "--store-listen": "Store"}
# curl is not to draw its meter, since nobody sees how it moves; nor to wait for ever.
_CURLRC = f"no-progress-meter\nmax-time = {PATIENCE}\nnoproxy = *\n"


@frozen
class Printed:
    status: int
    output: str


@define
class Shell:
    """One bash, from the first command of a page to the last."""

    directory: Path
    _process: "subprocess.Popen[str]"
    _lines: Lines
    _count: int = 0

    def run(self, command: str) -> Printed:
        """A command, to its end."""
        self._count += 1
        printed = self.directory.with_name(f"printed-{self._count}")
        assert self._process.stdin is not None
        self._process.stdin.write(f"{{ {command}\n}} </dev/null >{printed} 2>&1\necho ended {self._count} $?\n")
        self._process.stdin.flush()
        ended = self._lines.wait_for(rf"^ended {self._count} (\d+)$")
        return Printed(int(ended[0][1]), printed.read_text("utf-8", "replace"))


@contextmanager
def shell(directory: Path) -> Iterator[Shell]:
    """A shell in a directory, which is its home too."""
    (directory / ".curlrc").write_text(_CURLRC)
    known = {name: value for name, value in environment({}).items() if not name.startswith("COUCHD")}
    path = ":".join(each for each in known["PATH"].split(":") if not (Path(each) / "couchdl").exists())
    process = subprocess.Popen(
        ["bash", "--noprofile", "--norc"],
        cwd=directory,
        env={**known, "PATH": path, "HOME": str(directory), "LC_ALL": "C.UTF-8", "NO_PROXY": "*"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout is not None
    assert process.stdin is not None
    lines = Lines(process.stdout)
    try:
        yield Shell(directory, process, lines)
    finally:
        process.stdin.close()
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
            lines.all()


@define
class Reader:
    """
    Someone who types what a page says.

    :ivar ports: those that are there in place of the page's.
    """

    _shell: Shell
    _stack: ExitStack
    ports: dict[str, str] = field(factory=dict)
    _gateway: Running | None = None

    def follow(self, step: Step, does_fail: bool = False) -> None:
        """
        :param does_fail: whether the command is to fail.
        :raises AssertionError: if the command does other than the page shows.
        """
        if step.command.startswith(_GATEWAY):
            self._start(step)
            return
        printed = self._shell.run(self._real(step.command))
        told = f"$ {step.command}\n{printed.output}(status {printed.status})"
        assert (printed.status != 0) is does_fail, told
        assert is_as_shown(self._as_on_the_page(printed.output), step.shown), told

    def _start(self, step: Step) -> None:
        """The gateway, in its terminal; the one before it is ended, as who types there would."""
        if self._gateway is not None:
            assert self._gateway.stop(signal.SIGINT) == 0
        given = shlex.split(step.command.removeprefix(_GATEWAY))
        sites = {"Gateway"} | {site for option, site in _BRINGS.items() if option in given}
        arguments = [re.sub(r"^tcp:\d+", "tcp:0", each) for each in given]
        elsewhere = [
            part
            for option, site in _WHERE.items()
            if site in sites and option not in given
            for part in (option, ANY_PORT)
        ]
        self._gateway = self._stack.enter_context(needed(Running(self._shell.directory, (*arguments, *elsewhere), {})))
        for line in step.shown:
            self._gateway.out.wait_for(_anywhere(line))
        self.ports = {port: str(self._gateway.port(site)) for port, site in _PORTS.items() if site in sites}

    def _real(self, text: str) -> str:
        return re.sub(r"(?<=:)\d+\b", lambda found: self.ports.get(found[0], found[0]), text)

    def _as_on_the_page(self, text: str) -> str:
        shown = {real: port for port, real in self.ports.items()}
        return re.sub(r"(?<=:)\d+\b", lambda found: shown.get(found[0], found[0]), text)


def _anywhere(shown: str) -> str:
    """A line of a page as a pattern, whatever the ports."""
    return ".*".join(re.sub(r"\d{4,5}", r"\\d+", re.escape(part)) for part in shown.split("..."))


@contextmanager
def reader(directory: Path) -> Iterator[Reader]:
    """A reader who begins with an empty directory."""
    home = directory / "checkout" / "trial"
    home.mkdir(parents=True)
    (home.parent / ".venv").symlink_to(Path(sys.executable).parent.parent)
    with ExitStack() as stack:
        yield Reader(stack.enter_context(shell(home)), stack)
