"""The state of a download: what was written is read again, and nothing else is."""

import hashlib
import json
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, composite

from txcouchdl.cli.record import LONGEST, Record, read_record
from txcouchdl.cli.spans import Spans
from txcouchdl.protocol.ranges import ByteRange

ADDRESS = "0" * 64


@composite
def records(draw: DrawFn) -> Record:
    length = draw(st.integers(1, 2**62))
    firsts = draw(st.lists(st.integers(0, length - 1), max_size=5))
    done = Spans(ByteRange(first, draw(st.integers(first, length - 1))) for first in firsts)
    etag = draw(st.from_regex(r'"[\x21\x23-\x7e\x80-\xff]{0,20}"', fullmatch=True))
    address = hashlib.sha256(draw(st.binary())).hexdigest()
    digests = draw(st.dictionaries(st.sampled_from(["md5", "sha-256"]), st.binary(max_size=4)))
    inode = draw(st.integers(0, 2**64))
    return Record(address=address, etag=etag, length=length, inode=inode, digests=digests, done=done)


@given(records())
def test_round_trip(record: Record) -> None:
    assert read_record(record.write()) == record


def test_what_is_not_known() -> None:
    record = Record(address=ADDRESS, etag=None, length=None, inode=1)
    assert read_record(record.write()) == record


@given(records(), st.data())
def test_a_torn_one_is_none(record: Record, data: st.DataObject) -> None:
    written = record.write()
    end = data.draw(st.integers(0, len(written) - 1))
    assert read_record(written[:end]) is None
    assert read_record(written[:end] + bytes(len(written) - end)) is None


@given(records(), records(), st.data())
def test_one_that_is_half_another_is_none(record: Record, other: Record, data: st.DataObject) -> None:
    end = data.draw(st.integers(0, len(record.write())))
    mixed = record.write()[:end] + other.write()[end:]
    assert read_record(mixed) in (None, record, other)


@given(records(), st.data())
def test_a_changed_byte_makes_it_none(record: Record, data: st.DataObject) -> None:
    written = bytearray(record.write())
    written[data.draw(st.integers(0, len(written) - 1))] ^= data.draw(st.integers(1, 255))
    assert read_record(bytes(written)) is None


@given(st.binary())
def test_garbage_is_none(garbage: bytes) -> None:
    assert read_record(garbage) is None


def _signed(members: Any) -> bytes:
    line = json.dumps(members).encode()
    return line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n"


GOOD: dict[str, Any] = {
    "format": "couchdl-part-1",
    "address": ADDRESS,
    "etag": '"x"',
    "length": 10,
    "inode": 1,
    "digests": {"md5": "0a"},
    "done": [[0, 4]],
}


def test_the_format() -> None:
    """A later version has to read it; as this one reads those without digests."""
    done = Spans([ByteRange(0, 4)])
    record = Record(address=ADDRESS, etag='"x"', length=10, inode=1, digests={"md5": b"\x0a"}, done=done)
    assert read_record(_signed(GOOD)) == record
    assert record.write() == _signed(GOOD)
    older = {name: value for name, value in GOOD.items() if name != "digests"}
    assert read_record(_signed(older)) == evolve(record, digests={})


@pytest.mark.parametrize(
    "change",
    [
        {"format": "couchdl-part-2"},
        {"address": "x"},
        {"etag": 'W/"x"'},
        {"etag": '"x"\r\nCookie: y"'},
        {"etag": None},
        {"length": -1},
        {"length": "10"},
        {"length": 4},
        {"length": None},
        {"inode": "1"},
        {"done": [[0, 10]]},
        {"done": [[4, 0]]},
        {"done": [[-1, 4]]},
        {"done": [[0.0, 4.0]]},
        {"done": [[False, True]]},
        {"done": [[0]]},
        {"done": {"0": 4}},
        {"done": 1},
        {"digests": ["md5"]},
        {"digests": {"md5": "x"}},
        {"digests": {"md5": 1}},
        {"more": 1},
    ],
)
def test_what_cannot_be_is_none(change: dict[str, Any]) -> None:
    """Even if its sum is right."""
    assert read_record(_signed({**GOOD, **change})) is None


@pytest.mark.parametrize("members", [[], 1, None, "x", {}])
def test_other_json_is_none(members: Any) -> None:
    assert read_record(_signed(members)) is None


def test_one_that_is_nested_too_deep_is_none() -> None:
    line = b"[" * 100_000
    assert read_record(line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n") is None


def test_one_that_is_too_long_is_none() -> None:
    assert read_record(_signed({**GOOD, "more": "x" * LONGEST})) is None
