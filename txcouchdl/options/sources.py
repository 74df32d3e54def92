"""
What is given for options, and where: on the command line, in the environment, or in a file.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from enum import IntEnum
from pathlib import Path
from typing import Final

from attrs import field, frozen

from txcouchdl.options.table import OPTIONS, Number, Option


class Source(IntEnum):
    """Where something was said. The greater one is heeded."""

    FILE = 1
    ENVIRONMENT = 2
    COMMAND_LINE = 3


class BadOption(ValueError):
    """Something that an operator has to correct: one sentence, with no secret in it."""


@frozen
class Given:
    """
    What one source says of one option.

    :ivar texts: its values, one unless it is repeatable; of a switch ``1`` or ``0``.
    :ivar where: for whoever has to correct it.
    """

    texts: tuple[str, ...] = field(repr=False)
    source: Source
    where: str

    @property
    def text(self) -> str:
        """Of what is not repeatable, the last one counts."""
        return self.texts[-1]


Said = Mapping[str, Given]

_BY_NAME: Final = {option.name: option for option in OPTIONS}
_PREFIX: Final = "COUCHDL_"
_VARIABLES: Final = frozenset(option.variable for option in OPTIONS)
#: What the command couchdl reads.
_OTHERS: Final = frozenset({"COUCHDL_TOKEN"})
# Kubernetes sets these for each service in the namespace, one named couchdl or couchdl-admin among them.
_OF_A_SERVICE: Final = re.compile(
    r"COUCHDL_(?:[A-Z0-9_]+_)?"
    r"(?:SERVICE_HOST=|SERVICE_PORT(?:_[A-Z0-9_]+)?=|PORT=(?:tcp|udp|sctp)://|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_[A-Z]+)?=)"
)


def on_command_line(said: Iterable[tuple[str, str]]) -> Said:
    """:param said: names of options, with a value each, in their order."""
    found: dict[str, Given] = {}
    for name, text in said:
        before = found[name].texts if name in found else ()
        found[name] = Given((*before, text), Source.COMMAND_LINE, f"--{name}")
    return found


def in_environment(environment: Mapping[str, str]) -> Said:
    """
    Read the options' variables. An empty variable counts as unset, as ``docker run -e COUCHDB_URL=`` leaves it.

    :raises BadOption: if a value is not in order, or a variable has our prefix and belongs to no option.
    """
    for name, text in environment.items():
        _check_variable(name, text)
    found = {}
    for option in OPTIONS:
        text = environment.get(option.variable, "")
        texts = _listed(text) if option.is_repeatable else (text,) if text else ()
        if option.is_switch and text not in {"", "0", "1"}:
            raise BadOption(f"{option.variable} takes 1 or 0")
        if option.is_restriction and text and not texts:
            raise BadOption(f"{option.variable} says nothing, and without it more would be allowed")
        if texts:
            found[option.name] = Given(texts, Source.ENVIRONMENT, option.variable)
    return found


def _check_variable(name: str, text: str) -> None:
    """Refuse a misspelt variable: an option that does not count would be noticed by nobody."""
    is_known = name in _VARIABLES or name in _OTHERS or not name.startswith(_PREFIX)
    if text and not is_known and not _OF_A_SERVICE.match(f"{name}={text}"):
        raise BadOption(f"the environment has {name!r}, which is no option{_nearest(name, sorted(_VARIABLES))}")


def _nearest(name: str, names: Sequence[str]) -> str:
    """The end of an error's sentence: the name that was probably meant, if one is near."""
    near = get_close_matches(name, names, 1)
    return f": {near[0]}?" if near else ""


def in_file(path: str) -> Said:
    """
    :param path: of a TOML file.
    :raises BadOption: if it cannot be read, is no TOML, or has what is no option.
    """
    try:
        table = tomllib.loads(Path(path).read_bytes().decode())
    except OSError as error:
        raise BadOption(f"cannot read {path!r}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadOption(f"{path!r} is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise BadOption(f"{path!r} is no TOML: {error}") from None
    except RecursionError:
        raise BadOption(f"{path!r} is nested too deep") from None
    except ValueError:
        # A zero byte.
        raise BadOption(f"--config: {path!r} is no file's name") from None
    return {name: _in_file(name, value, path) for name, value in table.items()}


def merged(*all_said: Said) -> Said:
    """What is to be heeded, of several sources, those before the others that are heeded less."""
    return {name: given for said in all_said for name, given in said.items()}


def _in_file(name: str, value: object, path: str) -> Given:
    option = _BY_NAME.get(name)
    if option is None or not option.is_in_file:
        near = _nearest(name, [each.name for each in OPTIONS if each.is_in_file])
        raise BadOption(f"{path!r} has {name!r}, which is no option{near}")
    where = f"{name} in {path!r}"
    texts, wanted = _texts(option, value)
    if texts is None:
        raise BadOption(f"{where} takes {wanted}")
    return Given(texts, Source.FILE, where)


def _texts(option: Option, value: object) -> tuple[tuple[str, ...] | None, str]:
    """What a value of TOML says, if it is of the right kind; and which that is."""
    if option.is_switch:
        return (str(int(value)),) if isinstance(value, bool) else None, "true or false"
    if isinstance(option, Number):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return (str(value),) if is_number else None, "a number"
    if option.is_repeatable and isinstance(value, list):
        # Of nothing, one reader would think that it is none of them, and another that it is all.
        return tuple(value) if value and all(isinstance(each, str) for each in value) else None, "strings"
    return (value,) if isinstance(value, str) else None, "strings" if option.is_repeatable else "a string"


def _listed(text: str) -> tuple[str, ...]:
    """What stands between the commas of a variable, where something does."""
    return tuple(each.strip() for each in text.split(",") if each.strip())
