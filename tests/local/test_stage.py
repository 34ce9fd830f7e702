"""The people of the demo's world, and what its handles on buckets, keys and schedules really do."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from chalicelib.adapters.dynamodb import Ledger
from local.emulator.world import Credentials, WorldError
from local.stage import BLOCKS, Stage

pytestmark = pytest.mark.emulator


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as running:
        yield running


def refused(client: Any, operation: str, **parameters: Any) -> bool:
    try:
        getattr(client, operation)(**parameters)
    except ClientError as error:
        if "AccessDenied" not in str(error) and "Unauthorized" not in str(error):
            raise
        return True
    return False


def test_the_approver_reads_and_answers_and_nothing_else(stage: Stage) -> None:
    world, anna = stage.world, stage.approver
    ledger = Ledger(stage.session(anna).client("dynamodb"), stage.settings)
    assert list(ledger.cases()) == []
    table, queue = stage.settings.table("cases"), stage.queue_url("commands")
    assert refused(world.client("dynamodb", anna), "put_item", TableName=table, Item={"pk": {"S": "x"}})
    assert refused(world.client("sqs", anna), "send_message", QueueUrl=queue, MessageBody="{}")
    assert refused(world.client("ec2", anna), "describe_vpcs")
    assert refused(world.client("s3", anna), "list_buckets")
    assert refused(world.client("iam", anna), "list_users")


def test_the_developer_cares_for_servers_buckets_and_keys_but_not_for_rights(stage: Stage) -> None:
    iam = stage.world.client("iam", stage.developer)
    iam.create_user(UserName="new-hand")
    key = iam.create_access_key(UserName="new-hand")["AccessKey"]["AccessKeyId"]
    iam.update_access_key(UserName="new-hand", AccessKeyId=key, Status="Inactive")
    assert stage.key_status("new-hand") == {key: "Inactive"}
    stage.world.client("s3", stage.developer).create_bucket(Bucket="developers-own")
    assert refused(iam, "put_user_policy", UserName="new-hand", PolicyName="p", PolicyDocument="{}")
    assert refused(iam, "get_role", RoleName=stage.settings.role("act"))
    assert refused(stage.world.client("dynamodb", stage.developer), "list_tables")


def test_a_bucket_starts_closed_and_is_shown_as_it_stands(stage: Stage) -> None:
    assert stage.bucket("stage-closed") == "arn:aws:s3:::stage-closed"
    assert stage.pab("stage-closed") == dict.fromkeys(BLOCKS, True)
    stage.world.client("s3", quiet=True).delete_public_access_block(Bucket="stage-closed")
    assert stage.pab("stage-closed") == {}
    with pytest.raises(ClientError, match="NoSuchBucket"):
        stage.pab("stage-nowhere")


@pytest.mark.parametrize("used", [None, 100.0])
def test_a_users_key_is_as_old_and_as_unused_as_was_said(stage: Stage, used: float | None) -> None:
    user = stage.user_with_key(f"aged-{used}", 200, used)
    iam = stage.world.client("iam", quiet=True)
    (key,) = iam.list_access_keys(UserName=f"aged-{used}")["AccessKeyMetadata"]
    last = iam.get_access_key_last_used(AccessKeyId=user.access_key_id)["AccessKeyLastUsed"].get(
        "LastUsedDate"
    )
    assert stage.key_status(f"aged-{used}") == {user.access_key_id: "Active"}
    assert last is None if used is None else last - key["CreateDate"] == timedelta(days=100)


def test_nobody_waits_and_no_ticket_is_open_in_a_fresh_deployment(stage: Stage) -> None:
    assert (stage.waiting(), stage.tickets()) == ([], [])


def test_a_schedule_that_is_not_ours_cannot_be_fired(stage: Stage) -> None:
    stage.fire("tick")
    with pytest.raises(WorldError, match="no enabled scheduled rule"):
        stage.fire("nothing")


def test_whoever_signs_for_somebody_else_is_not_believed(stage: Stage) -> None:
    forged = Credentials(stage.approver.access_key_id, "not-her-secret-access-key-00000000000000")
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        stage.world.client("sts", forged).get_caller_identity()
