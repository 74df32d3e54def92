"""Search engines: what they may index, which is nothing, and ``/robots.txt``."""

from urllib.robotparser import RobotFileParser

import pytest

from tests.gateway.house import TOKEN, House
from tests.scripted import Doc, Stored


@pytest.fixture
def house() -> House:
    return House({"f": Stored(b"bytes"), "robots.txt": Stored(b"an attachment", "text/plain")})


def test_a_crawler_fetches_nothing(house: House) -> None:
    got = house.ask("/robots.txt")
    assert (got.status, got.is_whole, got["Content-Type"]) == (200, True, "text/plain; charset=utf-8")
    parser = RobotFileParser()
    parser.parse(got.body.decode("ascii").splitlines())
    for agent in ("Googlebot", "anything"):
        for path in ("/", "/db/doc/f?token=x", "/db/doc/"):
            assert not parser.can_fetch(agent, f"http://gateway{path}")
    assert house.node.asked == []
    house.assert_at_rest()


@pytest.mark.parametrize("target", ["/robots.txt?x", "/robots.txt?token=x", "http://gateway/robots.txt"])
def test_it_has_one_address(house: House, target: str) -> None:
    assert house.ask(target).body == house.ask("/robots.txt").body
    head = house.ask(target, method="HEAD")
    assert (head.status, head.body, head["Content-Length"]) == (200, b"", house.ask(target)["Content-Length"])


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/robots.txt/", 404),
        ("/robots.txt/doc", 404),
        ("/robots.txtx", 404),
        ("//robots.txt", 404),
        ("/robots.txt/doc/f", 403),
        ("/robots.txt/doc/", 403),
    ],
)
def test_no_other_address_is_its(house: House, target: str, status: int) -> None:
    """Those of a document and of an attachment have more than one segment, and are served as all others are."""
    assert house.ask(f"{target}?token={TOKEN}").status == status


def test_other_methods_are_answered_as_elsewhere(house: House) -> None:
    for method in ("OPTIONS", "POST"):
        assert house.ask("/robots.txt", method=method).status == house.ask("/db/doc/f", method=method).status


def test_an_attachment_may_have_its_name(house: House) -> None:
    house.node.docs["/db/robots.txt"] = Doc({"download_token": TOKEN}, {"robots.txt": Stored(b"another")})
    assert house.ask(f"/db/doc/robots.txt?token={TOKEN}").body == b"an attachment"
    assert house.ask(f"/db/robots.txt/robots.txt?token={TOKEN}").body == b"another"


@pytest.mark.parametrize(
    ("target", "fields", "status"),
    [
        (f"/db/doc/f?token={TOKEN}", {}, 200),
        (f"/db/doc/f?token={TOKEN}", {"Range": "bytes=1-2"}, 206),
        (f"/db/doc/f?token={TOKEN}", {"Range": "bytes=9-"}, 416),
        (f"/db/doc/f?token={TOKEN}", {"If-None-Match": "*"}, 304),
        (f"/db/doc/?token={TOKEN}", {"Accept": "text/html"}, 200),
        (f"/db/doc/?token={TOKEN}", {}, 200),
        ("/db/doc/f?token=wrong", {}, 403),
        ("/", {}, 404),
        ("/robots.txt", {}, 200),
        ("/_up", {}, 200),
        ("/", {"n" * 257: "x"}, 431),
    ],
)
def test_nothing_is_indexed(house: House, target: str, fields: dict[str, str], status: int) -> None:
    """A link that somebody has published opens what it opens, but no search engine lists it."""
    got = house.ask(target, fields)
    assert (got.status, got["X-Robots-Tag"]) == (status, "noindex")
