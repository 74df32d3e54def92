"""The lengths that only a full pass can tell: remembered, and boundedly many of them."""

import attrs

from txcouchdl.couch.documents import AttachmentStub, Digest, Storage
from txcouchdl.couch.source import IdentityLengths


def stub(number: int) -> AttachmentStub:
    """One of many attachments that were uploaded compressed."""
    return AttachmentStub("f", None, Digest(number.to_bytes(16, "big")), Storage.ENCODED, 100, None)


def known(lengths: IdentityLengths, numbers: range) -> list[int]:
    return [number for number in numbers if lengths.completed(stub(number)).length is not None]


def test_a_length_is_remembered_for_what_is_stored() -> None:
    lengths = IdentityLengths()
    lengths.learn(stub(1), 500)
    assert lengths.completed(attrs.evolve(stub(1), name="another name", content_type="a/b")).length == 500
    assert lengths.completed(stub(2)).length is None
    assert lengths.completed(attrs.evolve(stub(1), stored_length=101)).length is None


def test_a_length_that_the_stub_tells_is_the_stubs() -> None:
    lengths = IdentityLengths()
    lengths.learn(stub(1), 500)
    assert lengths.completed(attrs.evolve(stub(1), length=7)).length == 7


def test_no_more_are_remembered_than_there_is_room_for() -> None:
    lengths = IdentityLengths(capacity=3)
    for number in range(10):
        lengths.learn(stub(number), number)
    assert known(lengths, range(10)) == [7, 8, 9]


def test_the_least_recently_used_goes_first() -> None:
    lengths = IdentityLengths(capacity=3)
    for number in (0, 1, 2):
        lengths.learn(stub(number), number)
    lengths.completed(stub(0))
    lengths.learn(stub(3), 3)
    assert known(lengths, range(4)) == [0, 2, 3]


def test_learning_again_is_using() -> None:
    lengths = IdentityLengths(capacity=3)
    for number in (0, 1, 2, 0, 3):
        lengths.learn(stub(number), number)
    assert known(lengths, range(4)) == [0, 2, 3]
