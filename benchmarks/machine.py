"""Where a run took place: figures of two machines are not to be compared."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.contestants import haproxy_command
from benchmarks.upstreams import nginx_command


def describe() -> dict[str, str]:
    """The machine and the programs, in words."""
    facts = {
        "CPU": _first_match(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8")) or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / (1 << 30):.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "Twisted": version("twisted"),
        "aiohttp": version("aiohttp"),
        "nginx": _told(nginx_command(), ["-v"], r"nginx/(\S+)"),
        "haproxy": _told(haproxy_command(), ["-v"], r"version (\S+)"),
        "Go": _told(shutil.which("go"), ["version"], r"go(\d\S*)"),
        "commit": _commit(),
    }
    return {name: fact for name, fact in facts.items() if fact}


def _told(command: str | None, arguments: Sequence[str], pattern: str) -> str:
    """What a program says of itself; nothing if it is not here."""
    if command is None:
        return ""
    said = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    return _first_match(pattern, said.stdout + said.stderr)


def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return ""
    here = Path(__file__).parent
    commit = _told(git, ["-C", str(here), "rev-parse", "--short", "HEAD"], r"^([0-9a-f]+)$")
    is_changed = _told(git, ["-C", str(here), "status", "--porcelain", "--", "../txcouchdl"], r"(\S)")
    return f"{commit}, with changes" if commit and is_changed else commit


def _first_match(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1].strip() if found else ""
