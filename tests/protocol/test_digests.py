"""Repr-Digest: written, and read back from whatever a server may send."""

import hashlib
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txcouchdl.protocol.digests import MAX_FIELD_LENGTH, MD5, SHA_256, digest_field, parse_digest_field

#: RFC 9530, appendix B: a representation, and its digest there.
HELLO = b'{"hello": "world"}\n'
HELLO_SHA_256 = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
#: Appendix D: without its last byte.
SAMPLE_MD5 = "md5=:Sd/dVLAcvNLSq16eXua5uQ==:"
SAMPLE_SHA_256 = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"
SAMPLE = b'{"hello": "world"}'


def sha_256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def test_the_vectors_of_the_rfc() -> None:
    assert digest_field({SHA_256: sha_256(HELLO)}) == HELLO_SHA_256
    assert digest_field({SHA_256: sha_256(SAMPLE), MD5: md5(SAMPLE)}) == f"{SAMPLE_SHA_256}, {SAMPLE_MD5}"
    assert parse_digest_field(HELLO_SHA_256) == {SHA_256: sha_256(HELLO)}
    assert parse_digest_field(SAMPLE_MD5) == {MD5: md5(SAMPLE)}


@given(st.dictionaries(st.sampled_from([SHA_256, MD5]), st.binary(max_size=20), min_size=1))
def test_what_is_written_is_read(bodies: dict[str, bytes]) -> None:
    hashes = {SHA_256: sha_256, MD5: md5}
    digests = {algorithm: hashes[algorithm](body) for algorithm, body in bodies.items()}
    assert parse_digest_field(digest_field(digests)) == digests


@pytest.mark.parametrize(
    "text",
    [
        f"unixsum=:AAA=:, {HELLO_SHA_256}",
        f"{HELLO_SHA_256},sha-512=:YQ==:",
        f"md5=:YQ==: , \t{HELLO_SHA_256}",
        f"  {HELLO_SHA_256} ",
        f'{HELLO_SHA_256};q=0.5; note="a, \\"b\\": c";flag;n=:YQ==:',
        HELLO_SHA_256.replace("=:", ":").replace("256:", "256=:"),
        f"sha-256=:YQ==:, {HELLO_SHA_256}",
        f"sha-256=::, {HELLO_SHA_256}",
    ],
    ids=[
        "of another algorithm",
        "of another behind it",
        "of another size",
        "spaces around",
        "parameters",
        "without padding",
        "the last one counts",
        "an empty one",
    ],
)
def test_what_is_known_is_found(text: str) -> None:
    assert parse_digest_field(text) == {SHA_256: sha_256(HELLO)}


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        " ",
        "nonsense",
        ",",
        f"{HELLO_SHA_256},",
        f",{HELLO_SHA_256}",
        f"{HELLO_SHA_256} {SAMPLE_MD5}",
        f"{HELLO_SHA_256}, {SAMPLE_MD5}x",
        f"{HELLO_SHA_256}, md5=5",
        f"{HELLO_SHA_256}, md5",
        f"{HELLO_SHA_256}, md5=:YQ=Y:",
        f"{HELLO_SHA_256}, md5=:YQ==YQ==:",
        f"{HELLO_SHA_256}, md5=:Y:",
        f"{HELLO_SHA_256}, md5=:Sd/dVLAcvNLSq16eXua5uQ==",
        f"{HELLO_SHA_256}; q=",
        HELLO_SHA_256.upper(),
        HELLO_SHA_256.replace("=:", "= :"),
        HELLO_SHA_256.replace(":", '"'),
        HELLO_SHA_256.replace("RK/0", "RK_0"),
        f"\t{HELLO_SHA_256}",
        f"{HELLO_SHA_256}\n",
        "sha-256=:YQ==:",
        f"{HELLO_SHA_256}, sha-256=:YQ==:",
        f"{HELLO_SHA_256}, unixsum=:{'A' * MAX_FIELD_LENGTH}:",
        "sha-256=:ä:",
    ],
)
def test_what_is_malformed_or_unknown_is_nothing(text: str | None) -> None:
    assert parse_digest_field(text) == {}


_PIECES = [HELLO_SHA_256, SAMPLE_MD5, "sha-256", "=:", *':;, \t"\\=a*0ä\0']


@given(st.lists(st.sampled_from(_PIECES)).map("".join) | st.text())
def test_whatever_is_found_has_its_size(text: str) -> None:
    found = parse_digest_field(text)
    assert {(algorithm, len(digest)) for algorithm, digest in found.items()} <= {(SHA_256, 32), (MD5, 16)}


@pytest.mark.parametrize("piece", ["a", ";a", "a=:", "=", ":", ' "', "\\", ";a=b", "; ", ',"', "a=::,", "\t"])
def test_hostile_fields_take_no_time(piece: str) -> None:
    """Linear: with backtracking, the longest of them would not end while anybody waits."""
    longest = piece * (MAX_FIELD_LENGTH // len(piece))
    for text in (longest, f"sha-256=:{longest}"[:MAX_FIELD_LENGTH], f'{HELLO_SHA_256};a="{longest}'[:MAX_FIELD_LENGTH]):
        assert parse_digest_field(text) == {}


@pytest.mark.parametrize("body", [b"", b"a", HELLO])
def test_a_digest_of_the_right_size_with_stray_bits_is_read(body: bytes) -> None:
    """Section 4.2.7 of RFC 8941: bits of the last character that mean nothing are no reason to fail."""
    text = b64encode(md5(body)).decode("ascii")
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    stray = last[last.index(text[-3]) | 1]
    assert parse_digest_field(f"md5=:{text[:-3]}{stray}==:") == {MD5: md5(body)}
