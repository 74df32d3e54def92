"""The token that opens what is asked for, where it does not stand in the address."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from txcouchdl.cli.client import Token
from txcouchdl.cli.names import shown
from txcouchdl.cli.outcomes import LocalTrouble, local_trouble

#: Where it may stand in the environment.
VARIABLE: Final = "COUCHDL_TOKEN"
#: Bytes of a file that is looked at.
_LONGEST: Final = 8192
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")


def token_from(file: Path | None, environment: Mapping[str, str]) -> Token | None:
    """
    What a file says, or else the environment; ``None`` if there is neither.

    :raises LocalTrouble: if the file cannot be read, or what it says cannot be sent.
    """
    if file is None:
        text, source = environment.get(VARIABLE) or None, VARIABLE
    else:
        text, source = read_token(file).decode("latin-1"), shown(str(file))
    if text is None:
        return None
    if not _TOKEN.fullmatch(text):
        raise LocalTrouble(f"{source}: a token is one line of visible ASCII characters")
    return Token(text)


def read_token(file: Path) -> bytes:
    """
    What a file says, without white space around it.

    :raises LocalTrouble: if it cannot be read.
    """
    try:
        with file.open("rb") as stream:
            return stream.read(_LONGEST).strip()
    except OSError as error:
        raise local_trouble(shown(str(file)), error) from None
