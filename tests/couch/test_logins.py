"""Whether CouchDB accepts the gateway's user: what an answer says, how often CouchDB is asked, what the log says."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, formatEvent

from tests.gateway.house import logged
from txcouchdl.couch.client import CouchClient
from txcouchdl.couch.errors import UpstreamUnavailable
from txcouchdl.couch.logins import Logins
from txcouchdl.couch.nodes import Node
from txcouchdl.couch.session import Session, Verdict, described_user, read_session

ACCEPTED, REFUSED, UNTOLD = (Session(verdict, 200 if verdict is Verdict.ACCEPTED else 401) for verdict in Verdict)
#: As CouchDB 3.5.0 answers: to a user, and to nobody.
GATEWAY = (
    b'{"ok":true,"userCtx":{"name":"gateway","roles":[]},'
    b'"info":{"authentication_handlers":["cookie","default"],"authenticated":"default"}}\n'
)
NOBODY = b'{"ok":true,"userCtx":{"name":null,"roles":[]},"info":{"authentication_handlers":["cookie","default"]}}\n'
WRONG = b'{"error":"unauthorized","reason":"Name or password is incorrect."}\n'
LOCKED = b'{"error":"forbidden","reason":"Account is temporarily locked due to multiple authentication failures"}\n'


@pytest.mark.parametrize(
    ("status", "body", "user", "verdict"),
    [
        (200, GATEWAY, "gateway", Verdict.ACCEPTED),
        (200, NOBODY, None, Verdict.ACCEPTED),
        (401, WRONG, "gateway", Verdict.REFUSED),
        (403, LOCKED, "gateway", Verdict.REFUSED),
        (401, b'{"error":"unauthorized","reason":"Authentication required."}\n', None, Verdict.REFUSED),
        (200, NOBODY, "gateway", Verdict.UNTOLD),
        (200, GATEWAY, "other", Verdict.UNTOLD),
        (404, b'{"error":"not_found","reason":"Database does not exist."}\n', "gateway", Verdict.UNTOLD),
        (501, b"", "gateway", Verdict.UNTOLD),
        (500, GATEWAY, "gateway", Verdict.UNTOLD),
        (200, b"<html>", None, Verdict.UNTOLD),
        (200, b"", None, Verdict.UNTOLD),
        (200, b"[]", None, Verdict.UNTOLD),
        (200, b'{"userCtx":[]}', None, Verdict.UNTOLD),
        (200, b'{"userCtx":{}}', None, Verdict.UNTOLD),
        (200, b"[" * 100_000, None, Verdict.UNTOLD),
        (200, b"\xff", None, Verdict.UNTOLD),
    ],
)
def test_what_an_answer_says(status: int, body: bytes, user: str | None, verdict: Verdict) -> None:
    assert read_session(status, body, user) == Session(verdict, status)


@given(st.integers(100, 599), st.binary(max_size=40) | st.recursive(st.none() | st.text(), st.lists).map(json.dumps))
def test_whatever_is_answered_is_read(status: int, body: bytes | str) -> None:
    session = read_session(status, body.encode() if isinstance(body, str) else body, "gateway")
    assert (session.verdict is Verdict.REFUSED) == (status in {401, 403})
    assert session.verdict is not Verdict.ACCEPTED


@given(st.text(st.characters(exclude_characters=":", exclude_categories=["Cs"])), st.text())
@example("", "").via("credentials, both of them empty")
@example("a\nb", ":")
def test_the_users_name(name: str, password: str) -> None:
    node = Node.of("http://h", name, password.encode("utf-8", "replace").decode())
    assert node.user == name
    assert described_user(node.user).isprintable()


def test_nobodys_name() -> None:
    assert Node("http://h").user is None
    assert described_user(None) == "an anonymous user"


# How often it is asked for.


class OneNode(CouchClient):
    """A node that answers when the test has it answer."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._node = Node.of(name, "gateway", "password")
        self.asked: list[Deferred[Session]] = []
        self.cancelled = 0

    async def session(self) -> Session:
        asking: Deferred[Session] = Deferred()
        self.asked.append(asking)
        try:
            return await asking
        except CancelledError:
            self.cancelled += 1
            raise

    def say(self, session: Session | None) -> None:
        asking = self.asked[-1]
        asking.errback(UpstreamUnavailable(f"{self}: gone")) if session is None else asking.callback(session)


class Town:
    """Some nodes, and who asks them."""

    def __init__(self, size: int = 1) -> None:
        self.clock = Clock()
        self.nodes = [OneNode(f"http://n{number}") for number in range(size)]
        self.told: list[frozenset[str]] = []
        self.logins = Logins(self.nodes, self.clock, self.told.append)
        self.logins.ask()

    def after(self, session: Session | None) -> float:
        """Answer for the only node. :return: seconds until it is asked again."""
        before, began = len(self.nodes[0].asked), self.clock.seconds()
        self.nodes[0].say(session)
        while len(self.nodes[0].asked) == before:
            self.clock.advance(1)
        return self.clock.seconds() - began


@pytest.mark.parametrize(("session", "seconds"), [(ACCEPTED, 60), (UNTOLD, 60), (REFUSED, 300), (None, 10)])
def test_when_it_is_asked_again(session: Session | None, seconds: float) -> None:
    town = Town()
    assert [town.after(session) for _ in range(5)] == [seconds] * 5


def test_what_refuses_is_told_and_what_no_longer_does() -> None:
    town = Town(2)
    town.nodes[1].say(ACCEPTED)
    assert town.told == []
    town.nodes[0].say(REFUSED)
    assert town.told == [{"http://n0"}]
    town.logins.ask()
    town.nodes[1].say(REFUSED)
    assert town.told[1:] == [{"http://n0", "http://n1"}]
    town.logins.ask()
    town.nodes[1].say(None)
    assert town.told[2:] == [], "nothing new"
    town.nodes[0].say(ACCEPTED)
    assert town.told[2:] == [{"http://n1"}], "what cannot be reached has not changed its mind"
    town.clock.advance(10)
    town.nodes[1].say(UNTOLD)
    assert town.told[3:] == [frozenset()]


def test_a_wrong_password_locks_nobody_out() -> None:
    """Whoever demands it, however often: a fifth one within five minutes would."""
    town = Town()
    refusals = []
    for _ in range(2000):
        node = town.nodes[0]
        if not node.asked[-1].called:
            node.say(REFUSED)
            refusals.append(town.clock.seconds())
        town.logins.ask()
        town.clock.advance(1)
    assert all(sum(first <= each < first + 300 for each in refusals) <= 3 for first in refusals)
    assert len(refusals) >= 3 * 2000 / 301


def test_what_is_under_way_is_not_asked_twice() -> None:
    town = Town()
    town.logins.ask()
    assert len(town.nodes[0].asked) == 1
    town.nodes[0].say(ACCEPTED)
    town.logins.ask()
    assert len(town.nodes[0].asked) == 2
    assert not town.clock.getDelayedCalls(), "and not a third time when it would have been due"


@pytest.mark.parametrize("is_under_way", [True, False])
def test_the_end(is_under_way: bool) -> None:
    town = Town()
    if not is_under_way:
        town.nodes[0].say(ACCEPTED)
    with logged() as events:
        town.logins.stop()
        town.logins.ask()
    assert (len(town.nodes[0].asked), town.clock.getDelayedCalls(), events) == (1, [], [])
    assert town.nodes[0].cancelled == is_under_way


def test_the_log_tells_what_is_new() -> None:
    """Once, and nothing of the password."""
    with logged() as events:
        town = Town()
        for session in (None, None, ACCEPTED, ACCEPTED, REFUSED, Session(Verdict.REFUSED, 403), UNTOLD, None):
            town.after(session)
    assert [(each["log_level"], formatEvent(each)) for each in events] == [
        (LogLevel.warn, "CouchDB at http://n0 cannot be reached: gone"),
        (LogLevel.info, "CouchDB at http://n0 accepts user 'gateway' (/_session: 200)"),
        (LogLevel.warn, "CouchDB at http://n0 refuses user 'gateway' (/_session: 401): no download can work"),
        (LogLevel.warn, "CouchDB at http://n0 refuses user 'gateway' (/_session: 403): no download can work"),
        (LogLevel.info, "CouchDB at http://n0 does not say whether it accepts user 'gateway' (/_session: 401)"),
        (LogLevel.warn, "CouchDB at http://n0 cannot be reached: gone"),
    ]
