"""Finding: which target a resource's name means, if any; which partition a Region is in, and what stands where none is."""

import pytest

from chalicelib.domain.finding import (
    GLOBAL,
    Actor,
    Severity,
    Target,
    global_in,
    is_global,
    partition_of,
    target_of,
    worst,
)

HERE, ACCOUNT = "eu-central-1", "111111111111"
GROUP, USER, BUCKET, SELF = "AWS::EC2::SecurityGroup", "AWS::IAM::User", "AWS::S3::Bucket", "AWS::::Account"


@pytest.mark.parametrize(
    "kind, resource, region, named",
    [
        (GROUP, f"arn:aws:ec2:{HERE}:{ACCOUNT}:security-group/sg-0abc", HERE, "sg-0abc"),
        (GROUP, "sg-0abc", HERE, "sg-0abc"),
        (
            GROUP,
            f"arn:aws-cn:ec2:cn-north-1:{ACCOUNT}:security-group/sg-0abc",
            "cn-north-1",
            "sg-0abc",
        ),
        (USER, f"arn:aws:iam::{ACCOUNT}:user/ann", GLOBAL, "ann"),
        (USER, f"arn:aws:iam::{ACCOUNT}:user/sales/eu/ann", GLOBAL, "sales/eu/ann"),
        (USER, f"arn:aws-us-gov:iam::{ACCOUNT}:user/ann", "aws-us-gov-global", "ann"),
        (USER, "ann", GLOBAL, "ann"),
        (BUCKET, "arn:aws:s3:::my.bucket-1", HERE, "my.bucket-1"),
        (BUCKET, "arn:aws:s3:::Old_Bucket", "us-east-1", "Old_Bucket"),
        (BUCKET, "my.bucket-1", HERE, "my.bucket-1"),
        (SELF, f"AWS::::Account:{ACCOUNT}", HERE, ACCOUNT),
        (SELF, ACCOUNT, HERE, ACCOUNT),
    ],
)
def test_a_name_means_one_target(kind: str, resource: str, region: str, named: str) -> None:
    target = target_of(kind, resource, ACCOUNT, region)
    assert target == Target(account=ACCOUNT, region=region, type=kind, id=named)
    assert target_of(kind, target.resource, ACCOUNT, region) == target, "its own name means it"


@pytest.mark.parametrize(
    "kind, resource",
    [
        (GROUP, f"arn:aws:ec2:eu-west-1:{ACCOUNT}:security-group/sg-0abc"),
        (GROUP, f"arn:aws:ec2:{HERE}:222222222222:security-group/sg-0abc"),
        (GROUP, f"arn:aws-cn:ec2:{HERE}:{ACCOUNT}:security-group/sg-0abc"),
        (GROUP, f"arn:aws:ec2:{HERE}:{ACCOUNT}:security-group/*"),
        (GROUP, f"arn:aws:ec2:{HERE}:{ACCOUNT}:security-group/"),
        (GROUP, f"arn:aws:ec2:{HERE}:{ACCOUNT}:security-group/sg-0abc/../sg-1"),
        (
            GROUP,
            f"arn:aws:ec2:{HERE}:{ACCOUNT}:security-group/arn:aws:ec2:{HERE}:{ACCOUNT}:security-group/sg-1",
        ),
        (GROUP, f"arn:aws:ec2:{HERE}:{ACCOUNT}:instance/i-0abc"),
        (GROUP, "arn:{partition}:ec2:{region}:{account}:security-group/sg-0abc"),
        (GROUP, "sg-0abc\n"),
        (GROUP, "sg-${aws:PrincipalTag/x}"),
        (GROUP, ""),
        (USER, f"arn:aws:iam::{ACCOUNT}:role/ann"),
        (USER, "arn:aws:iam::222222222222:user/ann"),
        (USER, f"arn:aws:iam::{ACCOUNT}:user/*"),
        (USER, f"arn:aws:iam::{ACCOUNT}:user//ann"),
        (USER, f"arn:aws:iam::{ACCOUNT}:user/ann?"),
        (BUCKET, "arn:aws:s3:::bucket/key"),
        (BUCKET, "arn:aws:s3:::*"),
        (BUCKET, "arn:aws-us-gov:s3:::bucket"),
        (BUCKET, "arn:aws:s3:::arn:aws:s3:::bucket"),
        (BUCKET, "ab"),
        (SELF, "AWS::::Account:222222222222"),
        (SELF, "222222222222"),
        (SELF, f"AWS::::Account:{ACCOUNT} "),
        (SELF, ""),
        ("AWS::Unknown::Thing", "x"),
    ],
)
def test_a_name_of_something_else_or_of_more_than_one_means_nothing(kind: str, resource: str) -> None:
    assert target_of(kind, resource, ACCOUNT, HERE) is None


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov", "aws-iso", "aws-iso-b", "aws-iso-e"])
def test_what_has_no_region_still_has_its_partition(partition: str) -> None:
    nowhere = global_in(partition)
    assert is_global(nowhere)
    assert partition_of(nowhere) == partition
    target = Target(account=ACCOUNT, region=nowhere, type=USER, id="ann")
    assert target.resource == f"arn:{partition}:iam::{ACCOUNT}:user/ann"


def test_only_the_commercial_partition_needs_no_name_for_having_no_region() -> None:
    assert (global_in("aws"), global_in("aws-cn")) == ("global", "aws-cn-global")


@pytest.mark.parametrize("region", [HERE, "us-gov-west-1", "globalia-1", "notglobal", "global-1", ""])
def test_a_region_is_not_the_absence_of_one(region: str) -> None:
    assert not is_global(region)


def test_a_targets_name_is_the_last_part_of_its_id() -> None:
    ann = Target(account=ACCOUNT, region=GLOBAL, type=USER, id="sales/eu/ann")
    other = ann.model_copy(update={"id": "ann"})
    assert ann.name == other.name == "ann"
    assert ann.key != other.key, "the path tells them apart"


def test_an_actors_limits_are_counted_under_the_role_where_there_is_one() -> None:
    session = Actor(type="AssumedRole", arn="arn:session/one", role_arn="arn:role", session="one")
    assert session.key == session.model_copy(update={"arn": "arn:session/two", "session": "two"}).key
    assert Actor(type="IAMUser", arn="arn:user").key == "arn:user"
    assert Actor(type="AWSService").key == "unknown:AWSService"


def test_the_worst_of_no_severities_is_critical() -> None:
    assert worst([Severity.LOW, Severity.HIGH, Severity.MEDIUM]) is Severity.HIGH
    assert worst([]) is Severity.CRITICAL
