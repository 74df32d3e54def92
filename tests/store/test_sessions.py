"""Sessions: their lifetime, and forged ones. test_like_couchdb.py has the view of clients."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet import reactor

from tests.store.serving import AUTHORIZATION, ServedStore, in_reactor
from txcouchdl.store.answers import Refusal
from txcouchdl.store.credentials import Caller, Credentials
from txcouchdl.store.logins import LONGEST_LOGIN, Login, parse_login
from txcouchdl.store.sessions import LIFETIME, Identity, Sessions, set_cookie

_ADMIN = Credentials("adm", "pass")
_SESSIONS = Sessions(_ADMIN, b"secret")
_START = 1_800_000_000.0
_NOBODY = Identity(Caller.NOBODY)


def _identify(cookie: bytes | None, seconds: float = 0, sessions: Sessions = _SESSIONS) -> Identity:
    return sessions.identify(None, cookie, _START + seconds)


@pytest.mark.parametrize("seconds", [0, 60, 61, LIFETIME - 1])
def test_a_session_lasts(seconds: int) -> None:
    identity = _identify(_SESSIONS.begin(_START), seconds)
    assert (identity.is_admin, identity.handler) == (True, "cookie")
    renewal = _SESSIONS.begin(_START + seconds) if seconds > 60 else None
    assert identity.renewal == renewal


@pytest.mark.parametrize("seconds", [LIFETIME, LIFETIME + 1, 10**9])
def test_a_session_ends(seconds: int) -> None:
    cookie = _SESSIONS.begin(_START)
    assert _identify(cookie, seconds) == _NOBODY
    by_password = _SESSIONS.identify(AUTHORIZATION.encode(), cookie, _START + seconds)
    assert by_password == Identity(Caller.ADMIN, "default")


def test_others_sessions_are_none() -> None:
    for others in (Sessions(_ADMIN, b"other"), Sessions(Credentials("other", "pass"), b"secret")):
        assert _identify(others.begin(_START)) == _NOBODY


@given(st.integers(0, 200), st.integers(1, 255))
def test_no_byte_of_a_session_may_change(place: int, change: int) -> None:
    cookie = bytearray(_SESSIONS.begin(_START))
    cookie[place % len(cookie)] ^= change
    with suppress(Refusal):
        assert not _identify(bytes(cookie)).is_admin


@given(st.binary(max_size=100))
@example(b"")
@example(b'"')
@example(b'""')
@example(b"YTpiOmM")
@example(b"YTo6")
@example(b"\xff")
def test_anything_is_no_session(cookie: bytes) -> None:
    try:
        assert _identify(cookie) == _NOBODY
    except Refusal as refusal:
        status = refusal.status
    else:
        status = 400
    assert status == 400


@pytest.mark.parametrize("time", [b"", b"-1", b"+1", b"x", b" 1", b"0x1", b"F" * 13, b"\xd9\xa1"])
def test_a_time_that_is_none(time: bytes) -> None:
    """Signed by us all the same."""
    assert _identify(_SESSIONS._sign(b"adm:" + time)) == _NOBODY


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(_SESSIONS)
    assert "pass" not in repr(Login("adm", "pass")).replace("password", "")
    assert "renewal" not in repr(_identify(_SESSIONS.begin(_START), 100))


def test_cookies() -> None:
    attributes = b"; Path=/; HttpOnly; SameSite=Strict"
    assert set_cookie(b"x", False) == (b"Set-Cookie", b"AuthSession=x; Version=1; Max-Age=600" + attributes)
    assert set_cookie(b"", True) == (b"Set-Cookie", b"AuthSession=; Version=1; Max-Age=0" + attributes + b"; Secure")


@pytest.mark.parametrize(
    ("name", "password", "does_match"),
    [
        ("adm", "pass", True),
        ("adm", "pas", False),
        ("adm", "passs", False),
        ("adm", "", False),
        ("ad", "pass", False),
        ("", "", False),
        ("adm:pa", "ss", False),
        ("adm", "p\u00e4ss", False),
    ],
)
def test_names_and_passwords(name: str, password: str, does_match: bool) -> None:
    assert _ADMIN.match(name, password) is does_match
    assert Credentials("adm", "pa:ss").match("adm:pa", "ss") is False


_FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("body", "content_type", "login"),
    [
        (b"name=a&password=b", _FORM, Login("a", "b")),
        (b"name=a%20b&password=%C3%A9+c", f"{_FORM}; charset=utf-8", Login("a b", "\u00e9 c")),
        (b"username=a&name=a&password=b", _FORM, Login("a", "b")),
        (b"name=a&name=b&password=b&password=c", _FORM, Login("a", "b")),
        (b"name=a", _FORM, Login("a", "")),
        (b'{"name":"a","password":"b"}', "application/json", Login("a", "b")),
        (b'{"username":"a","password":"b","c":1}', "application/json;charset=utf-8", Login("a", "b")),
    ],
)
def test_logins(body: bytes, content_type: str, login: Login) -> None:
    assert parse_login(body, content_type) == login


@pytest.mark.parametrize("body", [b"[]", b'"name"', b'{"name":5}', b'{"name":"a","password":5}', b'{"name":null}'])
def test_json_that_is_no_login(body: bytes) -> None:
    """CouchDB answers 500."""
    with pytest.raises(Refusal) as raised:
        parse_login(body, "application/json")
    assert raised.value.status == 400


@given(st.binary(), st.sampled_from([_FORM, "application/json", "text/plain", ""]) | st.none())
def test_any_body_is_a_login_or_refused(body: bytes, content_type: str | None) -> None:
    with suppress(Refusal):
        parse_login(body, content_type)


class _LateReactor:
    """The reactor, with another time."""

    late = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def seconds(self) -> float:
        return float(reactor.seconds()) + self.late


@pytest.fixture
def late(tmp_path: Path) -> Iterator[ServedStore]:
    served = ServedStore.start(tmp_path / "store", _LateReactor())
    yield served
    pytest_twisted.blockon(served.stop())


@in_reactor
async def test_a_session_goes_on_while_it_is_used(late: ServedStore) -> None:
    cookie = (await late.log_in()).headers["set-cookie"]
    for _ in range(4):
        late.reactor.late += LIFETIME - 10
        for target, status in (("/_all_dbs", 200), ("/db/doc", 404), ("/db/_compact", 405)):
            answer = await late.ask("GET", target, authorization=None, cookie=cookie.partition(";")[0])
            assert answer.status == status
            assert answer.headers["set-cookie"].startswith("AuthSession=")
        cookie = answer.headers["set-cookie"]
    fresh = await late.ask("GET", "/_all_dbs", authorization=None, cookie=cookie.partition(";")[0])
    assert (fresh.status, "set-cookie" in fresh.headers) == (200, False)
    late.reactor.late += LIFETIME + 10
    answer = await late.ask("GET", "/_all_dbs", authorization=None, cookie=cookie.partition(";")[0])
    assert (answer.status, "set-cookie" in answer.headers) == (401, False)


@in_reactor
async def test_a_session_that_is_ended_is_not_renewed(late: ServedStore) -> None:
    cookie = (await late.log_in()).headers["set-cookie"].partition(";")[0]
    late.reactor.late += LIFETIME - 10
    answer = await late.ask("DELETE", "/_session", authorization=None, cookie=cookie)
    assert answer.headers["set-cookie"].startswith("AuthSession=;")


@in_reactor
async def test_a_session_ends_with_the_store(served: ServedStore) -> None:
    cookie = (await served.log_in()).headers["set-cookie"].partition(";")[0]
    await served.stop()
    served.serve()
    assert (await served.ask("GET", "/_all_dbs", authorization=None, cookie=cookie)).status == 401


@pytest.mark.parametrize("authorization", [None, AUTHORIZATION])
@pytest.mark.parametrize("size", [LONGEST_LOGIN, LONGEST_LOGIN + 1, 1 << 20])
@in_reactor
async def test_a_login_has_a_longest(served: ServedStore, size: int, authorization: str | None) -> None:
    frame = "name=adm&password=pass&rest="
    body = frame + "x" * (size - len(frame))
    answer = await served.ask("POST", "/_session", body, authorization, content_type=_FORM)
    assert answer.status == (200 if size == LONGEST_LOGIN else 413)
    assert served.files("incoming") == []
