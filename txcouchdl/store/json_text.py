"""
JSON text -> values -> JSON text, with the values that CouchDB's parser, jiffy, returns (pure).

Revision ids depend on each value and on the order of members, so the details matter.
"""

import json
import math
import sys
from typing import Any, NoReturn

from txcouchdl.store.answers import bad_request

#: A number of fewer characters than this is parsed by ``strtod``.
_SHORT = 32


def parse_json(text: bytes) -> Any:
    """
    Parse JSON that can be written out again as UTF-8 JSON: no lone surrogates, no numbers beyond a double's range, no
    nesting deeper than Python's stack. Numbers have 4300 digits at most, for longer ones cost quadratic time.

    :raises Refusal: 400.
    """
    try:
        value = json.loads(
            text.decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_float=_parse_float,
            object_pairs_hook=_last_of_each_name,
        )
        write_json(value).encode("utf-8")
    except (ValueError, RecursionError):
        raise bad_request("invalid UTF-8 JSON") from None
    return value


def write_json(value: object) -> str:
    """
    Write JSON without white space between its tokens.

    :raises ValueError: for a float that is not finite.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _last_of_each_name(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Keep the last of several members with the same name, at its own place."""
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    from_the_end: dict[str, Any] = {}
    for name, value in reversed(pairs):
        from_the_end.setdefault(name, value)
    return dict(reversed(from_the_end.items()))


def _parse_float(literal: str) -> float:
    """
    Parse a number as jiffy does. If it has an exponent but no decimal point, and is long or ``strtod`` reports a loss
    of precision, jiffy multiplies its two parts: ``5e-324`` becomes 0.0.

    :returns: infinity for a number beyond a double's range. A later member of the same name may still replace it.
    """
    if "." in literal:
        return float(literal)
    mantissa, _, exponent = literal.lower().partition("e")
    value = float(literal)
    is_precise = sys.float_info.min <= abs(value) < math.inf or int(mantissa) == 0
    if len(literal) < _SHORT and is_precise:
        return value
    try:
        return int(mantissa) * math.pow(10, int(exponent))
    except OverflowError:
        return math.inf
