"""The file that names the store's one admin."""

import os
import secrets
from pathlib import Path

from txcouchdl.store.credentials import Credentials
from txcouchdl.store.errors import StoreError
from txcouchdl.store.private_files import open_private, warn_of_exposure

_NAME = "admin"


class NoAdmin(StoreError):
    """The file cannot be read, or does not hold ``name:password``."""


def admin_of(directory: Path) -> Credentials:
    """
    The admin in the file ``admin`` of a store's directory: one line, ``name:password``. Where there is no such file
    it is made, with a password of 192 random bits, for its owner's eyes only.

    :raises NoAdmin: if that is not to be had.
    """
    path = directory / _NAME
    try:
        if not path.exists():
            _write(path, f"{_NAME}:{secrets.token_urlsafe(24)}\n")
        warn_of_exposure(path)
        line = path.read_bytes().removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NoAdmin(f"{path} cannot be read: {error}") from None
    name, _, password = line.partition(":")
    if not (name and password and "\n" not in line):
        raise NoAdmin(f"{path} does not hold name:password")
    return Credentials(name, password)


def _write(path: Path, text: str) -> None:
    """Whole, or not at all."""
    draft = path.with_suffix(".new")
    # One that an earlier life left may have another mode.
    draft.unlink(missing_ok=True)
    with open(draft, "x", encoding="utf-8", opener=open_private) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
