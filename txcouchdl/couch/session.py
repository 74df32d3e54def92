"""
Whether CouchDB accepts the gateway's user, out of an answer to ``GET /_session``. Pure.

CouchDB answers 401 to a wrong password or an unknown user, and 403 during a lockout: after five wrong passwords of a
user from one address, for up to five minutes.
"""

import json
from enum import Enum
from typing import Any, Final

from attrs import frozen

#: The longest answer that is read.
MAX_SESSION: Final = 16 * 2**10


class Verdict(Enum):
    """What a node thinks of the gateway's user."""

    ACCEPTED = "accepts"
    REFUSED = "refuses"
    #: Something in front of CouchDB keeps ``/_session`` to itself, or CouchDB reads no credentials of this kind.
    UNTOLD = "does not say whether it accepts"


@frozen
class Session:
    """
    :ivar verdict: the node's.
    :ivar status: of the answer.
    """

    verdict: Verdict
    status: int


def read_session(status: int, body: bytes, user: str | None) -> Session:
    """
    :param status: of the answer.
    :param body: of the answer, or nothing of it if it is too long.
    :param user: whose credentials were sent; ``None`` if none were.
    """
    if status in {401, 403}:
        return Session(Verdict.REFUSED, status)
    is_known = status == 200 and _name(body) == user
    return Session(Verdict.ACCEPTED if is_known else Verdict.UNTOLD, status)


def _name(body: bytes) -> Any:
    """The user's name; ``None`` for nobody, and something that is no name for a body that is not CouchDB's."""
    try:
        context = json.loads(body)["userCtx"]
        return context["name"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return ...


def described_user(user: str | None) -> str:
    """The user, for a log and for an error: on one line, whatever the name is."""
    return "an anonymous user" if user is None else f"user {user!r}"
