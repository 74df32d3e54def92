"""Files with secrets that every user of the machine can read, or change."""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path


def exposed_files(paths: Iterable[str]) -> Iterator[str]:
    """
    :param paths: of files that hold secrets, or decide what the gateway does. What cannot be looked at is left out.
    :return: a sentence for each file that is not for its owner and his group alone.
    """
    for path in dict.fromkeys(paths):
        try:
            rights = _rights_of_others(Path(path))
        except (OSError, ValueError):
            continue
        what = [word for right, word in ((stat.S_IROTH, "read"), (stat.S_IWOTH, "changed")) if rights & right]
        if what:
            yield f"{path!r} can be {' and '.join(what)} by every user of this machine: chmod o= would end that"


def _rights_of_others(path: Path) -> int:
    """What its mode allows to everybody, if everybody can get there: directories may keep them out."""
    where = Path(os.path.realpath(path))
    directories = {*Path(os.path.abspath(path)).parents, *where.parents}
    is_reached = all(each.stat().st_mode & stat.S_IXOTH for each in directories)
    return where.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH) if is_reached else 0
