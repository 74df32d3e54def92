"""The secret of ``--link-secret-file``."""

from pathlib import Path
from typing import Final

from txcouchdl.options.sources import BadOption, Given

#: Bytes of a secret that nobody guesses.
_LEAST: Final = 32
_MOST: Final = 4096


def read_link_secret(given: Given) -> bytes:
    """
    :param given: the file's path. One line's end behind the secret is not part of it: an editor leaves one there.
    :raises BadOption: if it cannot be read, or is too short to be one.
    """
    path = given.text
    try:
        with Path(path).open("rb") as file:
            secret = file.read(_MOST + 1).removesuffix(b"\n").removesuffix(b"\r")
    except OSError as error:
        raise BadOption(f"{given.where}: cannot read {path!r}: {error.strerror}") from None
    if not _LEAST <= len(secret) <= _MOST:
        raise BadOption(f"{given.where}: {path!r} has to have {_LEAST} to {_MOST} bytes: make one with couchdl token")
    return secret
