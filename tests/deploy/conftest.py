"""One gateway, and each front before it that is to be had."""

from collections.abc import Iterator

import pytest

from tests.deploy.fronts import FRONTS, Front
from tests.deploy.upstreams import Gateway, gateway


@pytest.fixture(scope="package")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that nobody kills."""
    with gateway(tmp_path_factory.mktemp("lasting") / "gateway") as it:
        yield it


@pytest.fixture(scope="package", params=[each for each in FRONTS if each.id != "nginx-http2"])
def front(
    request: pytest.FixtureRequest, lasting: Gateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    """A front before it."""
    with request.param(tmp_path_factory.mktemp("front") / "front", lasting.port) as it:
        yield it
