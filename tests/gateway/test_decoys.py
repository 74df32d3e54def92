"""The documents that are read instead of those that must not be."""

from hypothesis import example, given
from hypothesis import strategies as st

from txcouchdl.couch.names import DocumentAddress, is_legal_database_name
from txcouchdl.gateway.decoys import Decoys

_names = st.sampled_from(["", "_users", "_local/x", "..", "music", "music-", "a/b", "Legal", "x" * 300]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=40
)
_addresses = st.builds(DocumentAddress, _names, _names)


@given(_addresses)
@example(DocumentAddress("", ""))
@example(DocumentAddress("db", "_design/x"))
def test_a_decoy_can_be_read_and_is_nothing_that_was_asked_for(address: DocumentAddress) -> None:
    decoy = Decoys().of(address)
    assert decoy.is_addressable
    assert is_legal_database_name(decoy.database)
    assert decoy.database != address.database
    assert len(decoy.database) == max(len(address.database), 30)
    assert len(decoy.document_id) == len(address.document_id) + 1
    # A design document is read by another path.
    assert not decoy.document_id.startswith("_")


@given(_addresses, _addresses)
@example(DocumentAddress("closed", "doc"), DocumentAddress("secret", "doc"))
@example(DocumentAddress("closed", "doc"), DocumentAddress("closed", "other"))
@example(DocumentAddress("_users", "doc"), DocumentAddress("_users-", "doc"))
def test_each_document_has_one_decoy_of_its_own(one: DocumentAddress, other: DocumentAddress) -> None:
    decoys = Decoys()
    assert decoys.of(one) == decoys.of(one)
    assert (decoys.of(one) == decoys.of(other)) == (one == other)


def test_nobody_can_foresee_a_decoy() -> None:
    address = DocumentAddress("closed", "doc")
    assert len({Decoys().of(address) for _ in range(100)}) == 100
