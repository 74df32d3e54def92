"""Clients as programs, run to their end with nothing of this user's configuration; and clients that are libraries."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest
from twisted.internet.threads import deferToThread

from tests.running import PATIENCE

P = ParamSpec("P")
T = TypeVar("T")

_SECONDS = str(int(PATIENCE))
#: Command lines that depend on nothing of this machine, and whose waits have an end.
CURL = ("curl", "-q", "-sS", "--max-time", _SECONDS)
WGET = ("wget", "--no-config", "--no-verbose", "--waitretry=0", "--timeout", _SECONDS)
ARIA2C = ("aria2c", "--no-conf", "--quiet", "--file-allocation=none", "--max-tries=3", "--timeout", _SECONDS)
LFTP = ("lftp", "--norc", "-c")
FFMPEG = ("ffmpeg", "-nostdin", "-v", "error")
#: Plays as fast as it can, into ``sound.raw``: 16 bits, 8000 times a second.
MPV = (
    "mpv",
    "--no-config",
    "--no-video",
    "--really-quiet",
    "--ao=pcm",
    "--ao-pcm-file=sound.raw",
    "--ao-pcm-waveheader=no",
    "--audio-format=s16",
    "--audio-channels=mono",
    "--audio-samplerate=8000",
)


def needs(*programs: str) -> pytest.MarkDecorator:
    """Of a test that runs them."""
    missing = [each for each in programs if shutil.which(each) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} is not installed")


def start(home: Path, *command: str | Path) -> "subprocess.Popen[str]":
    """Start a program in a directory where it may write. No proxies, and one language for everybody."""
    return subprocess.Popen(
        [str(each) for each in command],
        cwd=home,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )


def end(process: "subprocess.Popen[str]") -> int:
    """
    Wait for its end; it is killed if that does not come.

    :return: its exit status. What it said is in pytest's report.
    """
    try:
        said, _ = process.communicate(timeout=2 * PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
    print(process.args, said)  # noqa: T201
    return process.returncode


async def in_thread(do: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
    """Let a client wait as it likes: the proxy works meanwhile."""
    result: T = await deferToThread(do, *arguments, **keywords)
    return result


async def run(home: Path, *command: str | Path) -> int:
    """Run a program to its :func:`end`."""
    return await in_thread(lambda: end(start(home, *command)))
