"""One gateway for all clients."""

from collections.abc import Iterator

import pytest

from tests.clients.files import upload
from tests.clients.served import Served
from tests.nodes import UNMEASURED
from tests.running import ANY_PORT, PATIENCE, running


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway, and in its store the document ``files`` with :data:`~tests.clients.files.FILES`."""
    directory = tmp_path_factory.mktemp("gateway")
    # What a client left behind is not to be taken for one that pauses, and parked before it is seen.
    options = ("--store", "store", "--store-listen", ANY_PORT, "-l", ANY_PORT, "--park-after", str(10 * PATIENCE))
    with running(directory, *options, **UNMEASURED) as process:
        served = Served(process, directory / "store")
        upload(served)
        yield served
