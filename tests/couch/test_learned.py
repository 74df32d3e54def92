"""What only a full pass can tell: remembered of one document, and boundedly much of it."""

import hashlib
import tracemalloc

import attrs
import pytest

from txcouchdl.couch.decoding import Identity
from txcouchdl.couch.documents import AttachmentStub, Digest, Storage
from txcouchdl.couch.learned import LearnedIdentities
from txcouchdl.couch.names import DocumentAddress, document_path

WHERE = DocumentAddress("db", "doc")


def stub(number: int, storage: Storage = Storage.ENCODED) -> AttachmentStub:
    """One of many attachments that were uploaded compressed, or that CouchDB has compressed."""
    length = None if storage is Storage.ENCODED else number
    return AttachmentStub("f", None, Digest(number.to_bytes(16, "big")), storage, 100, length)


def identity(number: int) -> Identity:
    return Identity(number, hashlib.sha256(bytes(number)).digest())


def known(learned: LearnedIdentities, numbers: range) -> list[int]:
    return [number for number in numbers if learned.completed(WHERE, stub(number)).length is not None]


@pytest.mark.parametrize("storage", [Storage.ENCODED, Storage.COMPRESSED])
def test_an_identity_is_remembered_for_what_is_stored(storage: Storage) -> None:
    learned = LearnedIdentities()
    learned.learn(WHERE, stub(5, storage), identity(5))
    renamed = attrs.evolve(stub(5, storage), name="another name", content_type="a/b")
    completed = learned.completed(DocumentAddress("db", "doc"), renamed)
    assert completed == attrs.evolve(renamed, length=5, sha256=identity(5).sha256)
    for other in (stub(6, storage), attrs.evolve(stub(5, storage), stored_length=101)):
        assert learned.completed(WHERE, other) == other


@pytest.mark.parametrize("other", [("db", "doc2"), ("db2", "doc"), ("dbd", "oc"), ("d", "b/doc"), ("db/doc", "")])
def test_nothing_is_told_of_another_document(other: tuple[str, str]) -> None:
    """An MD5 that names two things harms nobody but those whose document has them."""
    learned = LearnedIdentities()
    learned.learn(WHERE, stub(5), identity(5))
    assert learned.completed(DocumentAddress(*other), stub(5)) == stub(5)


def test_a_stub_that_says_another_length_is_of_another() -> None:
    learned = LearnedIdentities()
    learned.learn(WHERE, stub(5), identity(5))
    compressed = attrs.evolve(stub(5, Storage.COMPRESSED), length=7)
    assert learned.completed(WHERE, compressed) == compressed


def test_what_is_known_is_not_looked_for() -> None:
    learned = LearnedIdentities()
    learned.learn(WHERE, stub(5), identity(100))
    as_stored = AttachmentStub("f", None, stub(5).digest, Storage.IDENTITY, 100, 100)
    told = attrs.evolve(stub(5), length=100, sha256=bytes(32))
    for each in (as_stored, told):
        assert learned.completed(WHERE, each) is each


def test_what_was_learned_last_is_told() -> None:
    learned = LearnedIdentities()
    learned.learn(WHERE, stub(5), identity(5))
    learned.learn(WHERE, stub(5), identity(6))
    assert learned.completed(WHERE, stub(5)).length == 6


def test_no_more_are_remembered_than_there_is_room_for() -> None:
    learned = LearnedIdentities(capacity=3)
    for number in range(10):
        learned.learn(WHERE, stub(number), identity(number))
    assert known(learned, range(10)) == [7, 8, 9]


def test_the_least_recently_used_goes_first() -> None:
    learned = LearnedIdentities(capacity=3)
    for number in (0, 1, 2):
        learned.learn(WHERE, stub(number), identity(number))
    learned.completed(WHERE, stub(0))
    learned.learn(WHERE, stub(3), identity(3))
    assert known(learned, range(4)) == [0, 2, 3]


def test_learning_again_is_using() -> None:
    learned = LearnedIdentities(capacity=3)
    for number in (0, 1, 2, 0, 3):
        learned.learn(WHERE, stub(number), identity(number))
    assert known(learned, range(4)) == [0, 2, 3]


def test_long_names_take_no_more_room() -> None:
    """Of 4096 attachments, each in a document whose name is as long as can be asked for."""
    learned = LearnedIdentities()
    where = [DocumentAddress("db", f"{number}{'x' * 8000}") for number in range(50)]
    for each in where:
        # Kept for a while, by itself.
        document_path(each.database, each.document_id)
    tracemalloc.start()
    try:
        for each in where:
            learned.learn(each, stub(1), identity(1))
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 50 * 1000
