"""
What is given for options, and where: on the command line, in the environment, or in a file.
"""

import tomllib
from collections.abc import Iterable, Mapping
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


def on_command_line(said: Iterable[tuple[str, str]]) -> Said:
    """:param said: names of options, with a value each, in their order."""
    found: dict[str, Given] = {}
    for name, text in said:
        before = found[name].texts if name in found else ()
        found[name] = Given((*before, text), Source.COMMAND_LINE, f"--{name}")
    return found


def in_environment(environment: Mapping[str, str]) -> Said:
    """An empty variable is none, as ``docker run -e COUCHDB_URL=`` leaves it."""
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
        near = get_close_matches(name, [each.name for each in OPTIONS if each.is_in_file], 1)
        raise BadOption(f"{path!r} has {name!r}, which is no option{f': {near[0]}?' if near else ''}")
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
