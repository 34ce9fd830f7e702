"""Both stores behind one set of names, so that the same tests hold both."""

from collections.abc import Iterator
from threading import Lock

import pytest
from moto import mock_aws

from chalicelib.adapters.aws import own_client
from chalicelib.adapters.dynamodb import DynamoCases, DynamoSettings
from tests.adapters.stores import Dynamo, Store
from tests.adapters.tables import create_tables
from tests.fakes.aws import DEPLOYMENT
from tests.fakes.cases import FakeCases
from tests.fakes.ear import Ear
from tests.fakes.models import quick_session


@pytest.fixture
def aws() -> Iterator[None]:
    """Every service, in memory."""
    with mock_aws():
        yield


@pytest.fixture
def dynamo(aws: None) -> Dynamo:
    ear = Ear()
    # DynamoDB isolates transactions; moto takes back a failed one by putting back how its tables were before it began.
    one_at_a_time = Lock()
    ear.on("before-send.dynamodb.*", lambda **_: one_at_a_time.acquire() and None)
    ear.on("response-received.dynamodb.*", lambda **_: one_at_a_time.release())
    create_tables(own_client("dynamodb", DEPLOYMENT, quick_session), DEPLOYMENT)
    return Dynamo(own_client("dynamodb", DEPLOYMENT, ear.session), ear)


@pytest.fixture(params=["fake", pytest.param("dynamo", marks=pytest.mark.thorough)])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "fake":
        fake = FakeCases()
        return Store(fake, fake, None, fake)
    dynamo: Dynamo = request.getfixturevalue("dynamo")
    cases, settings = (
        DynamoCases(dynamo.client, DEPLOYMENT),
        DynamoSettings(dynamo.client, DEPLOYMENT),
    )
    return Store(cases, settings, dynamo, None)
