"""Freshly deployed and shown one violation of every control, by events and by a whole sweep: one report, and nothing else."""

from collections.abc import Iterator

import pytest

from chalicelib.adapters.dynamodb import DynamoCases
from chalicelib.domain.case import CaseState
from chalicelib.domain.contract import Mode
from local.demo import ACCOUNT_SETTING, REGIONS, WORLD, notices, root_made_a_key, written
from local.emulator import findings
from local.stage import Stage
from remediations import discover
from tests.e2e.scenes import RDP, SSH, calm, set_mode, swept_anew

pytestmark = pytest.mark.emulator

BUCKET, USER = "first-look", "first-look"
EVERY_CONTROL = {control for remediation in discover() for control in remediation.controls}


@pytest.fixture(scope="module")
def shown() -> Iterator[Stage]:
    """Nobody has given it a command but to sweep; of every control that an event can break, an event has told."""
    with Stage(regions=REGIONS) as stage:
        ec2, s3 = (stage.world.client(service, stage.developer) for service in ("ec2", "s3"))
        group = stage.security_group("first-look")
        stage.user_with_key(USER, age_days=400, used_days_ago=120)
        bucket = stage.bucket(BUCKET)
        stage.world.client("ec2", quiet=True).enable_ebs_encryption_by_default()
        stage.world.root_access_key(present=True)
        for port in (SSH, RDP):
            stage.open(group, port)
        s3.delete_public_access_block(Bucket=BUCKET)
        ec2.disable_ebs_encryption_by_default()
        stage.world.emit(root_made_a_key(stage))
        stage.world.emit(
            findings.security_hub(stage.world.account, stage.world.region, bucket, "S3.8", kind="AwsS3Bucket")
        )
        for resource, decided in ((stage.arn(group), 2), (bucket, 2), (account_of(stage), 2)):
            stage.await_record(resource, "DECIDED", decided)
        calm(stage)
        swept_anew(stage)
        yield stage


def account_of(stage: Stage) -> str:
    return ACCOUNT_SETTING.format(account=stage.world.account)


def is_quiet(stage: Stage) -> None:
    """Nothing was changed, and nobody is asked or told to do anything."""
    assert written(stage) == []
    assert stage.waiting() == []
    assert stage.tickets() == []
    assert {case.state for case in stage.ledger.cases()} == {CaseState.OPEN}


def test_every_control_fails_somewhere_and_one_report_is_all_that_comes_of_it(shown: Stage) -> None:
    is_quiet(shown)
    (report,) = [notice["body"] for notice in notices(shown) if notice["kind"] == "baseline_report"]
    assert set(report["baseline"]) == set(report["failing"]) == EVERY_CONTROL
    assert report["unread"] == {}
    assert {notice["kind"] for notice in notices(shown)} == {"errand", "baseline_report"}
    store = DynamoCases(shown.world.client("dynamodb", quiet=True), shown.settings)
    swept = store.swept(shown.world.account, tuple(sorted(EVERY_CONTROL)))
    assert {baseline.control for baseline in swept.baselines} == EVERY_CONTROL


def test_what_was_seen_is_as_it_was(shown: Stage) -> None:
    (group,) = {case.target.id for case in shown.ledger.cases() if case.target.id.startswith("sg-")}
    assert shown.ingress(group) == {(443, WORLD), (SSH, WORLD), (RDP, WORLD)}
    assert shown.pab(BUCKET) == {}
    assert set(shown.key_status(USER).values()) == {"Active"}


def test_a_second_sweep_reports_nothing_and_writes_nothing_about_what_it_finds_again(shown: Stage) -> None:
    swept_anew(shown)  # the first with these modes: another test may have had others
    before = {case.id: case.version for case in shown.ledger.cases()}
    report = swept_anew(shown)
    assert report["baseline"] == []
    assert set(report["failing"]) == EVERY_CONTROL
    assert {case.id: case.version for case in shown.ledger.cases()} == before
    assert sum(notice["kind"] == "baseline_report" for notice in notices(shown)) == 1
    is_quiet(shown)


def test_a_raised_mode_does_not_sweep_up_behind_itself(shown: Stage) -> None:
    """What stood in the report stays there until a person takes it up."""
    set_mode(shown, Mode.TICKET, "iam-root-access-key")
    set_mode(shown, Mode.ACT, *(EVERY_CONTROL - {"iam-root-access-key"}))
    try:
        swept_anew(shown)
        is_quiet(shown)
        assert all(case.inherited for case in shown.ledger.cases())
    finally:
        set_mode(shown, Mode.OBSERVE, *EVERY_CONTROL)
