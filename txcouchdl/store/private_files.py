"""
Files and directories that only the store's user can use, whatever the umask and the owner of the store's directory.

Uploads are protected by secrets, and the secrets are in the same database.
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
    """Open a file, and restrict it to the user: an opener for :func:`open`."""
    descriptor = os.open(path, flags, _FILE)
    try:
        restrict(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_binary(path: Path, mode: str) -> BinaryIO:
    """
    Open a file, and restrict it to the user.

    :param mode: as :func:`open` has it, with a ``b``.
    """
    return cast(BinaryIO, open(path, mode, opener=open_private))


def make_directory(path: Path) -> None:
    """Make a directory if it does not exist, and restrict it to the user."""
    path.mkdir(mode=_DIRECTORY, exist_ok=True)
    restrict(path)


def restrict(target: Path | int) -> None:
    """
    Take all permissions on a file or directory from other users. One that another user owns stays as it is.

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
    Log a warning for each file or directory on which other users have any permission.

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
