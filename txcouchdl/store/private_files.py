"""
The files and directories of a store are its user's alone, whatever the umask and whoever made the store's directory:
what is uploaded there is behind secrets, and the secrets are there too.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from twisted.logger import Logger

_FILE = 0o600
_DIRECTORY = 0o700
_PERMISSIONS = 0o777
_OTHERS = 0o077

_log = Logger()


def open_private(path: str, flags: int) -> int:
    """An opener for :func:`open`: the file, be it new or not, is the user's alone."""
    descriptor = os.open(path, flags, _FILE)
    try:
        restrict(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_binary(path: Path, mode: str) -> BinaryIO:
    """
    Open a file that is the user's alone.

    :param mode: as :func:`open` has it, with a ``b``.
    """
    return cast(BinaryIO, open(path, mode, opener=open_private))


def make_directory(path: Path) -> None:
    """Make a directory that is the user's alone, or make one so that is there."""
    path.mkdir(mode=_DIRECTORY, exist_ok=True)
    restrict(path)


def restrict(target: Path | int) -> None:
    """
    Give a file or directory to its user alone. One that belongs to another user stays as it is.

    :param target: a path, or a descriptor.
    :raises OSError: if it is not there.
    """
    mode = os.stat(target).st_mode
    wanted = _DIRECTORY if stat.S_ISDIR(mode) else _FILE
    if mode & _PERMISSIONS != wanted:
        with suppress(PermissionError):
            os.chmod(target, stat.S_IMODE(mode) & ~_PERMISSIONS | wanted)


def warn_of_exposure(*paths: Path) -> None:
    """
    Log a line for each file or directory with which other users may do anything.

    :raises OSError: if one is not there.
    """
    for path in paths:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & _OTHERS:
            _log.warn(
                "{path} is open to other users of this machine, mode {mode}: chmod go= {path}",
                path=path,
                mode=f"{mode:04o}",
            )
