"""Whatever the engine cannot read, nothing is changed; and once it can be read again, the same message is carried out."""

from collections.abc import Iterator
from typing import Any

import pytest
from moto import mock_aws

from chalicelib import catalog
from chalicelib.adapters.aws import own_client
from chalicelib.adapters.dynamodb import DynamoCases, DynamoSettings
from chalicelib.bootstrap import by_control
from chalicelib.domain.contract import Mode
from chalicelib.domain.errors import CatalogError, ContractError, RedressError, StoreError
from chalicelib.domain.ports import (
    FREEZE_ALL,
    DeploymentRole,
    Enrolment,
    Exemption,
    Freeze,
    ModeSetting,
    Owner,
    SettingChange,
    SweepChange,
)
from chalicelib.domain.record import Draft, Head, RecordType, seal
from chalicelib.domain.sweep import Baseline, Sweep
from chalicelib.settings import Settings
from tests.adapters.tables import create_tables
from tests.attack.ground import GROUP, SSH, Ground
from tests.fakes.clock import START
from tests.fakes.house import ACCOUNT, REGION
from tests.fakes.models import quick_session

SETTINGS = Settings(stage="test", account="999999999999", region=REGION)
"""Home is elsewhere, so that the enrolment is read too."""

ROLE = f"arn:aws:iam::{ACCOUNT}:role/once-a-deployer"


class Tables:
    """The engine on DynamoDB, and a hand in the tables."""

    def __init__(self) -> None:
        self.client: Any = own_client("dynamodb", SETTINGS, quick_session)
        create_tables(self.client, SETTINGS)
        self.ground = Ground()
        self.cases = DynamoCases(self.client, SETTINGS)
        head = Head()
        at = START
        resource = f"arn:aws:ec2:{REGION}:{ACCOUNT}:security-group/{GROUP}"
        scopes = (FREEZE_ALL, f"ACCOUNT#{ACCOUNT}", f"CONTROL#{ACCOUNT}#{SSH}")
        draft = Draft(
            type=RecordType.MODE_CHANGED,
            source_id="x",
            step="x",
            occurred_at=at,
            account=ACCOUNT,
            region="global",
        )
        (record,) = seal("SYS#test", head, (draft,), at, "0")
        settings = DynamoSettings(self.client, SETTINGS)
        settings.apply(
            SettingChange(
                mode=ModeSetting(account=ACCOUNT, control=SSH, mode=Mode.ACT, by="olga", at=at, reason="r"),
                freezes=tuple(Freeze(scope=s, frozen=False, by="olga", at=at, reason="r") for s in scopes),
                exemptions=(Exemption(account=ACCOUNT, control=SSH, resource=resource, owner="o", code="accepted_risk",
                                      reason="r", by="olga", at=at, expires_at=at),),
                enrolment=Enrolment(account=ACCOUNT, by="olga", at=at),
                deployment_role=DeploymentRole(account=ACCOUNT, role_arn=ROLE, tool="other", by="olga", at=at,
                                               removed=True),
                owner=Owner(account=ACCOUNT, owner="o", by="olga", at=at),
                record=record,
                expected_head=head,
            )
        )  # fmt: skip
        sweep = Sweep(
            id="s", account=ACCOUNT, by="olga", started_at=at, expected=(), completed_at=at, version=1
        )
        baseline = Baseline(account=ACCOUNT, control=SSH, regions=("us-east-1",), at=at, sweep=sweep.id)
        self.cases.keep(SweepChange(sweep=sweep, baselines=(baseline,)))

    def walk(self, event: dict[str, Any]) -> str:
        (walked,) = self.ground.built(self.cases, self.ground.ec2).walk(event)
        return walked.outcome or walked.verdict

    def items(self, table: str) -> list[dict[str, Any]]:
        return list(self.client.scan(TableName=SETTINGS.table(table))["Items"])

    def put(self, table: str, item: dict[str, Any]) -> None:
        self.client.put_item(TableName=SETTINGS.table(table), Item=item)


@pytest.fixture
def tables() -> Iterator[Tables]:
    with mock_aws():
        yield Tables()


@pytest.mark.parametrize("garbage", ["not json", "{}", "null", "[]", None], ids=str)
def test_one_unreadable_item_of_any_kind_stops_the_walk_and_loses_nothing(
    tables: Tables, garbage: str | None
) -> None:
    """All that the gate reads, from the case to both ledgers: one after the other is made unreadable."""
    ground = tables.ground
    identity = {"type": "AssumedRole", "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/once-a-deployer/x",
                "sessionContext": {"sessionIssuer": {"arn": ROLE}}}  # fmt: skip
    assert tables.walk(ground.event((22, ground.ec2.open(22)), userIdentity=identity)) == "fixed"
    event = ground.event((22, ground.ec2.open(22)), event_id="event-2", userIdentity=identity)
    before, records = list(ground.ec2.effects), len(tables.items("audit"))
    broken: set[str] = set()
    for table in ("cases", "control_state"):
        for item in tables.items(table):
            kind = item["pk"]["S"].split("#")[0]
            if kind in {
                "SEEN",
                "CHAIN",
                "SWEEP",
            }:  # a marker without content, and what only commands and sweeps read
                continue
            hurt = {name: value for name, value in item.items() if name != "body"}
            tables.put(table, hurt if garbage is None else {**hurt, "body": {"S": garbage}})
            with pytest.raises(StoreError, match="does not hold a readable"):
                tables.walk(event)
            assert ground.ec2.effects == before
            assert len(tables.items("audit")) == records
            tables.put(table, item)
            broken.add(kind)
    read = {
        "CASE",
        "LOCK",
        "MODE",
        "EXEMPTION",
        "FREEZE",
        "ENROLMENT",
        "SPENT",
        "BASELINE",
        "OWNER",
        "DEPLOYER",
    }
    assert broken == read
    assert tables.walk(event) == "fixed"


def test_a_mode_that_no_version_knows_stops_the_walk(tables: Tables) -> None:
    item = next(item for item in tables.items("control_state") if item["pk"]["S"].startswith("MODE#"))
    tables.put("control_state", {**item, "body": {"S": item["body"]["S"].replace('"act"', '"obliterate"')}})
    with pytest.raises(StoreError):
        tables.walk(tables.ground.attack())
    assert tables.ground.ec2.effects == []


def test_a_switch_of_everything_that_names_another_scope_is_no_switch(tables: Tables) -> None:
    item = next(item for item in tables.items("control_state") if item["pk"]["S"] == f"FREEZE#{FREEZE_ALL}")
    tables.put(
        "control_state", {**item, "body": {"S": item["body"]["S"].replace(f'"{FREEZE_ALL}"', '"OTHER"')}}
    )
    with pytest.raises(StoreError, match="kill switch cannot be read"):
        tables.walk(tables.ground.attack())
    assert tables.ground.ec2.effects == []


@pytest.mark.parametrize("table", ["cases", "control_state", "audit", "outbox"])
def test_a_table_that_is_gone_stops_the_walk_before_any_write(tables: Tables, table: str) -> None:
    tables.client.delete_table(TableName=SETTINGS.table(table))
    with pytest.raises(RedressError):
        tables.walk(tables.ground.attack())
    assert tables.ground.ec2.effects == []


def test_a_broken_catalog_is_no_smaller_catalog(tmp_path: Any) -> None:
    (tmp_path / "ec2.toml").write_text('[[control]]\nid = "ec2-open-ssh"\n', encoding="utf-8")
    with pytest.raises(CatalogError):
        catalog.load(tmp_path)


def test_a_control_that_two_remediations_claim_stops_the_engine_from_starting() -> None:
    import remediations

    found = remediations.discover()
    with pytest.raises(ContractError):
        by_control((*found, found[0]), catalog.load())


def test_a_transaction_that_is_tried_again_is_known_by_its_token(tables: Tables) -> None:
    """Without a token, a repeated transaction that had succeeded would look like somebody else's."""
    sent: list[dict[str, Any]] = []
    tables.client.meta.events.register(
        "before-call.dynamodb.TransactWriteItems", lambda params, **_: sent.append(params["body"])
    )
    assert tables.walk(tables.ground.attack()) == "fixed"
    assert len(sent) == 2
    assert all("ClientRequestToken" in str(one) for one in sent)
