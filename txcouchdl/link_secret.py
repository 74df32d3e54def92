"""The secret of a file, which it takes to sign links where a gateway asks for it: see :mod:`~txcouchdl.links`."""

from pathlib import Path
from typing import Final

#: Bytes of a secret that nobody guesses.
_LEAST: Final = 32
_MOST: Final = 4096


def read_link_secret(path: str) -> bytes:
    """
    :param path: of the file. One line's end behind the secret is not part of it: an editor leaves one there.
    :raises ValueError: with a sentence, if it cannot be read, or is too short to be one.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MOST + 3)
    except OSError as error:
        raise ValueError(f"cannot read {path!r}: {error.strerror}") from None
    except ValueError:
        raise ValueError(f"{path!r} is no file's name") from None
    secret = content.removesuffix(b"\r\n" if content.endswith(b"\r\n") else b"\n")
    if not _LEAST <= len(secret) <= _MOST:
        raise ValueError(f"{path!r} has to have {_LEAST} to {_MOST} bytes: couchdl token makes such a secret")
    return secret
