"""docs/protocol.rst names each status and each header field that there is, and no others."""

import ast
import gzip
import json
import re
from collections.abc import Iterator

from tests.docs.pages import PAGES, ROOT
from tests.gateway.house import TOKEN, Answer, House
from tests.scripted import Stored
from txcouchdl.gateway.guess_queue import LONGEST_QUEUE
from txcouchdl.gateway.guesses import GUESS_LIMIT

PAGE = PAGES["protocol.rst"]
GATEWAY = ROOT / "txcouchdl" / "gateway"
ORIGIN = "https://www.example.org"
FILE = f"/db/doc/f.txt?token={TOKEN}"


def section(title: str) -> str:
    begin = PAGE.index(f"\n{title}\n{'-' * len(title)}\n")
    found = re.compile(r"\n\n\n").search(PAGE, begin)
    return PAGE[begin : found.start() if found else None]


def terms(title: str) -> set[str]:
    """What a definition list of a section defines, in lower case."""
    lines = re.findall(r"^(``[A-Z].*)$", section(title), re.MULTILINE)
    return {term.lower() for line in lines for term in re.findall(r"``([\w-]+)``", line)}


def statuses_of_the_code() -> Iterator[int]:
    for path in GATEWAY.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                first = node.args[0]
                is_answer = node.func.id in {"ErrorAnswer", "DeliveryPlan"}
                if is_answer and isinstance(first, ast.Constant):
                    assert isinstance(first.value, int)
                    yield first.value


def test_statuses() -> None:
    told = {int(each) for each in re.findall(r"^(\d{3})  +\S", section("Statuses"), re.MULTILINE)}
    assert told == {*statuses_of_the_code()}


def test_fields_of_requests() -> None:
    code = "".join((GATEWAY / name).read_text("utf-8") for name in ("app.py", "facts.py", "credentials.py"))
    read = set(re.findall(r'(?:field_?of|_field|fields\.get)\((?:\w+(?:\.\w+)*, )?b"([a-z-]+)"', code))
    assert len(read) > 8
    assert terms("Fields of a request") == read


def answers() -> Iterator[Answer]:
    """One of each kind."""
    house = House(
        {
            "f.txt": Stored(b"0123456789"),
            # Its length is not known before it has been read.
            "g.txt": Stored.encoded(gzip.compress(b"0" * 100_000)),
        },
        origins=[ORIGIN],
    )
    etag = house.ask(FILE)["ETag"]
    for method in ("GET", "HEAD", "OPTIONS", "PUT"):
        yield house.ask(FILE, {"Origin": ORIGIN}, method)
    for fields in (
        {"Range": "bytes=1-2"},
        {"Range": "bytes=1-2,5-6"},
        {"Range": "bytes=99-"},
        {"If-None-Match": etag},
        {"If-Match": '"x"'},
        {"Connection": "close"},
    ):
        yield house.ask(FILE, fields)
    yield house.ask(f"/db/doc/g.txt?token={TOKEN}")
    yield house.ask(f"/db/doc/?token={TOKEN}")
    yield house.ask(f"/db/doc/?token={TOKEN}", {"Accept": "text/html"})
    for _ in range(GUESS_LIMIT + LONGEST_QUEUE):
        house.send("/db/doc/f.txt?token=wrong")
        house.network.run()
    yield house.ask("/db/doc/f.txt?token=wrong")
    house.node.docs.clear()
    yield house.ask(FILE)
    yield House(asks_password=True).ask("/db/doc/f.txt")


def test_fields_of_answers() -> None:
    seen = {name for answer in answers() for name in answer.headers}
    assert {"retry-after", "content-range", "allow"} <= seen
    assert terms("Fields of an answer") == seen


def test_the_members_of_a_page() -> None:
    house = House({"f.txt": Stored(b"0123456789")})
    listing = json.loads(house.ask(f"/db/doc/?token={TOKEN}").body)
    (entry,) = listing["attachments"]
    told = re.findall(r"``([a-z_]+)``", section("A document's page").replace("``null``", ""))
    assert told == [*(each for each in listing if each != "attachments"), "attachments", *entry]
    assert entry["repr_digest"].keys() <= {"sha-256", "md5"}
