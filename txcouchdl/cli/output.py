"""What a command prints as its result."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Final, TextIO

from txcouchdl.cli.outcomes import LocalTrouble, local_trouble

_NAME: Final = "standard output"


@contextmanager
def standard_output() -> Iterator[TextIO]:
    """
    Standard output, for all that is to be written there; what its encoding has not is written as an escape.

    :raises LocalTrouble: if that cannot be written, at the end at the latest.
    """
    if sys.stdout is None:
        raise LocalTrouble(f"{_NAME}: is closed")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except OSError as error:
        give_up(sys.stdout)
        raise local_trouble(_NAME, error) from None


def give_up(stream: TextIO) -> None:
    """Of a stream that cannot be written: Python would try again at its end, and complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
