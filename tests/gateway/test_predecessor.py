"""
What users of couchdb_download_token rely on, and what it got wrong.

The behaviours are those of its own tests and documentation; the tests are ours.
"""

import hmac
import json
from urllib.parse import quote

import pytest

from tests.gateway.house import TOKEN, Answer, House
from tests.scripted import Doc, Stored

BINARY = bytes(range(256))


@pytest.fixture
def house() -> House:
    return House({"file.txt": Stored(BINARY, "custom/type")})


def with_secret(secret: object, key: str = "download_token") -> House:
    house = House({"file.txt": Stored(BINARY)})
    house.doc.fields = {} if secret is ... else {key: secret}
    return house


def assert_forbidden(answer: Answer) -> None:
    assert (answer.status, answer.is_whole) == (403, True)
    assert answer["Content-Type"] == "application/json"
    assert json.loads(answer.body) == {
        "error": "forbidden",
        "reason": "Incorrect download token or unexisting document or database",
        # Its own names for the same.
        "title": "Forbidden",
        "description": "Incorrect download token or unexisting document or database",
    }


def test_binary_safe_body_and_content_type(house: House) -> None:
    answer = house.ask(f"/db/doc/file.txt?token={TOKEN}")
    assert (answer.status, answer.body, answer["Content-Type"]) == (200, BINARY, "custom/type")


@pytest.mark.parametrize(
    "query", ["", "?other=asd", "?token=", "?token", "?Token=s3cret", "?token=54321", "?token=s3cre"]
)
def test_a_wrong_token_or_none(house: House, query: str) -> None:
    assert_forbidden(house.ask(f"/db/doc/file.txt{query}"))


@pytest.mark.parametrize(
    "secret", [..., None, "", 12345, 0, True, False, {}, {"a": "12345"}, [], [12345], [None], [""]]
)
@pytest.mark.parametrize(
    "query", ["", "?token=12345", "?token=", "?token=None", "?token=null", "?token=True", "?token=0"]
)
def test_a_document_without_a_usable_secret_is_closed(secret: object, query: str) -> None:
    assert_forbidden(with_secret(secret).ask(f"/db/doc/file.txt{query}"))


def test_403_beats_404(house: House) -> None:
    assert_forbidden(house.ask("/db/doc/nope.txt?token=bad"))


def test_404_behind_a_right_token(house: House) -> None:
    answer = house.ask(f"/db/doc/nope.txt?token={TOKEN}")
    assert answer.status == 404
    assert json.loads(answer.body) == {
        "error": "not_found",
        "reason": "Document is missing attachment",
        "title": "Not Found",
        "description": "Document is missing attachment",
    }


def test_a_document_without_attachments_is_a_404_too() -> None:
    assert House().ask(f"/db/doc/nope.txt?token={TOKEN}").status == 404


def test_the_name_of_the_field_can_be_chosen() -> None:
    assert House({"f": Stored(BINARY)}, token_key="secret").ask(f"/db/doc/f?token={TOKEN}").status == 200


def test_a_name_with_dots_is_that_field_before_it_is_a_path() -> None:
    """There it was the name of a field and nothing else."""
    house = House({"f": Stored(BINARY)}, token_key="my.key")
    assert house.ask(f"/db/doc/f?token={TOKEN}").status == 200


def test_a_nested_field() -> None:
    house = House({"f": Stored(BINARY)}, token_key="data.token")
    house.doc.fields = {"data": {"token": "deep"}}
    assert house.ask("/db/doc/f?token=deep").status == 200
    house.doc.fields = {"data": "deep"}
    assert_forbidden(house.ask("/db/doc/f?token=deep"))


# What it got wrong.


@pytest.mark.parametrize("target", ["/db/missing/file.txt", "/missing/doc/file.txt", "/db/doc/file.txt"])
def test_whatever_exists_the_403_is_the_same_to_the_byte(house: House, target: str) -> None:
    """A missing database or document was a 500."""
    answers = [house.ask(f"{target}?token=wrong"), house.ask(target)]
    assert_forbidden(answers[0])
    known = house.ask("/db/doc/file.txt?token=wrong")
    assert all((each.body, each.headers.keys()) == (known.body, known.headers.keys()) for each in answers)


def test_a_deleted_document_is_closed(house: House) -> None:
    house.node.docs["/db/doc"] = Doc({"_deleted": True, "_attachments": {}})
    assert_forbidden(house.ask(f"/db/doc/file.txt?token={TOKEN}"))


def test_secrets_are_compared_in_constant_time(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    compare_digest = hmac.compare_digest

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return compare_digest(a, b)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    house.doc.fields["download_token"] = ["one", TOKEN, "three"]
    assert house.ask(f"/db/doc/file.txt?token={TOKEN}").status == 200
    assert len(compared) == 3, "each of them, whichever it was"
    assert len({len(each) for pair in compared for each in pair}) == 1, "of one length"


def test_head_gives_the_length(house: House) -> None:
    answer = house.ask(f"/db/doc/file.txt?token={TOKEN}", method="HEAD")
    assert (answer.status, answer["Content-Length"], answer.body) == (200, "256", b"")


# What is new.


def test_a_bearer_token(house: House) -> None:
    assert house.ask("/db/doc/file.txt", {"Authorization": f"Bearer {TOKEN}"}).status == 200
    assert house.ask("/db/doc/file.txt", {"authorization": f"bearer {TOKEN}"}).status == 200
    assert_forbidden(house.ask("/db/doc/file.txt", {"Authorization": f"Basic {TOKEN}"}))
    assert_forbidden(house.ask("/db/doc/file.txt?token=wrong", {"Authorization": f"Bearer {TOKEN}"}))


def test_two_tokens_are_none(house: House) -> None:
    assert_forbidden(house.ask(f"/db/doc/file.txt?token={TOKEN}&token={TOKEN}"))


def test_rotation(house: House) -> None:
    house.doc.fields["download_token"] = ["new", "old"]
    assert [house.ask(f"/db/doc/file.txt?token={each}").status for each in ("new", "old", "n")] == [200, 200, 403]
    house.doc.fields["download_token"] = ["new"]
    assert_forbidden(house.ask("/db/doc/file.txt?token=old"))


@pytest.mark.parametrize("secret", ["a+b c", "ü€", "100%", "a&b=c", "\ud800"])
def test_odd_secrets(house: House, secret: str) -> None:
    house.doc.fields["download_token"] = secret
    quoted = quote(secret.encode("utf-8", "surrogatepass"), safe="")
    assert house.ask(f"/db/doc/file.txt?token={quoted}").status == 200
    assert_forbidden(house.ask(f"/db/doc/file.txt?token={quoted}x"))
