"""What the tests of asking, tickets, sweeps and undo share: groups of the house in the state that a person is asked about."""

from collections.abc import Iterator

import pytest

from chalicelib.domain.case import Case
from chalicelib.domain.contract import Mode
from tests.fakes.house import REGION, House, house
from tests.flow.test_pipeline import SSH, Group

ANN = "arn:aws:iam::123456789012:user/ann"
"""Who opens ports in these tests; `tests.flow.test_pipeline.Group.event` says so."""


@pytest.fixture
def built() -> Iterator[House]:
    """A house in which a sweep finds nothing but what a test puts there."""
    with house() as one:
        one.aws.switched_on = (REGION,)
        one.session.client("ec2").enable_ebs_encryption_by_default()
        yield one


@pytest.fixture
def group(built: House) -> Group:
    return Group(built)


def asked(built: House, group: Group, event_id: str = "event-1") -> Case:
    """Port 22 was just opened, and a person is asked whether to close it."""
    built.raise_to(Mode.ASK, SSH)
    built.walk(group.event((22, group.open(22)), event_id=event_id))
    case = built.only_case()
    assert case.state == "waiting"
    return case


def ssh_writes(built: House) -> int:
    """Calls that change something, so far."""
    return len(built.aws.writes)
