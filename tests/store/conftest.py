"""A store on a directory of its own, and its site on a real loopback port."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from tests.store.serving import ServedStore


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedStore]:
    """A store that is served until the test ends."""
    served = ServedStore.start(tmp_path / "store", reactor)
    yield served
    pytest_twisted.blockon(served.stop())
