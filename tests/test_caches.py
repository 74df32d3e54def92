"""What strangers can leave behind in caches: a bounded number of bytes, whatever they send."""

import gc
import importlib
import json
import pkgutil
import sys
from collections.abc import Callable, Iterator
from functools import _lru_cache_wrapper
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw
from twisted.web.http_headers import _nameEncoder

import txcouchdl
from tests.cli.desk import Desk, FileServer
from tests.gateway.house import TOKEN, House
from tests.scripted import Stored
from txcouchdl.cli.outcomes import Passing
from txcouchdl.couch.documents import AttachmentStub, Digest, Storage, parse_stub
from txcouchdl.couch.names import AttachmentAddress, attachment_path, document_path, parse_address, quote_segment
from txcouchdl.gateway.description import Description, entity_tag
from txcouchdl.gateway.peers import TrustedProxies
from txcouchdl.gateway.request import field_lines
from txcouchdl.protocol.disposition import content_disposition
from txcouchdl.protocol.fields import LONGEST_NAME
from txcouchdl.protocol.media_types import essence
from txcouchdl.short_cache import LONGEST_KEY, short_cache

#: Bytes that each entry of a cache may have, on average.
MOST = 5 * 2**10
#: Calls, more than any cache keeps results of.
MANY = 1100
#: Characters of a text: a third of what a client can send, and what is just kept.
LENGTHS = (3_000, 900, LONGEST_KEY // 3, LONGEST_KEY - 10)


def stub(number: int, text: str) -> AttachmentStub:
    md5 = number.to_bytes(16, "big")
    return AttachmentStub(f"{number}{text}", f"text/{text}", Digest(md5), Storage.IDENTITY, number, number, 1, md5 * 2)


def described(number: int, text: str) -> None:
    shown = Description(stub(number, text), download=text if number % 2 else None)
    shown.fields("bytes")


def parsed(number: int, text: str) -> None:
    digest = Digest(number.to_bytes(16, "big"))
    sha256 = f"{number:042d}A="
    told = {"digest": digest.text, "length": 1, "sha256": sha256, "content_type": text, "revpos": text}
    assert parse_stub(text, told).sha256


def decoded(number: int, text: str) -> None:
    stub = {"digest": Digest(number.to_bytes(16, "big")).text, "length": 1, "content_type": text}
    assert parse_stub(f"{number}{text}", Raw(json.dumps(stub, ensure_ascii=False).encode())).length


#: Each cache, and how a stranger fills it: with a number that makes the call another one, and a text as long as can be.
#: The texts are the worst there are: wide characters, each of which is quoted in twelve.
FILLED_BY: dict[str, Callable[[int, str], object]] = {
    "txcouchdl.couch.names.parse_address": lambda number, text: parse_address(f"/db/{number}{text}/{text}".encode()),
    "txcouchdl.couch.names.quote_segment": lambda number, text: quote_segment(f"{number}{text}"),
    "txcouchdl.couch.names.document_path": lambda number, text: document_path(f"{number}", text),
    "txcouchdl.couch.names._attachment_path": lambda number, text: attachment_path(
        AttachmentAddress("db", f"{number}{text}", text)
    ),
    "txcouchdl.couch.documents._parse_digest": parsed,
    "txcouchdl.couch.documents._parse_small_stub": decoded,
    "txcouchdl.couch.documents._decode_sha256": parsed,
    "txcouchdl.gateway.description._presented": described,
    "txcouchdl.gateway.description._digested": described,
    "txcouchdl.gateway.description._entity_tag": lambda number, text: entity_tag(stub(number, text)),
    # A peer is told by the transport, and its address has a bound there.
    "txcouchdl.gateway.peers._peer_text": lambda number, text: TrustedProxies().client_of(
        f"{number}{text[:100]}", None
    ),
    "txcouchdl.gateway.request._line": lambda number, text: field_lines(
        (("X", f"{number}{text}".encode().decode("latin-1")),)
    ),
    "txcouchdl.protocol.disposition.content_disposition": lambda number, text: content_disposition(
        "inline", f"{number}{text}"
    ),
    "txcouchdl.protocol.media_types.essence": lambda number, text: essence(f"text/{number}{'x' * len(text)}; a={text}"),
}


def caches() -> Iterator[tuple[str, "_lru_cache_wrapper[object]"]]:
    """All that this package has."""
    for module in pkgutil.walk_packages(txcouchdl.__path__, "txcouchdl."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for each in gc.get_objects():
        if isinstance(each, _lru_cache_wrapper) and each.__module__.startswith("txcouchdl."):
            yield f"{each.__module__}.{each.__qualname__}", each


def size(thing: object, seen: set[int]) -> int:
    """Bytes of an object, and of what it is made of, as far as that is data."""
    if id(thing) in seen or isinstance(thing, type) or callable(thing):
        return 0
    seen.add(id(thing))
    return sys.getsizeof(thing) + sum(size(each, seen) for each in gc.get_referents(thing))


def held(cache: "_lru_cache_wrapper[object]") -> int:
    seen: set[int] = set()
    return sum(size(each, seen) for each in gc.get_referents(cache))


def test_each_cache_is_known_here() -> None:
    assert {name for name, _ in caches()} == FILLED_BY.keys()


def test_no_cache_is_unbounded() -> None:
    assert [cache.cache_info().maxsize for _, cache in caches() if not cache.cache_info().maxsize] == []


@pytest.mark.parametrize("name", FILLED_BY)
def test_what_a_cache_holds(name: str) -> None:
    cache = dict(caches())[name]
    try:
        for length in LENGTHS:
            for number in range(MANY):
                FILLED_BY[name](number, "\U0001f600" * (length // (1 if number % 2 else 2)))
                FILLED_BY[name](number, "x" * length)
            assert held(cache) <= MOST * (cache.cache_info().maxsize or 0)
        assert cache.cache_info().currsize, "nothing came there"
    finally:
        cache.cache_clear()


# The decorator.


def one(text: str | None) -> list[object]:
    return [text]


def two(left: str, right: bytes) -> list[object]:
    return [left, right]


def several(left: str | None, middle: int, right: bytes) -> list[object]:
    return [left, middle, right]


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (one, ("",)),
        (one, ("a" * 10,)),
        (one, (None,)),
        (two, ("a" * 10, b"")),
        (two, ("", b"b" * 10)),
        (two, ("a" * 5, b"b" * 5)),
        (several, ("a" * 5, 10**20, b"b" * 5)),
        (several, (None, 1, b"b" * 10)),
    ],
)
def test_short_keys_are_kept(function: Callable[..., list[object]], arguments: tuple[Any, ...]) -> None:
    kept = short_cache(2, 10)(function)
    assert kept(*arguments) == function(*arguments)
    assert kept(*arguments) is kept(*arguments)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (one, ("a" * 11,)),
        (two, ("a" * 11, b"")),
        (two, ("", b"b" * 11)),
        (two, ("a" * 6, b"b" * 5)),
        (several, ("a" * 6, 1, b"b" * 5)),
        (several, (None, 1, b"b" * 11)),
    ],
)
def test_long_keys_are_computed_anew(function: Callable[..., list[object]], arguments: tuple[Any, ...]) -> None:
    kept = short_cache(2, 10)(function)
    assert kept(*arguments) == function(*arguments)
    assert kept(*arguments) is not kept(*arguments)


def test_the_last_results_are_kept() -> None:
    calls = []

    @short_cache(2)
    def same(text: str) -> str:
        calls.append(text)
        return text

    for text in ("a", "b", "a", "c", "a", "b"):
        same(text)
    assert calls == ["a", "b", "c", "b"]


# Twisted's table of field names, which is the process' own.


def longest_name() -> int:
    return max(map(len, _nameEncoder._canonicalHeaderCache))


@pytest.mark.parametrize("more", [{}, {"Expect": "x"}], ids=["read at once", "read line by line"])
def test_no_long_name_of_a_client_is_kept(more: dict[str, str]) -> None:
    house = House({"f": Stored(b"bytes")})
    for length in (LONGEST_NAME + 1, 5_000, 16_000):
        name = f"X-{length}-".ljust(length, "n")
        got = house.ask(f"/db/doc/f?token={TOKEN}", {name: "1", **more})
        assert (got.status, got.is_whole, got.is_closed) == (431, True, True)
    assert longest_name() <= LONGEST_NAME
    assert house.node.asked == []


def test_no_long_name_of_a_server_is_kept_by_the_command(tmp_path: Path) -> None:
    server = FileServer(b"hello", changes={"X-".ljust(60_000, "n"): "1"})
    with pytest.raises(Passing):
        Desk(tmp_path, server.factory()).get()
    assert longest_name() <= LONGEST_NAME
    server.changes = {"X-".ljust(LONGEST_NAME, "n"): "1"}
    assert Desk(tmp_path, server.factory()).get().length == 5
    assert longest_name() == LONGEST_NAME
