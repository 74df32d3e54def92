"""Times as people write them. Pure."""

import re
from datetime import datetime
from math import ceil
from typing import Final

from txcouchdl.links import LATEST

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SPAN: Final = re.compile(r"(?:[0-9]{1,9}[smhdw])+")
_PART: Final = re.compile(r"([0-9]+)([smhdw])")


def parse_span(text: str) -> int:
    """
    :param text: ``90s``, ``30m``, ``2h``, ``7d``, ``4w``, or several of these, as ``1h30m``; ``0``.
    :return: seconds.
    :raises ValueError: with a sentence, for anything else.
    """
    if text == "0":
        return 0
    if not _SPAN.fullmatch(text):
        raise ValueError(f"{text!r} is no length of time, such as 90s, 30m, 2h, 7d, 1h30m")
    return sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def parse_end(text: str, now: float) -> int:
    """
    :param text: a span from now on; or a time, as ``2026-12-31T18:00Z`` or with another zone.
    :param now: seconds since 1970.
    :return: the same. A part of a second is a whole one.
    :raises ValueError: with a sentence, for anything else, and for what is over.
    """
    end = now + parse_span(text) if _SPAN.fullmatch(text) else _moment(text)
    if not now < end <= LATEST:
        raise ValueError(f"{text!r} is over already, or will never be")
    return ceil(end)


def _moment(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time, such as 2h, 7d or 2026-12-31T18:00Z") from None
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} does not say in which zone: put Z behind it for UTC")
    return moment.timestamp()
