"""
File descriptors: every connection takes one, and of a process' usual limit there are too few for many of them.
"""

import resource
from typing import Final

#: For all that is no connection: listening ports, the log, a database, the reactor's own.
_SPARE: Final = 64


def make_room(connections: int, others: int) -> int:
    """
    Raise this process' limit as far as needed and allowed.

    :param connections: of clients.
    :param others: descriptors that they need besides.
    :return: how many of the connections there is room for.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = raised_limit(soft, hard, connections + others + _SPARE)
    if limit != soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        except (OSError, ValueError):
            # macOS has a lower limit of its own.
            limit = soft
    return room(limit, connections, others)


def raised_limit(soft: int, hard: int, needed: int) -> int:
    """The soft limit that is to be: what is needed, but never above the hard limit, or below what it is now."""
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return soft
    return needed if hard == resource.RLIM_INFINITY else max(soft, min(hard, needed))


def room(limit: int, connections: int, others: int) -> int:
    """How many of some connections a soft limit has room for."""
    if limit == resource.RLIM_INFINITY:
        return connections
    return max(0, min(connections, limit - others - _SPARE))
