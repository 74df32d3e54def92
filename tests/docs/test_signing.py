"""The programs of docs/links.rst that sign links, against the vectors that stand below them."""

import json
import shutil
import subprocess
from typing import Any

import pytest

from tests.docs.pages import DOCS, blocks
from txcouchdl.links import Link, signing_key

VECTORS: list[dict[str, Any]] = json.loads((DOCS / "link-vectors.json").read_text("utf-8"))
#: What the programs take by its name.
GIVEN = ("expires", "grace", "digest", "download", "rev")
#: They have no use for the secret: who has one can derive the key first.
PLAIN = [vector for vector in VECTORS if vector["secret"] is None]

#: What has to be quoted, and what has not.
ODD = "a/b c+d?e&f=g%h~i-j_k.l!m'n(o)p*q#r;s:t@u,v[w]ü€😀\n"

_NODE = """
const [code, ...calls] = JSON.parse(require("node:fs").readFileSync(0));
const signedQuery = new Function("require", `${code}; return signedQuery`)(require);
console.log(JSON.stringify(calls.map((call) => signedQuery(...call))));
"""


def program(language: str) -> str:
    """The one of that language."""
    (block,) = (block for block in blocks(language) if block.page == "links.rst")
    return block.text


def arguments(vector: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    names = [vector[name] for name in ("token", "database", "document_id", "attachment")]
    return [name or "" for name in names], {name: vector[name] for name in GIVEN if name in vector}


def test_vectors() -> None:
    assert len(PLAIN) >= 3
    assert {name for vector in PLAIN for name in arguments(vector)[1]} == {*GIVEN}
    for vector in VECTORS:
        token, database, document_id, _ = arguments(vector)[0]
        link = Link(database=database, document_id=document_id, attachment=vector["attachment"], **arguments(vector)[1])
        secret = None if vector["secret"] is None else vector["secret"].encode()
        assert link.query(signing_key(token.encode(), secret)) == vector["query"], vector["name"]


def odd() -> dict[str, Any]:
    """A vector of our own, of which nothing is as it comes."""
    named = {"expires": 1, "grace": 2, "digest": ODD, "download": ODD, "rev": ODD}
    link = Link(database=ODD, document_id=ODD, attachment=ODD, **named)  # type: ignore[arg-type]
    names = dict.fromkeys(("token", "database", "document_id", "attachment"), ODD)
    return {"name": "odd", **names, **named, "query": link.query(ODD.encode())}


@pytest.mark.parametrize("vector", [*PLAIN, odd()], ids=lambda vector: vector["name"])
def test_python(vector: dict[str, Any]) -> None:
    known: dict[str, Any] = {}
    exec(program("python"), known)
    positional, named = arguments(vector)
    assert known["signed_query"](*positional, **named) == vector["query"]


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_javascript() -> None:
    calls = [[*positional, named] for positional, named in map(arguments, [*PLAIN, odd()])]
    ended = subprocess.run(
        ["node", "-e", _NODE],
        input=json.dumps([program("javascript"), *calls]),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(ended.stdout) == [vector["query"] for vector in [*PLAIN, odd()]]
