"""A store on a directory of its own, and its site on a real loopback port; or a real CouchDB in its place."""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from tests.store.serving import OutsideCouchDB, RawClient, ServedStore


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedStore]:
    """A store that is served until the test ends."""
    served = ServedStore.start(tmp_path / "store", reactor)
    yield served
    pytest_twisted.blockon(served.stop())


_NO_COUCHDB = pytest.mark.skipif("COUCHDB_URL" not in os.environ, reason="COUCHDB_URL names no CouchDB")


@pytest.fixture(params=["store", pytest.param("couchdb", marks=[pytest.mark.couchdb, _NO_COUCHDB])])
def couch(request: pytest.FixtureRequest) -> RawClient:
    """The store, and the CouchDB that ``COUCHDB_URL`` names: a test expects the same of both."""
    if request.param == "couchdb":
        return OutsideCouchDB(os.environ["COUCHDB_URL"], reactor)
    served: ServedStore = request.getfixturevalue("served")
    return served


@pytest_twisted.async_yield_fixture
async def database(couch: RawClient) -> AsyncIterator[str]:
    """The name of a fresh database."""
    name = f"couchdl-test-{secrets.token_hex(8)}"
    assert (await couch.ask("PUT", f"/{name}")).status == 201
    yield name
    await couch.ask("DELETE", f"/{name}")
