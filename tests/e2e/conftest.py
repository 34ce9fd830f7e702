"""The deployments that the end-to-end tests play on. One is shared by all; each test has security groups of its own."""

from collections.abc import Iterator

import pytest

from chalicelib.domain.contract import Mode
from local.demo import REGIONS
from local.stage import Stage
from tests.e2e.scenes import (
    CONTROLS,
    LEASE_SECONDS,
    VISIBILITY_SECONDS,
    calm,
    mended,
    receives,
    set_mode,
    thaw,
)

ROOMY = {"LimitPerControl": "1000", "LimitPerAccount": "1000", "LimitPerActor": "1000"}


@pytest.fixture(scope="session")
def deployed() -> Iterator[Stage]:
    """Every control may act, no limit is near, and what a dead run holds is free again within a test's patience."""
    parameters = {
        **ROOMY,
        "LeaseSeconds": str(LEASE_SECONDS),
        "VisibilitySeconds": str(VISIBILITY_SECONDS),
    }
    with Stage(parameters=parameters, regions=REGIONS) as stage:
        set_mode(stage, Mode.ACT, *CONTROLS)
        yield stage


@pytest.fixture
def stage(deployed: Stage) -> Iterator[Stage]:
    """The shared deployment at rest, and put back as it was afterwards."""
    calm(deployed)
    mended(deployed)
    yield deployed
    deployed.world.faults([])
    deployed.world.set_delay(0)
    thaw(deployed)
    receives(deployed, visibility=VISIBILITY_SECONDS)


@pytest.fixture(scope="module")
def fresh() -> Iterator[Stage]:
    """Deployed with nothing but defaults; nobody has given it a command."""
    with Stage() as stage:
        yield stage
