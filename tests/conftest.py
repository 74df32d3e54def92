"""
Hypothesis profiles: quick by default; ``HYPOTHESIS_PROFILE=ci`` tells how to repeat a failure, ``long`` tries
more. And the servers that contract tests run against.
"""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from hypothesis import HealthCheck, settings

from tests.servers import Server, embedded_store, outside_couchdb

# No deadline: the machine may be busy, and a slow example is not a wrong one.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", _PATIENT, max_examples=60)
settings.register_profile("ci", _PATIENT, max_examples=60, print_blob=True)
settings.register_profile("long", _PATIENT, max_examples=20_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

_NO_COUCHDB = pytest.mark.skipif("COUCHDB_URL" not in os.environ, reason="COUCHDB_URL names no CouchDB")


@pytest_twisted.async_yield_fixture(params=["store", pytest.param("couchdb", marks=[pytest.mark.couchdb, _NO_COUCHDB])])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    """Each implementation of CouchDB's interface that is to be had."""
    async with embedded_store(tmp_path) if request.param == "store" else outside_couchdb() as server:
        yield server
