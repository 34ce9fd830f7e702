"""Claims: what AWS's services found, in each of their shapes; what is forged, over or not ours says so."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain.contract import Mode
from chalicelib.domain.control import Control, Status
from chalicelib.domain.errors import MalformedEventError
from chalicelib.domain.finding import NotOurs, Origin, Severity, Signal
from chalicelib.flow import claims, classify, intake

ACCOUNT, OTHER, REGION = "111122223333", "444455556666", "eu-central-1"
GROUP = f"arn:aws:ec2:{REGION}:{ACCOUNT}:security-group/sg-1"
BUCKET = "arn:aws:s3:::ledger"
USER = f"arn:aws:iam::{ACCOUNT}:user/division/alice"
HUB = f"arn:aws:securityhub:{REGION}::product/aws/securityhub"
ARCHIVE = "arn:aws:securityhub:::ruleset/cis-aws-foundations-benchmark/v/1.2.0/rule/4.1"


def control(name: str, resource: str, **known: Any) -> Control:
    return Control(
        id=name,
        version="1",
        title=name,
        severity=Severity.HIGH,
        resource=resource,
        status=Status.STABLE,
        ceiling=Mode.ACT,
        why="why",
        false_positives=("none",),
        **{"frameworks": {}, **known},
    )


class Catalog:
    """Four controls, one of each kind of resource, whose names no change of the real catalog touches."""

    controls = (
        control(
            "open-ssh",
            "AWS::EC2::SecurityGroup",
            security_hub=("EC2.13", "PCI.EC2.5"),
            frameworks={
                "cis_aws_foundations_1_2_0": ("4.1",),
                "cis_aws_foundations_1_4_0": ("5.2",),
                "soc2_tsc": ("9.9",),
            },
            config_rules=("INCOMING_SSH_DISABLED",),
            config_rule_names=("restricted-ssh",),
        ),
        control(
            "bucket-block",
            "AWS::S3::Bucket",
            security_hub=("S3.8",),
            config_rules=("S3_BUCKET_LEVEL_PUBLIC_ACCESS_PROHIBITED",),
            guardduty=("Policy:S3/BucketBlockPublicAccessDisabled",),
            access_analyzer=("AWS::S3::Bucket",),
        ),
        control(
            "unused-keys",
            "AWS::IAM::User",
            security_hub=("IAM.8",),
            config_rule_names=("iam-user-unused-credentials-check",),
            guardduty=("UnauthorizedAccess:IAMUser/TorIPCaller",),
            regional=False,
        ),
        control(
            "root-key",
            "AWS::::Account",
            security_hub=("IAM.4",),
            config_rule_names=("iam-root-access-key-check",),
            guardduty=("Policy:IAMUser/RootCredentialUsage",),
            regional=False,
        ),
        control("ebs-default", "AWS::::Account", security_hub=("EC2.7",)),
    )


def envelope(kind: str, detail: object, **said: Any) -> dict[str, Any]:
    return {
        "version": "0",
        "id": "envelope-1",
        "detail-type": kind,
        "source": claims.SOURCES[kind].sender,
        "account": OTHER,
        "time": "2026-11-22T03:00:00Z",
        "region": "us-east-1",
        "resources": [],
        "detail": detail,
        **said,
    }


def resource(kind: str = "AwsEc2SecurityGroup", name: str = GROUP, **said: Any) -> dict[str, Any]:
    return {"Type": kind, "Id": name, "Partition": "aws", "Region": REGION, **said}


def asff(*resources: dict[str, Any], **said: Any) -> dict[str, Any]:
    return {
        "Id": f"arn:aws:securityhub:{REGION}:{ACCOUNT}:security-control/EC2.13/finding/1",
        "ProductArn": HUB,
        "GeneratorId": "security-control/EC2.13",
        "AwsAccountId": ACCOUNT,
        "Region": REGION,
        "UpdatedAt": "2026-11-22T02:00:00.123Z",
        "Resources": list(resources) or [resource()],
        "Compliance": {"Status": "FAILED", "SecurityControlId": "EC2.13"},
        "Workflow": {"Status": "NEW"},
        "RecordState": "ACTIVE",
        **said,
    }


def legacy(generator: str = "", **fields: str) -> dict[str, Any]:
    return asff(GeneratorId=generator, ProductFields=fields, Compliance={"Status": "FAILED"})


def imported(*findings: object, **said: Any) -> dict[str, Any]:
    return envelope("Security Hub Findings - Imported", {"findings": list(findings) or [asff()]}, **said)


def ocsf(**said: Any) -> dict[str, Any]:
    return {
        "class_uid": 2003,
        "activity_id": 1,
        "cloud": {"account": {"uid": ACCOUNT}, "region": REGION, "provider": "AWS"},
        "compliance": {"control": "EC2.13", "status": "Fail", "status_id": 3},
        "finding_info": {"uid": "finding-1", "modified_time": 1_790_000_000_000},
        "metadata": {"product": {"uid": HUB.replace("product/", "productv2/")}},
        "resources": [{"type": "AWS::EC2::SecurityGroup", "uid": "sg-1", "uid_alt": GROUP, "region": REGION}],
        "status": "New",
        "status_id": 1,
        **said,
    }


def v2(**said: Any) -> dict[str, Any]:
    return envelope("Findings Imported V2", {"findings": [ocsf(**said)]})


def config(rule: str = "restricted-ssh", result: str = "NON_COMPLIANT", **said: Any) -> dict[str, Any]:
    return envelope(
        "Config Rules Compliance Change",
        {
            "awsAccountId": ACCOUNT,
            "awsRegion": REGION,
            "configRuleName": rule,
            "configRuleARN": f"arn:aws:config:{REGION}:{ACCOUNT}:config-rule/config-rule-1",
            "resourceType": "AWS::EC2::SecurityGroup",
            "resourceId": "sg-1",
            "newEvaluationResult": {
                "complianceType": result,
                "resultRecordedTime": "2026-11-22T02:00:00.123Z",
            },
            **said,
        },
    )


def guardduty(kind: str = "Policy:S3/BucketBlockPublicAccessDisabled", **said: Any) -> dict[str, Any]:
    return envelope(
        "GuardDuty Finding",
        {
            "id": "gd-1",
            "type": kind,
            "accountId": ACCOUNT,
            "region": REGION,
            "arn": f"arn:aws:guardduty:{REGION}:{ACCOUNT}:detector/d/finding/gd-1",
            "updatedAt": "2026-11-22T02:00:00.123Z",
            "resource": {
                "resourceType": "S3Bucket",
                "accessKeyDetails": {"userType": "IAMUser", "userName": "mallory"},
                "s3BucketDetails": [{"arn": BUCKET, "name": "ledger"}],
            },
            "service": {"archived": False},
            **said,
        },
    )


def analyzer(**said: Any) -> dict[str, Any]:
    return envelope(
        "Access Analyzer Finding",
        {
            "id": "aa-1",
            "status": "ACTIVE",
            "resourceType": "AWS::S3::Bucket",
            "resource": BUCKET,
            "accountId": ACCOUNT,
            "region": REGION,
            "updatedAt": "2026-11-22T02:00:00.123Z",
            "isPublic": True,
            "isDeleted": False,
            **said,
        },
    )


def found(event: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Control, resource and Region of every finding in the event."""
    told = [classify.findings(one, Catalog()) for one in intake.read(event) if isinstance(one, Signal)]
    findings = [finding for some in told if not isinstance(some, NotOurs) for finding in some]
    assert all(finding.opened == () for finding in findings)
    return [(finding.control, finding.target.resource, finding.target.region) for finding in findings]


def reason(event: Mapping[str, Any]) -> str:
    """Why nothing in the event is ours, whichever stage says so."""
    reasons = []
    for one in intake.read(event):
        said = one if isinstance(one, NotOurs) else classify.findings(one, Catalog())
        assert isinstance(said, NotOurs), said
        assert said.event_id
        reasons.append(said.reason)
    return " / ".join(reasons)


# -- each source ------------------------------------------------------------------------------------------------------

SSH = ("open-ssh", GROUP, REGION)
BLOCK = ("bucket-block", BUCKET, REGION)


@pytest.mark.parametrize(
    "event",
    [
        imported(),
        v2(),
        config(),
        config("incoming-ssh-disabled"),
        config(resourceId=GROUP),
        imported(asff(Workflow={"Status": "NOTIFIED"})),
        imported(asff(Workflow=None)),
        imported(asff(RecordState=None)),
        v2(status_id=2, status="In Progress"),
        v2(compliance={"control": "EC2.13", "status": "FAILED"}),
    ],
    ids=[
        "ASFF",
        "OCSF",
        "Config",
        "Config, by the rule's identifier",
        "Config, by ARN",
        "ASFF, somebody was notified",
        "ASFF without a workflow",
        "ASFF without a record state",
        "OCSF, in progress",
        "OCSF, its status in words only",
    ],
)
def test_an_open_group_is_found_by_every_source_that_knows_it_and_does_not_say_that_it_is_over(
    event: dict[str, Any],
) -> None:
    assert found(event) == [SSH]


@pytest.mark.parametrize("event", [guardduty(), analyzer()], ids=["GuardDuty", "Access Analyzer"])
def test_a_bucket_is_found_by_every_source_that_knows_it(event: dict[str, Any]) -> None:
    assert found(event) == [BLOCK]


@pytest.mark.parametrize(
    "event, source, name",
    [
        (imported(), "securityhub.amazonaws.com", "EC2.13"),
        (v2(), "securityhub.amazonaws.com", "EC2.13"),
        (config(), "config.amazonaws.com", "restricted-ssh"),
        (guardduty(), "guardduty.amazonaws.com", "Policy:S3/BucketBlockPublicAccessDisabled"),
        (analyzer(), "access-analyzer.amazonaws.com", "public access to AWS::S3::Bucket"),
    ],
)
def test_a_signal_is_of_the_findings_own_account_region_and_time(
    event: dict[str, Any], source: str, name: str
) -> None:
    (signal,) = intake.read(event)
    assert isinstance(signal, Signal)
    assert (signal.account, signal.region, signal.source, signal.name) == (ACCOUNT, REGION, source, name)
    assert (signal.origin, signal.actor.type, signal.actor.arn) == (Origin.CLAIM, "AWSService", None)
    v2_time = datetime.fromtimestamp(1_790_000_000, UTC)
    assert signal.at in {datetime(2026, 11, 22, 2, 0, 0, 123000, UTC), v2_time}


def test_the_region_of_a_finding_that_names_none_is_its_resources() -> None:
    elsewhere = resource(name=GROUP.replace(REGION, "eu-west-1"), Region="eu-west-1")
    assert found(imported(asff(elsewhere, Region=None)))[0][2] == "eu-west-1"
    assert found(imported(asff({**elsewhere, "Region": None}, Region=None)))[0][2] == "eu-west-1"
    assert found(imported(asff(resource("AwsS3Bucket", BUCKET, Region=None), Region=None, Compliance={
        "Status": "FAILED", "SecurityControlId": "S3.8"}))) == [BLOCK]  # fmt: skip


@pytest.mark.parametrize("kind", list(claims.SOURCES))
def test_who_else_sends_an_event_of_a_finding_is_not_believed(kind: str) -> None:
    event = {**envelope(kind, {"findings": [asff()]}), "source": "aws.s3"}
    assert "alone, not from 'aws.s3'" in reason(event)


# -- one signal for each finding and resource --------------------------------------------------------------------------


def test_each_finding_and_each_of_its_resources_is_a_signal_of_its_own() -> None:
    second = resource(name=GROUP.replace("sg-1", "sg-2"))
    read = intake.read(imported(asff(resource(), second), asff(Id="other")))
    assert len({one.event_id for one in read}) == 3
    assert [one.detail["Resources"] for one in read if isinstance(one, Signal)] == [
        [resource()],
        [second],
        [resource()],
    ]
    assert [name for _, name, _ in found(imported(asff(resource(), second)))] == [GROUP, second["Id"]]


def test_each_bucket_of_a_guardduty_finding_is_a_signal_of_its_own() -> None:
    buckets = [{"arn": BUCKET}, {"name": "second"}]
    assert [name for _, name, _ in found(guardduty(resource={"s3BucketDetails": buckets}))] == [
        BUCKET,
        "arn:aws:s3:::second",
    ]


def test_the_same_finding_is_the_same_signal_whoever_forwards_it_until_it_is_updated() -> None:
    first, again, updated = (
        intake.read(event)[0].event_id
        for event in (
            imported(),
            imported(id="envelope-2", account=ACCOUNT),
            imported(asff(UpdatedAt="2026-11-22T03:00:00Z")),
        )
    )
    assert first == again != updated


def test_a_custom_action_is_a_request_and_asking_twice_is_two_requests() -> None:
    kind = "Security Hub Findings - Custom Action"
    reads = [intake.read(envelope(kind, {"findings": [asff()]}, id=f"envelope-{n}"))[0] for n in (1, 2)]
    assert all(isinstance(one, Signal) and one.origin is Origin.REQUEST for one in reads)
    assert reads[0].event_id != reads[1].event_id


@pytest.mark.parametrize("name", ["x" * 2000, "a|b", "ünïcode", "a@b", " ", ""])
def test_whatever_a_finding_is_called_its_event_id_is_short_and_plain(name: str) -> None:
    (one,) = intake.read(imported(asff(Id=name)))
    assert len(one.event_id) <= 256
    assert one.event_id.isascii()
    assert "|" not in one.event_id


def test_no_two_findings_can_be_called_so_that_they_have_one_event_id() -> None:
    first, second = (
        intake.read(imported(asff(Id=name, UpdatedAt=updated)))[0].event_id
        for name, updated in (("a@b", "c"), ("a", "b@c"))
    )
    assert first != second


def test_findings_without_an_id_are_told_apart() -> None:
    read = intake.read(imported(asff(Id=None), asff(Id=None)))
    assert len({one.event_id for one in read}) == 2


@pytest.mark.parametrize("detail", [{}, {"findings": []}, {"findings": None}, {"findings": "x"}])
@pytest.mark.parametrize("kind", ["Security Hub Findings - Imported", "Findings Imported V2"])
def test_an_event_without_findings_is_not_ours_and_says_so(kind: str, detail: dict[str, Any]) -> None:
    assert reason(envelope(kind, detail)) == "the event holds no finding"


# -- under which name --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "finding",
    [
        legacy(ControlId="EC2.13"),
        legacy(ControlId="PCI.EC2.5"),
        legacy(RuleId="4.1"),
        legacy(
            StandardsControlArn=f"arn:aws:securityhub:{REGION}:{ACCOUNT}:control/pci-dss/v/3.2.1/PCI.EC2.5"
        ),
        legacy(
            StandardsControlArn=f"arn:aws:securityhub:{REGION}:{ACCOUNT}:control/cis-aws-foundations-benchmark/v/1.4.0/5.2"
        ),
        legacy(ARCHIVE),
        legacy("cis-aws-foundations-benchmark/v/1.4.0/5.2"),
        legacy("security-control/EC2.13"),
        legacy("aws-foundational-security-best-practices/v/1.0.0/EC2.13"),
        legacy("pci-dss/v/3.2.1/PCI.EC2.5"),
        legacy("service-managed-aws-control-tower/v/1.0.0/EC2.13"),
        legacy(ARCHIVE, RuleId="4.1", ControlId="EC2.13"),
    ],
)
def test_a_control_is_known_by_each_name_that_a_standard_gives_it_and_once(finding: dict[str, Any]) -> None:
    assert found(imported(finding)) == [SSH]


@pytest.mark.parametrize(
    "finding",
    [
        legacy(ControlId="EC2.1"),
        legacy(ControlId="EC2.130"),
        legacy(ControlId="5.2"),
        legacy(RuleId="5.2"),
        legacy(RuleId="9.9"),
        legacy("cis-aws-foundations-benchmark/v/1.4.0/4.1"),
        legacy("cis-aws-foundations-benchmark/v/1.2.0/5.2"),
        legacy("my own EC2.13"),
        legacy("security-control/EC2.13/and-more"),
        legacy("evil/security-control/EC2.13"),
        legacy("arn:aws:config:eu-central-1:111122223333:config-rule/EC2.13"),
        legacy(),
        asff(
            GeneratorId="security-control/EC2.13",
            Compliance={"Status": "FAILED", "SecurityControlId": "EC2.18"},
        ),
    ],
)
def test_a_name_that_is_only_like_a_controls_is_no_controls(finding: dict[str, Any]) -> None:
    assert "no control listens to securityhub.amazonaws.com" in reason(imported(finding))


@pytest.mark.parametrize(
    "rule",
    [
        "securityhub-restricted-ssh-l6dseq",
        "securityhub-restricted-ssh-20a6a216",
        "OrgConfigRule-restricted-ssh-abcd1234",
        "restricted-ssh-conformance-pack-qayjyopmd",
        "securityhub-incoming-ssh-disabled-l6dseq",
    ],
)
def test_a_config_rule_is_known_in_the_wrappings_of_those_who_make_rules(rule: str) -> None:
    assert found(config(rule)) == [SSH]


@pytest.mark.parametrize(
    "rule",
    [
        "not-restricted-ssh",
        "restricted-ssh-l6dseq",
        "restricted-sshd",
        "Restricted-SSH",
        "securityhub-restricted-ssh",
        "",
    ],
)
def test_a_config_rule_whose_name_only_holds_a_known_one_is_unknown(rule: str) -> None:
    assert "no control listens to config.amazonaws.com" in reason(config(rule))


# -- on which target ---------------------------------------------------------------------------------------------------


def hub(name: str, *resources: dict[str, Any]) -> dict[str, Any]:
    return imported(asff(*resources, Compliance={"Status": "FAILED", "SecurityControlId": name}))


ALL_OF_IT = f"AWS::::Account:{ACCOUNT}"


@pytest.mark.parametrize(
    "event, expected",
    [
        (hub("IAM.8", resource("AwsIamUser", USER)), ("unused-keys", USER, "global")),
        (hub("IAM.4", resource("AwsAccount", ALL_OF_IT)), ("root-key", ALL_OF_IT, "global")),
        (hub("EC2.7", resource("AwsAccount", ALL_OF_IT)), ("ebs-default", ALL_OF_IT, REGION)),
        (
            config("iam-root-access-key-check", resourceType="AWS::::Account", resourceId=ACCOUNT),
            ("root-key", ALL_OF_IT, "global"),
        ),
        (
            guardduty(
                "UnauthorizedAccess:IAMUser/TorIPCaller",
                resource={"accessKeyDetails": {"userType": "IAMUser", "userName": "bob"}},
            ),
            ("unused-keys", f"arn:aws:iam::{ACCOUNT}:user/bob", "global"),
        ),
        (
            guardduty("Policy:IAMUser/RootCredentialUsage", resource={"accessKeyDetails": {"userType": "Root"}}),
            ("root-key", ALL_OF_IT, "global"),
        ),
        (v2(resources=[{"type": "AwsEc2SecurityGroup", "uid": "sg-1"}]), SSH),
        (v2(resources=None, resource={"type": "AwsEc2SecurityGroup", "uid": GROUP}), SSH),
    ],
)  # fmt: skip
def test_a_claim_is_about_the_resource_that_it_names(
    event: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    assert found(event) == [expected]


def test_a_global_resource_lies_in_the_world_of_its_own_partition() -> None:
    user = USER.replace("arn:aws:", "arn:aws-cn:")
    finding = asff(
        resource("AwsIamUser", user, Region="cn-north-1"),
        Region="cn-north-1",
        ProductArn="arn:aws-cn:securityhub:cn-north-1::product/aws/securityhub",
        Compliance={"Status": "FAILED", "SecurityControlId": "IAM.8"},
    )
    assert found(imported(finding)) == [("unused-keys", user, "aws-cn-global")]


# -- what is over, was never open, or is about something else ----------------------------------------------------------


@pytest.mark.parametrize(
    "event, says",
    [
        (hub("EC2.13", resource("AwsEc2Vpc", GROUP)), "about AwsEc2Vpc, not about AWS::EC2::SecurityGroup"),
        (hub("EC2.13", resource("", GROUP)), "about nothing that it names"),
        (hub("EC2.13", resource(name="sg-*")), "'sg-*' is no AWS::EC2::SecurityGroup"),
        (hub("EC2.13", resource(name=GROUP.replace(REGION, "eu-west-1"))), "in account"),
        (hub("IAM.8", resource("AwsIamUser", f"arn:aws:iam::{ACCOUNT}:role/alice")), "is no AWS::IAM::User"),
        (hub("IAM.8", resource("AwsAccount", ALL_OF_IT)), "about AwsAccount, not about AWS::IAM::User"),
        (
            config("iam-user-unused-credentials-check", resourceType="AWS::IAM::User", resourceId="AIDAW6MN5QPJPMC7R4QBE"),
            "unique id, which is not the name",
        ),
        (guardduty(resource=None), "about AWS::::Account, not about AWS::S3::Bucket"),
        (guardduty(resource={"accessKeyDetails": {"userType": "IAMUser"}}), "about AWS::IAM::User, not"),
        *(
            (imported(asff(Compliance={"Status": status, "SecurityControlId": "EC2.13"})), "not FAILED")
            for status in ("PASSED", "WARNING", "NOT_AVAILABLE", None, "failed", ["FAILED"])
        ),
        (imported(asff(Compliance=None)), "status is None, not FAILED"),
        (imported(asff(RecordState="ARCHIVED")), "record is 'ARCHIVED'"),
        (imported(asff(RecordState=[])), "record is []"),
        (imported(asff(Workflow={"Status": "SUPPRESSED"})), "SUPPRESSED in Security Hub"),
        (imported(asff(Workflow={"Status": "RESOLVED"})), "RESOLVED in Security Hub"),
        (v2(status_id=3), "SUPPRESSED in Security Hub"),
        (v2(status_id=4), "RESOLVED in Security Hub"),
        (v2(status_id=None, status="Suppressed"), "SUPPRESSED in Security Hub"),
        (v2(status_id="4", status="Resolved"), "RESOLVED in Security Hub"),
        (v2(activity_id=3), "closed"),
        (v2(class_uid=2004), "of class 2004"),
        (v2(class_uid=None), "of class None"),
        (v2(compliance={"control": "EC2.13", "status": "Pass", "status_id": 1}), "'Pass', not failed"),
        (v2(compliance={"control": "EC2.13", "status": "Warning", "status_id": 2}), "not failed"),
        (v2(compliance={"control": "EC2.13", "status": "FAILED", "status_id": 99}), "not failed"),
        (v2(compliance={"control": "EC2.13", "status": "PASSED"}), "not failed"),
        (v2(compliance={"control": "EC2.13"}), "None, not failed"),
        *((config(result=result), "not NON_COMPLIANT") for result in ("COMPLIANT", "NOT_APPLICABLE", "INSUFFICIENT_DATA")),
        (config(newEvaluationResult=None), "None, not NON_COMPLIANT"),
        (guardduty(service={"archived": True}), "archived in GuardDuty"),
        (guardduty(service={"archived": "true"}), "archived in GuardDuty"),
        (analyzer(status="ARCHIVED"), "'ARCHIVED'"),
        (analyzer(status="RESOLVED"), "'RESOLVED'"),
        (analyzer(isDeleted=True), "its resource is gone"),
        (analyzer(error="ACCESS_DENIED"), "could not be analysed ('ACCESS_DENIED')"),
        (analyzer(isPublic=False), "not public"),
        (analyzer(isPublic=None), "not public"),
    ],
)  # fmt: skip
def test_what_is_over_did_not_fail_or_is_no_matter_of_the_resource_is_not_ours(
    event: dict[str, Any], says: str
) -> None:
    assert says in reason(event)


def test_a_reason_holds_no_more_of_what_a_stranger_wrote_than_can_be_kept() -> None:
    assert len(reason(imported(asff(RecordState="x" * 100_000)))) <= 1024


def test_a_finding_that_is_over_does_not_hide_the_one_beside_it() -> None:
    assert found(imported(asff(RecordState="ARCHIVED"), asff())) == [SSH]


# -- forged, or another's ----------------------------------------------------------------------------------------------

OWN_PRODUCT = "is no product of AWS"
FORGED: list[tuple[str, dict[str, Any], str]] = [
    ("a product of the account's own",
     imported(asff(ProductArn=f"arn:aws:securityhub:{REGION}:{ACCOUNT}:product/{ACCOUNT}/default")), OWN_PRODUCT),
    ("a product of another account that is called securityhub",
     imported(asff(ProductArn=f"arn:aws:securityhub:{REGION}:{OTHER}:product/aws/securityhub")), OWN_PRODUCT),
    ("a partner's product",
     imported(asff(ProductArn=f"arn:aws:securityhub:{REGION}::product/cloud-custodian/cloud-custodian")), OWN_PRODUCT),
    ("a product whose ARN begins like Security Hub's", imported(asff(ProductArn=f"{HUB}-too/x")), OWN_PRODUCT),
    ("a product whose ARN ends like Security Hub's", imported(asff(ProductArn=f"x{HUB}")), OWN_PRODUCT),
    ("a product of a partition in which its Region does not lie",
     imported(asff(ProductArn=HUB.replace("arn:aws:", "arn:aws-cn:"))), OWN_PRODUCT),
    ("an ARN with a hole", imported(asff(ProductArn=HUB.replace("arn:aws:", "arn:aws::"))), OWN_PRODUCT),
    ("no product", imported(asff(ProductArn=None)), OWN_PRODUCT),
    ("no product, in OCSF", v2(metadata={}), OWN_PRODUCT),
    ("a product of the account's own, in OCSF",
     v2(metadata={"product": {"uid": f"arn:aws:securityhub:{REGION}:{ACCOUNT}:product/{ACCOUNT}/x"}}), OWN_PRODUCT),
    ("GuardDuty by way of Security Hub", imported(asff(ProductArn=HUB.replace("aws/securityhub", "aws/guardduty"))),
     "found by guardduty"),
    ("a resource of another account", imported(asff(resource(name=GROUP.replace(ACCOUNT, OTHER)))),
     f"belongs to '{OTHER}'"),
    ("another account as a whole", imported(asff(resource("AwsAccount", f"AWS::::Account:{OTHER}"))),
     f"belongs to '{OTHER}'"),
    ("a resource of another account, in OCSF",
     v2(resources=[{"type": "AWS::EC2::SecurityGroup", "uid": GROUP.replace(ACCOUNT, OTHER)}]), f"belongs to '{OTHER}'"),
    ("a resource whose two names disagree, in OCSF",
     v2(resources=[{"type": "AWS::EC2::SecurityGroup", "uid": GROUP, "uid_alt": GROUP.replace(ACCOUNT, OTHER)}]),
     f"belongs to '{OTHER}'"),
    ("a resource that another account owns, in OCSF",
     v2(resources=[{"type": "AWS::EC2::SecurityGroup", "uid": "sg-1", "owner": {"account": {"uid": OTHER}}}]),
     f"belongs to '{OTHER}'"),
    ("a rule of another account, in Config",
     config(configRuleARN=f"arn:aws:config:{REGION}:{OTHER}:config-rule/x"), f"belongs to '{OTHER}'"),
    ("another account as a whole, in Config",
     config("iam-root-access-key-check", resourceType="AWS::::Account", resourceId=OTHER), f"belongs to '{OTHER}'"),
    ("a finding of another account, in GuardDuty",
     guardduty(arn=f"arn:aws:guardduty:{REGION}:{OTHER}:detector/d/finding/1"), f"belongs to '{OTHER}'"),
    ("a resource of another account, in Access Analyzer",
     analyzer(resource=f"arn:aws:s3:{REGION}:{OTHER}:accesspoint/x"), f"belongs to '{OTHER}'"),
    ("an account of eleven digits", imported(asff(AwsAccountId="12345678910")), "no account id of twelve digits"),
    ("an account of digits that are none", imported(asff(AwsAccountId="\uff11" * 12)), "no account id of twelve digits"),
    ("no account", imported(asff(AwsAccountId=None)), "no account id of twelve digits"),
    ("an account that is a number", guardduty(accountId=111122223333), "no account id of twelve digits"),
    ("no account, in OCSF", v2(cloud=None), "no account id of twelve digits"),
    ("a Region that is none", imported(asff(Region="megov-south-1r")), "no Region's name"),
    ("no Region anywhere", analyzer(region=None), "no Region's name"),
    ("a resource of another partition",
     imported(asff(resource(name=GROUP.replace("arn:aws:", "arn:aws-cn:")))), "lies in partition 'aws-cn'"),
    ("a bucket of another partition", guardduty(resource={"s3BucketDetails": [{"arn": "arn:aws-cn:s3:::ledger"}]}),
     "lies in partition 'aws-cn'"),
    ("a product of another partition",
     imported(asff(ProductArn="arn:aws-cn:securityhub:cn-north-1::product/aws/securityhub")),
     "lies in partition 'aws-cn'"),
]  # fmt: skip


@pytest.mark.parametrize("event, says", [row[1:] for row in FORGED], ids=[row[0] for row in FORGED])
def test_a_finding_that_is_forged_or_anothers_is_not_ours(event: dict[str, Any], says: str) -> None:
    assert found(event) == []
    assert says in reason(event)


def test_the_envelope_may_be_of_the_account_that_administers_the_findings() -> None:
    assert imported()["account"] != ACCOUNT
    assert found(imported()) == [SSH]


# -- anything at all ---------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
WHOLE: dict[str, dict[str, Any]] = {
    "Security Hub Findings - Imported": asff(),
    "Security Hub Findings - Custom Action": asff(),
    "Findings Imported V2": ocsf(),
    "Config Rules Compliance Change": config()["detail"],
    "GuardDuty Finding": guardduty()["detail"],
    "Access Analyzer Finding": analyzer()["detail"],
}


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, object]:
    """A finding in which some fields, on either of the two upper levels, are anything at all."""
    kind = draw(st.sampled_from(sorted(WHOLE)))
    finding = dict(WHOLE[kind])
    for key in draw(st.lists(st.sampled_from(sorted(finding)), max_size=3)):
        inner = finding[key]
        if isinstance(inner, dict) and inner and draw(st.booleans()):
            finding[key] = {**inner, draw(st.sampled_from(sorted(inner))): draw(JSON)}
        else:
            finding[key] = draw(JSON | st.lists(JSON, max_size=2))
    return kind, {"findings": [finding]} if "Security" in kind or "V2" in kind else finding


@given(damaged() | st.tuples(st.sampled_from(sorted(WHOLE)), JSON))
def test_any_json_is_read_or_is_malformed(told: tuple[str, object]) -> None:
    kind, detail = told
    try:
        read = intake.read(envelope(kind, detail))
    except MalformedEventError:
        return
    assert read
    for one in read:
        assert one.event_id.isascii()
        if isinstance(one, Signal):
            classify.findings(one, Catalog())
