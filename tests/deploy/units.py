"""
The units of ``deploy/systemd``, and processes that are started as systemd starts them: with its sockets, and in the
sandbox that the unit asks for, as far as that is made of system calls.
"""

import errno
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes.util import find_library
from pathlib import Path

import pytest
from attrs import frozen

from tests.deploy import DEPLOY
from tests.nodes import UNMEASURED
from tests.running import PATIENCE, Running, needed

SYSTEMD = DEPLOY / "systemd"
#: How the command line of the service begins.
TWISTD = ["/opt/couchdl/bin/twistd", "-n", "--pidfile=", "couchdl"]

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
needs_seccomp = pytest.mark.skipif(find_library("seccomp") is None, reason="libseccomp is not installed")


@frozen
class Unit:
    """
    A unit file.

    :ivar settings: of all its sections, in their order.
    """

    settings: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, name: str) -> "Unit":
        text = (SYSTEMD / name).read_text("utf-8").replace("\\\n", " ")
        return cls(tuple(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)))

    def all(self, name: str) -> list[str]:
        return [value for each, value in self.settings if each == name]

    def one(self, name: str) -> str:
        (value,) = self.all(name)
        return value

    def arguments(self, credentials: Path, logs: Path) -> tuple[str, ...]:
        """What ``ExecStart`` has behind :data:`TWISTD`, with the directories that systemd makes."""
        words = shlex.split(self.one("ExecStart"))
        assert words[: len(TWISTD)] == TWISTD
        places = {"${CREDENTIALS_DIRECTORY}": str(credentials), "${LOGS_DIRECTORY}": str(logs)}
        return tuple(re.sub(r"\$\{\w+\}", lambda found: places[found[0]], word) for word in words[len(TWISTD) :])


#: systemd counts what it passes on from 3. Only the process itself knows the pid that it keeps.
_PASS = """
import fcntl, os, sys
count, *rest = sys.argv[1:]
descriptors, command = rest[:int(count)], rest[int(count):]
for place, kept in enumerate([fcntl.fcntl(int(each), fcntl.F_DUPFD, 100) for each in descriptors], 3):
    os.dup2(kept, place)
    os.close(kept)
names = ":".join(["couchdl.socket"] * int(count))
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count, "LISTEN_FDNAMES": names}
os.execv(command[0], command)
"""


@contextmanager
def sockets() -> Iterator[list[socket.socket]]:
    """Those of ``couchdl.socket``, on other ports."""
    backlog = int(Unit.read("couchdl.socket").one("Backlog"))
    listening = [socket.create_server(("127.0.0.1", 0), backlog=backlog) for _ in range(2)]
    try:
        yield listening
    finally:
        for each in listening:
            each.close()


@contextmanager
def service(
    directory: Path,
    listening: Sequence[socket.socket],
    arguments: Sequence[str],
    sandbox: Sequence[str] = (),
    **more_environment: str,
) -> Iterator[Running]:
    """
    The service, with sockets that it was passed.

    :param sandbox: a command that becomes the command behind it.
    """
    descriptors = [each.fileno() for each in listening]
    starter = (*sandbox, sys.executable, "-c", _PASS, str(len(descriptors)), *map(str, descriptors))
    with needed(Running(directory, tuple(arguments), UNMEASURED | more_environment, starter, descriptors)) as process:
        yield process


# The sandbox.


def permitted_calls(unit: Unit) -> list[str]:
    """The names of the system calls that ``SystemCallFilter`` leaves, all groups opened."""
    permitted: set[str] = set()
    for words in unit.all("SystemCallFilter"):
        if words.startswith("~"):
            permitted -= _opened(words[1:].split())
        else:
            permitted |= _opened(words.split())
    return sorted(permitted)


def _opened(names: Sequence[str]) -> set[str]:
    opened: set[str] = set()
    for name in names:
        opened |= _opened(_group(name)) if name.startswith("@") else {name}
    return opened


def _group(name: str) -> list[str]:
    command = ["systemd-analyze", "--no-pager", "syscall-filter", name]
    said = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    _, *lines = said.splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


#: Kills whoever calls what is not permitted, so that nothing of that can be overlooked. As systemd has it, clone3 is
#: unknown, since nobody sees what it is to do; the C library does without netlink where names are looked up; and memory
#: that is both written and executed is refused.
_CONFINE = f"""
import ctypes, os, socket, sys
KILL, ALLOW, ERROR = 0x80000000, 0x7FFF0000, 0x00050000
EQUAL, MASKED_EQUAL = 4, 7
WRITE, EXECUTE, NAMESPACES = 2, 4, 0x7E020080

class Comparison(ctypes.Structure):
    _fields_ = [("argument", ctypes.c_uint), ("operator", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]

library = ctypes.CDLL("libseccomp.so.2")
library.seccomp_init.restype = ctypes.c_void_p
library.seccomp_init.argtypes = [ctypes.c_uint32]
library.seccomp_rule_add_array.argtypes = [
    ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Comparison)
]
library.seccomp_load.argtypes = [ctypes.c_void_p]
context = library.seccomp_init(KILL)

def add(action, name, comparison=None):
    call = library.seccomp_syscall_resolve_name(name.encode())
    comparisons = [] if comparison is None else [Comparison(*comparison)]
    array = (Comparison * len(comparisons))(*comparisons)
    # There are names of other processors among them.
    if call >= 0:
        assert library.seccomp_rule_add_array(context, action, call, len(comparisons), array) == 0, name

families, calls, is_strict = sys.argv[1].split(), sys.argv[2].split(), sys.argv[3] == "yes"
conditions = {{
    "socket": [(0, EQUAL, getattr(socket, each)) for each in families],
    "clone": [(0, MASKED_EQUAL, NAMESPACES, 0)],
}}
if is_strict:
    conditions["mmap"] = [(2, MASKED_EQUAL, WRITE, 0), (2, MASKED_EQUAL, EXECUTE, 0)]
    conditions["mprotect"] = conditions["pkey_mprotect"] = [(2, MASKED_EQUAL, EXECUTE, 0)]
    add(ERROR | {errno.EPERM}, "mmap", (2, MASKED_EQUAL, WRITE | EXECUTE, WRITE | EXECUTE))
add(ERROR | {errno.EAFNOSUPPORT}, "socket", (0, EQUAL, socket.AF_NETLINK))
for name in calls:
    if name == "clone3":
        add(ERROR | {errno.ENOSYS}, name)
        continue
    for comparison in conditions.get(name, [None]):
        add(ALLOW, name, comparison)
assert library.seccomp_load(context) == 0
os.execv(sys.argv[4], sys.argv[4:])
"""


def sandbox(unit: Unit) -> list[str]:
    """A command that confines itself as the unit says, and becomes the command behind it."""
    assert unit.one("RestrictNamespaces") == "yes"
    families, is_strict = unit.one("RestrictAddressFamilies"), dict(unit.settings).get("MemoryDenyWriteExecute", "no")
    return [sys.executable, "-c", _CONFINE, families, " ".join(permitted_calls(unit)), is_strict]
