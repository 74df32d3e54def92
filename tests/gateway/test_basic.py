"""HTTP Basic: the secret as the password, for programs that can send nothing else."""

import json
from base64 import b64encode
from binascii import a2b_base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.gateway.house import TOKEN, Answer, House
from tests.metrics.reading import counted
from tests.scripted import Stored
from txcouchdl.couch.names import DocumentAddress, parse_address
from txcouchdl.gateway.credentials import Place, realm_of, token_of

F = "/db/doc/f"


def basic(password: str | bytes, user: str | bytes = "podcast") -> str:
    user, password = (each.encode() if isinstance(each, str) else each for each in (user, password))
    return f"Basic {b64encode(user + b':' + password).decode()}"


def house(guess_limit: int = 60, asks_password: bool = False, origins: tuple[str, ...] = ()) -> House:
    return House({"f": Stored(b"bytes")}, guess_limit=guess_limit, asks_password=asks_password, origins=origins)


# Where a secret is shown.

SIGNED = {b"signature": [b"s"], b"expires": [b"1"]}
RIGHT, WRONG = f"Bearer {TOKEN}".encode(), basic("other").encode()


@pytest.mark.parametrize(
    ("parameters", "lines", "found"),
    [
        ({}, [], (Place.NOWHERE, None)),
        ({}, [b"Digest x", b"Negotiate y", b"Basic", b""], (Place.NOWHERE, None)),
        ({b"token": [b"t"]}, [], (Place.ADDRESS, b"t")),
        ({b"token": [b"t"]}, [RIGHT, WRONG], (Place.ADDRESS, b"t")),
        ({b"token": [b""]}, [RIGHT, WRONG], (Place.ADDRESS, b"")),
        ({b"token": [b"t", b"t"]}, [WRONG], (Place.ADDRESS, None)),
        ({}, [RIGHT], (Place.BEARER, TOKEN.encode())),
        ({}, [WRONG, RIGHT], (Place.BEARER, TOKEN.encode())),
        ({}, [RIGHT, RIGHT, WRONG], (Place.BEARER, None)),
        ({}, [b"bearer", WRONG], (Place.BASIC, b"other")),
        (SIGNED, [WRONG], (Place.ADDRESS, None)),
        (SIGNED, [RIGHT, WRONG], (Place.BEARER, TOKEN.encode())),
        ({b"signature": []}, [WRONG], (Place.ADDRESS, None)),
        ({}, [WRONG], (Place.BASIC, b"other")),
        ({}, [WRONG, WRONG], (Place.BASIC, None)),
        ({}, [b"bAsIc   " + WRONG[6:] + b" "], (Place.BASIC, b"other")),
        ({}, [b"Basic " + b64encode(b"u:a:b:c")], (Place.BASIC, b"a:b:c")),
        ({}, [b"Basic " + b64encode(b":p")], (Place.BASIC, b"p")),
        ({}, [b"Basic " + b64encode(b"u:")], (Place.BASIC, b"")),
        ({}, [b"Basic " + b64encode(b"secret")], (Place.BASIC, None)),
        ({}, [b"Basic !" + b64encode(b"u:p")], (Place.BASIC, None)),
        ({}, [b"Basic dTp"], (Place.BASIC, None)),
        ({}, [b"Basic \xff"], (Place.BASIC, None)),
        ({}, [b"Basic "], (Place.BASIC, None)),
    ],
)
def test_the_place_of_a_secret(
    parameters: dict[bytes, list[bytes]], lines: list[bytes], found: tuple[Place, bytes | None]
) -> None:
    assert token_of(parameters, {b"authorization": lines}) == found


@given(st.binary().filter(lambda user: b":" not in user), st.binary())
@example(b"", b":")
def test_any_user_and_any_password(user: bytes, password: bytes) -> None:
    found = token_of({}, {b"authorization": [basic(password, user).encode()]})
    assert found == (Place.BASIC, password)


@given(st.binary())
def test_any_credentials_are_read_or_not(credentials: bytes) -> None:
    place, password = token_of({}, {b"authorization": [b"Basic " + credentials]})
    assert place is Place.BASIC
    assert password is None or password in a2b_base64(credentials)


# What it opens.


@pytest.mark.parametrize("user", ["", "podcast", "ü", "s3cret"])
@pytest.mark.parametrize("target", [F, "/db/doc/"])
def test_a_password_opens(target: str, user: str) -> None:
    assert house().ask(target, {"Authorization": basic(TOKEN, user)}).status == 200


@pytest.mark.parametrize("target", [f"{F}?token=wrong", f"{F}?token=", f"{F}?signature=x&expires=99999999999"])
def test_a_password_beside_another_secret_opens_nothing(target: str) -> None:
    assert_refused(house().ask(target, {"Authorization": basic(TOKEN)}), 403)


def test_the_user_name_is_no_secret() -> None:
    assert_refused(house().ask(F, {"Authorization": basic("wrong", TOKEN)}), 403)
    assert_refused(house().ask(F, {"Authorization": basic("", TOKEN)}), 403)


def test_the_password_of_a_proxy_in_front_is_no_guess() -> None:
    """The proxy has asked for it, and passes it on with each request."""
    told = house(guess_limit=1)
    for _ in range(5):
        assert told.ask(f"{F}?token={TOKEN}", {"Authorization": basic("the proxy's")}).status == 200
    assert "wrong_tokens_total" not in counted(told.table)


def test_a_password_alone_is_a_guess_like_any_other() -> None:
    told = house(guess_limit=2)
    answers = [told.ask(F, {"Authorization": basic(f"guess {number}")}) for number in range(2)]
    assert [answer.status for answer in answers] == [403, 403]
    assert counted(told.table)["wrong_tokens_total"] == 2
    waiting = told.send(F, {"Authorization": basic("guess")})
    told.network.run()
    assert waiting.received == b""
    assert len(told.node.asked) == 2


@pytest.mark.parametrize("authorization", [basic(""), "Basic !", "Basic"])
def test_credentials_without_a_password_are_no_guess(authorization: str) -> None:
    told = house(guess_limit=1)
    for _ in range(3):
        assert_refused(told.ask(F, {"Authorization": authorization}), 403)
    assert told.node.asked == []


def test_no_log_has_the_password() -> None:
    told = house()
    told.ask(F, {"Authorization": basic(TOKEN)})
    told.ask(F, {"Authorization": basic("wrong-secret", "someone")})
    assert len(told.log) == 2
    assert not any(each in line for line in told.log for each in (TOKEN, basic(TOKEN)[6:], "wrong-secret", "someone"))


# Asking for it.

#: What is there, and what is not.
TARGETS = [F, "/db/doc/none", "/db/none/f", "/none/doc/f", "/_users/a/f", "/db/_local/f", "/db/doc/", "/db/none/"]


def assert_refused(answer: Answer, status: int) -> None:
    assert answer.status == status
    error = "unauthorized" if status == 401 else "forbidden"
    told = json.loads(answer.body)
    assert (told["error"], told["reason"]) == (error, "Incorrect download token or unexisting document or database")
    assert ("www-authenticate" in answer.headers) == (status == 401)
    assert answer["Cache-Control"] == "no-store"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("fields", [{}, {"Authorization": basic("wrong")}, {"Authorization": "Digest x"}])
def test_by_default_nobody_is_asked(target: str, fields: dict[str, str]) -> None:
    assert_refused(house().ask(target, fields), 403)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "fields",
    [{}, {"Authorization": basic("wrong")}, {"Authorization": basic("")}, {"Authorization": "Digest x"}],
    ids=["no secret", "a wrong password", "no password", "another scheme"],
)
def test_whatever_exists_it_is_asked_for(fields: dict[str, str], method: str) -> None:
    """The status depends on what the request shows, and not on what there is."""
    told = house(asks_password=True)
    answers = {target: told.ask(target, fields, method) for target in TARGETS}
    for target, answer in answers.items():
        realm = realm_of(document_of(target))
        assert answer["WWW-Authenticate"] == f'Basic realm="{realm}", charset="UTF-8"'
        if method == "GET":
            assert_refused(answer, 401)
    others = [{**answer.headers, "www-authenticate": "", "date": ""} for answer in answers.values()]
    assert all(each == others[0] for each in others)
    assert len({answer.body for answer in answers.values()}) == 1


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("query", ["?token=wrong", "?token=", "?signature=x", "?expires=1&signature=x"])
def test_who_shows_another_secret_is_not_asked(target: str, query: str) -> None:
    told = house(asks_password=True)
    assert_refused(told.ask(target + query), 403)
    assert_refused(told.ask(target + query, {"Authorization": basic(TOKEN)}), 403)


@pytest.mark.parametrize("target", TARGETS)
def test_a_bearer_is_not_asked(target: str) -> None:
    assert_refused(house(asks_password=True).ask(target, {"Authorization": "Bearer wrong"}), 403)


def test_the_wrong_password_that_is_asked_for_again_is_a_guess() -> None:
    told = house(guess_limit=1, asks_password=True)
    assert_refused(told.ask(F), 401)
    assert told.node.asked == []
    assert_refused(told.ask(F, {"Authorization": basic("wrong")}), 401)
    assert counted(told.table)["wrong_tokens_total"] == 1


def document_of(target: str) -> DocumentAddress:
    address = parse_address(target.encode())
    return address if isinstance(address, DocumentAddress) else address.document


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.text('"\\\r\n\xff, x', max_size=800))
@example("db", "x" * 600)
def test_a_realm_is_one_quoted_string(database: str, document_id: str) -> None:
    realm = realm_of(DocumentAddress(database, document_id))
    assert len(realm) <= 512
    assert realm.isascii()
    assert realm.isprintable()
    assert not {'"', "\\", " "} & {*realm}


def test_documents_have_realms_of_their_own() -> None:
    """A browser keeps one password for a realm."""
    assert {realm_of(document_of(each)) for each in (F, "/db/doc/", "/db/doc/g")} == {"/db/doc"}
    assert realm_of(document_of("/db/other/f")) == "/db/other"
    assert realm_of(document_of("/db/a%2Fb%22/f")) == "/db/a%2Fb%22"


# What caches are told.


@pytest.mark.parametrize("authorization", [f"Bearer {TOKEN}", basic(TOKEN)])
@pytest.mark.parametrize(
    ("name", "fields", "status"),
    [
        ("f", {}, 200),
        ("f", {"Range": "bytes=1-2"}, 206),
        ("f", {"If-None-Match": "*"}, 304),
        ("f", {"If-Match": '"x"'}, 412),
        ("f", {"Range": "bytes=9-"}, 416),
        ("none", {}, 404),
    ],
)
def test_an_answer_that_a_field_opened_depends_on_it(
    authorization: str, name: str, fields: dict[str, str], status: int
) -> None:
    path, field = f"/db/doc/{name}", {"Authorization": authorization}
    answer = house().ask(path, fields | field)
    assert (answer.status, answer["Vary"]) == (status, "Authorization")
    assert house(origins=("https://a.example",)).ask(path, fields | field)["Vary"] == "Origin, Authorization"
    # The address is all that the answer depends on.
    assert "vary" not in house().ask(f"{path}?token={TOKEN}", fields | field).headers
